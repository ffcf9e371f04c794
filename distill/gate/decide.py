"""Judges a student by a gate: validity first, then every comparison with its one-sided test.

    verdict = judge(load_gate("quickstart"), student, {"base": base, "teacher": teacher})
    sys.exit(verdict.exit_code)

The gate fails as soon as one comparison certainly does not hold, passes when all certainly hold, and is inconclusive
otherwise. A published number with conflicting sources is tried under each of them: the student must clear the highest.
Not covered: drawing more samples when inconclusive; a published number's own uncertainty (it counts as exact).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from distill.cards import Baseline, load_baseline
from distill.errors import GateError, did_you_mean
from distill.evaluate.metrics import RESAMPLING_SEED
from distill.evaluate.result import EvalResult
from distill.gate.bars import bars
from distill.gate.spec import Comparison, Gate
from distill.gate.statistics import Bound, Counts, Pair, exact_against_constant, exact_sign, mean_difference
from distill.gate.validity import invalid_reasons
from distill.gate.verdict import ComparisonVerdict, GateOutcome, GateVerdict


def judge(
    gate: Gate,
    student: EvalResult,
    others: Mapping[str, EvalResult],
    *,
    baselines: Mapping[str, Baseline] | None = None,
    today: date | None = None,
) -> GateVerdict:
    """The verdict on a student; `others` holds "base" and "teacher" where the gate compares with them.

    Baselines are read from the catalogue unless given. Raises: GateError if the gate cannot be applied to these
    results (a task or model is missing, an exact test is asked for where there is none).
    """
    if gate.is_sequential:
        raise GateError(
            f"gate {gate.name}: method sequential draws its own rounds and cannot judge a finished evaluation; "
            "run `distill gate`, or set method: bootstrap."
        )
    results: dict[str, EvalResult] = {"student": student}
    results.update({name: _other(gate, others, name) for name in gate.needs})
    for who, result in results.items():
        _check_tasks(gate, who, result)
    found_baselines = baselines_of(gate, baselines)
    today = today or datetime.now(UTC).date()
    reasons = invalid_reasons(gate, results)
    reasons += [
        f"baseline {name}: expired on {found.expires}; look its numbers up again and set a new date."
        for name, found in found_baselines.items()
        if found.is_expired(today)
    ]
    compared = [] if reasons else [_compare(gate, row, results, found_baselines) for row in gate.comparisons]
    counts = [_counts(student, name) for name in gate.tasks]
    return GateVerdict(
        gate=gate.name,
        outcome="INVALID" if reasons else overall([row.outcome for row in compared]),
        estimand=gate.estimand,
        tasks=tuple(gate.tasks),
        student_model=student.model,
        comparisons=tuple(compared),
        reasons=tuple(reasons or [row.sentence for row in compared]),
        n_items=sum(len(count.num_correct) for count in counts),
        samples_per_item=min(count.k for count in counts),
        resampling_seed=RESAMPLING_SEED,
        models={who: _figures(gate, result) for who, result in results.items()},
    )


def overall(outcomes: list[GateOutcome]) -> GateOutcome:
    """FAIL if any fails, PASS if all pass, else INCONCLUSIVE."""
    if "FAIL" in outcomes:
        return "FAIL"
    return "PASS" if all(outcome == "PASS" for outcome in outcomes) else "INCONCLUSIVE"


def outcome_of(bound: Bound) -> GateOutcome:
    """PASS if the lower bound is at least zero, FAIL if the upper bound is below zero."""
    if bound.lower_bound >= 0:
        return "PASS"
    return "FAIL" if bound.upper_bound < 0 else "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class _Bar:
    """What the student is held against: another model's counts, or a constant for each task."""

    others: Sequence[Counts | None]
    constants: list[float]
    other: float | None
    note: str = ""


