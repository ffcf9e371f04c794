"""Problems without a gold answer: once all samples of one are in, they vote on its answer.

    with Polls(Voting(min_votes=8, min_share=0.6), verify_timeout_seconds=10) as polls:
        verdicts = polls.vote(entry, samples)

Answers are compared in a worker process of their own, so that the votes of one problem do not wait behind the samples
of others. Not covered: what a vote is (`distill/verify/majority.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from distill.harvest.asking import Entry
from distill.harvest.verify_again import UNVERIFIED, VerifiedAgain
from distill.recipes import Voting
from distill.records import Sample, Verdict
from distill.store.ledger import Ledger
from distill.verify.classes import compare_in
from distill.verify.majority import vote
from distill.verify.pool import VerifierPool
from distill.verify.standing import is_current, verifier_verdict


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


def vote_again(
    ledger: Ledger,
    entries: Iterable[Entry],
    settings: Voting,
    result: VerifiedAgain,
    *,
    everything: bool,
    verify_timeout_seconds: float,
) -> None:
    """Let each problem vote whose samples lack a current verdict, or every one; counts are added to `result`."""
    with Polls(settings, verify_timeout_seconds) as polls:
        for entry in entries:
            keys = list(entry.keys.values())
            given = ledger.get_all_verdicts(keys)
            before = {key: verifier_verdict(entry.problem, given.get(key, ())) for key in keys}
            result.wanted += len(keys)
            result.samples += len(keys)
            known = [verdict for verdict in before.values() if verdict is not None]
            is_known = len(known) == len(keys) and all(is_current(entry.problem, verdict) for verdict in known)
            if is_known and not everything:
                result.outcomes.update(verdict.outcome for verdict in known)
                continue
            verdicts = polls.vote(entry, ledger.get_samples(keys))
            ledger.add_verdicts(verdicts)
            result.verified += len(verdicts)
            for verdict in verdicts:
                last = before[verdict.sample_key]
                result.outcomes[verdict.outcome] += 1
                result.changes[UNVERIFIED if last is None else last.outcome, verdict.outcome] += 1
