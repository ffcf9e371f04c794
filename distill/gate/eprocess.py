"""Evidence that the mean score of a fixed set of items lies above a bar: a stratified e-process, exact at any n.

    process = EProcess(0.636, num_items=30, betting=Betting(alpha=0.05, horizon_rounds=64))
    process.update(values)                    # one round: the score of one completion of every item, in [0, 1]
    process.log_e[0] >= log(1 / 0.05)         # "the mean is at most 0.636" is rejected, whenever one looks

Derivation (all that validity rests on; check it by hand):

1. Round t gives x_1..x_n in [0, 1], one of each item, independent of one another and of earlier rounds, E x_i = p_i.
   Items may differ in any way. F_t is what the first t rounds showed. Weights g_i > 0 have mean 1 (all 1, unless
   tasks of different size count the same). H0: mean_i g_i p_i <= bar.
2. Before round t, from F_{t-1} alone, choose centres r_i with mean_i g_i r_i >= bar, and a stake
   0 <= mu < 1 / max_i g_i r_i. The round's factor is B = prod_i (1 + mu g_i (x_i - r_i)). Every term is positive.
3. By independence E[B | F_{t-1}] = prod_i (1 + mu g_i (p_i - r_i)). These n terms are positive too, so by the
   inequality of arithmetic and geometric means this is at most (mean of the terms)^n =
   (1 + mu (mean g_i p_i - mean g_i r_i))^n, which under H0 is at most 1. So wealth, the product of the factors so far,
   is a nonnegative supermartingale that starts at 1; so is a mixture of such products with weights that sum to 1.
   That mixture is E_t.
4. Ville: P(E_t >= 1/alpha for some t) <= alpha under H0. No variance is estimated, no limit is taken, and any reason to
   stop is allowed (budget, a look at the score, a kill), as long as E is read off after complete rounds.
5. Only complete rounds: in 3 the mean runs over all n items. If only the answers that came first counted, then whether
   x_i counts would depend on x_i (wrong answers are longer), and neither E x_i nor the mean would be that of H0.
6. Two sides (`sequential.py`): the same process on 1 - x, against 1 - bar, rejects "the mean is at least bar". Where
   one null is true the other side's verdict is the right one, so each error keeps its own alpha; only at a mean exactly
   at a bar that both sides share is either verdict wrong, with chance at most alpha_pass + alpha_fail.
7. Pairs: with x_i = (student - other + 1) / 2 the same lines hold; the two models may depend on each other within an
   item in any way.

What stratification adds: near the bar log B grows by mu n gap - mu^2/2 sum_i g_i^2 E(x_i - r_i)^2. With r_i at p_i that
is the spread within items, sum p_i (1 - p_i), not that of pooled answers, n p (1 - p). And B is no ad-hoc choice: of
0/1 answers with chances q_i, the null nearest to q (least sum of KL) has q_i = r_i + mu g_i r_i (1 - r_i), and the
likelihood ratio of q to it is B itself, so B is the growth-optimal e-variable of q (arXiv:1906.07801, theorem 1).

Everything else is policy: it changes how fast E grows, never whether it is valid. Centres: running means of the items,
shrunk, tilted to the bar along their variances. Stakes: a mixture over decision times (growth; the longest for
evidence that is continued with a larger cap), and a share of wealth that plays for 1/alpha at the cap itself (reaching
a goal by a deadline: Browne 1999, Adv. Appl. Prob. 31(2)). That share is the final test at the cap: it wins back part
of the power that betting lacks near the bar, and is still a bet.
Related: Waudby-Smith & Ramdas, arXiv:2010.09686; Turner & Grunwald, arXiv:2302.11401; Spertus et al., arXiv:2409.06680.
Not covered: dependence between items or rounds (a server that repeats a seed), and new items (`population.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp, log, pi, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DECISION_TIMES = (1 / 24, 1 / 8, 3 / 8, 4.0)
"""Rounds to a decision that the growth stakes are best for, as shares of the horizon; the last is for evidence that is
continued with a larger cap."""
DECISION_TIME_PRIOR = (0.2, 0.45, 0.2, 0.15)
SHORTEST_DECISION_ROUNDS = 0.5
PRIOR_ROUNDS = 1.0
"""An item's running mean is shrunk towards that of all items as if so many rounds of it had been seen."""
LARGEST_STAKE = 0.95
"""Share of the stake at which one answer could take all wealth."""
LEAST_MEAN = 0.005
LEAST_DISPERSION = 0.1
TILT_TOLERANCE = 1e-9
_TILT_RANGE = 60.0


