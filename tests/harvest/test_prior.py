"""A fitted prior finds what the counts came from, and says what it cannot do."""

from __future__ import annotations

import random

import pytest

from distill.errors import ProblemError
from distill.harvest.prior import LARGEST, SMALLEST, fit_prior


@pytest.mark.parametrize("prior", [(0.3, 0.6), (2.0, 5.0), (4.0, 0.4)])
def test_it_finds_the_prior_whatever_stopped_the_sampling(prior):
    chance, counts = random.Random(1), []
    for _ in range(3000):
        rate, correct, attempts = chance.betavariate(*prior), 0, 0
        while attempts < 12 and correct < 2:
            attempts, correct = attempts + 1, correct + (chance.random() < rate)
        counts.append((correct, attempts))
    a, b = fit_prior(counts)
    assert a / (a + b) == pytest.approx(prior[0] / sum(prior), abs=0.03)
    assert a + b == pytest.approx(sum(prior), rel=0.35)


def test_problems_that_are_all_alike_stay_within_bounds():
    a, b = fit_prior([(4, 4)] * 50)
    assert SMALLEST <= b < a <= LARGEST


def test_nothing_attempted():
    with pytest.raises(ProblemError, match="no attempts"):
        fit_prior([(0, 0)])
