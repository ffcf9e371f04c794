"""What is kept of one scored sample: enough for every figure and every check, without its text.

    seen = observe(problem, sample, verdict)
    item = item_of(problem, [seen, ...])          # in index order

A round of 500 items at 32,768 tokens is 50 MB of text, and a gate may hold 64 of them; the texts stay in the ledger.
Not covered: samples that the engine never returned (the caller counts them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.evaluate.result import Item
from distill.evaluate.votes import classes_of
from distill.records import Outcome, Problem, Sample, Verdict, stable_hash
from distill.verify.classes import Compare


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

    @property
    def is_correct(self) -> bool:
        return self.outcome == "correct"


def observe(problem: Problem, sample: Sample, verdict: Verdict) -> Observation:
    """The observation of a sample and its verdict on this problem."""
    return Observation(
        key=sample.key,
        index=sample.index,
        seed=sample.seed,
        outcome=verdict.outcome,
        extracted=verdict.extracted,
        completion_tokens=sample.completion_tokens,
        text_hash=stable_hash(sample.text, length=16),
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
        answer_classes=classes_of(problem, [each.extracted for each in seen], compare=compare),
    )
