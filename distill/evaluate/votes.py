"""Which samples of an item gave the same answer, and what a vote among k of them would say (cons@k).

    classes = classes_of(problem, ["0.5", "1/2", None, "2"], compare=compare_in(pool))      # (0, 0, None, 1)
    consensus_curve(classes, [True, True, False, False], sizes=[1, 2, 4])                  # {1: 0.5, 2: ..., 4: 1.0}

cons@k of N samples is the mean over all subsets of k of them (a U-statistic): the accuracy of a vote among k new
samples, without bias, where the plain vote over one block of k is one draw of it. Up to `MOST_EXACT` samples an item it
is computed exactly; above, over random subsets with a seed. Samples without an answer never vote, and a tie counts by
the correct share of those that tie.
Not covered: votes weighted by a reward model or by length.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from distill.errors import DistillError, ProblemError
from distill.records import Outcome, Problem
from distill.verify.classes import Compare, answer_classes, checker_of, compare_here
from distill.verify.extract import one_spelling

MOST_EXACT = 256
"""Samples of an item up to which all subsets are counted."""
RANDOM_SUBSETS = 2000
RANDOM_PAIRS = 500
SUBSET_SEED = 20260502
_INTEGER = re.compile(r"-?[0-9]{1,30}")

Counts = NDArray[np.int64]


def classes_of(
    problem: Problem, answers: Sequence[str | None], *, compare: Compare | None = None
) -> tuple[int | None, ...]:
    """The number of each answer's class, 0 for the largest; None where there is no answer.

    Answers that the problem's verifier cannot compare with one another (puzzles, code) are the same where their text
    is. `compare` is for answers that a library reads: give `compare_in(pool)`, for Math-Verify may hang on what a
    model wrote; without it they are compared in this process, without a limit. A failed comparison is no match.
    """
    try:
        name = checker_of(problem)
    except ProblemError:
        spellings = Counter(one_spelling(answer) for answer in answers if answer is not None)
        numbers = {spelling: number for number, (spelling, _) in enumerate(spellings.most_common())}
        return tuple(None if answer is None else numbers[one_spelling(answer)] for answer in answers)
    chosen = _integers_first(compare or _compare_here) if name == "math" else _compare_here
    found: list[int | None] = [None] * len(answers)
    for number, each in enumerate(answer_classes(problem, answers, compare=chosen)):
        for member in each.members:
            found[member] = number
    return tuple(found)


def _integers_first(compare: Compare) -> Compare:
    """Plain integers need no library: 64 answers to a contest question have hundreds of pairs."""

    def compared(problem: Problem, one: str, other: str) -> Outcome:
        if _INTEGER.fullmatch(one) and _INTEGER.fullmatch(other):
            return "correct" if int(one) == int(other) else "wrong"
        return compare(problem, one, other)

    return compared


def _compare_here(problem: Problem, one: str, other: str) -> Outcome:
    """`compare_here`; what the library trips over is no match, as in a pool."""
    try:
        return compare_here(problem, one, other)
    except DistillError:
        raise
    except Exception:  # any library's, on any text
        return "error"


@dataclass(frozen=True, slots=True)
class Votes:
    """An item's votes, in no order: how many samples each class has, what a win of it is worth, who did not vote.

    `correct_shares` is the share of a class's samples that verified: 0 or 1 but for a verifier that is not consistent.
    """

    class_sizes: tuple[int, ...]
    correct_shares: tuple[float, ...]
    silent: int

    @staticmethod
    def of(labels: Sequence[Hashable | None], is_correct: Sequence[bool]) -> Votes:
        sizes: Counter[Hashable] = Counter()
        right: Counter[Hashable] = Counter()
        for label, correct in zip(labels, is_correct, strict=True):
            if label is not None:
                sizes[label] += 1
                right[label] += correct
        pairs = sorted(((size, right[label] / size) for label, size in sizes.items()), reverse=True)
        silent = len(labels) - sum(sizes.values())
        return Votes(tuple(size for size, _ in pairs), tuple(share for _, share in pairs), silent)

    @property
    def num_samples(self) -> int:
        return sum(self.class_sizes) + self.silent


def consensus_curve(
    labels: Sequence[Hashable | None], is_correct: Sequence[bool], sizes: Sequence[int]
) -> dict[int, float]:
    """cons@k for every k of `sizes`. Raises: ValueError unless each is in 1 ... number of samples."""
    votes = Votes.of(labels, is_correct)
    _check_sizes(votes, sizes)
    if votes.num_samples <= MOST_EXACT:
        found = exact_consensus(votes, max(sizes))
        return {k: found[k] for k in sizes}
    generator = np.random.default_rng(SUBSET_SEED)
    pool = _colours(votes, RANDOM_SUBSETS)
    shares = np.asarray([*votes.correct_shares, 0.0])
    return {k: float(_worth(_drawn(generator, pool, k), shares).mean()) for k in sizes}


def consensus_noise(labels: Sequence[Hashable | None], is_correct: Sequence[bool], k: int) -> float:
    """Variance of one item's cons@k that decoding alone causes, not underestimated. Raises: ValueError if N < 2k.

    N samples hold N // k disjoint blocks of k. Half the mean squared difference of two disjoint blocks is the variance
    of a block's vote, without bias, and the mean over all subsets varies no more than the mean over disjoint blocks
    (Hoeffding 1948, section 5). Two blocks are drawn many times from all samples, with a seed.
    """
    votes = Votes.of(labels, is_correct)
    if votes.num_samples < 2 * k:
        raise ValueError(f"consensus_noise: {k=} needs {2 * k} samples, found {votes.num_samples}")
    return _variance_of_a_block(votes, k) / (votes.num_samples // k)


@lru_cache(maxsize=65_536)
def _variance_of_a_block(votes: Votes, k: int) -> float:
    if len(set(votes.correct_shares)) <= 1 and (not votes.silent or not any(votes.correct_shares)):
        return 0.0  # whoever wins is worth the same
    generator = np.random.default_rng(SUBSET_SEED)
    pool = _colours(votes, RANDOM_PAIRS)
    shares = np.asarray([*votes.correct_shares, 0.0])
    first = _drawn(generator, pool, k)
    second = _drawn(generator, pool - first, k)
    return float(np.mean((_worth(first, shares) - _worth(second, shares)) ** 2)) / 2


def _check_sizes(votes: Votes, sizes: Sequence[int]) -> None:
    if not sizes or not all(1 <= k <= votes.num_samples for k in sizes):
        raise ValueError(f"consensus_curve: sizes {list(sizes)}: expected 1 to {votes.num_samples}, the samples")


@lru_cache(maxsize=65_536)
def exact_consensus(votes: Votes, most: int) -> tuple[float, ...]:
    """cons@k for k = 0 ... `most`, over all subsets.

    For every winning count v, polynomials whose coefficient of x^s counts the ways to take s votes: classes with
    fewer than v samples, or of which fewer than v are taken, cannot win; the others tie at v. `ways[s, t]` has t
    classes at v, `worth[s, t]` weighs each way by the sum of those classes' correct shares.
    """
    total = np.zeros(most + 1)
    for winning in range(1, min(most, max(votes.class_sizes, default=0)) + 1):
        total += _worth_at(votes, winning, most)
    silent = [float(comb(votes.silent, absent)) for absent in range(most + 1)]
    found = [0.0]
    for k in range(1, most + 1):
        ways = sum(float(total[voting]) * silent[k - voting] for voting in range(1, k + 1))
        found.append(min(1.0, ways / comb(votes.num_samples, k)))
    return tuple(found)


def _worth_at(votes: Votes, winning: int, most: int) -> NDArray[np.float64]:
    """Ways to take s votes in which the largest class has `winning`, each weighed by its mean correct share."""
    shape = (most + 1, most // winning + 1)
    ways, worth = np.zeros(shape), np.zeros(shape)
    small = sum(size for size in votes.class_sizes if size < winning)
    ways[:, 0] = [float(comb(small, taken)) for taken in range(most + 1)]
    for size, share in zip(votes.class_sizes, votes.correct_shares, strict=True):
        if size < winning:
            continue
        next_ways, next_worth = np.zeros(shape), np.zeros(shape)
        for taken in range(winning):
            next_ways[taken:] += comb(size, taken) * ways[: most + 1 - taken]
            next_worth[taken:] += comb(size, taken) * worth[: most + 1 - taken]
        tied = comb(size, winning)
        next_ways[winning:, 1:] += tied * ways[:-winning, :-1]
        next_worth[winning:, 1:] += tied * (worth + share * ways)[:-winning, :-1]
        ways, worth = next_ways, next_worth
    return np.asarray(worth[:, 1:] @ (1.0 / np.arange(1, shape[1])))


def _colours(votes: Votes, rows: int) -> Counts:
    """[rows, classes + 1]: the samples of each class, and last those that do not vote."""
    return np.tile(np.asarray([*votes.class_sizes, votes.silent], dtype=np.int64), (rows, 1))


def _drawn(generator: np.random.Generator, pool: Counts, k: int) -> Counts:
    """For every row, how many of k samples drawn without replacement are of each class."""
    drawn, left = np.zeros_like(pool), np.full(len(pool), k, dtype=np.int64)
    rest = pool.sum(axis=1)
    for column in range(pool.shape[1]):
        rest = rest - pool[:, column]
        drawn[:, column] = generator.hypergeometric(pool[:, column], rest, left)
        left = left - drawn[:, column]
    return drawn


def _worth(drawn: Counts, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the vote of each row is worth; the last column does not vote."""
    counts = drawn[:, :-1]
    most = counts.max(axis=1, initial=0)
    is_winner = (counts == most[:, None]) & (most[:, None] > 0)
    return np.asarray((is_winner @ shares[:-1]) / np.maximum(is_winner.sum(axis=1), 1))
