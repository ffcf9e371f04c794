"""The scenarios: what is asked, how long the server takes over it, what it refuses, and what happens to the client.

A flat latency and B a heavy tail measure how full a client keeps the slots; C refuses a tenth of the requests at random
and C2 whatever is above the server's capacity; D kills the client half way and starts it again; E does the same and
cuts the file it wrote in the middle of its last record; F has no network but the loopback, and no stand-ins for what a
package fetches; S streams one token an event (clients that stream), to see what a client pays for that.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.harvest import ideal

CONCURRENT = (
    "distill-harvest", "distill-engine", "datatrove", "flexllm", "open-r1-approach", "curator",
    "openai-aiohttp", "openai-httpx", "distilabel",
)  # fmt: skip
REFUSED = (*CONCURRENT[:3], "datatrove-remote", *CONCURRENT[3:])
FLAT = (*CONCURRENT[:-1], "openai-stream", CONCURRENT[-1])
STREAMING = ("distill-engine", "openai-stream")


@dataclass(frozen=True)
class Scenario:
    """One scenario at one size."""

    name: str
    title: str
    rows: int
    in_flight: int
    seconds: list[float]
    refusals: list[int] = field(default_factory=lambda: [0])
    capacity: int | None = None
    tokens_per_event: int = 100
    kill: Literal["no", "half", "half and torn"] = "no"
    is_isolated: bool = False
    clients: tuple[str, ...] = CONCURRENT
    restart_limit_seconds: float = 60.0
    save_partial_seconds: float = 5.0
    """How often our sides save what has streamed of unfinished rows; 5 s is their default, for traces of minutes."""

    @property
    def slots(self) -> int:
        """What can be in flight at the server."""
        return min(self.in_flight, self.capacity or self.in_flight)

    @property
    def is_undisturbed(self) -> bool:
        """Nothing refused, killed or out of reach: every client must keep every row."""
        return self.kill == "no" and not self.capacity and not any(self.refusals) and not self.is_isolated

    @property
    def retry_after_seconds(self) -> float:
        return 1.0

    def all_seconds(self) -> list[float]:
        return [self.seconds[at % len(self.seconds)] for at in range(self.rows)]

    def ideal_seconds(self) -> float:
        """Of an ideal client; a capacity refuses an ideal client nothing."""
        refusals = [self.refusals[at % len(self.refusals)] for at in range(self.rows)]
        return ideal.makespan(self.all_seconds(), self.slots, refusals, self.retry_after_seconds)

    def server_settings(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "refusals": self.refusals,
            "capacity": self.capacity,
            "retry_after_seconds": self.retry_after_seconds,
            "tokens_per_event": self.tokens_per_event,
        }


def heavy_tail(rows: int, seed: int) -> list[float]:
    """97 % take 0.2 s and 3 % take 6 s, at random places."""
    slow = set(random.Random(seed).sample(range(rows), round(0.03 * rows)))
    return [6.0 if at in slow else 0.2 for at in range(rows)]


def random_refusals(rows: int, share: float, seed: int) -> list[int]:
    """How often each row is refused before it gets in, where every attempt is refused with the same chance."""
    draw = random.Random(seed)
    counts = [0] * rows
    for at in range(1, rows):  # the first problem is what a client may probe with
        while draw.random() < share:
            counts[at] += 1
    return counts


def scenarios(scale: float = 1.0) -> dict[str, Scenario]:
    """All of them; `scale` cuts rows, not latencies, and slots with the rows."""

    def of(number: int) -> int:
        return max(4, round(number * scale))

    a, b, c, d = of(1000), of(1000), of(600), of(400)
    listed = [
        Scenario("A", "flat latency of 0.5 s", a, of(200), [0.5], clients=FLAT),
        Scenario("B", "97 % 0.2 s, 3 % 6 s", b, of(50), heavy_tail(b, 1)),
        Scenario("C", "0.5 s, 10 % random 429", c, of(100), [0.5], random_refusals(c, 0.1, 2), clients=REFUSED),
        Scenario("C2", "0.5 s, 429 above half the slots", c, of(100), [0.5], capacity=of(50), clients=REFUSED),
        Scenario("D", "kill -9 half way, started again; 1 s", d, of(50), [1.0], kill="half", save_partial_seconds=0.2),
        Scenario("E", "the same, and the file cut in its last record", d, of(50), [0.25], kill="half and torn"),
        Scenario("F", "no network but the loopback", of(100), of(50), [0.2], is_isolated=True),
        Scenario("S", "one token an event, 1 s", of(100), of(20), [1.0], tokens_per_event=1, clients=STREAMING),
    ]  # fmt: skip
    return {scenario.name: scenario for scenario in listed}
