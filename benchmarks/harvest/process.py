"""One client process: started, watched, killed; the processor time of it and of everything it started.

    with Client(command, environment, log) as client:
        client.wait(limit_seconds)
    client.usage_at(moment)

Processor time is that of the whole process tree: sampled while it runs, from /proc, and exact at the end, from what
the kernel charges to a process that was waited for. A grandchild that outlives its parent would escape the latter; the
larger of the two counts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SAMPLE_SECONDS = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, those that ended included; 0 where it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0.0
    total = sum(int(field) for field in after_name[11:15]) / _TICKS
    for task in tasks:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
            total += sum(tree_cpu_seconds(int(child)) for child in children)
    return total


class Client:
    """A running client in a process group of its own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path):
        self._command, self._environment, self._log, self._folder = list(command), dict(environment), log, folder
        self._samples: list[tuple[float, float]] = []
        self.started = self.ended = 0.0
        self.exit_code: int | None = None
        self.cpu_seconds = 0.0

    def __enter__(self) -> Self:
        with open(self._log, "ab") as log:
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=self._folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._waiter = threading.Thread(target=self._reap, daemon=True)
        self._sampler.start()
        self._waiter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._waiter.join()
        self._sampler.join()

    @property
    def is_running(self) -> bool:
        return not self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within so many seconds."""
        return self._over.wait(seconds)

    def kill(self) -> None:
        """SIGKILL to the whole group, as a machine that dies."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._over.wait()

    def cpu_at(self, moment: float) -> float:
        """Processor seconds used until a moment of the monotonic clock."""
        at = bisect_right([when for when, _ in self._samples], moment)
        return self._samples[at - 1][1] if at else 0.0

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._samples.append((time.monotonic(), tree_cpu_seconds(self._process.pid)))

    def _reap(self) -> None:
        _, status, usage = os.wait4(self._process.pid, 0)
        self.ended = time.monotonic()
        self.exit_code = self._process.returncode = os.waitstatus_to_exitcode(status)
        most_sampled = max((cpu for _, cpu in self._samples), default=0.0)
        self.cpu_seconds = max(usage.ru_utime + usage.ru_stime, most_sampled)
        self._over.set()
