"""Side by side: every client through every scenario against one server process; results.json and docs/harvest-peers.md.

    bash benchmarks/harvest/setup_peers.sh                     # once: an environment for each peer, in runs/peers
    python -m benchmarks.harvest.run                           # everything
    python -m benchmarks.harvest.run --quick                   # a tenth of the rows, once; nothing is written
    python -m benchmarks.harvest.run --scenarios A,B --clients distill-engine,flexllm
    python -m benchmarks.harvest.run --tables                  # the page again, from results.json

Wants an idle machine: server, client and this program share its cores; a load of 0.5 or more before it starts is
recorded as `contended`. Every repetition goes through all scenarios and begins with another client, so that a slow
minute of the machine hits all of them; the tables show medians and ranges. Where nothing is refused or killed, every
client must have asked for the same problems with the same limit and kept the same rows, and no client may keep a row
that the server did not send, or the run says so and exits with 1. What is there is written after every scenario.
A run of part of the scenarios or clients takes the place of those in results.json and leaves the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harvest import isolated, page
from benchmarks.harvest.roster import ROSTER
from benchmarks.harvest.scenarios import Scenario, scenarios
from benchmarks.harvest.session import ROOT, Server, run_client, scenario_record
from distill import provenance

RESULT = Path(__file__).resolve().parent / "results.json"
ONCE_ABOVE_SECONDS = 45.0
"""A client that took longer over a scenario is not asked again."""
QUIET_BELOW_LOAD = 0.5


def run_scenario(
    server: Server, scenario: Scenario, clients: Sequence[str], folder: Path, peers: Path, repetition: int = 0
) -> Iterator[dict[str, Any]]:
    turn = repetition % max(1, len(clients))
    for name in [*clients[turn:], *clients[:turn]]:
        found = run_client(server, scenario, name, folder / f"{scenario.name}-{name}", peers)
        print(_line(found), file=sys.stderr, flush=True)
        yield {"repetition": repetition, **found}


def _line(run: dict[str, Any]) -> str:
    timing = f"{run['seconds']:7.2f} s, occupancy {run['occupancy_of_allowed']:.0%}," if "seconds" in run else ""
    cpu = f" {run['cpu_ms_per_request']:.2f} ms CPU a request," if "seconds" in run else ""
    return (
        f"{run['scenario']:3} {run['client']:18} {timing}{cpu} kept {run['kept']} ({run['with_reasoning']} whole), "
        f"wasted {run['wasted']}, refused {run['refused']}, {run['process_seconds']:.1f} s in all"
        f"{', timed out' if run['timed_out'] else ''}{', ' + run['error'] if run.get('error') else ''}"
    )


def run_isolated(
    scenario: Scenario, clients: Sequence[str], arguments: argparse.Namespace, repetition: int
) -> list[dict[str, Any]]:
    """The scenario in a network namespace of its own, server included; [] where the system does not allow one."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        command = [*isolated.UNSHARE, sys.executable, "-m", "benchmarks.harvest.isolated"]
        command += [sys.executable, "-m", "benchmarks.harvest.run", "--inside", "--scenarios", scenario.name]
        command += ["--clients", ",".join(clients), "--peers", str(arguments.peers), "--out", str(arguments.out)]
        command += ["--result", str(part), "--repetitions", "1", *(["--quick"] if arguments.quick else [])]
        code = subprocess.call(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        if not part.exists():
            print(f"{scenario.name}: not run: no network namespace could be made (exit code {code})", file=sys.stderr)
            return []
        return [{**run, "repetition": repetition} for run in json.loads(part.read_text())]


def differences(runs: Sequence[dict[str, Any]], listed: dict[str, Scenario]) -> list[str]:
    """What was not alike where all clients must be alike, and rows that nobody sent or that are there twice."""
    found = []
    for run in runs:
        scenario = listed[run["scenario"]]
        what = {"rows that the server did not send": (run["wrong"], 0)}
        if scenario.is_undisturbed:
            what |= {
                "problems asked": (run["asked"], scenario.rows),
                "rows kept": (run["kept"], scenario.rows),
                "rows kept twice": (run["duplicates"], 0),
                "limits": (len(run["limits"]), 1),
                "bad requests": (len(run["bad_requests"]), 0),
            }
        found += [
            f"{run['scenario']} {run['client']}: {name} {seen}, expected {expected}"
            for name, (seen, expected) in what.items()
            if seen != expected
        ]
    undisturbed = [run for run in runs if listed[run["scenario"]].is_undisturbed]
    limits = {tuple(run["limits"]) for run in undisturbed if run["limits"]}
    return found + ([f"limits differ: {sorted(limits)}"] if len(limits) > 1 else [])


def merged(before: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs, and of the earlier ones those of other scenarios and clients."""
    again = {(run["scenario"], run["client"]) for run in runs}
    return [run for run in before if (run["scenario"], run["client"]) not in again] + list(runs)


@dataclass
class Record:
    """results.json while a session runs; `before` is what it held."""

    path: Path
    listed: dict[str, Scenario]
    peers: Path
    load_before: float
    not_run: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        empty: dict[str, Any] = {"runs": [], "scenarios": {}, "clients": {}, "not_run": {}, "load_before": 0.0}
        self.code = provenance.commit()  # before the first write makes the checkout dirty
        self.before = json.loads(self.path.read_text()) if self.path.exists() else empty

    def write(self) -> None:
        before, runs = self.before, merged(self.before["runs"], self.runs)
        names, shown = sorted({run["client"] for run in self.runs}), {run["scenario"] for run in runs}
        load = max(self.load_before, before["load_before"] if len(runs) > len(self.runs) else 0.0)
        scenes = before["scenarios"] | {name: scenario_record(self.listed[name]) for name in self.listed}
        result = {
            "date": provenance.utc_now(),
            "machine": provenance.machine(),
            "versions": provenance.versions(),
            "code": self.code,
            "contended": load >= QUIET_BELOW_LOAD,
            "load_before": round(load, 2),
            "clients": before["clients"] | {name: ROSTER[name].versions(self.peers) for name in names},
            "not_run": {n: why for n, why in (before["not_run"] | self.not_run).items() if n not in names},
            "scenarios": {name: scenes[name] for name in self.listed if name in shown},
            "differences": differences(runs, self.listed),
            "runs": runs,
        }
        text = json.dumps({**result, "runs": []}, indent=1)
        lines = ",\n".join("  " + json.dumps(run) for run in runs)  # one a line: diffs stay readable
        self.path.write_text(text.replace('"runs": []', f'"runs": [\n{lines}\n ]') + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="A tenth of the rows and slots, once.")
    parser.add_argument("--scenarios", help="Comma-separated; all.")
    parser.add_argument("--clients", help="Comma-separated; those of the scenario.")
    parser.add_argument("--repetitions", type=int, default=3, help="Of every scenario; clients above 45 s run once.")
    parser.add_argument("--peers", type=Path, default=ROOT / "runs" / "peers", help="What setup_peers.sh made.")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "harvest-peers", help="Work folder.")
    parser.add_argument("--result", type=Path, help="results.json here; with --quick nothing is written without it.")
    parser.add_argument("--tables", action="store_true", help="Only write the page.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen(arguments: argparse.Namespace, scenario: Scenario, not_run: dict[str, str]) -> list[str]:
    """Clients of a scenario that were asked for and are installed; `not_run` learns of the others."""
    wanted = arguments.clients.split(",") if arguments.clients else scenario.clients
    if unknown := set(wanted) - set(ROSTER):
        raise SystemExit(f"--clients: unknown {', '.join(sorted(unknown))}; known: {', '.join(ROSTER)}")
    listed = [name for name in scenario.clients if name in wanted]
    for name in listed:
        if name not in not_run and not ROSTER[name].python(arguments.peers).exists():
            not_run[name] = "its environment is missing; setup_peers.sh makes it"
            print(f"{name}: not run: {not_run[name]}", file=sys.stderr)
    return [name for name in listed if name not in not_run]


def run_session(arguments: argparse.Namespace, record: Record, wanted: Sequence[str]) -> None:
    """All repetitions of all scenarios; the record is written after each scenario where it has a place."""
    slow: set[tuple[str, str]] = set()
    with Server() as server:
        for repetition in range(1 if arguments.quick else arguments.repetitions):
            for scenario in (record.listed[name] for name in wanted):
                clients = [
                    name for name in chosen(arguments, scenario, record.not_run) if (scenario.name, name) not in slow
                ]
                if scenario.is_isolated and not arguments.inside:
                    runs = run_isolated(scenario, clients, arguments, repetition)
                else:
                    runs = list(run_scenario(server, scenario, clients, arguments.out, arguments.peers, repetition))
                record.runs += runs
                slow |= {(r["scenario"], r["client"]) for r in runs if r["process_seconds"] > ONCE_ABOVE_SECONDS}
                if not arguments.inside and (arguments.result or not arguments.quick):
                    record.write()


def main() -> int:
    arguments = parse()
    path = arguments.result or RESULT
    if arguments.tables:
        page.write(json.loads(path.read_text()))
        return 0
    listed = scenarios(0.1 if arguments.quick else 1.0)
    wanted = arguments.scenarios.split(",") if arguments.scenarios else list(listed)
    if unknown := set(wanted) - set(listed):
        raise SystemExit(f"--scenarios: unknown {', '.join(sorted(unknown))}; known: {', '.join(listed)}")
    record = Record(path, listed, arguments.peers, os.getloadavg()[0])
    run_session(arguments, record, wanted)
    if arguments.inside:
        path.write_text(json.dumps(record.runs))
        return 0
    if not arguments.result and not arguments.quick:
        page.write(json.loads(path.read_text()))
    unlike = differences(record.runs, listed)
    for line in unlike:
        print(line, file=sys.stderr)
    return 1 if unlike else 0


if __name__ == "__main__":
    sys.exit(main())
