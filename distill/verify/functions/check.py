"""Runs assert tests against a program in another sandbox; the exit code says how it went, a JSON line says where.

Runs inside a sandbox of its own: tests are a dataset's code. Not covered: tests that hand functions to the program or
compare objects of its classes; those end as "cannot tell".
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
from typing import Any, NoReturn

from .caller import Caller, CannotTell, ProgramGone, Remote

CHANNEL = 3
PASSED, FAILED, CANNOT_TELL, GONE = 0, 11, 12, 13
LONGEST_SHOWN = 120


def main() -> NoReturn:
    with open("tests.json", encoding="utf-8") as file:
        tests = json.load(file)
    where: dict[str, Any] = {"test": 0}
    says = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # tests may print
    try:
        namespace = _namespace(Caller(CHANNEL), tests["function"])
        namespace["check_equal"] = check_equal
        for number, code in enumerate(tests["code"]):
            where["test"] = number
            exec(compile(_with_shown_values(code), f"test {number + 1}", "exec"), namespace)
        end(says, PASSED, where, "")
    except ProgramGone as error:
        end(says, GONE, where, str(error))
    except CannotTell as error:
        end(says, CANNOT_TELL, where, str(error))
    except BaseException as error:
        text = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        end(says, FAILED, where, text or "the assertion does not hold")


def end(says: int, code: int, where: dict[str, Any], detail: str) -> NoReturn:
    os.write(says, json.dumps({**where, "detail": detail[:400]}).encode())
    os._exit(code)


def _namespace(caller: Caller, function: str | None) -> dict[str, Any]:
    """The program's names as remotes, its constants as data, and the standard modules it imported.

    A program that calls something of its own `abs` or `all` does not change what its tests mean by that.
    """
    namespace: dict[str, Any] = {"__name__": "tests"}
    kept = {*dir(builtins), *namespace} - {function}
    for name, module in caller.modules.items():
        if name not in kept and isinstance(module, str) and module.partition(".")[0] in sys.stdlib_module_names:
            __import__(module)
            namespace[name] = sys.modules[module]
    for name in caller.names:
        if name in kept:
            continue
        value = caller.get({"name": name})
        namespace[name] = Remote(caller, {"name": name}) if isinstance(value, Remote) else value
    return namespace


def check_equal(found: Any, expected: Any) -> None:
    if isinstance(found, Remote) and not isinstance(expected, Remote):
        raise AssertionError(f"expected {shown(expected)}, found an object of the program's own class")
    if not found == expected:
        raise AssertionError(f"expected {shown(expected)}, found {shown(found)}")


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


class _ShowValues(ast.NodeTransformer):
    """`assert a == b` becomes `check_equal(a, b)`, which says what both were."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        test = node.test
        if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
            return node
        call = ast.Call(ast.Name("check_equal", ast.Load()), [test.left, test.comparators[0]], [])
        return ast.copy_location(ast.Expr(call), node)


def _with_shown_values(code: str) -> ast.Module:
    return ast.fix_missing_locations(_ShowValues().visit(ast.parse(code)))
