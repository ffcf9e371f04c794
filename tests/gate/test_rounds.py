"""Rounds over a real server: complete ones only, the next in flight, at most one drawn in vain, timeouts as failures.

pytest tests/gate/test_rounds.py
"""

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from distill.cards import ReasoningFormat
from distill.engines.endpoint import EndpointEngine
from distill.errors import InfrastructureError
from distill.gate.demand import against_constant, against_model
from distill.gate.rounds import complete_rounds, feed
from distill.gate.sequential import SequentialTest
from distill.recipes import Endpoint
from distill.records import Problem, SamplingParams
from distill.store.ledger import Ledger
from distill.verify.base import verify

SERVER = Path(__file__).resolve().parents[1] / "engines" / "misbehaving_server.py"
PARAMS = SamplingParams(0.6, 0.95, 64)


class Server:
    def __init__(self, **settings):
        command = [sys.executable, str(SERVER), json.dumps({"seconds": 0.01, **settings})]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data=data, timeout=30) as reply:
            return json.load(reply)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_server():
    started = []

    def start(**settings):
        started.append(Server(**settings))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def open_at(monkeypatch):
    monkeypatch.setattr("distill.engines.endpoint_retry.FIRST_BACKOFF_SECONDS", 0.05)

    def open_engine(server, **settings):
        given = {"idle_seconds": 0.6, "first_token_seconds": 3.0, "give_up_seconds": 4.0, "max_attempts": 1, **settings}
        return EndpointEngine.open(
            [f"http://127.0.0.1:{server.port}/v1"], name="t", served=None, settings=Endpoint(**given), params=PARAMS,
            reasoning=ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False),
        )  # fmt: skip

    return open_engine


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db", create=True) as opened:
        yield opened


def problems_of(number, num_wrong=0, prompt="What is {at} + 4?"):
    """Sums; the first `num_wrong` have a gold answer that the server does not give."""
    return {
        f"p{at:02d}": Problem(
            id=f"p{at:02d}", prompt=prompt.format(at=at), answer=str(at + 4 + (at < num_wrong)), verifier="math",
            family="sums", domain="math", source="test", licence="none",
        )
        for at in range(number)
    }  # fmt: skip


def verify_all(pairs):
    return [verify(problem, sample) for problem, sample in pairs]


def rounds_of(engine, ledger, problems, **settings):
    given = {"run_seed": 3, "verify": verify_all, "max_rounds": 8, **settings}
    return complete_rounds(engine, ledger, problems, PARAMS, **given)


def test_rounds_are_complete_and_in_order(start_server, open_at, ledger):
    """One answer in four is late: rounds still come whole, one after the other."""
    server = start_server(tail_share=0.25, tail_seconds=0.2)
    problems = problems_of(6, num_wrong=2)
    found = list(rounds_of(open_at(server, max_in_flight=8), ledger, problems, max_rounds=4))
    assert [each.number for each in found] == [0, 1, 2, 3]
    for each in found:
        assert each.scores == {item: float(int(item[1:]) >= 2) for item in problems}
        assert {sample.index for sample in each.samples.values()} == {each.number} and not each.unanswered
        assert each.completion_tokens > 0
    assert ledger.count() == 24


def test_the_next_round_is_in_flight_and_no_more(start_server, open_at, ledger):
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


def test_stops_at_the_verdict_and_draws_at_most_one_round_more(start_server, open_at, ledger):
    server, problems = start_server(), problems_of(10, num_wrong=9)
    test = SequentialTest(against_constant(0.6, cap_rounds=32), dict.fromkeys(problems, "sums"))
    saved = []
    spent = feed(
        test,
        rounds_of(open_at(server), ledger, problems, max_rounds=32),
        on_round=lambda each: saved.append(json.dumps(each.state())),
    )
    assert test.outcome == "FAIL" and spent.stopped_by == "verdict"
    assert spent.rounds == test.rounds == len(saved) < 10 and spent.completion_tokens > 0
    assert ledger.count() <= 10 * (test.rounds + 1)


def test_what_the_ledger_has_is_not_drawn_again(start_server, open_at, ledger):
    """A run cut after three rounds goes on with the fourth; then the whole is replayed without the server."""
    server, problems = start_server(), problems_of(5, num_wrong=2)
    engine = open_at(server)
    first = rounds_of(engine, ledger, problems)
    three = [next(first).scores for _ in range(3)]
    first.close()
    rest = list(rounds_of(engine, ledger, problems, first_round=3, max_rounds=5))
    assert [each.number for each in rest] == [3, 4]
    served = server.ask("/stats")["by_request"]
    assert max(count for request, count in served.items() if "+ 4?" in request) == 1
    server.kill()
    again = list(rounds_of(engine, ledger, problems, max_rounds=5))
    assert [each.scores for each in again] == three + [each.scores for each in rest]


def test_a_timeout_is_an_observed_failure(start_server, open_at, ledger):
    problems = problems_of(3) | {"p99": replace(problems_of(1)["p00"], id="p99", prompt="[[stall*99]] 1 + 4")}
    source = rounds_of(open_at(start_server()), ledger, problems, max_rounds=2)
    found = list(source)
    assert [each.scores for each in found] == [{"p00": 1.0, "p01": 1.0, "p02": 1.0, "p99": 0.0}] * 2
    assert all(set(each.unanswered) == {"p99"} and each.unanswered["p99"] for each in found)


def test_a_dead_endpoint_makes_no_round(start_server, open_at, ledger):
    server, problems = start_server(), problems_of(4)
    engine = open_at(server, give_up_seconds=1.0)
    source = rounds_of(engine, ledger, problems)
    next(source)
    server.kill()
    test = SequentialTest(against_constant(0.5), dict.fromkeys(problems, "sums"))
    with pytest.raises(InfrastructureError):
        feed(test, source)
    assert test.rounds <= 1 and ledger.count() >= 4


def test_an_answer_that_broke_on_the_way_is_no_failure_of_the_model(start_server, open_at, ledger):
    """A server error is neither right nor wrong: no round, exit code 6, and what was drawn is kept."""
    problems = problems_of(3) | {"p99": replace(problems_of(1)["p00"], id="p99", prompt="[[500*99]] 1 + 4")}
    with pytest.raises(InfrastructureError, match=r"round 1: item p99 had no whole answer \(server_error"):
        next(rounds_of(open_at(start_server(), max_in_flight=1), ledger, problems))
    assert ledger.count() == 3


def test_the_token_budget_is_kept_to_a_round(start_server, open_at, ledger):
    problems = problems_of(4, num_wrong=2)
    test = SequentialTest(against_constant(0.5), dict.fromkeys(problems, "sums"))
    engine = open_at(start_server())
    first = next(source := rounds_of(engine, ledger, problems)).completion_tokens
    source.close()
    spent = feed(test, rounds_of(engine, ledger, problems), max_tokens=2 * first)
    assert (spent.rounds, spent.stopped_by, spent.completion_tokens) == (2, "budget", 2 * first)


def test_pairs_and_running_out_of_rounds(start_server, open_at, ledger):
    """Student and other on the same items and rounds; the other has three rounds only."""
    server, problems = start_server(), problems_of(6, num_wrong=3)
    engine, easier = open_at(server), problems_of(6, num_wrong=1)
    test = SequentialTest(against_model(), dict.fromkeys(problems, "sums"))
    spent = feed(
        test,
        rounds_of(engine, ledger, problems, max_rounds=64),
        rounds_of(engine, ledger, easier, max_rounds=3),
    )
    assert (spent.rounds, spent.stopped_by) == (3, "samples") and test.mean == pytest.approx(-2 / 6)
