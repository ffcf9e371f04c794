"""Running counts of a harvest: what its live display shows and its summary is made from.

Not covered: what they look like (`progress.py`), what may be spent (`budget.py`).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict

from distill.engines.base import Engine
from distill.harvest.asking import Entry
from distill.harvest.budget import Spending
from distill.harvest.progress import HarvestView
from distill.harvest.summary import FamilyYield, HarvestSummary
from distill.records import Problem, ProblemYield, Sample, Verdict


class Tally:
    """Counts of samples, new and known alike, and of problems; `samples_each` where every problem has as many."""

    def __init__(self, num_problems: int, spending: Spending, samples_each: int | None):
        self.num_problems, self.spending, self.samples_each = num_problems, spending, samples_each
        self.started = time.monotonic()
        self.problems_settled = self.problems_open = self.problems_covered = 0
        self.samples = self.samples_known = self.samples_new = 0
        self.tokens = self.tokens_new = self.accepted = 0
        self.cost_usd: float | None = None
        self.finish_reasons: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.settled_by: Counter[str] = Counter()
        self.families: dict[str, FamilyYield] = defaultdict(FamilyYield)
        self.problems_settled_before = self.unanswered = 0
        self.stopped_by: str | None = None

    def repeated(self) -> None:
        """A problem asks what another one asked: it is none of its own."""
        self.num_problems -= 1

    def drawn(self, tokens: int) -> None:
        """The engine finished a sample, with so many new tokens; its verdict is to come."""
        self.samples_new += 1
        self.tokens_new += tokens

    def verified(self, entry: Entry, sample: Sample, verdict: Verdict, *, is_known: bool) -> None:
        """A whole sample and what was said of it."""
        self._count(entry.problem, {verdict.outcome: 1}, {sample.finish_reason: 1}, sample.completion_tokens)
        self._add_cost(sample.cost_usd)
        self.samples_known += is_known
        if verdict.outcome == "correct" and entry.outcomes["correct"] == 1:
            self.problems_covered += 1

    def voted(self, problem: Problem, before: Counter[str], now: Counter[str]) -> None:
        """A vote changed what was said of samples that are counted."""
        self.outcomes.subtract(before)
        self.outcomes.update(now)
        self.outcomes = +self.outcomes
        more = now["correct"] - before["correct"]
        self.accepted += more
        self.families[problem.family].accepted += more
        self.problems_covered += bool(now["correct"]) - bool(before["correct"])

    def settled(self, reason: str) -> None:
        """Nothing more is drawn of a problem that was open."""
        self.problems_settled += 1
        self.problems_open -= 1
        self.settled_by[reason] += 1

    def settled_before(self, problem: Problem, found: ProblemYield) -> None:
        """A problem that an earlier harvest settled."""
        self._count(problem, found.outcomes, found.finish_reasons, found.tokens)
        self._add_cost(found.cost_usd)
        self.samples_known += found.samples
        self.problems_covered += found.accepted > 0
        self.problems_settled += 1
        self.problems_settled_before += 1
        self.settled_by[found.reason] += 1

    def _count(self, problem: Problem, outcomes: dict[str, int], finish_reasons: dict[str, int], tokens: int) -> None:
        samples, accepted = sum(finish_reasons.values()), outcomes.get("correct", 0)
        self.samples += samples
        self.tokens += tokens
        self.accepted += accepted
        for outcome, count in outcomes.items():  # twice as fast as Counter.update, and a million rows come through here
            self.outcomes[outcome] += count
        for finish_reason, count in finish_reasons.items():
            self.finish_reasons[finish_reason] += count
        family = self.families[problem.family]
        family.samples += samples
        family.tokens += tokens
        family.accepted += accepted

    def _add_cost(self, usd: float | None) -> None:
        if usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + usd

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def accept_rate(self) -> float:
        return self.accepted / self.samples if self.samples else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_new / self.seconds if self.seconds > 0 else 0.0

    def view(self, engine: Engine) -> HarvestView:
        """A moment of the harvest, as its live display shows it."""
        live = getattr(engine, "live", None)  # of engines that have slots
        return HarvestView(
            problems=self.num_problems,
            started=self.problems_settled + self.problems_open,
            settled=self.problems_settled,
            settled_from_ledger=self.problems_settled_before,
            samples=self.samples,
            samples_wanted=None if self.samples_each is None else self.samples_each * self.num_problems,
            samples_from_ledger=self.samples_known,
            tokens=self.tokens,
            new_tokens=self.tokens_new,
            verified=self.samples,
            accepted=self.accepted,
            verifier_errors=self.outcomes["error"],
            cost_usd=self.cost_usd,
            seconds=self.seconds,
            budgets=self.spending.use(),
            engine=live() if live is not None else None,
            errors={"unanswered": self.unanswered} if self.unanswered else {},
        )

    def summary(self, engine: Engine, samples_per_problem: int) -> HarvestSummary:
        return HarvestSummary(
            teacher=engine.model,
            teacher_fingerprint=engine.fingerprint,
            problems=self.num_problems,
            problems_settled=self.problems_settled,
            problems_covered=self.problems_covered,
            settled_by=dict(sorted(self.settled_by.items())),
            stopped_by=self.stopped_by,
            samples_per_problem=samples_per_problem,
            samples=self.samples,
            samples_from_ledger=self.samples_known,
            completion_tokens=self.tokens,
            cost_usd=None if self.cost_usd is None else round(self.cost_usd, 6),
            accepted=self.accepted,
            outcomes=dict(sorted(self.outcomes.items())),
            finish_reasons=dict(sorted(self.finish_reasons.items())),
            families=dict(sorted(self.families.items())),
            seconds=round(self.seconds, 2),
            tokens_per_second=round(self.tokens_per_second, 1),
        )
