"""Side by side: every client through every scenario against one server process; results.json and docs/harvest-peers.md.

    bash benchmarks/harvest/setup_peers.sh                     # once: an environment for each peer, in runs/peers
    python -m benchmarks.harvest.run                           # everything
    python -m benchmarks.harvest.run --quick                   # a tenth of the rows, once; nothing is written
    python -m benchmarks.harvest.run --scenarios A,B --clients distill-engine,flexllm
    python -m benchmarks.harvest.run --tables                  # the page again, from results.json

Wants an idle machine: server, client and this program share its cores. Repetitions go round the clients, so that a slow
minute of the machine hits all of them; the tables show medians. Where nothing is refused or killed, every client must
have asked for the same problems with the same limit and kept the same rows, or the run says so and exits with 1.
A run of part of the scenarios or clients takes the place of those in results.json and leaves the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harvest import isolated, page
from benchmarks.harvest.roster import ROSTER
from benchmarks.harvest.scenarios import Scenario, scenarios
from benchmarks.harvest.session import ROOT, Server, run_client, scenario_record
from distill import provenance

RESULT = Path(__file__).resolve().parent / "results.json"


def run_scenario(
    server: Server, scenario: Scenario, clients: Sequence[str], folder: Path, peers: Path
) -> list[dict[str, Any]]:
    runs = []
    for repetition in range(scenario.repetitions):
        turn = repetition % max(1, len(clients))
        for name in [*clients[turn:], *clients[:turn]]:
            found = run_client(server, scenario, name, folder / f"{scenario.name}-{name}", peers)
            runs.append({"repetition": repetition, **found})
            print(_line(runs[-1]), file=sys.stderr, flush=True)
    return runs


def _line(run: dict[str, Any]) -> str:
    timing = f"{run['seconds']:7.2f} s, occupancy {run['occupancy_of_allowed']:.0%}," if "seconds" in run else ""
    cpu = f" {run['cpu_ms_per_request']:.2f} ms CPU a request," if "seconds" in run else ""
    return (
        f"{run['scenario']:3} {run['client']:18} {timing}{cpu} kept {run['kept']} ({run['with_reasoning']} whole), "
        f"wasted {run['wasted']}, refused {run['refused']}, {run['process_seconds']:.1f} s in all"
        f"{', timed out' if run['timed_out'] else ''}"
    )


def run_isolated(scenario: Scenario, clients: Sequence[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The scenario in a network namespace of its own, server included; [] where the system does not allow one."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        command = [*isolated.UNSHARE, sys.executable, "-m", "benchmarks.harvest.isolated"]
        command += [sys.executable, "-m", "benchmarks.harvest.run", "--inside", "--scenarios", scenario.name]
        command += ["--clients", ",".join(clients), "--peers", str(arguments.peers), "--out", str(arguments.out)]
        command += ["--result", str(part), *(["--quick"] if arguments.quick else [])]
        code = subprocess.call(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        if not part.exists():
            print(
                f"{scenario.name}: not run: a network namespace could not be made (exit code {code})", file=sys.stderr
            )
            return []
        runs: list[dict[str, Any]] = json.loads(part.read_text())
        return runs


def differences(runs: Sequence[dict[str, Any]], listed: dict[str, Scenario]) -> list[str]:
    """What was not alike where all clients must be alike: scenarios that refuse, kill and isolate nothing."""
    found = []
    alike = [run for run in runs if _is_plain(listed[run["scenario"]])]
    for run in alike:
        scenario = listed[run["scenario"]]
        what = {
            "problems asked": (run["asked"], scenario.rows),
            "rows kept": (run["kept"], scenario.rows),
            "limits": (len(run["limits"]), 1),
            "bad requests": (len(run["bad_requests"]), 0),
        }
        found += [
            f"{run['scenario']} {run['client']}: {name} {seen}, expected {expected}"
            for name, (seen, expected) in what.items()
            if seen != expected
        ]
    limits = {tuple(run["limits"]) for run in alike if run["limits"]}
    return found + ([f"limits differ: {sorted(limits)}"] if len(limits) > 1 else [])


def _is_plain(scenario: Scenario) -> bool:
    return scenario.kill == "no" and not (scenario.capacity or any(scenario.refusals) or scenario.is_isolated)


def merged(before: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs, and of the earlier ones those of other scenarios and clients."""
    again = {(run["scenario"], run["client"]) for run in runs}
    return [run for run in before if (run["scenario"], run["client"]) not in again] + list(runs)


def record(runs: list[dict[str, Any]], listed: dict[str, Scenario], peers: Path, path: Path) -> None:
    before = json.loads(path.read_text()) if path.exists() else {"runs": [], "scenarios": {}, "clients": {}}
    names = {run["client"] for run in runs}
    shown = {run["scenario"] for run in runs}
    result = {
        "date": provenance.utc_now(),
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "code": provenance.commit(),
        "clients": before["clients"] | {name: ROSTER[name].versions(peers) for name in sorted(names)},
        "scenarios": before["scenarios"] | {name: scenario_record(listed[name]) for name in listed if name in shown},
        "differences": differences(runs, listed),
        "runs": merged(before["runs"], runs),
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="A tenth of the rows and slots, once.")
    parser.add_argument("--scenarios", help="Comma-separated; all.")
    parser.add_argument("--clients", help="Comma-separated; those of the scenario.")
    parser.add_argument("--repetitions", type=int, default=3, help="Of scenario A; the others run once.")
    parser.add_argument("--peers", type=Path, default=ROOT / "runs" / "peers", help="What setup_peers.sh made.")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "harvest-peers", help="Work folder.")
    parser.add_argument("--result", type=Path, help="results.json here; with --quick nothing is written without it.")
    parser.add_argument("--tables", action="store_true", help="Only write the page.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen(arguments: argparse.Namespace, scenario: Scenario) -> list[str]:
    """Clients of a scenario that were asked for and are installed."""
    wanted = arguments.clients.split(",") if arguments.clients else scenario.clients
    if unknown := set(wanted) - set(ROSTER):
        raise SystemExit(f"--clients: unknown {', '.join(sorted(unknown))}; known: {', '.join(ROSTER)}")
    listed = [name for name in scenario.clients if name in wanted]
    missing = [name for name in listed if not ROSTER[name].python(arguments.peers).exists()]
    if missing:
        print(f"not installed, left out: {', '.join(missing)} (setup_peers.sh makes them)", file=sys.stderr)
    return [name for name in listed if name not in missing]


def main() -> int:
    arguments = parse()
    path = arguments.result or RESULT
    if arguments.tables:
        page.write(json.loads(path.read_text()))
        return 0
    listed = scenarios(0.1 if arguments.quick else 1.0, 1 if arguments.quick else arguments.repetitions)
    wanted = arguments.scenarios.split(",") if arguments.scenarios else list(listed)
    runs: list[dict[str, Any]] = []
    with Server() as server:
        for scenario in (listed[name] for name in wanted):
            clients = chosen(arguments, scenario)
            if scenario.is_isolated and not arguments.inside:
                runs += run_isolated(scenario, clients, arguments)
            else:
                runs += run_scenario(server, scenario, clients, arguments.out, arguments.peers)
    if arguments.inside:
        path.write_text(json.dumps(runs))
        return 0
    if arguments.result or not arguments.quick:
        record(runs, listed, arguments.peers, path)
    if not arguments.result and not arguments.quick:
        page.write(json.loads(path.read_text()))
    unlike = differences(runs, listed)
    for line in unlike:
        print(line, file=sys.stderr)
    return 1 if unlike else 0


if __name__ == "__main__":
    sys.exit(main())
