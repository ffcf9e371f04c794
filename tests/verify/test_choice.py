"""Which option an answer names (`distill/verify/choice.py`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distill.errors import ProblemError
from distill.records import Problem, Sample
from distill.verify.base import verify

CHOICES = ["a red apple", "Blue", "12 cm", "None of the above"]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{\text{(C)}}", "C"),
        (r"\boxed{c}", "C"),
        (r"\boxed{C. 12 cm}", "C"),
        (r"\boxed{12 cm}", "C"),
        (r"\boxed{\text{12 cm.}}", "C"),
        (r"first \boxed{A}, no: \boxed{B}", "B"),
        ("Answer: C", "C"),
        ("**Answer: C**", "C"),
        ("**Answer:** C", "C"),
        ("The answer is (C).", "C"),
        ("The correct answer is B because the sky is.", "B"),
        ("The answer is option D", "D"),
        ("Answer: A) a red apple", "A"),
        ("The answer is A. It is not B.", "A"),
        ("The answer is: Blue.", "B"),
        ("The answer is none of the above", "D"),
        ("I think.\nSo it must be (C), the length.", "C"),
        ("C", "C"),
        ("(C)", "C"),
        ("Thinking\n\n**C**", "C"),
        ("a red apple", "A"),
        # ambiguous, or nothing
        (r"\boxed{A and C}", None),
        (r"\boxed{A, C}", None),
        (r"\boxed{A/B}", None),
        (r"\boxed{B. 12 cm}", None),
        (r"\boxed{E}", None),
        (r"\boxed{x}", None),
        ("Answer: A or B", None),
        ("The answer is either (A) or (B)", None),
        ("The answer is (A) or (B)", None),
        ("The answer is A red thing", None),
        ("The answer is a matter of taste", None),
        ("It may be (A) or (B).", None),
        ("I cannot say.\nReally not.", None),
        ("", None),
    ],
)
def test_letter(
    answer: str, letter: str | None, make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]
) -> None:
    verdict = verify(make_problem("C", verifier="choice", choices=CHOICES), make_sample(answer))
    assert verdict.extracted == letter
    assert verdict.outcome == {None: "no_answer", "C": "correct"}.get(letter, "wrong")


def test_options_that_read_the_same_are_ambiguous(
    make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]
) -> None:
    problem = make_problem("A", verifier="choice", choices=["same", "Same", "other"])
    assert verify(problem, make_sample(r"\boxed{same}")).outcome == "no_answer"
    assert verify(problem, make_sample(r"\boxed{A. same}")).outcome == "correct"


def test_without_texts(make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]) -> None:
    problem = make_problem("E", verifier="choice")
    assert verify(problem, make_sample("Answer: E")).outcome == "correct"
    assert verify(problem, make_sample("Answer: Z")).outcome == "no_answer"


@pytest.mark.parametrize("gold", [None, "E", "blue"])
def test_gold_must_be_a_letter_of_the_options(
    gold: str | None, make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]
) -> None:
    with pytest.raises(ProblemError, match="needs a gold letter of A-D"):
        verify(make_problem(gold, verifier="choice", choices=CHOICES), make_sample("A"))
