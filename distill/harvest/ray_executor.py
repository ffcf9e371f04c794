"""`--executor ray`: the problems of a harvest in blocks over a Ray cluster, one ledger, one summary.

    summary = harvest_on_ray(open_engine, "runs/r1/ledger.db", problems, settings=recipe.executor, options={...})

Ray Data spreads the blocks over a pool of workers (`map_batches` with a class); each worker runs the ordinary
`harvest` on its block with the ledger of `ray_ledger.py`. Ray starts a dead worker again and gives it its block again,
elsewhere if its node is gone and another has room; the ledger then says what is known. The cluster is the one of
RAY_ADDRESS, which Ray reads itself, else one on this machine for the length of the call. Ctrl-C and SIGTERM stop the
workers after what they have finished is saved. Every node needs distill, the weights, and the API key in its
environment. Not covered: starting a cluster, autoscaling, curation.
"""

from __future__ import annotations

import math
import pickle
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.engines.base import Engine
from distill.errors import ConfigError, DistillError, InfrastructureError
from distill.harvest.progress import Progress, no_progress
from distill.harvest.ray_cluster import cluster, num_workers
from distill.harvest.ray_ledger import RemoteLedger, remote_call, start_server
from distill.harvest.runner import harvest
from distill.harvest.summary import HarvestSummary, merged
from distill.recipes import Executor
from distill.records import Problem

TASKS_PER_WORKER = 4
"""Blocks a worker gets where the recipe does not say: enough to even out long blocks, few drains."""
SECONDS_BETWEEN_REPORTS = 1.0
GRACE_SECONDS = 60.0
"""How long workers have to save what they have finished after an interrupt."""


@dataclass(frozen=True, slots=True)
class BlockReport:
    """What came of a block: a summary, or an error of ours, or neither where it was told to stop."""

    block: int
    summary: HarvestSummary | None = None
    error: DistillError | None = None
    endpoint: dict[str, Any] | None = None


def blocks_of(problems: Sequence[Problem], size: int) -> list[list[Problem]]:
    """Blocks of about `size` problems in their order; equal prompts share a block, as they share samples."""
    by_prompt: dict[str, list[Problem]] = {}
    for problem in problems:
        by_prompt.setdefault(problem.prompt, []).append(problem)
    blocks: list[list[Problem]] = [[]]
    for group in by_prompt.values():
        if len(blocks[-1]) >= size:
            blocks.append([])
        blocks[-1].extend(group)
    return blocks


def harvest_on_ray(
    open_engine: Callable[[], Engine],
    ledger_path: str | Path,
    problems: Sequence[Problem],
    *,
    settings: Executor,
    options: dict[str, Any],
    is_endpoint: bool = False,
    on_teacher: Callable[[str], None] = lambda fingerprint: None,
    progress: Progress = no_progress,
) -> tuple[HarvestSummary, list[dict[str, Any]]]:
    """`harvest(engine, ledger, problems, **options)`, spread; also each block's report of its endpoint.

    `open_engine` is called once in every worker. `on_teacher` gets the fingerprint as soon as a worker knows it.
    Raises: ConfigError (no Ray), InfrastructureError (no cluster, a block that failed after all others were done).
    """
    started = time.monotonic()
    with cluster():
        workers = num_workers(settings, is_endpoint=is_endpoint)
        size = settings.problems_per_task or math.ceil(len(problems) / (workers * TASKS_PER_WORKER))
        blocks = blocks_of(problems, size)
        server = start_server(ledger_path)
        run = _Drive(server, len(blocks), workers, on_teacher, progress)
        run.follow(_spread(blocks, server, open_engine, options, settings, min(workers, len(blocks)), is_endpoint))
    return merged(run.summaries, seconds=time.monotonic() - started), run.endpoint_reports


def _spread(
    blocks: Sequence[Sequence[Problem]],
    server: Any,
    open_engine: Callable[[], Engine],
    options: dict[str, Any],
    settings: Executor,
    workers: int,
    is_endpoint: bool,
) -> Iterator[BlockReport]:
    """Reports of all blocks, as they end."""
    import ray.data
    from ray.data import ActorPoolStrategy

    rows = [{"block": number, "problems": pickle.dumps(list(block))} for number, block in enumerate(blocks)]
    reports = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_args=(server, open_engine, options),
        compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=settings.cpus_per_worker,
        num_gpus=settings.gpus_of(is_endpoint=is_endpoint),
        ray_remote_args_fn=_anywhere,
    )
    for row in reports.iter_rows():
        yield pickle.loads(row["report"])


def _anywhere() -> dict[str, Any]:
    """Workers go to different nodes where there are several."""
    return {"scheduling_strategy": "SPREAD"}


class Worker:
    """The class that Ray Data makes in each of its worker processes; a call is a block."""

    def __init__(self, server: Any, open_engine: Callable[[], Engine], options: dict[str, Any]) -> None:
        self._server, self._open_engine, self._options = server, open_engine, options
        self._engine: Engine | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        block = int(batch["block"][0])
        try:
            report = self._harvest(block, pickle.loads(batch["problems"][0]))
        except DistillError as error:
            report = BlockReport(block, error=error, endpoint=self._endpoint_report())
        except KeyboardInterrupt:  # the driver was told to stop; what was finished is saved
            report = BlockReport(block)
        return {"report": [pickle.dumps(report)]}

    def _harvest(self, block: int, problems: list[Problem]) -> BlockReport:
        if remote_call(self._server.is_stopping):
            return BlockReport(block)
        if self._engine is None:
            self._engine = self._open_engine()
        worker = uuid.uuid4().hex
        remote_call(self._server.start_block, block, worker, (self._engine.model, self._engine.fingerprint))
        summary = harvest(
            self._engine,
            RemoteLedger(self._server, block, worker),
            problems,
            progress=_Reports(self._server, block),
            **self._options,
        )
        return BlockReport(block, summary=summary, endpoint=self._endpoint_report())

    def _endpoint_report(self) -> dict[str, Any] | None:
        report = getattr(self._engine, "report", None)
        return report() if report is not None else None


class _Reports:
    """The progress of a harvest on a worker: goes to the driver, and comes back as KeyboardInterrupt to stop."""

    def __init__(self, server: Any, block: int) -> None:
        self._server, self._block, self._last = server, block, -math.inf

    def __call__(self, tally: Any) -> None:
        if time.monotonic() - self._last < SECONDS_BETWEEN_REPORTS and tally.verified < tally.wanted:
            return
        self._last = time.monotonic()
        if remote_call(self._server.report, self._block, figures_of(tally)):
            raise KeyboardInterrupt


TALLY_FIGURES = ("samples", "wanted", "verified", "accepted", "known", "new_tokens")


def figures_of(tally: Any) -> dict[str, float]:
    """What the live line needs of a block's tally."""
    return {name: getattr(tally, name) for name in TALLY_FIGURES}
