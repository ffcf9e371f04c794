"""Verifies what the ledger holds once more: another verifier, mended tests or a new gold answer need no new harvest.

    result = verify_again(ledger, asked)              # asked: (sample key, problem), a stream
    print(result)                                     # wrong -> correct 12, ...

Samples whose verdict is of today's version (of verifier and problem) are left alone, unless `everything` is asked for.
Old verdicts stay in the ledger under their own version. Memory does not grow with the ledger: samples are read a few
hundred at a time, and what is held is what the workers have under way.
Not covered: samples that were never drawn; votes, which need all samples of a problem (`voting.py`); a judge model's
verdicts (`judging.py`).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from distill.records import Problem, Sample, Verdict
from distill.store.ledger import JUDGE, Ledger
from distill.verify.base import current_version
from distill.verify.pool import VerifierPool
from distill.verify.standing import verifier_verdict

KEYS_PER_BATCH = 500
VERDICTS_PER_COMMIT = 64
FIRST_UNSTABLE = 20
SECONDS_BETWEEN_LINES = 10.0
UNVERIFIED = "unverified"

Asked = Mapping[str, Problem] | Iterable[tuple[str, Problem]]


@dataclass(slots=True)
class VerifiedAgain:
    """What a verification of the ledger changed."""

    wanted: int = 0
    """Samples asked for so far."""
    samples: int = 0
    """Of these, those that the ledger has."""
    verified: int = 0
    """Of these, those that were verified now; the others had a current verdict."""
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(outcome before, outcome now) of those verified now; before is unverified where there was none."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Outcomes now, of all samples."""
    unstable: list[str] = field(default_factory=list)
    """Keys (the first few) of samples that the same version says something else of than before."""
    num_unstable: int = 0
    seconds: float = 0.0

    @property
    def changed(self) -> int:
        return sum(count for (before, now), count in self.changes.items() if before != now)

    def to_dict(self) -> dict[str, Any]:
        """JSON-clean; `changes` as {before: {now: count}}."""
        changes: dict[str, dict[str, int]] = {}
        for (before, now), count in sorted(self.changes.items()):
            changes.setdefault(before, {})[now] = count
        return {
            "samples": self.samples,
            "verified": self.verified,
            "changed": self.changed,
            "changes": changes,
            "outcomes": dict(sorted(self.outcomes.items())),
            "unstable": self.num_unstable,
            "unstable_first": self.unstable,
            "seconds": round(self.seconds, 2),
        }

    def __str__(self) -> str:
        lines = [
            f"verify: {self.samples} samples, {self.samples - self.verified} left alone (their verdict is current), "
            f"{self.verified} verified now, {self.changed} changed"
        ]
        width = max((len(before) for before, _ in self.changes), default=0)
        for (before, now), count in sorted(self.changes.items(), key=lambda change: (-change[1], change[0])):
            lines.append(f"  {before:<{width}} -> {now:<12}{count:>8}{'' if before != now else '  (as before)'}")
        if self.num_unstable:
            lines.append(
                f"  {self.num_unstable} samples got another outcome from the same version of verifier and problem (the "
                f"first: {', '.join(self.unstable[:3])}); the ledger keeps the earlier verdict of a version"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{before}</td><td>{now}</td><td>{count}</td></tr>"
            for (before, now), count in sorted(self.changes.items())
        )
        head = "<tr><th>before</th><th>now</th><th>samples</th></tr>"
        return f"<p>{str(self).splitlines()[0]}</p><table>{head}{rows}</table>"


def verify_again(
    ledger: Ledger,
    asked: Asked,
    *,
    everything: bool = False,
    verify_workers: int = 2,
    verify_timeout_seconds: float = 30.0,
    progress: Callable[[VerifiedAgain], None] | None = None,
) -> VerifiedAgain:
    """Verify every sample asked for that the ledger has and that lacks a current verdict, or all of them.

    `progress` is called at every commit. Whatever interrupts it, verdicts reached so far are in the ledger, and the
    same call goes on from there.
    Raises: DistillError where a problem cannot be verified at all; InfrastructureError where workers cannot start.
    """
    work = _Work(ledger, everything)
    started = time.monotonic()
    with VerifierPool(verify_workers, verify_timeout_seconds) as pool:
        try:
            with closing(work.pairs(asked)) as pairs:
                for verdict in pool.verify_many(pairs):
                    if work.take(verdict) and progress is not None:
                        progress(work.result)
        finally:
            work.commit()
            work.result.seconds = time.monotonic() - started
    return work.result


def lines_on_stderr() -> Callable[[VerifiedAgain], None]:
    """A `progress` that says at most every ten seconds how far it is."""
    last = time.monotonic()

    def show(result: VerifiedAgain) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            said = f"verify: {result.samples} samples read, {result.verified} verified, {result.changed} changed"
            print(said, file=sys.stderr, flush=True)

    return show


class _Work:
    """A verification under way: what was said before of the samples that the workers have now."""

    def __init__(self, ledger: Ledger, everything: bool):
        self.ledger, self.everything = ledger, everything
        self.result = VerifiedAgain()
        self.before: dict[str, tuple[str, str]] = {}  # key -> (outcome, version)
        self.unwritten: list[Verdict] = []

    def pairs(self, asked: Asked) -> Generator[tuple[Problem, Sample]]:
        """What is to be verified, as the workers ask for it."""
        source = iter(asked.items() if isinstance(asked, Mapping) else asked)
        while batch := dict(islice(source, KEYS_PER_BATCH)):
            self.result.wanted += len(batch)
            yield from self._of_batch(batch)

    def _of_batch(self, batch: dict[str, Problem]) -> Iterator[tuple[Problem, Sample]]:
        samples, verdicts = self.ledger.get_samples(batch), self.ledger.get_all_verdicts(batch)
        versions: dict[int, str] = {}  # by identity of the problem: hashing its tests once is enough
        for key, sample in samples.items():
            if key in self.before:
                continue  # asked for twice, and under way
            problem = batch[key]
            if id(problem) not in versions:
                versions[id(problem)] = current_version(problem)
            version = versions[id(problem)]
            own = [verdict for verdict in verdicts.get(key, ()) if verdict.verifier != JUDGE]
            last = verifier_verdict(problem, own)
            self.result.samples += 1
            is_current = last is not None and (last.verifier, last.version) == (problem.verifier, version)
            if last is not None and is_current and last.outcome != "error" and not self.everything:
                self.result.outcomes[last.outcome] += 1
                continue
            self.before[key] = (UNVERIFIED, "") if last is None else (last.outcome, last.version)
            yield problem, sample

    def take(self, verdict: Verdict) -> bool:
        """Count a new verdict, and keep it to be written; whether it was time to write."""
        outcome, version = self.before.pop(verdict.sample_key)
        result = self.result
        result.verified += 1
        result.outcomes[verdict.outcome] += 1
        result.changes[outcome, verdict.outcome] += 1
        if version == verdict.version and verdict.outcome != outcome and "error" not in (verdict.outcome, outcome):
            result.num_unstable += 1
            result.unstable += [verdict.sample_key] if len(result.unstable) < FIRST_UNSTABLE else []
        self.unwritten.append(verdict)
        if len(self.unwritten) < VERDICTS_PER_COMMIT:
            return False
        self.commit()
        return True

    def commit(self) -> None:
        self.ledger.add_verdicts(self.unwritten)
        self.unwritten = []
