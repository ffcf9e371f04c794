"""How many requests one replica holds at a time: additive increase, multiplicative decrease, and deaf to noise.

    limit = LoadLimit(ceiling=512)
    send = limit.sent(); limit.refused(send, now, running=..., retry_after=...)

A refusal (429, 503, 529) alone says nothing: some gateways refuse a random share of requests at any load. Load is told
apart by what became of the requests around it. Where the server is full nothing more gets in until something finishes,
so most of what is sent is refused; where refusals are noise, most of what is sent gets in. So the limit falls only when
more than half of the last `WINDOW` requests *sent* were refused (a refusal comes at once and an acceptance may take
until the first token, so the order of answers would mislead), then to the number that the server is running, at least
a quarter of before and at most nine tenths. What was sent before a fall does not count for the next one, as in TCP: one
burst is one fall. The limit recovers by `STEP` of the ceiling every `step_seconds`, whether or not anything finishes,
because traces take minutes. Under noise a refused request waits by itself and its slot goes to another; under load the
replica also pauses for the server's Retry-After if it runs nothing: what runs will make room.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW = 32
STEP = 0.02
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class Send:
    """A request on its way; `fall` counts the falls before it was sent."""

    fall: int
    is_refused: bool = False


class LoadLimit:
    """The limit of one replica. Times are of one monotonic clock."""

    def __init__(self, ceiling: int, *, step_seconds: float = 2.0):
        self.ceiling, self.step_seconds = ceiling, step_seconds
        self.falls = 0
        self.paused_until = 0.0
        self._limit = float(ceiling)
        self._sends: deque[Send] = deque(maxlen=WINDOW)
        self._last_step = float("-inf")

    @property
    def limit(self) -> int:
        return max(1, int(self._limit))

    def sent(self) -> Send:
        """A request goes out."""
        send = Send(self.falls)
        self._sends.append(send)
        return send

    def refused(self, send: Send, now: float, *, running: int, retry_after: float | None) -> bool:
        """The server refused a request; `running` others are accepted and unfinished. True if load was the cause."""
        send.is_refused = True
        num_refused = sum(each.is_refused for each in self._sends)
        is_enough = len(self._sends) >= min(WINDOW, 2 * self.limit)
        if send.fall < self.falls or not is_enough or 2 * num_refused <= len(self._sends):
            return False
        self._limit = max(1.0, min(0.9 * self._limit, max(running, self._limit / 4)))
        self._sends.clear()
        self._last_step = now
        self.falls += 1
        if retry_after is not None and not running:  # what runs makes room: the limit is brake enough
            self.paused_until = now + min(retry_after, LONGEST_PAUSE_SECONDS)
        return True

    def recover(self, now: float) -> None:
        """Raise the limit by what is due at `now`; call it now and then."""
        if self._limit < self.ceiling and now - self._last_step >= self.step_seconds:
            self._limit = min(float(self.ceiling), self._limit + max(1.0, STEP * self.ceiling))
            self._last_step = now

    def is_paused(self, now: float) -> bool:
        return now < self.paused_until
