"""One ledger for all workers of a Ray cluster: a file on the driver's machine, written by one actor there.

    server = start_server("runs/r1/ledger.db")                 # on the driver, after ray.init
    ledger = RemoteLedger(server, 3, worker)                     # on a worker: what a harvest takes for a ledger

Each call returns when its rows are on the driver's disk, so what a worker reports survives the worker, its node and
its retry. Calls that Ray repeats after a broken connection are done once: samples and verdicts are stored by key,
pieces of unfinished traces carry a number. A worker whose block was given to another (its node was taken for dead)
may still add samples, but no pieces. If the actor or the driver dies, the run ends; the same command continues.
Not covered: starting Ray and spreading the blocks (`ray_executor.py`).
"""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.engines.base import LedgerLike
from distill.errors import DistillError, InfrastructureError
from distill.harvest.budget import Spent
from distill.store.ledger import Ledger

if TYPE_CHECKING:
    from distill.harvest.progress import HarvestView
    from distill.records import PartialTrace, ProblemYield, Sample, TracePiece, Verdict

MOST_STARTS_WITHOUT_PROGRESS = 5
"""A block that ended its worker so often, and brought no sample meanwhile, is given up."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """What must be the same in every worker."""

    fingerprint: str
    can_continue: bool


@dataclass(slots=True)
class Overview:
    """What workers have said so far: where each block is, and of the teacher once one has opened it."""

    views: dict[int, HarvestView] = field(default_factory=dict)
    teacher: Teacher | None = None
    notes: list[str] = field(default_factory=list)


class LedgerServer:
    """The actor: the only writer of the file, and what workers and driver tell each other beside samples."""

    def __init__(self, path: str) -> None:
        self._ledger = Ledger.open(path, create=True)
        self._starts: Counter[int] = Counter()  # block -> starts since its last new sample
        self._holder: dict[int, str] = {}  # block -> the worker that has it now
        self._last_pieces: dict[str, int] = {}  # worker -> number of its last pieces
        self._overview = Overview()
        self._spent: dict[int, Spent] = {}
        self._started = time.monotonic()
        self._is_stopping = False

    def process_id(self) -> int:
        return os.getpid()

    def opened(self, teacher: Teacher, notes: list[str]) -> None:
        """A worker has its engine. Raises: InfrastructureError where another worker has a different one."""
        known = self._overview.teacher
        if known not in (None, teacher):
            raise InfrastructureError(
                f"ray: workers have different teachers, {known} and {teacher}; put the same weights, tokenizer and "
                "versions on every node."
            )
        self._overview.teacher = teacher
        self._overview.notes.extend(note for note in notes if note not in self._overview.notes)

    def start_block(self, block: int, worker: str) -> tuple[Spent, float]:
        """What other blocks have spent so far, and seconds since the start.

        Raises: InfrastructureError where the block's workers died too often.
        """
        self._holder[block] = worker
        self._starts[block] += 1
        if self._starts[block] > MOST_STARTS_WITHOUT_PROGRESS:
            raise InfrastructureError(
                f"ray: block {block} ended its worker {MOST_STARTS_WITHOUT_PROGRESS} times before a single new sample; "
                "see the workers' logs in Ray's session folder (memory is the usual reason)."
            )
        self._overview.views.pop(block, None)
        self._spent.pop(block, None)
        return self._elsewhere(block), time.monotonic() - self._started

    def _elsewhere(self, block: int) -> Spent:
        return functools.reduce(
            Spent.plus, (spent for number, spent in self._spent.items() if number != block), Spent()
        )

    def read(self, method: str, *arguments: Any) -> Any:
        """One of the ledger's get_* methods."""
        return getattr(self._ledger, method)(*arguments)

    def add_samples(self, block: int, samples: list[Sample]) -> int:
        added = self._ledger.add_samples(samples)
        if added:
            self._starts[block] = 0
        return added

    def add_verdicts(self, verdicts: list[Verdict]) -> int:
        return self._ledger.add_verdicts(verdicts)

    def add_yields(self, scope: str, yields: list[ProblemYield]) -> int:
        return self._ledger.add_yields(scope, yields)

    def add_pieces(self, block: int, worker: str, number: int, pieces: list[TracePiece]) -> int:
        """Once a number, and only from the worker that has the block: pieces are appended, not stored by key."""
        if self._holder.get(block) != worker or number <= self._last_pieces.get(worker, 0):
            return 0
        added = self._ledger.add_pieces(pieces)
        self._last_pieces[worker] = number
        return added

    def report(self, block: int, view: HarvestView, spent: Spent) -> tuple[bool, Spent]:
        """Where a block is; tells the worker whether to stop, and what other blocks have spent."""
        self._overview.views[block] = view
        self._spent[block] = spent
        return self._is_stopping, self._elsewhere(block)

    def overview(self) -> Overview:
        """What the driver shows."""
        return self._overview

    def stop(self) -> None:
        """From now on each worker is told to stop."""
        self._is_stopping = True

    def is_stopping(self) -> bool:
        return self._is_stopping


