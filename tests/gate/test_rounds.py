"""Rounds over a real server: complete ones only, the next in flight, at most one drawn in vain, timeouts as failures.

pytest tests/gate/test_rounds.py
"""

from collections import Counter
from dataclasses import replace

import pytest

from distill.errors import InfrastructureError
from distill.gate.rounds import complete_rounds
from distill.records import SamplingParams
from distill.verify.base import verify

PARAMS = SamplingParams(0.6, 0.95, 64)


def scores_of(each):
    return {item: float(item in each.seen and each.seen[item].is_correct) for item in [*each.seen, *each.unanswered]}


def verify_all(pairs):
    return [verify(problem, sample) for problem, sample in pairs]


def rounds_of(engine, ledger, problems, **settings):
    given = {"run_seed": 3, "verify": verify_all, "max_rounds": 8, **settings}
    return complete_rounds(engine, ledger, problems, PARAMS, **given)


def test_rounds_are_complete_and_in_order(start_server, open_at, ledger, problems_of):
    """One answer in four is late: rounds still come whole, one after the other."""
    server = start_server(tail_share=0.25, tail_seconds=0.2)
    problems = problems_of(6, num_wrong=2)
    found = list(rounds_of(open_at(server, max_in_flight=8), ledger, problems, max_rounds=4))
    assert [each.number for each in found] == [0, 1, 2, 3]
    for each in found:
        assert scores_of(each) == {item: float(int(item[1:]) >= 2) for item in problems}
        assert {seen.index for seen in each.seen.values()} == {each.number} and not each.unanswered
        assert each.completion_tokens > 0
    assert ledger.count() == 24


def test_the_next_round_is_in_flight_and_no_more(start_server, open_at, ledger, problems_of):
    """When round r is handed on, some of round r + 1 is drawn already, and nothing of round r + 2."""
    server = start_server(tail_share=0.3, tail_seconds=0.3)
    source = rounds_of(open_at(server, max_in_flight=64), ledger, problems_of(8), max_rounds=20)
    ahead = 0
    for expected in range(4):
        assert next(source).number == expected
        drawn = Counter(sample.index for sample in ledger.samples())
        assert max(drawn) <= expected + 1
        ahead += drawn[expected + 1]
    source.close()
    assert ahead > 0
    most_drawn = max(sample.index for sample in ledger.samples())
    assert most_drawn <= 4


def test_what_the_ledger_has_is_not_drawn_again(start_server, open_at, ledger, problems_of):
    """A run cut after three rounds goes on with the fourth; then the whole is replayed without the server."""
    server, problems = start_server(), problems_of(5, num_wrong=2)
    engine = open_at(server)
    first = rounds_of(engine, ledger, problems)
    three = [scores_of(next(first)) for _ in range(3)]
    first.close()
    rest = list(rounds_of(engine, ledger, problems, first_round=3, max_rounds=5))
    assert [each.number for each in rest] == [3, 4]
    served = server.ask("/stats")["by_request"]
    assert max(count for request, count in served.items() if "+ 4?" in request) == 1
    server.kill()
    again = list(rounds_of(engine, ledger, problems, max_rounds=5))
    assert [scores_of(each) for each in again] == three + [scores_of(each) for each in rest]


def test_a_timeout_is_an_observed_failure(start_server, open_at, ledger, problems_of):
    problems = problems_of(3) | {"p99": replace(problems_of(1)["p00"], id="p99", prompt="[[stall*99]] 1 + 4")}
    source = rounds_of(open_at(start_server()), ledger, problems, max_rounds=2)
    found = list(source)
    assert [scores_of(each) for each in found] == [{"p00": 1.0, "p01": 1.0, "p02": 1.0, "p99": 0.0}] * 2
    assert all(set(each.unanswered) == {"p99"} and each.unanswered["p99"] for each in found)


def test_a_dead_endpoint_makes_no_round(start_server, open_at, ledger, problems_of):
    server, problems = start_server(), problems_of(4)
    engine = open_at(server, give_up_seconds=1.0)
    source = rounds_of(engine, ledger, problems)
    next(source)
    server.kill()
    with pytest.raises(InfrastructureError):
        list(source)
    assert ledger.count() >= 4


def test_an_answer_that_broke_on_the_way_is_no_failure_of_the_model(start_server, open_at, ledger, problems_of):
    """A server error is neither right nor wrong: no round, exit code 6, and what was drawn is kept."""
    problems = problems_of(3) | {"p99": replace(problems_of(1)["p00"], id="p99", prompt="[[500*99]] 1 + 4")}
    with pytest.raises(InfrastructureError, match=r"round 1: item p99 had no whole answer \(server_error"):
        next(rounds_of(open_at(start_server(), max_in_flight=1), ledger, problems))
    assert ledger.count() == 3


def test_a_round_in_the_ledger_is_handed_on_before_the_next_is_asked_for(
    start_server, open_at, ledger, problems_of, monkeypatch
):
    """A decided gate that runs again draws nothing of the round after."""
    engine, problems = open_at(start_server()), problems_of(4)
    list(rounds_of(engine, ledger, problems, max_rounds=1))
    asked = []
    monkeypatch.setattr(engine, "sample", lambda requests: asked.append(1) or iter(()))
    source = rounds_of(engine, ledger, problems)
    assert next(source).num_drawn == 0 and not asked
    source.close()
