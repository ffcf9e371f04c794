"""A worker of a harvest on Ray: the class that Ray Data makes in each worker process, called once for each block.

It runs the ordinary `harvest` on the block's problems; its ledger is the driver's (`ray_ledger.py`), and so is the
budget: once a second it tells what it has spent and hears what the others have. Not covered: spreading the blocks and
following the workers (`ray_executor.py`).
"""

from __future__ import annotations

import math
import pickle
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill.errors import DistillError
from distill.harvest.asking import Asking, plan_of
from distill.harvest.budget import Spending
from distill.harvest.progress import HarvestView
from distill.harvest.ray_ledger import RemoteLedger, Teacher, remote_call
from distill.harvest.ray_view import finished
from distill.harvest.runner import harvest

if TYPE_CHECKING:
    from distill.engines.base import Engine
    from distill.harvest.summary import HarvestSummary
    from distill.recipes import Endpoint, Harvest
    from distill.records import Problem, SamplingParams

SECONDS_BETWEEN_REPORTS = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker is to do with its problems; `opener` takes the endpoint's settings where it has any."""

    opener: Callable[..., Engine]
    endpoint: Endpoint | None
    settings: Harvest
    params: SamplingParams
    run_seed: int

    def open_engine(self, workers: int) -> Engine:
        """An engine of one of so many workers; its requests in flight are its share of them all."""
        if self.endpoint is None:
            return self.opener()
        share = {"max_in_flight": max(1, self.endpoint.max_in_flight // workers)}
        return self.opener(settings=self.endpoint.model_copy(update=share))

    def asking(self, engine: Engine) -> Asking:
        plan = plan_of(self.settings, can_continue=engine.can_continue)
        return Asking(plan, self.params, self.run_seed, engine.fingerprint, engine.render)


@dataclass(frozen=True, slots=True)
class BlockReport:
    """What came of a block: a summary, or an error of ours, or neither where it was told to stop."""

    block: int
    summary: HarvestSummary | None = None
    error: DistillError | None = None
    endpoint: dict[str, Any] | None = None


class Worker:
    """Opens its engine at the first block and keeps it."""

    def __init__(self, server: Any, work: Work, workers: int) -> None:
        self._server, self._work, self._workers = server, work, workers
        self._engine: Engine | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """One row in, of `block` and the pickled `problems`; one row out, the pickled `report`."""
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
        worker = uuid.uuid4().hex
        elsewhere, seconds = remote_call(self._server.start_block, block, worker)
        started = time.monotonic() - seconds
        engine = self._opened()  # after the block is noted: a model too large for the node ends its worker here
        asking, settings = self._work.asking(engine), self._work.settings
        spending = Spending(settings.budget, asking.plan.rungs[0], elsewhere=elsewhere)
        spending.started = started
        reports = Reports(self._server, block, spending)
        summary = harvest(
            engine,
            RemoteLedger(self._server, block, worker),
            problems,
            asking,
            spending=spending,
            voting=settings.voting,
            verify_workers=settings.verify_workers,
            verify_timeout_seconds=settings.verify_timeout_seconds,
            progress=reports,
        )
        reports.finish()
        return BlockReport(block, summary=summary, endpoint=self._endpoint_report())

    def _opened(self) -> Engine:
        if self._engine is None:
            engine = self._work.open_engine(self._workers)
            notes = [str(probe) for probe in getattr(engine, "probes", ())]
            remote_call(self._server.opened, Teacher(engine.fingerprint, engine.can_continue), notes)
            self._engine = engine
        return self._engine

    def _endpoint_report(self) -> dict[str, Any] | None:
        report = getattr(self._engine, "report", None)
        return report() if report is not None else None


class Reports:
    """The progress of a block: where it is goes to the driver once a second; what others spent comes back.

    Raises: KeyboardInterrupt where the order to stop comes back.
    """

    def __init__(self, server: Any, block: int, spending: Spending) -> None:
        self._server, self._block, self._spending = server, block, spending
        self._view, self._sent_at = HarvestView(), -math.inf

    def __call__(self, view: HarvestView) -> None:
        self._view = view
        if time.monotonic() - self._sent_at >= SECONDS_BETWEEN_REPORTS and self._send(view):
            raise KeyboardInterrupt

    def finish(self) -> None:
        """The last word; the block is done, whatever the order."""
        self._send(finished(self._view))

    def _send(self, view: HarvestView) -> bool:
        self._sent_at = time.monotonic()
        is_stopping, elsewhere = remote_call(self._server.report, self._block, view, self._spending.here())
        self._spending.elsewhere = elsewhere
        return bool(is_stopping)
