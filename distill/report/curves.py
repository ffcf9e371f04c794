"""Test-time compute curves as plots: accuracy by token budget, pass@k and cons@k by k; for reports and notebooks.

    CurvesView.of({"student": result, "teacher": other})        # in a notebook: plots and numbers
    Path("budget.svg").write_text(budget_plot(curves_of_all(results)["models"], "tiny"))

`models` are those of a curves file (`distill/evaluate/curves.py`), which says what the figures and intervals mean.
Not covered: computing them, and drawing answers for closed thoughts (`distill/evaluate/budget.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log2
from pathlib import Path
from typing import Any

from distill.evaluate.curves import CURVES_FILE, Curves, curves_of_all, load_curves
from distill.evaluate.result import EvalResult
from distill.report.page import details, figure, paragraph, table
from distill.report.run_data import RunData
from distill.report.svg import CHARACTER_WIDTH, ROLES, Drawing

WIDTH, HEIGHT = 760.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, WIDTH - 24, 52.0, 270.0
OTHER_COLOURS = ("kept", "dropped")
Point = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a plot: points (x, y, low, high), x above 0."""

    label: str
    colour: str
    is_dashed: bool
    points: Sequence[tuple[float, float, float, float]]


def budget_plot(models: Mapping[str, Curves], task: str) -> str:
    """Accuracy by token budget on a doubling axis: cut completions solid, closed thoughts dashed."""
    lines = []
    for name, colour, found in _of_task(models, task):
        lines.append(Line(f"{name}, cut", colour, False, _points(found["cut"], "budget", "accuracy")))
        if found["force_closed"]:
            forced = _points(found["force_closed"], "budget", "accuracy")
            lines.append(Line(f"{name}, thought closed", colour, True, forced))
    return _plot(lines, f"Accuracy on {task} by token budget", "completion tokens allowed")


def size_plot(models: Mapping[str, Curves], task: str) -> str:
    """pass@k solid, cons@k dashed, by k on a doubling axis."""
    lines = []
    for name, colour, found in _of_task(models, task):
        lines.append(Line(f"{name}, pass@k", colour, False, _points(found["pass_at"], "k", "value")))
        lines.append(Line(f"{name}, cons@k", colour, True, _points(found["cons_at"], "k", "value")))
    return _plot(lines, f"pass@k and cons@k on {task}", "k, samples of an item")


def _of_task(models: Mapping[str, Curves], task: str) -> list[tuple[str, str, Curves]]:
    """(model, colour, its curves) of those that were evaluated on the task; base, student and teacher first."""
    names = [name for name in ROLES if name in models] + [name for name in models if name not in ROLES]
    others = [name for name in names if name not in ROLES]
    colours = {name: OTHER_COLOURS[at % len(OTHER_COLOURS)] for at, name in enumerate(others)}
    return [
        (name, colours.get(name, name), models[name]["tasks"][task]) for name in names if task in models[name]["tasks"]
    ]


def _points(points: Sequence[Point], x: str, y: str) -> list[tuple[float, float, float, float]]:
    return [(float(each[x]), float(each[y]), float(each["interval"][0]), float(each["interval"][1])) for each in points]


