"""Linux system calls that Python has no function for, through ctypes; an error is an OSError that names the call.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of the Linux kernel; those used
here by number are the same on x86-64 and aarch64. Not covered: other systems and other machines.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

CLONE_NEWNS = 0x00020000  # clone(2)
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000  # mount(2)
MNT_DETACH = 2  # umount2(2)
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 0x1, 0x2, 0x4  # mount_setattr(2)
AT_RECURSIVE, AT_FDCWD = 0x8000, -100

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38  # prctl(2)

SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def system_call(what: str, number: int, *arguments: object) -> int:
    """A raw system call; whole numbers are passed as longs, so that flags and pointers keep their width."""
    passed = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *passed), what)


def process_control(what: str, option: int, *arguments: object) -> int:
    passed = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    passed += [ctypes.c_ulong(0)] * (4 - len(passed))
    return _checked(_libc.prctl(ctypes.c_int(option), *passed), what)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    done = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _checked(done, f"mount {target}")


def unmount(target: str) -> None:
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def restrict_mount(path: str, attributes: int, *, and_below: bool) -> None:
    """Set attributes on a mount, and on all mounts below it or not (Linux 5.12)."""
    wanted = _MountAttributes(attributes, 0, 0, 0)
    flags = AT_RECURSIVE if and_below else 0
    arguments = (AT_FDCWD, path.encode(), flags, ctypes.byref(wanted), ctypes.sizeof(wanted))
    system_call(f"mount_setattr {path}", SYS_MOUNT_SETATTR, *arguments)


def change_root(path: str) -> None:
    """Make `path`, a mount, the root and let go of the old one (pivot_root(2), the section on '.' and '.')."""
    os.chdir(path)
    system_call("pivot_root", SYS_PIVOT_ROOT[os.uname().machine], b".", b".")
    unmount(".")
    os.chdir("/")


def die_with_parent(with_signal: int = signal.SIGKILL) -> None:
    process_control("PR_SET_PDEATHSIG", PR_SET_PDEATHSIG, with_signal)


def adopt_orphans() -> None:
    """Descendants that lose their parent become this process's children, not init's."""
    process_control("PR_SET_CHILD_SUBREAPER", PR_SET_CHILD_SUBREAPER, 1)


def give_up_capabilities() -> None:
    """Root has no capability after the next exec (capabilities(7), the bounding set)."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                return  # past the last one
            _checked(-1, "PR_CAPBSET_DROP")


def renounce_privileges() -> None:
    """No exec from here on gains anything (set-user-ID files); seccomp and Landlock ask for it."""
    process_control("PR_SET_NO_NEW_PRIVS", PR_SET_NO_NEW_PRIVS, 1)
