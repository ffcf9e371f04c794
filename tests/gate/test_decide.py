"""pytest tests/gate/test_decide.py"""

from dataclasses import replace
from datetime import date

import pytest

from distill.cards import load_baseline
from distill.errors import GateError
from distill.gate.decide import judge
from distill.gate.spec import Gate, load_gate

FIXED = [f"gate.comparisons.{row}.method=bootstrap" for row in (0, 1)]
"""The shipped gate is sequential; a finished evaluation of fixed samples is judged by the bootstrap."""

BASE, TEACHER = [0, 0, 0, 1] * 25, [4, 4, 4, 3] * 25


def gate(*comparisons, **changes):
    rows = [{"method": "bootstrap", **row} for row in comparisons]
    return Gate(kind="gate", name="g", description="d", tasks=["tiny"], comparisons=rows, **changes)


@pytest.fixture
def others(result_of):
    return {"base": result_of(BASE, model="base"), "teacher": result_of(TEACHER, model="teacher")}


@pytest.mark.parametrize(
    ("student", "outcome", "exit_code"),
    [
        ([4, 4, 4, 3] * 25, "PASS", 0),
        ([3, 2, 2, 3] * 25, "FAIL", 3),
        ([4, 4, 4, 1] * 25, "INCONCLUSIVE", 4),
        ([0, 0, 0, 1] * 25, "FAIL", 3),
    ],
)
def test_quickstart(result_of, others, student, outcome, exit_code):
    verdict = judge(load_gate("quickstart", overrides=FIXED), result_of(student), others)
    assert (verdict.outcome, verdict.exit_code) == (outcome, exit_code)
    teacher, base = verdict.comparisons
    assert teacher.needed == pytest.approx(0.85 * 3.75 / 4) and base.needed == pytest.approx(3 * 0.25 / 4)
    assert teacher.estimate == pytest.approx(teacher.student - teacher.needed)
    assert teacher.lower_bound < teacher.estimate < teacher.upper_bound
    assert (teacher.outcome == "PASS") == (teacher.lower_bound >= 0)
    assert verdict.to_dict()["estimand"] == "population" and "bootstrap over items" in teacher.method
    assert verdict.outcome in verdict._repr_html_()


def test_pairs_by_problem_not_by_place(result_of, others):
    student = result_of(TEACHER)
    task = student.tasks["tiny"]
    shuffled = replace(student, tasks={"tiny": replace(task, items=task.items[::-1])})
    wanted = judge(load_gate("quickstart", overrides=FIXED), student, others)
    assert judge(load_gate("quickstart", overrides=FIXED), shuffled, others).comparisons == wanted.comparisons


def invalid(student, others, **validity):
    found = judge(gate({"against": "teacher", "ratio": 0.85}, validity=validity), student, others)
    assert (found.outcome, found.exit_code, found.comparisons) == ("INVALID", 5, ())
    assert "INVALID" in found._repr_html_()
    return " ".join(found.reasons)


def test_short_samples_are_invalid(result_of, others):
    task = result_of(TEACHER).tasks["tiny"]
    short = (replace(task.items[0], outcomes=("correct",) * 3, answers=("1",) * 3), *task.items[1:])
    student = replace(result_of(TEACHER), tasks={"tiny": replace(task, items=short)})
    assert "399 samples, expected 400" in invalid(student, others)


def test_a_limited_evaluation_is_invalid_unless_the_gate_allows_it(result_of, others):
    def only_ten(result):
        task = result.tasks["tiny"]
        return replace(result, tasks={"tiny": replace(task, items=task.items[:10])})

    some = {"teacher": only_ten(others["teacher"])}
    assert "10 items evaluated, at least 100" in invalid(only_ten(result_of(TEACHER)), some)
    allowed = gate({"against": "teacher", "ratio": 0.5}, validity={"min_items": 10})
    assert judge(allowed, only_ten(result_of(TEACHER)), some).outcome == "PASS"


