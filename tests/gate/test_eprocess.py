"""The bound of the derivation by enumeration of all outcomes, without simulation; and that evidence grows as it should.

pytest tests/gate/test_eprocess.py
"""

import json
from itertools import product

import numpy as np
import pytest

from distill.gate.demand import against_model
from distill.gate.eprocess import Betting, EProcess, goal_slope, tilt_to_bar
from distill.gate.population import PopulationEProcess, blocks_of_items, look_rounds
from distill.gate.spec import Budget

ALPHA = 0.05
HORIZON = 4


def all_paths(num_items, num_rounds, support=(0.0, 1.0)):
    """Every outcome of `num_rounds` rounds, [paths, rounds, items]: one batch row each."""
    cells = num_items * num_rounds
    return np.array(list(product(support, repeat=cells))).reshape(-1, num_rounds, num_items)


def chances(paths, p):
    """Probability of every path of 0/1 answers when item i is right with chance p_i."""
    p = np.asarray(p)
    return np.where(paths == 1, p, 1 - p).prod(axis=(1, 2))


def evidence(paths, bar, *, alpha=ALPHA, share=0.4, horizon=HORIZON, weights=None):
    """log E after every round of every path, [paths, rounds]."""
    process = EProcess(bar, paths.shape[2], Betting(alpha, horizon, share), weights=weights, batch=len(paths))
    found = []
    for at in range(paths.shape[1]):
        process.update(paths[:, at])
        found.append(process.log_e)
    return np.stack(found, axis=1)


def nulls(num_items, bar, rng, number=60):
    """Item chances whose mean is exactly the bar: corners, equal items, and random ones."""
    found = [np.full(num_items, bar)]
    while len(found) < number:
        p = rng.beta(*rng.choice([0.2, 1.0, 3.0], size=2), size=num_items)
        p = p * bar / p.mean() if rng.random() < 0.5 else 1 - (1 - p) * (1 - bar) / (1 - p).mean()
        if np.all((p >= 0) & (p <= 1)):
            found.append(p)
    return found


@pytest.mark.parametrize(("num_items", "num_rounds"), [(1, 8), (2, 5), (3, 4), (5, 2), (10, 1)])
@pytest.mark.parametrize("bar", [0.05, 0.5, 0.636, 0.97])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_expectation_is_at_most_one_at_every_round(num_items, num_rounds, bar, share):
    paths = all_paths(num_items, num_rounds)
    e = np.exp(evidence(paths, bar, share=share))
    for p in nulls(num_items, bar, np.random.default_rng(num_items)):
        expectations = chances(paths, p) @ e
        assert expectations.max() <= 1 + 1e-9, (p, expectations)
        below = chances(paths, p * 0.9) @ e
        assert below.max() <= 1 + 1e-9


@pytest.mark.parametrize("bar", [0.3, 0.5, 0.8])
def test_expectation_is_one_where_items_are_at_the_centres(bar):
    """In the first round all centres are the bar: equality shows that no evidence is given away there."""
    paths = all_paths(4, 1)
    assert chances(paths, np.full(4, bar)) @ np.exp(evidence(paths, bar)[:, 0]) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("bar", [0.4, 0.7])
def test_crossing_at_any_time_is_as_rare_as_promised(alpha, bar):
    """Ville's bound exactly, over every path, for a stop at the first crossing."""
    paths = all_paths(3, 5)
    crossed = (evidence(paths, bar, alpha=alpha, horizon=5) >= np.log(1 / alpha)).any(axis=1)
    for p in nulls(3, bar, np.random.default_rng(1)):
        assert chances(paths, p) @ crossed <= alpha + 1e-9
    assert crossed.any()


def test_a_supermartingale_given_any_past():
    """Conditional on every two-round past: the mean over the third round is at most the evidence before it."""
    paths, bar = all_paths(3, 3), 0.6
    e = np.exp(evidence(paths, bar))
    next_round = all_paths(3, 1)
    for p in nulls(3, bar, np.random.default_rng(2), number=20):
        after = e[:, 2].reshape(64, 8) @ chances(next_round, p)
        assert np.all(after <= e[::8, 1] * (1 + 1e-9))


