"""The estimate of the time left, against simulated harvests whose true end is known."""

from __future__ import annotations

import heapq
import random

import pytest

from distill.harvest.time_left import TimeLeft, harmonic


def adaptive_harvest(
    chance: random.Random, *, problems: int, slots: int, spread: float
) -> list[tuple[float, int, int]]:
    """(time, started, settled) after every sample: two right answers settle a problem, and so do eight samples.

    A trace takes a log-normal time, mean about 8 minutes; pass rates are anything from hopeless to sure.
    """
    rates = [chance.random() for _ in range(problems)]
    running: list[tuple[float, int, int, int]] = []
    waiting = iter(range(problems))
    events, started, settled, now = [], 0, 0, 0.0

    def draw(problem: int, right: int, drawn: int) -> None:
        seconds = 60 * chance.lognormvariate(1.8, spread)
        heapq.heappush(running, (now + seconds, problem, right, drawn))

    for problem in waiting:
        draw(problem, 0, 0)
        started += 1
        if started == slots:
            break
    while running:
        now, problem, right, drawn = heapq.heappop(running)
        right, drawn = right + (chance.random() < rates[problem]), drawn + 1
        if right < 2 and drawn < 8:
            draw(problem, right, drawn)
        else:
            settled += 1
            if (following := next(waiting, None)) is not None:
                draw(following, 0, 0)
                started += 1
        events.append((now, started, settled))
    return events


@pytest.mark.parametrize(
    ("problems", "slots", "low", "high"),
    [(3000, 64, 0.5, 2.0), (3000, 256, 0.5, 2.0), (400, 256, 0.4, 3.0), (200, 256, 0.4, 6.0), (60, 1, 0.3, 3.0)],
)
@pytest.mark.parametrize("spread", [0.2, 0.8])
def test_estimates_along_a_harvest(problems, slots, low, high, spread):
    """A tenth, a quarter, half and three quarters of the way, by what it took then; the slow last problems included.

    Within a factor of two where problems outnumber slots; with a slot for each problem all is tail: less sure.
    """
    ratios = []
    for seed in range(4):
        events = adaptive_harvest(random.Random(seed), problems=problems, slots=slots, spread=spread)
        end, left = events[-1][0], TimeLeft()
        marks = [0.1, 0.25, 0.5, 0.75]
        for now, started, settled in events:
            left.observe(now, problems=problems, started=started, settled=settled)
            if marks and now >= marks[0] * end:
                marks.pop(0)
                estimate = left.seconds(now)
                ratios += [] if estimate is None else [estimate / (end - now)]
        assert left.seconds(end) == 0.0
    assert len(ratios) >= 12
    assert all(low <= ratio <= high for ratio in ratios), ratios


def test_nothing_is_said_before_a_problem_was_sampled():
    """Problems that the ledger settles say nothing about speed."""
    left = TimeLeft()
    assert left.seconds(0.0) is None
    left.observe(0.0, problems=10, started=4, settled=0)
    left.observe(1.0, problems=10, started=8, settled=5, from_ledger=5)
    assert left.seconds(1.0) is None
    left.observe(11.0, problems=10, started=8, settled=7, from_ledger=5)
    assert left.seconds(11.0) == pytest.approx((4 * 1 + 3 * 10) / 2 * (2 / 1 + 1.0))


def test_time_goes_on_without_news():
    """With nothing finishing the estimate grows: what is open is then slower than was thought."""
    left = TimeLeft()
    left.observe(0.0, problems=4, started=2, settled=0)
    left.observe(10.0, problems=4, started=4, settled=2)
    assert left.seconds(20.0) > left.seconds(10.0) > 0


def test_harmonic():
    assert harmonic(4) == pytest.approx(25 / 12)
