"""Model-written programs that attack the machine, from the answer's text to the verdict (`distill/verify/code.py`).

What each wall holds by itself is in test_sandbox.py; here a sample with such a program gets its verdict, an honest one
beside it gets its own, and nothing is left running.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from distill.records import Problem, Sample
from distill.testcases import read_tests
from distill.verify import code
from distill.verify.base import verify
from distill.verify.jail.spec import SandboxLimits
from distill.verify.pool import VerifierPool
from distill.verify.sandbox_capabilities import sandbox_capabilities

ROOT = Path(__file__).parents[2]
WITNESS = "/tmp/distill-hostile-code-was-here"
TIGHT = SandboxLimits(
    cpu_seconds=1.5, wall_seconds=8, memory_bytes=256 * 1024**2, max_processes=8, output_bytes=256 * 1024
)
STDIN = {"inputs": ["2 3", "4 5"], "outputs": ["5", "9"]}
HONEST = "print(sum(map(int, input().split())))"
HOSTILE = {
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "over the"),
    "thread bomb": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()", ""),
    "memory bomb": ("x = []\nwhile True: x.append(bytearray(10 ** 7))", "MemoryError"),
    "network call": ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')", "Operation not permitted"),
    "file write": (f"open({WITNESS!r}, 'w').write('x')", "Error"),
    "infinite loop": ("while True: pass", "over the limit of CPU time"),
    "endless sleep": ("import time\ntime.sleep(10 ** 6)", "over the time limit"),
    "output flood": ("while True: print('x' * 1000)", "over the output limit"),
    "wrong exit": ("print(5)\nimport os\nos._exit(3)", "exit code 3"),
    "kill all": ("import os, signal\nos.kill(-1, signal.SIGKILL)", ""),
}
ASLEEP = ("endless sleep", "thread bomb")  # their wall clock runs out, not their CPU time
Make = Callable[..., Problem]
MakeSample = Callable[..., Sample]

pytestmark = pytest.mark.skipif(
    sandbox_capabilities().isolation is None, reason=f"no sandbox here: {sandbox_capabilities()}"
)


def fenced(source: str) -> str:
    return f"```python\n{source}\n```"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_wrong_with_its_reason(
    name: str, make_problem: Make, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(TIGHT, wall_seconds=2.5) if name in ASLEEP else TIGHT
    monkeypatch.setattr(code, "SandboxLimits", lambda: limits)
    source, reason = HOSTILE[name]
    problem = make_problem(None, verifier="code", tests=read_tests(STDIN, where="here"))
    verdict = verify(problem, make_sample(fenced(source)))
    assert verdict.outcome == "wrong", verdict
    assert reason in verdict.detail and verdict.detail.startswith("test 1 of 2")
    assert not os.path.exists(WITNESS)
    assert verify(problem, make_sample(fenced(HONEST))).outcome == "correct"


def descendants(process: int) -> set[tuple[int, str]]:
    """(process id, start time) of all that a process started, and what those started."""
    found, waiting = set(), [process]
    while waiting:
        try:
            for thread in os.listdir(f"/proc/{(parent := waiting.pop())}/task"):
                for child in Path(f"/proc/{parent}/task/{thread}/children").read_text().split():
                    waiting.append(int(child))
                    found.add((int(child), started_at(int(child))))
        except OSError:
            continue
    return found


def started_at(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def is_alive(process: int, start: str) -> bool:
    try:
        return started_at(process) == start
    except OSError:
        return False


def test_a_worker_over_its_time_is_killed_with_all_its_program_started(
    make_problem: Make, make_sample: MakeSample
) -> None:
    tests = read_tests({"inputs": ["1"], "outputs": ["1"]}, where="here")
    problem = make_problem(None, verifier="code", tests=tests)
    hangs = make_sample(fenced("import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(1000)"))
    with VerifierPool(workers=1, timeout_seconds=3) as pool:
        pool.submit(problem, hangs)
        seen: set[tuple[int, str]] = set()
        verdicts = []
        while not verdicts:
            verdicts = pool.poll(0.1)
            seen |= {each for worker in pool.process_ids for each in descendants(worker)}
    assert (verdicts[0].outcome, verdicts[0].detail) == ("error", "over the time limit of 3 seconds")
    assert seen
    give_up_at = time.monotonic() + 10
    while any(is_alive(*each) for each in seen) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert not [each for each in seen if is_alive(*each)]


REFUSE = """
import ctypes, errno, os, sys
sys.path.insert(0, {root!r})
from distill.verify.jail import kernel, seccomp
refused = [{{"x86_64": 272, "aarch64": 97}}[os.uname().machine], *{also}]
rows = [(seccomp.LOAD_WORD, 0, 0, seccomp.NUMBER_OFFSET)]
for number in refused:
    rows += [(seccomp.JUMP_EQUAL, 0, 1, number), (seccomp.RETURN, 0, 0, seccomp.ANSWER | errno.EPERM)]
rows.append((seccomp.RETURN, 0, 0, seccomp.ALLOW))
array = (seccomp._Instruction * len(rows))(*(seccomp._Instruction(*row) for row in rows))
program = seccomp._Program(len(rows), ctypes.cast(array, ctypes.POINTER(seccomp._Instruction)))
kernel.renounce_privileges()
kernel.process_control("seccomp", seccomp.PR_SET_SECCOMP, seccomp.SECCOMP_MODE_FILTER, ctypes.byref(program))
from distill.errors import DistillError
from distill.verify.sandbox import run_program
from distill.verify.sandbox_capabilities import isolation_here, sandbox_capabilities
print(sandbox_capabilities())
try:
    print("uses", isolation_here())
    print(run_program("print(6 * 7)").standard_output.decode(), run_program("open('/etc/passwd')").exit_code)
except DistillError as error:
    print(error.exit_code, error)
"""


def where_refused(*also: int) -> str:
    """What a process says in which the kernel refuses unshare (no namespaces), and the system calls of `also`."""
    command = [sys.executable, "-c", REFUSE.format(root=str(ROOT), also=list(also))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"PATH": "", "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stderr
    return done.stdout


KNOWN_MACHINE = pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="numbers of system calls")


@KNOWN_MACHINE
def test_where_the_kernel_refuses_namespaces_landlock_is_used_and_said() -> None:
    if sandbox_capabilities().ways["landlock"]:
        pytest.skip("no Landlock here")
    said = where_refused()
    assert "namespaces: [Errno 1] unshare(0x7e020000): Operation not permitted" in said
    assert "used: landlock" in said and "uses landlock\n42\n 1" in said


@KNOWN_MACHINE
def test_where_it_refuses_both_nothing_is_run_and_the_message_says_what_to_do() -> None:
    landlock_create_ruleset = 444
    said = where_refused(landlock_create_ruleset)
    assert "used: none" in said and "uses" not in said
    assert "6 sandbox: model-written code cannot be locked in on Linux" in said
    assert "sysctl user.max_user_namespaces" in said and "DISTILL_SANDBOX=unisolated" in said
