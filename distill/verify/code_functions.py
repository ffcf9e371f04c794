"""Function tests: the program in a sandbox of its own, its tests here (calls) or in a second sandbox (asserts).

Calls have data on both sides, so they are compared in this process; assert statements are a dataset's code and are
locked in too. Neither expected values nor test code ever enter the program's sandbox.
Not covered: which tests (`distill/testcases.py`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.verify.base import Judgement
from distill.verify.code_output import failure
from distill.verify.functions import caller, check, wire
from distill.verify.jail.spec import SandboxLimits
from distill.verify.sandbox import SandboxFault, SandboxRun, run_program

CPU_SECONDS_PER_TEST = 6.0
TOLERANCE = 1e-6
GRACE_SECONDS = 3.0
"""How much longer the tests' sandbox may live than the program's."""


def run_calls(function: str, cases: list[dict[str, Any]], source: str, most_seconds: float) -> Judgement:
    """Call the function once a case and compare what it returns with any of the case's expected values."""
    with _serving(source, len(cases), most_seconds) as (channel, program):
        number, detail = _first_wrong(channel, function, cases)
        if detail is None:
            return Judgement("correct", 1.0, f"{len(cases)} tests passed")
    where = f"test {number + 1} of {len(cases)}"
    if detail:
        return Judgement("wrong", number / len(cases), f"{where}: {detail}")
    return _gone(program.result(), where, number / len(cases))


def _first_wrong(channel: socket.socket, function: str, cases: list[dict[str, Any]]) -> tuple[int, str | None]:
    """(test, what is wrong with it): None where all are right, "" where the program ended."""
    number = 0
    try:
        remote = caller.Caller(channel.fileno())
        for number, case in enumerate(cases):
            found = remote.call({"name": function}, tuple(case["args"]), {})
            if isinstance(found, caller.Remote):
                return number, f"{function} returned an object of the program's own class"
            if not any(_equal(expected, found) for expected in case["expected"]):
                return number, f"expected {check.shown(case['expected'][0])}, found {check.shown(found)}"
    except caller.ProgramGone:
        return number, ""
    except Exception as error:  # whatever class the program raised, by name
        return number, f"{type(error).__name__}: {str(error)[:200]}"
    return number, None


def _equal(expected: Any, found: Any) -> bool:
    """Equal as JSON has it: a tuple is a list, and decimals agree to the tolerance; true is not 1."""
    if isinstance(expected, list):
        is_row = isinstance(found, (list, tuple)) and len(found) == len(expected)
        return is_row and all(map(_equal, expected, found))
    if isinstance(expected, dict):
        if not isinstance(found, dict) or len(found) != len(expected):
            return False
        by_text = {str(key): value for key, value in found.items()}  # JSON has text keys only
        return by_text.keys() == expected.keys() and all(_equal(expected[key], by_text[key]) for key in expected)
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, float) and isinstance(found, (int, float)):
        with contextlib.suppress(OverflowError):
            return math.isclose(expected, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return False
    return type(expected) is type(found) and bool(expected == found)


def run_asserts(code: list[str], function: str | None, source: str, most_seconds: float) -> Judgement:
    """Run the assert statements in order, each piece a test."""
    tests = json.dumps({"code": code, "function": function})
    files = {**_side("caller", "check"), "tests.json": tests}
    limits = SandboxLimits(cpu_seconds=most_seconds, wall_seconds=most_seconds + GRACE_SECONDS)
    with _serving(source, len(code), most_seconds) as (channel, program):
        checker = run_program(_main("check"), files=files, channel=os.dup(channel.fileno()), limits=limits)
    if checker.limit or checker.exit_code not in (check.PASSED, check.FAILED, check.CANNOT_TELL, check.GONE):
        raise SandboxFault(f"the tests themselves ended by {checker.limit or checker.signal or checker.exit_code}")
    said = json.loads(checker.standard_output)
    share, where = said["test"] / len(code), f"test {said['test'] + 1} of {len(code)}"
    if checker.exit_code == check.PASSED:
        return Judgement("correct", 1.0, f"{len(code)} tests passed")
    if checker.exit_code == check.GONE:
        return _gone(program.result(), where, share)
    outcome = "wrong" if checker.exit_code == check.FAILED else "error"
    return Judgement(outcome, share, f"{where}: {said['detail']}")  # type: ignore[arg-type]


def _gone(run: SandboxRun, where: str, share: float) -> Judgement:
    failed = failure(run, where)
    if failed is not None:
        return Judgement(failed[0], share, failed[1])
    return Judgement("wrong", share, f"{where}: the program ended before it answered")


@contextmanager
def _serving(source: str, tests: int, most_seconds: float) -> Iterator[tuple[socket.socket, Future[SandboxRun]]]:
    """The program, waiting for calls on a channel; it ends when the channel is closed."""
    ours, theirs = socket.socketpair()
    limits = SandboxLimits(cpu_seconds=min(CPU_SECONDS_PER_TEST * tests, most_seconds), wall_seconds=most_seconds)
    files = {**_side("serve"), "solution.py": source}
    with ThreadPoolExecutor(1) as threads:
        program = threads.submit(run_program, _main("serve"), files=files, channel=theirs.detach(), limits=limits)
        with ours:
            yield ours, program


def _main(name: str) -> str:
    return f"from distill_functions.{name} import main\nmain()\n"


def _side(*names: str) -> dict[str, str]:
    folder = Path(wire.__file__).parent
    found = {f"distill_functions/{name}.py": (folder / f"{name}.py").read_text("utf-8") for name in (*names, "wire")}
    return {**found, "distill_functions/__init__.py": ""}
