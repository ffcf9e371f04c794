"""Every step keeps a good row, and drops each kind of bad one for the exact reason."""

from __future__ import annotations

import pytest

from distill.curate.pipeline import build_steps, step_names
from distill.curate.step import CurationContext
from distill.curate.steps.closed_reasoning import ClosedReasoning, boxed_contents
from distill.curate.steps.exact_duplicates import ExactDuplicates
from distill.curate.steps.max_per_problem import MaxPerProblem
from distill.curate.steps.truncation import Truncation
from distill.curate.steps.verified import Verified
from distill.errors import ConfigError


def test_every_step_keeps_a_good_row(row, problem):
    context = CurationContext(evaluation_problems=[problem(1, "Spell the word bread backwards, letter by letter.")])
    for step in build_steps([{name: {}} for name in step_names()], context):
        assert step.filter(row()) is True, step.name


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("wrong", "wrong"),
        ("undecided", "undecided"),
        ("no_answer", "no_answer"),
        ("truncated", "truncated"),
        ("error", "error"),
    ],
)
def test_verified_drops_with_the_outcome_as_reason(row, outcome, reason):
    assert Verified().filter(row(outcome=outcome, final_answer="5")) == (False, reason, "exact 1 read '5'")


def test_verified_drops_what_was_never_verified(row):
    assert Verified().filter(row(outcome=None)) == (False, "unverified")


@pytest.mark.parametrize(
    ("parameters", "changes", "decision"),
    [
        ({"accept": ["correct", "undecided"]}, {"outcome": "undecided"}, True),
        ({"accept": ["correct", "undecided"]}, {"outcome": "wrong"}, (False, "wrong", "exact 1 read '2'")),
        ({"accept": ["undecided"]}, {}, (False, "correct", "exact 1 read '2'")),
        ({"accept": ["correct", "unverified"]}, {"outcome": None, "verifier": None}, True),
        ({"accept": "any"}, {"outcome": None, "verifier": None}, True),
        ({"accept": "any"}, {"outcome": "error"}, True),
        ({"verifiers": ["exact", "math"]}, {}, True),
        ({"verifiers": ["math"]}, {}, (False, "other_verifier", "exact 1 read '2'")),
        ({"verifiers": ["exact"]}, {"verifier": "judge"}, (False, "other_verifier", "judge 1 read '2'")),
        ({"verifiers": ["judge"]}, {"verifier": "judge"}, True),
        ({"verifiers": "any"}, {"verifier": "judge"}, True),
    ],
)
def test_what_is_accepted_is_the_recipes_choice(row, parameters, changes, decision):
    assert Verified(**parameters).filter(row(**changes)) == decision


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"accept": ["corect"]}, "verified.accept: 'corect' is unknown; did you mean 'correct'"),
        ({"accept": []}, "verified.accept: the list is empty, so nothing would be kept"),
        ({"accept": "correct"}, "verified.accept: expected"),
        ({"verifiers": ["maths"]}, "verified.verifiers: 'maths' is unknown; did you mean 'math'"),
    ],
)
def test_names_that_do_not_exist_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        build_steps([{"verified": parameters}])


def test_truncation(row):
    assert Truncation().filter(row(finish_reason="length")) == (False, "truncated", "stopped at 12 tokens")
    assert Truncation(max_completion_tokens=12).filter(row()) is True
    assert Truncation(max_completion_tokens=11).filter(row()) == (
        False,
        "overlong",
        "12 tokens, at most 11 are allowed",
    )


@pytest.mark.parametrize(
    ("changes", "decision"),
    [
        ({"answer": None}, (False, "unclosed_reasoning")),
        ({"reasoning": None}, (False, "no_reasoning")),
        ({"reasoning": " \n"}, (False, "no_reasoning")),
        ({"answer": "so <think> again \\boxed{2}"}, (False, "reopened_reasoning", "<think> occurs again")),
        ({"reasoning": "a <think> b"}, (False, "reopened_reasoning", "<think> occurs again")),
        ({"answer": "</think> \\boxed{2}"}, (False, "reopened_reasoning", "</think> occurs again")),
        ({"answer": "The answer is 2."}, (False, "no_final_answer", "no \\boxed{} after the reasoning")),
        ({"answer": "\\boxed{}"}, (False, "no_final_answer", "no \\boxed{} after the reasoning")),
        ({"answer": "\\boxed{2"}, (False, "no_final_answer", "no \\boxed{} after the reasoning")),
        ({"answer": "\\boxed{2} or \\boxed{3}"}, (False, "many_final_answers", "2, 3")),
        ({"answer": "\\boxed{2}, that is \\boxed{ 2 }"}, True),
        ({"answer": "\\boxed{2}", "reasoning": "\\boxed{3}? No."}, True),
    ],
)
def test_closed_reasoning(row, changes, decision):
    assert ClosedReasoning().filter(row(**changes)) == decision


def test_closed_reasoning_without_a_box_or_with_other_markers(row):
    step = ClosedReasoning(require_boxed=False, require_reasoning=False)
    assert step.filter(row(answer="print(2)", reasoning=None)) is True
    assert step.filter(row(answer=" ")) == (False, "no_final_answer")
    other = ClosedReasoning(context=CurationContext(open_marker="[THINK]", close_marker="[/THINK]"))
    assert other.filter(row(answer="a <think> is fine \\boxed{2}")) is True
    assert other.filter(row(answer="[THINK] \\boxed{2}")) == (False, "reopened_reasoning", "[THINK] occurs again")


def test_boxes_are_outermost_balanced_and_filled():
    assert boxed_contents(r"\boxed{\frac{1}{2}} \fbox{ 3 } \boxed{a\}b} \boxed{} \boxed{...}") == [
        r"\frac{1}{2}",
        "3",
        r"a\}b",
    ]
    assert boxed_contents(r"\boxed{unclosed \boxed{4}") == ["4"]
    assert boxed_contents(r"\boxed{\boxed{5}}") == [r"\boxed{5}"]
    assert boxed_contents("nothing") == [] and boxed_contents("\\boxed{") == []


def test_exact_duplicates_ignore_white_space_and_nothing_else(row):
    step = ExactDuplicates()
    first, second = row(0, 0), row(0, 1)
    assert step.filter(first) is True and step.filter(second) is True
    again = row(0, 2, reasoning="try \n 0", answer=first["answer"] + " ")
    assert step.filter(again) == (False, "duplicate", "same as key-0-0")
    assert step.filter(row(1, 0, reasoning=first["reasoning"], answer=first["answer"])) is True


def test_max_per_problem_counts_each_problem(row):
    step = MaxPerProblem(max_traces=2)
    decisions = [step.filter(row(number, index)) for index in range(3) for number in range(2)]
    assert decisions[:4] == [True] * 4
    assert decisions[4:] == [
        (False, "over_per_problem", f"2 traces of p{number} are kept already") for number in range(2)
    ]
