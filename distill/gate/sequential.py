"""The sequential verdict: rounds of one score of every item, until PASS, FAIL, or the cap.

    demand = against_constant(0.636, margin=0.03, cap_rounds=64)
    test = SequentialTest(demand, {"aime24/1": "aime24", ...}, identity=hash_of_model_prompt_and_parameters)
    while not test.is_over:
        test.add_round({"aime24/1": 1.0, ...})        # every item, every round; a timeout is a 0
    test.verdict().outcome; json.dumps(test.state())

Two one-sided e-processes run side by side (derivation: `eprocess.py`). PASS rejects "the mean is at most pass_bar", at
level alpha_pass; FAIL rejects "the mean is at least fail_bar", at level alpha_fail; both hold at any moment one stops.

The final test: a share of each side's wealth plays for the cap of the run that began the evidence. It is spent there,
once; the state says so. Later runs may raise the cap and add rounds; what they add is betting evidence alone. A claim
about a population is looked at a planned number of times up to that cap, and a larger cap adds nothing to it.
Not covered: drawing the scores (`rounds.py`), and whether the run may be judged at all (`validity.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import exp, log
from typing import Any, Literal

import numpy as np

from distill.errors import GateError
from distill.gate.demand import Demand
from distill.gate.eprocess import Betting, EProcess, Floats
from distill.gate.population import PopulationEProcess
from distill.records import stable_hash

SequentialOutcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]
FinalTest = Literal["none", "unspent", "spent"]
STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class SequentialVerdict:
    """What the evidence says so far; `mean` is in the metric's units (of student - ratio x other where paired)."""

    outcome: SequentialOutcome
    decided_at_round: int | None
    rounds: int
    cap_rounds: int
    n_items: int
    mean: float | None
    pass_bar: float
    fail_bar: float
    alpha_pass: float
    alpha_fail: float
    log_e_pass: float | None
    """Natural logarithm of the evidence against "at most pass_bar"; None before a first look."""
    log_e_fail: float | None
    p_pass: float
    """Anytime-valid p-value: 1 over the greatest evidence so far."""
    p_fail: float
    final_test: FinalTest
    rounds_to_decision: int | None
    """About how many more rounds would decide, if the mean so far is the true one; None where that is unknown."""