def test_truncation_over_the_cap_is_invalid_for_student_and_teacher(result_of, others):
    cut = {"outcomes": ("correct", "correct", "correct", "truncated")}
    assert "truncation_rate 25.0%, at most 10.0%" in invalid(result_of(TEACHER, **cut), others)
    assert "teacher on tiny: truncation" in invalid(
        result_of(TEACHER), {"teacher": result_of(TEACHER, model="teacher", **cut)}
    )


def test_undecided_samples_are_not_correct_and_can_be_capped(result_of, others):
    unsure = result_of([3] * 100, outcomes=("correct", "correct", "correct", "undecided"))
    assert unsure.tasks["tiny"].scores["pass@1"] == 0.75
    assert unsure.tasks["tiny"].scores["undecided_rate"] == 0.25
    assert "undecided_rate 25.0%, at most 20.0%" in invalid(unsure, others, max_undecided_rate=0.2)


def test_repeated_samples_are_invalid(result_of, others):
    assert "share a seed" in invalid(result_of(TEACHER, num_distinct_seeds=1), others)
    assert "the same text" in invalid(result_of(TEACHER, num_distinct_texts=1), others)
    low = result_of(TEACHER, num_distinct_texts=2)
    assert "distinct_sample_rate 50.0%" in invalid(low, others, min_distinct_sample_rate=0.75)


def test_other_items_or_versions_are_invalid(result_of, others):
    student = result_of(TEACHER)
    task = student.tasks["tiny"]
    renamed = (replace(task.items[0], problem_id="other"), *task.items[1:])
    assert "not the items" in invalid(replace(student, tasks={"tiny": replace(task, items=renamed)}), others)
    assert "task version 1.0" in invalid(replace(student, tasks={"tiny": replace(task, version=2.0)}), others)


def test_a_gate_that_cannot_be_applied_says_why(result_of, others):
    with pytest.raises(GateError, match="compares with the base, which was not evaluated; found teacher"):
        judge(load_gate("quickstart", overrides=FIXED), result_of(TEACHER), {"teacher": others["teacher"]})
    with pytest.raises(GateError, match="student was not evaluated on task 'tiny'; did you mean 'tinny'"):
        judge(load_gate("quickstart", overrides=FIXED), result_of(TEACHER, task="tinny"), others)
    exact = gate({"against": "teacher", "ratio": 0.85, "method": "exact"})
    with pytest.raises(GateError, match="ratio 1"):
        judge(exact, result_of(TEACHER), others)


def test_constants_with_both_methods(result_of):
    student = result_of([1] * 90 + [0] * 10, k=1)
    for method in ("bootstrap", "exact"):
        assert judge(gate({"against": "constant", "minimum": 0.8, "method": method}), student, {}).outcome == "PASS"
        assert judge(gate({"against": "constant", "minimum": 0.97, "method": method}), student, {}).outcome == "FAIL"
        mean = judge(gate({"against": "constant", "minimum": 0.89, "method": method}), student, {})
        assert mean.outcome == "INCONCLUSIVE" and mean.comparisons[0].needed == pytest.approx(0.89)


def test_a_published_number_under_its_conflicts(result_of):
    baseline = load_baseline("o1-mini")
    published = next(row for row in baseline.results if row.task == "aime24" and row.metric == "pass@1")
    highest = max(published.value, *(row.value for row in published.conflicts_with)) / 100
    assert highest > published.value / 100
    demand = {"against": "baseline", "baseline": "o1-mini", "method": "bootstrap"}
    spec = Gate(kind="gate", name="g", description="d", tasks=["aime24"], comparisons=[demand])
    student = result_of([16] * 29 + [10], k=16, task="aime24")
    found = judge(spec, student, {}, today=date(2026, 1, 1)).comparisons[0]
    assert found.needed == pytest.approx(highest) and found.outcome == "PASS" and "conflict" in found.note
    expired = baseline.model_copy(update={"expires": date(2025, 1, 1)})
    verdict = judge(spec, student, {}, baselines={"o1-mini": expired}, today=date(2026, 1, 1))
    assert verdict.outcome == "INVALID" and "expired" in verdict.reasons[0]
    with pytest.raises(GateError, match="has no pass@1 of task 'tiny'"):
        judge(gate(demand), result_of(TEACHER), {})
