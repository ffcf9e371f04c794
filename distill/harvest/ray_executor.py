"""`--executor ray`: the problems of a harvest in blocks over a Ray cluster, one ledger, one summary.

    summary, endpoints = harvest_on_ray(open_engine, "runs/r1/ledger.db", problems, settings=recipe.executor, ...)

Ray Data spreads the blocks over a pool of workers (`map_batches` with a class, `ray_worker.py`). Ray starts a dead
worker again, elsewhere if its node is gone and another has room, and gives it its block again; the ledger
(`ray_ledger.py`) then says what is known. Ctrl-C and SIGTERM stop the workers after what they have finished is saved.
Every node needs distill, the weights, and the API key in its environment. Not covered: starting a cluster
(`ray_cluster.py` finds one, or starts one here), autoscaling, curation.
"""

from __future__ import annotations

import math
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import EXIT_INFRASTRUCTURE, DistillError, ProblemError
from distill.harvest.progress import Progress, no_progress
from distill.harvest.ray_cluster import cluster, gpus_per_worker, num_workers
from distill.harvest.ray_ledger import Overview, remote_call, start_server
from distill.harvest.ray_view import combined
from distill.harvest.ray_worker import BlockReport, Work, Worker
from distill.harvest.summary import HarvestSummary, merged

if TYPE_CHECKING:
    from distill.recipes import Executor
    from distill.records import Problem

TASKS_PER_WORKER = 4
"""Blocks a worker gets where the recipe does not say: enough to even out long blocks, with few drains between them."""
SECONDS_BETWEEN_LOOKS = 1.0
GRACE_SECONDS = 60.0
"""How long workers have to save what they have finished after an interrupt."""

OnTeacher = Callable[[str, bool], None]


def harvest_on_ray(
    work: Work,
    ledger_path: str | Path,
    problems: Sequence[Problem],
    *,
    settings: Executor,
    on_teacher: OnTeacher,
    progress: Progress = no_progress,
) -> tuple[HarvestSummary, list[dict[str, Any]]]:
    """`harvest` over all problems, spread; and each block's report of its endpoint.

    `on_teacher` is called with fingerprint and `can_continue`, as soon as a worker knows them.
    Raises: what `cluster`, `num_workers` and `Follower.follow` raise.
    """
    if not problems:
        raise ProblemError("harvest: there is no problem to sample; check problems.train of the recipe.")
    started = time.monotonic()
    with cluster():
        workers = num_workers(settings, is_endpoint=work.endpoint is not None)
        blocks = blocks_of(
            problems, settings.problems_per_task or math.ceil(len(problems) / workers / TASKS_PER_WORKER)
        )
        workers = min(workers, len(blocks))
        server = start_server(ledger_path)
        reports = _spread(
            blocks,
            (server, work, workers),
            workers,
            settings.cpus_per_worker,
            gpus_per_worker(settings, is_endpoint=work.endpoint is not None),
        )
        follower = Follower(server, workers, len(problems), on_teacher, progress)
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

    def __init__(self, server: Any, workers: int, num_problems: int, on_teacher: OnTeacher, progress: Progress) -> None:
        self.summaries: list[HarvestSummary] = []
        self.endpoint_reports: list[dict[str, Any]] = []
        self._server, self._workers, self._num_problems = server, workers, num_problems
        self._on_teacher, self._progress = on_teacher, progress
        self._errors: list[DistillError] = []
        self._failed_in_a_row = 0
        self._has_teacher = False
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
        overview: Overview = remote_call(self._server.overview)
        if overview.teacher is not None and not self._has_teacher:
            self._has_teacher = True
            self._on_teacher(overview.teacher.fingerprint, overview.teacher.can_continue)
            for note in overview.notes:
                print(note, file=sys.stderr, flush=True)
        if overview.views:
            seconds = time.monotonic() - self._started
            self._progress(combined(list(overview.views.values()), self._num_problems, seconds))


def _pump(reports: Iterable[BlockReport], arrived: queue.Queue[BlockReport | BaseException | None]) -> None:
    """In a thread of its own: an interrupt that met Ray Data in the main thread would end the workers at once."""
    try:
        for report in reports:
            arrived.put(report)
        arrived.put(None)
    except BaseException as error:
        arrived.put(error)
