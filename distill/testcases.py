"""Tests of a code problem, read from the forms that datasets keep them in, into one of three kinds.

    stdin    {"kind": "stdin", "cases": [{"input": "1 2\\n", "output": "3\\n"}]}
    calls    {"kind": "calls", "function": "add", "cases": [{"args": [1, 2], "expected": [3]}]}   any of expected
    asserts  {"kind": "asserts", "code": ["assert add(1, 2) == 3"], "function": "add"}

Read: lists of {"input", "output"} (LiveCodeBench; "testtype": "functional" with one JSON value a line), {"inputs",
"outputs", "fn_name"} (APPS, TACO), lists of assert lines (MBPP), text with `def check(candidate)` (HumanEval), each as
an object or as JSON text. Not covered: running them (`distill/verify/code.py`); programs that judge an output.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from distill.errors import ProblemError

Tests = dict[str, Any]


def read_tests(value: Any, *, function: str | None = None, setup: str | None = None, where: str) -> Tests:
    """The tests in one column's value; `setup` is code that the question shows and a solution may rely on.

    Raises: ProblemError if there are none, their form is not known, or the setup is not Python.
    """
    tests = _read(value, function, where)
    if setup is None:
        return tests
    _check_python(setup, "setup", where)
    return {**tests, "setup": setup}


def _read(value: Any, function: str | None, where: str) -> Tests:
    value = _parsed(value)
    if isinstance(value, str) and value.strip():
        return _asserts([value], function, where)
    if isinstance(value, Mapping) and "inputs" in value:
        return _in_columns(value, function, where)
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if all(isinstance(item, str) for item in value):
            return _asserts(list(value), function, where)
        if all(isinstance(item, Mapping) and "input" in item and "output" in item for item in value):
            return _in_rows(value, function, where)
    shown = repr(value)[:80]
    raise ProblemError(
        f"{where}: tests: found {shown}; expected a list of input and output pairs, "
        "inputs with outputs, or assert statements, as an object or as JSON text."
    )


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _asserts(code: list[str], function: str | None, where: str) -> Tests:
    for text in code:
        _check_python(text, "tests", where)
    defines_check = any("def check(" in text for text in code)
    if defines_check and function is None:
        raise ProblemError(
            f"{where}: tests: `check(candidate)` needs the function's name; set entry_point to a column."
        )
    calls = [f"check({function})"] if defines_check else []
    return {"kind": "asserts", "code": [*code, *calls], "function": function}


def _check_python(code: str, what: str, where: str) -> None:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, TypeError) as error:
        raise ProblemError(f"{where}: {what}: not Python ({error}); mend the {what} or the column's name.") from error


def _in_columns(value: Mapping[str, Any], function: str | None, where: str) -> Tests:
    inputs, outputs = value.get("inputs"), value.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs or len(inputs) != len(outputs):
        raise ProblemError(f"{where}: tests: expected inputs and outputs, as many of each and at least one.")
    function = value.get("fn_name") or function
    if function is None:
        return _stdin(inputs, outputs, where)
    cases = []
    for given, expected in zip(inputs, outputs, strict=True):
        alternatives = [expected, *(expected if isinstance(expected, list) and len(expected) == 1 else [])]
        cases.append({"args": _arguments(given, where), "expected": alternatives})
    return {"kind": "calls", "function": str(function), "cases": cases}


def _in_rows(rows: Sequence[Mapping[str, Any]], function: str | None, where: str) -> Tests:
    if function is None and any(row.get("testtype") == "functional" for row in rows):
        raise ProblemError(f"{where}: tests: functional tests need the function's name; set entry_point to a column.")
    if function is None:
        return _stdin([row["input"] for row in rows], [row["output"] for row in rows], where)
    cases = []
    for row in rows:
        expected = row["output"]
        cases.append({"args": _arguments(row["input"], where), "expected": [_json(expected, where)]})
    return {"kind": "calls", "function": function, "cases": cases}


def _stdin(inputs: Sequence[Any], outputs: Sequence[Any], where: str) -> Tests:
    cases = []
    for given, expected in zip(inputs, outputs, strict=True):
        pair = [_lines(given), _lines(expected)]
        if not all(isinstance(text, str) for text in pair):
            raise ProblemError(f"{where}: tests: expected text for input and output, found {given!r:.60}.")
        cases.append({"input": pair[0], "output": pair[1]})
    return {"kind": "stdin", "cases": cases}


def _lines(value: Any) -> Any:
    """Some datasets keep a text as the list of its lines."""
    is_lines = isinstance(value, list) and all(isinstance(line, str) for line in value)
    return "\n".join(value) if is_lines else value


def _arguments(given: Any, where: str) -> list[Any]:
    """A call's arguments: a list, or text with one JSON value a line."""
    if isinstance(given, str):
        return [_json(line, where) for line in given.splitlines() if line.strip()]
    return given if isinstance(given, list) else [given]


def _json(text: Any, where: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where}: tests: not JSON ({error.msg}): {text[:60]!r}; expected a JSON value.") from error
