r"""Reading answers as trees (`distill/verify/math_reader.py`, `math_tokens.py`)."""

from __future__ import annotations

from fractions import Fraction

import pytest

from distill.verify.math_reader import read
from distill.verify.math_tree import OPEN_QUESTIONS, Node, UnreadableError
from distill.verify.math_values import evaluate


def value(text: str, **choices: bool) -> object:
    return evaluate(read(text, choices)[0], {"x": Fraction(3), "y": Fraction(5), "k": Fraction(7)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\frac13", "1/3"), (r"\frac 59", "5/9"), (r"\frac9{19}", "9/19"), (r"\dfrac{1}{2}", "1/2"), ("3/4/2", "3/8"),
        (r"1\frac{4}{5}", "9/5"), (r"137 \frac{1}{2}", "275/2"), ("1 4/5", "9/5"), (r"-1\frac{1}{2}", "-3/2"),
        (r"2\frac{x}{3}", "2"), (r"x\frac{1}{2}", "3/2"), ("-2^2", "-4"), ("(-2)^2", "4"), ("2^{3^2}", "512"),
        ("2^-1", "1/2"), ("-x^2", "-9"), (r"\sqrt{16}", "4"), (r"\sqrt[3]{-27}", "-3"), (r"\sqrt 9", "3"),
        ("3!", "6"), ("2^3!", "64"), (r"\binom{5}{2}", "10"), ("|x-5|", "2"), ("2|x-5|", "4"), ("|2-|x||", "1"),
        (r"\lfloor 7/2 \rfloor", "3"), (r"\left\lceil 7/2 \right\rceil", "4"), ("1,234", "1234"), ("12{,}345", "12345"),
        (r"11,\! 111,\! 100", "11111100"), (r"0.\overline{3}", "1/3"), (r"0.1\overline{6}", "1/6"), (".5", "1/2"),
        (r"\$18.90", "189/10"), (r"5\text{ cm}^2", "5"), ("18 dollars per hour", "18"), ("5%", "5"), (r"60\%", "60"),
        (r"30^\circ", "30"), (r"30^{\circ}", "30"), (r"30\text{ degrees}", "30"), (r"\log_2 8", "3"), ("52_8", "42"),
        ("2xy", "30"), ("x(y+1)", "18"), ("(x+1)(y-1)", "16"), (r"2 \cdot 3 x", "18"), ("1/2x", "3/2"),
        ("2**3", "8"), ("x²", "9"), ("7 − 2", "5"), ("√16 × 2", "8"), (r"\text{73}", "73"), ("sqrt(16)", "4"),
        (r"\frac{270}7\text{ degrees}", "270/7"), (r"x\,y", "15"), ("1.5e3", "1500"), ("2E-2", "1/50"),
        ("10 000", "10000"), (r"1\,234", "1234"), (r"1.2 \times 10^3", "1200"), ("+5", "5"),
        ("--5", "5"),
    ],
)  # fmt: skip
def test_values(text: str, expected: str) -> None:
    assert value(text) == Fraction(expected)


@pytest.mark.parametrize(
    ("text", "question", "plain", "other"),
    [
        ("1/2x", "division", "3/2", "1/6"),
        ("5%", "percent", "5", "1/20"),
        (r"\log 100 + 0", "log", None, "2"),
        ("1,234", "thousands", "1234", None),
        (r"90^\circ", "degrees", "90", None),
    ],
)
def test_what_a_text_leaves_open(text: str, question: str, plain: str | None, other: str | None) -> None:
    assert read(text, {})[1] == {question} and question in OPEN_QUESTIONS
    assert plain is None or value(text) == Fraction(plain)
    assert other is None or value(text, **{question: True}) == Fraction(other)
    assert read(text, {})[0] != read(text, {question: True})[0]


@pytest.mark.parametrize(
    ("text", "head", "parts", "kept"),
    [
        ("1, 2", "list", 2, ""), ("(1, 2)", "tuple", 2, "()"), ("[1, 2)", "tuple", 2, "[)"),
        (r"\{1, 2\}", "set", 2, ""),
        (r"\emptyset", "set", 0, ""), ("x = 5", "relation", 2, "="), (r"2 < x \le 3", "relation", 3, "< le"),
        (r"x = 1 \text{ or } x = 2", "list", 2, "or"), ("3 and 4", "list", 2, "and"),
        (r"1, 2, \ldots, n", "list", 4, ""),
        (r"(0,1) \cup (2,3)", "union", 2, ""), (r"\mathbb{R} \setminus \{1\}", "without", 2, ""),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "matrix", 2, ""), ("5 cm", "unit", 1, "centimeter"),
        (r"\langle 1, 2 \rangle", "tuple", 2, "()"), ("4210_{5}", "based", 1, "5"),
        (r"x \in [1,2]", "relation", 2, "in"),
    ],
)  # fmt: skip
def test_forms(text: str, head: str, parts: int, kept: str) -> None:
    node = read(text, {})[0]
    assert (node.head, len(node.parts), node.value) == (head, parts, kept)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("18 thousand", "the word 'thousand'"), (r"\text{Evelyn}", "the word 'Evelyn'"), (r"\int_0^1 x", "int"),
        ("2 3", "two numbers side by side"), ("(1, 2", "closing bracket"), ("1 +", "expected a value"), ("", "a value"),
        ("x ? y", "unknown sign"), ("1e99999", "the exponent 99999"), ("(" * 500, "nested too deeply"),
        ("1" * 3000, "longer than 2000"),
        (r"\begin{cases} 1 \end{cases}", "environment"), ("x \\equiv 3 \\pmod 5", "does not know what to do"),
        ("f'(x)", "does not know"), (r"\frac{1}{2", "expected"), ("__import__('os')", "expected"),
    ],
)  # fmt: skip
def test_what_it_does_not_read_it_says(text: str, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read(text, {})


def test_names_are_told_apart() -> None:
    assert read("a_1 + A + x_{12} + \\theta", {})[0].names() == {"a_1", "A", "x_12", "theta"}
    assert read(r"\mathrm{e} + i + \pi", {})[0].names() == set()
    assert read("xyz", {})[0].names() == {"x", "y", "z"}
    assert read("2theta + mu", {})[0].names() == {"theta", "m", "u"}
    assert isinstance(read("1", {})[0], Node)
