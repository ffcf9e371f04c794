"""What `gate_sequential.py` compares: item sets, usual designs (fixed size, peeking, group-sequential), a lower bound.

The usual designs use the stratified z statistic: mean lead over the bar, by its standard error within items. They
assume that it is normal and its variance known; the e-processes of `distill/gate/` assume neither.
Group-sequential boundaries are computed here: Armitage, McPherson & Rowe 1969, JRSS A 132(2), recursive integration.
"""

from __future__ import annotations

from functools import cache
from math import log, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NUM_LOOKS = 4
FIRST_PEEK = 3
"""Rounds before the first peek: the variance within items needs at least two."""


class ItemSet(NamedTuple):
    """Chances of the items, up to a shift of their logits that sets their mean."""

    name: str
    chances: Floats
    bar: float


def item_sets() -> dict[str, ItemSet]:
    """Chances like those of the benchmarks named; the bars are o1-mini's published scores."""
    rng = np.random.default_rng(20260501)
    aime = np.r_[np.full(12, 0.97), np.full(6, 0.85), np.full(5, 0.55), np.full(4, 0.2), np.full(3, 0.02)]
    sets = [
        ItemSet("AIME-like", aime, 0.636),
        ItemSet("GPQA-like", 1 / (1 + np.exp(-rng.normal(0.6, 2.2, 198))), 0.60),
        ItemSet("MATH-like", np.clip(rng.beta(0.9, 0.08, 500), 0.01, 0.995), 0.90),
        ItemSet("flat", np.full(30, 0.636), 0.636),
        ItemSet("near-deterministic", np.r_[np.full(18, 0.995), np.full(3, 0.6), np.full(9, 0.005)], 0.636),
        ItemSet("two clusters", np.r_[np.full(16, 0.9), np.full(14, 0.3)], 0.636),
    ]
    return {each.name: each for each in sets}


def shifted(chances: Floats, mean: float) -> Floats:
    """Chances of this mean, by one shift of all logits."""
    logits = np.log(chances) - np.log1p(-chances)
    low, high = -30.0, 30.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean(1 / (1 + np.exp(-(logits + middle)))) < mean else (low, middle)
    return np.asarray(1 / (1 + np.exp(-(logits + high))))


def least_rounds(student: Floats, other: Floats | None, bar: float, alpha: float) -> float:
    """Mean rounds below which no test can go that always reaches the right verdict, and errs with chance <= alpha.

    Wald's inequality: rounds * KL >= log(1 / alpha), with KL per round to the nearest chances on the other side of the
    bar (of the student's mean, or of its lead over `other`). It holds even where all chances are known to the test.
    """
    low, high = -60.0, 60.0
    for _ in range(200):
        mu = (low + high) / 2
        lead = np.mean(_nearest(student, mu)) - (np.mean(_nearest(other, -mu)) if other is not None else 0.0)
        low, high = (mu, high) if lead > bar else (low, mu)
    kl = _kl(student, _nearest(student, mu)) + (_kl(other, _nearest(other, -mu)) if other is not None else 0.0)
    return -log(alpha) / kl


def _nearest(chances: Floats, mu: float) -> Floats:
    """Chances q nearest in KL under a bound on their mean: chances = q + mu q (1 - q)."""
    if abs(mu) < 1e-9:
        return chances
    root = np.sqrt(np.maximum((1 + mu) ** 2 - 4 * mu * chances, 0.0))
    found = 2 * chances / (1 + mu + root) if mu > -1 else (1 + mu - root) / (2 * mu)
    return np.clip(found, 1e-12, 1 - 1e-12)


def _kl(chances: Floats, nearest: Floats) -> float:
    return float(np.sum(chances * np.log(chances / nearest) + (1 - chances) * np.log((1 - chances) / (1 - nearest))))


class UsualDesigns:
    """Outcomes of the usual designs as rounds come in: 1 pass, -1 fail, 0 undecided, for `batch` runs at once."""

    names = ("fixed", "peeking", "o'brien-fleming", "pocock")

    def __init__(self, batch: int, num_items: int, bar: float, alpha: float, cap_rounds: int) -> None:
        self.bar, self.cap_rounds, self.rounds = bar, cap_rounds, 0
        self.sums, self.squares = np.zeros((batch, num_items)), np.zeros((batch, num_items))
        self.outcome = {name: np.zeros(batch, dtype=int) for name in self.names}
        self.stopped = {name: np.full(batch, cap_rounds) for name in self.names}
        self._normal = NormalDist().inv_cdf(1 - alpha)
        self._looks = {-(-cap_rounds * look // NUM_LOOKS): look for look in range(1, NUM_LOOKS + 1)}
        self._boundaries = {
            "o'brien-fleming": group_sequential_boundaries(alpha, flat=False),
            "pocock": group_sequential_boundaries(alpha, flat=True),
        }

    def update(self, values: Floats) -> None:
        """One round, [batch, items]."""
        self.sums += values
        self.squares += values**2
        self.rounds += 1
        if self.rounds < 2:
            return
        z = self._z()
        if self.rounds >= FIRST_PEEK:
            self._decide("peeking", z, self._normal)
        if self.rounds == self.cap_rounds:
            self._decide("fixed", z, self._normal)
        if self.rounds in self._looks:
            for name, boundary in self._boundaries.items():
                self._decide(name, z, boundary[self._looks[self.rounds] - 1])

    def _z(self) -> Floats:
        means = self.sums / self.rounds
        variance = (self.squares / self.rounds - means**2) * self.rounds / (self.rounds - 1)
        num_items = means.shape[1]
        error = np.sqrt(np.maximum(variance.sum(axis=1) / self.rounds, 1e-9)) / num_items
        return np.asarray((means.mean(axis=1) - self.bar) / error)

    def _decide(self, name: str, z: Floats, boundary: float) -> None:
        now = (self.outcome[name] == 0) & (np.abs(z) >= boundary)
        self.outcome[name][now] = np.sign(z[now])
        self.stopped[name][now] = self.rounds


@cache
def group_sequential_boundaries(alpha: float, *, flat: bool, num_looks: int = NUM_LOOKS) -> tuple[float, ...]:
    """One-sided z boundaries at equally spaced looks: flat (Pocock), or falling as 1/sqrt(time) (O'Brien-Fleming)."""
    shape = [1.0 if flat else sqrt(num_looks / look) for look in range(1, num_looks + 1)]
    low, high = 0.5, 6.0
    for _ in range(40):
        constant = (low + high) / 2
        over = crossing_chance([constant * each for each in shape]) > alpha
        low, high = (constant, high) if over else (low, constant)
    return tuple(high * each for each in shape)


def crossing_chance(boundaries: list[float], points: int = 500) -> float:
    """P(a standard Brownian path is above boundary_k sqrt(k) at some time k = 1, 2, ...)."""
    tail, survivors, grid = 0.0, np.ones(1), np.zeros(1)
    weights = np.ones(1)
    for look, boundary in enumerate(boundaries, start=1):
        top = boundary * sqrt(look)
        tail += float(survivors * weights @ _above(top - grid))
        new = np.linspace(-8.0 * sqrt(look), top, points)
        density = np.exp(-0.5 * (new[:, None] - grid) ** 2) / sqrt(2 * np.pi) @ (survivors * weights)
        grid, survivors = new, density
        weights = np.full(points, new[1] - new[0])
        weights[[0, -1]] /= 2
    return tail


def _above(values: Floats) -> Floats:
    normal = NormalDist()
    return np.asarray([1 - normal.cdf(float(value)) for value in np.atleast_1d(values)])
