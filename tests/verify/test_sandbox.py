"""Programs that try to get out, or to use more than they may (`distill/verify/sandbox.py` and `jail/`).

pytest tests/verify/test_sandbox.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distill.verify import sandbox
from distill.verify.jail.seccomp import DENIED, instructions
from distill.verify.jail.spec import Isolation, SandboxLimits
from distill.verify.sandbox import SandboxFault, SandboxRun, run_program
from distill.verify.sandbox_capabilities import WAYS, sandbox_capabilities

ROOT = Path(__file__).parents[2]
TIGHT = SandboxLimits(
    cpu_seconds=1,
    wall_seconds=8,
    memory_bytes=256 * 1024**2,
    max_processes=8,
    output_bytes=256 * 1024,
    file_bytes=1024**2,
    disk_bytes=4 * 1024**2,
)
SHORT = SandboxLimits(cpu_seconds=1, wall_seconds=1.5)
Run = Callable[..., SandboxRun]


def marked(mark: str) -> list[int]:
    """Processes of this machine that carry the mark in their environment, which a program cannot take off."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                if mark.encode() in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(int(entry))
            except OSError:
                continue
    return found


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Isolation:
    reason = sandbox_capabilities().ways[request.param]
    if reason:
        pytest.skip(f"{request.param} cannot be had here: {reason}")
    return request.param


