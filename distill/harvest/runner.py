"""Harvest: every problem is sampled until its plan says enough; each sample is committed, verified and counted.

    asking = Asking(plan, params, run_seed=17, fingerprint=engine.fingerprint, render=engine.render)
    summary = harvest(engine, ledger, problems, asking)

The ledger answers what was sampled before, so the same call after a Ctrl-C or a kill -9 continues; verdicts that are
missing are made up for. Problems are taken in order and lazily, a group at a time, as slots come free; settled ones
cost one row to read, so that a harvest of a million samples resumes at once. Drawing and verification overlap.

Not covered: what to draw of a problem (`policy.py`), limits on the whole (`budget.py`), the live display.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from distill.engines.base import Engine, LedgerLike, draw
from distill.errors import ProblemError
from distill.harvest.asking import Asking, Entry, Paid, digest, harvest_scope
from distill.harvest.budget import Spending
from distill.harvest.policy import Ask, Result
from distill.harvest.progress import Progress, no_progress
from distill.harvest.summary import HarvestSummary
from distill.harvest.tally import Tally
from distill.harvest.voting import Polls
from distill.recipes import Budget, Voting
from distill.records import (
    PartialTrace,
    Problem,
    ProblemYield,
    Sample,
    SampleRequest,
    Unanswered,
    Verdict,
)
from distill.verify.pool import VerifierPool

PROBLEMS_PER_LOOK = 500
VERDICTS_PER_COMMIT = 64
SECONDS_BETWEEN_COMMITS = 0.25
IDLE_SECONDS = 0.02
UNVERIFIED_PER_WORKER = 256


def harvest(
    engine: Engine,
    ledger: LedgerLike,
    problems: Sequence[Problem],
    asking: Asking,
    *,
    budget: Budget | None = None,
    spending: Spending | None = None,
    voting: Voting | None = None,
    verify_workers: int = 2,
    verify_timeout_seconds: float = 10.0,
    progress: Progress = no_progress,
) -> HarvestSummary:
    """Sample and verify everything that is not in the ledger yet; the summary covers new and known alike.

    Raises: ProblemError for no problems; what the engine and the ledger raise. A budget that ran out is said in the
    summary. Whatever interrupts it, finished samples are in the ledger. `spending`, in the place of `budget`, is of
    a harvest of several workers.
    """
    if not problems:
        raise ProblemError("harvest: there is no problem to sample; check problems.train of the recipe.")
    spending = spending or Spending(budget or Budget(), asking.plan.rungs[0])
    polls = Polls(voting or Voting(), verify_timeout_seconds)
    with VerifierPool(verify_workers, verify_timeout_seconds) as pool, polls:
        running = _Harvest(engine, ledger, problems, asking, pool, polls, spending, progress)
        running.limit = verify_workers * UNVERIFIED_PER_WORKER
        try:
            running.run()
        finally:
            running.commit()
    progress(running.tally.view(engine))
    return running.tally.summary(engine, asking.plan.most)


class _Harvest:
    """One harvest under way."""

    def __init__(
        self,
        engine: Engine,
        ledger: LedgerLike,
        problems: Sequence[Problem],
        asking: Asking,
        pool: VerifierPool,
        polls: Polls,
        spending: Spending,
        progress: Progress,
    ):
        self.engine, self.ledger, self.asking, self.pool, self.polls = engine, ledger, asking, pool, polls
        self.spending, self.progress = spending, progress
        self.tally = Tally(len(problems), spending, asking.plan.most if asking.plan.enough is None else None)
        self.scope = harvest_scope(asking, polls.settings)
        self.limit = UNVERIFIED_PER_WORKER
        """More samples than this wait for no verdict, drawn ones and those of the ledger alike."""
        self._problems = iter(problems)
        self._seen: set[int] = set()
        self._ready: deque[tuple[Entry, Ask]] = deque()
        self._open: dict[int, Entry] = {}
        self._under_way: dict[str, tuple[Entry, Ask]] = {}
        self._unverified: dict[str, tuple[Sample, bool]] = {}
        self._verdicts: list[Verdict] = []
        self._committed_at = time.monotonic()
        self._yields: list[ProblemYield] = []

    def run(self) -> None:
        """Until every problem is settled or a budget ends it."""
        for item in draw(self.engine, self.ledger, self._requests()):
            if isinstance(item, Sample):
                self._drawn(item)
            elif isinstance(item, Unanswered):
                self._unanswered(item)
            self._take_verdicts(self.pool.poll(0.0))
            if item is None:
                self._use_the_pause()
            while self.pool.pending > self.limit:
                self._take_verdicts(self.pool.poll(None))
            if time.monotonic() - self._committed_at >= SECONDS_BETWEEN_COMMITS:
                self.commit()
            self.progress(self.tally.view(self.engine))
        while self.pool.pending:
            self._take_verdicts(self.pool.poll(None))

    def _use_the_pause(self) -> None:
        """Nothing was drawn for a moment: take verdicts while they come."""
        until = time.monotonic() + IDLE_SECONDS
        while self.pool.pending and (left := until - time.monotonic()) > 0:
            self._take_verdicts(self.pool.poll(left))

    def commit(self) -> None:
        """Verdicts, then what settled problems gave."""
        self._committed_at = time.monotonic()
        self.ledger.add_verdicts(self._verdicts)
        self._verdicts = []
        self.ledger.add_yields(self.scope, self._yields)
        self._yields = []

    def _requests(self) -> Iterator[SampleRequest | None]:
        """What to draw next; None while only results can tell."""
        while True:
            if (spent := self.spending.exhausted()) is not None:
                self.tally.stopped_by = spent
                return
            if self.spending.is_reserved():
                yield None
            elif self._ready:
                entry, ask = self._ready.popleft()
                request = self._request(entry, ask)
                self._under_way[request.key(self.engine.fingerprint)] = (entry, ask)
                self.spending.sent()
                yield request
            elif len(self._unverified) > self.limit:
                yield None  # what waits for a verdict is in memory
            elif not self._admit():
                if not self._open:
                    return
                yield None

    def _admit(self) -> bool:
        """Open the next problems; settled ones are only counted. False if none is left."""
        looked_at = list(islice(self._problems, PROBLEMS_PER_LOOK))
        group = [(problem, digest(problem)) for problem in looked_at if self._is_new(problem)]
        settled = self.ledger.get_yields(self.scope, [name for _, name in group])
        entries = []
        for problem, name in group:
            if (found := settled.get(name)) is not None:
                self.spending.known(found.tokens, found.cost_usd, found.samples)
                self.tally.settled_before(problem, found)
            else:
                entries.append(self.asking.entry(problem))
        self._open.update((id(entry), entry) for entry in entries)
        self.tally.problems_open += len(entries)
        self._advance(entries)
        return bool(looked_at)

    def _is_new(self, problem: Problem) -> bool:
        """Whether no earlier problem asks the same: its samples would be the same."""
        name = hash(problem.prompt.strip())  # templates strip a message: the requests would have the same key
        if name in self._seen:
            self.tally.repeated()
            return False
        self._seen.add(name)
        return True

    def _advance(self, entries: Sequence[Entry]) -> None:
        """Answer from the ledger what these problems ask; what it lacks is drawn, or only verified."""
        for entry, ask, sample in self.asking.advance(self.ledger, entries, self._known):
            if sample is None:
                self._ready.append((entry, ask))
            else:
                self._under_way[sample.key] = (entry, ask)
                self.spending.known(*entry.paid(ask, sample), 1)
                self._verify(entry.problem, sample, is_known=True)
        for entry in entries:
            if entry.is_done and self._open.pop(id(entry), None) is not None:
                self._settle(entry)

    def _known(self, entry: Entry, sample: Sample, verdict: Verdict, paid: Paid, *, is_whole: bool) -> None:
        self.spending.known(*paid, 1)
        if is_whole:
            self.tally.verified(entry, sample, verdict, is_known=True)

    def _request(self, entry: Entry, ask: Ask) -> SampleRequest:
        below = self._below(entry, ask)
        return self.asking.request(entry, ask, None if below is None else _as_partial(below))

    def _below(self, entry: Entry, ask: Ask) -> Sample | None:
        """The sample of the rung below, where the ask continues it."""
        if not ask.continues:
            return None
        key = self.asking.request(entry, Ask(ask.index, ask.rung - 1)).key(self.engine.fingerprint)
        return self.ledger.get_samples([key]).get(key)

    def _drawn(self, sample: Sample) -> None:
        entry, ask = self._under_way[sample.key]
        paid = entry.paid(ask, sample)
        self.spending.drawn(*paid)
        self.tally.drawn(paid.tokens)
        self._verify(entry.problem, sample, is_known=False)

    def _verify(self, problem: Problem, sample: Sample, *, is_known: bool) -> None:
        self._unverified[sample.key] = (sample, is_known)
        self.pool.submit(problem, sample)

    def _take_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self._verdicts.append(verdict)
            entry, ask = self._under_way.pop(verdict.sample_key)
            sample, is_known = self._unverified.pop(verdict.sample_key)
            if entry.observe(ask, sample, verdict):
                self.tally.verified(entry, sample, verdict, is_known=is_known)
            self._advance([entry])
        if len(self._verdicts) >= VERDICTS_PER_COMMIT:
            self.commit()

    def _unanswered(self, item: Unanswered) -> None:
        self.spending.drawn(0, None)
        self.tally.unanswered += 1
        entry, ask = self._under_way.pop(item.key)
        entry.state.observe(ask, Result(None, None, is_refused=item.is_refused))
        self._advance([entry])

    def _settle(self, entry: Entry) -> None:
        if entry.problem.verifier == "majority":
            before = entry.outcomes
            self._verdicts += self.polls.vote(entry, self.ledger.get_samples(entry.keys.values()))
            self.tally.voted(entry.problem, before, entry.outcomes)
        found = entry.gave()
        self.tally.settled(found.reason)
        if not entry.state.errors and found.reason != "refused":  # those are tried again by the next harvest
            self._yields.append(found)


def _as_partial(sample: Sample) -> PartialTrace:
    """A truncated sample as what there is to go on from; its splices are counted without the opening marker."""
    reasoning = sample.reasoning or ""
    before = max(0, sample.text.find(reasoning)) if reasoning else 0
    splices = tuple(max(0, position - before) for position in sample.splices)
    return PartialTrace(sample.key, reasoning, sample.answer or "", sample.completion_tokens, splices)
