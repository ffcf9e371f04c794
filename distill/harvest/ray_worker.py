"""A worker of a harvest on Ray: the class that Ray Data makes in each worker process, called once for each block.

It runs the ordinary `harvest` on the block's problems; its ledger is the driver's (`ray_ledger.py`). Not covered:
spreading the blocks and following the workers (`ray_executor.py`).
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
from distill.harvest.ray_ledger import RemoteLedger, remote_call
from distill.harvest.runner import harvest

if TYPE_CHECKING:
    from distill.engines.base import Engine
    from distill.harvest.summary import HarvestSummary
    from distill.recipes import Endpoint
    from distill.records import Problem

SECONDS_BETWEEN_REPORTS = 1.0
TALLY_FIGURES = ("samples", "wanted", "verified", "accepted", "known", "new_tokens")


@dataclass(frozen=True, slots=True)
class BlockReport:
    """What came of a block: a summary, or an error of ours, or neither where it was told to stop."""

    block: int
    summary: HarvestSummary | None = None
    error: DistillError | None = None
    endpoint: dict[str, Any] | None = None


def open_share(open_engine: Callable[..., Engine], settings: Endpoint | None, workers: int) -> Engine:
    """An engine of one of `workers`: with endpoint settings, its requests in flight are its share of them all."""
    if settings is None:
        return open_engine()
    share = {"max_in_flight": max(1, settings.max_in_flight // workers)}
    return open_engine(settings=settings.model_copy(update=share))


class Worker:
    """Opens its engine at the first block and keeps it."""

    def __init__(self, server: Any, open_engine: Callable[[], Engine], options: dict[str, Any]) -> None:
        self._server, self._open_engine, self._options = server, open_engine, options
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
        if self._engine is None:
            self._engine = self._open_engine()
            notes = [str(probe) for probe in getattr(self._engine, "probes", ())]
            remote_call(self._server.opened, self._engine.fingerprint, notes)
        worker = uuid.uuid4().hex
        remote_call(self._server.start_block, block, worker)
        ledger = RemoteLedger(self._server, block, worker)
        summary = harvest(self._engine, ledger, problems, progress=Reports(self._server, block), **self._options)
        return BlockReport(block, summary=summary, endpoint=self._endpoint_report())

    def _endpoint_report(self) -> dict[str, Any] | None:
        report = getattr(self._engine, "report", None)
        return report() if report is not None else None


class Reports:
    """The progress of a block: its counts go to the driver once a second, and the order to stop comes back.

    Raises: KeyboardInterrupt for that order.
    """

    def __init__(self, server: Any, block: int) -> None:
        self._server, self._block, self._last = server, block, -math.inf

    def __call__(self, tally: Any) -> None:
        if time.monotonic() - self._last < SECONDS_BETWEEN_REPORTS and tally.verified < tally.wanted:
            return
        self._last = time.monotonic()
        figures = {name: getattr(tally, name) for name in TALLY_FIGURES}
        if remote_call(self._server.report, self._block, figures):
            raise KeyboardInterrupt
