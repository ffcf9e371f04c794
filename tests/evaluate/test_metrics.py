"""pytest tests/evaluate/test_metrics.py"""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from distill.evaluate import metrics


@pytest.mark.parametrize(("n", "c", "k"), [(5, 0, 2), (5, 2, 1), (5, 2, 3), (6, 3, 6), (4, 4, 2)])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(n, c, k):
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert metrics.pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0)])
def test_pass_at_k_refuses_what_has_no_meaning(n, c, k):
    with pytest.raises(ValueError, match="pass_at_k"):
        metrics.pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["7", "7", "3"], [True, True, False], 1.0),
        (["7", "3", "3"], [True, False, False], 0.0),
        (["7", "3"], [True, False], 0.5),  # a tie counts by its correct share
        (["7", "3", "4"], [True, False, False], 1 / 3),
        ([None, None, None, "7"], [False, False, False, True], 1.0),  # no answer is no vote
        ([None, None], [False, False], 0.0),
        (["7.0", "7", "3"], [True, True, False], 2 / 3),  # two spellings are two candidates
    ],
)
def test_cons_at_k(answers, correct, expected):
    assert metrics.cons_at_k(answers, correct) == pytest.approx(expected)


def test_item_draws_on_zeros_and_ones_are_clopper_pearson():
    values = [1.0] * 50 + [0.0] * 10
    low = np.quantile(metrics.item_draws(values, endpoint=0.0, resamples=50_000), 0.05)
    tail = sum(comb(60, c) * low**c * (1 - low) ** (60 - c) for c in range(50, 61))
    assert tail == pytest.approx(0.05, abs=0.004)


def test_bounds_stay_honest_where_every_item_was_right():
    low, high = metrics.population_interval([1] * 60, 1)
    assert low == pytest.approx(0.025 ** (1 / 60), abs=0.003) and high == 1.0
    low, _ = metrics.benchmark_interval([4] * 60, 4)
    assert low == pytest.approx(0.025 ** (1 / 240), abs=0.001)


def test_draws_are_the_same_in_every_run():
    values = [0.0, 0.5, 1.0]
    assert np.array_equal(metrics.item_draws(values, endpoint=0.0), metrics.item_draws(values, endpoint=0.0))


def test_decoding_draws_have_the_stratified_standard_error():
    counts, k = [0, 1, 2, 3, 4] * 40, 4
    draws = metrics.decoding_draws(counts, k, endpoint=0.0)
    assert np.std(draws) == pytest.approx(metrics.decoding_standard_error(counts, k), rel=0.05)


def test_the_two_standard_errors_by_hand():
    # shares 0, 1/2, 1/2, 1: within-item variances 0, 1/4, 1/4, 0 over k - 1 = 1; sd over items = sqrt(1/6)
    assert metrics.decoding_standard_error([0, 1, 1, 2], 2) == pytest.approx(np.sqrt(0.5) / 4)
    assert metrics.item_standard_error([0, 1, 1, 2], 2) == pytest.approx(np.sqrt(1 / 6) / 2)
    assert metrics.decoding_standard_error([0, 1], 1) is None and metrics.benchmark_interval([0, 1], 1) is None
