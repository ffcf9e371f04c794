"""Starts one program inside the sandbox and reports how it ended: the process between the caller and the program.

Run by `distill/verify/sandbox.py` in a fresh interpreter. It writes JSON lines to its status pipe: {"started"} when
the program is about to run, {"failed": reason} if it could not be locked in (it is never run then), and
{"exit", "signal", "cpu_seconds"} at its end. SIGTERM, also from the kernel when the caller dies, ends the whole tree.

Not covered: limits on the tree as a whole, which the caller watches from outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from typing import Any, NoReturn

from distill.verify.jail import kernel, landlock, mounts, program
from distill.verify.jail.spec import LaunchSpec

INSIDE_USER = 1000
NOBODY = 65534
NEW_NAMESPACES = (
    kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
)  # fmt: skip


def main(descriptor: int) -> NoReturn:
    with os.fdopen(descriptor, encoding="utf-8") as file:
        spec = LaunchSpec.from_json(file.read())
    try:
        _follow(spec.parent)
        if spec.isolation == "namespaces":
            _run_in_namespaces(spec)
        else:
            _run_in_folder(spec)
    except OSError as error:
        report(spec, failed=str(error))
    os._exit(0)


def report(spec: LaunchSpec, **row: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(spec.status, json.dumps(row).encode() + b"\n")


def _follow(parent: int) -> None:
    """End when the caller ends, however it ends."""
    kernel.die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)


# --- namespaces ------------------------------------------------------------------------------------------------------


def _run_in_namespaces(spec: LaunchSpec) -> None:
    is_root, parent = os.geteuid() == 0, os.getppid()
    _enter_namespaces(is_root)
    _follow(parent)  # a change of credentials forgets it
    hears_end, holds_open = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(holds_open)
        _be_init(spec, hears_end, is_root)
    os.close(hears_end)
    _let_go_of_channel(spec)
    _on_terminate(init)
    os.waitpid(init, 0)  # returns when every process of the namespace is gone


def _enter_namespaces(is_root: bool) -> None:
    """New namespaces, with users mapped: root is root inside to mount, and nobody to run; others are themselves."""
    if not is_root:
        user, group = os.geteuid(), os.getegid()
        kernel.unshare(NEW_NAMESPACES)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{INSIDE_USER} {user} 1")
        _write("/proc/self/gid_map", f"{INSIDE_USER} {group} 1")
        return
    me, (is_inside, says_inside), (is_mapped, says_mapped) = os.getpid(), os.pipe(), os.pipe()
    helper = os.fork()
    if helper == 0:  # only a process outside may map a user that is not its own
        os.close(says_inside)
        if os.read(is_inside, 1):
            for name in ("uid_map", "gid_map"):
                _write(f"/proc/{me}/{name}", f"0 0 1\n{INSIDE_USER} {NOBODY} 1")
            os.write(says_mapped, b"x")
        os._exit(0)
    os.close(says_mapped)
    try:
        kernel.unshare(NEW_NAMESPACES)
        os.write(says_inside, b"x")
        if not os.read(is_mapped, 1):
            raise PermissionError("uid_map: Operation not permitted")
    finally:
        os.close(says_inside)
        os.waitpid(helper, 0)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}") from error


def _be_init(spec: LaunchSpec, hears_end: int, is_root: bool) -> NoReturn:
    """Process 1 of the namespace: builds the root, runs the program, and takes everything with it when it ends."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        kernel.die_with_parent(signal.SIGKILL)
        os.set_blocking(hears_end, False)
        with contextlib.suppress(BlockingIOError):
            os.read(hears_end, 1)
            os._exit(0)  # the parent ended before it could be followed
        mounts.build_root(spec.readable, spec.devices, spec.limits.disk_bytes, INSIDE_USER)
        _write_files(mounts.BOX, spec)
        user = INSIDE_USER if is_root else None
        others = 0 if is_root else 2  # the launcher and this process are the same user
        jail = program.Jail(mounts.BOX, user, spec.limits.max_processes + others, True)
        _run(spec, jail)
    except OSError as error:
        report(spec, failed=str(error))
    os._exit(0)


# --- a folder and Landlock -------------------------------------------------------------------------------------------


def _run_in_folder(spec: LaunchSpec) -> None:
    """Without namespaces: no processes but one, and files closed by Landlock; the folder is removed at the end."""
    if spec.isolation == "landlock":
        landlock.require_whole()  # say so before anything is made
    kernel.adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    box = tempfile.mkdtemp(prefix="distill-box-")
    try:
        _write_files(box, spec)
        _run(spec, program.Jail(box, None, None, False))
    finally:
        _end_orphans()
        for folder, names, _ in os.walk(box):
            for name in names:
                with contextlib.suppress(OSError):
                    os.chmod(os.path.join(folder, name), 0o700, follow_symlinks=False)
        shutil.rmtree(box, ignore_errors=True)


def _end_orphans() -> None:
    """Kill what the program left behind until nothing is left; a process killed hands its children to this one."""
    while True:
        with open("/proc/thread-self/children") as file:
            children = [int(number) for number in file.read().split()]
        if not children:
            return
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


# --- both ------------------------------------------------------------------------------------------------------------


def _on_terminate(child: int) -> None:
    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _let_go_of_channel(spec: LaunchSpec) -> None:
    """The program alone holds it, so that the other side learns when the program is gone."""
    if spec.channel is not None:
        os.close(spec.channel)


def _write_files(box: str, spec: LaunchSpec) -> None:
    for name, text in spec.files.items():
        path = os.path.join(box, name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
            file.write(text)
        os.chmod(path, 0o644)


def _run(spec: LaunchSpec, jail: program.Jail) -> None:
    """Start the program, wait for it (and for orphans that come by), report."""
    reads_fault, writes_fault = os.pipe()
    report(spec, started=True, **({} if jail.is_namespace else {"box": jail.box}))
    child = os.fork()
    if child == 0:
        os.close(reads_fault)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        program.become(spec, jail, writes_fault)
    os.close(writes_fault)
    _let_go_of_channel(spec)
    if not jail.is_namespace:
        _on_terminate(child)
    with os.fdopen(reads_fault, "rb") as pipe:
        fault = pipe.read()
    while True:
        ended, status = os.wait()
        if ended == child:
            break
    if fault:
        report(spec, failed=fault.decode())
        return
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = os.waitstatus_to_exitcode(status)
    ending = {"exit": code if code >= 0 else None, "signal": -code if code < 0 else None}
    report(spec, **ending, cpu_seconds=usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    main(int(sys.argv[1]))
