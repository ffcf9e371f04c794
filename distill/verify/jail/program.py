"""The last steps of a process before it is the program: limits, user, closed files, filters, exec.

Not covered: the world around it (`mounts.py`) and after it (`launch.py`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import resource
import signal
from dataclasses import dataclass
from typing import NoReturn

from distill.verify.jail import kernel, landlock, seccomp
from distill.verify.jail.spec import LaunchSpec, SandboxLimits

CHANNEL = 3
MOST_OPEN_FILES = 64
_FAULT = 10  # where the pipe for a failed start is put, closed by exec


@dataclass(frozen=True, slots=True)
class Jail:
    """`user` is who to become, `most_processes` the kernel's count for that user; None leaves them as they are."""

    box: str
    user: int | None
    most_processes: int | None
    is_namespace: bool


def become(spec: LaunchSpec, jail: Jail, fault: int) -> NoReturn:
    """Turn this process into the program. What prevents it is written to `fault`, and nothing is run."""
    try:
        fault = fcntl.fcntl(fault, fcntl.F_DUPFD_CLOEXEC, _FAULT)
        _arrange_descriptors(spec, fault)
        _lock_in(spec, jail)
        os.execve(spec.command[0], spec.command, {**spec.environment, "HOME": jail.box, "TMPDIR": jail.box})
    except BaseException as error:
        os.write(fault, f"{type(error).__name__}: {error}"[:500].encode())
    os._exit(127)


def _arrange_descriptors(spec: LaunchSpec, fault: int) -> None:
    if spec.channel is not None:
        channel = fcntl.fcntl(spec.channel, fcntl.F_DUPFD_CLOEXEC, fault + 1)
    os.dup2(spec.standard_input, 0)
    if spec.channel is not None:
        os.dup2(channel, CHANNEL)
    first = CHANNEL + (spec.channel is not None)
    os.closerange(first, fault)
    os.closerange(fault + 1, os.sysconf("SC_OPEN_MAX"))


def _lock_in(spec: LaunchSpec, jail: Jail) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    os.chdir(jail.box)
    if jail.user is not None:
        os.setgroups([])
        os.setresgid(jail.user, jail.user, jail.user)
        os.setresuid(jail.user, jail.user, jail.user)
    kernel.die_with_parent(signal.SIGKILL)
    if not jail.is_namespace:
        kernel.renounce_privileges()
    _set_limits(spec.limits, jail.most_processes)
    if not jail.is_namespace and os.geteuid() == 0:
        kernel.give_up_capabilities()
    may_fail = (OSError,) if spec.isolation == "unisolated" else ()  # allowed in so many words: take what there is
    with contextlib.suppress(*may_fail):
        _close_files(spec, jail)
    with contextlib.suppress(*may_fail):
        seccomp.install(may_start_processes=jail.is_namespace)


def _close_files(spec: LaunchSpec, jail: Jail) -> None:
    try:
        landlock.restrict(spec.readable, spec.devices, [jail.box])
    except OSError as error:
        is_absent = error.errno in (errno.ENOSYS, errno.EOPNOTSUPP)
        if not (jail.is_namespace and is_absent):  # the mounts do the same without it
            raise


def _set_limits(limits: SandboxLimits, most_processes: int | None) -> None:
    cpu_seconds = math.ceil(limits.cpu_seconds)
    wanted = {
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds + 1),  # SIGXCPU, which a program may ignore; then SIGKILL
        resource.RLIMIT_AS: (limits.memory_bytes,) * 2,
        resource.RLIMIT_STACK: (limits.stack_bytes,) * 2,
        resource.RLIMIT_FSIZE: (limits.file_bytes,) * 2,
        resource.RLIMIT_NOFILE: (MOST_OPEN_FILES,) * 2,
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
    }
    if most_processes is not None:
        wanted[resource.RLIMIT_NPROC] = (most_processes,) * 2
    for which, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(which)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(which, (soft, hard))