def test_weights_hold_the_mean_over_tasks():
    weights = np.array([1.5, 0.75, 0.75])  # one item of one task, two of another
    paths = all_paths(3, 3)
    e = np.exp(evidence(paths, 0.5, weights=weights))
    for p in ([0.5, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.2, 0.7, 0.9], [0.9, 0.2, 0.0]):
        assert np.mean(weights * p) <= 0.5 + 1e-12
        assert (chances(paths, p) @ e).max() <= 1 + 1e-9
    unweighted = np.exp(evidence(paths, 0.5))
    assert (chances(paths, [0.0, 1.0, 1.0]) @ unweighted).max() > 1.2  # whose plain mean is above the bar


def test_values_between_zero_and_one_and_pairs():
    """Pairs of answers as (student - other + 1) / 2, with any dependence of the two within an item."""
    paths = all_paths(2, 4, support=(0.0, 0.5, 1.0))
    bar = 0.475  # a margin of 5 points
    e = np.exp(evidence(paths, bar))
    rng = np.random.default_rng(3)
    checked = 0
    while checked < 40:
        table = rng.dirichlet([0.4, 0.4, 0.4], size=2)  # chances of loss, tie, win of each item
        if table[:, 1].sum() / 4 + table[:, 2].sum() / 2 > bar:
            continue
        checked += 1
        places = (paths * 2).astype(int)
        weight = np.prod([table[item, places[:, :, item]] for item in range(2)], axis=(0, 2))
        assert weight.sum() == pytest.approx(1)
        assert (weight @ e).max() <= 1 + 1e-9


def test_more_right_answers_are_more_evidence():
    paths = all_paths(5, 1)
    e = evidence(paths, 0.5)[:, 0]
    counts = paths[:, 0].sum(axis=1)
    for fewer in range(5):
        assert e[counts == fewer].max() < e[counts == fewer + 1].min()


def test_a_higher_bar_leaves_less_evidence():
    rng = np.random.default_rng(4)
    paths = (rng.random((50, 12, 20)) < 0.8).astype(float)
    found = [evidence(paths, bar, horizon=12)[:, -1] for bar in (0.4, 0.55, 0.7)]
    assert np.all(found[0] > found[1]) and np.all(found[1] > found[2])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_items_without_any_noise(p):
    """All right rejects "at most 0.6" at once; all wrong never does, and wealth stays positive and finite."""
    paths = np.full((1, 64, 30), p)
    e = evidence(paths, 0.6, horizon=64)[0]
    assert np.isfinite(e).all()
    assert (e[1] > np.log(1 / ALPHA)) if p else (e.max() < 0)


@pytest.mark.parametrize("bar", [1e-3, 0.999])
def test_one_item_and_bars_near_the_ends(bar):
    paths = all_paths(1, 10)
    e = np.exp(evidence(paths, bar, horizon=10))
    assert (chances(paths, [bar]) @ e).max() <= 1 + 1e-9


def test_known_item_difficulty_pays():
    """Items that are always right or wrong carry no noise: the same lead shows in fewer rounds than with coins."""
    rng = np.random.default_rng(5)
    coins = (rng.random((300, 24, 40)) < 0.6).astype(float)
    mixed = coins.copy()
    mixed[:, :, :20] = [1.0] * 12 + [0.0] * 8
    rounds = [np.argmax(evidence(paths, 0.52, horizon=24) >= np.log(20), axis=1).mean() for paths in (coins, mixed)]
    assert rounds[1] < 0.8 * rounds[0]


def test_tilt_meets_the_bar_and_never_undershoots():
    rng = np.random.default_rng(6)
    means = rng.uniform(0.005, 0.995, size=(200, 17))
    dispersion = rng.uniform(0.05, 1, size=(200, 17))
    weights = rng.uniform(0.2, 1.8, size=17)
    weights /= weights.mean()
    for bar in (0.01, 0.3, 0.99):
        found = np.mean(weights * tilt_to_bar(means, dispersion, weights, bar), axis=1)
        assert np.all(found >= bar) and np.all(found < bar + 1e-12)


