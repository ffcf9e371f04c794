"""What this machine allows a sandbox, found out by trying: each way runs a small program that tests its own walls.

    print(sandbox_capabilities())

Not covered: how strong a kernel is.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache

from distill.verify.jail.spec import Isolation, SandboxLimits
from distill.verify.sandbox import ALLOWED_BY, SandboxFault, SandboxUnavailable, run_program

WAYS: tuple[Isolation, ...] = ("namespaces", "landlock")

WALLS = 4

_ATTEMPT = """
import os, socket
held = []
for path, mode in (("/etc/passwd", "r"), ("/proc/self/status", "r"), ("/tmp/distill-probe", "w")):
    try:
        open(path, mode).close()
    except OSError:
        held.append(path)
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except ConnectionRefusedError:
    pass
except OSError:
    held.append("network")
open("own", "w").write("1")
print(len(held))
"""


@dataclass(frozen=True, slots=True)
class SandboxCapabilities:
    """For each way, "" if it holds here, or why not; `isolation` is the way that is used, or None."""

    system: str
    user: int
    ways: dict[Isolation, str]
    isolation: Isolation | None

    def to_dict(self) -> dict[str, object]:
        return {"system": self.system, "user": self.user, "ways": self.ways, "isolation": self.isolation}

    def __str__(self) -> str:
        lines = [f"{name}: {reason or 'works'}" for name, reason in self.ways.items()]
        return "\n".join([f"{self.system}, user {self.user}", *lines, f"used: {self.isolation or 'none'}"])


@cache
def sandbox_capabilities() -> SandboxCapabilities:
    """Try every way, once a process."""
    if platform.system() != "Linux":
        ways: dict[Isolation, str] = dict.fromkeys(WAYS, "needs Linux")
    else:
        ways = {name: _attempt(name) for name in WAYS}
    works: list[Isolation] = [name for name in WAYS if not ways[name]]
    user = os.geteuid() if hasattr(os, "geteuid") else -1
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return SandboxCapabilities(system, user, ways, works[0] if works else None)


def _attempt(isolation: Isolation) -> str:
    if not os.path.exists("/proc/thread-self/children"):
        return "no /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN), by which a tree of processes is watched"
    limits = SandboxLimits(cpu_seconds=5, wall_seconds=30, memory_bytes=512 * 1024**2)
    try:
        run = run_program(_ATTEMPT, limits=limits, isolation=isolation)
    except SandboxFault as fault:
        return str(fault).rpartition("not run: ")[2]
    if not run.is_clean:
        return f"a small program failed: {run.standard_error[-300:].decode(errors='replace')}"
    held = int(run.standard_output)
    return "" if held == WALLS else f"only {held} of {WALLS} walls held"


@cache
def isolation_here() -> Isolation:
    """The way used on this machine. Raises: SandboxUnavailable if none works and running without was not allowed."""
    asked = os.environ.get(ALLOWED_BY, "")
    if asked not in ("", "unisolated"):
        raise SandboxUnavailable(f"{ALLOWED_BY}: found '{asked}'; allowed: unisolated, or leave it unset.")
    found = sandbox_capabilities()
    if found.isolation is not None:
        return found.isolation
    if asked == "unisolated":
        return "unisolated"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in found.ways.items())
    raise SandboxUnavailable(
        f"sandbox: model-written code cannot be locked in on {found.system} ({reasons}). Allow user namespaces "
        f"(sysctl user.max_user_namespaces, or a container profile that permits unshare), or use a kernel of 6.2 or "
        f"later with Landlock; {ALLOWED_BY}=unisolated runs the code without isolation."
    )
