"""A harvest that stops what is decided: the samples drawn, what a kill changes (nothing), and what a budget ends."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from distill.curate.candidates import candidates
from distill.harvest.runner import harvest
from distill.recipes import Budget
from distill.records import Unanswered

ADAPTIVE = {"most": 8, "enough": 1, "hopeless_below": 0.3, "prior": (1.0, 1.0)}


@pytest.fixture
def mixed(engine):
    """An engine that is right on problem n from sample n on: the later problems are harder."""

    class Mixed(engine):
        def _sample(self, request):
            number = int(request.prompt.removeprefix("<user>").split("+")[0])
            is_right = request.index >= number
            plain = super()._sample(replace(request, index=0 if is_right else 1))
            key = request.key(self.fingerprint)
            return replace(plain, key=key, index=request.index, seed=request.seed, completion_tokens=2)

    return Mixed


def test_only_what_is_needed_is_drawn(mixed, ledger, problems, asking_of):
    teacher = mixed()
    summary = harvest(teacher, ledger, problems(12), asking_of(**ADAPTIVE), verify_workers=1)
    drawn = Counter(request.problem_id for request in teacher.drawn)
    hopeless_after = drawn["p11"]  # Beta(1, 1 + n): (8 - n) / 9 < 0.3 from n = 6 on
    assert hopeless_after == 6
    assert drawn == {f"p{number}": min(number + 1, hopeless_after) for number in range(12)}
    assert summary.settled_by == {"enough": 6, "hopeless": 6}
    assert (summary.problems_covered, summary.problems_settled, summary.accepted) == (6, 12, 6)


def test_a_kill_at_any_instant_changes_nothing(mixed, problems, asking_of, tmp_path):
    from distill.store.ledger import Ledger

    asking = asking_of(**ADAPTIVE)
    with Ledger.open(tmp_path / "whole.db", create=True) as whole:
        harvest(mixed(), whole, problems(9), asking, verify_workers=1)
        wanted = {sample.key for sample in whole.samples()}
    with Ledger.open(tmp_path / "cut.db", create=True) as cut:
        drawn = 0
        for _ in range(40):
            teacher = mixed(stop_after=3)
            try:
                summary = harvest(teacher, cut, problems(9), asking, verify_workers=1)
                break
            except KeyboardInterrupt:
                drawn += len(teacher.drawn)
        assert {sample.key for sample in cut.samples()} == wanted and cut.count() == len(wanted)
        assert drawn + len(teacher.drawn) == len(wanted)
        assert summary.settled_by == {"enough": 6, "hopeless": 3}


def test_settled_problems_cost_one_row(mixed, ledger, problems, asking_of):
    asking = asking_of(**ADAPTIVE)
    first = harvest(mixed(), ledger, problems(9), asking, verify_workers=1)
    reads = []
    ledger.get_samples = lambda keys: reads.extend(keys) or {}
    again = harvest(mixed(), ledger, problems(9), asking, verify_workers=1)
    assert reads == []
    for name in ("outcomes", "families", "accepted", "completion_tokens", "settled_by", "problems_covered"):
        assert getattr(again, name) == getattr(first, name), name
    assert again.samples_from_ledger == again.samples == first.samples


def test_a_larger_plan_goes_on_from_what_is_there(mixed, ledger, problems, asking_of):
    harvest(mixed(), ledger, problems(4), asking_of(**ADAPTIVE), verify_workers=1)
    teacher = mixed()
    summary = harvest(teacher, ledger, problems(4), asking_of(**ADAPTIVE | {"enough": 3}), verify_workers=1)
    assert summary.accepted == 12 and summary.settled_by == {"enough": 4}
    assert len(teacher.drawn) == summary.samples - summary.samples_from_ledger == 8


def test_other_tests_under_the_same_prompt_are_verified_again_not_drawn_again(mixed, ledger, problems, asking_of):
    asking = asking_of(most=2)
    harvest(mixed(), ledger, problems(3), asking, verify_workers=1)
    teacher = mixed()
    changed = [replace(problem, answer="999") for problem in problems(3)]
    assert harvest(teacher, ledger, changed, asking, verify_workers=1).outcomes == {"wrong": 6}
    assert teacher.drawn == []


@pytest.mark.parametrize("limit", [{"tokens": 12}, {"hours": 1e-9}])
def test_a_budget_ends_the_harvest_and_the_next_goes_on(mixed, ledger, problems, asking_of, limit):
    asking = asking_of(**ADAPTIVE)
    summary = harvest(mixed(), ledger, problems(9), asking, budget=Budget(**limit), verify_workers=1)
    assert summary.stopped_by.startswith(f"budget.{next(iter(limit))}: ")
    assert summary.problems_settled < 9
    if "tokens" in limit:
        assert 12 <= summary.completion_tokens <= 14  # two a sample
    rest = harvest(mixed(), ledger, problems(9), asking, verify_workers=1)
    assert rest.stopped_by is None and rest.settled_by == {"enough": 6, "hopeless": 3}


def test_requests_without_an_answer_do_not_hold_up_the_harvest(engine, ledger, problems, asking_of):
    class Refusing(engine):
        def sample(self, requests):
            for item in requests:
                if item is not None and item.problem_id in ("p1", "p2"):
                    key = item.key(self.fingerprint)
                    yield Unanswered(key, item.problem_id, item.index, "no", is_refused=item.problem_id == "p1")
                else:
                    yield None if item is None else self._sample(item)

    summary = harvest(Refusing(), ledger, problems(4), asking_of(most=2), verify_workers=1)
    assert (summary.samples, summary.settled_by) == (4, {"all drawn": 3, "refused": 1})
    again = harvest(engine(), ledger, problems(4), asking_of(most=2), verify_workers=1)
    assert (again.samples, again.samples_from_ledger) == (8, 4)  # what had no answer is asked again


def test_candidates_have_the_pass_rate_of_their_problem(mixed, ledger, problems, asking_of):
    asking = asking_of(**ADAPTIVE)
    harvest(mixed(), ledger, problems(3), asking, verify_workers=1)
    rows = list(candidates(ledger, asking.replay(ledger, problems(3))))
    assert [(row["problem_id"], row["sample_index"]) for row in rows] == [
        ("p0", 0), ("p1", 0), ("p1", 1), ("p2", 0), ("p2", 1), ("p2", 2),
    ]  # fmt: skip
    assert [row["attempts"] for row in rows] == [1, 2, 2, 3, 3, 3]
    assert rows[0]["pass_rate"] == pytest.approx(2 / 3, abs=1e-6) and rows[5]["pass_rate"] == pytest.approx(0.4)
    assert all(row["pass_rate_low"] < row["pass_rate"] < row["pass_rate_high"] for row in rows)
    json.dumps(rows)


def test_a_clock_that_jumps_changes_nothing(mixed, problems, asking_of, tmp_path, monkeypatch):
    """Days forth and back between any two looks at the clock; a rerun after it draws nothing."""
    import itertools
    import time

    from distill.store.ledger import Ledger

    days = itertools.cycle([0.0, 86400.0, -86400.0, 3.2e9])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(days))
    asking = asking_of(**ADAPTIVE)
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        summary = harvest(mixed(), ledger, problems(9), asking, budget=Budget(hours=1.0), verify_workers=1)
        assert summary.stopped_by is None and summary.settled_by == {"enough": 6, "hopeless": 3}
        teacher = mixed()
        assert harvest(teacher, ledger, problems(9), asking, verify_workers=1).samples == summary.samples
        assert teacher.drawn == []


def test_without_a_gold_answer_the_samples_vote(engine, ledger, problems, asking_of):
    """Three of four agree on each even problem, two against two on each odd one; a replay knows the vote."""

    class Voters(engine):
        def _sample(self, request):
            number = int(request.prompt.removeprefix("<user>").split("+")[0])
            says_other = request.index == 3 or (number % 2 == 1 and request.index == 2)
            plain = super()._sample(replace(request, index=1 if says_other else 0))
            return replace(plain, key=request.key(self.fingerprint), index=request.index, seed=request.seed)

    open_ended = [
        replace(each, verifier="majority", answer=None, meta={"equivalence": "exact"}) for each in problems(4)
    ]
    asking = asking_of(most=4, enough=1)
    summary = harvest(Voters(), ledger, open_ended, asking, verify_workers=1)
    assert summary.outcomes == {"correct": 6, "undecided": 8, "wrong": 2}
    assert (summary.accepted, summary.problems_covered, summary.samples) == (6, 2, 16)
    assert summary.families["even"].accepted == 6
    again = harvest(engine(), ledger, open_ended, asking, verify_workers=1)
    assert again.outcomes == summary.outcomes and again.samples_from_ledger == 16
    rows = list(candidates(ledger, asking.replay(ledger, open_ended)))
    assert [row["outcome"] for row in rows[:4]] == ["correct"] * 3 + ["wrong"]
    assert rows[0]["final_answer"] == "1" and rows[0]["pass_rate"] > rows[4]["pass_rate"]
