"""A Beta prior of pass rates, fitted to the first problems of a harvest.

    from distill.harvest.prior import fit_prior
    a, b = fit_prior([(3, 8), (0, 8), (8, 8), ...])       # correct, attempts of each problem
    # harvest.adaptive.prior: [a, b]

Worth it where pass rates lie to one side: see docs/harvest-adaptive.md. Not covered: problems that can never be solved
(a wrong gold answer) are part of the fit; a Beta has no point mass at zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from distill.errors import ProblemError

SMALLEST, LARGEST = 0.02, 200.0
"""Bounds of a and b: without them the likelihood of problems that are all alike has no maximum."""


def fit_prior(counts: Iterable[tuple[int, int]]) -> tuple[float, float]:
    """(a, b) of greatest beta-binomial likelihood of (correct, attempts) pairs, rounded to 3 digits.

    A rule that stops on the results seen so far leaves the likelihood as it is. Raises: ProblemError where no problem
    was attempted.
    Source: Griffiths, Biometrics 29 (1973), 637-648.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]
    from scipy.special import betaln  # type: ignore[import-untyped]

    weights = Counter((correct, attempts) for correct, attempts in counts if attempts > 0)
    if not weights:
        raise ProblemError("fit_prior: expected (correct, attempts) of at least one problem, found no attempts.")

    def loss(logs: tuple[float, float]) -> float:
        a, b = math.exp(logs[0]), math.exp(logs[1])
        return -sum(
            weight * float(betaln(a + correct, b + attempts - correct) - betaln(a, b))
            for (correct, attempts), weight in weights.items()
        )

    bounds = [(math.log(SMALLEST), math.log(LARGEST))] * 2
    found = minimize(loss, (math.log(0.5), math.log(0.5)), method="L-BFGS-B", bounds=bounds)
    return round(math.exp(found.x[0]), 3), round(math.exp(found.x[1]), 3)
