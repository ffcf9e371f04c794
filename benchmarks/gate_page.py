"""The tables in docs/gates.md, from benchmarks/gate_sequential.json; `python benchmarks/gate_sequential.py --page`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gates.md"
BEGIN, END = "<!-- gate simulation: begin -->", "<!-- gate simulation: end -->"
NAMES = {
    "hybrid": "the gate",
    "betting": "without final share",
    "fixed": "fixed k, z",
    "peeking": "peeking, z",
    "o'brien-fleming": "O'Brien-Fleming",
    "pocock": "Pocock",
}
TARGETS = {0.06: 0.20, 0.10: 0.10}
"""Share of the fixed rounds that may be used at a gap."""
MOST_ERROR = 0.02
Row = dict[str, Any]


def tables(result: Row) -> str:
    """Markdown."""
    parts = [_errors(result), _inside(result)]
    parts += [_rounds(result, gap) for gap in (0.02, 0.03, 0.06, 0.10)]
    return "\n\n".join([*parts, _targets(result), _population(result), _made_with(result)])


def _errors(result: Row) -> str:
    lines = [
        "Wrong verdicts at the bar, in per cent of runs: false PASS / false FAIL, each +- standard error of the "
        f"simulation (alpha {100 * result['alpha']:g} % a side):",
        "",
        *_header("items", "kind", "cap", "runs", *NAMES.values()),
    ]
    for row in _at(result["settings"], 0.0):
        cells = [f"{_share(row, name, 'pass')} / {_share(row, name, 'fail')}" for name in NAMES]
        lines.append(_line(row["items"], row["kind"], row["cap"], f"{row['runs']:,}", *cells))
    return "\n".join(lines)


def _inside(result: Row) -> str:
    lines = [
        "Inside the nulls, one and two points: false PASS below the bar / false FAIL above it, in per cent:",
        "",
        *_header(
            "items", "kind", "cap", *(f"{NAMES[name]}, {gap} pt" for name in ("hybrid", "peeking") for gap in "12")
        ),
    ]
    for row in _at(result["settings"], 0.0):
        cells = []
        for name in ("hybrid", "peeking"):
            for gap in (0.01, 0.02):
                below, above = _like(result, row, -gap), _like(result, row, gap)
                cells.append(f"{_share(below, name, 'pass')} / {_share(above, name, 'fail')}")
        lines.append(_line(row["items"], row["kind"], row["cap"], *cells))
    return "\n".join(lines)


def _rounds(result: Row, gap: float) -> str:
    lines = [
        f"Rounds used at a gap of {100 * gap:.0f} points, mean of a lead and a lag (right verdicts, per cent):",
        "",
        *_header("items", "kind", "cap", *NAMES.values(), "the gate / cap", "least"),
    ]
    for row in _at(result["settings"], 0.0):
        both = _both(result, row, gap)
        cells = [
            f"{_mean(one['designs'][name]['rounds'] for one in both):.1f} "
            f"({100 * _mean(one['designs'][name][_right(one)] for one in both):.1f})"
            for name in NAMES
        ]
        least = max(1.0, _mean(one["least_rounds"] for one in both))
        lines.append(_line(row["items"], row["kind"], row["cap"], *cells, f"{100 * _used(both):.1f} %", f"{least:.1f}"))
    return "\n".join(lines)


def _targets(result: Row) -> str:
    """Which settings meet what was asked for, at 64 rounds."""
    met = targets(result)
    lines = ["What was asked for, at a cap of 64 rounds:", "", *_header("target", "met by", "missed by")]
    for target, found in met.items():
        cells = [
            ", ".join(f"{name} ({value})" for name, value in found[side].items()) or "-" for side in ("met", "missed")
        ]
        lines.append(_line(target, *cells))
    return "\n".join(lines)


def targets(result: Row) -> dict[str, dict[str, dict[str, str]]]:
    """Target -> met or missed -> setting -> value."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    rows = [row for row in _at(result["settings"], 0.0) if row["cap"] == 64]
    for gap, share in TARGETS.items():
        sides = found.setdefault(f"{100 * share:.0f} % of fixed k at {100 * gap:.0f} points", {"met": {}, "missed": {}})
        for row in rows:
            used = _used(_both(result, row, gap))
            sides["met" if used <= share else "missed"][_name(row)] = f"{100 * used:.1f} %"
    sides = found.setdefault(f"realised error under {100 * MOST_ERROR:.0f} % a side", {"met": {}, "missed": {}})
    for row in rows:
        worst = max(row["designs"]["hybrid"][side] for side in ("pass", "fail"))
        sides["met" if worst < MOST_ERROR else "missed"][_name(row)] = f"{100 * worst:.2f} %"
    return found


def _population(result: Row) -> str:
    lines = [
        "Estimand `population`, items drawn anew in each run, cap 16: PASS / FAIL in per cent of runs. Last column: "
        "the test of estimand `benchmark` on the same answers, which was never meant for a claim about new items:",
        "",
        *_header("items", "kind", "n", "gap", "runs", "population", "rounds", "benchmark, misused"),
    ]
    for row in result["population"]:
        cells = [f"{_share(row, name, 'pass')} / {_share(row, name, 'fail')}" for name in ("population", "benchmark")]
        rounds = f"{row['designs']['population']['rounds']:.1f}"
        lines.append(
            _line(
                row["items"], row["kind"], row["n"], f"{100 * row['gap']:+.0f}", row["runs"], cells[0], rounds, cells[1]
            )
        )
    return "\n".join(lines)


def _made_with(result: Row) -> str:
    machine, versions, code = result["machine"], result["versions"], result["code"]
    return (
        f"Seed {result['seed']}; {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"numpy {versions['numpy']}, commit {code['commit'][:10]}; {result['seconds'] / 60:.0f} minutes."
    )


def _at(rows: list[Row], gap: float) -> list[Row]:
    return [row for row in rows if row["gap"] == gap]


def _like(result: Row, row: Row, gap: float) -> Row | None:
    """The same setting at another gap; None where that would be a mean of 1 or more."""
    same = (one for one in result["settings"] if all(one[key] == row[key] for key in ("items", "kind", "cap")))
    return next((one for one in same if one["gap"] == gap), None)


def _both(result: Row, row: Row, gap: float) -> list[Row]:
    return [one for one in (_like(result, row, -gap), _like(result, row, gap)) if one is not None]


def _right(row: Row) -> str:
    return "pass" if row["gap"] > 0 else "fail"


def _used(rows: list[Row]) -> float:
    return _mean(row["designs"]["hybrid"]["share_of_cap"] for row in rows)


def _share(row: Row | None, design: str, side: str) -> str:
    if row is None:
        return "-"
    found = row["designs"][design]
    return f"{100 * found[side]:.2f} +- {100 * found[f'{side}_se']:.2f}"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _name(row: Row) -> str:
    return row["items"] if row["kind"] == "one-sample" else f"{row['items']} paired"


def _header(*names: str) -> list[str]:
    return [_line(*names), "|---" * len(names) + "|"]


def _line(*cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def write_page(result: Row) -> None:
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(result)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
