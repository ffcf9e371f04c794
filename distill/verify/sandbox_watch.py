"""Follows one sandboxed program from outside: takes its output, and ends it at a limit of the tree as a whole.

Each process has the kernel's limits; what they use together is read from /proc every `LOOK_EVERY_SECONDS`.
Not covered: the launch (`sandbox.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Literal

from distill.verify.jail.spec import SandboxLimits

Limit = Literal["", "cpu", "wall", "memory", "output", "disk"]

LOOK_EVERY_SECONDS = 0.05
SETUP_SECONDS = 60.0
MEMORY_OF_INIT_BYTES = 32 * 1024**2
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class SandboxRun:
    """How a program ended. `limit` names the limit it was ended for, if any; `exit_code` is None after a signal."""

    exit_code: int | None
    signal: int | None
    limit: Limit
    standard_output: bytes
    standard_error: bytes
    cpu_seconds: float
    wall_seconds: float
    was_waiting: bool
    """At a wall-clock limit: it was asleep, so it was the program that took the time and not a busy machine."""

    @property
    def is_clean(self) -> bool:
        return self.exit_code == 0 and not self.limit


@dataclass(slots=True)
class Ending:
    """A run, or why there is none."""

    run: SandboxRun | None = None
    failed: str | None = None


@dataclass(slots=True)
class _Use:
    """What the processes below the launcher use now; `cpu_seconds` counts those that ended too."""

    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    is_running: bool = False


def watch(process: subprocess.Popen[bytes], status: int, limits: SandboxLimits) -> Ending:
    """Read to the end or to a limit. The caller ends the tree afterwards."""
    return _Watch(process, status, limits).follow()


class _Watch:
    """The pipes of one run and what was read from them."""

    def __init__(self, process: subprocess.Popen[bytes], status: int, limits: SandboxLimits) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.process, self.status, self.limits = process, status, limits
        self.output, self.errors, self.reports = bytearray(), bytearray(), bytearray()
        self.pipes = {
            process.stdout.fileno(): self.output,
            process.stderr.fileno(): self.errors,
            status: self.reports,
        }
        self.use = _Use()
        self.started_at: float | None = None
        self.ended_at: float | None = None

    def follow(self) -> Ending:
        limit: Limit = ""
        look_at, give_up_at = 0.0, time.monotonic() + SETUP_SECONDS
        with selectors.DefaultSelector() as selector:
            for pipe in self.pipes:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map() and not limit:
                for key, _ in selector.select(LOOK_EVERY_SECONDS):
                    if not self._read(key.fd):
                        selector.unregister(key.fd)
                now = time.monotonic()
                if self.started_at is None and now > give_up_at:
                    return Ending(failed=f"not set up within {SETUP_SECONDS:g} seconds")
                if self.started_at is not None:
                    if now >= look_at:
                        look_at = now + LOOK_EVERY_SECONDS
                        self._look()
                    limit = self._limit_reached(now)
        return self._ending(limit)

    def _read(self, pipe: int) -> bool:
        """Take what is there; False at the end of the pipe."""
        data = os.read(pipe, 1 << 16)
        self.pipes[pipe] += data
        if pipe == self.status and self.started_at is None and self.reports:
            self.started_at = time.monotonic()
        if pipe == self.status and not data:
            self.ended_at = time.monotonic()
        return bool(data)

    def _look(self) -> None:
        if self.ended_at is None:
            use = _use_of_tree(self.process.pid)
            use.cpu_seconds = max(use.cpu_seconds, self.use.cpu_seconds)
            self.use = use

    def _limit_reached(self, now: float) -> Limit:
        assert self.started_at is not None
        limits = self.limits
        if len(self.output) + len(self.errors) > limits.output_bytes:
            return "output"
        if self.ended_at is not None:
            return ""
        if self.use.cpu_seconds > limits.cpu_seconds + 0.5:  # a process alone is ended by the kernel, at the limit
            return "cpu"
        if self.use.memory_bytes > limits.memory_bytes + MEMORY_OF_INIT_BYTES:
            return "memory"
        if (box := self._rows().get("box")) and _folder_bytes(box) > limits.disk_bytes:
            return "disk"
        return "wall" if now - self.started_at > limits.wall_seconds else ""

    def _rows(self) -> dict[str, Any]:
        whole = [line for line in self.reports.splitlines() if line.endswith(b"}")]
        return {key: value for line in whole for key, value in json.loads(line).items()}

    def _ending(self, limit: Limit) -> Ending:
        rows = self._rows()
        if "failed" in rows:
            return Ending(failed=rows["failed"])
        if "exit" not in rows and not limit:
            return Ending()
        cpu_seconds = rows.get("cpu_seconds", self.use.cpu_seconds)
        number = rows.get("signal")
        is_over = number == signal.SIGKILL and cpu_seconds >= self.limits.cpu_seconds
        if not limit and (number == signal.SIGXCPU or is_over):
            limit = "cpu"
        started = self.started_at or 0.0
        most = self.limits.output_bytes
        run = SandboxRun(
            exit_code=rows.get("exit"),
            signal=number,
            limit=limit,
            standard_output=bytes(self.output[:most]),
            standard_error=bytes(self.errors[:most]),
            cpu_seconds=round(cpu_seconds, 3),
            wall_seconds=round((self.ended_at or time.monotonic()) - started, 3),
            was_waiting=limit == "wall" and not self.use.is_running,
        )
        return Ending(run)


def _use_of_tree(launcher: int) -> _Use:
    use, waiting = _Use(), [launcher]
    while waiting:
        process = waiting.pop()
        with contextlib.suppress(OSError, ValueError):  # it may end while it is read
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/children") as file:
                    waiting.extend(int(number) for number in file.read().split())
            if process != launcher:
                _add(use, process)
    return use


def _add(use: _Use, process: int) -> None:
    """Fields of proc_pid_stat(5), counted from the state, which follows the name in parentheses."""
    with open(f"/proc/{process}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    use.cpu_seconds += sum(int(ticks) for ticks in fields[11:15]) / _TICKS
    use.memory_bytes += int(fields[21]) * _PAGE
    use.is_running |= fields[0] in "RD"


def _folder_bytes(folder: str) -> int:
    total, waiting = 0, [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512 + 256
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return total
