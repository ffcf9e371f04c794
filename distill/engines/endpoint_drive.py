"""The event loop that draws: a thread with thousands of streams, fed and read from the thread that uses the engine.

    with Driver(urls, dialect, settings) as driver:
        driver.submit(request)
        outcome = driver.outcomes.get()     # Drawn, NotDrawn, or the exception that ends the run

Each request is a task: take a slot, send, read; on a failure give the slot back, wait (`endpoint_retry.py`), go again.
A waiting request holds no slot, so another fills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from distill.engines.endpoint_dialect import Dialect
from distill.engines.endpoint_http import EndpointClient
from distill.engines.endpoint_probe import refusal
from distill.engines.endpoint_replicas import Replica, ReplicaPool
from distill.engines.endpoint_retry import EndpointFailure, backoff_seconds
from distill.engines.endpoint_stream import Completion
from distill.errors import InfrastructureError
from distill.recipes import Endpoint
from distill.records import SampleRequest, Unanswered

CLOSING_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A whole completion of a request; `seconds` from sending the attempt that gave it."""

    request: SampleRequest
    completion: Completion
    seconds: float


@dataclass(frozen=True, slots=True)
class NotDrawn:
    """A request that was given up."""

    request: SampleRequest
    failure: EndpointFailure

    def unanswered(self, fingerprint: str) -> Unanswered:
        """The same, as the consumer of samples sees it."""
        request, is_refused = self.request, self.failure.action == "give_up"
        return Unanswered(request.key(fingerprint), request.problem_id, request.index, str(self.failure), is_refused)


class Driver:
    """A running event loop; a context manager that stops it and drops what is in flight."""

    def __init__(self, urls: Sequence[str], dialect: Dialect, settings: Endpoint):
        self.outcomes: queue.SimpleQueue[Drawn | NotDrawn | BaseException] = queue.SimpleQueue()
        self.failures: Counter[str] = Counter()
        self._urls, self._dialect, self._settings = urls, dialect, settings
        self._client = EndpointClient(settings, max_connections=settings.max_in_flight)
        self._pool = ReplicaPool(urls, settings.max_in_flight)
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="endpoint", daemon=True)

    @property
    def room(self) -> int:
        """How many requests are worth having here: those in flight, and a few that wait for the next slots."""
        return self._pool.ceiling + max(8, self._pool.ceiling // 8)

    def submit(self, request: SampleRequest) -> None:
        self._loop.call_soon_threadsafe(self._start, request)

    def without_key(self, text: str) -> str:
        return self._client.without_key(text)

    def figures(self) -> dict[str, Any]:
        """Failures by kind, slot occupancy, and each replica's share; JSON-clean."""
        occupancy = self._pool.occupancy
        return {
            "failures": dict(sorted(self.failures.items())),
            "slot_occupancy": None if occupancy is None else round(occupancy, 4),
            "replicas": [
                {
                    "url": replica.url,
                    "completed": replica.completed,
                    "deaths": replica.deaths,
                    "limit": replica.load.limit,
                    "limit_falls": replica.load.falls,
                }
                for replica in self._pool.replicas
            ],
        }

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it ended by itself just now
                self._loop.call_soon_threadsafe(self._stop)
            self._thread.join(CLOSING_SECONDS)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:  # handed to the thread that waits for outcomes
            self.outcomes.put(error)
        finally:
            self._ready.set()
            self._loop.close()

    async def _main(self) -> None:
        self._stopping = asyncio.Event()
        async with self._client:
            self._ready.set()
            tending = [asyncio.create_task(self._pool.tend(self._answers)), asyncio.create_task(self._watch())]
            await self._stopping.wait()
            for task in (*tending, *self._tasks):
                task.cancel()
            await asyncio.gather(*tending, *self._tasks, return_exceptions=True)

    def _stop(self) -> None:
        if self._stopping is not None:
            self._stopping.set()

    def _start(self, request: SampleRequest) -> None:
        task = self._loop.create_task(self._draw(request))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.outcomes.put(error)  # a bug of ours: it must not look like a request that is still on its way

    async def _draw(self, request: SampleRequest) -> None:
        body = self._dialect.body(request.prompt, request.params, request.seed, self._settings)
        attempts = waits = 0
        while True:
            replica = await self._pool.acquire()
            outcome = await self._attempt(replica, request, body)
            if isinstance(outcome, Drawn):
                self.outcomes.put(outcome)
                return
            self.failures[outcome.kind] += 1
            if outcome.action == "stop":
                self.outcomes.put(refusal(replica.url, outcome))
                return
            attempts += outcome.action == "retry"
            if outcome.action == "give_up" or attempts >= self._settings.max_attempts:
                self.outcomes.put(NotDrawn(request, outcome))
                return
            waits += 1
            await asyncio.sleep(backoff_seconds(waits, outcome.retry_after, random.random()))

    async def _attempt(self, replica: Replica, request: SampleRequest, body: dict[str, Any]) -> Drawn | EndpointFailure:
        """One request to one replica, whose slot is given back whatever happens."""
        sent_at, send, was_accepted = time.monotonic(), replica.load.sent(), False

        def accepted() -> None:
            nonlocal was_accepted
            was_accepted = True
            self._pool.accepted(replica)

        try:
            completion = await self._client.complete(replica.url, body, accepted)
            self._pool.finished(replica)
            return Drawn(request, completion, time.monotonic() - sent_at)
        except EndpointFailure as failure:
            self._pool.failed(replica, failure, send)
            return failure
        finally:
            if was_accepted:
                self._pool.ended(replica)
            self._pool.release(replica)

    async def _answers(self, url: str) -> bool:
        try:
            await self._client.models(url)
        except EndpointFailure as failure:
            return failure.kind not in ("unreachable", "reset", "server_error", "overloaded", "truncated")
        return True

    async def _watch(self) -> None:
        """Ends the run when no replica has accepted anything for too long."""
        while True:
            await asyncio.sleep(min(1.0, self._settings.give_up_seconds / 4))
            waited = time.monotonic() - self._pool.last_progress
            running = any(replica.running for replica in self._pool.replicas)
            if self._tasks and not running and waited > self._settings.give_up_seconds:
                kinds = ", ".join(f"{count} {kind}" for kind, count in self.failures.most_common(4))
                self.outcomes.put(
                    InfrastructureError(
                        f"{', '.join(self._urls)}: nothing was accepted for {waited:.0f} s ({kinds or 'no answer'}). "
                        "What was finished is saved; start the servers and run the same command again."
                    )
                )
                return
