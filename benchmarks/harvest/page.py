"""docs/harvest-peers.md's tables from results.json: one a scenario, medians over the repetitions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harvest.roster import ROSTER

PAGE = Path(__file__).resolve().parents[2] / "docs" / "harvest-peers.md"
BEGIN, END = "<!-- harvest peers: begin -->", "<!-- harvest peers: end -->"
TIMED = (
    "| client | seconds | requests/s | occupancy (of allowed) | rows, whole | served, wasted | CPU ms a request "
    "| in all, s |"
)
KILLED = "| client | rows, whole | unreadable | served, wasted | tokens wasted | both runs, s |"
ISOLATED = "| client | rows, whole | served, wasted | seconds, start to end |"


def table(result: dict[str, Any]) -> str:
    """All tables as Markdown; "" where nothing has been measured."""
    lines: list[str] = []
    for name, scenario in sorted(result["scenarios"].items()):
        runs = [run for run in result["runs"] if run["scenario"] == name]
        if runs:
            lines += ["", *_scenario(name, scenario, runs)]
    if not lines:
        return "Not measured yet."
    machine, code = result["machine"], result["code"]
    versions = [f"{ROSTER[name].title}: {_versions(found)}" for name, found in sorted(result["clients"].items())]
    lines += ["", f"{result['date']}, {machine['cores']} cores of {machine['cpu']}, commit {code['commit']}."]
    lines += ["", *[f"- {line}" for line in versions]]
    if result["differences"]:
        lines += ["", "Not alike in A, B and S, where all had to be:", *[f"- {line}" for line in result["differences"]]]
    return "\n".join(lines).strip()


def _versions(found: dict[str, str] | None) -> str:
    return ", ".join(f"{package} {version}" for package, version in found.items()) if found else "not installed"


def _scenario(name: str, scenario: dict[str, Any], runs: list[dict[str, Any]]) -> list[str]:
    head = f"**{name}**: {scenario['title']}; {scenario['rows']} rows, {scenario['in_flight']} in flight"
    head += f", at the least {scenario['ideal_seconds']:.2f} s"
    heading, row = (TIMED, _timed) if scenario["kill"] == "no" else (KILLED, _killed)
    if scenario["is_isolated"]:
        heading, row = ISOLATED, _isolated
    lines = [head, "", heading, "|" + "---|" * (heading.count("|") - 1)]
    for client in dict.fromkeys(run["client"] for run in runs):
        cells = row([run for run in runs if run["client"] == client])
        lines.append(f"| {ROSTER[client].title} | " + " | ".join(cells) + " |")
    return lines


def _timed(runs: Sequence[dict[str, Any]]) -> list[str]:
    if not all("seconds" in run for run in runs):
        return ["did not start", "", "", _rows(runs), _served(runs), "", spread(runs, "process_seconds", 1)]
    if any(2 * run["kept"] < run["rows"] for run in runs):
        return ["ended early", "", "", _rows(runs), _served(runs), "", spread(runs, "process_seconds", 1)]
    share, allowed = spread(runs, "occupancy", 1, 100), spread(runs, "occupancy_of_allowed", 1, 100)
    return [
        spread(runs, "seconds", 2),
        spread(runs, "requests_per_second", 0),
        f"{share} % ({allowed} %)",
        _rows(runs),
        _served(runs),
        spread(runs, "cpu_ms_per_request", 2),
        f"{spread(runs, 'process_seconds', 1)}{' (stopped)' if any(run['timed_out'] for run in runs) else ''}",
    ]


def _killed(runs: Sequence[dict[str, Any]]) -> list[str]:
    stopped = " (stopped)" if any(run["timed_out"] for run in runs) else ""
    lost = spread(runs, "tokens_wasted", 0)
    return [
        _rows(runs),
        spread(runs, "unreadable", 0),
        _served(runs),
        lost,
        spread(runs, "process_seconds", 1) + stopped,
    ]


def _isolated(runs: Sequence[dict[str, Any]]) -> list[str]:
    return [_rows(runs), _served(runs), spread(runs, "process_seconds", 1)]


def _rows(runs: Sequence[dict[str, Any]]) -> str:
    return f"{spread(runs, 'kept', 0)}, {spread(runs, 'with_reasoning', 0)}"


def _served(runs: Sequence[dict[str, Any]]) -> str:
    return f"{spread(runs, 'served', 0)}, {spread(runs, 'wasted', 0)}"


def spread(runs: Sequence[dict[str, Any]], figure: str, digits: int, factor: float = 1) -> str:
    """Median, and lowest-highest where they print differently."""
    values = [factor * run[figure] for run in runs]
    shown = [f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))]
    return shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]}-{shown[2]})"


def write(result: dict[str, Any]) -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{rest.split(END)[1]}")
