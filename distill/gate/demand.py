"""What a sequential gate asks of a mean score: bars, direction, error levels, cap.

    against_constant(0.636, margin=0.03)                      # PASS: certainly above 0.606; FAIL: certainly below it
    against_constant(0.636, margin=0.03, fails_below="reference")         # FAIL: certainly below 0.636
    against_model(ratio=0.85)                                 # on values student - 0.85 x other, item by item
    against_constant(9000, direction="lower", lowest=0, highest=32768)    # mean tokens

PASS rejects "the mean is at most pass_bar", FAIL rejects "the mean is at least fail_bar". With `fails_below: bar` both
are the demand itself: a model is not failed that meets it, and one exactly at the bar stays undecided. With
`reference`, a model between the bars is right to pass (within the margin) and right to fail (certainly worse than the
reference), whichever is shown first: every model gets a verdict, in few rounds.
Not covered: testing it (`sequential.py`), and reading it from a gate file (`spec.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from distill.errors import GateError
from distill.gate.statistics import Estimand

Direction = Literal["higher", "lower"]
FailsBelow = Literal["bar", "reference"]


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the mean score; bars, and the range of one score, are in the metric's units."""

    pass_bar: float
    fail_bar: float
    lowest: float = 0.0
    highest: float = 1.0
    direction: Direction = "higher"
    estimand: Estimand = "benchmark"
    alpha_pass: float = 0.05
    alpha_fail: float = 0.05
    cap_rounds: int = 64
    final_share: float = 0.2

    def __post_init__(self) -> None:
        bars = [self.unit(self.pass_bar), self.unit(self.fail_bar)]
        if not all(0 < bar < 1 for bar in bars) or bars[0] > bars[1] + 1e-12:
            raise GateError(
                f"gate: bars {self.pass_bar:g} (pass) and {self.fail_bar:g} (fail): expected both inside the range of "
                f"a score, {self.lowest:g} to {self.highest:g}, or the verdict is known without a sample; change the "
                "margin or the constant."
            )
        if not (0 < self.alpha_pass < 1 and 0 < self.alpha_fail < 1 and 0 <= self.final_share < 1):
            raise GateError("gate: expected 0 < alpha < 1 for each side, and 0 <= final_share < 1.")
        if self.cap_rounds < 1:
            raise GateError(f"gate: cap_rounds: expected at least 1, found {self.cap_rounds}.")

    def unit(self, score: float) -> float:
        """A score as a number from 0 to 1, of which more is better."""
        share = (score - self.lowest) / (self.highest - self.lowest)
        return share if self.direction == "higher" else 1 - share

    def score(self, unit: float) -> float:
        """The inverse of `unit`."""
        share = unit if self.direction == "higher" else 1 - unit
        return self.lowest + share * (self.highest - self.lowest)


def against_constant(value: float, *, margin: float = 0.0, fails_below: FailsBelow = "bar", **settings: Any) -> Demand:
    """score >= value - margin (direction "lower": score <= value + margin); `settings` are fields of `Demand`."""
    sign = -1 if settings.get("direction", "higher") == "higher" else 1
    bar = value + sign * margin
    return Demand(pass_bar=bar, fail_bar=bar if fails_below == "bar" else value, **settings)


def against_model(
    *, ratio: float = 1.0, margin: float = 0.0, fails_below: FailsBelow = "bar", **settings: Any
) -> Demand:
    """student >= ratio x other - margin on the same items; a round's value is `student - ratio * other`.

    `lowest` and `highest` are of one model's score, 0 and 1 unless given.
    """
    low, high = settings.pop("lowest", 0.0), settings.pop("highest", 1.0)
    settings.update(lowest=low - ratio * high, highest=high - ratio * low)
    return against_constant(0.0, margin=margin, fails_below=fails_below, **settings)
