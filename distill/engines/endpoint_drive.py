"""The event loop that draws: a thread with thousands of streams, fed and read from the thread that uses the engine.

    with Driver(urls, dialect, continuation, settings, fingerprint) as driver:
        driver.submit(request)
        outcome = driver.outcomes.get()     # Drawn, NotDrawn, pieces of many, or the exception that ends the run

Each request is a task: take a slot, send, read; on a failure give the slot back, wait (`endpoint_retry.py`), go again,
from where it broke off if the server can. A waiting request holds no slot, so another fills it. What came of unfinished
streams is handed over every `save_partial_seconds`, all at once, when an attempt fails, and when the driver stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from distill.engines.endpoint_continue import Continuation
from distill.engines.endpoint_dialect import Dialect
from distill.engines.endpoint_http import EndpointClient
from distill.engines.endpoint_probe import refusal
from distill.engines.endpoint_replicas import Replica, ReplicaPool
from distill.engines.endpoint_retry import REFUSALS, EndpointFailure, backoff_seconds
from distill.engines.endpoint_stream import Completion
from distill.engines.endpoint_trace import Drawn, Trace
from distill.engines.figures import EngineFigures
from distill.errors import InfrastructureError
from distill.recipes import Endpoint
from distill.records import SampleRequest, TracePiece, Unanswered

CLOSING_SECONDS = 10.0
REFUSED_SECONDS = 0.05
"""A slot that a server refused is not tried again at once: nothing has become free there."""
NOTHING_TO_KEEP = ("wrong_n", "content_filter")  # failures whose text is no part of a completion
TOKENS_THAT_ARE_PROGRESS = 64
"""A failed attempt that added so many tokens to its completion does not count against `max_attempts`."""


@dataclass(frozen=True, slots=True)
class NotDrawn:
    """A request that was given up."""

    request: SampleRequest
    failure: EndpointFailure

    def unanswered(self, fingerprint: str) -> Unanswered:
        """The same, as the consumer of samples sees it."""
        request, is_refused = self.request, self.failure.action == "give_up"
        return Unanswered(request.key(fingerprint), request.problem_id, request.index, str(self.failure), is_refused)


Outcome = Drawn | NotDrawn | list[TracePiece] | BaseException


class Driver:
    """A running event loop; a context manager that stops it and drops what is in flight."""

    def __init__(
        self,
        urls: Sequence[str],
        dialect: Dialect,
        continuation: Continuation,
        settings: Endpoint,
        fingerprint: str,
        *,
        tokens_per_piece: float = 1.0,
    ):
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.failures: Counter[str] = Counter()
        self.num_continued = self.tokens_continued = 0
        self._urls, self._dialect, self._continuation, self._settings = urls, dialect, continuation, settings
        self._fingerprint = fingerprint
        self._backing_off = 0  # requests that wait for their next attempt, and need no slot meanwhile
        self._tokens, self._pieces = tokens_per_piece, 1.0  # of all finished streams
        self._client = EndpointClient(settings, max_connections=settings.max_in_flight)
        self._pool = ReplicaPool(urls, settings.max_in_flight)
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._traces: set[Trace] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="endpoint", daemon=True)

    @property
    def room(self) -> int:
        """How many requests are worth having here: those in flight, and a few that wait for the next slots."""
        return self._pool.ceiling + max(8, self._pool.ceiling // 8) + self._backing_off

    def submit(self, request: SampleRequest) -> None:
        self._loop.call_soon_threadsafe(self._start, request)

    def without_key(self, text: str) -> str:
        return self._client.without_key(text)

    def live(self) -> EngineFigures:
        replicas = self._pool.replicas
        busy, slots = sum(each.open for each in replicas), sum(each.load.limit for each in replicas if each.is_alive)
        return EngineFigures(busy, slots, dict(self.failures))

    def figures(self) -> dict[str, Any]:
        """Failures by kind, slot occupancy, and each replica's share; JSON-clean."""
        occupancy = self._pool.occupancy
        return {
            "failures": dict(sorted(self.failures.items())),
            "continued": {"completions": self.num_continued, "tokens_not_drawn_again": self.tokens_continued},
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
        self.stop()

    def stop(self) -> None:
        """End all streams; what they gave is among the outcomes. Stopping twice is allowed."""
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
            if self._continuation.works:
                tending.append(asyncio.create_task(self._save()))
            await self._stopping.wait()
            self._hand_over(self._traces)
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

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(self._settings.save_partial_seconds)
            self._hand_over(self._traces)

    def _hand_over(self, traces: Iterable[Trace]) -> None:
        if not self._continuation.works:  # nobody could go on from them
            return
        ratio = self._tokens_per_piece
        if pieces := [piece for trace in traces for piece in trace.unsaved(ratio)]:
            self.outcomes.put(pieces)

    @property
    def _tokens_per_piece(self) -> float:
        return max(1.0, self._tokens / self._pieces)

    async def _draw(self, request: SampleRequest) -> None:
        trace = Trace(request, request.key(self._fingerprint), self._continuation, self._settings)
        if trace.prefix is not None:
            self.num_continued += 1
            self.tokens_continued += trace.prefix.num_tokens
        if trace.num_tokens_left <= 0:
            self.outcomes.put(trace.full())
            return
        self._traces.add(trace)
        try:
            self.outcomes.put(await self._attempts(trace))
        finally:
            self._traces.discard(trace)

    async def _attempts(self, trace: Trace) -> Drawn | NotDrawn | BaseException:
        attempts = waits = 0
        while True:
            replica = await self._pool.acquire()
            outcome = await self._attempt(replica, trace)
            if isinstance(outcome, Drawn):
                return outcome
            self.failures[outcome.kind] += 1
            if outcome.action == "stop":
                return refusal(replica.url, outcome)
            if outcome.kind == "rejected" and trace.prefix is not None:
                trace.restart()  # it went on in the probe, and does not from here
                continue
            gained = self._broke_off(trace, outcome)
            attempts = 0 if gained >= TOKENS_THAT_ARE_PROGRESS else attempts + (outcome.action == "retry")
            if trace.num_tokens_left <= 0:
                return trace.full()
            if outcome.action == "give_up" or attempts >= self._settings.max_attempts:
                return NotDrawn(trace.request, outcome)
            waits = 0 if gained >= TOKENS_THAT_ARE_PROGRESS else waits + 1
            self._backing_off += 1
            try:
                await asyncio.sleep(backoff_seconds(max(1, waits), outcome.retry_after, random.random()))
            finally:
                self._backing_off -= 1

    def _broke_off(self, trace: Trace, failure: EndpointFailure) -> int:
        """Keep what a failed attempt gave; the tokens gained."""
        if failure.kind in NOTHING_TO_KEEP:
            trace.forget_attempt()
        self._hand_over([trace])
        gained = trace.broke_off(self._tokens_per_piece)
        if gained:
            self.num_continued += 1
            self.tokens_continued += gained
        return gained

    async def _attempt(self, replica: Replica, trace: Trace) -> Drawn | EndpointFailure:
        """One request to one replica, whose slot is given back whatever happens."""
        send, was_accepted, is_refused = replica.load.sent(), False, False

        def accepted() -> None:
            nonlocal was_accepted
            was_accepted = True
            self._pool.accepted(replica)

        try:
            call, stream = await trace.begin(self._client, replica.url, self._dialect)
            completion = await self._client.complete(call, stream, accepted)
            self._pool.finished(replica)
            self._count(completion)
            return trace.drawn(completion, self._tokens_per_piece)
        except EndpointFailure as failure:
            self._pool.failed(replica, failure, send)
            is_refused = failure.kind in REFUSALS
            return failure
        finally:
            if was_accepted:
                self._pool.ended(replica)
            if is_refused:
                self._loop.call_later(REFUSED_SECONDS, self._pool.release, replica)
            else:
                self._pool.release(replica)

    def _count(self, completion: Completion) -> None:
        if completion.completion_tokens is not None and completion.num_pieces:
            self._tokens += completion.completion_tokens
            self._pieces += completion.num_pieces

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
