"""The tables in docs/harvest-peers.md, from results.json.

python -m benchmarks.harvest.run --tables
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harvest.roster import ROSTER
from benchmarks.harvest.standing import OURS, Run, Spread, Standing, by_client, spread, standing
from benchmarks.harvest.traces import TOKENS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "harvest-peers.md"
BEGIN, END = "<!-- harvest peers: begin -->", "<!-- harvest peers: end -->"
TIMED = {
    "seconds": "wall s",
    "requests_per_second": "requests/s",
    "occupancy": "slot occupancy",
    "occupancy_of_allowed": "of what is possible",
    "cpu_ms_per_request": "CPU ms a request",
    "process_seconds": "s, whole process",
}
COUNTED = {
    "with_reasoning": "rows kept whole",
    "served": "served",
    "wasted": "wasted",
    "tokens_wasted": "wasted, in traces",
    "refused": "429s",
}
AFTER_A_KILL = {"duplicates": "twice", "unreadable": "lines unreadable", "process_seconds": "s, both processes"}
NAMES = {**TIMED, **COUNTED}


def tables(result: Mapping[str, Any]) -> str:
    """Markdown: what was run on what, where we stand, a table for each scenario."""
    parts = [_preface(result), _standings(result)]
    parts += [_scenario(result, name, about) for name, about in result["scenarios"].items()]
    return "\n\n".join(part for part in parts if part)


def _preface(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    listed = [
        ", ".join(f"{package} {version}" for package, version in packages.items())
        for name, packages in result["clients"].items()
        if packages and ROSTER[name].environment is not None
    ]
    lines = [
        f"{result['date'][:10]}, {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, "
        f"commit {_commit(result['code'])}; {'; '.join(dict.fromkeys(listed))}."
    ]
    if result["contended"]:
        load = f"load {result['load_before']:.1f} before the session"
        lines.append(f"**The machine was not quiet ({load}): the timings are no measurement.**")
    for name, reason in result["not_run"].items():
        lines.append(f"Not run: {ROSTER[name].title} ({reason}).")
    lines += [f"Not alike: {line}." for line in result["differences"]]
    return "\n".join(lines)


def _commit(code: Mapping[str, Any]) -> str:
    return f"{(code['commit'] or 'unknown')[:12]}{' with changes' if code['dirty'] else ''}"


def _standings(result: Mapping[str, Any]) -> str:
    rows = {name: about["rows"] for name, about in result["scenarios"].items()}
    found = standing(result["runs"], rows)
    if not found:
        return ""
    columns = [column for column in NAMES if any(column in each for each in found.values())]
    lines = [
        f"{ROSTER[OURS].title.replace('**', '')} against the best of each column among those that kept every row "
        "whole; bold where it is the best or within 5 % of it:",
        "",
        "| scenario | " + " | ".join(NAMES[column] for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, each in found.items():
        cells = [_standing(column, each.get(column)) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _standing(column: str, found: Standing | None) -> str:
    if found is None:
        return ""
    text = _number(column, found.ours)
    if found.is_within:
        return f"**{text}**"
    return f"{text}; {_number(column, found.best)} {ROSTER[found.by].title.replace('**', '')}"


def _scenario(result: Mapping[str, Any], name: str, about: Mapping[str, Any]) -> str:
    clients = by_client(result["runs"], name)
    is_killed = about["kill"] != "no"
    columns = {**COUNTED, **AFTER_A_KILL} if is_killed else {**TIMED, **COUNTED}
    lines = [
        f"### {name}. {about['title'][0].upper()}{about['title'][1:]}",
        "",
        f"{about['rows']:,} rows, {about['in_flight']} in flight; an ideal client takes "
        f"{about['ideal_seconds']:.2f} s{' undisturbed' if is_killed else ''}.",
        "",
        "| client | runs | " + " | ".join(columns.values()) + " | |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for client, runs in clients.items():
        lost = max(about["rows"] - run["kept"] for run in runs)
        skipped = "occupancy_of_allowed" if lost else ""  # possible is what all the rows take
        cells = [_cell(column, None if column == skipped else spread(runs, column)) for column in columns]
        note = _note(client, runs, lost)
        lines.append(f"| {ROSTER[client].title} | {len(runs)} | " + " | ".join(cells) + f" | {note} |")
    return "\n".join(lines)


def _note(client: str, runs: Sequence[Run], lost: int) -> str:
    notes = [ROSTER[client].note] if ROSTER[client].note else []
    if lost:
        notes.append(f"**loses {lost} rows**")
    if any(run["timed_out"] for run in runs):
        notes.append("stopped at the time limit")
    if reasons := {run["error"] for run in runs if run.get("error")}:
        notes.append(", ".join(f"`{reason}`" for reason in sorted(reasons)))
    return "; ".join(notes)


def _cell(column: str, found: Spread | None) -> str:
    if found is None:
        return "-"
    median = _number(column, found.median)
    ends = [_number(column, value) for value in (found.lowest, found.highest)]
    return median if ends == [median, median] else f"{median} ({ends[0]}-{ends[1]})"


def _number(column: str, value: float) -> str:
    if column.startswith("occupancy"):
        return f"{100 * value:.1f} %"
    if column == "tokens_wasted":
        return f"{value / TOKENS:.1f}"
    if column in ("requests_per_second", "process_seconds"):
        return f"{value:.1f}"
    return f"{value:.2f}" if column in ("seconds", "cpu_ms_per_request") else f"{value:g}"


def write(result: Mapping[str, Any]) -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(result)}\n{END}{rest.split(END)[1]}")
