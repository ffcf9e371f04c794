"""Outcomes, and which text may be read (`distill/verify/base.py`, `distill/verify/exact.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from distill.errors import ProblemError
from distill.records import Problem, Sample
from distill.verify.base import current_version, verifier_names, verify

Make = Callable[..., Problem]
MakeSample = Callable[..., Sample]


def test_verifiers_are_the_files() -> None:
    assert verifier_names() == ["choice", "code", "exact", "gym", "majority", "math"]


def test_a_boxed_answer_in_an_unclosed_thought_is_never_read(make_problem: Make, make_sample: MakeSample) -> None:
    cut = make_sample(None, finish_reason="length", reasoning=r"so \boxed{12}")
    stopped = make_sample(None, reasoning=r"so \boxed{12}")
    assert verify(make_problem("12"), cut).outcome == "truncated"
    verdict = verify(make_problem("12"), stopped)
    assert (verdict.outcome, verdict.detail) == ("no_answer", "the reasoning was opened and never closed")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(r"\boxed{12}", "correct"), (r"\boxed{1", "truncated"), ("The answer is 1", "truncated"), ("12", "truncated")],
)
def test_out_of_tokens_after_the_thought(
    answer: str, outcome: str, make_problem: Make, make_sample: MakeSample
) -> None:
    assert verify(make_problem("12"), make_sample(answer, finish_reason="length")).outcome == outcome


def test_no_answer(make_problem: Make, make_sample: MakeSample) -> None:
    verdict = verify(make_problem("12"), make_sample("I cannot.\nReally not."))
    assert (verdict.outcome, verdict.extracted) == ("no_answer", None)


def test_a_fault_of_the_verifier_is_an_error_with_its_reason(make_problem: Make, make_sample: MakeSample) -> None:
    problem = make_problem("1", verifier="gym", family="gcd", entry={"question": "q"})
    verdict = verify(problem, make_sample(r"\boxed{2}"))
    assert (verdict.outcome, verdict.detail) == ("error", "KeyError: 'answer'")


def test_unknown_verifier_names_the_near_one(make_problem: Make, make_sample: MakeSample) -> None:
    with pytest.raises(ProblemError, match="did you mean 'math'"):
        verify(make_problem("1", verifier="maths"), make_sample("1"))


def test_verdict_names_sample_verifier_and_version(make_problem: Make, make_sample: MakeSample) -> None:
    sample = make_sample(r"\boxed{Yes}")
    problem = make_problem("yes", verifier="exact")
    verdict = verify(problem, sample)
    assert (verdict.sample_key, verdict.verifier, verdict.version) == (sample.key, "exact", current_version(problem))
    assert (verdict.outcome, verdict.extracted) == ("correct", "Yes")
    assert current_version(replace(problem, answer="no")) != current_version(problem)
    assert current_version(replace(problem, meta={"tests": []})) != current_version(problem)


def test_the_version_changes_with_gold_answer_and_tests_and_not_with_the_prompt(make_problem: Make) -> None:
    problem = make_problem("1", verifier="code", tests={"inputs": ["1"]})
    changed = [replace(problem, answer="2"), replace(problem, meta={"tests": {"inputs": ["2"]}})]
    assert len({current_version(each) for each in (problem, *changed)}) == 3
    assert current_version(replace(problem, prompt="another", id="q")) == current_version(problem)


def test_an_aborted_stream_is_no_answer_whatever_stands_in_it(make_problem: Make, make_sample: MakeSample) -> None:
    sample = replace(make_sample(r"\boxed{12}", finish_reason="aborted"), note="looped: 20 words, 8 times")
    verdict = verify(make_problem("12"), sample)
    assert (verdict.outcome, verdict.extracted) == ("no_answer", None)
    assert verdict.detail == "aborted: looped: 20 words, 8 times"


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        ("73", "073", "correct"),
        ("1024", "1,024", "correct"),
        ("-5", "-05", "correct"),
        ("5", "-5", "wrong"),
        ("0", "-0", "correct"),
        ("red apple", r"\text{Red  apple}", "correct"),
        ("a", "ab", "wrong"),
        ("9" * 5000, "9" * 4999, "wrong"),
    ],
)
def test_exact(gold: str, answer: str, outcome: str, make_problem: Make, make_sample: MakeSample) -> None:
    assert verify(make_problem(gold, verifier="exact"), make_sample(rf"\boxed{{{answer}}}")).outcome == outcome
