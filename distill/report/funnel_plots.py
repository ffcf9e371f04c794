"""The funnel as SVG: samples left at each step with their interval, and problems by pass rate.

    steps(funnel.total.steps); pass_rates(funnel.pass_rates.bins)

Not covered: the numbers as tables (`funnel.py`), other figures of a run (`plots.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from distill.curate.funnel import Step
from distill.report.plots import WIDTH
from distill.report.svg import CHARACTER_WIDTH, Drawing, ticks

BAR = 28.0


def steps(found: Sequence[Step]) -> str:
    """A bar a step, by samples left; the whisker is the interval of the share of the step before."""
    if not found:
        raise ValueError("steps: there is no step to draw")
    labels = [_label(step) for step in found]
    left = 24 + CHARACTER_WIDTH * max(len(step.name) for step in found)
    right = max(WIDTH - 24 - CHARACTER_WIDTH * max(map(len, labels)), left + 40)
    most = found[0].samples or 1
    words = "; ".join(f"{step.name}: {label}" for step, label in zip(found, labels, strict=True))
    drawing = Drawing(WIDTH, BAR * len(found) + 12, "Samples left at each step", words)
    for place, (step, label) in enumerate(zip(found, labels, strict=True)):
        y, length = 6 + BAR * place, (right - left) * step.samples / most
        drawing.text(12, y + 18, step.name, "strong" if step.name == "kept" else "")
        before = (right - left) * step.previous / most
        if before > length:
            drawing.bar(left + length, y + 5, before - length, BAR - 10, "fill-dropped", _lost(step))
        drawing.bar(left, y + 5, length, BAR - 10, "fill-kept", f"{step.name}: {label}")
        if step.interval is not None:
            low, high = (left + before * bound for bound in step.interval)
            drawing.line(low, y + BAR / 2, high, y + BAR / 2, "whisker stroke-base")
        drawing.text(max(left + before, left + length) + 8, y + 18, label, "muted")
    return drawing.render()


def _label(step: Step) -> str:
    cost = "" if step.tokens_each is None else f", {step.tokens_each:,.0f} tokens each"
    share = "" if step.share is None else f", {step.share:.1%} of the previous"
    return f"{step.samples:,}{share}{cost}"


def _lost(step: Step) -> str:
    return f"{step.previous - step.samples:,} rejected before {step.name}"


def pass_rates(bins: Sequence[int]) -> str:
    """Problems by pass rate, in equal bins over [0, 1]."""
    height, left, right, top, bottom = 220.0, 56.0, WIDTH - 24, 24.0, 176.0
    most = ticks(0.0, float(max(max(bins), 1)), 4)
    words = ", ".join(
        f"{place / len(bins):.0%} to {(place + 1) / len(bins):.0%}: {count}" for place, count in enumerate(bins)
    )
    drawing = Drawing(WIDTH, height, "Problems by the teacher's pass rate", words)
    for value in most:
        y = bottom - (bottom - top) * value / most[-1]
        drawing.line(left, y, right, y, "grid")
        drawing.text(left - 8, y + 4, f"{value:g}", "muted", "end")
    step = (right - left) / len(bins)
    for place, count in enumerate(bins):
        span = f"pass rate {place / len(bins):.0%} to {(place + 1) / len(bins):.0%}: {count} problems"
        tall = (bottom - top) * count / most[-1]
        drawing.bar(left + step * place + 2, bottom - tall, step - 4, tall, "fill-teacher", span)
    for place in range(0, len(bins) + 1, 2):
        x = left + step * place
        drawing.text(x, bottom + 18, f"{place / len(bins):.0%}", "muted", "middle")
    drawing.text(12, 14, "problems", "muted")
    drawing.text((left + right) / 2, height - 8, "estimated pass rate of the teacher", "muted", "middle")
    return drawing.render()
