"""Which system calls a program may make: a small BPF program that answers "not permitted" to the rest.

A deny list, since Python needs hundreds of calls: sockets, tracing and reading other processes, mounts, namespaces,
kernel modules, changing files' owners, modes and times (Landlock does not govern those), memory that no other limit
counts (memfd, System V segments), other processes' scheduling. clone3 answers "no such call", as its flags lie behind a
pointer that BPF cannot follow; glibc then uses clone.

Sources: seccomp(2); Documentation/userspace-api/seccomp_filter.rst; include/uapi/linux/{filter,seccomp,audit}.h;
numbers from syscall_64.tbl and asm-generic/unistd.h. Not covered: machines other than x86-64 and aarch64.
"""

from __future__ import annotations

import ctypes
import errno
import os

from distill.verify.jail.kernel import process_control, renounce_privileges

LOAD_WORD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ANSWER, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16
X32_CALLS = 0x40000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

CLONE_THREAD, CLONE_ANY_NAMESPACE = 0x00010000, 0x7E020000
F_SETOWN, F_SETOWN_EX = 8, 15
FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR = 0x40086602, 0x401C5820

DENIED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "fanotify_init": (300, 262),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "syslog": (103, 116),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "quotactl": (179, 60), "personality": (135, 92), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "mknod": (133, None), "mknodat": (259, 33),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "sched_setaffinity": (203, 122),
}  # fmt: skip
NEW_PROCESS = {"fork": (57, None), "vfork": (58, None)}
SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)}
QUEUED_SIGNALS = {"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
CLONE, CLONE3, FCNTL, IOCTL, LIMITS = (56, 220), (435, 435), (72, 25), (16, 29), (302, 261)


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction))]


Instruction = tuple[int, int, int, int]


def instructions(machine: str, *, may_start_processes: bool, own_process_id: int) -> list[Instruction]:
    """The filter. Without processes of its own, a program has threads only and may signal only itself."""
    column = list(ARCHITECTURES).index(machine)
    program: list[Instruction] = [
        (LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD_WORD, 0, 0, NUMBER_OFFSET),
    ]
    if machine == "x86_64":
        program += [(JUMP_AT_LEAST, 0, 1, X32_CALLS), (RETURN, 0, 0, KILL_PROCESS)]
    denied = DENIED | ({} if may_start_processes else NEW_PROCESS | QUEUED_SIGNALS)
    for numbers in denied.values():
        program += _answer(numbers[column], errno.EPERM)
    program += _answer(CLONE3[column], errno.ENOSYS)
    program += _answer_if(FCNTL[column], 1, JUMP_EQUAL, F_SETOWN)
    program += _answer_if(FCNTL[column], 1, JUMP_EQUAL, F_SETOWN_EX)
    program += _answer_if(IOCTL[column], 1, JUMP_EQUAL, FS_IOC_SETFLAGS)
    program += _answer_if(IOCTL[column], 1, JUMP_EQUAL, FS_IOC_FSSETXATTR)
    program += _answer_if(CLONE[column], 0, JUMP_ANY_BIT, CLONE_ANY_NAMESPACE)
    if not may_start_processes:
        program += _answer_unless(CLONE[column], 0, JUMP_ANY_BIT, CLONE_THREAD)
        program += _answer_unless(LIMITS[column], 0, JUMP_EQUAL, 0)
        for numbers in SIGNALS.values():
            program += _answer_unless(numbers[column], 0, JUMP_EQUAL, own_process_id)
    return [*program, (RETURN, 0, 0, ALLOW)]


def _answer(number: int | None, error: int) -> list[Instruction]:
    return [] if number is None else [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ANSWER | error)]


def _answer_if(number: int, argument: int, test: int, value: int) -> list[Instruction]:
    """Deny the call where the low word of an argument passes the test; else go on with the next rule."""
    return [
        (JUMP_EQUAL, 0, 4, number),
        (LOAD_WORD, 0, 0, ARGUMENTS_OFFSET + 8 * argument),
        (test, 0, 1, value),
        (RETURN, 0, 0, ANSWER | errno.EPERM),
        (LOAD_WORD, 0, 0, NUMBER_OFFSET),
    ]


def _answer_unless(number: int, argument: int, test: int, value: int) -> list[Instruction]:
    return [
        (JUMP_EQUAL, 0, 4, number),
        (LOAD_WORD, 0, 0, ARGUMENTS_OFFSET + 8 * argument),
        (test, 1, 0, value),
        (RETURN, 0, 0, ANSWER | errno.EPERM),
        (LOAD_WORD, 0, 0, NUMBER_OFFSET),
    ]


def install(*, may_start_processes: bool) -> None:
    """Filter this process and all it becomes or starts. Raises: OSError where the kernel or machine has no filter."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"seccomp: no table of system calls for {machine}")
    rows = instructions(machine, may_start_processes=may_start_processes, own_process_id=os.getpid())
    array = (_Instruction * len(rows))(*(_Instruction(*row) for row in rows))
    program = _Program(len(rows), ctypes.cast(array, ctypes.POINTER(_Instruction)))
    renounce_privileges()
    process_control("seccomp", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))
