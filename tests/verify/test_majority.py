"""Votes in place of a gold answer (`distill/verify/majority.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from distill.errors import ProblemError
from distill.records import Problem, Sample
from distill.verify.base import current_version, verify
from distill.verify.majority import vote

Make = Callable[..., Problem]
MakeSample = Callable[..., Sample]
MakeSamples = Callable[[Sequence[str]], list[Sample]]


@pytest.fixture
def problem(make_problem: Make) -> Problem:
    return make_problem(None, verifier="majority", equivalence="math")


@pytest.fixture
def samples(make_sample: MakeSample) -> MakeSamples:
    return lambda answers: [make_sample(rf"\boxed{{{answer}}}") for answer in answers]


def test_a_single_sample_is_undecided_with_what_it_answered(problem: Problem, make_sample: MakeSample) -> None:
    verdict = verify(problem, make_sample(r"So \boxed{1/2}"))
    assert (verdict.outcome, verdict.extracted, verdict.detail) == ("undecided", "1/2", "no gold: decided by vote")
    assert verify(problem, make_sample("No idea.\nNone.")).outcome == "no_answer"


def test_the_winning_class_is_correct_and_the_others_wrong(problem: Problem, samples: MakeSamples) -> None:
    verdicts = vote(problem, samples(["0.5", "1/2", r"\frac12", "0.5", "2"]), 4, 0.6)
    assert [verdict.outcome for verdict in verdicts] == ["correct"] * 4 + ["wrong"]
    assert [verdict.score for verdict in verdicts] == [1.0] * 4 + [0.0]
    assert verdicts[0].detail == "4 of 5 agreed on 0.5 (share 0.80, interval 0.38-0.96)"
    assert verdicts[4].detail.startswith("not the majority's answer: 4 of 5")
    assert {verdict.verifier for verdict in verdicts} == {"majority"}


@pytest.mark.parametrize(
    ("answers", "lack"),
    [(["1", "1"], "2 votes, at least 4 are needed"), (["1", "1", "2", "2"], "a tie"),
     (["1", "1", "2", "3"], "at least 0.60 must agree")],
)  # fmt: skip
def test_without_a_clear_winner_all_are_undecided(
    problem: Problem, samples: MakeSamples, answers: list[str], lack: str
) -> None:
    verdicts = vote(problem, samples(answers), 4, 0.6)
    assert {verdict.outcome for verdict in verdicts} == {"undecided"}
    assert all(verdict.detail.endswith(lack) for verdict in verdicts)


def test_only_finished_answers_vote(problem: Problem, samples: MakeSamples, make_sample: MakeSample) -> None:
    cut = make_sample(None, finish_reason="length")
    aborted = make_sample(r"\boxed{1}", finish_reason="aborted")
    verdicts = vote(problem, [*samples(["1", "1", "2"]), cut, aborted], 3, 0.6)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "correct", "wrong", "truncated", "no_answer"]
    assert "2 of 3" in verdicts[0].detail


def test_the_version_names_the_votes(problem: Problem, samples: MakeSamples) -> None:
    drawn = samples(["1", "1", "1", "2"])
    versions = {vote(problem, drawn[:count], 1, share)[0].version for count, share in ((3, 0.5), (4, 0.5), (4, 0.6))}
    assert len(versions) == 3
    assert all(version.startswith(current_version(problem) + "+") for version in versions)
    assert vote(problem, drawn, 1, 0.5) == vote(problem, drawn, 1, 0.5)


def test_an_answer_that_may_be_the_winner_is_not_wrong(problem: Problem, samples: MakeSamples) -> None:
    verdicts = vote(problem, samples(["1", "1", "2"]), 1, 0.5, compare=lambda *_: "undecided")
    assert [verdict.outcome for verdict in verdicts] == ["correct", "correct", "undecided"]


def test_problems_with_gold_and_senseless_thresholds_are_refused(
    make_problem: Make, problem: Problem, samples: MakeSamples
) -> None:
    with pytest.raises(ProblemError, match="verifier math decides it"):
        vote(make_problem("1"), samples(["1"]), 1, 0.5)
    with pytest.raises(ProblemError, match="it has a gold answer"):
        verify(make_problem("1", verifier="majority"), samples(["1"])[0])
    with pytest.raises(ValueError, match="min_share"):
        vote(problem, samples(["1"]), 1, 0.0)