def test_goal_slope_is_the_hedge_of_a_digital_option():
    """Half way to the goal: the density of the normal at 0 over one half."""
    assert goal_slope(np.log(np.array([0.5])))[0] == pytest.approx(2 / np.sqrt(2 * np.pi), rel=1e-4)
    assert goal_slope(np.array([-40.0]))[0] > 5 and goal_slope(np.array([0.0]))[0] < 1e-3


def test_the_final_share_buys_power_near_the_bar():
    rng = np.random.default_rng(7)
    paths = (rng.random((600, 32, 30)) < np.r_[np.full(15, 0.95), np.full(15, 0.37)]).astype(float)  # mean 0.66
    power = [(evidence(paths, 0.61, share=share, horizon=32) >= np.log(20)).any(axis=1).mean() for share in (0.0, 0.3)]
    assert power[1] > power[0] + 0.05


def test_final_share_stakes_nothing_after_the_horizon():
    process = EProcess(0.5, 4, Betting(ALPHA, 2, 0.4))
    rows = [np.array([[1.0, 0.0, 1.0, 1.0]])] * 4
    wealth = []
    for row in rows:
        process.update(row)
        wealth.append((process.is_final_spent, float(process.log_final[0])))
    assert [spent for spent, _ in wealth] == [False, True, True, True]
    assert wealth[0][1] != wealth[1][1] == wealth[2][1] == wealth[3][1]


def test_state_continues_bit_for_bit():
    rng = np.random.default_rng(8)
    rows = [(rng.random((1, 6)) < 0.7).astype(float) for _ in range(8)]
    whole, half = (EProcess(0.6, 6, Betting(ALPHA, 8)) for _ in range(2))
    for row in rows:
        whole.update(row)
    for row in rows[:3]:
        half.update(row)
    again = EProcess(0.6, 6, Betting(ALPHA, 8))
    again.restore(half.state())
    for row in rows[3:]:
        again.update(row)
    assert again.state() == whole.state() and again.log_e[0] == whole.log_e[0]


@pytest.mark.parametrize("values", [[[0.5, 1.5]], [[-0.1, 0.0]], [[0.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.5, np.nan]]])
def test_what_is_no_round_is_refused(values):
    for process in (EProcess(0.5, 2, Betting(ALPHA, 4)), PopulationEProcess(0.5, ["t"] * 2, "ab", Betting(ALPHA, 4))):
        with pytest.raises(ValueError, match="expected values"):
            process.update(np.array(values))


@pytest.mark.parametrize("bar", [0.0, 1.0, -0.2])
def test_a_bar_that_cannot_be_missed_is_refused(bar):
    with pytest.raises(ValueError, match="0 < bar < 1"):
        EProcess(bar, 2, Betting(ALPHA, 4))


def after_history(bar, weights, history, batch, *, alpha=ALPHA, share=0.2, horizon=6):
    """`batch` copies of a process that has seen these rounds, [rounds, items]."""
    process = EProcess(bar, len(weights), Betting(alpha, horizon, share), weights=weights, batch=batch)
    for row in history:
        process.update(np.broadcast_to(row, (batch, len(row))))
    return process


def wealth(process):
    """Every stake's own wealth and the whole, [batch, stakes + 2]."""
    return np.exp(np.column_stack([process.log_growth, process.log_final, process.log_e]))


def scaled_below(means, weights, bar):
    """Means in [0, 1] moved until their weighted mean is at most the bar."""
    at = np.mean(weights * means)
    return means if at <= bar else means * bar / at


def next_round(distributions, supports):
    """All outcomes of a round [outcomes, items] and their chances; item i has `supports[i]` with `distributions[i]`."""
    outcomes = np.array(list(product(*supports)))
    return outcomes, np.prod(np.array(list(product(*distributions))), axis=1)


