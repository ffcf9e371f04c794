"""What is kept of one scored sample: enough for every figure and every check, without its text.

    seen = observe_all([(problem, sample, verdict), ...], pool.verify_many)
    item = item_of(problem, seen)                 # samples of one problem, in index order

A round of 500 items at 32,768 tokens is 50 MB of text, and a gate may hold 64 of them; the texts stay in the ledger.
Not covered: samples that the engine never returned (the caller counts them).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    prompt_hash: str
    params_hash: str
    is_unclosed: bool
    """A thought was opened and never closed, though the model stopped by itself."""
    is_changed_by_rereading: bool | None
    """Whether a second extractor makes it right where it was not, or back; None where it has nothing to read."""

    @property
    def is_correct(self) -> bool:
        return self.outcome == "correct"


def observe_all(judged: Sequence[tuple[Problem, Sample, Verdict]], verify: Verify) -> list[Observation]:
    """The observations of samples with their verdicts; `verify` judges what the second extractor reads."""
    changed = {each.sample_key: each.is_changed for each in reread(judged, verify)}
    return [
        Observation(
            key=sample.key,
            index=sample.index,
            seed=sample.seed,
            outcome=verdict.outcome,
            extracted=verdict.extracted,
            completion_tokens=sample.completion_tokens,
            text_hash=stable_hash(sample.text, length=16),
            prompt_hash=sample.prompt_hash,
            params_hash=params_hash(sample.params),
            is_unclosed=sample.answer is None and sample.finish_reason == "stop",
            is_changed_by_rereading=changed.get(sample.key),
        )
        for _, sample, verdict in judged
    ]


def item_of(problem: Problem, seen: Sequence[Observation], compare: Compare | None = None) -> Item:
    """An item of a result from the observations of its samples, in index order; `compare` as in `classes_of`."""
    read_again = [each.is_changed_by_rereading for each in seen if each.is_changed_by_rereading is not None]
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
        num_unclosed=sum(each.is_unclosed for each in seen),
        num_reread=len(read_again),
        num_reread_changed=sum(read_again),
        prompt_hashes=tuple(sorted({each.prompt_hash for each in seen})),
        params_hashes=tuple(sorted({each.params_hash for each in seen})),
        first_text_hash=seen[0].text_hash if seen else "",
    )
