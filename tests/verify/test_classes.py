"""Classes of answers and the majority among them (`distill/verify/classes.py`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distill.errors import ProblemError
from distill.records import Outcome, Problem
from distill.verify.classes import AnswerClass, answer_classes, compare_here, compare_in, majority
from distill.verify.pool import VerifierPool

Make = Callable[..., Problem]


def members(classes: list[AnswerClass]) -> list[tuple[int, ...]]:
    return [each.members for each in classes]


def test_answers_are_grouped_by_meaning_and_the_largest_class_comes_first(make_problem: Make) -> None:
    answers = ["2", "0.5", None, r"\frac{1}{2}", "1/2", r"\dfrac12", "x", "2.0", "0.5"]
    classes = answer_classes(make_problem(None, verifier="majority"), answers)
    assert members(classes) == [(1, 3, 4, 5, 8), (0, 7), (6,)]
    assert [each.label for each in classes] == ["0.5", "2", "x"]


def test_letters_and_words_by_their_own_verifiers(make_problem: Make) -> None:
    assert members(answer_classes(make_problem("A", verifier="choice"), ["A", "B", "A"])) == [(0, 2), (1,)]
    assert members(answer_classes(make_problem("x", verifier="exact"), ["Red", "blue", "red"])) == [(0, 2), (1,)]


def test_only_first_members_are_compared(make_problem: Make) -> None:
    asked: list[tuple[str, str]] = []

    def compare(problem: Problem, one: str, other: str) -> Outcome:
        asked.append((one, other))
        return compare_here(problem, one, other)

    answers = ["7"] * 50 + ["7.0", "8"] * 20 + ["9"] * 3
    classes = answer_classes(make_problem("1"), answers, compare=compare)
    assert [len(each.members) for each in classes] == [70, 20, 3]
    assert asked == [("7", "7.0"), ("7", "8"), ("7", "9"), ("8", "9")]


def test_what_the_checker_cannot_decide_is_another_class(make_problem: Make) -> None:
    assert len(answer_classes(make_problem("1"), ["4", "5"], compare=lambda *_: "undecided")) == 2


def test_verifiers_that_cannot_compare_are_refused(make_problem: Make) -> None:
    with pytest.raises(ProblemError, match="cannot be compared by verifier 'code'; known: math, exact, choice"):
        answer_classes(make_problem("1", verifier="code"), ["1"])


def test_majority_share_and_interval() -> None:
    leading = majority([AnswerClass("42", tuple(range(12))), AnswerClass("41", (12, 13, 14, 15))])
    assert (leading.label, leading.agreed, leading.votes, leading.share) == ("42", 12, 16, 0.75)
    assert leading.interval == pytest.approx((0.505, 0.898), abs=1e-3)
    assert str(leading) == "12 of 16 agreed on 42 (share 0.75, interval 0.51-0.90)"


def test_a_tie_and_no_votes_are_no_majority() -> None:
    tie = majority([AnswerClass("1", (0, 2)), AnswerClass("2", (1, 3))])
    assert (tie.label, tie.members, tie.votes) == (None, (), 4)
    assert (majority([]).label, majority([]).share, majority([]).interval) == (None, 0.0, (0.0, 1.0))


def test_a_pool_compares_under_its_limits(make_problem: Make) -> None:
    towers = [r"10^{10^{10}}", r"10^{10^{10}} + x - x", "1/3", r"\frac{1}{3}"]
    with VerifierPool(workers=1, timeout_seconds=2.0) as pool:
        classes = answer_classes(make_problem("1"), towers, compare=compare_in(pool))
        assert (2, 3) in members(classes)
        assert compare_in(pool)(make_problem("1"), "2", "3") == "wrong"
