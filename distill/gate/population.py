"""Evidence about new items like these: the e-process of `eprocess.py`, with items in the place of rounds.

    process = PopulationEProcess(0.6, tasks=["gpqa"] * 198, item_ids=ids, betting=Betting(0.05, horizon_rounds=16))
    process.update(values)                    # one round: the score of one completion of every item

After k rounds each item has a mean of k scores. If items are independent draws from a population of mean at most `bar`,
so are their means, and an e-process over the items gives E_k with expectation at most 1, however many completions an
item has: the k completions of an item are never counted as k items. The E_k of different k are not one supermartingale
(they are about the same items), so a fixed share of wealth w_k is set aside for each of a few looks, at 1, 2, 4, ...
rounds and at the horizon. What was won at the looks so far, sum_k w_k E_k, has expectation at most 1 wherever one
stops, for the terms are not negative and sum_k w_k = 1; it only grows, so Markov's inequality is Ville's. Each look
plays for 1 / (alpha w_k) by its last item, and so may decide alone: that is policy, and no part of why it is valid.
More rounds sharpen the items' means, never the choice of items: what n items cannot say stays INCONCLUSIVE at any k.

Items come in the order of a hash of their ids, since files are ordered by difficulty. With several tasks, each a
population of its own that counts the same, a step takes one block of items from every task: tasks are then the strata.
Not covered: clusters of related items (give a cluster's mean as one item).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np

from distill.gate.eprocess import Betting, EProcess, Floats
from distill.records import stable_hash

AT_ONCE_SHARE = 0.9
"""Share of a look's wealth that plays for a decision by its last item: they are all there at once."""


class PopulationEProcess:
    """E-process of "the population's mean is at most `bar`"; the interface of `EProcess`."""

    def __init__(
        self, bar: float, tasks: Sequence[str], item_ids: Sequence[str], betting: Betting, *, batch: int = 1
    ) -> None:
        self.bar, self.betting = bar, betting
        self.blocks = blocks_of_items(tasks, item_ids)
        self.looks = look_rounds(betting.horizon_rounds)
        self.rounds = 0
        self.sums = np.zeros((batch, len(tasks)))
        self.log_e = np.full(batch, -np.inf)
        EProcess(bar, len(self.blocks), betting)  # refuses a bar outside (0, 1)

    @property
    def is_final_spent(self) -> bool:
        """Whether all looks are over."""
        return self.rounds >= self.looks[-1]

    def update(self, values: Floats) -> None:
        """Take in one complete round, shape [batch, items], values in [0, 1]."""
        if values.shape != self.sums.shape or not (values.min() >= 0 and values.max() <= 1):  # so that NaN is refused
            raise ValueError(f"e-process: expected values in [0, 1] of shape {self.sums.shape}, found {values.shape}")
        self.sums += values
        self.rounds += 1
        if self.rounds in self.looks:
            share = log(1 / len(self.looks))
            self.log_e = np.logaddexp(self.log_e, share + self._log_e_of(self.sums / self.rounds))

    def _log_e_of(self, means: Floats) -> Floats:
        """The e-process over items as they are now; as many steps as the smallest task has items."""
        steps = len(self.blocks[0])
        betting = Betting(self.betting.alpha / len(self.looks), steps, AT_ONCE_SHARE)
        over_items = EProcess(self.bar, len(self.blocks), betting, batch=len(means))
        for step in range(steps):
            over_items.update(np.stack([means[:, blocks[step]].mean(axis=1) for blocks in self.blocks], axis=1))
        return over_items.log_e

    def state(self) -> dict[str, Any]:
        """JSON-clean state of a single run."""
        assert len(self.sums) == 1, "only a single run has a state"
        log_e = None if np.isneginf(self.log_e[0]) else float(self.log_e[0])
        return {"rounds": self.rounds, "sums": self.sums[0].tolist(), "log_e": log_e}

    def restore(self, state: dict[str, Any]) -> None:
        """Raises: KeyError, ValueError or TypeError if it is not a state of a process of this many items."""
        sums = np.asarray([state["sums"]], dtype=np.float64)
        if sums.shape != self.sums.shape or not np.isfinite(sums).all():
            raise ValueError(f"sums: expected {self.sums.shape[1]} finite numbers")
        rounds, log_e = int(state["rounds"]), -np.inf if state["log_e"] is None else float(state["log_e"])
        if rounds < 0 or np.isnan(log_e):
            raise ValueError("rounds or log_e: expected a count and a number")
        self.sums, self.rounds, self.log_e = sums, rounds, np.asarray([log_e])


def look_rounds(horizon_rounds: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the horizon."""
    powers = [1 << exponent for exponent in range(horizon_rounds.bit_length())]
    return tuple(sorted({*(power for power in powers if power <= horizon_rounds), horizon_rounds}))


def blocks_of_items(tasks: Sequence[str], item_ids: Sequence[str]) -> list[list[list[int]]]:
    """For every task its items' places, dealt in hash order into as many blocks as the smallest task has items."""
    by_task: dict[str, list[int]] = {}
    for place in sorted(range(len(tasks)), key=lambda place: stable_hash(item_ids[place])):
        by_task.setdefault(tasks[place], []).append(place)
    steps = min(map(len, by_task.values()))
    return [[places[step::steps] for step in range(steps)] for _, places in sorted(by_task.items())]
