"""How many requests one replica holds at a time: additive increase, multiplicative decrease, and deaf to noise.

    limit = LoadLimit(ceiling=512)
    limit.accepted(now); limit.refused(now, sent_at=..., running=..., retry_after=...)

A refusal (429, 503, 529) alone says nothing: some gateways refuse a random share of requests at any load. Load is told
apart by what refusals do to the requests around them. Where the server is full, nothing more gets in until something
finishes, so refusals are most of the answers; where they are noise, most requests around them are accepted. So the
limit falls only when more than half of the last `WINDOW` answers are refusals, then to the number that the server is
running (at least a quarter of before, at most nine tenths), and only answers to requests sent after the last fall count
for the next one, as in TCP: one burst is one fall. It recovers by `STEP` of the ceiling every `step_seconds`, whether
or not anything finishes, because traces take minutes. Under noise a refused request waits by itself and its slot goes
to another; under load the replica also pauses for the server's Retry-After.
"""

from __future__ import annotations

from collections import deque

WINDOW = 16
STEP = 0.02
LONGEST_PAUSE_SECONDS = 60.0


class LoadLimit:
    """The limit of one replica. Times are of one monotonic clock."""

    def __init__(self, ceiling: int, *, step_seconds: float = 2.0):
        self.ceiling, self.step_seconds = ceiling, step_seconds
        self.falls = 0
        self.paused_until = 0.0
        self._limit = float(ceiling)
        self._answers: deque[bool] = deque(maxlen=WINDOW)  # True for a refusal
        self._last_fall = self._last_step = float("-inf")

    @property
    def limit(self) -> int:
        return max(1, int(self._limit))

    def accepted(self, sent_at: float) -> None:
        """The server took a request that was sent at `sent_at`."""
        if sent_at >= self._last_fall:
            self._answers.append(False)

    def refused(self, now: float, *, sent_at: float, running: int, retry_after: float | None) -> bool:
        """The server refused a request; `running` others are accepted and unfinished. True if load was the cause."""
        if sent_at < self._last_fall:
            return False
        self._answers.append(True)
        if len(self._answers) < min(WINDOW, 2 * self.limit) or sum(self._answers) * 2 <= len(self._answers):
            return False
        floor = max(running, self._limit / 4)
        self._limit = max(1.0, min(0.9 * self._limit, floor))
        self._answers.clear()
        self._last_fall = self._last_step = now
        self.falls += 1
        if retry_after is not None:
            self.paused_until = now + min(retry_after, LONGEST_PAUSE_SECONDS)
        return True

    def recover(self, now: float) -> None:
        """Raise the limit by what is due at `now`; call it now and then."""
        if self._limit < self.ceiling and now - self._last_step >= self.step_seconds:
            self._limit = min(float(self.ceiling), self._limit + max(1.0, STEP * self.ceiling))
            self._last_step = now

    def is_paused(self, now: float) -> bool:
        return now < self.paused_until
