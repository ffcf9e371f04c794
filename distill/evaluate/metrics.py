"""Accuracy figures of repeated samples: pass@1, pass@k, cons@k, and intervals for the two questions one can ask.

    pass_at_k(num_samples=8, num_correct=3, k=4)
    cons_at_k([0, None, 0, 1], [True, False, True, False])     # by answer class, see votes.py

Two estimands, two intervals, and they are not interchangeable:
  benchmark   expected accuracy on exactly these items; the noise is decoding (`decoding_draws`)
  population  expected accuracy on new items like these; the noise is decoding and the choice of items (`item_draws`)
Both return draws of a mean from which bounds and p-values are read; numpy only, the same draws for the same seed.
Not covered: anytime-valid (sequential) inference, and clusters of related items.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import comb
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Side = Literal["low", "high"]

RESAMPLES = 10_000
RESAMPLING_SEED = 20260501
CELLS_PER_CHUNK = 2_000_000  # 16 MiB of float64 at a time


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Unbiased estimate of P(at least one of k samples is correct) from `num_samples` of which `num_correct` are.

    Raises: ValueError unless 1 <= k <= num_samples and 0 <= num_correct <= num_samples.
    Source: Chen et al., https://arxiv.org/abs/2107.03374, eq. (1).
    """
    if not 1 <= k <= num_samples or not 0 <= num_correct <= num_samples:
        raise ValueError(f"pass_at_k({num_samples=}, {num_correct=}, {k=}): expected 1 <= k <= samples >= correct >= 0")
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def cons_at_k(answers: Sequence[Hashable | None], is_correct: Sequence[bool]) -> float:
    """Accuracy of the most frequent answer of these samples; ties are averaged, None never gets a vote.

    Answers are classes (`votes.classes_of`), or texts where there are none. A winner counts by the share of its samples
    that verified, which is 0 or 1 unless the verifier is at odds with itself. No answer at all is 0.
    """
    votes: dict[Hashable, list[bool]] = {}
    for answer, correct in zip(answers, is_correct, strict=True):
        if answer is not None:
            votes.setdefault(answer, []).append(correct)
    if not votes:
        return 0.0
    most = max(map(len, votes.values()))
    winners = [sum(each) / most for each in votes.values() if len(each) == most]
    return sum(winners) / len(winners)