def random_setting(rng):
    """(bar, weights, history): histories are of any kind, also such as no null would give."""
    num_items = int(rng.integers(1, 6))
    weights = np.ones(num_items) if rng.random() < 0.5 else rng.uniform(0.2, 3.0, num_items)
    rounds = int(rng.integers(0, 9))  # the horizon is 6: also after the final share is spent
    history = rng.choice([0.0, 1.0], size=(rounds, num_items), p=[0.3, 0.7])
    if rng.random() < 0.4:
        history = rng.random((rounds, num_items))
    return float(rng.uniform(0.03, 0.97)), weights / weights.mean(), history


@pytest.mark.parametrize("side", ["pass", "fail"])
@pytest.mark.parametrize("kind", ["answers", "values"])
def test_no_stake_gains_on_average_after_any_history(kind, side):
    """All outcomes of the next round, exactly: each stake's expected wealth is at most what it was, whatever came."""
    rng = np.random.default_rng([21, kind == "values", side == "fail"])
    tight = 0
    for _ in range(150):
        bar, weights, history = random_setting(rng)
        supports = [
            np.sort(rng.random(3)) * [0.5, 1.0, 1.0] if kind == "values" else np.array([0.0, 1.0]) for _ in weights
        ]
        if side == "fail":  # the mirror: scores, of which little is evidence
            history, supports = 1 - history, [1 - each for each in supports]
        distributions = [rng.dirichlet(np.full(len(each), 0.5)) for each in supports]
        outcomes, odds = next_round(distributions, supports)
        means = np.array([each @ support for each, support in zip(distributions, supports, strict=True)])
        bar = max(bar, float(np.mean(weights * means))) if kind == "values" else bar
        if not 0 < bar < 1:
            continue
        if kind == "answers":
            p = scaled_below(means, weights, bar)
            odds = np.where(outcomes == 1, p, 1 - p).prod(axis=1)
        process = after_history(bar, weights, history, len(outcomes))
        before, centres = wealth(process)[0], process.centres()[0][0]
        process.update(outcomes)
        expected = odds @ wealth(process)
        assert odds.sum() == pytest.approx(1)
        assert np.all(expected <= before * (1 + 1e-9)), (bar, weights, history, expected / before)
        if kind == "answers" and centres.min() >= 0 and centres.max() <= 1:
            at_centres = np.where(outcomes == 1, centres, 1 - centres).prod(axis=1) @ wealth(process)
            assert at_centres == pytest.approx(before, rel=1e-8)  # the bound is reached: the test can fail
            tight += 1
    assert kind == "values" or tight > 100


@pytest.mark.parametrize("ratio", [0.85, 1.0, 3.0])
@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_no_stake_gains_on_pairs_with_any_dependence(ratio, direction):
    """student - ratio x other, any joint chances of the two within an item, in the units that a gate bets on."""
    rng = np.random.default_rng([22, round(100 * ratio), direction == "lower"])
    four = np.array([student - ratio * other for student in (0.0, 1.0) for other in (0.0, 1.0)])
    checked = 0
    while checked < 40:
        joint = rng.dirichlet(np.full(4, 0.4), size=3)
        demand = against_model(ratio=ratio, margin=float(rng.uniform(0, 0.2)), direction=direction)
        values = np.array([demand.unit(each) for each in four])
        bar = demand.unit(demand.pass_bar)
        if np.mean(joint @ values) > bar:
            continue
        checked += 1
        history = values[rng.integers(4, size=(int(rng.integers(0, 6)), 3))]
        outcomes, odds = next_round(joint, [values] * 3)
        process = after_history(bar, np.ones(3), history, len(outcomes))
        before = wealth(process)[0]
        process.update(outcomes)
        assert np.all(odds @ wealth(process) <= before * (1 + 1e-9))


