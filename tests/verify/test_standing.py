"""Which of several verdicts counts (`distill/verify/standing.py`)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.records import Verdict
from distill.verify import standing as module
from distill.verify.base import current_version
from distill.verify.sandbox import SandboxUnavailable
from distill.verify.standing import JudgeRule, problem_mark, standing

ON_UNDECIDED = JudgeRule(frozenset({"undecided"}))


@pytest.fixture
def problem(make_problem):
    return make_problem("7", verifier="exact")


def given(verifier: str, version: str, outcome: str) -> Verdict:
    return Verdict("k", verifier, version, outcome, 0.0, "7")  # type: ignore[arg-type]


def judge(problem, outcome: str, identity: str = "1+model-a") -> Verdict:
    return given("judge", f"{identity}+shown-00+{problem_mark(problem)}", outcome)


def test_the_current_version_counts_wherever_it_stands_else_the_last(problem):
    current = given("exact", current_version(problem), "correct")
    old, older = given("exact", "0", "wrong"), given("math", "9", "undecided")
    assert standing(problem, [older, current, old]) == current
    assert standing(problem, [older, old]) == old
    assert standing(problem, [replace(current, outcome="error"), old]) == old
    assert standing(problem, []) is None


def test_verdicts_on_another_gold_answer_are_not_current(problem):
    stale = given("exact", current_version(replace(problem, answer="8")), "wrong")
    fresh = given("exact", current_version(problem), "correct")
    assert standing(problem, [fresh, stale]) == fresh


@pytest.mark.parametrize(
    ("own", "judged", "rule", "stands"),
    [
        ("undecided", "correct", ON_UNDECIDED, "judge"),
        ("undecided", "wrong", ON_UNDECIDED, "judge"),
        ("undecided", "undecided", ON_UNDECIDED, "exact"),
        ("wrong", "correct", ON_UNDECIDED, "exact"),
        ("wrong", "correct", JudgeRule(frozenset({"wrong"})), "judge"),
        ("correct", "wrong", ON_UNDECIDED, "exact"),
        ("undecided", "correct", None, "exact"),
        ("undecided", "correct", JudgeRule(frozenset({"undecided"}), "1+model-a"), "judge"),
        ("undecided", "correct", JudgeRule(frozenset({"undecided"}), "1+model-b"), "exact"),
    ],
)
def test_a_judge_stands_only_where_it_was_asked_and_decided(problem, own, judged, rule, stands):
    verdicts = [given("exact", current_version(problem), own), judge(problem, judged)]
    assert standing(problem, verdicts, judge=rule).verifier == stands
    assert standing(problem, verdicts[::-1], judge=rule).verifier == stands


def test_a_judge_that_was_shown_another_gold_answer_does_not_count(problem):
    other = replace(problem, answer="8")
    verdicts = [given("exact", current_version(problem), "undecided"), judge(other, "correct")]
    assert standing(problem, verdicts, judge=ON_UNDECIDED).verifier == "exact"


def test_the_last_of_several_judges_counts(problem):
    own = given("exact", current_version(problem), "undecided")
    verdicts = [own, judge(problem, "correct", "1+model-a"), judge(problem, "wrong", "1+model-b")]
    assert standing(problem, verdicts, judge=ON_UNDECIDED).outcome == "wrong"
    assert standing(problem, verdicts, judge=replace(ON_UNDECIDED, identity="1+model-a")).outcome == "correct"


def test_verifiers_narrow_it(problem):
    own, judged = given("exact", current_version(problem), "undecided"), judge(problem, "correct")
    both = [own, judged]
    assert standing(problem, both, judge=ON_UNDECIDED, verifiers={"exact"}) == own
    assert standing(problem, both, judge=ON_UNDECIDED, verifiers={"exact", "judge"}) == judged
    assert standing(problem, both, judge=ON_UNDECIDED, verifiers={"judge"}) == judged
    assert standing(problem, both, verifiers={"judge"}) is None
    assert standing(problem, both, verifiers={"math"}) is None


def test_code_verdicts_are_read_where_no_code_can_be_run(make_problem, monkeypatch):
    def refuse(problem):
        raise SandboxUnavailable("not here")

    monkeypatch.setattr(module, "current_version", refuse)
    verdicts = [given("code", "1@a", "wrong"), given("code", "1@b", "correct")]
    assert standing(make_problem(None, verifier="code"), verdicts) == verdicts[1]
