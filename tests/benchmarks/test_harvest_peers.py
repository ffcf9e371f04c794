"""The side-by-side harvest: its arithmetic by hand, its server and session on toy sizes, its page from its record."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.harvest import ideal, measure, page, roster
from benchmarks.harvest.roster import Entrant
from benchmarks.harvest.run import RESULT, differences
from benchmarks.harvest.scenarios import Scenario, random_refusals, scenarios
from benchmarks.harvest.session import Server, cut_last_record, run_client
from benchmarks.harvest.traces import TOKENS, number_of, prompt_of, reasoning_of

PLAIN_CLIENT = """
import asyncio, json, sys
sys.path.insert(0, {scripts!r})
import aiohttp
from interface import Task, jsonl, main, messages

def path_of(task):
    return task.folder / "rows.jsonl"

def rows(task, unreadable):
    return jsonl(path_of(task), lambda row: (row[0], row[1]["reasoning"], row[1]["content"]), unreadable)

async def draw(task):
    free = asyncio.Semaphore(task.in_flight)
    async def one(number, prompt):
        async with free:
            body = {{"model": task.model, "messages": messages(prompt), "max_tokens": task.max_tokens}}
            async with session.post(task.base_url + "/chat/completions", json=body) as answer:
                if answer.status != 200:
                    return
                message = (await answer.json())["choices"][0]["message"]
        file.write(json.dumps([number, message]) + "\\n")
        file.flush()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        with open(path_of(task), "a") as file:
            await asyncio.gather(*(one(*problem) for problem in task.prompts()))

if __name__ == "__main__":
    main(lambda task: asyncio.run(draw(task)), rows, lambda task: [path_of(task)])
