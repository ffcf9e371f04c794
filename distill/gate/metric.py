"""What a gate's metric makes of one sample: a score, its range, and which way is better.

    metric = Metric.of("accuracy@4096")
    metric.score(seen, max_new_tokens=32768)          # `seen` None: the engine gave the request up

pass@1         1 if correct
accuracy@N     1 if correct within N completion tokens: what the student would score if it were cut off there
mean_tokens    completion tokens, of right and wrong samples alike; fewer is better
A request that was given up (a timeout, a refusal) scores as the worst: 0, or all tokens that were allowed.
Not covered: pass@k and cons@k. They are of many samples of one item, so one sample has no score (`evaluate/curves.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from distill.evaluate.observation import Observation
from distill.gate.demand import Direction

METRIC_PATTERN = r"pass@1|accuracy@[1-9]\d*|mean_tokens"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by its name in gate files and baselines."""

    name: str
    within_tokens: int | None = None

    @staticmethod
    def of(name: str) -> Metric:
        """Raises: ValueError for a name that `METRIC_PATTERN` does not know."""
        if not re.fullmatch(METRIC_PATTERN, name):
            raise ValueError(f"metric '{name}': expected pass@1, accuracy@N or mean_tokens")
        return Metric(name, int(name.partition("@")[2]) if name.startswith("accuracy@") else None)

    @property
    def is_tokens(self) -> bool:
        return self.name == "mean_tokens"

    @property
    def direction(self) -> Direction:
        return "lower" if self.is_tokens else "higher"

    def highest(self, max_new_tokens: int) -> float:
        """Greatest score of one sample; the least is 0."""
        return float(max_new_tokens) if self.is_tokens else 1.0

    def score(self, seen: Observation | None, max_new_tokens: int) -> float:
        """The score of one sample."""
        if seen is None:
            return float(max_new_tokens) if self.is_tokens else 0.0
        if self.is_tokens:
            return float(min(seen.completion_tokens, max_new_tokens))
        in_time = self.within_tokens is None or seen.completion_tokens <= self.within_tokens
        return float(seen.is_correct and in_time)
