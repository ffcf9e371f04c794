"""What the arrival pattern allows: an ideal client that fills every slot the moment it is free.

It sends the problems in their order (nobody knows a latency before), takes the next one as soon as a slot is free, and
asks a refused one again when Retry-After is over, before any that it has not asked yet. Nothing but the server's own
latencies takes time. What a client cannot beat is the time this takes; what it can be held to is its slot occupancy.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence


def makespan(
    seconds: Sequence[float], slots: int, refusals: Sequence[int] | None = None, retry_after_seconds: float = 0.0
) -> float:
    """Seconds from the first request to the last answer; `refusals` is how often each problem is refused first."""
    left = list(refusals or [0] * len(seconds))
    fresh, again = deque(range(len(seconds))), list[tuple[float, int]]()
    busy: list[float] = []
    now = 0.0
    while fresh or again or busy:
        while len(busy) < slots and (fresh or (again and again[0][0] <= now)):
            at = heapq.heappop(again)[1] if again and again[0][0] <= now else fresh.popleft()
            if left[at]:
                left[at] -= 1
                heapq.heappush(again, (now + retry_after_seconds, at))
            else:
                heapq.heappush(busy, now + seconds[at])
        nexts = busy[:1] + ([again[0][0]] if again and len(busy) < slots else [])
        if not nexts:
            break
        now = max(now, min(nexts))
        while busy and busy[0] <= now:
            heapq.heappop(busy)
    return now
