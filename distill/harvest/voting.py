"""Problems without a gold answer: once all samples of one are in, they vote on its answer.

    with Polls(Voting(min_votes=8, min_share=0.6), verify_timeout_seconds=10) as polls:
        verdicts = polls.vote(entry, samples)

Answers are compared in a worker process of their own, so that the votes of one problem do not wait behind the samples
of others. Not covered: what a vote is (`distill/verify/majority.py`).
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from distill.harvest.asking import Entry
from distill.recipes import Voting
from distill.records import Sample, Verdict
from distill.verify.classes import compare_in
from distill.verify.majority import vote
from distill.verify.pool import VerifierPool


class Polls:
    """Where votes are counted; the worker starts with the first comparison."""

    def __init__(self, settings: Voting, verify_timeout_seconds: float):
        self.settings = settings
        self._pool = VerifierPool(1, verify_timeout_seconds)

    def vote(self, entry: Entry, samples: dict[str, Sample]) -> list[Verdict]:
        """Verdicts on all samples of the entry, which takes them as its own; `samples` by key."""
        asked = [samples[key] for _, key in sorted(entry.keys.items())]
        settings = self.settings
        verdicts = vote(entry.problem, asked, settings.min_votes, settings.min_share, compare=compare_in(self._pool))
        entry.verdicts_changed(verdicts)
        return verdicts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()
