"""Which files a process may open, by Landlock: all it does not name is closed, to root as to anyone else.

With ABI 6 (Linux 6.12) a process inside cannot signal, nor reach an abstract socket of, a process outside either.
Sources: landlock(7); Documentation/userspace-api/landlock.rst; include/uapi/linux/landlock.h.
Not covered: what Landlock leaves alone (stat, chmod, owners, times), which `seccomp.py` and the mounts answer for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable

from distill.verify.jail.kernel import renounce_privileges, system_call

SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION, RULE_PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEV = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
READ_ONLY = EXECUTE | READ_FILE | READ_DIR
FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
RIGHTS_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
SCOPES_OF_ABI_6, TCP_OF_ABI_4 = 0b11, 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("handled_access_fs", "handled_access_net", "scoped")]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def version() -> int:
    """Landlock's ABI. Raises: OSError where the kernel has none or was started without it."""
    return system_call("landlock_create_ruleset", SYS_CREATE_RULESET, None, 0, CREATE_RULESET_VERSION)


def require_whole() -> None:
    """Raises: OSError where Landlock alone would not do: before ABI 3 a file that may be read can be cut to nothing."""
    if (abi := version()) < 3:
        raise OSError(errno.ENOSYS, f"landlock: found ABI {abi}; needs 3 (Linux 6.2), else files can be truncated")


def restrict(readable: Iterable[str], devices: Iterable[str], writable: Iterable[str]) -> int:
    """Close all files to this process but these; returns the ABI. Raises: OSError if it cannot be had."""
    abi = version()
    handled = RIGHTS_OF_ABI[min(abi, 5)]
    ruleset = _Ruleset(handled, TCP_OF_ABI_4 if abi >= 4 else 0, SCOPES_OF_ABI_6 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    descriptor = system_call("landlock_create_ruleset", SYS_CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    wanted = [(readable, READ_ONLY), (devices, READ_FILE | WRITE_FILE), (writable, handled & ~EXECUTE & ~IOCTL_DEV)]
    for paths, rights in wanted:
        for path in paths:
            _allow(descriptor, path, rights & handled)
    renounce_privileges()
    system_call("landlock_restrict_self", SYS_RESTRICT_SELF, descriptor, 0)
    os.close(descriptor)
    return abi


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # what is not there needs no rule
    try:
        is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
        rule = _PathBeneath(rights if is_folder else rights & FOR_FILES, place)
        system_call(f"landlock_add_rule {path}", SYS_ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)
