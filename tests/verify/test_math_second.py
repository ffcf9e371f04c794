"""The second opinion on two answers (`distill/verify/math_second.py`, `math_points.py`)."""

from __future__ import annotations

import random
import time

import pytest

from distill.verify.math_second import compare

EQUAL = [
    ("73", "073", True), ("1024", "1,024", True), (r"\frac{1}{2}", "0.5", True), (r"50\%", "0.5", True),
    ("60", r"60\%", True),
    ("x^2-1", "(x-1)(x+1)", True), (r"\frac{x^2-1}{x-1}", "x+1", True), (r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}", True),
    (r"3\sqrt{13}", r"\sqrt{117}", False), (r"\sin^2 x + \cos^2 x", "1", False), (r"\sin 2x", r"2\sin x\cos x", False),
    ("y = 2x+3", "2x - y + 3 = 0", True), ("x^2+y^2=4", "2x^2 + 2y^2 = 8", True), ("x=5", "5", True),
    ("73", "m+n=73", True),
    ("18", "6+12=18", True), ("1,-2", r"\{-2, 1\}", True), (r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}", True),
    (r"\{1\pm\sqrt5,-2\}", r"\{-2,1-\sqrt5,1+\sqrt5\}", True), ("x = 1, y = 2", "y = 2, x = 1", True),
    (r"x = 1 \text{ or } x = 2", r"\{1, 2\}", True), ("(1, 1/2)", r"\left(1, 0.5\right)", True),
    ("(3,4]", r"3 < x \le 4", True),
    (r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}", r"\begin{bmatrix} 0.5 \\ 2 \end{bmatrix}", True),
    (r"90^\circ", "90", True),
    (r"\frac{\pi}{2}", r"90^\circ", False), (r"1, 2, \ldots, n", r"1, 2, \dots, n", True), ("5 cm", "5", True),
    (r"15\text{ cm}^2", "15 square cm", True), ("52_8", "52_{8}", True), ("1/(2x)", "1/2x", False),
    ("f(x) = x+1", "x + 1", True),
]  # fmt: skip

DIFFERENT = [
    ("1/2004!", "1/2006!"), ("1/2^{99}", "1/2^{98}"), (r"1-1/\mathrm{e}", r"1+1/\mathrm{e}"), ("(1,2)", "(2,1)"),
    (r"1,2,\ldots,n", r"1,3,5,\ldots,2n-1"), ("0", "10^{-9}"), ("12", "1,2"), ("5", "5 or 7"), ("3R^2", "3r^2"),
    ("x^2+1", "x^2-1"), ("x^2", "x^3"), (r"e^{x+1}", "e^x+1"), ("y = 2x+3", "y = 2x-3"), ("[0,1)", "[0,1]"),
    (r"[0,\infty)", "x > 0"), ("52_8", "52_9"), (r"1 \pm \sqrt{19}", r"1 + \sqrt{19}"), ("3, 5, 7", "3, 5"),
    (r"\pi", "3.1415926"),
    ("5 cents", "5 dollars"), (r"\{3,5\}", "(3,5)"), ("(1,2)", "2,1"), ("5", "2x = 5"), ("50\\%", "5000\\%"),
    (r"\{1,2\}", r"\{1,2,3\}"), ("(1,2)", "(1,2,3)"),
    ("x = 1, y = 2", "x = 2, y = 1"), ("x = 5", "y = 5"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\log_2 8", r"\log_8 2"), ("100!", "101!"), ("2+3i", "2-3i"), ("ab", "a+b"),
]  # fmt: skip

UNKNOWN = [
    (r"\sqrt{x^2}", "x", "positive and whole numbers"), (r"|x-100|", "100-x", ""), (r"(-1)^{2n}", "1", "whole numbers"),
    ("(1,2)", "1, 2", "a tuple"), ("52_8", "52", "the base"), ("52_8", "101010_2", "in the bases"),
    (r"\int_0^1 x", "1/2", "not read"), ("18", "18 thousand", "not read"), ("10^{10^{10^{10}}}", "1", "exponent over"),
    ("1/0", "1", "no value"), (r"1, 2, \ldots, n", r"1, 2, 3, \ldots, n", "different numbers of items"),
    (r"\ln(x^2)", r"2\ln x", ""),
    ("0 = 0", "1 = 1", "without a name"), ("1," * 150 + "2", "2," * 150 + "1", "more than 100 items"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "found", "is_exact"), EQUAL)
def test_equal(gold: str, found: str, is_exact: bool) -> None:
    for opinion in (compare(gold, found), compare(found, gold)):
        assert (opinion.relation, opinion.is_exact) == ("equal", is_exact), opinion


@pytest.mark.parametrize(("gold", "found"), DIFFERENT)
def test_different(gold: str, found: str) -> None:
    for opinion in (compare(gold, found), compare(found, gold)):
        assert opinion.relation == "different" and opinion.reason, opinion


@pytest.mark.parametrize(("gold", "found", "reason"), UNKNOWN)
def test_unknown_with_its_reason(gold: str, found: str, reason: str) -> None:
    for opinion in (compare(gold, found), compare(found, gold)):
        assert opinion.relation == "unknown" and reason in opinion.reason, opinion


def test_reasons_show_the_values() -> None:
    assert compare("1/3", "0.333").reason == "1/3 and 333/1000"
    assert compare("1/2004!", "1/2006!").reason == "1.875251937e-5749 and 4.662451391e-5756"
    assert compare("x^2", "x^3").reason.startswith("at x = ")
    assert compare("1", "3").gap == pytest.approx(2 / 3)


def test_whatever_is_written_it_answers_and_soon() -> None:
    draw = random.Random(4)
    signs = (
        r"1 2 -3 0 x n \pi e i \infty \frac{1}{2} \sqrt { } ( ) [ ] | + - * / ^ _ ! \% ^\circ , = < \le \in \cup "
        r"\pm \{ \} \ldots \sin \log_ \text{cm} \lfloor \rfloor 1,234 & \\ or 10^{10} \setminus \ne "
        r"\begin{pmatrix} \end{pmatrix}"
    )
    slowest = 0.0
    for _ in range(3000):
        one, other = (" ".join(draw.choice(signs.split()) for _ in range(draw.randrange(1, 8))) for _ in range(2))
        started = time.perf_counter()
        assert compare(one, other).relation in ("equal", "different", "unknown")
        slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 2.0
