"""What a harvest may spend: tokens, dollars, hours.

    spending = Spending(limits, longest); spending.sent(); spending.drawn(tokens, usd)
    spending.exhausted(); spending.is_reserved()

Requests in flight are expected to cost the mean of what finished (before that the token limit), so that a harvest with
thousands in flight ends near its budget and not thousands of traces past it. Tokens and dollars count what this harvest
has in its ledger, so a resumed one goes on with what is left; hours are of the running command.
Not covered: what the teacher's prices are (its card), the limit of one completion (`policy.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from distill.harvest.progress import BudgetUse
from distill.recipes import Budget


@dataclass(frozen=True, slots=True)
class Spent:
    """Totals of a worker, or of several."""

    tokens: int = 0
    usd: float = 0.0
    in_flight: int = 0
    finished: int = 0

    def plus(self, other: Spent) -> Spent:
        return Spent(
            self.tokens + other.tokens,
            self.usd + other.usd,
            self.in_flight + other.in_flight,
            self.finished + other.finished,
        )


@dataclass(slots=True)
class Spending:
    """Running totals against the limits."""

    limits: Budget
    longest: int
    tokens: int = 0
    usd: float = 0.0
    in_flight: int = 0
    finished: int = 0
    started: float = field(default_factory=time.monotonic)
    elsewhere: Spent = field(default_factory=Spent)
    """What other workers of the same harvest have spent (`ray_worker.py`)."""

    def known(self, tokens: int, usd: float | None, samples: int) -> None:
        """What the ledger has already."""
        self.tokens += tokens
        self.usd += usd or 0.0
        self.finished += samples

    def sent(self) -> None:
        self.in_flight += 1

    def drawn(self, tokens: int, usd: float | None) -> None:
        """A request ended; what it cost may be nothing."""
        self.in_flight -= 1
        self.known(tokens, usd, 1)

    def exhausted(self) -> str | None:
        """The limit that is reached, in words; None if there is room."""
        limits, spent = self.limits, self.spent()
        if limits.tokens is not None and spent.tokens >= limits.tokens:
            return f"budget.tokens: {spent.tokens} of {limits.tokens} tokens"
        if limits.usd is not None and spent.usd >= limits.usd:
            return f"budget.usd: {spent.usd:.2f} of {limits.usd:.2f} dollars"
        hours = (time.monotonic() - self.started) / 3600
        if limits.hours is not None and hours >= limits.hours:
            return f"budget.hours: {hours:.2f} of {limits.hours:g} hours"
        return None

    def is_reserved(self) -> bool:
        """Whether what is in flight is expected to use up what is left: then the next request waits for it."""
        spent = self.spent()
        tokens_each = spent.tokens / spent.finished if spent.finished else self.longest
        usd_each = spent.usd / spent.finished if spent.finished else 0.0
        return spent.in_flight > 0 and (
            (self.limits.tokens is not None and spent.tokens + spent.in_flight * tokens_each >= self.limits.tokens)
            or (self.limits.usd is not None and spent.usd + spent.in_flight * usd_each >= self.limits.usd)
        )

    def spent(self) -> Spent:
        """By all workers of the harvest."""
        return self.here().plus(self.elsewhere)

    def here(self) -> Spent:
        """By this one."""
        return Spent(self.tokens, self.usd, self.in_flight, self.finished)

    def use(self) -> tuple[BudgetUse, ...]:
        """How much of each limit is used."""
        hours = (time.monotonic() - self.started) / 3600
        pairs = (
            ("tokens", self.spent().tokens, self.limits.tokens),
            ("dollars", self.spent().usd, self.limits.usd),
            ("hours", hours, self.limits.hours),
        )
        return tuple(BudgetUse(name, used, limit) for name, used, limit in pairs if limit is not None)
