"""When a problem is sampled again, and when not: from its own results alone."""

from __future__ import annotations

import itertools
import random

import pytest

from distill.harvest.policy import Ask, Plan, ProblemState, Result, chance_of_more

STOP, CUT = "stop", "length"


def played(plan, results):
    """The state after its asks were answered in order, and all the asks."""
    state, answers, asked = ProblemState(plan), iter(results), []
    while wave := state.asks():
        asked += wave
        for ask in wave:
            outcome = next(answers)
            state.observe(ask, Result(outcome, CUT if outcome == "truncated" else STOP))
    return state, asked


def test_without_enough_all_are_asked_at_once():
    state = ProblemState(Plan(4, (64,)))
    wave = state.asks()
    assert wave == [Ask(index, 0) for index in range(4)] and state.asks() == []
    for ask in wave:
        state.observe(ask, Result("wrong", STOP))
    assert state.asks() == [] and state.reason == "all drawn"


@pytest.mark.parametrize(
    ("results", "asked", "reason"),
    [
        (["correct"] * 2, 2, "enough"),
        (["correct", "wrong", "correct"], 3, "enough"),
        (["wrong"] * 6, 6, "all drawn"),
        (["no_answer", "undecided", "truncated", "correct", "wrong", "correct"], 6, "enough"),
        (["error", "error", "correct", "correct"], 4, "enough"),
    ],
)
def test_enough_is_enough(results, asked, reason):
    state, asks = played(Plan(6, (64,), enough=2), results)
    assert (len(asks), state.reason) == (asked, reason)
    assert [ask.index for ask in asks] == list(range(asked))


def test_a_wave_never_gives_more_than_enough():
    for results in itertools.product(["correct", "wrong"], repeat=6):
        state, _ = played(Plan(6, (64,), enough=3), results)
        assert state.correct <= 3


@pytest.mark.parametrize(("correct", "failed", "left"), [(0, 0, 1), (0, 3, 2), (2, 5, 4), (0, 40, 24)])
def test_the_chance_of_more_is_what_drawing_a_rate_from_the_posterior_gives(correct, failed, left):
    chance = random.Random(7)
    count = 20_000
    some = sum(
        any(chance.random() < rate for _ in range(left))
        for rate in (chance.betavariate(0.5 + correct, 0.5 + failed) for _ in range(count))
    )
    found = chance_of_more(correct, failed, left, (0.5, 0.5))
    assert abs(found - some / count) < 4 * (found * (1 - found) / count) ** 0.5


def test_hopeless_is_when_the_samples_left_are_unlikely_to_give_one():
    """Beta(1, 1): after n failures a further one of m is correct with m / (1 + n + m); of 20: below 0.1 from n = 18."""
    state, asks = played(Plan(20, (64,), enough=1, hopeless_below=0.1, prior=(1.0, 1.0)), itertools.repeat("wrong"))
    assert (state.reason, len(asks)) == ("hopeless", 18)
    assert chance_of_more(0, 18, 2, (1.0, 1.0)) == pytest.approx(2 / 21) and 3 / 21 > 0.1


def test_rare_successes_get_more():
    plan = Plan(3, (64,), enough=2, most_if_rare=8)
    assert len(played(plan, ["wrong"] * 3)[1]) == 3
    state, asks = played(plan, ["wrong", "wrong", "correct", "wrong", "wrong", "correct"])
    assert (state.reason, len(asks)) == ("enough", 6)


def test_the_ladder_continues_what_was_cut():
    plan = Plan(2, (8, 16, 32), enough=2, can_continue=True)
    state = ProblemState(plan)
    first, second = state.asks()
    assert not state.observe(first, Result("truncated", CUT))
    assert state.asks() == [Ask(0, 1, continues=True)]  # though the second is still being drawn
    state.observe(second, Result("correct", STOP))
    assert not state.observe(Ask(0, 1, continues=True), Result("truncated", CUT))
    (top,) = state.asks()
    assert top == Ask(0, 2, continues=True)
    assert state.observe(top, Result("truncated", CUT))  # at the last limit it is a failure
    assert state.asks() == [] and (state.reason, state.correct, state.failed) == ("all drawn", 1, 1)


def test_the_ladder_without_continuation_draws_the_next_with_a_higher_limit():
    state, asks = played(Plan(4, (8, 16), enough=2), ["truncated", "truncated", "correct", "correct"])
    assert [ask.rung for ask in asks] == [0, 0, 1, 1]
    assert (state.correct, state.failed, state.reason) == (2, 0, "enough")


def test_a_refused_request_ends_its_problem_and_a_lost_one_does_not():
    state = ProblemState(Plan(4, (64,), enough=1))
    (ask,) = state.asks()
    state.observe(ask, Result(None, None))
    (ask,) = state.asks()
    state.observe(ask, Result(None, None, is_refused=True))
    assert state.asks() == [] and (state.reason, state.errors) == ("refused", 1)


def test_the_interval_of_the_pass_rate_holds_the_truth_as_often_as_it_says():
    """Rates from the prior, sampling stopped by the plan: 90 % of the intervals hold the rate, as Bayes says.

    Where all results are alike the interval goes to the end of the range, so it may hold up to 5 % more.
    """
    chance = random.Random(1)
    plan = Plan(16, (64,), enough=2, hopeless_below=0.1, prior=(0.5, 0.5))
    held, total = 0, 3000
    for _ in range(total):
        rate = chance.betavariate(0.5, 0.5)
        state, _ = played(plan, iter(lambda rate=rate: "correct" if chance.random() < rate else "wrong", None))
        found = state.pass_rate()
        held += found.low <= rate <= found.high
        assert found.attempts == state.correct + state.failed and found.low <= found.mean <= found.high
    slack = 4 * (0.9 * 0.1 / total) ** 0.5
    assert 0.9 - slack < held / total < 0.95 + slack


def test_the_interval_ends_where_all_results_are_alike():
    plan = Plan(8, (64,))
    never, always = (played(plan, [outcome] * 8)[0].pass_rate() for outcome in ("wrong", "correct"))
    assert never.low == 0.0 and 0.1 < never.high < 0.5
    assert always.high == 1.0 and 0.5 < always.low < 0.9
    nothing = ProblemState(plan).pass_rate()
    assert (nothing.low, nothing.mean, nothing.high) == (0.0, 0.5, 1.0)