@dataclass(frozen=True, slots=True)
class Betting:
    """How wealth is staked. `final_share` of it plays for the cap (0: betting without a final test)."""

    alpha: float
    horizon_rounds: int
    final_share: float = 0.2

    @property
    def signal_to_noise(self) -> Floats:
        """Per round, of the gaps that the growth stakes are best for: T rounds decide at sqrt(2 log(e/alpha) / T)."""
        times = np.maximum(np.asarray(DECISION_TIMES) * self.horizon_rounds, SHORTEST_DECISION_ROUNDS)
        return np.asarray(np.sqrt(2 * (1 - log(self.alpha)) / times))


class EProcess:
    """E-process of "the mean is at most `bar`", for `batch` independent runs at once (simulation; otherwise 1)."""

    def __init__(
        self, bar: float, num_items: int, betting: Betting, *, weights: Floats | None = None, batch: int = 1
    ) -> None:
        """Raises: ValueError unless 0 < bar < 1, there is an item, and `weights` (mean 1) are positive."""
        self.bar, self.betting = bar, betting
        self.weights = np.ones(num_items) if weights is None else np.asarray(weights, dtype=np.float64)
        if not 0 < bar < 1 or num_items < 1:
            raise ValueError(f"e-process: expected 0 < bar < 1 and items, found {bar=}, {num_items=}")
        if self.weights.shape != (num_items,) or self.weights.min() <= 0 or abs(self.weights.mean() - 1) > 1e-9:
            raise ValueError("e-process: expected a positive weight for every item, of mean 1")
        self.rounds = 0
        self.sums = np.zeros((batch, num_items))
        self.squares = np.zeros((batch, num_items))
        self.log_growth = np.broadcast_to(np.log(DECISION_TIME_PRIOR), (batch, len(DECISION_TIMES))).copy()
        self.log_final = np.zeros(batch)

    @property
    def log_e(self) -> Floats:
        """Natural logarithm of the evidence, shape [batch]."""
        share = self.betting.final_share
        growth = np.logaddexp.reduce(self.log_growth, axis=1)
        if share == 0:
            return np.asarray(growth)
        return np.asarray(np.logaddexp(log(1 - share) + growth, log(share) + self.log_final))

    @property
    def is_final_spent(self) -> bool:
        """Whether the share that plays for the cap has been played: it stakes nothing after the horizon."""
        return self.betting.final_share > 0 and self.rounds >= self.betting.horizon_rounds

    def update(self, values: Floats) -> None:
        """Take in one complete round, shape [batch, items], values in [0, 1]."""
        if values.shape != self.sums.shape or not (values.min() >= 0 and values.max() <= 1):  # so that NaN is refused
            raise ValueError(f"e-process: expected values in [0, 1] of shape {self.sums.shape}, found {values.shape}")
        centres, variance = self.centres()
        largest = LARGEST_STAKE / np.max(self.weights * centres, axis=1)
        noise = np.sqrt(variance * values.shape[1])
        deviations = self.weights * (values - centres)
        final = self._final_stake(noise, largest)  # before growth moves: both see only earlier rounds
        for column, signal in enumerate(self.betting.signal_to_noise):
            stake = np.minimum(signal / noise, largest)
            self.log_growth[:, column] += np.log1p(stake[:, None] * deviations).sum(axis=1)
        if final is not None:
            self.log_final += np.log1p(final[:, None] * deviations).sum(axis=1)
        self.rounds += 1
        self.sums += values
        self.squares += values**2

    def centres(self) -> tuple[Floats, Floats]:
        """Centres r_i of the next round, [batch, items], and their mean variance g_i^2 v_i, [batch]."""
        means = self._shrunk(self.sums)
        dispersion = (self._shrunk(self.squares) - means**2) / (means * (1 - means))
        dispersion = np.clip(dispersion, LEAST_DISPERSION, 1.0)  # 1 for 0/1 answers, less where values lie between
        centres = tilt_to_bar(np.clip(means, LEAST_MEAN, 1 - LEAST_MEAN), dispersion, self.weights, self.bar)
        inside = np.clip(centres, LEAST_MEAN, 1 - LEAST_MEAN)
        return centres, np.mean(self.weights**2 * dispersion * inside * (1 - inside), axis=1)

    def _shrunk(self, sums: Floats) -> Floats:
        overall = (sums.sum(axis=1, keepdims=True) + self.bar) / (sums.shape[1] * self.rounds + 1)
        return np.asarray((sums + PRIOR_ROUNDS * overall) / (self.rounds + PRIOR_ROUNDS))

    def _final_stake(self, noise: Floats, largest: Floats) -> Floats | None:
        """Stake of the share that plays for the cap, from its wealth as a fraction of what is still missing."""
        share, left = self.betting.final_share, self.betting.horizon_rounds - self.rounds
        if share == 0 or left <= 0:
            return None
        growth = (1 - share) * np.exp(np.minimum(np.logaddexp.reduce(self.log_growth, axis=1), 500.0))
        missing = np.maximum(1 / self.betting.alpha - growth, 1e-9)
        slope = goal_slope(log(share) + self.log_final - np.log(missing))
        return np.minimum(slope / (noise * sqrt(left)), largest)

    def state(self) -> dict[str, Any]:
        """JSON-clean state of a single run; `restore` continues from it bit for bit."""
        assert len(self.sums) == 1, "only a single run has a state"
        return {
            "rounds": self.rounds,
            "sums": self.sums[0].tolist(),
            "squares": self.squares[0].tolist(),
            "log_growth": self.log_growth[0].tolist(),
            "log_final": float(self.log_final[0]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Raises: KeyError, ValueError or TypeError if it is not a state of a process of this many items."""
        arrays = {name: np.asarray([state[name]], dtype=np.float64) for name in ("sums", "squares", "log_growth")}
        for name, array in arrays.items():
            if array.shape != getattr(self, name).shape or not np.isfinite(array).all():
                raise ValueError(f"{name}: expected {getattr(self, name).shape[1]} finite numbers")
        rounds, log_final = int(state["rounds"]), float(state["log_final"])
        if rounds < 0 or not np.isfinite(log_final):
            raise ValueError("rounds or log_final: expected a count and a finite number")
        self.rounds, self.log_final = rounds, np.asarray([log_final])
        self.sums, self.squares, self.log_growth = arrays["sums"], arrays["squares"], arrays["log_growth"]


def tilt_to_bar(means: Floats, dispersion: Floats, weights: Floats, bar: float) -> Floats:
    """Move item means along their variances until their weighted mean is `bar` (at least: rounding goes upwards).

    Shapes: means, dispersion [batch, items]; weights [items]. Newton's method on the common tilt, kept in a bracket.
    """
    direction = weights * dispersion
    direction = direction / direction.max(axis=1, keepdims=True)
    logits = np.log(means) - np.log1p(-means)
    tilt = np.zeros((len(means), 1))
    low, high = tilt - _TILT_RANGE, tilt + _TILT_RANGE
    for _ in range(60):
        centres = 1 / (1 + np.exp(-(logits + tilt * direction)))
        excess = np.mean(weights * centres, axis=1, keepdims=True) - bar
        if np.abs(excess).max() < TILT_TOLERANCE:
            break
        low, high = np.where(excess > 0, low, tilt), np.where(excess > 0, tilt, high)
        slope = np.mean(weights * direction * centres * (1 - centres), axis=1, keepdims=True)
        newton = tilt - excess / np.maximum(slope, 1e-12)
        tilt = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
    missing = bar - np.mean(weights * centres, axis=1, keepdims=True)
    return np.asarray(centres + missing + 4 * np.finfo(np.float64).eps)


@cache
def _goal_table() -> tuple[Floats, Floats]:
    normal = NormalDist()
    scores = np.linspace(-6.0, 4.0, 801)
    reached = np.asarray([normal.cdf(score) for score in scores])
    density = np.asarray([exp(-score * score / 2) / sqrt(2 * pi) for score in scores])
    return np.log(reached), density / reached


def goal_slope(log_fraction: Floats) -> Floats:
    """Stake, in units of 1 / (noise of what is left), that most likely brings this fraction of a goal to the whole.

    A digital option's hedge: with y the normal quantile of the fraction, density(y) / fraction.
    """
    log_reached, slope = _goal_table()
    return np.asarray(np.interp(log_fraction, log_reached, slope))
