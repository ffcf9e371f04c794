"""Sets of real numbers in all their spellings (`distill/verify/math_sets.py`)."""

from __future__ import annotations

import pytest

from distill.verify.math_reader import read
from distill.verify.math_sets import is_real_set, real_set, same_set
from distill.verify.math_tree import UnreadableError

SAME = [
    (r"[0,\infty)", r"x \ge 0"), (r"(2,\infty)", "2 < x"), ("(3,4]", r"3 < x \le 4"), ("(3,4]", r"4 \ge x > 3"),
    (r"(-\infty,2)\cup(3,\infty)", "x < 2 or x > 3"), (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)"),
    ("[1,3]", r"[1,2]\cup[2,3]"), ("[1,3]", r"[1,2)\cup[2,3]"), ("(0,3)", r"(0,2)\cup(1,3)"),
    ("(2,5)", "x > 2 and x < 5"),
    (r"\mathbb{R}\setminus\{1\}", r"x \ne 1"), (r"\mathbb{R}\setminus\{1,2\}", r"(-\infty,1)\cup(1,2)\cup(2,\infty)"),
    ("[-2,7]", r"x \in [-2,7]"), (r"[-\infty,2)", r"(-\infty,2)"), (r"[1,3]", r"[0,3]\cap[1,5]"),
    (r"[\sqrt{4},3]", "[2,3]"), (r"[0,1]\cup\{2\}", r"\{2\}\cup[0,1]"), (r"(0,2)\setminus\{1\}", r"(0,1)\cup(1,2)"),
    (r"(0,1)\cup(1,2)\cup\{1\}", "(0,2)"),
]  # fmt: skip

NOT_SAME = [
    (r"[0,\infty)", "x > 0"), ("[0,1)", "[0,1]"), ("(0,1)", "[0,1]"), (r"(0,1)\cup(1,2)", "(0,2)"), ("x < 2", "x > 2"),
    (r"[1,2]", r"[1,2]\cup\{3\}"), ("x > 2 and x < 5", "x > 2 or x < 5"), (r"x \ne 1", r"x \ne 2"), ("[0,1]", "[0,2]"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_same(one: str, other: str) -> None:
    assert same_set(real_set(read(one, {})[0]), real_set(read(other, {})[0]))


@pytest.mark.parametrize(("one", "other"), NOT_SAME)
def test_not_the_same(one: str, other: str) -> None:
    assert not same_set(real_set(read(one, {})[0]), real_set(read(other, {})[0]))


@pytest.mark.parametrize(
    "text", ["[a,b]", "2x > 4", "x < y", "[3,1]", r"(0,3)\setminus[1,2]", "x > 1, x < 2", r"1 < x < 2 < 3", "[i,2]"]
)
def test_what_is_no_set_of_numbers(text: str) -> None:
    with pytest.raises(UnreadableError):
        real_set(read(text, {})[0])


def test_a_pair_in_round_brackets_may_be_a_point() -> None:
    assert not is_real_set(read("(1,2)", {})[0])
    assert is_real_set(read("[1,2)", {})[0]) and is_real_set(read(r"(1,\infty)", {})[0])
