"""Runs model-written Python locked in: no network, no files but its own folder, limits, killed as a tree.

    run = run_program("print(int(input()) + 1)", standard_input="41")
    run.standard_output == b"42\\n" and not run.limit

Two ways to lock a program in, tried in this order (`sandbox_capabilities()` says what this machine allows):
  namespaces   new user, mount, network, process, IPC, host-name and cgroup namespaces, a root of read-only mounts and
               a small tmpfs, seccomp, and Landlock where there is one. Works as root and as any user.
  landlock     where namespaces are forbidden (many containers): Landlock for files (Linux 6.2), seccomp for the
               network; the program may start threads but no processes.
If neither can be had, nothing is run and `SandboxUnavailable` says why; DISTILL_SANDBOX=unisolated in the environment
runs code all the same, with resource limits only.

Not covered: systems other than Linux on x86-64 and aarch64; languages other than Python; accelerators; bugs in the
kernel, which all of this shares with the program.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from contextlib import closing
from functools import cache
from pathlib import Path

import distill
from distill.errors import InfrastructureError
from distill.verify.jail.spec import Isolation, LaunchSpec, SandboxLimits
from distill.verify.sandbox_watch import Ending, SandboxRun, watch

SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
ALLOWED_BY = "DISTILL_SANDBOX"


class SandboxUnavailable(InfrastructureError):
    """This machine cannot lock a program in, and running it without was not allowed."""


class SandboxFault(Exception):
    """A run that failed for a reason of the machine's, not the program's (no process, no memory for the launcher)."""


def run_program(
    source: str,
    *,
    standard_input: str | bytes = b"",
    limits: SandboxLimits | None = None,
    files: dict[str, str] | None = None,
    channel: int | None = None,
    isolation: Isolation | None = None,
) -> SandboxRun:
    """Run `source` as a script in a sandbox of its own, to its end or its limit; nothing of it is left afterwards.

    `files` lie beside the script; `channel` is a descriptor the program finds as 3, and is closed here.
    Raises: SandboxUnavailable; SandboxFault if the machine, not the program, failed.
    """
    if isolation is None:
        from distill.verify.sandbox_capabilities import isolation_here

        isolation = isolation_here()
    limits = limits or SandboxLimits()
    data = standard_input.encode("utf-8", "replace") if isinstance(standard_input, str) else standard_input
    everything = {**(files or {}), "main.py": source}
    with closing(_Launch(everything, data, limits, channel, isolation)) as launch:
        ending = watch(launch.process, launch.status, limits)
    return _checked(ending, isolation)


def _checked(ending: Ending, isolation: Isolation) -> SandboxRun:
    if ending.failed is not None:
        raise SandboxFault(f"sandbox ({isolation}): the program was not run: {ending.failed}")
    if ending.run is None:
        raise SandboxFault(f"sandbox ({isolation}): the launcher ended without a report")
    return ending.run


class _Launch:
    """One launcher process, the pipes to it and the in-memory files it reads."""

    def __init__(
        self,
        files: dict[str, str],
        data: bytes,
        limits: SandboxLimits,
        channel: int | None,
        isolation: Isolation,
    ) -> None:
        self.status, status = os.pipe()
        given = _memory_file("stdin", data)
        spec = LaunchSpec(
            isolation=isolation,
            limits=limits,
            command=[_executable(), "-B", "-s", "main.py"],
            environment=_environment(),
            files=files,
            readable=list(_readable()),
            devices=[device for device in DEVICES if os.path.exists(device)],
            parent=os.getpid(),
            standard_input=given,
            status=status,
            channel=channel,
        )
        description = _memory_file("spec", spec.to_json().encode())
        inherited = [description, given, status] + ([] if channel is None else [channel])
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", _launcher(description)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=inherited,
                env={"LC_ALL": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            os.close(self.status)
            raise SandboxFault(f"sandbox: cannot start a process: {error}") from error
        finally:
            for descriptor in inherited:
                os.close(descriptor)

    def close(self) -> None:
        """End the tree if it still runs. The launcher kills it on SIGTERM, and leaves only after it is gone."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        os.close(self.status)
        self.process.wait()


def _launcher(description: int) -> str:
    root = str(Path(distill.__file__).parent.parent)
    return f"import sys; sys.path.append({root!r}); from distill.verify.jail.launch import main; main({description})"


def _memory_file(name: str, data: bytes) -> int:
    descriptor = os.memfd_create(f"distill-{name}")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@cache
def _executable() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@cache
def _packages() -> tuple[str, ...]:
    """Where installed packages lie: model-written code may import numpy if this environment has it."""
    found = {os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    return tuple(sorted(path for path in found if os.path.isdir(path)))


@cache
def _readable() -> tuple[str, ...]:
    """All that a program may read besides its folder: the interpreter, its libraries, installed packages."""
    prefix = os.path.realpath(sys.base_prefix)
    own = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    own |= {os.path.join(prefix, "lib"), os.path.join(prefix, "lib64"), _executable(), *_packages()}
    return tuple(path for path in sorted({*own, *SYSTEM_LIBRARIES}) if os.path.exists(path))


def _environment() -> dict[str, str]:
    """Nothing of the caller's: secrets live in environments. Hash order is fixed, so that a rerun is the same."""
    return {
        "PYTHONPATH": os.pathsep.join(_packages()),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PATH": "",
    }
