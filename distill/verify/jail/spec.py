"""What the sandbox is asked to run and within what limits: plain data, JSON on the way into the child.

Not covered: what comes of it (`distill/verify/sandbox.py`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

Isolation = Literal["namespaces", "landlock", "unisolated"]


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What a program may use; the whole tree of its processes, where not said otherwise."""

    cpu_seconds: float = 6.0
    wall_seconds: float = 12.0
    memory_bytes: int = 1024**3
    """Address space of one process, and resident memory of all."""
    max_processes: int = 16
    """Threads count. Where there are no namespaces, a program may start threads but no process."""
    output_bytes: int = 8 * 1024**2
    """Standard output and standard error together."""
    file_bytes: int = 16 * 1024**2
    disk_bytes: int = 64 * 1024**2
    stack_bytes: int = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One run as the launcher needs it."""

    isolation: Isolation
    limits: SandboxLimits
    command: list[str]
    environment: dict[str, str]
    files: dict[str, str]
    readable: list[str]
    devices: list[str]
    parent: int
    standard_input: int
    status: int
    channel: int | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> LaunchSpec:
        row = json.loads(text)
        return LaunchSpec(**{**row, "limits": SandboxLimits(**row["limits"])})
