"""Verdicts of the sequential test: exact error by enumeration, early stop, continued evidence, complete rounds only.

pytest tests/gate/test_sequential.py
"""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from distill.errors import GateError
from distill.gate.demand import Demand, against_constant, against_model
from distill.gate.sequential import SequentialTest, continue_or_begin, task_weights


def items_of(number, task="t"):
    return {f"{task}/{at:03d}": task for at in range(number)}


def run(demand, rows, *, identity="m"):
    """The test after rows of scores [rounds, items], stopping where it says so."""
    test = SequentialTest(demand, items_of(len(rows[0])), identity=identity)
    for row in rows:
        if test.is_over:
            break
        test.add_round(dict(zip(test.item_ids, map(float, row), strict=True)))
    return test


def drawn(p, rounds, seed=0):
    return (np.random.default_rng(seed).random((rounds, len(p))) < np.asarray(p)).astype(float)


AIME = np.r_[np.full(12, 0.97), np.full(6, 0.85), np.full(5, 0.55), np.full(4, 0.2), np.full(3, 0.02)]


@pytest.mark.parametrize("final_share", [0.0, 0.4])
def test_error_at_the_bar_exactly(final_share):
    """Two items, four rounds, every path: a wrong verdict on either side is no more likely than its alpha."""
    demand = against_constant(0.5, alpha_pass=0.3, alpha_fail=0.2, cap_rounds=4, final_share=final_share)
    paths = np.array(list(product((0.0, 1.0), repeat=8))).reshape(-1, 4, 2)
    outcomes = [run(demand, path).outcome for path in paths]
    assert set(outcomes) == {"PASS", "FAIL", "INCONCLUSIVE"}
    for p in ([0.5, 0.5], [0.1, 0.9], [0.0, 1.0], [0.35, 0.65]):
        chance = np.where(paths == 1, p, 1 - np.asarray(p)).prod(axis=(1, 2))
        error = {
            name: sum(chance[at] for at, found in enumerate(outcomes) if found == name) for name in ("PASS", "FAIL")
        }
        assert error["PASS"] <= 0.3 and error["FAIL"] <= 0.2


def test_clear_cases_stop_early():
    above, below = run(against_constant(0.5), drawn(AIME, 64)), run(against_constant(0.85), drawn(AIME, 64))
    assert (above.outcome, below.outcome) == ("PASS", "FAIL")
    assert above.rounds == above.decided_at_round < 8 and below.rounds < 8
    assert above.verdict().p_pass <= 0.05 < above.verdict().p_fail and above.final_test == "unspent"


def test_at_the_bar_it_is_undecided_at_the_cap_and_says_what_would_decide():
    test = run(against_constant(float(AIME.mean()), cap_rounds=12), drawn(AIME, 20))
    assert test.outcome == "INCONCLUSIVE" and test.is_over and test.rounds == 12
    verdict = test.verdict()
    assert verdict.final_test == "spent"
    assert verdict.rounds_to_decision is None or verdict.rounds_to_decision > 0


def test_rounds_to_decision_is_about_right():
    test = run(against_constant(0.60, cap_rounds=4, final_share=0.0), drawn(np.full(40, 0.68), 4, seed=3))
    more = test.verdict().rounds_to_decision
    assert test.outcome == "INCONCLUSIVE" and 2 <= more <= 60


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_items_without_noise(p):
    test = run(against_constant(0.6), np.full((64, 5), p))
    assert test.outcome == ("PASS" if p else "FAIL") and test.rounds < 12


def test_one_item_one_round():
    test = run(against_constant(0.5, cap_rounds=1), [[1.0]])
    assert test.outcome == "INCONCLUSIVE" and test.is_over  # 20 to 1 needs more than one fair coin


def test_margin_moves_the_bar_and_reference_sets_a_second_one():
    assert against_constant(0.7, margin=0.05).pass_bar == pytest.approx(0.65)
    both = against_constant(0.7, margin=0.05, fails_below="reference")
    assert (both.pass_bar, both.fail_bar) == (pytest.approx(0.65), 0.7)
    lower = against_constant(9000.0, margin=500, direction="lower", lowest=0, highest=32768, fails_below="reference")
    assert (lower.pass_bar, lower.fail_bar) == (9500, 9000.0)
    between = drawn(np.full(60, 0.675), 64, seed=1)
    assert run(both, between).outcome in ("PASS", "FAIL")  # either is right there


