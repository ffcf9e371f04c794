"""What adaptive_harvest.py compares: populations of problems, plans, and what a plan spends on a problem.

A problem is a sequence of completions, right or wrong, each with its length; every plan meets the same ones, so that
fixed and adaptive sampling of the same limit keep the same traces. Decisions are the product's own `ProblemState`.

Simulated pass rates are shaped by published figures, not fitted to any data set:
- `math`: high, mean 0.93, as R1-Distill-Qwen-7B on MATH-500 (92.8; DeepSeek-R1 README).
- `aime`: U-shaped, mean 0.56, as the same model on AIME24 (pass@1 55.5).
- `openr1`: 37 % never solved, the rest mostly: of three samples 55 % of problems have one right (OpenR1-Math-220k: 55 %
  of problems after two to four).
- `flat`: Beta(1, 1). `settled`: nearly every problem always or never right, Beta(0.05, 0.05).

Lengths are lognormal: right ones 75 % below 8,192 tokens (OpenR1-Math-220k), mean 6.4k (the 800k set of DeepSeek-R1,
arXiv 2501.12948v2, table 5, has 6,094 for mathematics); wrong ones twice as long, which is assumed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distill.harvest.policy import PassRate, Plan, ProblemState, Result
from distill.recipes import Adaptive

SIGMA = 0.67
MEDIAN_RIGHT = 8192 / math.exp(0.6745 * SIGMA)  # 0.6745: the 75 % quantile of the normal distribution
WRONG_LONGER = 2.0
LIMIT = 32_768
LADDER = (8_192, 16_384, LIMIT)
LIMITS = ((4, 1), (4, 2), (8, 2), (16, 2), (16, 4), (64, 4))
"""Samples a problem at most, and traces of a problem that are kept at most."""
COMPLETIONS = 128


@dataclass(frozen=True, slots=True)
class Drawable:
    """A problem and what the teacher would say to it; `rate` is None where it is not known."""

    is_right: Sequence[bool]
    lengths: Sequence[int]
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a plan made of a problem."""

    tokens: int
    samples: int
    correct: int
    kept: int
    pass_rate: PassRate


RATES: dict[str, Callable[[random.Random], float]] = {
    "math": lambda chance: chance.betavariate(3.0, 0.25),
    "aime": lambda chance: chance.betavariate(0.5, 0.4),
    "openr1": lambda chance: 0.0 if chance.random() < 0.37 else chance.betavariate(1.2, 0.6),
    "flat": lambda chance: chance.betavariate(1.0, 1.0),
    "settled": lambda chance: chance.betavariate(0.05, 0.05),
}


def population(name: str, count: int, seed: int = 1) -> list[Drawable]:
    chance = random.Random(f"{name} {seed}")
    return [_drawable(RATES[name](chance), chance) for _ in range(count)]


def _drawable(rate: float, chance: random.Random) -> Drawable:
    is_right = [chance.random() < rate for _ in range(COMPLETIONS)]
    medians = (MEDIAN_RIGHT if right else WRONG_LONGER * MEDIAN_RIGHT for right in is_right)
    return Drawable(is_right, [round(median * math.exp(chance.gauss(0.0, SIGMA))) for median in medians], rate)


def plans(most: int, enough: int, limit: int = LIMIT) -> dict[str, Plan]:
    """The sides of one comparison; `fixed` is what the others are held against."""
    plain, settings = Plan(most, (limit,), enough=enough), Adaptive(enough=enough)
    sides = {
        "fixed": Plan(most, (limit,)),
        "adaptive": plain,
        "hopeless stop": stopping(plain, settings),
        "more if rare": replace(plain, most_if_rare=2 * most),
    }
    if limit > LADDER[0]:
        sides["ladder, continued"] = replace(plain, rungs=LADDER, can_continue=True)
        sides["ladder, drawn anew"] = replace(plain, rungs=LADDER)
    return sides


def stopping(plan: Plan, settings: Adaptive) -> Plan:
    """The plan with the hopeless stop of these settings."""
    return replace(plan, hopeless_below=settings.hopeless_below, prior=settings.prior)


def play(problem: Drawable, plan: Plan, keep: int) -> Spent:
    """Sample a problem by a plan; at most `keep` of its traces are kept, as curation's max_per_problem does."""
    state, tokens, samples = ProblemState(plan), 0, 0
    while wave := state.asks():
        for ask in wave:
            limit, length = plan.rungs[ask.rung], problem.lengths[ask.index]
            tokens += min(length, limit) - (plan.rungs[ask.rung - 1] if ask.continues else 0)
            if length > limit:
                result = Result("truncated", "length")
            else:
                result = Result("correct" if problem.is_right[ask.index] else "wrong", "stop")
            samples += state.observe(ask, result)
    return Spent(tokens, samples, state.correct, min(keep, state.correct), state.pass_rate())


def figures(spent: Sequence[Spent], fixed: Sequence[Spent], resamples: int = 400) -> dict[str, Any]:
    """Totals of a side, and its tokens per kept trace over those of `fixed`, with a 95 % bootstrap over problems."""
    import numpy as np

    rows = np.array(
        [[one.tokens, one.kept, one.kept > 0, other.tokens, other.kept, other.kept > 0]
         for one, other in zip(spent, fixed, strict=True)], dtype=float,
    )  # fmt: skip
    counts = np.random.default_rng(1).multinomial(len(rows), [1 / len(rows)] * len(rows), size=resamples)
    low, high = np.quantile([_ratio(row) for row in counts @ rows], [0.025, 0.975])
    tokens, kept, covered, _, kept_fixed, covered_fixed = total = rows.sum(axis=0)
    return {
        "tokens": int(tokens),
        "samples": sum(one.samples for one in spent),
        "kept": int(kept),
        "covered": int(covered),
        "tokens_per_kept": round(float(tokens / kept), 1),
        "ratio": round(float(_ratio(total)), 4),
        "ratio_95": [round(float(low), 4), round(float(high), 4)],
        "covered_change": round(float(covered / covered_fixed - 1), 5),
        "kept_change": round(float(kept / kept_fixed - 1), 5),
    }


def _ratio(totals: Any) -> Any:
    tokens, kept, _, tokens_fixed, kept_fixed, _ = totals
    return (tokens / kept) / (tokens_fixed / kept_fixed)
