"""Time on a device: CUDA events around warmed-up calls with a flushed L2, medians and spread; a clock on a CPU.

    times = time_calls(function, device, repeats=20)      # milliseconds
    summary(times)                                        # {"median": ..., "least": ..., "most": ..., "count": ...}

What is timed is warmed up first; nothing here knows what it is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

FLUSH_BYTES = 2**30
"""Written before each timed call: several times any L2, and long enough to hide what the call's launch costs."""


class Stopwatch:
    """Marks on the device's own time line; differences in milliseconds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[Any] = []

    def mark(self) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def milliseconds(self) -> list[float]:
        """Between neighbouring marks; waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return [a.elapsed_time(b) for a, b in zip(self.marks, self.marks[1:], strict=False)]
        return [1000 * (b - a) for a, b in zip(self.marks, self.marks[1:], strict=False)]


def time_calls(
    function: Callable[[], object], device: torch.device, repeats: int, *, warm_up: int = 3, flush: bool = True
) -> list[float]:
    """Milliseconds of each of `repeats` calls."""
    for _ in range(warm_up):
        function()
    watches = []
    for _ in range(repeats):
        if flush and device.type == "cuda":
            _flush_buffer(device).zero_()
        watch = Stopwatch(device)
        watch.mark()
        function()
        watch.mark()
        watches.append(watch)
    return [watch.milliseconds()[0] for watch in watches]


def time_in_turns(
    functions: dict[str, Callable[[], object]], device: torch.device, repeats: int, *, rounds: int = 4
) -> dict[str, list[float]]:
    """The same for several functions, turn by turn, so that a drifting clock meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds):
        for name, function in functions.items():
            share = -(-repeats // rounds)
            times[name] += time_calls(function, device, share, warm_up=3 if turn == 0 else 1)
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median, and the range of the middle 80 % (all, where there are fewer than ten)."""
    ordered = sorted(times)
    cut = len(ordered) // 10
    return {
        "median": statistics.median(ordered),
        "least": ordered[cut],
        "most": ordered[len(ordered) - 1 - cut],
        "count": len(ordered),
    }


def release(device: torch.device, collect: bool = True) -> None:
    """Give cached memory back, the flushed buffer too: what follows wants all of it. `collect`: a model was dropped."""
    import gc

    if collect:
        gc.collect()
    _flush_buffer.cache_clear()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


@lru_cache
def _flush_buffer(device: torch.device) -> torch.Tensor:
    return torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device=device)
