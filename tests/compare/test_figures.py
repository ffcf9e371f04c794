"""Figures of teachers and pairs, against counts by hand."""

from __future__ import annotations

import pytest

from distill.compare.figures import answer_labels, figures_of, pair_figures
from distill.compare.page import page_of
from distill.compare.sampling import Answer, TeacherAnswers
from distill.compare.table import table_text
from distill.records import Problem
from distill.verify.classes import compare_here

PARAMS = {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 64}


def problems(count: int, verifier: str = "math") -> list[Problem]:
    return [Problem(f"p{at}", f"{at}?", "1/2", verifier, "f", "d", "s", "mit") for at in range(count)]


def answers(
    name: str, given: list[tuple[str | None, bool]], *, tokens: int, usd: float | None = None
) -> TeacherAnswers:
    """One sample of each problem: (final answer, accepted)."""
    rows = [
        Answer(f"p{at}", "correct" if right else "wrong", text, tokens + at, text is None, at < 2, 1.0 + at, usd)
        for at, (text, right) in enumerate(given)
    ]
    return TeacherAnswers(name, f"model-{name}", PARAMS, rows, len(rows), 2.5)


GOOD = answers("good", [("1/2", True)] * 8 + [("3", False), (None, False)], tokens=10, usd=0.01)
POOR = answers("poor", [("0.5", True)] * 2 + [("3", False)] * 8, tokens=20)


def test_figures_of_one_teacher():
    found = figures_of(GOOD, problems(12), 1)
    assert (found.samples, found.accepted, found.unanswered, found.problems_covered) == (10, 8, 2, 8)
    assert found.accept_rate == 0.8
    assert found.accept_interval == pytest.approx((0.490, 0.943), abs=1e-3)  # Wilson, 8 of 10
    assert (found.tokens, found.tokens_per_accepted) == (145, 145 / 8)
    assert found.usd_per_accepted == pytest.approx(0.1 / 8)
    assert (found.tokens_median, found.tokens_p90) == (14.5, pytest.approx(18.1))
    assert (found.truncation_rate, found.mixing_rate) == (0.1, 0.2)
    assert found.outcomes == {"correct": 8, "wrong": 2}
    assert figures_of(POOR, problems(10), 1).cost_usd is None


def test_several_samples_of_a_problem_are_no_independent_trials():
    """8 problems, always right or never: with 4 samples each the interval is that of 8 trials, not of 32."""
    rows = [Answer(f"p{at}", "correct" if at < 4 else "wrong", "1", 5, False, False, 1.0, None) for at in range(8)] * 4
    low, high = figures_of(TeacherAnswers("t", "m", PARAMS, rows, 32, 1.0), problems(8), 4).accept_interval
    assert low < 0.22 and high > 0.78


def labels(*sides: TeacherAnswers, number: int = 10, verifier: str = "math"):
    return answer_labels(sides, problems(number, verifier), compare_here)


def test_a_pair():
    found = pair_figures(GOOD, POOR, problems(10), 1, labels(GOOD, POOR))
    assert (found.problems, found.accept_difference) == (10, pytest.approx(0.6))
    low, high = found.accept_interval
    assert 0.0 < low < 0.6 < high < 1.0
    assert found.mcnemar_p == pytest.approx(2 / 2**6)  # 6 wins, no loss, two-sided
    assert found.cost_ratio == pytest.approx((145 / 8) / (245 / 2))
    assert found.cost_interval[0] < found.cost_ratio < found.cost_interval[1]
    assert (found.both_answered, found.agreed, found.agreed_and_wrong) == (9, 3, 1)  # 1/2 is 0.5; "3" is wrong


def test_a_pair_the_other_way_round_is_the_mirror():
    one, other = (pair_figures(*sides, problems(10), 1, labels(*sides)) for sides in ((GOOD, POOR), (POOR, GOOD)))
    assert one.accept_difference == -other.accept_difference
    assert one.mcnemar_p == other.mcnemar_p
    assert one.accept_interval == pytest.approx(tuple(-bound for bound in reversed(other.accept_interval)), abs=0.02)
    assert one.cost_ratio * other.cost_ratio == pytest.approx(1.0)
    assert one.agreed == other.agreed


def test_only_what_both_answered_is_paired():
    short = answers("short", [("1/2", True)] * 4, tokens=10)
    found = pair_figures(GOOD, short, problems(10), 1, labels(GOOD, short))
    assert (found.problems, found.accept_difference, found.agreed) == (4, 0.0, 4)


def test_nothing_in_common_and_nothing_accepted():
    none = answers("none", [("3", False)] * 10, tokens=10)
    found = pair_figures(GOOD, none, problems(10), 1, labels(GOOD, none))
    assert (found.cost_ratio, found.cost_interval) == (None, None)
    empty = TeacherAnswers("empty", "m", PARAMS, [], 0, 0.0)
    found = pair_figures(GOOD, empty, problems(10), 1, labels(GOOD, empty))
    assert (found.problems, found.accept_difference, found.agreement) == (0, None, None)


def test_answers_that_no_verifier_compares():
    assert labels(GOOD, POOR, number=1, verifier="gym") == {"p0": [0, 1]}  # text: "1/2" is not "0.5"
    assert labels(GOOD, POOR, number=1, verifier="code") == {}


def test_page_and_table():
    figures = [figures_of(each, problems(10), 1).to_dict() for each in (GOOD, POOR)]
    result = {
        "target": "<b>sums</b>", "problems": 10, "problems_known": 40, "samples_per_problem": 1, "teachers": figures,
        "pairs": [pair_figures(GOOD, POOR, problems(10), 1, labels(GOOD, POOR)).to_dict()],
    }  # fmt: skip
    page = page_of(result)
    assert "<b>sums</b>" not in page and "&lt;b&gt;sums&lt;/b&gt;" in page
    for text in (page, table_text(result)):
        assert "80.0%" in text and "+60.0 points" in text and "0.0125" in text
