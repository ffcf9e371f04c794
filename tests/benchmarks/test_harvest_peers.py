"""The side-by-side harvest: its server, its counting, its page (`benchmarks/harvest/`), at toy sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harvest import ideal, measure, page, run, session
from benchmarks.harvest.roster import ROSTER, SCRIPTS, Entrant
from benchmarks.harvest.scenarios import Scenario, heavy_tail, random_refusals, scenarios
from benchmarks.harvest.standing import keeps_all, spread, standing
from benchmarks.harvest.traces import TOKENS, content_of, digest, reasoning_of

LOSES_EVERY_THIRD = f"""
import json, sys, urllib.request
sys.path.insert(0, {str(SCRIPTS)!r})
from interface import jsonl, main, messages, reasoning_in

def path(task):
    return task.folder / "rows.jsonl"

def draw(task):
    with open(path(task), "w") as file:
        for number, prompt in task.prompts():
            body = {{"model": task.model, "messages": messages(prompt), "max_tokens": task.max_tokens}}
            with urllib.request.urlopen(task.base_url + "/chat/completions", json.dumps(body).encode()) as answer:
                message = json.load(answer)["choices"][0]["message"]
            if number % 3:
                file.write(json.dumps([number, reasoning_in(message), message["content"]]) + "\\n")

