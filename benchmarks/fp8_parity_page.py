"""The table in docs/fp8.md and docs/fp8-parity.svg, from benchmarks/fp8_parity.json.

Gaps are relative to BF16 of the same seed: same documents in the same order, so most of the noise of the batches
cancels. `whole run` compares mean losses over all steps; `windows` takes the largest gap between means over a tenth of
the run; both then the mean over seeds. FP32 against BF16 is the noise to hold a gap against. Accuracy is held-out
pass@1; its difference is paired by item, with one standard error over items.
"""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

from fp8_sides import SIDES

from distill.report.svg import Drawing, ticks

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- fp8 parity: begin -->", "<!-- fp8 parity: end -->"
TARGET = 0.0025  # DeepSeek-V3, arXiv 2412.19437, section 3.3
COLOURS = {
    "fp32": "base",
    "fp8 fast": "student",
    "fp8 accurate": "kept",
    "fp8 small": "teacher",
    "fp8 gradients 128x128": "dropped",
}


def reference_of(side: str) -> str:
    _, comma, setting = side.partition(", ")
    return f"bf16{comma}{setting}"


def windows(curve: list[list[float]], count: int = 10) -> list[float]:
    """Mean loss of each tenth of the run."""
    losses = [loss for _, loss in curve]
    edges = [round(at * len(losses) / count) for at in range(count + 1)]
    return [statistics.fmean(losses[low:high]) for low, high in pairwise(edges)]


