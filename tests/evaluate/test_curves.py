"""pytest tests/evaluate/test_curves.py"""

import json

import numpy as np
import pytest

from distill.errors import ConfigError
from distill.evaluate import metrics
from distill.evaluate.curves import (
    BudgetPoint,
    cons_curve,
    curves_command,
    curves_of,
    default_budgets,
    load_curves,
    pass_curve,
    score_at_budget,
    sizes_up_to,
    token_budget_curve,
    with_force_closed,
)
from distill.evaluate.result import EvalResult, Item, TaskResult
from distill.records import SampleRequest, SamplingParams, Verdict

PARAMS = SamplingParams(0.6, 0.95, 64)
R, W, N, T, U = "correct", "wrong", "no_answer", "truncated", "undecided"


def item(outcomes, tokens=None, classes=(), name="p"):
    answers = tuple("7" if each == R else "3" if each in (W, U) else None for each in outcomes)
    tokens = tuple(tokens or [10 * (at + 1) for at in range(len(outcomes))])
    keys = tuple(f"{name}-{at}" for at in range(len(outcomes)))
    return Item(name, "f", tuple(outcomes), answers, tokens, keys, len(keys), len(keys), tuple(classes))


def result(items, k, name="m"):
    task = TaskResult("sums", 1.0, k, len(items), tuple(items))
    return EvalResult(name, f"{name}-1", PARAMS.to_dict(), 3, {"sums": task}, 0, 0, 1.0)


ITEMS = [item([R, R, W, W], name="a"), item([R, N, N, T], name="b"), item([W, W, W, R], name="c")]


def test_pass_and_cons_curves_by_hand():
    passed = {point.k: point.value for point in pass_curve(ITEMS, 4)}
    assert passed == pytest.approx({1: 4 / 12, 2: (5 / 6 + 1 / 2 + 1 / 2) / 3, 4: 1.0})
    voted = {point.k: point.value for point in cons_curve(ITEMS, 4)}
    two_of_three_wrong = (3 * 0 + 3 * 0.5) / 6  # pairs: three of wrong votes, three ties
    assert voted == pytest.approx({1: 4 / 12, 2: (0.5 + 0.5 + two_of_three_wrong) / 3, 4: (0.5 + 1 + 0) / 3})


def test_votes_go_by_class_and_the_cut_off_do_not_vote():
    spelled = Item("p", "f", (R, R, W, W, T), ("0.5", "1/2", "3", "4", "3"), (1,) * 5, ("",) * 5, 5, 5)
    assert cons_curve([spelled], 5, [5])[0].value == pytest.approx(2 / 4)  # four texts tie, two of them right
    voted = Item("p", "f", (R, R, W, W, T), ("0.5", "1/2", "3", "4", "3"), (1,) * 5, ("",) * 5, 5, 5, (0, 0, 1, 2, 1))
    assert cons_curve([voted], 5, [5])[0].value == 1.0
    assert result([voted], 5).tasks["sums"].scores["cons@k"] == 1.0


def test_intervals_hold_the_value_and_say_when_decoding_noise_is_unknown():
    for points in (pass_curve(ITEMS, 4), cons_curve(ITEMS, 4)):
        for point in points:
            low, high = point.interval
            assert 0 <= low <= point.value <= high <= 1
            assert (point.interval_benchmark is None) == (point.k > 2)
    assert pass_curve(ITEMS, 4)[0].interval == pytest.approx(metrics.population_interval([2, 1, 1], 4), abs=1e-9)


def test_benchmark_interval_of_one_sample_is_that_of_accuracy():
    """Normal here, resampled there: the same variance, so nearly the same interval."""
    chance = np.random.default_rng(2)
    shares = chance.random(60)
    items = [item([R if chance.random() < share else W for _ in range(8)]) for share in shares]
    ours = pass_curve(items, 8, [1])[0].interval_benchmark
    assert ours == pytest.approx(metrics.benchmark_interval([each.num_correct for each in items], 8), abs=0.006)


def test_benchmark_intervals_cover_the_expectation():
    chance = np.random.default_rng(7)
    shares = chance.random(30)
    truth = float(np.mean(1 - (1 - shares) ** 2))
    hits = 0
    for _ in range(200):
        items = [item([R if chance.random() < share else W for _ in range(4)]) for share in shares]
        low, high = pass_curve(items, 4, [2])[0].interval_benchmark
        hits += low <= truth <= high
    assert hits >= 184  # 95% of 200 less two standard errors


def test_accuracy_by_budget_counts_what_was_right_within_it():
    points = {point.budget: point for point in token_budget_curve(ITEMS, 4, [5, 10, 20, 40])}
    assert [points[b].accuracy for b in (5, 10, 20, 40)] == pytest.approx([0, 2 / 12, 3 / 12, 4 / 12])
    assert [points[b].share_finished for b in (5, 10, 20, 40)] == pytest.approx([0, 3 / 12, 6 / 12, 11 / 12])
    assert points[10].mean_tokens == 10 and points[40].mean_tokens == 25
    assert points[40].interval == pytest.approx(metrics.population_interval([2, 1, 1], 4), abs=1e-9)
    assert points[40].interval_benchmark == metrics.benchmark_interval([2, 1, 1], 4)


