"""Whether a run may be judged at all, before its scores are looked at: INVALID comes before FAIL.

    reasons = before_sampling(gate, {"aime24": problems}, baselines=baselines, training=dataset_dir, today=today)
    reasons += invalid_reasons(gate, {"student": result, "teacher": result})     # empty: judge it

Each check stands for a way in which evaluations have gone wrong with exit code 0. Before sampling: gold answers that no
sample can match, questions that stand twice, items that the student was trained on, an expired baseline, another copy
of the dataset than the gate was written for. After it: fewer samples than asked for, one seed for all repeats, answers
cut off, thoughts never closed, scores that hang on how the answer is read, other prompts than the task's, models scored
on different items. All reasons are given, not the first only.
Not covered: leaks of a public benchmark into the base model; a server that repeats itself where one sample an item was
drawn (`repeats.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from pathlib import Path

from distill.cards import Baseline
from distill.errors import GateError, did_you_mean
from distill.evaluate.result import EvalResult, Item, TaskResult
from distill.evaluate.tasks import items_hash
from distill.gate.contamination import contamination
from distill.gate.gold_format import duplicate_reasons, gold_reasons
from distill.gate.spec import Gate
from distill.gate.validity_samples import asked_alike, counts, rates, repeats
from distill.records import Problem, stable_hash

Tasks = Mapping[str, Sequence[Problem]]
MAY_RAMBLE = "base"
"""Its rates are not capped: a base model that rambles is what it is."""
EXAMPLES = 3


def before_sampling(
    gate: Gate, tasks: Tasks, *, baselines: Mapping[str, Baseline], training: Path | None, today: date
) -> list[str]:
    """One sentence for everything that is known to be wrong before a token is paid for.

    `tasks` holds the items of every task of the gate; `training` is what the student was trained on: a dataset
    directory, a run directory or a JSONL file. Raises: GateError (items_hash names no task of the gate), TraceError
    (training data missing or damaged), ProblemError (a problem whose verifier does not exist).
    """
    reasons = expired_reasons(baselines, today)
    for name, problems in tasks.items():
        reasons += _enough_items(gate, name, problems)
        reasons += gold_reasons(name, problems)
        reasons += duplicate_reasons(name, problems)
    reasons += pinned_reasons(gate, tasks)
    if training is not None:
        reasons += contamination_reasons(gate, tasks, training)
    return reasons


def invalid_reasons(
    gate: Gate,
    results: Mapping[str, EvalResult],
    *,
    prompts: Mapping[str, Mapping[str, str]] | None = None,
    items: Mapping[str, str] | None = None,
    heed_seeds: Collection[str] = (),
) -> list[str]:
    """One sentence for every check that fails, over all models and the gate's tasks.

    Samples that the engine gave up after a timeout or a refusal are observed failures (`with_unanswered`), there but
    capped. `prompts`: model -> item id -> hash of the prompt as it is today (`prompt_hashes`), for models whose chat
    template is at hand; samples of a ledger must have been drawn with it. `items`: task -> `items_hash` of today.
    `heed_seeds`: models that a probe has cleared of repeating themselves (`repeats.heeds_seed`).
    """
    reasons = []
    for who, result in results.items():
        for name in gate.tasks:
            task = result.tasks[name]
            found = counts(gate, task) + repeats(task, result.params, heeds_seed=who in heed_seeds)
            found += asked_alike(task, result.params, (prompts or {}).get(who))
            found += _other_items(task, (items or {}).get(name))
            found += rates(gate, task) if who != MAY_RAMBLE else []
            reasons += [f"{who} on {name}: {reason}" for reason in found]
    return reasons + _same_items(gate, results)


def prompt_hashes(render: Callable[[str], str], problems: Sequence[Problem]) -> dict[str, str]:
    """Item id -> hash of its prompt as an engine renders it today, as samples have it."""
    return {problem.id: stable_hash(render(problem.prompt), length=16) for problem in problems}


def recorded_prompts(items: Sequence[Item], problems: Sequence[Problem]) -> dict[str, str]:
    """The same for samples of a ledger whose chat template is not at hand.

    A served model's samples are recorded under the plain prompt, since the server renders it: where any item has its
    plain prompt's hash, all must. Empty where none has, so that nothing can be said.
    """
    plain = prompt_hashes(str, problems)
    is_served = any(plain.get(item.problem_id) in item.prompt_hashes for item in items)
    return plain if is_served else {}


def expired_reasons(baselines: Mapping[str, Baseline], today: date) -> list[str]:
    """Baselines whose date has passed: the numbers may have been corrected since."""
    return [
        f"baseline {name}: expired on {found.expires}; look its numbers up again and set a new date."
        for name, found in baselines.items()
        if found.is_expired(today)
    ]


def pinned_reasons(gate: Gate, tasks: Tasks) -> list[str]:
    """Tasks whose items are not those that the gate was written for."""
    found = []
    for name, wanted in gate.validity.items_hash.items():
        if name not in gate.tasks:
            hint = did_you_mean(name, gate.tasks) or f"; its tasks: {', '.join(gate.tasks)}."
            raise GateError(f"gate {gate.name}: validity.items_hash: '{name}' is no task of this gate{hint}")
        if name not in tasks or (actual := items_hash(tasks[name])) == wanted:
            continue
        padded = [problem for problem in tasks[name] if _is_padded(problem.answer)]
        hint = (
            f" {len(padded)} gold answers are zero-padded, e.g. '{padded[0].answer}' of item {padded[0].id}: copies of "
            "a dataset differ in that."
            if padded
            else ""
        )
        found.append(
            f"{name}: the items have hash {actual}, the gate is written for {wanted}: ids, prompts, the instruction or "
            f"gold answers changed.{hint} Use the pinned dataset revision, or set the new hash in validity.items_hash."
        )
    return found


def _is_padded(answer: str | None) -> bool:
    text = (answer or "").strip()
    return len(text) > 1 and text.isdecimal() and text.startswith("0")


def contamination_reasons(gate: Gate, tasks: Tasks, training: Path) -> list[str]:
    """Tasks of which too many items stand in the training data."""
    cap = gate.validity.max_contaminated_rate
    if cap is None:
        return []
    return [
        f"{name}: contamination: {len(found.item_ids)} of {found.n_items} items ({found.rate:.1%}) stand in the "
        f"training data {training} ({found.n_prompts} prompts), at most {cap:.1%} is allowed: "
        f"{', '.join(found.item_ids[:EXAMPLES])}{', ...' if len(found.item_ids) > EXAMPLES else ''}; {found.example}. "
        f"Take them out with `distill curate` (step decontaminate, evaluation task {name}) and train again."
        for name, found in contamination(tasks, training).items()
        if found.rate > cap
    ]


def _enough_items(gate: Gate, name: str, problems: Sequence[Problem]) -> list[str]:
    needed = gate.validity.min_items
    if needed is None or len(problems) >= needed:
        return []
    return [f"{name}: {len(problems)} items in the task, at least {needed} are needed; give the whole data set."]


def _other_items(task: TaskResult, today: str | None) -> list[str]:
    """Whether the evaluation was of the task as it is today; one that does not say (an older file) may be."""
    if not task.items_hash or today is None or task.items_hash == today:
        return []
    return [
        f"evaluated on items with hash {task.items_hash}, the task's are {today} today: prompts, the instruction or "
        "gold answers changed since; evaluate again."
    ]


def _same_items(gate: Gate, results: Mapping[str, EvalResult]) -> list[str]:
    student = results["student"]
    reasons = []
    for who, result in results.items():
        for name in gate.tasks:
            ours, theirs = student.tasks[name], result.tasks[name]
            if ours.version != theirs.version:
                reasons.append(
                    f"{who} on {name}: task version {theirs.version}, the student's is {ours.version}; "
                    "evaluate it again."
                )
            elif {item.problem_id for item in ours.items} != {item.problem_id for item in theirs.items}:
                reasons.append(f"{who} on {name}: not the items that the student was evaluated on; evaluate it again.")
    return reasons
