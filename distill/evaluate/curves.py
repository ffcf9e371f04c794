"""Test-time compute curves of an evaluation, from the samples it took: pass@k, cons@k, accuracy by token budget.

    curves = curves_of(result)                            # one model; JSON-clean
    curves_command(Path("out"))                           # all of OUT/eval/*.json, written to OUT/eval/curves.json
    load_curves(Path("out/eval/curves.json"))["models"]["student"]["tasks"]["tiny"]["cons_at"]

A curve is a list of points; each has a value and two 95% intervals, for the two questions of `metrics.py`:
  interval             population: new items like these. Any value of an item in [0, 1] will do.
  interval_benchmark   exactly these items, noise of decoding alone; None where it cannot be told: pass@k and cons@k
                       need 2k samples an item (two disjoint blocks), accuracy by budget needs 2.
`cut` curves count a completion at budget B if it was right and had at most B tokens: what a limit of B would have
given, for nothing. What a thought would have come to if it had been closed at B tokens needs a model (`budget.py`);
`with_force_closed` puts that curve beside the others. Intervals hold point by point, not for a whole curve at once.
Not covered: plots (`distill/report/curves.py`), and curves by family.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.errors import ConfigError
from distill.evaluate import metrics
from distill.evaluate.result import EvalResult, Item, TaskResult
from distill.evaluate.votes import consensus_curve, consensus_noise
from distill.provenance import write_text_atomically
from distill.records import Sample, Verdict, stable_hash

FORMAT_VERSION = 1
CURVES_FILE = "curves.json"
NOT_RESULTS = (CURVES_FILE, "results.json")
"""Files of OUT/eval/ that are made of evaluations and are none."""
Curves = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SizePoint:
    """pass@k or cons@k, averaged over items."""

    k: int
    value: float
    interval: tuple[float, float]
    interval_benchmark: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """Accuracy when a completion may have `budget` tokens.

    `share_finished` of all samples ended by themselves within the budget; `mean_tokens` is what a sample used of it.
    """

    budget: int
    accuracy: float
    interval: tuple[float, float]
    interval_benchmark: tuple[float, float] | None
    share_finished: float
    mean_tokens: float


def score_at_budget(sample: Sample, verdict: Verdict, budget: int) -> float:
    """1.0 if the sample is correct and has at most `budget` completion tokens, else 0.0."""
    return float(verdict.outcome == "correct" and sample.completion_tokens <= budget)


def sizes_up_to(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    return sorted({1 << exponent for exponent in range(most.bit_length())} | {most})


def pass_curve(items: Sequence[Item], samples_per_item: int, sizes: Sequence[int] | None = None) -> list[SizePoint]:
    """pass@k, unbiased; a sample that the engine never returned counts as wrong. Raises: ValueError without items."""
    n, sizes = samples_per_item, sizes or sizes_up_to(samples_per_item)
    correct = [item.num_correct for item in items]
    values = [[metrics.pass_at_k(n, count, k) for count in correct] for k in sizes]
    noise = [[metrics.pass_noise(n, count, k) for count in correct] if n >= 2 * k else None for k in sizes]
    return _size_points(items, n, sizes, values, noise)


def cons_curve(items: Sequence[Item], samples_per_item: int, sizes: Sequence[int] | None = None) -> list[SizePoint]:
    """cons@k over subsets of the samples, voting by answer class. Raises: ValueError without items.

    From fewer than 2k samples the subsets overlap so much that the estimate is hardly more than one vote an item.
    """
    n, sizes = samples_per_item, sizes or sizes_up_to(samples_per_item)
    ballots = [_ballots(item, n) for item in items]
    by_item = [consensus_curve(*ballot, sizes) for ballot in ballots]
    values = [[found[k] for found in by_item] for k in sizes]
    noise = [[consensus_noise(*ballot, k) for ballot in ballots] if n >= 2 * k else None for k in sizes]
    return _size_points(items, n, sizes, values, noise)


def _ballots(item: Item, samples_per_item: int) -> tuple[list[int | str | None], list[bool]]:
    """Votes and whether they are right; samples that never came do not vote."""
    absent = samples_per_item - len(item.outcomes)
    correct = [outcome == "correct" for outcome in item.outcomes]
    return [*item.votes, *[None] * absent], [*correct, *[False] * absent]


def _size_points(
    items: Sequence[Item],
    n: int,
    sizes: Sequence[int],
    values: list[list[float]],
    noise: list[list[float] | None],
) -> list[SizePoint]:
    _check_items(items)
    intervals = metrics.population_intervals(values)
    return [
        SizePoint(
            k,
            sum(found) / len(found),
            interval,
            None if variances is None else metrics.benchmark_interval_of_blocks(found, variances, n // k),
        )
        for k, found, interval, variances in zip(sizes, values, intervals, noise, strict=True)
    ]


def token_budget_curve(
    items: Sequence[Item], samples_per_item: int, budgets: Sequence[int] | None = None, *, cap: int | None = None
) -> list[BudgetPoint]:
    """Accuracy if completions were cut at each budget: exact, from the samples there are.

    `budgets` default to powers of two from below the shortest completion up to `cap`, the token limit they were drawn
    with (default: the longest), and the cap itself. Raises: ValueError without items, or for a budget above the cap,
    of which these samples say nothing.
    """
    _check_items(items)
    lengths = [count for item in items for count in item.completion_tokens]
    cap = cap or max(lengths, default=1)
    budgets = budgets or default_budgets(min(lengths, default=1), cap)
    if beyond := [budget for budget in budgets if not 1 <= budget <= cap]:
        raise ValueError(f"token_budget_curve: budget {beyond[0]}: samples drawn with {cap} tokens tell of 1 to {cap}")
    counts = [[_right_within(item, budget) for item in items] for budget in budgets]
    intervals = metrics.population_intervals([[count / samples_per_item for count in row] for row in counts])
    num_samples = samples_per_item * len(items)
    return [
        BudgetPoint(
            budget,
            sum(right) / num_samples,
            interval,
            metrics.benchmark_interval(right, samples_per_item),
            sum(_finished_within(item, budget) for item in items) / num_samples,
            sum(min(count, budget) for count in lengths) / max(1, len(lengths)),
        )
        for budget, right, interval in zip(budgets, counts, intervals, strict=True)
    ]


def default_budgets(shortest: int, cap: int) -> list[int]:
    """Powers of two from the last one below the shortest completion, up to the cap, and the cap."""
    first = max(0, (max(1, shortest) - 1).bit_length() - 1)
    return sorted({1 << exponent for exponent in range(first, cap.bit_length())} | {cap})


def _right_within(item: Item, budget: int) -> int:
    pairs = zip(item.outcomes, item.completion_tokens, strict=True)
    return sum(outcome == "correct" and tokens <= budget for outcome, tokens in pairs)


def _finished_within(item: Item, budget: int) -> int:
    pairs = zip(item.outcomes, item.completion_tokens, strict=True)
    return sum(outcome != "truncated" and tokens <= budget for outcome, tokens in pairs)


def _check_items(items: Sequence[Item]) -> None:
    if not items:
        raise ValueError("curves: there is no item")


def curves_of(result: EvalResult) -> Curves:
    """All curves of one model that its samples give; JSON-clean."""
    return {
        "model": result.model,
        "model_fingerprint": result.model_fingerprint,
        "params": result.params,
        "tasks": {name: _curves_of_task(task, result.params) for name, task in result.tasks.items() if task.items},
    }


def _curves_of_task(task: TaskResult, params: Mapping[str, Any]) -> Curves:
    items, n = task.items, task.samples_per_item
    longest = max((count for item in items for count in item.completion_tokens), default=1)
    cap = max(int(params.get("max_new_tokens") or 1), longest)
    return {
        "n_items": len(items),
        "samples_per_item": n,
        "samples": stable_hash([item.sample_keys for item in items], length=16),
        "votes_over": "classes" if all(item.answer_classes or not item.outcomes for item in items) else "texts",
        "pass_at": plain_points(pass_curve(items, n)),
        "cons_at": plain_points(cons_curve(items, n)),
        "cut": plain_points(token_budget_curve(items, n, cap=cap)),
        "force_closed": [],
    }


def plain_points(points: Sequence[SizePoint | BudgetPoint]) -> list[dict[str, Any]]:
    """Points as JSON has them."""
    return [
        {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(point).items()}
        for point in points
    ]


def with_force_closed(curves: Curves, task: str, points: Sequence[BudgetPoint]) -> Curves:
    """A model's curves (`curves_of`) with what `budget.force_closed_curve` found for a task."""
    changed = curves["tasks"][task] | {"force_closed": plain_points(points)}
    return curves | {"tasks": curves["tasks"] | {task: changed}}