@pytest.mark.parametrize("weights", [[1.0] * 12, [2.0] * 4 + [0.5] * 8])
def test_ville_by_simulation_beyond_the_horizon(weights):
    """Watched after every round, to three times the cap: at most alpha cross, on each side, also a little inside."""
    rng, weights, runs, alpha = np.random.default_rng(23), np.array(weights), 3000, 0.2
    p = np.array([0.95, 0.9, 0.5, 0.3] * 3)
    bar = float(np.mean(weights * p))
    crossed = {}
    for inside in (0.0, 0.02):
        sides = [EProcess(at, 12, Betting(alpha, 8), weights=weights, batch=runs) for at in (bar, 1 - bar)]
        best = np.full((2, runs), -np.inf)
        for _ in range(24):
            right = rng.random((runs, 12))
            sides[0].update((right < p - inside).astype(float))
            sides[1].update(1 - (right < p + inside * (p < 0.95)).astype(float))
            best = np.maximum(best, [side.log_e for side in sides])
        crossed[inside] = np.mean(best >= np.log(1 / alpha), axis=1)
    allowed = alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)
    assert crossed[0.0].max() < allowed and np.all(crossed[0.02] < crossed[0.0])
    assert crossed[0.0].min() > 0.01  # it is a bet


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 7])
def test_any_state_continues_bit_for_bit(cut):
    """With weights and scores between 0 and 1, before and after the horizon, through JSON."""
    rng = np.random.default_rng(cut)
    weights = np.array([1.5, 0.75, 0.75])
    rows = rng.random((8, 1, 3))
    whole, half, again = (EProcess(0.4, 3, Betting(ALPHA, 4), weights=weights) for _ in range(3))
    for row in rows:
        whole.update(row)
    for row in rows[:cut]:
        half.update(row)
    again.restore(json.loads(json.dumps(half.state(), allow_nan=False)))
    for row in rows[cut:]:
        again.update(row)
    assert again.state() == whole.state() and again.log_e[0] == whole.log_e[0]
    for damage in ({"log_final": float("nan")}, {"rounds": -1}, {"sums": [0.0]}):
        with pytest.raises(ValueError, match="expected"):
            again.restore(whole.state() | damage)


def test_one_default_of_the_final_share():
    shares = {Betting(ALPHA, 4).final_share, against_model().final_share, Budget().final_share}
    assert len(shares) == 1


def population_expectations(bar, difficulties, prior, num_items=4, num_rounds=2):
    """Exact E of the running sum after each round, items drawn from `difficulties` with chances `prior`."""
    paths = all_paths(num_items, num_rounds)
    ids = [f"i{at}" for at in range(num_items)]
    process = PopulationEProcess(bar, ["t"] * num_items, ids, Betting(ALPHA, num_rounds, 0.4), batch=len(paths))
    likelihood = sum(
        weight * np.where(paths == 1, p, 1 - p).prod(axis=1) for p, weight in zip(difficulties, prior, strict=True)
    )
    found = []
    for at in range(num_rounds):
        process.update(paths[:, at])
        found.append(float(likelihood.prod(axis=1) @ np.exp(process.log_e)))
    return found


@pytest.mark.parametrize(
    ("difficulties", "prior"), [((0.6,), (1.0,)), ((0.0, 1.0), (0.4, 0.6)), ((0.2, 0.7, 1.0), (0.35, 0.4, 0.25))]
)
def test_population_expectation_is_at_most_one(difficulties, prior):
    """Also where every item is all right or all wrong, so that four answers of it are one."""
    assert np.dot(difficulties, prior) == pytest.approx(0.6)
    assert max(population_expectations(0.6, difficulties, prior)) <= 1 + 1e-9


def test_population_of_tasks_that_count_the_same():
    """Two items of one population, three of another: exact expectation over their draw and two rounds of answers."""
    tasks, ids, bar = ["a", "b", "b", "a", "b"], [f"i{at}" for at in range(5)], 0.6
    paths = all_paths(5, 2)
    easy, hard = ((0.6, 1.0), (0.5, 0.5)), ((0.0, 0.4, 1.0), (0.4, 0.3333333333, 0.2666666667))  # means 0.8 and 0.4
    likelihood = np.ones(len(paths))
    for at, task in enumerate(tasks):
        answers = paths[:, :, at]
        likelihood *= sum(
            odds * np.where(answers == 1, p, 1 - p).prod(axis=1)
            for p, odds in zip(*(easy if task == "a" else hard), strict=True)
        )
    assert likelihood.sum() == pytest.approx(1)
    process = PopulationEProcess(bar, tasks, ids, Betting(ALPHA, 2), batch=len(paths))
    for at in range(2):
        process.update(paths[:, at])
        assert likelihood @ np.exp(process.log_e) <= 1 + 1e-9