class SequentialTest:
    """Two one-sided e-processes over the same rounds. `items` maps each item's id to its task; tasks count the same.

    `identity` names everything that the scores depend on: model, prompts, parameters, task versions, verifier.
    """

    def __init__(self, demand: Demand, items: Mapping[str, str], *, identity: str = "") -> None:
        if not items:
            raise GateError("gate: there are no items to score; check the task's data and `limit`.")
        self.demand, self.identity = demand, identity
        self.item_ids = sorted(items)
        self.tasks = [items[item] for item in self.item_ids]
        self.horizon_rounds = demand.cap_rounds
        self.outcome: SequentialOutcome = "INCONCLUSIVE"
        self.decided_at_round: int | None = None
        self.history: list[tuple[float | None, float | None]] = []
        self._weights = task_weights(self.tasks)
        self._begin()

    def _begin(self) -> None:
        demand = self.demand
        self._sides = (
            self._process(demand.unit(demand.pass_bar), demand.alpha_pass),
            self._process(1 - demand.unit(demand.fail_bar), demand.alpha_fail),
        )

    def _process(self, bar: float, alpha: float) -> EProcess | PopulationEProcess:
        betting = Betting(alpha, self.horizon_rounds, self.demand.final_share)
        if self.demand.estimand == "population":
            return PopulationEProcess(bar, self.tasks, self.item_ids, betting)
        return EProcess(bar, len(self.item_ids), betting, weights=self._weights)

    @property
    def rounds(self) -> int:
        return self._sides[0].rounds

    @property
    def is_over(self) -> bool:
        """Decided, at the cap, or a population claim whose looks are spent: no round adds to it."""
        is_spent = self.demand.estimand == "population" and self._sides[0].is_final_spent
        return self.outcome != "INCONCLUSIVE" or self.rounds >= self.demand.cap_rounds or is_spent

    def add_round(self, scores: Mapping[str, float]) -> SequentialOutcome:
        """Take in a complete round, in the metric's units. Once PASS or FAIL, the outcome stays.

        Raises: GateError if an item has no score, or a score is out of range: then nothing was counted.
        """
        values = self._values(scores)
        passing, failing = self._sides
        passing.update(values[None])
        failing.update(1 - values[None])
        evidence = (float(passing.log_e[0]), float(failing.log_e[0]))
        self.history.append((_finite(evidence[0]), _finite(evidence[1])))
        if self.outcome == "INCONCLUSIVE":
            self.outcome = self._outcome(*evidence)
            self.decided_at_round = self.rounds if self.outcome != "INCONCLUSIVE" else None
        return self.outcome

    def _outcome(self, log_e_pass: float, log_e_fail: float) -> SequentialOutcome:
        over_pass = log_e_pass + log(self.demand.alpha_pass)
        over_fail = log_e_fail + log(self.demand.alpha_fail)
        if max(over_pass, over_fail) < 0:
            return "INCONCLUSIVE"
        return "PASS" if over_pass >= over_fail else "FAIL"

    def _values(self, scores: Mapping[str, float]) -> Floats:
        missing = [item for item in self.item_ids if item not in scores]
        if missing or len(scores) != len(self.item_ids):
            unknown = sorted(set(scores) - set(self.item_ids))
            raise GateError(
                f"gate: round {self.rounds + 1}: {len(missing)} of {len(self.item_ids)} items have no score "
                f"({', '.join(missing[:3])}), {len(unknown)} are unknown ({', '.join(unknown[:3])}); only complete "
                "rounds count. Draw what is missing; a timeout counts as a failure."
            )
        values = np.asarray([self.demand.unit(scores[item]) for item in self.item_ids])
        if not np.all((values >= -1e-12) & (values <= 1 + 1e-12)):
            raise GateError(
                f"gate: round {self.rounds + 1}: found a score outside {self.demand.lowest:g} to "
                f"{self.demand.highest:g}."
            )
        return np.clip(values, 0.0, 1.0)

    @property
    def final_test(self) -> FinalTest:
        if self.demand.final_share == 0 and self.demand.estimand == "benchmark":
            return "none"  # looks at new items are always planned for a cap
        return "spent" if self._sides[0].is_final_spent else "unspent"

    @property
    def mean(self) -> float | None:
        """The score so far, in the metric's units; tasks count the same."""
        if not self.rounds:
            return None
        return self.demand.score(float(np.mean(self._weights * self._sides[0].sums[0])) / self.rounds)

    def verdict(self) -> SequentialVerdict:
        demand = self.demand
        last = self.history[-1] if self.history else (None, None)
        best = [max([0.0, *(pair[side] or 0.0 for pair in self.history)]) for side in (0, 1)]
        return SequentialVerdict(
            outcome=self.outcome,
            decided_at_round=self.decided_at_round,
            rounds=self.rounds,
            cap_rounds=demand.cap_rounds,
            n_items=len(self.item_ids),
            mean=self.mean,
            pass_bar=demand.pass_bar,
            fail_bar=demand.fail_bar,
            alpha_pass=demand.alpha_pass,
            alpha_fail=demand.alpha_fail,
            log_e_pass=last[0],
            log_e_fail=last[1],
            p_pass=exp(-best[0]),
            p_fail=exp(-best[1]),
            final_test=self.final_test,
            rounds_to_decision=self._rounds_to_decision(),
        )

    def _rounds_to_decision(self) -> int | None:
        """Rounds in which the better growth stake would make up what is missing, at the mean and spread so far."""
        if self.outcome != "INCONCLUSIVE" or self.rounds < 2 or self.demand.estimand == "population":
            return None
        needed = []
        for side, alpha in zip(self._sides, (self.demand.alpha_pass, self.demand.alpha_fail), strict=True):
            assert isinstance(side, EProcess)
            gap = float(np.mean(self._weights * side.sums[0])) / self.rounds - side.bar
            variance = float(side.centres()[1][0])
            if gap > 0:
                missing = max(0.0, -log(alpha) - float(side.log_e[0]))
                needed.append(missing * 2 * variance / (len(self.item_ids) * gap**2))
        return max(1, round(min(needed))) if needed and min(needed) < 1e6 else None

    def state(self) -> dict[str, Any]:
        """JSON-clean evidence, from which `resume` goes on bit for bit."""
        return {
            "version": STATE_VERSION,
            "identity": self.identity,
            "settings": settings_hash(self.demand, self.item_ids, self.tasks),
            "rounds": self.rounds,
            "horizon_rounds": self.horizon_rounds,
            "final_test": self.final_test,
            "outcome": self.outcome,
            "decided_at_round": self.decided_at_round,
            "log_e": [list(pair) for pair in self.history],
            "pass": self._sides[0].state(),
            "fail": self._sides[1].state(),
        }

    @classmethod
    def resume(
        cls, demand: Demand, items: Mapping[str, str], *, identity: str, state: Mapping[str, Any]
    ) -> SequentialTest:
        """The test as it was, with the cap of `demand`; the final test keeps the cap that it was planned for.

        Raises: GateError if the state is of another identity or other settings (see `why_anew`), or damaged.
        """
        test = cls(demand, items, identity=identity)
        if reason := test.why_anew(state):
            raise GateError(f"gate: the saved evidence cannot be continued: {reason}.")
        try:
            test.horizon_rounds = int(state["horizon_rounds"])
            test._begin()
            for side, name in zip(test._sides, ("pass", "fail"), strict=True):
                side.restore(state[name])
            test.history = [(pair[0], pair[1]) for pair in state["log_e"]]
            test.outcome, test.decided_at_round = state["outcome"], state["decided_at_round"]
            if {side.rounds for side in test._sides} != {len(test.history)}:
                raise ValueError("its parts are of different rounds")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise GateError(f"gate: the saved evidence is damaged ({error!r}); remove it, and run again.") from None
        return test

    def why_anew(self, state: Mapping[str, Any]) -> str | None:
        """Why a saved state is not evidence on this question; None where it is."""
        if state.get("version") != STATE_VERSION:
            return f"it is of format {state.get('version')}, this is {STATE_VERSION}"
        if state.get("identity") != self.identity:
            return "it is of another model, prompt, parameters or task version"
        if state.get("settings") != settings_hash(self.demand, self.item_ids, self.tasks):
            return "the demand or its items have changed"
        return None


def continue_or_begin(
    demand: Demand, items: Mapping[str, str], *, identity: str, saved: Mapping[str, Any] | None
) -> tuple[SequentialTest, str | None]:
    """The saved evidence continued where it is on this very question, or new evidence and the reason for it."""
    fresh = SequentialTest(demand, items, identity=identity)
    if saved is None:
        return fresh, None
    reason = fresh.why_anew(saved)
    return (fresh, reason) if reason else (SequentialTest.resume(demand, items, identity=identity, state=saved), None)


def settings_hash(demand: Demand, item_ids: list[str], tasks: list[str]) -> str:
    """Names the question; the cap is no part of it, so that a larger budget adds to the same evidence."""
    return stable_hash(asdict(replace(demand, cap_rounds=1)), item_ids, tasks)


def task_weights(tasks: list[str]) -> Floats:
    """Weights of mean 1 that make every task count the same, whatever its number of items."""
    sizes = {task: tasks.count(task) for task in set(tasks)}
    return np.asarray([len(tasks) / (len(sizes) * sizes[task]) for task in tasks])


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