"""


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture
def plain(tmp_path, monkeypatch):
    """A client of a few lines that retries nothing and resumes nothing."""
    script = tmp_path / "plain.py"
    script.write_text(PLAIN_CLIENT.format(scripts=str(roster.SCRIPTS)))
    monkeypatch.setitem(roster.ROSTER, "plain", Entrant("plain", str(script), None, ("aiohttp",)))
    return "plain"


def entry(arrived, ended, outcome="finished", **fields):
    return {"problem": 0, "arrived": arrived, "ended": ended, "due": ended, "outcome": outcome, "n": 1,
            "from_token": 0, "tokens": TOKENS, "streamed": False, "max_tokens": 8, **fields}  # fmt: skip


def test_ideal_client_by_hand():
    assert ideal.makespan([1.0] * 10, 5) == 2.0
    assert ideal.makespan([1.0, 1.0, 6.0], 2) == 7.0
    assert ideal.makespan([1.0, 1.0], 2, [0, 1], 0.5) == 1.5
    assert ideal.makespan([1.0, 1.0, 1.0], 1, [1, 0, 0], 0.1) == 3.0


def test_a_probe_is_no_part_of_the_window():
    log = [entry(0.0, 1.0, n=2), entry(5.0, 6.0), entry(5.1, 6.5, problem=1)]
    assert measure.window(log) == (5.0, 6.5)
    assert measure.counts(log) | {"tokens_served": 0} == {
        "served": 4, "refused": 0, "aborted": 0, "probes": 1, "continued": 0, "tokens_served": 0,
    }  # fmt: skip
    found = measure.server_figures(log, slots=2, ideal_seconds=1.4, work_seconds=2.4)
    assert found["occupancy"] == pytest.approx(2.4 / 3.0, abs=1e-4)
    assert found["occupancy_of_allowed"] == pytest.approx(1.4 / 1.5, abs=1e-4)
    assert found["most_in_flight"] == 2


def test_rows_are_held_against_what_was_sent():
    wrong = {"rows": {"0": ["x", "y"]}, "duplicates": 0, "unreadable": 1}
    assert measure.kept_rows(wrong, 1) == {"kept": 0, "with_reasoning": 0, "wrong": 1, "duplicates": 0, "unreadable": 1}


def test_traces_name_their_problem_and_have_their_length():
    assert number_of(prompt_of(17)) == 17
    assert len({reasoning_of(at) for at in range(20)}) == 20
    assert all(len(reasoning_of(at).split()) == pytest.approx(TOKENS, abs=20) for at in (0, 999))


def test_scenarios_are_those_of_the_plan():
    listed = scenarios()
    assert sum(seconds == 6.0 for seconds in listed["B"].seconds) == 30
    assert listed["A"].ideal_seconds() == pytest.approx(2.5)
    assert listed["C2"].ideal_seconds() == pytest.approx(6.0)
    assert sum(random_refusals(600, 0.1, 2)) == pytest.approx(600 / 9, abs=25)
    assert {name for scenario in listed.values() for name in scenario.clients} <= set(roster.ROSTER)
    assert all((roster.SCRIPTS / entrant.script).is_file() for entrant in roster.ROSTER.values())


def test_a_plain_client_keeps_every_row(server, plain, tmp_path):
    scenario = Scenario("A", "toy", rows=12, in_flight=4, seconds=[0.05])
    found = run_client(server, scenario, plain, tmp_path / "run", tmp_path)
    assert (found["kept"], found["with_reasoning"], found["wasted"], found["asked"]) == (12, 12, 0, 12)
    assert found["most_in_flight"] == 4
    assert 0.15 <= found["seconds"] < 5
    assert found["tokens_served"] == 12 * TOKENS
    assert not differences([found], {"A": scenario})
    assert differences([{**found, "kept": 11}], {"A": scenario}) == ["A plain: rows kept 11, expected 12"]


def test_refusals_are_the_servers(server, plain, tmp_path):
    scenario = Scenario("C", "toy", rows=6, in_flight=6, seconds=[0.05], refusals=[0, 1])
    found = run_client(server, scenario, plain, tmp_path / "run", tmp_path)
    assert (found["kept"], found["refused"], found["wasted"]) == (3, 3, 0)


def test_a_kill_and_a_torn_tail_are_seen(server, plain, tmp_path):
    """The plain client asks for everything again, so the first half is wasted, and glues a row to the torn line."""
    scenario = Scenario("E", "toy", rows=8, in_flight=2, seconds=[0.25], kill="half and torn")
    found = run_client(server, scenario, plain, tmp_path / "run", tmp_path)
    assert 4 <= found["killed_at"] < 8
    assert found["cut"]["rows.jsonl"] > 1000
    assert found["unreadable"] == 1
    assert found["served"] > 8 and found["wasted"] == found["served"] - found["kept"] > 0


def test_our_engine_against_the_server(server, tmp_path):
    scenario = Scenario("A", "toy", rows=12, in_flight=4, seconds=[0.05])
    found = run_client(server, scenario, "distill-engine", tmp_path / "run", Path(sys.prefix))
    assert (found["kept"], found["with_reasoning"], found["bad_requests"]) == (12, 12, []), found.get("log_tail")
    assert found["streamed"] and found["probes"] == found["served"] - 12 - 1  # one of the probes asks for two


def test_a_cut_is_inside_the_last_record(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b": 22222222}\n')
    assert cut_last_record(path) == 8
    assert path.read_text().startswith('{"a": 1}\n{"b"') and not path.read_text().endswith("\n")


def test_the_page_shows_the_record():
    shown = page.PAGE.read_text().split(page.BEGIN)[1].split(page.END)[0].strip()
    expected = page.table(json.loads(RESULT.read_text())) if RESULT.exists() else "Not measured yet."
    assert shown == expected, "run `python -m benchmarks.harvest.run --tables`"


def test_medians_and_spread():
    runs = [{"seconds": value} for value in (3.0, 1.0, 2.0)]
    assert page.spread(runs, "seconds", 1) == "2.0 (1.0-3.0)"
    assert page.spread(runs[:1], "seconds", 0) == "3"
