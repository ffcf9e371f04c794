"""Whether a run may be judged at all, before its scores are looked at.

    reasons = invalid_reasons(gate, {"student": result, "teacher": result})     # empty: judge it

Each check stands for a way in which evaluations have gone wrong with exit code 0: fewer samples than asked for, one
seed for all repeats, answers cut off, some items left out, models scored on different items.
Not covered: contamination (the run removes overlaps and says so) and leaks in public benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping

from distill.evaluate.result import EvalResult, TaskResult
from distill.gate.spec import Gate

FEWEST_ITEMS_TO_SEE_REPEATS = 10
"""With fewer items than this a confident model may repeat itself on all of them by chance."""


def invalid_reasons(gate: Gate, results: Mapping[str, EvalResult]) -> list[str]:
    """One sentence for every check that fails, over all models and the gate's tasks."""
    reasons = []
    for who, result in results.items():
        for name in gate.tasks:
            task = result.tasks[name]
            where = f"{who} on {name}"
            reasons += [f"{where}: {reason}" for reason in _counts(gate, task) + _repeats(task, result)]
            if who != "base":
                reasons += [f"{where}: {reason}" for reason in _rates(gate, task)]
    return reasons + _same_items(gate, results)


def _counts(gate: Gate, task: TaskResult) -> list[str]:
    found = []
    needed = gate.validity.min_items or task.n_items_in_task
    if len(task.items) < needed:
        found.append(f"{len(task.items)} items evaluated, at least {needed} are needed; evaluate without a limit.")
    expected = len(task.items) * task.samples_per_item
    drawn = sum(len(item.outcomes) for item in task.items)
    if drawn != expected:
        found.append(
            f"{drawn} samples, expected {expected} ({len(task.items)} items x {task.samples_per_item}); "
            "run the evaluation again, it draws what is missing."
        )
    return found


def _repeats(task: TaskResult, result: EvalResult) -> list[str]:
    several = [item for item in task.items if len(item.outcomes) > 1]
    if any(item.num_distinct_seeds < len(item.outcomes) for item in several):
        return ["samples of one item share a seed, so they are copies; the engine must send each request's own seed."]
    is_sampled = result.params["temperature"] > 0 and len(several) >= FEWEST_ITEMS_TO_SEE_REPEATS
    if is_sampled and all(item.num_distinct_texts == 1 for item in several):
        return [
            f"all {task.samples_per_item} samples are the same text on every one of {len(several)} items; "
            "the engine ignores the seed or the temperature."
        ]
    return []


def _rates(gate: Gate, task: TaskResult) -> list[str]:
    caps = gate.validity
    checks = [
        ("truncation_rate", caps.max_truncation_rate, "raise max_new_tokens"),
        ("no_answer_rate", caps.max_no_answer_rate, "look at the texts: is the answer asked for in a box?"),
        ("undecided_rate", caps.max_undecided_rate, "the verifier's checks disagree; see the verdicts' details"),
        ("error_rate", caps.max_error_rate, "the verifier failed or ran out of time; see the verdicts' details"),
    ]
    found = [
        f"{name} {task.scores[name]:.1%}, at most {cap:.1%} is allowed; {remedy}."
        for name, cap, remedy in checks
        if cap is not None and task.scores[name] > cap
    ]
    least, rate = caps.min_distinct_sample_rate, task.scores["distinct_sample_rate"]
    if least is not None and rate < least:
        found.append(f"distinct_sample_rate {rate:.1%}, at least {least:.1%} is needed; check seeds and temperature.")
    return found


def _same_items(gate: Gate, results: Mapping[str, EvalResult]) -> list[str]:
    student = results["student"]
    reasons = []
    for who, result in results.items():
        for name in gate.tasks:
            ours, theirs = student.tasks[name], result.tasks[name]
            if ours.version != theirs.version:
                reasons.append(f"{who} on {name}: task version {theirs.version}, the student's is {ours.version}.")
            elif {item.problem_id for item in ours.items} != {item.problem_id for item in theirs.items}:
                reasons.append(f"{who} on {name}: not the items that the student was evaluated on; evaluate it again.")
    return reasons
