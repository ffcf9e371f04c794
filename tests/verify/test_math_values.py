"""Values of trees (`distill/verify/math_values.py`): exact where it can be, and quick to give up where it cannot."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from distill.verify.math_reader import read
from distill.verify.math_tree import UnreadableError
from distill.verify.math_values import TooLargeError, UndefinedError, agree, evaluate, gap, less, shown


def value(text: str) -> object:
    return evaluate(read(text, {})[0], {"x": Fraction(-2)})


@pytest.mark.parametrize(
    "text",
    [r"\sqrt{\frac{4}{9}}", "4^{1/2}", "8^{-2/3}", "100!/98!", r"\log_8 2 - \log_8 2", "2^{-200}", r"\binom{200}{3}"],
)
def test_what_is_rational_stays_exact(text: str) -> None:
    found = value(text)
    assert isinstance(found, Fraction) or found == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sqrt{2+\sqrt{3}}", r"\frac{\sqrt6+\sqrt2}{2}"), (r"\sin 15^\circ", r"\frac{\sqrt6-\sqrt2}{4}"),
        (r"e^{i\pi}", "-1"), (r"\ln 8", r"3\ln 2"), (r"\sqrt{-4}", "2i"), ("(1+i)^2", "2i"), (r"\arctan 1", r"\pi/4"),
        (r"\sin^{-1} 1", r"\pi/2"), (r"\cos \frac{\pi}{3}", "1/2"), (r"\sqrt{2} - \sqrt{2}", "0"),
        (r"\sec^2 x - \tan^2 x", "1"), (r"\sqrt{10^{14}+1} - 10^7", r"\frac{1}{\sqrt{10^{14}+1} + 10^7}"),
    ],
)  # fmt: skip
def test_equal_to_forty_digits(one: str, other: str) -> None:
    assert agree(value(one), value(other)) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [("1/2004!", "1/2006!"), (r"\pi", "3.14159265358979323846264338327950288"),
    (r"e^{\pi\sqrt{163}}", "262537412640768744"),
     ("10^{30}+1", "10^{30}"), (r"\infty", "1"), (r"-\infty", r"\infty"), ("2+3i", "2-3i")],
)  # fmt: skip
def test_different_however_near(one: str, other: str) -> None:
    assert agree(value(one), value(other)) is False


@pytest.mark.parametrize("text", ["1/0", "0^{-1}", "(-1)!", r"\log_1 5", r"\ln 0 \cdot 1/0", "x^{1/3}"])
def test_no_value(text: str) -> None:
    with pytest.raises(UndefinedError):
        value(text)


@pytest.mark.parametrize(
    "text",
    ["10^{10^{10^{10}}}", "(2^{1000000})!", "9^{9^{9^{9}}}", "(10^{20})!", "(((10^{9})!)!)!", "2^{2^{2^{2^{2^{2}}}}}"],
)
def test_towers_end_at_once(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(TooLargeError):
        value(text)
    assert time.perf_counter() - started < 2.0


def test_large_powers_that_can_be_told_apart_are() -> None:
    assert agree(value("10^{10^{10}}"), value("10^{10^{10}}")) is True
    assert agree(value("10^{10^{10}}"), value("10^{10^{10}+1}")) is False


def test_bases_and_forms_without_value() -> None:
    assert value("52_8") == 42
    for text in ("59_8", "52_1", "(1,2)", "x = 1"):
        with pytest.raises(UnreadableError):
            value(text)


def test_order_gap_and_display() -> None:
    assert less(Fraction(1, 3), Fraction(1, 2)) and not less(value(r"\sqrt 2"), value(r"\sqrt 2"))
    assert gap(Fraction(1), Fraction(2)) == 0.5
    assert gap(value("1/2004!"), value("1/2006!")) == pytest.approx(1.0, abs=1e-5)
    assert shown(value(r"\sqrt 2"), 5) == "1.4142"