def curves_command(directory: Path) -> Curves:
    """Compute the curves of all evaluations of a run directory and write OUT/eval/curves.json.

    Force-closed curves that are there already stay, as long as they are of the same samples. Raises: ConfigError if
    there is no evaluation, or one is damaged.
    """
    curves = curves_in(directory)
    save_curves(directory / "eval" / CURVES_FILE, curves)
    return curves


def curves_in(directory: Path) -> Curves:
    """What `curves_command` computes, without writing it. Raises: as there."""
    folder = directory / "eval"
    paths = [path for path in sorted(folder.glob("*.json")) if path.name not in NOT_RESULTS and not _has_kind(path)]
    if not paths:
        raise ConfigError(f"{folder}: no evaluation to draw curves of; `distill eval` makes one.")
    return curves_of_all({path.stem: EvalResult.load(path) for path in paths}, folder / CURVES_FILE)


def _has_kind(path: Path) -> bool:
    """Whether a file says that it is something else (lm-eval's own tasks: `official_evaluation`)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # damaged: `EvalResult.load` says how
    return isinstance(found, dict) and "kind" in found


def curves_of_all(results: Mapping[str, EvalResult], known: Path | None = None) -> Curves:
    """What a curves file holds, of models by name; `known` is a file whose force-closed curves are taken over."""
    models = {name: curves_of(result) for name, result in results.items()}
    before = load_curves(known)["models"] if known is not None and known.exists() else {}
    for name, model in models.items():
        for task, found in model["tasks"].items():
            there = before.get(name, {}).get("tasks", {}).get(task, {})
            if there.get("samples") == found["samples"]:
                found["force_closed"] = there["force_closed"]
    return {"format_version": FORMAT_VERSION, "models": models}


def save_curves(path: Path, curves: Curves) -> None:
    """Write as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(curves, indent=1, ensure_ascii=False) + "\n")


def load_curves(path: Path) -> Curves:
    """Raises: ConfigError if the file is missing or holds no curves of this version."""
    again = "compute it again with `distill eval`"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; {again}.") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON ({error}); delete it, and {again}.") from None
    if not isinstance(found, dict) or found.get("format_version") != FORMAT_VERSION or "models" not in found:
        version = found.get("format_version") if isinstance(found, dict) else None
        raise ConfigError(
            f"{path}: format_version: expected {FORMAT_VERSION} with models, found {version}; delete it, and {again}."
        )
    return found
