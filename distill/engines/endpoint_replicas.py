"""Which replica takes the next request: the one with the fewest unfinished; dead ones are out until they answer.

    pool = ReplicaPool(urls, ceiling=512)
    replica = await pool.acquire()      # waits for a free slot
    send = replica.load.sent(); pool.accepted(replica); pool.failed(replica, failure, send); pool.release(replica)

A replica dies of a refused connection, or of `FAILURES_TO_DIE` failures in a row (resets, stalls, 5xx); it is asked for
`/models` with growing pauses and comes back with its first answer. Nothing here waits while another replica could work.
Used from one event loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from distill.engines.endpoint_load import LoadLimit, Send
from distill.engines.endpoint_retry import REFUSALS, EndpointFailure

FAILURES_TO_DIE = 8
FIRST_PROBE_SECONDS, LONGEST_PROBE_SECONDS = 0.5, 30.0
TICK_SECONDS = 0.1
_COUNTED = ("reset", "stalled", "server_error", "overloaded", "truncated", "malformed")


class Replica:
    """One server: how busy it is, whether it lives."""

    def __init__(self, url: str, load: LoadLimit):
        self.url, self.load = url, load
        self.open = self.running = 0  # sent and unfinished; of these, accepted by the server
        self.is_alive = True
        self.failures_in_a_row = self.deaths = self.completed = 0
        self.probe_seconds = FIRST_PROBE_SECONDS
        self.next_probe_at = 0.0

    def has_room(self, now: float) -> bool:
        return self.is_alive and self.open < self.load.limit and not self.load.is_paused(now)


class ReplicaPool:
    """All replicas of one model, and the requests that wait for a slot."""

    def __init__(self, urls: Sequence[str], ceiling: int, *, clock: Callable[[], float] = time.monotonic):
        each = max(1, -(-ceiling // len(urls)))
        self.replicas = [Replica(url, LoadLimit(each)) for url in urls]
        self.ceiling, self._clock = each * len(urls), clock
        self._waiting: deque[asyncio.Future[Replica]] = deque()
        self.last_progress = clock()
        self._since, self._open_area, self._slot_area = clock(), 0.0, 0.0

    @property
    def open(self) -> int:
        return sum(replica.open for replica in self.replicas)

    @property
    def occupancy(self) -> float | None:
        """Share of the slots that were filled, over the time in which more requests were waiting than slots."""
        return self._open_area / self._slot_area if self._slot_area else None

    async def acquire(self) -> Replica:
        """A replica with a free slot, which is taken; requests are served in the order they came."""
        self._account()
        if not self._waiting and (replica := self._least_busy()):
            replica.open += 1
            return replica
        place: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release(place.result())
            raise

    def release(self, replica: Replica) -> None:
        self._account()
        replica.open -= 1
        self.wake()

    def wake(self) -> None:
        """Hand free slots to those that wait."""
        while self._waiting and (replica := self._least_busy()):
            place = self._waiting.popleft()
            if not place.done():
                replica.open += 1
                place.set_result(replica)

    def accepted(self, replica: Replica) -> None:
        """The server took the request: HTTP 200, text to come."""
        replica.running += 1
        self.last_progress = self._clock()

    def ended(self, replica: Replica) -> None:
        """A stream that was accepted is over, well or not."""
        replica.running -= 1
        replica.load.paused_until = 0.0  # one of the server's slots is free again
        self.last_progress = self._clock()

    def finished(self, replica: Replica) -> None:
        """A whole completion came."""
        replica.failures_in_a_row, replica.probe_seconds = 0, FIRST_PROBE_SECONDS
        replica.completed += 1

    def failed(self, replica: Replica, failure: EndpointFailure, send: Send) -> None:
        now = self._clock()
        if failure.kind in REFUSALS:
            replica.load.refused(send, now, running=replica.running, retry_after=failure.retry_after)
        if failure.kind in _COUNTED:
            replica.failures_in_a_row += 1
        if failure.kind == "unreachable" or replica.failures_in_a_row >= FAILURES_TO_DIE:
            self._take_out(replica, now)

    def _take_out(self, replica: Replica, now: float) -> None:
        if replica.is_alive:
            replica.is_alive = False
            replica.deaths += 1
            replica.next_probe_at = now + replica.probe_seconds

    async def tend(self, answers: Callable[[str], Awaitable[bool]]) -> None:
        """Recover limits, end pauses and probe the dead, for as long as the task lives."""
        async with asyncio.TaskGroup() as probes:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                now = self._clock()
                for replica in self.replicas:
                    replica.load.recover(now)
                    if not replica.is_alive and now >= replica.next_probe_at:
                        replica.next_probe_at = float("inf")  # until this probe is over
                        probes.create_task(self._probe(replica, answers))
                self.wake()

    async def _probe(self, replica: Replica, answers: Callable[[str], Awaitable[bool]]) -> None:
        replica.probe_seconds = min(LONGEST_PROBE_SECONDS, replica.probe_seconds * 2)
        if await answers(replica.url):
            replica.is_alive, replica.failures_in_a_row = True, FAILURES_TO_DIE - 1  # one more failure, and out again
        replica.next_probe_at = self._clock() + replica.probe_seconds

    def _least_busy(self) -> Replica | None:
        now = self._clock()
        free = [replica for replica in self.replicas if replica.has_room(now)]
        return min(free, key=lambda replica: replica.open, default=None)

    def _account(self) -> None:
        """Add up slots and filled slots since the last call, while requests wait for them."""
        now = self._clock()
        if self._waiting:
            self._open_area += self.open * (now - self._since)
            self._slot_area += sum(replica.load.limit for replica in self.replicas) * (now - self._since)
        self._since = now