def test_lower_is_better_is_the_mirror_image():
    rows = drawn(AIME, 30)
    higher = run(against_constant(0.55, cap_rounds=30), rows)
    lower = run(against_constant(0.45 * 200, direction="lower", highest=200.0, cap_rounds=30), (1 - rows) * 200)
    assert lower.rounds == higher.rounds and lower.outcome == higher.outcome == "PASS"
    assert np.allclose(lower.history, higher.history)
    assert lower.mean == pytest.approx((1 - higher.mean) * 200)


def test_pairs_are_differences_and_nothing_else():
    """Paired with a model of no skill at a margin is one-sample on a halved scale; equal answers are no evidence."""
    rows = drawn(AIME, 20)
    paired = run(against_model(margin=0.05, cap_rounds=20), rows - 0.0)
    same = run(Demand(pass_bar=-0.05, fail_bar=-0.05, lowest=-1.0, highest=1.0, cap_rounds=20), rows)
    assert paired.history == same.history
    shifted = run(Demand(pass_bar=0.475, fail_bar=0.475, cap_rounds=20), (rows + 1) / 2)
    assert np.allclose(shifted.history, same.history)


def test_ratio_widens_the_range():
    demand = against_model(ratio=3.0)
    assert (demand.lowest, demand.highest, demand.pass_bar) == (-3.0, 1.0, 0.0)
    student, other = drawn(np.full(40, 0.9), 30, seed=1), drawn(np.full(40, 0.1), 30, seed=2)
    assert run(demand, student - 3 * other).outcome == "PASS"
    assert run(demand, other - 3 * student).outcome == "FAIL"


def test_pairing_takes_out_what_the_items_share():
    """The same answers but for two items, which the student loses: found in few rounds at any item difficulty."""
    other = drawn(AIME, 64, seed=5)
    student = other.copy()
    student[:, 6:9] = 0.0
    assert run(against_model(), student - other).outcome == "FAIL"
    assert run(against_model(margin=0.02), other - other).outcome == "PASS"


def test_tasks_count_the_same_whatever_their_size():
    items = items_of(10, "small") | items_of(90, "large")
    demand = against_constant(0.6)
    test = SequentialTest(demand, items)
    for row in drawn(np.full(100, 1.0), 6):
        scores = {item: (1.0 if items[item] == "small" else 0.0) for item, _ in zip(test.item_ids, row, strict=True)}
        test.add_round(scores)
    assert test.mean == pytest.approx(0.5) and test.outcome == "FAIL"
    assert task_weights(["a", "b", "b"]).tolist() == [1.5, 0.75, 0.75]


def test_only_complete_rounds_count():
    test = SequentialTest(against_constant(0.5), items_of(4))
    complete = dict.fromkeys(test.item_ids, 1.0)
    test.add_round(complete)
    before = json.dumps(test.state())
    for scores, message in (
        (dict(list(complete.items())[:3]), "1 of 4 items have no score .t/003."),
        (complete | {"other": 1.0}, "1 are unknown .other."),
        (complete | {"t/000": 1.5}, "outside 0 to 1"),
        (complete | {"t/000": float("nan")}, "outside 0 to 1"),
    ):
        with pytest.raises(GateError, match=message):
            test.add_round(scores)
    assert json.dumps(test.state()) == before


@pytest.mark.parametrize("estimand", ["benchmark", "population"])
@pytest.mark.parametrize("cut", [0, 1, 5, 11])
def test_evidence_continued_is_evidence_at_once(estimand, cut):
    demand = against_constant(float(AIME.mean()) - 0.02, cap_rounds=12, estimand=estimand)
    rows = drawn(AIME, 12, seed=11)
    whole = run(demand, rows)
    first = run(demand, rows[:cut]) if cut else SequentialTest(demand, items_of(30), identity="m")
    saved = json.loads(json.dumps(first.state(), allow_nan=False))
    second, reason = continue_or_begin(demand, items_of(30), identity="m", saved=saved)
    assert reason is None
    for row in rows[cut:]:
        if not second.is_over:
            second.add_round(dict(zip(second.item_ids, map(float, row), strict=True)))
    assert json.dumps(second.state()) == json.dumps(whole.state())
    assert second.verdict() == whole.verdict()