main(draw, lambda task, unreadable: jsonl(path(task), tuple, unreadable))
"""


@pytest.fixture(scope="module")
def server():
    with session.Server() as running:
        yield running


def drawn(server, tmp_path, scenario: Scenario, name: str = "distill-engine"):
    return session.run_client(server, scenario, name, tmp_path / "work", tmp_path)


def test_our_side_fills_the_slots_and_keeps_every_row_whole(server, tmp_path):
    scenario = Scenario("toy", "flat", 24, 6, [0.2])
    found = drawn(server, tmp_path, scenario)
    assert (found["kept"], found["with_reasoning"], found["wrong"], found["duplicates"]) == (24, 24, 0, 0)
    assert found["wasted"] == found["probes"] > 0 and found["streamed"]
    assert found["most_in_flight"] == 6 and 0.5 < found["occupancy_of_allowed"] <= 1.01
    assert found["seconds"] >= scenario.ideal_seconds() == pytest.approx(0.8)
    assert found["cpu_ms_per_request"] > 0 and run.differences([found], {"toy": scenario}) == []


def test_refused_requests_are_asked_again(server, tmp_path):
    found = drawn(server, tmp_path, Scenario("toy", "429", 8, 4, [0.05], [0, 0, 1, 0]))
    assert (found["kept"], found["refused"], found["asked"]) == (8, 2, 8)


def test_a_kill_with_a_torn_file_loses_no_row(server, tmp_path):
    found = drawn(server, tmp_path, Scenario("toy", "torn", 24, 4, [0.15], kill="half and torn"))
    assert (found["with_reasoning"], found["duplicates"], found["unreadable"]) == (24, 0, 0)
    assert found["killed_at"] >= 12 and list(found["cut"]) == ["ledger.db-wal"]
    assert 0 < found["tokens_wasted"] < 24 * TOKENS


def test_a_client_that_drops_rows_is_seen(server, tmp_path, monkeypatch):
    script = tmp_path / "client.py"
    script.write_text(LOSES_EVERY_THIRD)
    monkeypatch.setitem(ROSTER, "lossy", Entrant("lossy", str(script), None, ()))
    scenario = Scenario("toy", "flat", 6, 2, [0.02])
    found = drawn(server, tmp_path, scenario, "lossy")
    assert (found["served"], found["kept"], found["wasted"], found["tokens_wasted"]) == (6, 4, 2, 2 * TOKENS)
    assert run.differences([found], {"toy": scenario}) == ["toy lossy: rows kept 4, expected 6"]


def test_the_server_stops_at_the_limit_and_goes_on_from_a_prefix(server):
    server.play(Scenario("toy", "flat", 4, 4, [0.02]))
    user = {"role": "user", "content": "This is problem number 3."}
    whole = reasoning_of(3)
    cut = server.get("/v1/chat/completions", {"messages": [user], "max_tokens": 5})["choices"][0]
    assert cut["finish_reason"] == "length" and cut["message"]["reasoning"] == " ".join(whole.split(" ")[:5])
    start = {"role": "assistant", "content": f"<think>\n{cut['message']['reasoning']}"}
    server.get("/v1/chat/completions", {"messages": [user, start], "max_tokens": 7})
    wrong = {"role": "assistant", "content": "<think>\nsomething else"}
    assert "error" in server.get("/v1/chat/completions", {"messages": [user, wrong]})
    first, second = server.settled_log()["entries"]
    assert (first["tokens"], second["from_token"], second["to_token"]) == (5, 5, 12)


def test_the_ideal_client_by_hand():
    assert ideal.makespan([1.0] * 5, 2) == 3.0
    assert ideal.makespan([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert ideal.makespan([1.0, 1.0], 1, [1, 0], 0.5) == 2.0  # the refused one waits while the other runs
    assert ideal.makespan([1.0], 1, [2], 0.5) == 2.0
    assert heavy_tail(100, 1).count(6.0) == 3 and sum(random_refusals(600, 0.1, 2)) > 30


def test_probes_are_no_part_of_the_window():
    def entry(arrived, ended, tokens=TOKENS, problem=0):
        return {
            "problem": problem,
            "arrived": arrived,
            "ended": ended,
            "due": ended,
            "outcome": "finished",
            "n": 1,
            "tokens": tokens,
            "from_token": 0,
        }

    log = [entry(0.0, 1.0, 8), entry(1.5, 2.5), entry(1.5, 2.5, problem=1), entry(2.5, 3.5, problem=2)]
    assert measure.window(log) == (1.5, 3.5)
    figures = measure.server_figures(log, 2, 2.0, 3.0)
    assert (figures["seconds"], figures["requests_per_second"], figures["most_in_flight"]) == (2.0, 1.5, 2)
    assert figures["occupancy"] == figures["occupancy_allowed"] == 0.75
    assert measure.counts(log)["probes"] == 1 and measure.counts(log)["tokens_served"] == 3 * TOKENS + 8


def test_kept_rows_are_held_against_what_was_sent():
    whole = [digest(reasoning_of(0)), digest(content_of(0))]
    report = {"rows": {"0": whole, "1": [None, digest(content_of(1))], "2": whole}, "duplicates": 0, "unreadable": 0}
    found = measure.kept_rows(report, 3)
    assert (found["kept"], found["with_reasoning"], found["wrong"]) == (2, 1, 1)


def test_the_best_of_a_column_lost_nothing():
    def runs(client, seconds, whole):
        return {
            "scenario": "A",
            "client": client,
            "seconds": seconds,
            "with_reasoning": whole,
            "duplicates": 0,
            "wrong": 0,
        }

    listed = [runs("distill-engine", s, 10) for s in (1.0, 1.04, 9.0)]
    listed += [runs("flexllm", 1.0, 10), runs("distilabel", 0.1, 0)]
    found = standing(listed, {"A": 10})["A"]["seconds"]
    assert (found.ours, found.best, found.by, found.is_within) == (1.04, 1.0, "flexllm", True)
    assert spread(listed[:3], "seconds").highest == 9.0 and spread(listed, "cpu_ms_per_request") is None
    assert not keeps_all(listed, 10)


def test_runs_of_a_part_take_the_place_of_earlier_ones():
    before = [{"scenario": "A", "client": "x", "v": 1}, {"scenario": "B", "client": "x", "v": 1}]
    assert run.merged(before, [{"scenario": "A", "client": "x", "v": 2}]) == [
        before[1],
        {"scenario": "A", "client": "x", "v": 2},
    ]


@pytest.fixture(scope="module")
def record():
    return json.loads(run.RESULT.read_text())


def test_the_page_is_made_from_the_record(record):
    text = page.PAGE.read_text()
    assert text.split(page.BEGIN)[1].split(page.END)[0] == f"\n{page.tables(record)}\n"


def test_the_record_has_every_client_or_says_why_not(record):
    assert {"date", "machine", "versions", "code", "contended", "load_before", "differences"} <= record.keys()
    for name, scenario in scenarios().items():
        ran = {each["client"] for each in record["runs"] if each["scenario"] == name}
        assert set(scenario.clients) <= ran | record["not_run"].keys(), name
        assert record["scenarios"][name] == json.loads(json.dumps(session.scenario_record(scenario)))
    assert str(Path.home()) not in json.dumps(record) and "/tmp/" not in json.dumps(record)


def test_our_side_lost_nothing_in_the_record(record):
    ours = [each for each in record["runs"] if each["client"].startswith("distill-")]
    assert ours and all(keeps_all([each], record["scenarios"][each["scenario"]]["rows"]) for each in ours)
