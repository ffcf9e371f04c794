"""Runs the last fenced Python block of the answer against the problem's tests, in the sandbox.

    problem.meta["tests"]    as `distill/testcases.py` makes it; its "setup" (HumanEval: imports and functions that the
                             question shows) comes before the program

Correct only if every test passes; the first that does not ends the verification and is named in the verdict, with what
was expected and found. A program that crashes or runs out of time, memory or output is wrong. A machine too busy to
tell, or a test that needs more of the program than data, is an "error" and says nothing of the program.

Not covered: other languages; tests that accept several outputs; programs that talk to a judge.
"""

from __future__ import annotations

import re
import textwrap
import time
from functools import cache

from distill.errors import ProblemError
from distill.records import Problem
from distill.verify.base import Judgement
from distill.verify.code_functions import run_asserts, run_calls
from distill.verify.code_output import difference, failure
from distill.verify.jail.spec import SandboxLimits
from distill.verify.sandbox import run_program
from distill.verify.sandbox_capabilities import isolation_here

REVISION = 1

MOST_SECONDS = 27.0
"""For all tests of one sample, below the verifier pool's own limit of 30; no test starts that might not end by then."""

PYTHON_NAMES = ("", "python", "python3", "py")

_FUTURE = re.compile(r"^from __future__ import [^\n]*$", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(?P<marks>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n]*$", re.MULTILINE)


@cache
def version() -> str:
    return f"{REVISION}+unisolated" if isolation_here() == "unisolated" else str(REVISION)


def prepare(problem: Problem) -> None:
    if "tests" not in problem.meta:
        raise ProblemError(f"problem {problem.id}: verifier code needs tests, found none; set tests in its source.")
    isolation_here()


def extract(problem: Problem, answer: str) -> str | None:
    block = last_block(answer)
    return block[0] if block is not None and block[0].strip() else None


def is_closed(answer: str, extracted: str | None) -> bool:
    """Whether the code of a completion that ran out of tokens is whole: the last block's fence is closed."""
    block = last_block(answer)
    return block is not None and block[1]


def last_block(answer: str) -> tuple[str, bool] | None:
    """(code, whether its fence is closed) of the last fenced block; None if there is none or it is not Python.

    An unmarked block after a marked one is taken for an example of output.
    """
    blocks, opened = [], None
    for fence in _FENCE.finditer(answer):
        marks, language = fence["marks"], fence["language"].lower()
        if opened is None:
            opened = (marks, language, fence.end() + 1)
        elif marks[0] == opened[0][0] and len(marks) >= len(opened[0]) and not language:
            blocks.append((opened[1], answer[opened[2] : fence.start()], True))
            opened = None
    if opened is not None:
        blocks.append((opened[1], answer[opened[2] :], False))
    python = [block for block in blocks if block[0] in PYTHON_NAMES]
    chosen = [block for block in python if block[0]] or python
    if not chosen or (not chosen[-1][0] and any(block[0] not in (*PYTHON_NAMES, "text") for block in blocks)):
        return None
    return textwrap.dedent(chosen[-1][1]).strip("\n") + "\n", chosen[-1][2]


def score(problem: Problem, extracted: str) -> Judgement:
    tests = problem.meta["tests"]
    source = _after_setup(tests.get("setup"), extracted)
    if tests["kind"] == "stdin":
        return _run_stdin(tests["cases"], source)
    if tests["kind"] == "calls":
        return run_calls(tests["function"], tests["cases"], source, MOST_SECONDS)
    return run_asserts(tests["code"], tests.get("function"), source, MOST_SECONDS)


def _after_setup(setup: str | None, source: str) -> str:
    """The program after the code it may rely on; `from __future__` lines must come first in a file."""
    if setup is None:
        return source
    first = "".join(f"{line}\n" for line in _FUTURE.findall(source))
    return f"{first}{setup.rstrip()}\n\n\n{_FUTURE.sub('', source)}"


def _run_stdin(cases: list[dict[str, str]], source: str) -> Judgement:
    limits, count = SandboxLimits(), len(cases)
    start_until = time.monotonic() + MOST_SECONDS - limits.wall_seconds
    for number, case in enumerate(cases):
        where = f"test {number + 1} of {count}"
        if time.monotonic() > start_until:
            return Judgement(
                "error", number / count, f"{where}: not run, as all tests may take {MOST_SECONDS:g} seconds"
            )
        run = run_program(source, standard_input=case["input"], limits=limits)
        failed = failure(run, where)
        if failed is not None:
            return Judgement(failed[0], number / count, failed[1])
        differs = difference(case["output"], run.standard_output.decode("utf-8", "replace"))
        if differs:
            return Judgement("wrong", number / count, f"{where}: {differs}")
    return Judgement("correct", 1.0, f"{count} tests passed")
