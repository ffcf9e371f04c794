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
section 4.2). A problem is hopeless when P(p >= hopeless_rate) < hopeless_risk.

A completion that the token limit cut is not a failure while there is a higher limit: it is continued there, or, where
the server cannot continue, the problem's next samples are drawn with the higher limit.
Not covered: budgets over all problems (`budget.py`), how asks become requests (`asking.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

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
    hopeless_rate: float = 0.0
    hopeless_risk: float = 0.1
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
    """Posterior of a problem's pass rate: mean and a central 90 % interval, after `attempts` decided samples."""

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
        """What to draw now; it counts as outstanding until it is observed."""
        if self.reason is not None:
            return []
        wave = self._higher
        self._higher = []
        if not wave and not self.outstanding:
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
        if plan.hopeless_rate and self.failed and _is_hopeless(self.correct, self.failed, plan):
            return "hopeless"
        return None

    def _most(self) -> int:
        return max(self.plan.most, self.plan.most_if_rare) if self.correct else self.plan.most

    def _wave_size(self) -> int:
        left = self._most() - self.asked
        return left if self.plan.enough is None else min(left, self.plan.enough - self.correct)


@lru_cache(maxsize=65536)
def _is_hopeless(correct: int, failed: int, plan: Plan) -> bool:
    from scipy.special import betainc  # type: ignore[import-untyped]

    a, b = plan.prior
    below = float(betainc(a + correct, b + failed, plan.hopeless_rate))  # P(p < hopeless_rate)
    return 1.0 - below < plan.hopeless_risk


@lru_cache(maxsize=65536)
def _posterior(correct: int, failed: int, prior: tuple[float, float]) -> PassRate:
    from scipy.special import betaincinv

    a, b = prior[0] + correct, prior[1] + failed
    low, high = float(betaincinv(a, b, 0.05)), float(betaincinv(a, b, 0.95))
    return PassRate(correct + failed, round(a / (a + b), 6), round(low, 6), round(high, 6))