def _compare(
    gate: Gate, row: Comparison, results: Mapping[str, EvalResult], baselines: Mapping[str, Baseline]
) -> ComparisonVerdict:
    students = [_counts(results["student"], name) for name in gate.tasks]
    bar = _bar(gate, row, results, baselines)
    pairs = [
        Pair(student, other, row.ratio or 1.0, row.margin or 0.0)
        if other is not None
        else Pair(student, None, margin=-constant)
        for student, other, constant in zip(students, bar.others, bar.constants, strict=True)
    ]
    bound = _test(gate, row, pairs)
    student = float(np.mean([count.shares.mean() for count in students]))
    return ComparisonVerdict(
        label=row.label,
        against=row.against,
        outcome=outcome_of(bound),
        student=student,
        other=bar.other,
        needed=student - bound.estimate,
        estimate=bound.estimate,
        lower_bound=bound.lower_bound,
        upper_bound=bound.upper_bound,
        p_value=bound.p_value,
        p_value_fail=bound.p_value_fail,
        alpha=row.alpha,
        method=bound.method,
        note=bar.note,
    )


def _test(gate: Gate, row: Comparison, pairs: list[Pair]) -> Bound:
    if row.method == "bootstrap":
        return mean_difference(pairs, estimand=gate.estimand, alpha=row.alpha)
    where = f"gate {gate.name}: {row.label}: method exact"
    if len(pairs) > 1:
        raise GateError(f"{where}: found {len(pairs)} tasks; exact tests take one. Set method: bootstrap.")
    pair = pairs[0]
    if pair.other is None:
        return exact_against_constant(pair.student, -pair.margin, estimand=gate.estimand, alpha=row.alpha)
    if (pair.ratio, pair.margin) != (1.0, 0.0) or pair.student.k != 1 or pair.other.k != 1:
        raise GateError(
            f"{where}: against a model it needs ratio 1, no margin and 1 sample an item on both sides (a sign test); "
            "set method: bootstrap."
        )
    return exact_sign(pair, alpha=row.alpha)


def _bar(gate: Gate, row: Comparison, results: Mapping[str, EvalResult], baselines: Mapping[str, Baseline]) -> _Bar:
    zeros = [0.0] * len(gate.tasks)
    no_other: list[Counts | None] = [None] * len(gate.tasks)
    if row.minimum is not None:
        return _Bar(no_other, [row.minimum] * len(gate.tasks), None)
    if row.baseline is None:
        others = [_counts(results[row.against], name) for name in gate.tasks]
        return _Bar(others, zeros, float(np.mean([count.shares.mean() for count in others])))
    best = max(bars(gate.name, baselines[row.baseline], gate.tasks, "pass@1"), key=lambda each: each.value)
    constant = best.value * (row.ratio or 1.0) - (row.margin or 0.0)
    note = f"{best.note}; the highest published value counts ({best.label})"
    return _Bar(no_other, [constant] * len(gate.tasks), best.value, note)


def baselines_of(gate: Gate, given: Mapping[str, Baseline] | None = None) -> dict[str, Baseline]:
    """The baselines that a gate names, given or from the catalogue. Raises: CatalogError, ConfigError."""
    names = dict.fromkeys(row.baseline for row in gate.comparisons if row.baseline is not None)
    return {name: given[name] if given and name in given else load_baseline(name) for name in names}


def _other(gate: Gate, others: Mapping[str, EvalResult], name: str) -> EvalResult:
    if name not in others:
        raise GateError(
            f"gate {gate.name}: compares with the {name}, which was not evaluated; found {', '.join(others) or 'none'}."
        )
    return others[name]


def _check_tasks(gate: Gate, who: str, result: EvalResult) -> None:
    for name in gate.tasks:
        if name not in result.tasks:
            hint = did_you_mean(name, result.tasks) or f"; evaluated: {', '.join(result.tasks)}."
            raise GateError(f"gate {gate.name}: {who} was not evaluated on task '{name}'{hint}")


def _counts(result: EvalResult, name: str) -> Counts:
    """Correct counts in the order of problem ids, the same for every model."""
    task = result.tasks[name]
    items = sorted(task.items, key=lambda item: item.problem_id)
    return Counts(name, tuple(item.num_correct for item in items), task.samples_per_item)


def _figures(gate: Gate, result: EvalResult) -> dict[str, Any]:
    """What was sampled of a model, in its evaluation."""
    tasks = [result.tasks[name] for name in gate.tasks]
    return {
        "model": result.model,
        "rounds": min(task.samples_per_item for task in tasks),
        "completion_tokens": sum(sum(item.completion_tokens) for task in tasks for item in task.items),
    }
