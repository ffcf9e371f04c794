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
        limits = self.limits
        if limits.tokens is not None and self.tokens >= limits.tokens:
            return f"budget.tokens: {self.tokens} of {limits.tokens} tokens"
        if limits.usd is not None and self.usd >= limits.usd:
            return f"budget.usd: {self.usd:.2f} of {limits.usd:.2f} dollars"
        hours = (time.monotonic() - self.started) / 3600
        if limits.hours is not None and hours >= limits.hours:
            return f"budget.hours: {hours:.2f} of {limits.hours:g} hours"
        return None

    def is_reserved(self) -> bool:
        """Whether what is in flight is expected to use up what is left: then the next request waits for it."""
        tokens_each = self.tokens / self.finished if self.finished else self.longest
        usd_each = self.usd / self.finished if self.finished else 0.0
        return self.in_flight > 0 and (
            (self.limits.tokens is not None and self.tokens + self.in_flight * tokens_each >= self.limits.tokens)
            or (self.limits.usd is not None and self.usd + self.in_flight * usd_each >= self.limits.usd)
        )

    def use(self) -> tuple[BudgetUse, ...]:
        """How much of each limit is used."""
        hours = (time.monotonic() - self.started) / 3600
        pairs = (
            ("tokens", self.tokens, self.limits.tokens),
            ("dollars", self.usd, self.limits.usd),
            ("hours", hours, self.limits.hours),
        )
        return tuple(BudgetUse(name, used, limit) for name, used, limit in pairs if limit is not None)
