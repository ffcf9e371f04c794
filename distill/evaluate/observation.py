"""What is kept of one scored sample: enough for every figure and every check, without its text.

    seen = observe([(problem, sample, verdict), ...], pool.verify_many)
    item = item_of(problem, seen)                 # in index order

A round of 500 items at 32,768 tokens is 50 MB of text, and a gate may hold 64 of them; the texts stay in the ledger.
Not covered: samples that the engine never returned (the caller counts them).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distill.evaluate.result import Item, params_hash
from distill.evaluate.votes import classes_of
from distill.records import Outcome, Problem, Sample, Verdict, stable_hash
from distill.verify.classes import Compare
from distill.verify.second_extract import Verify, reread


@dataclass(frozen=True, slots=True)
class Observation:
    """One sample as it was scored; `extracted` is its final answer as the verifier read it."""

    key: str
    index: int
    seed: int
    outcome: Outcome
    extracted: str | None
    completion_tokens: int
    text_hash: str
    is_unclosed: bool = False
    """Whether a thought was opened and never closed, though the model stopped by itself."""
    is_changed_by_second: bool | None = None
    """Whether it would be right, or no longer, as a second extractor reads it; None where that does not apply."""
    prompt_hash: str = ""
    params_hash: str = ""

    @property
    def is_correct(self) -> bool:
        return self.outcome == "correct"


def observe(judged: Sequence[tuple[Problem, Sample, Verdict]], verify: Verify | None = None) -> list[Observation]:
    """The observations of samples with their problems and verdicts; `verify` judges what a second extractor reads."""
    changed = {each.sample_key: each.is_changed for each in reread(judged, verify)} if verify is not None else {}
    return [_observed(sample, verdict, changed.get(sample.key)) for _, sample, verdict in judged]


def _observed(sample: Sample, verdict: Verdict, is_changed_by_second: bool | None) -> Observation:
    return Observation(
        key=sample.key,
        index=sample.index,
        seed=sample.seed,
        outcome=verdict.outcome,
        extracted=verdict.extracted,
        completion_tokens=sample.completion_tokens,
        text_hash=stable_hash(sample.text, length=16),
        is_unclosed=sample.answer is None and sample.finish_reason == "stop",
        is_changed_by_second=is_changed_by_second,
        prompt_hash=sample.prompt_hash,
        params_hash=params_hash(sample.params),
    )


def item_of(problem: Problem, seen: Sequence[Observation], compare: Compare | None = None) -> Item:
    """An item of a result from the observations of its samples, in index order; `compare` as in `classes_of`."""
    return Item(
        problem_id=problem.id,
        family=problem.family,
        outcomes=tuple(each.outcome for each in seen),
        answers=tuple(each.extracted for each in seen),
        completion_tokens=tuple(each.completion_tokens for each in seen),
        sample_keys=tuple(each.key for each in seen),
        num_distinct_texts=len({each.text_hash for each in seen}),
        num_distinct_seeds=len({each.seed for each in seen}),
        num_unclosed=sum(each.is_unclosed for each in seen),
        num_reread=sum(each.is_changed_by_second is not None for each in seen),
        num_reread_changed=sum(each.is_changed_by_second is True for each in seen),
        prompt_hashes=_distinct(each.prompt_hash for each in seen),
        params_hashes=_distinct(each.params_hash for each in seen),
        first_text_hash=seen[0].text_hash if seen else "",
        answer_classes=classes_of(problem, [each.extracted for each in seen], compare=compare),
    )


def _distinct(hashes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(hashes) - {""}))
