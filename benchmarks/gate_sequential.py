"""Error rates and rounds of the sequential gate beside fixed size, peeking and group-sequential designs, by simulation.

    python benchmarks/gate_sequential.py            # ten and a half minutes of one core; writes the JSON
    python benchmarks/gate_sequential.py --table    # the tables, from the JSON

A setting is an item set, one-sample or paired, a cap, and a true gap: the true mean minus the bar. A gap of 0 or less
makes PASS an error, one of 0 or more makes FAIL one. Rounds are of one completion of every item (paired: of each
model). `betting` is the sequential test without its final share, `hybrid` the default; both are read from one run of
`distill.gate.eprocess.EProcess`, the code that a gate runs. Standard errors are of the simulation itself.
Not covered: servers that repeat seeds, and answers that depend on one another, which no test here survives.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

from gate_designs import ItemSet, UsualDesigns, item_sets, least_rounds, shifted  # noqa: E402

from distill import provenance  # noqa: E402
from distill.gate.demand import Demand  # noqa: E402
from distill.gate.eprocess import Betting, EProcess, Floats  # noqa: E402
from distill.gate.population import PopulationEProcess  # noqa: E402

RESULT = ROOT / "benchmarks" / "gate_sequential.json"
ALPHA = 0.05
FIXED_ROUNDS = 64
GAPS = (-0.10, -0.06, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03, 0.06, 0.10)
PAIRED_MARGIN = 0.05
CELLS_AT_BAR = 40_000_000
CELLS_ELSEWHERE = 6_000_000
"""Simulated answers of a setting: they set its number of simulations."""
MOST_RUNS, BATCH_CELLS = 20_000, 60_000
QUICK_SHARE = 0.004
SHORTER_CAPS = {"GPQA-like": 16, "MATH-like": 8}
Draw = Callable[[np.random.Generator, int], Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Few simulations of each setting: seconds, for the test.")
    parser.add_argument("--table", action="store_true", help="Only print the tables of the JSON.")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--seed", type=int, default=20261124)
    arguments = parser.parse_args()
    if not arguments.table:
        made_with = {"machine": provenance.machine(), "versions": provenance.versions(), "code": provenance.commit()}
        found = simulate_all(arguments.seed, share=QUICK_SHARE if arguments.quick else 1.0)
        arguments.out.write_text(json.dumps(found | made_with, indent=1) + "\n", encoding="utf-8")
    print(tables(json.loads(arguments.out.read_text(encoding="utf-8"))))


def simulate_all(seed: int, *, share: float) -> dict[str, Any]:
    """Every setting; `share` of the full number of simulations."""
    started = time.monotonic()
    rows, populations = [], []
    for number, (items, kind, cap) in enumerate(settings()):
        for gap in GAPS:
            if items.bar + gap < 0.995:
                rng = np.random.default_rng([seed, number, round(100 * gap) + 100])
                rows.append(simulate(items, kind, cap, gap, rng, share=share))
                print(_progress(rows[-1]), file=sys.stderr, flush=True)
    for number, name in enumerate(("AIME-like", "GPQA-like", "flat")):
        for gap in (-0.10, 0.0, 0.10):
            rng = np.random.default_rng([seed, 1000 + number, round(100 * gap) + 100])
            populations.append(simulate_population(item_sets()[name], gap, rng, share=share))
    return {
        "alpha": ALPHA,
        "final_share": Demand.__dataclass_fields__["final_share"].default,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "settings": rows,
        "population": populations,
    }


def settings() -> list[tuple[ItemSet, str, int]]:
    """(items, kind, cap): every item set at 64 rounds, both kinds; the large sets also at caps that one would use."""
    sets = item_sets()
    found = [(items, kind, FIXED_ROUNDS) for kind in ("one-sample", "paired") for items in sets.values()]
    return found + [(sets[name], "one-sample", cap) for name, cap in SHORTER_CAPS.items()]


def simulate(
    items: ItemSet, kind: str, cap: int, gap: float, rng: np.random.Generator, *, share: float
) -> dict[str, Any]:
    """One setting: outcome shares and rounds of every design."""
    draw, bar = _answers(items, kind, gap)
    cells = CELLS_ELSEWHERE if gap else CELLS_AT_BAR
    runs = int(np.clip(share * cells / (len(items.chances) * cap), 8, share * MOST_RUNS + 8))
    per_batch = max(8, BATCH_CELLS // len(items.chances))
    found: dict[str, list[tuple[Floats, Floats]]] = {}
    for start in range(0, runs, per_batch):
        for name, outcome in _batch(draw, min(per_batch, runs - start), len(items.chances), bar, cap, rng).items():
            found.setdefault(name, []).append(outcome)
    designs = {name: _summary(*map(np.concatenate, zip(*parts, strict=True)), cap) for name, parts in found.items()}
    bound = None
    if kind == "one-sample" and gap:
        bound = round(least_rounds(shifted(items.chances, items.bar + gap), items.bar, ALPHA), 2)
    return {
        "items": items.name,
        "n": len(items.chances),
        "kind": kind,
        "cap": cap,
        "gap": gap,
        "runs": runs,
        "least_rounds": bound,
        "designs": designs,
    }


def _answers(items: ItemSet, kind: str, gap: float) -> tuple[Draw, float]:
    """A source of rounds with values in [0, 1], and the bar for them."""
    if kind == "one-sample":
        chances = shifted(items.chances, items.bar + gap)
        return (lambda rng, batch: (rng.random((batch, len(chances))) < chances).astype(float)), items.bar
    other = shifted(items.chances, items.bar)
    student = shifted(items.chances, items.bar - PAIRED_MARGIN + gap)

    def draw(rng: np.random.Generator, batch: int) -> Floats:
        wins = (rng.random((batch, len(other))) < student).astype(float)
        return (wins - (rng.random((batch, len(other))) < other) + 1) / 2

    return draw, (1 - PAIRED_MARGIN) / 2


def _batch(
    draw: Draw, batch: int, num_items: int, bar: float, cap: int, rng: np.random.Generator
) -> dict[str, tuple[Floats, Floats]]:
    """(outcome, rounds) of every run under every design."""
    betting = Betting(ALPHA, cap, Demand.__dataclass_fields__["final_share"].default)
    sides = [EProcess(bar, num_items, betting, batch=batch), EProcess(1 - bar, num_items, betting, batch=batch)]
    usual = UsualDesigns(batch, num_items, bar, ALPHA, cap)
    found = {name: (np.zeros(batch), np.full(batch, float(cap))) for name in ("betting", "hybrid")}
    open_runs = np.arange(batch)  # runs that `betting` or `hybrid` has not decided
    for at in range(1, cap + 1):
        values = draw(rng, batch)
        usual.update(values)
        if len(open_runs):
            sides[0].update(values[open_runs])
            sides[1].update(1 - values[open_runs])
            growth = [np.logaddexp.reduce(side.log_growth, axis=1) for side in sides]
            _decide(found["betting"], open_runs, growth, at)
            _decide(found["hybrid"], open_runs, [side.log_e for side in sides], at)
            keep = (found["betting"][0][open_runs] == 0) | (found["hybrid"][0][open_runs] == 0)
            if keep.mean() < 0.8:
                open_runs = open_runs[keep]
                for side in sides:
                    _keep(side, keep)
    for name in usual.names:
        found[name] = (usual.outcome[name].astype(float), usual.stopped[name].astype(float))
    return found


def _decide(found: tuple[Floats, Floats], open_runs: Any, log_e: list[Floats], at: int) -> None:
    outcome, rounds = found
    threshold = log(1 / ALPHA)
    now = (np.maximum(log_e[0], log_e[1]) >= threshold) & (outcome[open_runs] == 0)
    outcome[open_runs[now]] = np.where(log_e[0] >= log_e[1], 1, -1)[now]
    rounds[open_runs[now]] = at


def _keep(process: EProcess, keep: Any) -> None:
    process.sums, process.squares = process.sums[keep], process.squares[keep]
    process.log_growth, process.log_final = process.log_growth[keep], process.log_final[keep]


def _summary(outcome: Floats, rounds: Floats, cap: int) -> dict[str, Any]:
    passed, failed = float(np.mean(outcome > 0)), float(np.mean(outcome < 0))
    return {
        "pass": round(passed, 5),
        "pass_se": _standard_error(passed, len(outcome)),
        "fail": round(failed, 5),
        "fail_se": _standard_error(failed, len(outcome)),
        "undecided": round(1 - passed - failed, 5),
        "rounds": round(float(rounds.mean()), 2),
        "rounds_se": round(float(rounds.std() / sqrt(len(rounds))), 3),
        "rounds_p90": float(np.percentile(rounds, 90)),
        "share_of_cap": round(float(rounds.mean()) / cap, 4),
    }


def _standard_error(share: float, runs: int) -> float:
    """Of a simulated share; at a share of 0 that of one run more."""
    at_least = max(share, 1 / runs)
    return round(sqrt(at_least * (1 - min(share, 1 - 1 / runs)) / runs), 5)


def simulate_population(items: ItemSet, gap: float, rng: np.random.Generator, *, share: float) -> dict[str, Any]:
    """Estimand `population`: every run draws its items anew from those of the set, with mean bar + gap."""
    cap, num_items = 16, len(items.chances)
    pool = shifted(items.chances, items.bar + gap)
    runs = int(max(8, share * 1_500_000 / num_items))
    runs = min(runs, int(share * 4000) + 8)
    chances = rng.choice(pool, size=(runs, num_items))
    names = [str(at) for at in range(num_items)]
    betting = Betting(ALPHA, cap, Demand.__dataclass_fields__["final_share"].default)
    sides = [
        PopulationEProcess(bar, ["t"] * num_items, names, betting, batch=runs) for bar in (items.bar, 1 - items.bar)
    ]
    outcome = (np.zeros(runs), np.full(runs, float(cap)))
    for at in range(1, cap + 1):
        values = (rng.random(chances.shape) < chances).astype(float)
        sides[0].update(values)
        sides[1].update(1 - values)
        _decide(outcome, np.arange(runs), [side.log_e for side in sides], at)
    return {
        "items": items.name,
        "n": num_items,
        "cap": cap,
        "gap": gap,
        "runs": runs,
        "hybrid": _summary(*outcome, cap),
    }


def _progress(row: dict[str, Any]) -> str:
    hybrid = row["designs"]["hybrid"]
    return (
        f"{row['items']} {row['kind']} cap {row['cap']} gap {row['gap']:+.2f}: {row['runs']} runs, "
        f"pass {hybrid['pass']:.4f}, fail {hybrid['fail']:.4f}, {hybrid['rounds']:.1f} rounds"
    )


DESIGNS = ("hybrid", "betting", "fixed", "peeking", "o'brien-fleming", "pocock")


def tables(found: dict[str, Any]) -> str:
    """Markdown: wrong verdicts at the bar and inside the nulls, rounds at gaps, and the population estimand."""
    return "\n\n".join((_error_table(found), _rounds_table(found), _population_table(found)))


def _error_table(found: dict[str, Any]) -> str:
    lines = [
        "Wrong verdicts in per cent (PASS + FAIL at the bar; the one that is wrong a point inside), +- standard error",
        "",
        _row("items", "kind", "cap", "gap", "runs", *DESIGNS),
        _row(*["---"] * (5 + len(DESIGNS))),
    ]
    for row in found["settings"]:
        if abs(row["gap"]) < 0.015:
            cells = [_wrong(row, row["designs"][name]) for name in DESIGNS]
            lines.append(_row(row["items"], row["kind"], row["cap"], f"{row['gap']:+.2f}", row["runs"], *cells))
    return "\n".join(lines)


def _wrong(row: dict[str, Any], design: dict[str, Any]) -> str:
    sides = [side for side, is_wrong in (("pass", row["gap"] <= 0), ("fail", row["gap"] >= 0)) if is_wrong]
    return " + ".join(f"{100 * design[side]:.2f} +- {100 * design[f'{side}_se']:.2f}" for side in sides)


def _rounds_table(found: dict[str, Any]) -> str:
    lines = [
        "Mean rounds (right verdicts, per cent); least: no test that is always right at alpha can need fewer",
        "",
        _row("items", "kind", "cap", "gap", "least", *DESIGNS, "hybrid / cap"),
        _row(*["---"] * (6 + len(DESIGNS))),
    ]
    for row in found["settings"]:
        if abs(row["gap"]) > 0.015:
            right = "pass" if row["gap"] > 0 else "fail"
            cells = [f"{d['rounds']:.1f} ({100 * d[right]:.1f})" for d in (row["designs"][name] for name in DESIGNS)]
            share = f"{100 * row['designs']['hybrid']['share_of_cap']:.1f} %"
            least = "" if row["least_rounds"] is None else f"{max(1.0, row['least_rounds']):.1f}"
            lines.append(_row(row["items"], row["kind"], row["cap"], f"{row['gap']:+.2f}", least, *cells, share))
    return "\n".join(lines)


def _population_table(found: dict[str, Any]) -> str:
    lines = [
        "Estimand `population`, items drawn anew in each run, cap 16: per cent of runs",
        "",
        _row("items", "n", "gap", "runs", "PASS", "FAIL", "undecided", "rounds"),
        _row(*["---"] * 8),
    ]
    for row in found["population"]:
        shares = [f"{100 * row['hybrid'][name]:.2f}" for name in ("pass", "fail", "undecided")]
        lines.append(
            _row(row["items"], row["n"], f"{row['gap']:+.2f}", row["runs"], *shares, f"{row['hybrid']['rounds']:.1f}")
        )
    return "\n".join(lines)


def _row(*cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
