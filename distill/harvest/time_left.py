"""How long a harvest will take yet, from how long problems stay open; adaptive sampling and its tail are in it.

    left = TimeLeft()
    left.observe(now, problems=3000, started=700, settled=450); left.seconds(now)

A problem is open from its first request until it is settled: solved often enough, hopeless, or out of samples. The mean
time open, W, is the open problems summed over time, by problems settled: the estimate for exponential times of which
some are not over yet, so that the hard ones that are still open count. With A problems open at a time and U not begun,
the last begins after U W / A. Then comes the tail, in which slots empty: the longest of A times is W where all are
alike, and W (1 + 1/2 + ... + 1/A) where they are exponential; a limit on samples a problem makes it something between,
and the geometric mean of the two is taken (tests/harvest/test_time_left.py says how well it does). What counts is the
later half, at least half of the settled problems and half of the time, so a harvest that slows down is seen and a burst
is not taken for speed. Source of W: S. M. Ross, Introduction to Probability and Statistics for Engineers and
Scientists, section 14.3.3 (total time on test divided by failures).
Not covered: budgets, which may end a harvest before (`progress.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_MARKS = 256


@dataclass(frozen=True, slots=True)
class _Mark:
    """Problems settled by sampling so far, and seconds that problems have been open, added up."""

    settled: int
    open_seconds: float


class TimeLeft:
    """Watches counts of problems; `now` is in seconds of one clock."""

    def __init__(self) -> None:
        self._marks = [_Mark(0, 0.0)]
        self._open_seconds = 0.0
        self._last: tuple[float, int] | None = None  # time, problems open then
        self._unstarted = self._open = self._settled = 0

    def observe(self, now: float, *, problems: int, started: int, settled: int, from_ledger: int = 0) -> None:
        """Counts at a moment; `from_ledger` of the settled needed no sampling and say nothing about speed."""
        if self._last is not None:
            self._open_seconds += self._last[1] * (now - self._last[0])
        self._unstarted, self._open = max(0, problems - started), max(0, started - settled)
        self._last = (now, self._open)
        self._settled = max(0, settled - from_ledger)
        if self._settled > self._marks[-1].settled:
            self._marks.append(_Mark(self._settled, self._open_seconds))
            if len(self._marks) > MOST_MARKS:
                self._marks = [self._marks[0], *self._marks[1::2]]

    def seconds(self, now: float) -> float | None:
        """Seconds from `now` to the last problem; None while nothing is settled that had to be sampled."""
        if self._last is None or not self._settled:
            return None
        if not self._open and not self._unstarted:
            return 0.0
        open_seconds = self._open_seconds + self._last[1] * (now - self._last[0])
        since = next(
            mark
            for mark in reversed(self._marks)
            if 2 * mark.settled <= self._settled and 2 * mark.open_seconds <= open_seconds
        )
        mean_open = (open_seconds - since.open_seconds) / (self._settled - since.settled)
        at_a_time = max(1, self._open)
        return mean_open * (self._unstarted / at_a_time + harmonic(at_a_time) ** 0.5)


def harmonic(count: int) -> float:
    """1 + 1/2 + ... + 1/count."""
    return sum(1 / place for place in range(1, count + 1))