def _plot(lines: Sequence[Line], title: str, x_title: str) -> str:
    if not lines:
        raise ValueError(f"{title}: there is no curve to draw")
    words = "; ".join(f"{line.label}: {line.points[0][1]:.1%} to {line.points[-1][1]:.1%}" for line in lines)
    drawing = Drawing(WIDTH, HEIGHT, title, words)
    values = sorted({point[0] for line in lines for point in line.points})
    first, last = log2(values[0]), log2(values[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (log2(x) - first) / (last - first) if last > first else 0.5
        return LEFT + (RIGHT - LEFT) * across, BOTTOM - (BOTTOM - TOP) * y

    _axes(drawing, place, values, x_title)
    _legend(drawing, lines)
    for number, line in enumerate(lines):
        shift = 3.0 * (number - (len(lines) - 1) / 2)  # whiskers beside one another
        stroke = f"stroke-{line.colour}"
        drawing.curve([place(x, y) for x, y, _, _ in line.points], f"curve {stroke}{' dashed' * line.is_dashed}")
        for x, y, low, high in line.points:
            (at, top), (_, bottom) = place(x, high), place(x, low)
            drawing.line(at + shift, top, at + shift, bottom, f"whisker {stroke}")
            drawing.mark(*place(x, y), line.colour, f"{line.label} at {x:g}: {y:.1%} ({low:.1%} to {high:.1%})")
    return drawing.render()


def _axes(
    drawing: Drawing, place: Callable[[float, float], tuple[float, float]], values: Sequence[float], x_title: str
) -> None:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = place(values[0], share)[1]
        drawing.line(LEFT, y, RIGHT, y, "grid")
        drawing.text(LEFT - 8, y + 4, f"{share:.0%}", "muted", "end")
    taken = -WIDTH
    for value in values:
        x = place(value, 0)[0]
        room = CHARACTER_WIDTH * (len(f"{value:g}") + 1)
        if x - taken >= room:
            drawing.text(x, BOTTOM + 18, f"{value:g}", "muted", "middle")
            taken = x
    drawing.text((LEFT + RIGHT) / 2, HEIGHT - 14, x_title, "muted", "middle")


def _legend(drawing: Drawing, lines: Sequence[Line]) -> None:
    x, y = LEFT, 16.0
    for line in lines:
        width = 44 + CHARACTER_WIDTH * len(line.label)
        if x > LEFT and x + width > RIGHT:
            x, y = LEFT, y + 16
        drawing.curve([(x, y - 4), (x + 22, y - 4)], f"curve stroke-{line.colour}{' dashed' * line.is_dashed}")
        drawing.mark(x + 11, y - 4, line.colour)
        drawing.text(x + 28, y, line.label)
        x += width


def curve_table(models: Mapping[str, Curves], task: str) -> str:
    """Every point of a task as a row, with both intervals."""
    kinds = (
        ("cut", "accuracy, cut", "budget", "accuracy"),
        ("force_closed", "accuracy, thought closed", "budget", "accuracy"),
        ("pass_at", "pass@k", "k", "value"),
        ("cons_at", "cons@k", "k", "value"),
    )
    rows = [
        (
            name, label, f"{point[x]:,}", f"{point[y]:.1%}", _range(point["interval"]),
            _range(point["interval_benchmark"]),
            f"{point['share_finished']:.1%}" if "share_finished" in point else "",
            f"{point['mean_tokens']:,.0f}" if "mean_tokens" in point else "",
        )
        for name, _, found in _of_task(models, task)
        for kind, label, x, y in kinds
        for point in found[kind]
    ]  # fmt: skip
    columns = ("model", "figure", "at", "value", "95%, new items", "95%, these items", "finished", "mean tokens")
    return table(columns, rows, words=(1,))


def _range(interval: Sequence[float] | None) -> str:
    return "unknown" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def _tasks(models: Mapping[str, Curves]) -> list[str]:
    return list(dict.fromkeys(task for model in models.values() for task in model["tasks"]))


@dataclass(frozen=True)
class CurvesView:
    """Curves that a notebook shows; `curves` is what a curves file holds."""

    curves: Curves

    @staticmethod
    def of(results: EvalResult | Mapping[str, EvalResult]) -> CurvesView:
        """The curves of one model, or of several by name."""
        named = {"student": results} if isinstance(results, EvalResult) else results
        return CurvesView(curves_of_all(named))

    @staticmethod
    def load(path: str | Path) -> CurvesView:
        """Of OUT/eval/curves.json. Raises: ConfigError."""
        return CurvesView(load_curves(Path(path)))

    def _repr_html_(self) -> str:
        models = self.curves["models"]
        return "".join(
            f"<h4>{escape(task)}</h4>{budget_plot(models, task)}{size_plot(models, task)}"
            f"{details('The same in numbers', curve_table(models, task))}"
            for task in _tasks(models)
        )


def section(run: RunData) -> str:
    """Accuracy by token budget, pass@k and cons@k of every evaluated model; empty before there is one."""
    if not run.results:
        return ""
    models = curves_of_all(run.results, run.directory / "eval" / CURVES_FILE)["models"]
    return "".join(_task_section(run, models, task) for task in _tasks(models))


def _task_section(run: RunData, models: Mapping[str, Curves], task: str) -> str:
    found = [curves for _, _, curves in _of_task(models, task)]
    by_text = any(curves["votes_over"] == "texts" for curves in found)
    forced = any(curves["force_closed"] for curves in found)
    intro = (
        f"Task {task}: what more tokens, or more samples, would buy. Whiskers are 95% intervals of accuracy on new "
        "items like these, point by point."
    )
    budget = "Accuracy if completions were cut at a token budget: right, and not longer than that."
    if forced:
        budget += " Dashed: thoughts closed at the budget, and the answer drawn."
    sizes = "pass@k: one of k samples is right. Dashed: cons@k, the answer most of k samples agree on; ties averaged."
    if by_text:
        sizes += " Answers were compared as text: this evaluation is older than answer classes."
    command = run.command("eval")
    parts = [paragraph(intro, "muted"), figure(budget_plot(models, task), budget, command)]
    if any(len(curves["pass_at"]) > 1 for curves in found):
        parts.append(figure(size_plot(models, task), sizes, command))
    return "".join(parts) + details("The same in numbers", curve_table(models, task))
