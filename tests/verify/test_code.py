"""Code against its tests (`distill/verify/code.py`, `code_functions.py`, `code_output.py`, `functions/`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from distill.errors import ProblemError
from distill.records import Problem, Sample, Verdict
from distill.testcases import read_tests
from distill.verify.base import verify
from distill.verify.code import last_block
from distill.verify.code_output import difference, failure
from distill.verify.functions.wire import NotData, decode, encode
from distill.verify.pool import VerifierPool
from distill.verify.sandbox_watch import SandboxRun

Make = Callable[..., Problem]
MakeSample = Callable[..., Sample]
Check = Callable[..., Verdict]

SUMS = [{"input": "1 2\n", "output": "3\n"}, {"input": "2 5\n", "output": "7\n"}]
ADD = {"inputs": [[1, 2], [2, 5]], "outputs": [3, 7], "fn_name": "add"}
ASSERTS = ["assert add(1, 2) == 3", "assert abs(add(0.5, 2) - 2.5) < 1e-6"]
HUMAN_EVAL = (
    "def check(candidate):\n    assert candidate(1, 2) == 3\n    try:\n        candidate('a', 1)\n"
    "        assert False, 'no error'\n    except TypeError:\n        pass\n"
)


@pytest.fixture
def check(make_problem: Make, make_sample: MakeSample) -> Check:
    def judge(tests: Any, source: str, function: str | None = None) -> Verdict:
        problem = make_problem(None, verifier="code", tests=read_tests(tests, function=function, where="here"))
        return verify(problem, make_sample(f"So:\n```python\n{source}\n```\n"))

    return judge


# --- which code ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "block"),
    [
        ("```python\na\n```\ntext\n```py\nb\n```", ("b\n", True)),
        ("```\na\n```", ("a\n", True)),
        ("```python\na\n```\nwhich prints\n```\n7\n```", ("a\n", True)),
        ("```python\na\n```\n```text\n7\n```", ("a\n", True)),
        ("~~~Python3\na\n~~~", ("a\n", True)),
        ("1. so\n   ```python\n   a\n     b\n   ```", ("a\n  b\n", True)),
        ("````python\ns = '''\n```\n'''\n````", ("s = '''\n```\n'''\n", True)),
        ("```python\na\n```\n```python\nb", ("b\n", False)),
        ("```cpp\na\n```", None),
        ("```cpp\na\n```\nprints\n```\n7\n```", None),
        ("print(1)", None),
        ("", None),
    ],
)
def test_last_block(answer: str, block: tuple[str, bool] | None) -> None:
    assert last_block(answer) == block


@pytest.mark.parametrize(
    ("answer", "finish_reason", "outcome"),
    [
        ("I cannot.", "stop", "no_answer"),
        ("```python\n```", "stop", "no_answer"),
        ("```python\nprint(3", "length", "truncated"),
        ("no code", "length", "truncated"),
        ("```python\nprint(3)\n```\nIt prints", "length", "correct"),
        ("```python\nprint(3)", "stop", "correct"),
    ],
)
def test_answers_without_whole_code(
    answer: str, finish_reason: str, outcome: str, make_problem: Make, make_sample: MakeSample
) -> None:
    tests = read_tests([{"input": "", "output": "3"}], where="here")
    sample = make_sample(answer, finish_reason=finish_reason)
    assert verify(make_problem(None, verifier="code", tests=tests), sample).outcome == outcome


def test_a_problem_without_tests_is_refused(make_problem: Make, make_sample: MakeSample) -> None:
    with pytest.raises(ProblemError, match="needs tests, found none"):
        verify(make_problem(None, verifier="code"), make_sample("```python\n1\n```"))


# --- input and output ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "outcome", "detail"),
    [
        ("print(sum(map(int, input().split())))", "correct", "2 tests passed"),
        ("print(3)", "wrong", "test 2 of 2: line 1: expected '7', found '3'"),
        ("print(3, 3)", "wrong", "test 1 of 2: line 1: expected '3', found '3 3'"),
        ("print(3); print(4)", "wrong", "test 1 of 2: line 2: expected no more lines, found '4'"),
        ("pass", "wrong", "test 1 of 2: line 1: expected '3', found no more lines"),
        ("print(1 / 0)", "wrong", "test 1 of 2: exit code 1: ZeroDivisionError: division by zero"),
        ("print(3); raise SystemExit(1)", "wrong", "test 1 of 2: exit code 1: "),
        ("print(", "wrong", "test 1 of 2: exit code 1: SyntaxError: '(' was never closed"),
        ("import os; os.kill(os.getpid(), 6)", "wrong", "test 1 of 2: ended by SIGABRT"),
    ],
)
def test_stdin(source: str, outcome: str, detail: str, check: Check) -> None:
    verdict = check(SUMS, source)
    assert (verdict.outcome, verdict.detail) == (outcome, detail)


def test_the_share_that_passed_is_the_score(check: Check) -> None:
    assert check(SUMS, "print(3)").score == 0.5


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("1\n2\n", "1 \n2", True),
        ("0.5", "0.50000001", True),
        ("0.5", ".5", True),
        ("5", "5.0", False),
        ("0.5", "0.51", False),
        ("0.5", "nan", False),
        ("1.0", "inf", False),
        ("1 2", "1\n2", False),
        ("1 2 3", "1 2", False),
        ("", "\n\n", True),
        ("", "x", False),
        ("Yes", "YES", False),
        ("1\n\n2", "1\n2", False),
    ],
)
def test_outputs(expected: str, found: str, same: bool) -> None:
    assert (difference(expected, found) == "") is same


def test_a_busy_machine_is_an_error_and_a_sleeping_program_is_wrong() -> None:
    def ended(was_waiting: bool) -> SandboxRun:
        return SandboxRun(None, None, "wall", b"", b"", 0.1, 12.0, was_waiting)

    assert [failure(ended(waiting), "test 1")[0] for waiting in (True, False)] == ["wrong", "error"]  # type: ignore[index]


# --- functions -------------------------------------------------------------------------------------------------------

RIGHT = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    ("source", "outcome", "detail"),
    [
        (RIGHT, "correct", "2 tests passed"),
        ("class Solution:\n    def add(self, a, b): return a + b", "correct", "2 tests passed"),
        ("def add(a, b): return 3", "wrong", "test 2 of 2: expected 7, found 3"),
        ("def add(a, b): return True", "wrong", "test 1 of 2: expected 3, found True"),
        ("def sub(a, b): return a", "wrong", "test 1 of 2: KeyError: \"'add'\""),
        ("def add(a, b): return [][1]", "wrong", "test 1 of 2: IndexError: list index out of range"),
        ("import os\ndef add(a, b): os._exit(0)", "wrong", "test 1 of 2: the program ended before it answered"),
        ("def add(a, b): return add", "wrong", "test 1 of 2: add returned an object of the program's own class"),
        ("import os\nos.write(3, b'garbage' * 9)", "wrong", None),
        ("raise SystemExit(0)", "wrong", "test 1 of 2: ProgramError: SystemExit: 0"),
    ],
)
def test_calls(source: str, outcome: str, detail: str | None, check: Check) -> None:
    verdict = check(ADD, source)
    assert verdict.outcome == outcome, verdict
    assert detail is None or verdict.detail == detail


@pytest.mark.parametrize(
    ("source", "outcome", "detail"),
    [
        (RIGHT, "correct", "2 tests passed"),
        ("def add(a, b): return 3", "wrong", "test 2 of 2: the assertion does not hold"),
        ("def add(a, b): return 4", "wrong", "test 1 of 2: expected 3, found 4"),
        ("def add(a, b): raise ValueError('no')", "wrong", "test 1 of 2: ValueError: no"),
        ("def add(a, b) return 3", "wrong", None),
        ("import sys\nsys.exit(0)", "wrong", None),
        ("import os\nos._exit(0)", "wrong", "test 1 of 2: the program ended before it answered"),
    ],
)
def test_asserts(source: str, outcome: str, detail: str | None, check: Check) -> None:
    verdict = check(ASSERTS, source)
    assert verdict.outcome == outcome, verdict
    assert detail is None or verdict.detail == detail


def test_check_of_a_candidate_and_the_exceptions_it_expects(check: Check) -> None:
    assert check(HUMAN_EVAL, RIGHT, "add").outcome == "correct"
    verdict = check(HUMAN_EVAL, "def add(a, b): return 3", "add")
    assert (verdict.outcome, verdict.detail) == ("wrong", "test 2 of 2: no error")


def test_objects_are_reached_by_reference(check: Check) -> None:
    stack = (
        "import math\nLIMIT = 2\nclass Stack:\n    def __init__(self): self.items = []\n"
        "    def push(self, item): self.items.append(item)\n    def pop(self): return self.items.pop()\n"
        "def size(stack): return len(stack.items)"
    )
    tests = ["s = Stack()\ns.push((1, 2))\nassert size(s) == 1 and s.pop() == (1, 2) and s.items == []"]
    assert check(tests, stack).outcome == "correct"
    assert check(["assert LIMIT == math.floor(2.5)"], stack).outcome == "correct"
    assert check(["assert Stack() == Stack()"], stack).outcome == "error"
    assert check(["assert size(lambda: 1) == 1"], stack).outcome == "error"


# --- cheating --------------------------------------------------------------------------------------------------------

SEARCH = """
import gc, glob, os, sys
def seen():
    frame, texts = sys._getframe(), []
    while frame:
        texts += [repr(frame.f_locals), repr(frame.f_globals)]
        frame = frame.f_back
    texts += [repr(item) for item in gc.get_objects() if isinstance(item, (dict, list))]
    for folder, _, names in os.walk("."):
        for name in names:
            texts.append(open(os.path.join(folder, name)).read())
    texts += sys.argv + [repr(dict(os.environ))]
    looked_for = str(int("918273") * 1000 + 645)  # made last, so that it does not find itself
    return any(looked_for in text for text in texts)
