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

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import DistillError, InfrastructureError
from distill.store.ledger import Ledger

if TYPE_CHECKING:
    from distill.records import PartialTrace, Sample, TracePiece, Verdict

MOST_STARTS_WITHOUT_PROGRESS = 5
"""A block that ended its worker so often, and brought no sample meanwhile, is given up."""


class LedgerServer:
    """The actor: the only writer of the file, and what workers and driver tell each other beside samples."""

    def __init__(self, path: str) -> None:
        self._ledger = Ledger.open(path, create=True)
        self._starts: Counter[int] = Counter()  # block -> starts since its last new sample
        self._holder: dict[int, str] = {}  # block -> the worker that has it now
        self._last_pieces: dict[str, int] = {}  # worker -> number of its last pieces
        self._tallies: dict[int, dict[str, float]] = {}
        self._teacher: tuple[str, str] | None = None
        self._is_stopping = False

    def process_id(self) -> int:
        return os.getpid()

    def start_block(self, block: int, worker: str, teacher: tuple[str, str]) -> None:
        """Raises: InfrastructureError where the block's workers died too often, or workers have different teachers."""
        if self._teacher not in (None, teacher):
            raise InfrastructureError(
                f"ray: workers have different teachers: {self._teacher} and {teacher} (name, fingerprint); put the "
                "same weights, tokenizer and versions on every node."
            )
        self._teacher = teacher
        self._holder[block] = worker
        self._starts[block] += 1
        if self._starts[block] > MOST_STARTS_WITHOUT_PROGRESS:
            raise InfrastructureError(
                f"ray: block {block} ended its worker {MOST_STARTS_WITHOUT_PROGRESS} times before a single new sample; "
                "see the workers' logs in Ray's session folder (memory is the usual reason)."
            )

    def read(self, method: str, keys: list[str]) -> Any:
        """get_samples, get_verdicts, get_partials, ... of the ledger."""
        return getattr(self._ledger, method)(keys)

    def add_samples(self, block: int, samples: list[Sample]) -> int:
        added = self._ledger.add_samples(samples)
        if added:
            self._starts[block] = 1
        return added

    def add_verdicts(self, verdicts: list[Verdict]) -> int:
        return self._ledger.add_verdicts(verdicts)

    def add_pieces(self, block: int, worker: str, number: int, pieces: list[TracePiece]) -> None:
        """Once a number, and only from the worker that has the block: pieces are appended, not stored by key."""
        if self._holder.get(block) == worker and number > self._last_pieces.get(worker, 0):
            self._ledger.add_pieces(pieces)
            self._last_pieces[worker] = number

    def report(self, block: int, tally: dict[str, float]) -> bool:
        """A block's running counts; tells the worker whether to stop."""
        self._tallies[block] = tally
        return self._is_stopping

    def overview(self) -> tuple[dict[int, dict[str, float]], tuple[str, str] | None]:
        """Running counts of every block, and the teacher's (name, fingerprint) once a worker has loaded it."""
        return self._tallies, self._teacher

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


class RemoteLedger:
    """The methods of a ledger that a harvest uses, over Ray; one for each block that a worker takes."""

    def __init__(self, server: Any, block: int, worker: str) -> None:
        self._server, self._block, self._worker = server, block, worker
        self._pieces_sent = 0

    def add_samples(self, samples: Iterable[Sample]) -> int:
        """Returns when they are on the driver's disk; how many were new."""
        return self._add(self._server.add_samples, list(samples), self._block)

    def add_verdicts(self, verdicts: Iterable[Verdict]) -> int:
        return self._add(self._server.add_verdicts, list(verdicts))

    def add_pieces(self, pieces: Iterable[TracePiece]) -> None:
        self._pieces_sent += 1
        self._add(self._server.add_pieces, list(pieces), self._block, self._worker, self._pieces_sent)

    def get_samples(self, keys: Iterable[str]) -> dict[str, Sample]:
        return self._get("get_samples", keys)

    def get_verdicts(self, keys: Iterable[str]) -> dict[str, Verdict]:
        return self._get("get_verdicts", keys)

    def get_partials(self, keys: Iterable[str]) -> dict[str, PartialTrace]:
        return self._get("get_partials", keys)

    def _get(self, method: str, keys: Iterable[str]) -> dict[str, Any]:
        wanted = list(keys)
        return remote_call(self._server.read, method, wanted) if wanted else {}

    def _add(self, method: Callable[..., Any], records: list[Any], *before: Any) -> int:
        return remote_call(method, *before, records) if records else 0
