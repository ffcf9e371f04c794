"""`--executor ray`: the problems of a harvest in blocks over a Ray cluster, one ledger, one summary.

    summary, endpoints = harvest_on_ray(open_engine, "runs/r1/ledger.db", problems, settings=recipe.executor, ...)

Ray Data spreads the blocks over a pool of workers (`map_batches` with a class, `ray_worker.py`). Ray starts a dead
worker again, elsewhere if its node is gone and another has room, and gives it its block again; the ledger
(`ray_ledger.py`) then says what is known. Ctrl-C and SIGTERM stop the workers after what they have finished is saved.
Every node needs distill, the weights, and the API key in its environment. Not covered: starting a cluster
(`ray_cluster.py` finds one, or starts one here), autoscaling, curation.
"""

from __future__ import annotations

import functools
import math
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import EXIT_INFRASTRUCTURE, DistillError, ProblemError
from distill.harvest.progress import Progress, no_progress
from distill.harvest.ray_cluster import cluster, gpus_per_worker, num_workers
from distill.harvest.ray_ledger import Overview, remote_call, start_server
from distill.harvest.ray_worker import BlockReport, Worker
from distill.harvest.summary import HarvestSummary, merged

if TYPE_CHECKING:
    from distill.engines.base import Engine
    from distill.recipes import Executor
    from distill.records import Problem

TASKS_PER_WORKER = 4
"""Blocks a worker gets where the recipe does not say: enough to even out long blocks, with few drains between them."""
SECONDS_BETWEEN_LOOKS = 1.0
GRACE_SECONDS = 60.0
"""How long workers have to save what they have finished after an interrupt."""

OnTeacher = Callable[[str, list[str]], None]


def harvest_on_ray(
    open_engine: Callable[[int], Engine],
    ledger_path: str | Path,
    problems: Sequence[Problem],
    *,
    settings: Executor,
    options: dict[str, Any],
    is_endpoint: bool,
    on_teacher: OnTeacher,
    progress: Progress = no_progress,
) -> tuple[HarvestSummary, list[dict[str, Any]]]:
    """`harvest(engine, ledger, problems, **options)`, spread; and each block's report of its endpoint.

    `open_engine` is called in every worker, with the number of workers; `on_teacher` here, with the fingerprint and
    what was probed, as soon as a worker knows them. Raises: what `cluster`, `num_workers` and `Follower` raise.
    """
    if not problems:
        raise ProblemError("harvest: there is no problem to sample; check problems.train of the recipe.")
    started = time.monotonic()
    with cluster():
        workers = num_workers(settings, is_endpoint=is_endpoint)
        blocks = blocks_of(
            problems, settings.problems_per_task or math.ceil(len(problems) / workers / TASKS_PER_WORKER)
        )
        workers = min(workers, len(blocks))
        server = start_server(ledger_path)
        reports = _spread(
            blocks,
            (server, functools.partial(open_engine, workers), options),
            workers,
            settings.cpus_per_worker,
            gpus_per_worker(settings, is_endpoint=is_endpoint),
        )
        follower = Follower(server, workers, on_teacher, progress)
        follower.follow(reports)
    assert len(follower.summaries) == len(blocks), "every block has one summary"
    return merged(follower.summaries, seconds=time.monotonic() - started), follower.endpoint_reports


def blocks_of(problems: Sequence[Problem], size: int) -> list[list[Problem]]:
    """Blocks of about `size` problems, in order; equal prompts share a block, because they share samples."""
    by_prompt: dict[str, list[Problem]] = {}
    for problem in problems:
        by_prompt.setdefault(problem.prompt, []).append(problem)
    blocks: list[list[Problem]] = [[]]
    for group in by_prompt.values():
        if len(blocks[-1]) >= size:
            blocks.append([])
        blocks[-1].extend(group)
    return blocks


def _spread(
    blocks: Sequence[Sequence[Problem]], worker_arguments: tuple[Any, ...], workers: int, cpus: float, gpus: float
) -> Iterator[BlockReport]:
    """The report of every block, as they end."""
    import ray.data

    rows = [{"block": number, "problems": pickle.dumps(list(block))} for number, block in enumerate(blocks)]
    reports = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_args=worker_arguments,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    for row in reports.iter_rows():
        yield pickle.loads(row["report"])


class Follower:
    """The driver's side of a spread harvest: shows it, gathers its reports, and stops it in good order."""

    def __init__(self, server: Any, workers: int, on_teacher: OnTeacher, progress: Progress) -> None:
        self.summaries: list[HarvestSummary] = []
        self.endpoint_reports: list[dict[str, Any]] = []
        self._server, self._workers, self._on_teacher, self._progress = server, workers, on_teacher, progress
        self._errors: list[DistillError] = []
        self._failed_in_a_row = 0
        self._fingerprint: str | None = None
        self._started = time.monotonic()

    def follow(self, reports: Iterable[BlockReport]) -> None:
        """Until the last report.

        Raises: the first error of a block, once all others are done; at once if asking again would not help, or if as
        many blocks failed one after the other as there are workers.
        """
        arrived: queue.Queue[BlockReport | BaseException | None] = queue.Queue()
        pump = threading.Thread(target=_pump, args=(reports, arrived), daemon=True)
        pump.start()
        try:
            while (report := self._next(arrived)) is not None:
                self._take(report)
        except BaseException:
            remote_call(self._server.stop)
            pump.join(GRACE_SECONDS)
            raise
        self._look()
        if self._errors:
            raise self._errors[0]

    def _next(self, arrived: queue.Queue[BlockReport | BaseException | None]) -> BlockReport | None:
        while True:
            try:
                report = arrived.get(timeout=SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                self._look()
                continue
            if isinstance(report, BaseException):
                raise report
            return report

    def _take(self, report: BlockReport) -> None:
        if report.endpoint is not None:
            self.endpoint_reports.append(report.endpoint)
        if report.summary is not None:
            self.summaries.append(report.summary)
            self._failed_in_a_row = 0
        if report.error is not None:
            self._errors.append(report.error)
            self._failed_in_a_row += 1
            if report.error.exit_code != EXIT_INFRASTRUCTURE or self._failed_in_a_row >= self._workers:
                raise report.error

    def _look(self) -> None:
        overview = remote_call(self._server.overview)
        if overview.fingerprint is not None and self._fingerprint is None:
            self._fingerprint = overview.fingerprint
            self._on_teacher(overview.fingerprint, overview.notes)
        if overview.tallies:
            self._progress(Totals(overview, time.monotonic() - self._started))


def _pump(reports: Iterable[BlockReport], arrived: queue.Queue[BlockReport | BaseException | None]) -> None:
    """In a thread of its own: an interrupt that met Ray Data in the main thread would end the workers at once."""
    try:
        for report in reports:
            arrived.put(report)
        arrived.put(None)
    except BaseException as error:
        arrived.put(error)


class Totals:
    """The running counts of all blocks together, as a progress line reads them."""

    def __init__(self, overview: Overview, seconds: float) -> None:
        def total(name: str) -> int:
            return int(sum(tally[name] for tally in overview.tallies.values()))

        self.samples, self.wanted, self.verified = total("samples"), total("wanted"), total("verified")
        self.accepted, self.known, self.new_tokens = total("accepted"), total("known"), total("new_tokens")
        self.seconds = seconds

    @property
    def accept_rate(self) -> float:
        return self.accepted / self.verified if self.verified else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        new = self.samples - self.known
        return (self.wanted - self.samples) * self.seconds / new if new > 0 else None
