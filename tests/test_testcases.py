"""Forms in which datasets keep tests (`distill/testcases.py`), and the sources that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.errors import ProblemError
from distill.problems import load_problems
from distill.recipes import JsonlSource
from distill.records import Problem
from distill.testcases import read_tests

CASE = {"input": "1\n", "output": "2\n"}


@pytest.mark.parametrize(
    ("value", "function", "tests"),
    [
        ([CASE], None, {"kind": "stdin", "cases": [CASE]}),
        (json.dumps([CASE]), None, {"kind": "stdin", "cases": [CASE]}),
        ({"inputs": ["1\n"], "outputs": ["2\n"]}, None, {"kind": "stdin", "cases": [CASE]}),
        (
            {"inputs": [["1", "2"]], "outputs": ["3"]},
            None,
            {"kind": "stdin", "cases": [{"input": "1\n2", "output": "3"}]},
        ),
        (
            {"inputs": [[1, 2]], "outputs": [[3]], "fn_name": "add"},
            None,
            {"kind": "calls", "function": "add", "cases": [{"args": [1, 2], "expected": [[3], 3]}]},
        ),
        (
            [{"input": "[1, 2]\n3", "output": "[4, 5]", "testtype": "functional"}],
            "shift",
            {"kind": "calls", "function": "shift", "cases": [{"args": [[1, 2], 3], "expected": [[4, 5]]}]},
        ),
        (["assert f(1) == 2"], None, {"kind": "asserts", "code": ["assert f(1) == 2"], "function": None}),
        (
            "def check(candidate):\n    assert candidate(1) == 2",
            "f",
            {
                "kind": "asserts",
                "code": ["def check(candidate):\n    assert candidate(1) == 2", "check(f)"],
                "function": "f",
            },
        ),
    ],
)
def test_forms(value: Any, function: str | None, tests: dict[str, Any]) -> None:
    assert read_tests(value, function=function, where="here") == tests


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"here: tests: found \[\]; expected a list of input and output pairs"),
        (None, "found None"),
        ({"input": 1}, "found {'input': 1}"),
        ({"inputs": ["1"], "outputs": []}, "as many of each"),
        (["assert f(1) ="], "not Python"),
        ("def check(candidate): pass", "needs the function's name; set entry_point"),
        ([{**CASE, "testtype": "functional"}], "needs? the function's name"),
        ([{"input": 3, "output": "2"}], "expected text for input and output, found 3"),
    ],
)
def test_what_is_wrong_is_said(value: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        read_tests(value, where="here")


@pytest.mark.parametrize("kind", ["jsonl", "dataset"])
def test_a_source_of_code_problems(kind: str, tmp_path: Path) -> None:
    row = {"question": "Add one.", "tests": json.dumps([CASE]), "name": None}
    (tmp_path / "code.jsonl").write_text(json.dumps(row) + "\n")
    fields = {"domain": "code", "licence": "MIT", "verifier": "code"}
    columns = {"prompt": "question", "tests": "tests", "entry_point": "name"}
    spec = (
        {"path": "code.jsonl", **columns, **fields}
        if kind == "jsonl"
        else {"name": "json", "data_files": "code.jsonl", "columns": columns, **fields}
    )
    (problem,) = load_problems([{kind: spec}], base_dir=tmp_path)
    assert (problem.answer, problem.verifier) == (None, "code")
    assert problem.meta["tests"] == {"kind": "stdin", "cases": [CASE]}
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem


def test_other_tests_are_another_problem(tmp_path: Path) -> None:
    def identity(output: str) -> str:
        (tmp_path / "c.jsonl").write_text(json.dumps({"q": "Q", "t": [{"input": "", "output": output}]}))
        source = JsonlSource(path="c.jsonl", prompt="q", tests="t", domain="code", licence="MIT", verifier="code")
        return load_problems([{"jsonl": source.model_dump(exclude_none=True)}], base_dir=tmp_path)[0].id

    assert identity("1") == identity("1") != identity("2")


@pytest.mark.parametrize(("verifier", "needs"), [("code", "tests"), ("math", "answer"), ("choice", "answer")])
def test_a_missing_column_is_named(verifier: str, needs: str, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"q": "Q"}')
    spec = {"path": "c.jsonl", "prompt": "q", "domain": "d", "licence": "MIT", "verifier": verifier}
    with pytest.raises(ProblemError, match=f"missing {needs}, which verifier {verifier} needs"):
        load_problems([{"jsonl": spec}], base_dir=tmp_path)


def test_what_a_question_shows_travels_with_its_tests() -> None:
    tests = read_tests(["assert f() == 1"], setup="import math\n", where="x")
    assert tests["setup"] == "import math\n" and "setup" not in read_tests(["assert f() == 1"], where="x")
    with pytest.raises(ProblemError, match="row 1: setup: not Python"):
        read_tests(["assert f() == 1"], setup="Write a function", where="row 1")
