"""How often a problem is sampled: pure decisions, from the results of that problem alone.

    state = ProblemState(plan)
    for ask in state.asks(): ...             # what to draw now; [] while results are outstanding, or once settled
    state.observe(ask, Result("correct", "stop"))
    state.reason                              # why nothing more is drawn: "enough", "hopeless", ... or None

Samples are asked for in waves. A wave of a plan with `enough` is as large as the number of traces that are missing: it
cannot give one too many, however many problems are sampled at a time. Since nothing but the problem's own results
decides, a harvest that was killed and resumed asks for the same samples as one that was not.

The pass rate p of a problem has a Beta(a, b) prior; after c correct of n the posterior is Beta(a + c, b + n - c),
whatever rule stopped the sampling (the likelihood does not change: Berger and Wolpert, The Likelihood Principle, 1988,
section 4.2). A problem is hopeless when the chance that any of the m samples it has left is correct,
1 - B(a + c, b + n - c + m) / B(a + c, b + n - c) (beta-binomial), is below `hopeless_below`.

A completion that the token limit cut is not a failure while there is a higher limit: it is continued there, or, where
the server cannot continue, the problem's next samples are drawn with the higher limit.
Not covered: budgets over all problems (`budget.py`), how asks become requests (`asking.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import expm1, lgamma

from distill.records import FinishReason, Outcome


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides how often each problem is sampled.

    `most` samples at most, `most_if_rare` where some but not `enough` are correct; `enough` None draws `most` at once.
    `rungs` are token limits, ascending; the last is the limit that counts.
    """

    most: int
    rungs: tuple[int, ...]
    enough: int | None = None
    most_if_rare: int = 0
    hopeless_below: float = 0.0
    prior: tuple[float, float] = (0.5, 0.5)
    can_continue: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Ask:
    """One completion to draw: the `index`-th of its problem, with the token limit of `rung`.

    `continues` says that it goes on from the same completion of the rung below.
    """

    index: int
    rung: int
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an ask; None for both where the engine gave no sample."""

    outcome: Outcome | None
    finish_reason: FinishReason | None
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class PassRate:
    """Posterior of a problem's pass rate: mean and a 90 % interval, after `attempts` decided samples.

    The interval is central, but reaches down to 0 where nothing was right and up to 1 where nothing failed, as the
    Jeffreys interval of Brown, Cai and DasGupta, Statistical Science 16 (2001), 101-133: a central one never holds 0,
    and many problems are never solved.
    """

    attempts: int
    mean: float
    low: float
    high: float


@dataclass(slots=True)
class ProblemState:
    """What is known of one problem in a harvest."""

    plan: Plan
    asked: int = 0
    outstanding: int = 0
    correct: int = 0
    failed: int = 0
    errors: int = 0
    rung: int = 0
    reason: str | None = None
    _higher: list[Ask] = field(default_factory=list)

    def asks(self) -> list[Ask]:
        """What to draw now; it counts as outstanding until it is observed.

        What was cut is continued whatever was decided since: else it would depend on which result came first.
        """
        wave, self._higher = self._higher, []
        if not wave and not self.outstanding and self.reason is None:
            self.reason = self._reason()
            if self.reason is None:
                wave = [Ask(self.asked + number, self.rung) for number in range(self._wave_size())]
                self.asked += len(wave)
        self.outstanding += len(wave)
        return wave

    def observe(self, ask: Ask, result: Result) -> bool:
        """Take the result of an ask; False if the sample is only a part of one that is drawn with a higher limit."""
        self.outstanding -= 1
        is_cut = result.outcome == "truncated" and result.finish_reason == "length"
        if is_cut and ask.rung + 1 < len(self.plan.rungs):
            if self.plan.can_continue:
                self._higher.append(Ask(ask.index, ask.rung + 1, continues=True))
                return False
            self.rung = max(self.rung, ask.rung + 1)
        elif result.is_refused:
            self.reason = "refused"
        elif result.outcome in (None, "error"):
            self.errors += 1
        elif result.outcome == "correct":
            self.correct += 1
        else:
            self.failed += 1
        return True

    def pass_rate(self) -> PassRate:
        """The posterior so far."""
        return _posterior(self.correct, self.failed, self.plan.prior)

    def _reason(self) -> str | None:
        plan = self.plan
        if plan.enough is not None and self.correct >= plan.enough:
            return "enough"
        if self.asked >= self._most():
            return "all drawn"
        if self._chance_of_more() < plan.hopeless_below:
            return "hopeless"
        return None

    def _chance_of_more(self) -> float:
        return chance_of_more(self.correct, self.failed, self._most() - self.asked, self.plan.prior)

    def _most(self) -> int:
        return max(self.plan.most, self.plan.most_if_rare) if self.correct else self.plan.most

    def _wave_size(self) -> int:
        left = self._most() - self.asked
        return left if self.plan.enough is None else min(left, self.plan.enough - self.correct)


def chance_of_more(correct: int, failed: int, left: int, prior: tuple[float, float]) -> float:
    """Probability that at least one of `left` further samples is correct, given the results so far."""
    failures, all_of_it = prior[1] + failed, prior[0] + prior[1] + correct + failed
    none = lgamma(failures + left) - lgamma(failures) - lgamma(all_of_it + left) + lgamma(all_of_it)
    return -expm1(none)


@lru_cache(maxsize=65536)
def _posterior(correct: int, failed: int, prior: tuple[float, float]) -> PassRate:
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    a, b = prior[0] + correct, prior[1] + failed
    low = float(betaincinv(a, b, 0.05)) if correct else 0.0
    high = float(betaincinv(a, b, 0.95)) if failed else 1.0
    return PassRate(correct + failed, round(a / (a + b), 6), round(low, 6), round(high, 6))