def test_population_counts_items_and_not_answers():
    """Thirty items, three quarters always right, 64 rounds: no claim about new items; exactly these items: certain."""
    values = np.array([[1.0] * 23 + [0.0] * 7])
    population = PopulationEProcess(0.636, ["t"] * 30, [f"i{at}" for at in range(30)], Betting(ALPHA, 64))
    benchmark = EProcess(0.636, 30, Betting(ALPHA, 64))
    for _ in range(64):
        population.update(values)
        benchmark.update(values)
    assert population.log_e[0] < np.log(20) < benchmark.log_e[0]
    assert population.is_final_spent


def test_population_evidence_never_shrinks_and_continues():
    rng = np.random.default_rng(9)
    rows = (rng.random((1, 8, 12)) < 0.7).astype(float)
    ids = [f"i{at}" for at in range(12)]
    whole = PopulationEProcess(0.5, ["t"] * 12, ids, Betting(ALPHA, 8))
    found = []
    for at in range(8):
        whole.update(rows[:, at])
        found.append(float(whole.log_e[0]))
    assert found == sorted(found)
    again = PopulationEProcess(0.5, ["t"] * 12, ids, Betting(ALPHA, 8))
    for at in range(3):
        again.update(rows[:, at])
    state, again = again.state(), PopulationEProcess(0.5, ["t"] * 12, ids, Betting(ALPHA, 8))
    again.restore(state)
    for at in range(3, 8):
        again.update(rows[:, at])
    assert again.state() == whole.state()


def test_items_that_show_it_decide_a_claim_about_new_ones():
    """Of 200 answers 72 % are right, p = 0.0003 against 60 % at a fixed size: the first of three looks shows it."""
    rng = np.random.default_rng(10)
    process = PopulationEProcess(0.6, ["t"] * 200, [f"i{at}" for at in range(200)], Betting(ALPHA, 4), batch=200)
    values = np.stack([rng.permutation(np.r_[np.ones(144), np.zeros(56)]) for _ in range(200)])
    process.update(values)
    assert np.mean(process.log_e >= np.log(1 / ALPHA)) > 0.9


def test_population_error_by_simulation():
    """Items drawn anew, at the bar and inside; the test of the other estimand on the same answers is wrong often."""
    rng, runs, bar = np.random.default_rng(24), 1500, 0.6
    pool = np.array([0.05, 0.3, 0.65, 1.0, 1.0])  # mean 0.6
    wrong = {}
    for name, down in (("at", 0.0), ("inside", 0.05)):
        p = np.maximum(rng.choice(pool, size=(runs, 40)) - down, 0)
        tests = [
            PopulationEProcess(bar, ["t"] * 40, [str(at) for at in range(40)], Betting(ALPHA, 8), batch=runs),
            EProcess(bar, 40, Betting(ALPHA, 8), batch=runs),
        ]
        best = np.full((2, runs), -np.inf)
        for _ in range(8):
            values = (rng.random(p.shape) < p).astype(float)
            for test in tests:
                test.update(values)
            best = np.maximum(best, [test.log_e for test in tests])
        wrong[name] = np.mean(best >= np.log(1 / ALPHA), axis=1)
    assert wrong["at"][0] <= ALPHA and wrong["inside"][0] < wrong["at"][0] and wrong["at"][0] > 0
    assert wrong["at"][1] > 2 * ALPHA


def test_looks_and_blocks():
    assert look_rounds(1) == (1,) and look_rounds(12) == (1, 2, 4, 8, 12) and look_rounds(16) == (1, 2, 4, 8, 16)
    blocks = blocks_of_items(["a", "b", "b", "b", "a"], ["v", "w", "x", "y", "z"])
    assert [len(block) for block in blocks[0]] == [1, 1] and sorted(len(block) for block in blocks[1]) == [1, 2]
    assert sorted(place for task in blocks for block in task for place in block) == [0, 1, 2, 3, 4]