def test_default_budgets_go_from_below_the_shortest_to_the_cap():
    assert default_budgets(10, 64) == [8, 16, 32, 64]
    assert default_budgets(8, 50) == [4, 8, 16, 32, 50]
    assert default_budgets(1, 3) == [1, 2, 3]
    points = token_budget_curve(ITEMS, 4, cap=64)
    assert points[0].accuracy == points[0].share_finished == 0.0
    assert points[-1].accuracy == pytest.approx(4 / 12)


def test_budgets_beyond_what_was_drawn_are_refused():
    for wrong in (65, 0):
        with pytest.raises(ValueError, match=f"budget {wrong}: samples drawn with 64 tokens"):
            token_budget_curve(ITEMS, 4, [wrong], cap=64)


@pytest.mark.parametrize("outcomes", [[N, N, N, N], [T, T, T, T]])
def test_curves_without_any_answer_are_zero(outcomes):
    found = curves_of(result([item(outcomes)], 4))["tasks"]["sums"]
    for name, value in (("pass_at", "value"), ("cons_at", "value"), ("cut", "accuracy")):
        assert {point[value] for point in found[name]} == {0.0}
        assert all(point["interval"][0] == 0 < point["interval"][1] for point in found[name])
    assert found["cut"][-1]["share_finished"] == (0.0 if outcomes[0] == T else 1.0)


def test_one_sample_and_one_item():
    found = curves_of(result([item([R])], 1))["tasks"]["sums"]
    assert [point["k"] for point in found["pass_at"]] == [point["k"] for point in found["cons_at"]] == [1]
    assert found["pass_at"][0]["value"] == found["cons_at"][0]["value"] == 1.0
    assert found["cut"][-1]["interval_benchmark"] is None
    assert found["cut"][-1]["interval"][0] == pytest.approx(0.025, abs=0.01)  # Clopper-Pearson for 1 of 1


def test_samples_that_never_came_count_as_wrong():
    assert pass_curve([item([R])], 2, [1])[0].value == cons_curve([item([R])], 2, [1])[0].value == 0.5
    assert token_budget_curve([item([R])], 2, [10])[0].accuracy == 0.5
    with pytest.raises(ValueError, match="there is no item"):
        pass_curve([], 2)


def test_score_at_budget():
    request = SampleRequest("p", "What?", 0, PARAMS)
    from distill.engines.base import sample_of

    class Named:
        model, fingerprint, can_continue = "m", "m-1", False

    sample = sample_of(
        Named(), request, text="7", reasoning=None, answer="7", prompt_tokens=1, completion_tokens=20,
        finish_reason="stop", seconds=0.0,
    )  # fmt: skip
    right = Verdict(sample.key, "exact", "1", "correct", 1.0, "7")
    wrong = Verdict(sample.key, "exact", "1", "wrong", 0.0, "7")
    assert [score_at_budget(sample, right, budget) for budget in (19, 20)] == [0.0, 1.0]
    assert score_at_budget(sample, wrong, 20) == 0.0


def test_sizes():
    assert sizes_up_to(1) == [1] and sizes_up_to(6) == [1, 2, 4, 6] and sizes_up_to(8) == [1, 2, 4, 8]


FORCED = [BudgetPoint(16, 0.25, (0.1, 0.4), None, 0.5, 12.0)]


def test_command_writes_the_curves_of_every_evaluation(tmp_path):
    result(ITEMS, 4).save(tmp_path / "eval" / "student.json")
    result(ITEMS[:1], 4, "t").save(tmp_path / "eval" / "teacher.json")
    (tmp_path / "eval" / "results.json").write_text("{}")
    (tmp_path / "eval" / "official.json").write_text('{"kind": "official_evaluation"}')
    written = curves_command(tmp_path)
    assert load_curves(tmp_path / "eval" / "curves.json") == json.loads(json.dumps(written))
    assert set(written["models"]) == {"student", "teacher"}
    assert written["models"]["student"] == curves_of(result(ITEMS, 4))


def test_command_keeps_force_closed_curves_of_the_same_samples(tmp_path):
    result(ITEMS, 4).save(tmp_path / "eval" / "student.json")
    curves = curves_command(tmp_path)
    student = with_force_closed(curves["models"]["student"], "sums", FORCED)
    (tmp_path / "eval" / "curves.json").write_text(json.dumps(curves | {"models": {"student": student}}))
    again = curves_command(tmp_path)["models"]["student"]["tasks"]["sums"]
    assert again["force_closed"] == student["tasks"]["sums"]["force_closed"] != []
    result(ITEMS[:2], 4).save(tmp_path / "eval" / "student.json")
    assert curves_command(tmp_path)["models"]["student"]["tasks"]["sums"]["force_closed"] == []


def test_command_says_what_is_missing_or_damaged(tmp_path):
    with pytest.raises(ConfigError, match="no evaluation to draw curves of; `distill eval` makes one"):
        curves_command(tmp_path)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "student.json").write_text("{")
    with pytest.raises(ConfigError, match="not an evaluation result"):
        curves_command(tmp_path)
    result(ITEMS, 4).save(tmp_path / "eval" / "student.json")
    for text, message in (("{", "is not JSON"), ('{"format_version": 9}', "expected 1 with models, found 9")):
        (tmp_path / "eval" / "curves.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            curves_command(tmp_path)


def test_texts_stand_for_classes_in_older_files():
    older = curves_of(result(ITEMS, 4))["tasks"]["sums"]
    newer = curves_of(result([item([R, W], classes=(0, 1))], 2))["tasks"]["sums"]
    assert (older["votes_over"], newer["votes_over"]) == ("texts", "classes")