def gaps(run: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Relative gaps of one run to the reference of its seed."""
    assert [step for step, _ in run["loss_curve"]] == [step for step, _ in reference["loss_curve"]]
    ours, theirs = windows(run["loss_curve"]), windows(reference["loss_curve"])
    by_window = [a / b - 1 for a, b in zip(ours, theirs, strict=True)]
    means = [statistics.fmean(loss for _, loss in each["loss_curve"]) for each in (run, reference)]
    return {"whole_run": means[0] / means[1] - 1, "by_window": by_window}


def compare(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures of every side that has runs, over the seeds it shares with its reference."""
    runs = {(run["side"], run["seed"]): run for run in result["runs"]}
    table = {}
    for side in SIDES:
        seeds = [seed for name, seed in runs if name == side and (reference_of(side), seed) in runs]
        if not seeds:
            continue
        pairs = [(runs[side, seed], runs[reference_of(side), seed]) for seed in sorted(seeds)]
        found = [gaps(run, reference) for run, reference in pairs]
        by_window = [statistics.fmean(column) for column in zip(*(gap["by_window"] for gap in found), strict=True)]
        items = list(zip(*(run["accuracy"] for run, _ in pairs), strict=True))
        differences = [
            statistics.fmean(a - b for a, b in zip(item, other, strict=True))
            for item, other in zip(
                items, zip(*(reference["accuracy"] for _, reference in pairs), strict=True), strict=True
            )
        ]
        table[side] = {
            "seeds": sorted(seeds),
            "mean_loss": statistics.fmean(loss for run, _ in pairs for _, loss in run["loss_curve"]),
            "whole_run": statistics.fmean(gap["whole_run"] for gap in found),
            "whole_run_by_seed": [gap["whole_run"] for gap in found],
            "by_window": by_window,
            "largest_window": max(by_window, key=abs),
            "accuracy": statistics.fmean(value for item in items for value in item),
            "accuracy_difference": statistics.fmean(differences),
            "standard_error": statistics.stdev(differences) / len(differences) ** 0.5 if any(differences) else 0.0,
        }
    return table


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| side | seeds | loss, whole run | gap to BF16 (each seed) | largest gap of a tenth | pass@1 | against BF16 |",
        "|---|---|---|---|---|---|---|",
    ]
    for side, found in compare(result).items():
        is_reference = side == reference_of(side)
        each = ", ".join(f"{gap:+.2%}" for gap in found["whole_run_by_seed"])
        cells = [
            side,
            str(len(found["seeds"])),
            f"{found['mean_loss']:.4f}",
            "" if is_reference else f"**{found['whole_run']:+.2%}** ({each})",
            "" if is_reference else f"{found['largest_window']:+.2%}",
            f"{found['accuracy']:.3f}",
            "" if is_reference else f"{found['accuracy_difference']:+.3f} +- {found['standard_error']:.3f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    first = result["runs"][0]
    lines += [
        "",
        f"{first['optimizer_steps']} optimizer steps, {first['trained_tokens']:,} trained tokens, "
        f"{len(first['accuracy'])} held-out items with {result['setup']['samples_per_item']} samples each; "
        f"{result['machine']['cpu']}, torch {result['versions']['torch']}.",
    ]
    lines += ["", *fixed_weights_table(result["fixed_weights"])]
    return "\n".join(lines)


def fixed_weights_table(found: dict[str, dict[str, float]]) -> list[str]:
    """Loss of one and the same student in each precision, against float32."""
    lines = ["| the student trained in BF16, its loss computed in | relative to float32, mean over seeds | each seed |"]
    lines.append("|---|---|---|")
    for side in next(iter(found.values())):
        if side != "fp32":
            gaps_by_seed = [losses[side] / losses["fp32"] - 1 for losses in found.values()]
            each = ", ".join(f"{gap:+.2%}" for gap in gaps_by_seed)
            lines.append(f"| {side} | **{statistics.fmean(gaps_by_seed):+.2%}** | {each} |")
    return lines


def plot(result: dict[str, Any]) -> str:
    """Relative loss gap to BF16 by tenth of the run, mean over seeds; sides with three seeds or more."""
    sides = compare(result)
    found = {side: sides[side] for side in COLOURS if side in sides and len(sides[side]["seeds"]) >= 3}
    width, height, left, right, top, bottom = 760.0, 320.0, 64.0, 560.0, 34.0, 276.0
    limit = max([TARGET, *(abs(gap) for figures in found.values() for gap in figures["by_window"])]) * 1.1
    marks = [sign * value for value in ticks(0.0, limit, 3) for sign in (1, -1)]
    top_value = max(marks)
    words = "; ".join(f"{side} {figures['whole_run']:+.2%} over the run" for side, figures in found.items())
    drawing = Drawing(width, height, "Training loss relative to BF16", words)

    def y_of(gap: float) -> float:
        return (top + bottom) / 2 - (bottom - top) / 2 * gap / top_value

    for value in sorted(set(marks)):
        drawing.line(left, y_of(value), right, y_of(value), "axis" if value == 0 else "grid")
        drawing.text(left - 8, y_of(value) + 4, f"{value:+.2%}", "muted", "end")
    for value in (TARGET, -TARGET):
        drawing.line(left, y_of(value), right, y_of(value), "stroke-kept whisker")
    drawing.text(right + 6, y_of(TARGET) + 4, f"{TARGET:+.2%}", "muted")
    drawing.text(12, 18, "loss relative to BF16, same seed and order; mean over seeds", "muted")
    drawing.text((left + right) / 2, height - 10, "tenth of the run", "muted", "middle")
    for at in range(10):
        drawing.text(left + (right - left) * (at + 0.5) / 10, bottom + 18, str(at + 1), "muted", "middle")
    for row, (side, figures) in enumerate(found.items()):
        points = [(left + (right - left) * (at + 0.5) / 10, y_of(gap)) for at, gap in enumerate(figures["by_window"])]
        drawing.curve(points, f"curve stroke-{COLOURS[side]}")
        y = 60.0 + 20 * row
        drawing.line(right + 48, y - 4, right + 68, y - 4, f"curve stroke-{COLOURS[side]}")
        drawing.text(right + 74, y, side)
    return drawing.render()


def write_page(result: dict[str, Any]) -> None:
    page = ROOT / "docs" / "fp8.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{rest.split(END)[1]}")
    (ROOT / "docs" / "fp8-parity.svg").write_text(plot(result) + "\n")
