"""Confidence intervals of counted shares, on the standard library alone.

    wilson_interval(successes=9, trials=10)     # (0.596, 0.982)

Not covered: shares of a benchmark's items (`distill/evaluate/metrics.py`) and the gate's tests.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided Wilson score interval of a share: for rates of independent trials, such as truncation at k = 1."""
    if trials == 0:
        return (0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return (max(0.0, centre - half), min(1.0, centre + half))