def pass_noise(num_samples: int, num_correct: int, k: int) -> float:
    """Variance of one item's pass@k that decoding alone causes, not underestimated. Raises: ValueError if N < 2k.

    As `votes.consensus_noise`; the mean squared difference of two disjoint blocks is known here: a block of k is all
    wrong with q_k = C(N-c, k) / C(N, k), two are with q_2k, so its variance is q_k - q_2k.
    """
    if num_samples < 2 * k:
        raise ValueError(f"pass_noise: {k=} needs {2 * k} samples, found {num_samples}")
    wrong = num_samples - num_correct
    of_a_block = comb(wrong, k) / comb(num_samples, k) - comb(wrong, 2 * k) / comb(num_samples, 2 * k)
    return of_a_block / (num_samples // k)


def decoding_standard_error(num_correct: Sequence[int], k: int) -> float | None:
    """Standard error of mean accuracy on exactly these items, stratified by item; None (unknown) at k = 1."""
    if k < 2:
        return None
    share = np.asarray(num_correct, dtype=np.float64) / k
    return float(np.sqrt(np.sum(share * (1 - share) / (k - 1))) / len(share))


def item_standard_error(num_correct: Sequence[int], k: int) -> float | None:
    """Standard error of mean accuracy on new items like these, decoding included; None for a single item."""
    share = np.asarray(num_correct, dtype=np.float64) / k
    return float(np.std(share, ddof=1) / np.sqrt(len(share))) if len(share) > 1 else None


def item_draws(
    values: Sequence[float] | Floats, *, endpoint: float, resamples: int = RESAMPLES, seed: int = RESAMPLING_SEED
) -> Floats:
    """Draws of the population mean that items with these values may come from (cluster bootstrap over items).

    Each draw weighs the n items, and one more at `endpoint`, with Dirichlet(1, ..., 1) weights. With `endpoint` the
    least value an item can have, the alpha quantile is a lower confidence bound; with the greatest, mirrored. For 0/1
    values it is Clopper-Pearson's exact bound; it has no trouble where the plain bootstrap has (all values equal, few
    items, skew), and the k samples of an item stay together in its value, so they are never counted as k items.
    Source: Gaffke 2005; Learned-Miller & Thomas, https://arxiv.org/abs/1905.06208 (valid in every case tested, proven
    for 0/1 values and others).
    """
    observed = np.append(np.asarray(values, dtype=np.float64), endpoint)
    generator = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for start, stop in _chunks(resamples, len(observed)):
        weights = generator.standard_exponential((stop - start, len(observed)))
        draws[start:stop] = weights @ observed / weights.sum(axis=1)
    return draws


def decoding_draws(
    num_correct: Sequence[int] | NDArray[np.int64],
    k: int,
    *,
    endpoint: float,
    resamples: int = RESAMPLES,
    seed: int = RESAMPLING_SEED,
) -> Floats:
    """Draws of mean accuracy on exactly these items: every item's k samples are resampled within the item.

    Deviations are widened by sqrt(k / (k - 1)), which makes the variance unbiased for any k >= 2. As in `item_draws`
    one pseudo-sample at `endpoint` (0 for lower bounds, 1 for upper) keeps items that were always right honest.
    Raises: ValueError at k = 1, which says nothing about decoding noise.
    """
    if k < 2:
        raise ValueError("decoding noise cannot be estimated from one sample per item")
    share = np.asarray(num_correct, dtype=np.float64) / k
    generator = np.random.default_rng(seed)
    deviations = np.empty(resamples)
    for start, stop in _chunks(resamples, len(share)):
        resampled = generator.binomial(k, share, size=(stop - start, len(share))) / k
        deviations[start:stop] = (resampled - share).mean(axis=1)
    draws = share.mean() + deviations * np.sqrt(k / (k - 1))
    pseudo_weight = generator.beta(1, share.size * k, size=resamples)
    return np.asarray(draws + pseudo_weight * (endpoint - draws))


def _chunks(resamples: int, columns: int) -> list[tuple[int, int]]:
    size = max(1, CELLS_PER_CHUNK // columns)
    return [(start, min(start + size, resamples)) for start in range(0, resamples, size)]


def population_interval(num_correct: Sequence[int], k: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of accuracy on new items like these."""
    values = np.asarray(num_correct, dtype=np.float64) / k
    tail = (1 - confidence) / 2
    low = float(np.quantile(item_draws(values, endpoint=0.0), tail))
    return (low, min(1.0, float(np.quantile(item_draws(values, endpoint=1.0), 1 - tail))))


def benchmark_interval(num_correct: Sequence[int], k: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Two-sided interval of expected accuracy on exactly these items; None at k = 1."""
    if k < 2:
        return None
    tail = (1 - confidence) / 2
    low = float(np.quantile(decoding_draws(num_correct, k, endpoint=0.0), tail))
    return (max(0.0, low), min(1.0, float(np.quantile(decoding_draws(num_correct, k, endpoint=1.0), 1 - tail))))


def population_intervals(values: Sequence[Sequence[float]], confidence: float = 0.95) -> list[tuple[float, float]]:
    """`population_interval` of several figures of the same items, from the same draws; values[figure][item]."""
    matrix = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(RESAMPLING_SEED)
    lows, highs = np.empty((RESAMPLES, len(matrix))), np.empty((RESAMPLES, len(matrix)))
    for start, stop in _chunks(RESAMPLES, matrix.shape[1] + 1):
        weights = generator.standard_exponential((stop - start, matrix.shape[1] + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        lows[start:stop] = weights[:, :-1] @ matrix.T
        highs[start:stop] = lows[start:stop] + weights[:, -1:]
    tail = (1 - confidence) / 2
    low, high = np.quantile(lows, tail, axis=0), np.quantile(highs, 1 - tail, axis=0)
    return [(float(least), min(1.0, float(most))) for least, most in zip(low, high, strict=True)]


def benchmark_interval_of_blocks(
    values: Sequence[float], variances: Sequence[float], blocks: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Two-sided interval of a figure's expectation on exactly these items, from each item's variance by decoding.

    Normal in the mean over items, with a pseudo-block at 0 (1 for the upper end), as in `decoding_draws`; `blocks` is
    how many disjoint blocks of k samples an item has. Exact only in the limit of many items or blocks; with the block
    variances of overlapping subsets it is wide (cons@k, 1 to 30 items: nominal 95% held the truth in 98% and more).
    """
    mean, n = float(np.mean(values)), len(values)
    spread = float(np.sqrt(np.sum(variances))) / n
    generator = np.random.default_rng(RESAMPLING_SEED)
    draws = mean + spread * generator.standard_normal(RESAMPLES)
    pseudo_weight = generator.beta(1, n * blocks, size=RESAMPLES)
    tail = (1 - confidence) / 2
    low = float(np.quantile(draws * (1 - pseudo_weight), tail))
    high = float(np.quantile(draws + pseudo_weight * (1 - draws), 1 - tail))
    return (max(0.0, low), min(1.0, high))