def test_the_final_test_is_spent_once():
    """A second run with a larger cap adds betting evidence; the wealth that played for the first cap is not staked."""
    demand = against_constant(float(AIME.mean()), cap_rounds=6)
    rows = drawn(AIME, 30, seed=2)
    first = run(demand, rows[:6])
    assert first.outcome == "INCONCLUSIVE" and first.final_test == "spent"
    larger = replace(demand, cap_rounds=30)
    second = SequentialTest.resume(larger, items_of(30), identity="m", state=first.state())
    assert not second.is_over and second.final_test == "spent" and second.horizon_rounds == 6
    wealth = second.state()["pass"]["log_final"]
    for row in rows[6:]:
        second.add_round(dict(zip(second.item_ids, map(float, row), strict=True)))
    assert second.state()["pass"]["log_final"] == wealth
    assert second.state()["pass"]["log_growth"] != first.state()["pass"]["log_growth"]
    assert run(replace(demand, final_share=0.0), rows[:6]).final_test == "none"


def test_reruns_of_a_decided_gate_stay_decided():
    demand = against_constant(0.5)
    decided = run(demand, drawn(AIME, 64))
    again, reason = continue_or_begin(demand, items_of(30), identity="m", saved=decided.state())
    assert reason is None and again.is_over and again.outcome == "PASS" and again.rounds == decided.rounds
    again.add_round(dict.fromkeys(again.item_ids, 0.0))
    assert again.outcome == "PASS" and again.decided_at_round == decided.rounds


@pytest.mark.parametrize(
    ("changes", "identity", "num_items", "message"),
    [
        ({}, "another model", 30, "another model, prompt"),
        ({"pass_bar": 0.5, "fail_bar": 0.5}, "m", 30, "the demand or its items"),
        ({"alpha_pass": 0.1}, "m", 30, "the demand or its items"),
        ({"estimand": "population"}, "m", 30, "the demand or its items"),
        ({}, "m", 29, "the demand or its items"),
    ],
)
def test_another_question_begins_anew(changes, identity, num_items, message):
    demand = against_constant(0.6)
    saved = run(demand, drawn(AIME, 2)).state()
    asked, items = replace(demand, **changes), items_of(num_items)
    fresh, reason = continue_or_begin(asked, items, identity=identity, saved=saved)
    assert fresh.rounds == 0 and message in reason
    with pytest.raises(GateError, match=message):
        SequentialTest.resume(asked, items, identity=identity, state=saved)
    assert continue_or_begin(asked, items, identity=identity, saved=None)[1] is None
    assert "format" in continue_or_begin(demand, items_of(30), identity="m", saved={**saved, "version": 0})[1]


@pytest.mark.parametrize("damage", [{"pass": {}}, {"fail": None}, {"log_e": []}, {"horizon_rounds": "x"}])
def test_damaged_evidence_is_one_clear_message(damage):
    demand = against_constant(0.6)
    saved = run(demand, drawn(AIME, 2)).state() | damage
    with pytest.raises(GateError, match="damaged"):
        SequentialTest.resume(demand, items_of(30), identity="m", state=saved)


@pytest.mark.parametrize(
    "make",
    [
        lambda: against_constant(0.02, margin=0.03),
        lambda: against_constant(1.0),
        lambda: against_model(margin=1.0),
        lambda: Demand(pass_bar=0.7, fail_bar=0.6),
        lambda: against_constant(0.5, alpha_pass=0.0),
        lambda: against_constant(0.5, final_share=1.0),
        lambda: against_constant(0.5, cap_rounds=0),
        lambda: SequentialTest(against_constant(0.5), {}),
    ],
)
def test_demands_that_make_no_sense(make):
    with pytest.raises(GateError, match=r"^gate: "):
        make()


def test_population_claims_need_items():
    """The same answers: certain of exactly these thirty items, silent on items like them; 400 items say something."""
    rows = drawn(AIME, 16, seed=4)
    bar = 0.5
    benchmark = run(against_constant(bar, cap_rounds=16), rows)
    population = run(against_constant(bar, cap_rounds=16, estimand="population"), rows)
    assert benchmark.outcome == "PASS" and population.outcome == "INCONCLUSIVE"
    larger = replace(population.demand, cap_rounds=64)
    again = SequentialTest.resume(larger, items_of(30), identity="m", state=population.state())
    assert again.is_over and again.final_test == "spent"  # its looks were planned for 16 rounds: more add nothing
    planned = run(against_constant(bar, cap_rounds=4, estimand="population", final_share=0.0), rows)
    assert planned.final_test == "spent"
    many = drawn(np.tile(AIME, 14), 16, seed=4)
    found = run(against_constant(bar, cap_rounds=16, estimand="population"), many)
    assert found.outcome == "PASS" and found.rounds < 16
    assert found.verdict().rounds_to_decision is None
