"""A harness anchor: a public model that is scored in the same run, beside the row that was published of it.

    anchor_rows(gate, baseline, "R1-Distill-Qwen-1.5B at a server", problems, rounds)

Independent harnesses differ by 3 to 7 points on AIME at k = 64, where decoding noise is below one: the difference is
prompts, answer reading and serving. A student is compared with a number from another harness, so the distance of an
anchor is what such a comparison is worth. It is shown, and changes no verdict.
Not covered: subtracting it. One model's distance is not another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill.cards import Baseline
from distill.evaluate.metrics import benchmark_interval
from distill.gate.bars import bars
from distill.gate.rounds import CompleteRound
from distill.gate.spec import Gate
from distill.records import Problem


def anchor_rows(
    gate: Gate,
    baseline: Baseline,
    model: str,
    problems: Mapping[str, Sequence[Problem]],
    rounds: Sequence[CompleteRound],
) -> list[dict[str, Any]]:
    """One row a task: measured pass@1, its 95 % interval over decoding (None at one round), published, distance."""
    rows = []
    for task in gate.tasks:
        correct = [sum(_is_correct(each, item.id) for each in rounds) for item in problems[task]]
        measured = sum(correct) / (len(correct) * len(rounds))
        interval = benchmark_interval(correct, len(rounds))
        value = bars(gate.name, baseline, [task], "pass@1")[0]
        rows.append(
            {
                "baseline": baseline.name,
                "model": model,
                "task": task,
                "rounds": len(rounds),
                "measured": measured,
                "interval": None if interval is None else list(interval),
                "published": value.value,
                "source": value.label,
                "distance": measured - value.value,
            }
        )
    return rows


def _is_correct(each: CompleteRound, item: str) -> bool:
    return item in each.seen and each.seen[item].is_correct
