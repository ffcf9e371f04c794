"""A few lines of SVG: a drawing that escapes what it is given, a palette for light and dark, axis ticks.

    drawing = Drawing(760, 300, "Loss", "Training loss by optimizer step")
    drawing.text(10, 20, "nats"); drawing.line(0, 100, 760, 100, "grid"); drawing.render()

A drawing stands alone: it brings its style, its background and a description for screen readers, fetches nothing, and
follows the reader's colour scheme, inline in a page as well as in an <img>. Not covered: which figures there are
(`plots.py`).
"""

from __future__ import annotations

from html import escape
from math import floor, log10

LIGHT = {
    "paper": "#ffffff", "ink": "#1b2430", "muted": "#586474", "line": "#dde2e9", "base": "#6b7684",
    "student": "#1a66d6", "teacher": "#b4540a", "kept": "#1a7f5a", "dropped": "#c9a5a0",
}  # fmt: skip
DARK = {
    "paper": "#10151c", "ink": "#e7ebf1", "muted": "#9ba7b6", "line": "#2c3541", "base": "#a3adba",
    "student": "#6fb0ff", "teacher": "#f0a35e", "kept": "#4fc396", "dropped": "#7d5c58",
}  # fmt: skip
ROLES = ("base", "student", "teacher")
CHARACTER_WIDTH = 6.7  # of a 12 px system font, on the wide side: labels never run into the figure


def palette(selector: str) -> str:
    """CSS variables of both colour schemes, for `selector`."""
    light, dark = ("".join(f"--{name}:{value};" for name, value in scheme.items()) for scheme in (LIGHT, DARK))
    return f"{selector}{{{light}}}@media (prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


STYLE = palette(".dplot") + (
    ".dplot{font:12px system-ui,-apple-system,'Segoe UI',sans-serif}.dplot text{fill:var(--ink)}"
    ".dplot .paper{fill:var(--paper)}.dplot text.muted{fill:var(--muted)}.dplot text.strong{font-weight:600}"
    ".dplot .grid{stroke:var(--line);stroke-width:1}.dplot .axis{stroke:var(--muted);stroke-width:1}"
    ".dplot .dashed{stroke-dasharray:6 4}"
    ".dplot .curve{fill:none;stroke-width:2;stroke-linejoin:round}.dplot .whisker{stroke-width:2;opacity:.55}"
    + "".join(
        f".dplot .fill-{name}{{fill:var(--{name})}}.dplot .stroke-{name}{{stroke:var(--{name})}}"
        for name in (*ROLES, "kept", "dropped")
    )
)


def number(value: float) -> str:
    """A coordinate: at most two decimals, no trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values that span [low, high]; the last is not below `high`."""
    span = max(high - low, 1e-12)
    unit = 10.0 ** floor(log10(span / count))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if span / (factor * unit) <= count + 1e-9)
    found = [low]
    while found[-1] < high - 1e-9 * span:
        found.append(low + step * len(found))
    return found


class Drawing:
    """An SVG under construction; coordinates are pixels from the top left."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self.width, self.height, self.title, self.description = width, height, title, description
        self._parts: list[str] = []

    def _add(self, tag: str, classes: str, tooltip: str, **attributes: float | str) -> None:
        written = "".join(
            f' {name}="{escape(value) if isinstance(value, str) else number(value)}"'
            for name, value in attributes.items()
        )
        inside = f"<title>{escape(tooltip)}</title>" if tooltip else ""
        self._parts.append(f'<{tag} class="{escape(classes)}"{written}>{inside}</{tag}>')

    def line(self, x1: float, y1: float, x2: float, y2: float, classes: str) -> None:
        self._add("line", classes, "", x1=x1, y1=y1, x2=x2, y2=y2)

    def bar(self, x: float, y: float, width: float, height: float, classes: str, tooltip: str = "") -> None:
        """A rectangle from its top left corner."""
        self._add("rect", classes, tooltip, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), rx=1.5)

    def curve(self, points: list[tuple[float, float]], classes: str) -> None:
        """A line through points."""
        self._add("polyline", classes, "", points=" ".join(f"{number(x)},{number(y)}" for x, y in points))

    def mark(self, x: float, y: float, role: str, tooltip: str = "") -> None:
        """A role's marker; shapes differ, so that colour is not needed to tell them apart."""
        classes = f"fill-{role}"
        if role == "base":
            self._add("rect", classes, tooltip, x=x - 4, y=y - 4, width=8, height=8)
        elif role == "teacher":
            points = " ".join(
                f"{number(x + dx)},{number(y + dy)}" for dx, dy in ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0))
            )
            self._add("polygon", classes, tooltip, points=points)
        else:
            self._add("circle", classes, tooltip, cx=x, cy=y, r=4.8)

    def text(self, x: float, y: float, text: str, classes: str = "", anchor: str = "start") -> None:
        written = f'class="{escape(classes)}" x="{number(x)}" y="{number(y)}" text-anchor="{escape(anchor)}"'
        self._parts.append(f"<text {written}>{escape(text)}</text>")

    def render(self) -> str:
        """The whole <svg> element."""
        return (
            f'<svg class="dplot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(self.width)} '
            f'{number(self.height)}" width="{number(self.width)}" height="{number(self.height)}" role="img" '
            f'aria-label="{escape(self.title)}. {escape(self.description)}"><style>{STYLE}</style>'
            f'<rect class="paper" x="0" y="0" width="{number(self.width)}" height="{number(self.height)}"></rect>'
            f"{''.join(self._parts)}</svg>"
        )