@pytest.fixture
def run(way: Isolation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a program; afterwards no process of it may be left."""
    mark, plain = f"distill-test-{uuid.uuid4()}", sandbox._environment()
    monkeypatch.setattr(sandbox, "_environment", lambda: {**plain, "MARK": mark})
    yield lambda source, limits=TIGHT, **given: run_program(source, limits=limits, isolation=way, **given)
    assert marked(mark) == []


def last_line(run: SandboxRun) -> str:
    return run.standard_error.decode().strip().splitlines()[-1]


# --- honest programs -------------------------------------------------------------------------------------------------


def test_an_honest_program(run: Run) -> None:
    done = run("import sys\nprint(int(input()) + 1)\nprint('note', file=sys.stderr)\nexit(3)", standard_input="41\n")
    assert (done.exit_code, done.limit, done.standard_output, done.standard_error) == (3, "", b"42\n", b"note\n")


def test_it_may_use_its_folder_threads_and_packages(run: Run) -> None:
    source = (
        "import threading, numpy, tempfile, decimal\nopen('own', 'w').write('x')\nprint(open('own').read())\n"
        "t = threading.Thread(target=lambda: print(numpy.arange(4).sum()))\nt.start(); t.join()\n"
        "print(tempfile.TemporaryFile().write(b'abc'))"
    )
    done = run(source, limits=SandboxLimits())
    assert (done.standard_output, done.exit_code) == (b"x\n6\n3\n", 0), done.standard_error


def test_deep_recursion_that_fits_is_fine(run: Run) -> None:
    source = "import sys\nsys.setrecursionlimit(60000)\ndef f(n): return n and f(n - 1) + 1\nprint(f(50000))"
    assert run(source, limits=SandboxLimits()).standard_output == b"50000\n"


def test_it_sees_nothing_of_the_caller(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    source = (
        "import os\nprint(sorted(os.environ))\nprint(os.listdir('.'))\nprint(os.listdir('/dev/fd/..') if 0 else '')"
    )
    done = run(source)
    assert b"API_KEY" not in done.standard_output
    assert b"['main.py']" in done.standard_output


def test_no_descriptor_is_left_open(run: Run) -> None:
    source = "import os\nfor n in range(3, 300):\n    try: os.fstat(n); print(n)\n    except OSError: pass"
    assert run(source).standard_output == b""


# --- ways out --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/status", "/proc/1/environ", __file__, "/root", "/home"])
def test_reading_outside(path: str, run: Run) -> None:
    done = run(f"import os\nos.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r}).read()")
    assert done.exit_code == 1
    assert last_line(done).startswith(("FileNotFoundError", "PermissionError")), last_line(done)


def test_writing_outside(run: Run, tmp_path: Path) -> None:
    places = [str(tmp_path / "w"), "/tmp/distill-was-here", "/distill-was-here", "/usr/lib/distill-was-here"]
    source = f"for place in {places!r}:\n    try: open(place, 'w'); print(place)\n    except OSError: pass"
    assert run(source).standard_output == b""
    assert not any(Path(place).exists() for place in places)


def test_links_lead_nowhere(run: Run) -> None:
    source = "import os\nos.symlink('/etc/passwd', 'link')\nprint(open('link').read())"
    assert run(source).standard_output == b""


def test_modes_and_times_of_outside_files_stay(run: Run, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.write_text("x")
    before = witness.stat()
    calls = "lambda p: os.chmod(p, 0), lambda p: os.utime(p, (0, 0)), lambda p: os.chown(p, 7, 7)"
    run(f"import os\nfor f in ({calls}):\n    try: f({str(witness)!r})\n    except OSError: pass")
    after = witness.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_uid) == (before.st_mode, before.st_mtime_ns, before.st_uid)


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"])
def test_no_sockets(family: str, run: Run) -> None:
    done = run(f"import socket\nsocket.socket(socket.{family}, socket.SOCK_RAW if 'NETLINK' in {family!r} else 1)")
    assert last_line(done) == "PermissionError: [Errno 1] Operation not permitted"


def test_a_local_server_hears_nothing(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        run(f"import socket\nsocket.create_connection({server.getsockname()!r}, 1).send(b'x')")
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_shell_is_not_there(run: Run) -> None:
    done = run(
        "import os, subprocess\ntry: print(subprocess.run(['/bin/sh', '-c', 'id']))\nexcept OSError: print('no')"
    )
    assert done.standard_output == b"no\n"
    assert run("import os\nos.execv('/bin/sh', ['sh', '-c', 'echo out'])").standard_output == b""


def test_no_tracing_no_namespaces_no_mounts(run: Run) -> None:
    calls = "ptrace(0, 0, 0, 0)", "unshare(0x10000000)", "mount(b'/', b'/box', None, 4096, None)", "chroot(b'.')"
    source = "import ctypes\nc = ctypes.CDLL(None)\n" + "\n".join(f"print(c.{call})" for call in calls)
    assert run(source).standard_output.split() == [b"-1"] * len(calls)


def test_no_capability_and_no_other_user(run: Run) -> None:
    source = (
        "import ctypes, os\nc = ctypes.CDLL(None)\nhead = (ctypes.c_uint32 * 2)(0x20080522, 0)\n"
        "data = (ctypes.c_uint32 * 6)()\nassert c.capget(head, data) == 0\nprint(data[0], data[1], data[3], data[4])\n"
        "try: os.setgroups([1]); print('changed')\nexcept OSError: pass"
    )
    assert run(source).standard_output == b"0 0 0 0\n"


def test_unisolated_still_has_limits() -> None:
    assert run_program("while True: pass", isolation="unisolated", limits=TIGHT).limit in ("cpu", "wall")
    assert run_program("print(1)", isolation="unisolated").standard_output == b"1\n"


def test_it_cannot_signal_the_caller(run: Run, way: Isolation) -> None:
    mine = os.getpid()
    done = run(f"import os, signal\nfor p in ({mine}, os.getppid(), -1):\n    try: os.kill(p, 0 if p < 0 else 9)\n"
               "    except (OSError, OverflowError): pass\nprint('still here')")  # fmt: skip
    assert done.standard_output == b"still here\n"


# --- limits ----------------------------------------------------------------------------------------------------------


def test_fork_bomb(run: Run) -> None:
    started = time.monotonic()
    done = run("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
    assert done.limit in ("cpu", "wall", "memory")
    assert time.monotonic() - started < 40


def test_memory_bomb(run: Run) -> None:
    done = run("x = []\nwhile True: x.append(bytearray(10 ** 7))")
    assert (done.exit_code, last_line(done)) == (1, "MemoryError")


def test_memory_of_all_processes_together(run: Run, way: Isolation) -> None:
    if way != "namespaces":
        pytest.skip("one process only")
    source = (
        "import os, time\nfor _ in range(5):\n    if os.fork() == 0: break\n"
        "x = bytearray(100 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(60)"
    )
    assert run(source, limits=SandboxLimits(memory_bytes=256 * 1024**2, wall_seconds=20)).limit == "memory"


@pytest.mark.parametrize("source", ["while True: pass", "import signal\nsignal.signal(24, lambda *_: 0)\nwhile 1: 0"])
def test_endless_loop(source: str, run: Run) -> None:
    done = run(source, limits=SandboxLimits(cpu_seconds=1, wall_seconds=60))
    assert done.limit == "cpu"
    assert done.cpu_seconds < 4


def test_endless_sleep_is_known_from_a_busy_machine(run: Run) -> None:
    done = run("import time\ntime.sleep(100)", limits=SHORT)
    assert (done.limit, done.was_waiting) == ("wall", True)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_flood(stream: str, run: Run) -> None:
    done = run(f"import sys\nwhile True: sys.{stream}.write('x' * 1000)")
    assert done.limit == "output"
    assert max(len(done.standard_output), len(done.standard_error)) == TIGHT.output_bytes


def test_a_huge_file(run: Run) -> None:
    done = run("f = open('big', 'wb', 0)\nwhile True: f.write(b'x' * 65536)")
    assert last_line(done) == "OSError: [Errno 27] File too large"


def test_many_files(run: Run, way: Isolation) -> None:
    done = run("for n in range(10 ** 6): open(str(n), 'wb').write(b'x' * 500_000)")
    assert done.limit == "disk" if way == "landlock" else "No space left" in last_line(done)


def test_endless_recursion(run: Run) -> None:
    done = run("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(n): return f(n + 1) + 1\nf(0)")
    assert done.signal is not None or done.limit == "cpu" or done.exit_code == 1


def test_a_daemon_that_ignores_signals_dies_with_the_program(run: Run, way: Isolation) -> None:
    source = (
        "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nsignal.signal(1, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    for n in range(3): os.close(n)\n    time.sleep(1000)\ntime.sleep(0.2)\nprint('left')"
    )
    done = run(source)
    assert done.standard_output == (b"left\n" if way == "namespaces" else b"")


# --- around it -------------------------------------------------------------------------------------------------------


def test_kill_9_of_the_caller_takes_the_program_along(way: Isolation, tmp_path: Path) -> None:
    mark = f"distill-test-{uuid.uuid4()}"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom distill.verify import sandbox\n"
        f"plain = sandbox._environment()\nsandbox._environment = lambda: {{**plain, 'MARK': {mark!r}}}\n"
        f"sandbox.run_program('import time; time.sleep(100)', isolation={way!r})"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
    end = time.monotonic() + 30
    while not marked(mark) and time.monotonic() < end:
        time.sleep(0.1)
    assert marked(mark)
    caller.kill()
    caller.wait()
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.1)
    assert marked(mark) == []


def test_what_cannot_be_set_up_is_a_fault_and_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_executable", lambda: "/nowhere/python")
    with pytest.raises(SandboxFault, match="was not run: FileNotFoundError"):
        run_program("print(1)")


@pytest.mark.slow
def test_200_at_once(run: Run) -> None:
    def one(number: int) -> bool:
        return run(f"print({number})", limits=SandboxLimits(wall_seconds=120)).standard_output == b"%d\n" % number

    with ThreadPoolExecutor(32) as threads:
        assert all(threads.map(one, range(200)))


def test_as_nobody() -> None:
    """The system's Python, since this one may lie where nobody can read."""
    python = "/usr/bin/python3"
    can = os.geteuid() == 0 and Path(python).exists() and os.access(ROOT, os.R_OK)
    if not can:
        pytest.skip("needs root, to become nobody, and a Python that nobody can read")
    code = (
        f"import os, sys; os.setgid(65534); os.setuid(65534); sys.path.insert(0, {str(ROOT)!r})\n"
        "from distill.verify.sandbox_capabilities import sandbox_capabilities as c\n"
        "from distill.verify.sandbox import run_program\nprint(c().user, c().isolation)\n"
        "print(run_program('import os\\nprint(os.getuid())\\nopen(\"/etc/passwd\")').exit_code)"
    )
    command = [python, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120)
    if "PermissionError" in done.stderr or "SyntaxError" in done.stderr:
        pytest.skip("nobody cannot read this checkout, or the system's Python is too old")
    assert done.stdout.split()[0] == "65534", done.stderr
    assert done.stdout.split()[-1] == "1"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("may_start_processes", [True, False])
def test_every_jump_of_the_filter_lands_inside(machine: str, may_start_processes: bool) -> None:
    rows = instructions(machine, may_start_processes=may_start_processes, own_process_id=1)
    assert len(rows) < 4096
    for position, (code, if_true, if_false, _) in enumerate(rows):
        if code & 7 == 5:
            assert position + 1 + max(if_true, if_false) < len(rows)
    assert all(numbers[0] is not None or numbers[1] is not None for numbers in DENIED.values())