"""


def test_what_is_expected_is_nowhere_in_the_sandbox(check: Check) -> None:
    secret = 918273645
    verdict = check([{"input": "", "output": str(secret)}], SEARCH + "print('seen' if seen() else 'nowhere')")
    assert verdict.detail.endswith("found 'nowhere'")
    lookup = SEARCH + "def f(x): return 'seen' if seen() else 'nowhere'"
    verdict = check({"inputs": [[1]], "outputs": [secret], "fn_name": "f"}, lookup)
    assert verdict.detail.endswith("found 'nowhere'")
    verdict = check([f"assert f(1) == {secret}"], lookup)
    assert verdict.detail.endswith("found 'nowhere'")


@pytest.mark.parametrize(
    "source",
    [
        "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef add(a, b): return Yes()",
        "class Yes(int):\n    def __eq__(self, other): return True\ndef add(a, b): return Yes(1)",
        "def check_equal(a, b): pass\ndef abs(x): return 0\ndef add(a, b): return 5",
        "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.abs = lambda x: 0\ndef add(a, b): return 5",
        "import sys\nsys.modules['__main__'].__dict__.clear()\ndef add(a, b): return 5",
        'import os\ndef add(a, b):\n    os.write(1, b\'{"test": 0, "detail": ""}\'); os._exit(0)',
        'import os\nos.write(3, b"\\0\\0\\0\\x24" + b\'{"names": ["add"], "modules": {}}    \')\nos._exit(0)',
    ],
)
def test_no_program_talks_its_way_through(source: str, check: Check) -> None:
    assert check(ASSERTS, source).outcome == "wrong"
    assert check(ADD, source).outcome == "wrong"


# --- the wire --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(10**5000), 1.5, float("inf"), 2j, "\ud800\n", b"\x00", [1, (2, {3})], {(1, 2): frozenset({4})}],
    ids=lambda value: type(value).__name__,  # text of so long a number is refused
)
def test_data_survives(value: Any) -> None:
    assert decode(encode(value)) == value
    assert type(decode(encode(value))) is type(value)


def test_what_is_like_data_becomes_plain() -> None:
    import numpy

    assert decode(encode(Counter("aab"))) == {"a": 2, "b": 1}
    assert decode(encode(numpy.arange(3))) == [0, 1, 2]
    assert decode(encode(numpy.float64(0.5))) == 0.5
    assert list(decode(encode(iter("ab")))) == ["a", "b"]
    with pytest.raises(NotData, match="type object"):
        encode(object())


# --- in the pool -----------------------------------------------------------------------------------------------------


def test_in_workers(make_problem: Make, make_sample: MakeSample) -> None:
    problem = make_problem(None, verifier="code", tests=read_tests(SUMS, where="here"))
    good = make_sample("```python\nprint(sum(map(int, input().split())))\n```")
    bad = make_sample("```python\nprint(0)\n```")
    with VerifierPool(workers=2, timeout_seconds=60) as pool:
        outcomes = {v.sample_key: v.outcome for v in pool.verify_many([(problem, good), (problem, bad)])}
    assert outcomes == {good.key: "correct", bad.key: "wrong"}