def start_server(path: str | Path) -> Any:
    """The actor's handle. It runs on this node; its open ledger is checked before this returns."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # max_restarts=0: what it remembers (who has which block) must not outlive it; max_task_retries: broken connections
    actor = ray.remote(LedgerServer).options(
        num_cpus=0, max_restarts=0, max_task_retries=-1, scheduling_strategy=here, max_concurrency=1
    )
    server = actor.remote(str(Path(path).absolute()))
    remote_call(server.process_id)
    return server


def remote_call(method: Any, *arguments: Any) -> Any:
    """The result of an actor's method; errors of ours come out as they were raised there."""
    import ray

    try:
        return ray.get(method.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DistillError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise InfrastructureError(
            "ray: the process that writes the ledger on the driver's machine is gone. Everything it reported is saved; "
            "run the same command again."
        ) from error


class RemoteLedger(LedgerLike):
    """The methods of a ledger that a harvest uses, over Ray; one for each start of a block on a worker."""

    def __init__(self, server: Any, block: int, worker: str) -> None:
        self._server, self._block, self._worker = server, block, worker
        self._pieces_sent = 0

    def add_samples(self, samples: Iterable[Sample]) -> int:
        """Returns when they are on the driver's disk; how many were new."""
        return self._add(self._server.add_samples, self._block, records=samples)

    def add_pieces(self, pieces: Iterable[TracePiece]) -> int:
        self._pieces_sent += 1
        return self._add(self._server.add_pieces, self._block, self._worker, self._pieces_sent, records=pieces)

    def add_verdicts(self, verdicts: Iterable[Verdict]) -> int:
        return self._add(self._server.add_verdicts, records=verdicts)

    def add_yields(self, scope: str, yields: Iterable[ProblemYield]) -> int:
        return self._add(self._server.add_yields, scope, records=yields)

    def get_samples(self, keys: Iterable[str]) -> dict[str, Sample]:
        return self._get("get_samples", keys=keys)

    def get_partials(self, keys: Iterable[str]) -> dict[str, PartialTrace]:
        return self._get("get_partials", keys=keys)

    def get_verdicts(self, keys: Iterable[str]) -> dict[str, Verdict]:
        return self._get("get_verdicts", keys=keys)

    def get_all_verdicts(self, keys: Iterable[str]) -> dict[str, tuple[Verdict, ...]]:
        return self._get("get_all_verdicts", keys=keys)

    def get_yields(self, scope: str, problems: Iterable[str]) -> dict[str, ProblemYield]:
        return self._get("get_yields", scope, keys=problems)

    def _get(self, method: str, *before: Any, keys: Iterable[str]) -> dict[str, Any]:
        wanted = list(keys)
        return remote_call(self._server.read, method, *before, wanted) if wanted else {}

    def _add(self, method: Any, *before: Any, records: Iterable[Any]) -> int:
        new = list(records)
        return remote_call(method, *before, new) if new else 0
