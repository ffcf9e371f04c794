"""The server's process, and one run of one client against it.

with Server() as server:
    figures = run_client(server, scenario, "flexllm", folder, peers)
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.harvest import measure
from benchmarks.harvest.process import Client, tree_cpu_seconds
from benchmarks.harvest.roster import ROSTER, SCRIPTS, Entrant
from benchmarks.harvest.scenarios import Scenario
from benchmarks.harvest.server import MODEL
from benchmarks.harvest.traces import TOKENS, gold_of, prompt_of

ROOT = Path(__file__).resolve().parents[2]
MAX_TOKENS = 16384
ROWS_LIMIT_SECONDS = 120.0
POLL_SECONDS = 0.02
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Server:
    """The one server process of a session."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.harvest.server"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def get(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def play(self, scenario: Scenario) -> None:
        self.get("/settings", scenario.server_settings())

    def settled_log(self) -> dict[str, Any]:
        """The log once the server has noticed that everybody is gone."""
        for _ in range(250):
            if not self.get("/stats")["in_flight"]:
                break
            time.sleep(POLL_SECONDS)
        return self.get("/log")

    def cpu_seconds(self) -> float:
        return tree_cpu_seconds(self._process.pid)


def write_task(server: Server, scenario: Scenario, folder: Path) -> Path:
    """The task file of a run in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "out").mkdir(parents=True)
    problems = folder / "problems.jsonl"
    rows = ({"number": at, "prompt": prompt_of(at), "answer": gold_of(at)} for at in range(scenario.rows))
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "base_url": server.base_url,
        "model": MODEL,
        "problems": str(problems),
        "out": str(folder / "out"),
        "in_flight": scenario.in_flight,
        "max_tokens": MAX_TOKENS,
        "save_partial_seconds": scenario.save_partial_seconds,
        "stubs": not scenario.is_isolated,
    }
    path = folder / "task.json"
    path.write_text(json.dumps(task))
    return path


def environment_of(entrant: Entrant, folder: Path) -> dict[str, str]:
    """Of a client: no proxies, and nothing of the user's home, where some packages keep caches."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    home = folder / "home"
    home.mkdir(exist_ok=True)
    added = {"PYTHONPATH": str(ROOT)} if entrant.environment is None else {"HOME": str(home)}
    return {**kept, "PYTHONUNBUFFERED": "1", **added}


def cut_last_record(path: Path) -> int:
    """Cut a file in the middle of its last record: a line, or a frame of SQLite's write-ahead log; bytes cut off."""
    data = path.read_bytes()
    if path.name.endswith("-wal"):
        cut = min(2048, len(data) // 2)
    else:
        last_line = len(data) - (data.rstrip(b"\n").rfind(b"\n") + 1)
        cut = last_line // 2
    os.truncate(path, len(data) - cut)
    return cut


def run_client(server: Server, scenario: Scenario, name: str, folder: Path, peers: Path) -> dict[str, Any]:
    """One run: start, kill where the scenario says so, start again, count."""
    entrant = ROSTER[name]
    folder = folder.resolve()
    task = write_task(server, scenario, folder)
    command = [str(entrant.python(peers)), str(SCRIPTS / entrant.script)]
    environment = environment_of(entrant, folder)
    server.play(scenario)
    server_cpu = server.cpu_seconds()
    limit = 20 * scenario.ideal_seconds() + 60
    found: dict[str, Any] = {"scenario": scenario.name, "client": name, "rows": scenario.rows}
    with Client([*command, "run", str(task)], environment, folder / "log.txt", folder) as client:
        if scenario.kill == "no":
            found["timed_out"] = not client.wait(limit)
        else:
            found["killed_at"] = _kill_half_way(server, client, scenario, limit)
    first, last = client, client
    if scenario.kill != "no":
        if scenario.kill == "half and torn":
            torn = json.loads(_answer(command, "torn", task, environment) or "[]")
            found["cut"] = {Path(path).name: cut_last_record(Path(path)) for path in torn if os.path.getsize(path)}
        server.settled_log()
        with Client([*command, "run", str(task)], environment, folder / "log.txt", folder) as last:
            found["timed_out"] = not last.wait(scenario.restart_limit_seconds)
    log = server.settled_log()
    found |= {"exit_code": last.exit_code, "process_seconds": round(last.ended - first.started, 3)}
    found |= _counted(scenario, log, json.loads(_answer(command, "rows", task, environment) or "null"))
    if scenario.kill == "no" and measure.accepted(log["entries"]):
        found |= _timed(scenario, client, log["entries"])
        found["server_cpu_ms_per_request"] = round(1000 * (server.cpu_seconds() - server_cpu) / found["served"], 3)
    if found["kept"] < scenario.rows and (error := last_error(folder / "log.txt")):
        found["error"] = error
    return found


def _kill_half_way(server: Server, client: Client, scenario: Scenario, limit: float) -> int:
    """SIGKILL half a latency after half the rows were answered; how many were.

    All rows take equally long, so answers come in waves; between two of them is where a kill at any instant is on
    average: what is in flight is half done.
    """
    until = time.monotonic() + limit
    finished = 0
    while client.is_running and finished < scenario.rows // 2 and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        finished = server.get("/stats")["finished"]
    client.wait(scenario.seconds[0] / 2)
    client.kill()
    return finished


def _answer(command: list[str], verb: str, task: Path, environment: Mapping[str, str]) -> str | None:
    """What the client's script prints on its last line; None where it fails."""
    try:
        done = subprocess.run(
            [*command, verb, str(task)],
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=ROWS_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None
    lines = done.stdout.strip().splitlines()
    return lines[-1] if done.returncode == 0 and lines else None


def _counted(scenario: Scenario, log: Mapping[str, Any], report: Mapping[str, Any] | None) -> dict[str, Any]:
    """Requests, tokens and rows; `asked` says whether the client asked for every problem, with the same limit."""
    entries = log["entries"]
    found = measure.counts(entries)
    nothing = {"rows": {}, "duplicates": 0, "unreadable": 0}
    found |= measure.kept_rows(report or nothing, scenario.rows)
    found["rows_readable"] = report is not None
    found["wasted"] = found["served"] - found["kept"]
    found["tokens_wasted"] = found["tokens_served"] - TOKENS * found["kept"]
    found["asked"] = len({entry["problem"] for entry in entries})
    found["limits"] = sorted({entry["max_tokens"] or 0 for entry in measure.harvest_entries(entries)})
    found["streamed"] = all(entry["streamed"] for entry in entries) if entries else None
    found["bad_requests"] = log["bad_requests"][:5]
    return found


def _timed(scenario: Scenario, client: Client, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds, rates and processor time; start-up is what comes before the window."""
    start, end = measure.window(entries)
    work = sum(scenario.all_seconds())
    figures = measure.server_figures(entries, scenario.slots, scenario.ideal_seconds(), work)
    answered = sum(entry["outcome"] == "finished" for entry in measure.harvest_entries(entries))
    before = client.cpu_at(start)
    return {
        **figures,
        "start_seconds": round(start - client.started, 3),
        "end_seconds": round(client.ended - end, 3),
        "start_cpu_seconds": round(before, 3),
        "cpu_ms_per_request": round(1000 * (client.cpu_seconds - before) / max(1, answered), 3),
    }


def last_error(log: Path) -> str | None:
    """Name of the last exception in a client's log, without what it says: that holds paths and hosts."""
    named = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception))\b", log.read_text(errors="replace"), re.MULTILINE)
    return named[-1] if named else None


def scenario_record(scenario: Scenario) -> dict[str, Any]:
    """A scenario as the results hold it: sums in the place of the lists."""
    fields = asdict(scenario)
    fields["seconds"] = sum(scenario.all_seconds())
    fields["refusals"] = sum(scenario.refusals)
    return {**fields, "slots": scenario.slots, "ideal_seconds": round(scenario.ideal_seconds(), 3)}
