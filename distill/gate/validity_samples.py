"""Checks of one model's samples on one task: are they all there, different, whole, read alike, asked alike?

    reasons = counts(gate, task) + repeats(task, params) + asked_alike(task, params) + rates(gate, task)

Every check is a function from a task's result to sentences: what was found, what is allowed, what to do next.
Not covered: comparing models (`validity.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.evaluate.result import Item, TaskResult, params_hash
from distill.gate.spec import Gate

FEWEST_ITEMS_TO_SEE_REPEATS = 10
"""With fewer items than this a confident model may repeat itself on all of them by chance; see `repeats.py`."""


def counts(gate: Gate, task: TaskResult) -> list[str]:
    """n items x k samples. A sample that the engine gave up is an observed failure and counts as there."""
    found = []
    needed = gate.validity.min_items or task.n_items_in_task
    if len(task.items) < needed:
        found.append(f"{len(task.items)} items evaluated, at least {needed} are needed; evaluate without a limit.")
    k = task.samples_per_item
    uneven = [item for item in task.items if _present(item) != k]
    if uneven:
        example = f"item {uneven[0].problem_id} has {_present(uneven[0])}"
        found.append(
            f"{sum(map(_present, task.items))} samples, expected {len(task.items) * k} "
            f"({len(task.items)} items x {k}); {len(uneven)} items have another number, e.g. {example}. "
            "Run the evaluation again, it draws what is missing."
        )
    return found


def _present(item: Item) -> int:
    return len(item.outcomes) + item.num_unanswered


def repeats(task: TaskResult, params: Mapping[str, Any], *, heeds_seed: bool = False) -> list[str]:
    """Copies that were counted as samples: shared seeds, one text for every seed, one text for every prompt.

    With `heeds_seed` a probe has shown that other seeds do give other texts (`repeats.py`): the model is just sure.
    """
    return _shared_seeds(task) or _one_text_in_all(task) or ([] if heeds_seed else _one_text_an_item(task, params))


def _shared_seeds(task: TaskResult) -> list[str]:
    shared = [item for item in task.items if item.num_distinct_seeds < len(item.outcomes)]
    if not shared:
        return []
    drawn = sum(len(item.outcomes) for item in shared)
    return [
        f"samples of one item share a seed, so they are copies: {sum(item.num_distinct_seeds for item in shared)} "
        f"distinct seeds in {drawn} samples of {len(shared)} items, every sample needs its own; "
        "the engine must send each request's own seed."
    ]


def _one_text_an_item(task: TaskResult, params: Mapping[str, Any]) -> list[str]:
    several = [item for item in task.items if len(item.outcomes) > 1]
    is_sampled = params["temperature"] > 0 and len(several) >= FEWEST_ITEMS_TO_SEE_REPEATS
    if not is_sampled or any(item.num_distinct_texts > 1 for item in several):
        return []
    drawn = sum(len(item.outcomes) for item in several)
    return [
        f"all {task.samples_per_item} samples are the same text on every one of {len(several)} items: "
        f"{len(several)} distinct texts in {drawn} samples at temperature {params['temperature']:g}; "
        "the engine ignores the seed or the temperature. Serve the model with per-request seeds, or ask for 1 sample."
    ]


def _one_text_in_all(task: TaskResult) -> list[str]:
    texts = {item.first_text_hash for item in task.items if item.first_text_hash}
    if len(texts) != 1 or len(task.items) < FEWEST_ITEMS_TO_SEE_REPEATS:
        return []
    return [
        f"the first sample is the same text on all {len(task.items)} items; the server does not read the prompt. "
        "Ask it two questions by hand: a cache, a proxy or a wrong chat template answers for the model."
    ]


def asked_alike(task: TaskResult, params: Mapping[str, Any], prompts: Mapping[str, str] | None = None) -> list[str]:
    """One prompt an item and one set of sampling parameters; `prompts` is item id -> the hash it should have."""
    found = []
    several = [item for item in task.items if len(item.prompt_hashes) > 1]
    if several:
        found.append(
            f"{len(several)} items were asked with more than one prompt, e.g. item {several[0].problem_id} with "
            f"{len(several[0].prompt_hashes)}; one is allowed. The template changed between samples: start in a new "
            "output directory."
        )
    wanted = prompts or {}
    other = [
        item
        for item in task.items
        if item.prompt_hashes and item.problem_id in wanted and wanted[item.problem_id] not in item.prompt_hashes
    ]
    if other:
        found.append(
            f"{len(other)} of {len(task.items)} items were asked with another prompt than the task's, e.g. item "
            f"{other[0].problem_id} (prompt hash {other[0].prompt_hashes[0]}, the task's is "
            f"{wanted[other[0].problem_id]}). The ledger is of another version of the task or of the chat "
            "template: draw the samples again."
        )
    known = {hashed for item in task.items for hashed in item.params_hashes}
    if known - {params_hash(params)}:
        found.append(
            f"samples were drawn with {len(known | {params_hash(params)})} sets of parameters, one is allowed: "
            f"temperature {params['temperature']:g}, top_p {params['top_p']:g}, {params['max_new_tokens']} tokens. "
            "Choose the samples of one set, or draw them again."
        )
    return found


def rates(gate: Gate, task: TaskResult) -> list[str]:
    """Every capped share of samples that is over its cap."""
    caps = gate.validity
    checks = [
        ("truncation_rate", caps.max_truncation_rate, "raise max_new_tokens"),
        (
            "unclosed_rate",
            caps.max_unclosed_rate,
            "the model stopped inside its thought: look at the texts; is the close marker of the card the model's own, "
            "or does the server take it away?",
        ),
        (
            "unanswered_rate",
            caps.max_unanswered_rate,
            "the engine gave these requests up and they count as failures; raise its time limits or mend the server",
        ),
        ("no_answer_rate", caps.max_no_answer_rate, "look at the texts: is the answer asked for in a box?"),
        (
            "extractor_disagreement_rate",
            caps.max_extractor_disagreement_rate,
            "these samples are right by one reading of the answer and not by the other; look at the texts, and ask for "
            "the answer in one box",
        ),
        ("undecided_rate", caps.max_undecided_rate, "the verifier's checks disagree; see the verdicts' details"),
        ("error_rate", caps.max_error_rate, "the verifier failed or ran out of time; see the verdicts' details"),
    ]
    found = [
        f"{name} {task.scores[name]:.1%}, at most {cap:.1%} is allowed; {remedy}."
        for name, cap, remedy in checks
        if cap is not None and task.scores[name] is not None and task.scores[name] > cap
    ]
    return found + _distinct_rate(gate, task)


def _distinct_rate(gate: Gate, task: TaskResult) -> list[str]:
    least, rate = gate.validity.min_distinct_sample_rate, task.scores["distinct_sample_rate"]
    if least is None or rate >= least:
        return []
    texts = sum(item.num_distinct_texts for item in task.items)
    drawn = sum(len(item.outcomes) for item in task.items)
    return [
        f"distinct_sample_rate {rate:.1%} ({texts} distinct texts in {drawn} samples), at least {least:.1%} is needed; "
        "check seeds and temperature."
    ]
