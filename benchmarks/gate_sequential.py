"""Error rates and rounds of the sequential gate beside fixed size, peeking and group-sequential designs, by simulation.

    python benchmarks/gate_sequential.py --jobs 2   # eleven minutes of two cores; writes the JSON and docs/gates.md
    python benchmarks/gate_sequential.py --page     # the page again, from the JSON

A setting is an item set, one-sample or paired, a cap, and a true gap: the true mean minus the bar. A gap of 0 or less
makes PASS an error, one of 0 or more makes FAIL one. Rounds are of one completion of every item (paired: of each
model). `betting` is the sequential test without its final share, `hybrid` the default; both are read from one run of
`distill.gate.eprocess.EProcess`, the code that a gate runs. Standard errors are of the simulation itself. Every
setting has a random stream of its own, so that the number of jobs changes nothing.
Not covered: servers that repeat seeds, and answers that depend on one another, which no test here survives.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
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
FINAL_SHARE: float = Demand.__dataclass_fields__["final_share"].default
FIXED_ROUNDS = 64
GAPS = (-0.10, -0.06, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03, 0.06, 0.10)
POPULATION_GAPS = (-0.10, -0.06, -0.01, 0.0, 0.01, 0.06, 0.10)
PAIRED_MARGIN = 0.05
CELLS_AT_BAR = 40_000_000
CELLS_ELSEWHERE = 6_000_000
"""Simulated answers of a setting: they set its number of simulations."""
MOST_RUNS, BATCH_CELLS = 20_000, 60_000
POPULATION_CAP, POPULATION_RUNS = 16, 4000
QUICK_SHARE = 0.002
SHORTER_CAPS = {"GPQA-like": 16, "MATH-like": 8}
Draw = Callable[[np.random.Generator, int], Floats]
Setting = tuple[str, str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Few simulations of each setting: seconds, for the test.")
    parser.add_argument("--page", action="store_true", help="Only write docs/gates.md from the JSON.")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261124)
    arguments = parser.parse_args()
    if not arguments.page:
        made_with = {"machine": provenance.machine(), "versions": provenance.versions(), "code": provenance.commit()}
        found = simulate_all(arguments.seed, share=QUICK_SHARE if arguments.quick else 1.0, jobs=arguments.jobs)
        arguments.out.write_text(json.dumps(found | made_with, indent=1) + "\n", encoding="utf-8")
    if arguments.out == RESULT:
        from gate_page import write_page

        write_page(json.loads(RESULT.read_text(encoding="utf-8")))


def simulate_all(seed: int, *, share: float, jobs: int = 1) -> dict[str, Any]:
    """Every setting; `share` of the full number of simulations."""
    started = time.monotonic()
    sets = item_sets()
    asked = [
        (setting, gap, [seed, number, round(100 * gap) + 100], share)
        for number, setting in enumerate(settings())
        for gap in GAPS
        if sets[setting[0]].bar + gap < 0.995
    ]
    populations = [
        (setting, gap, [seed, 1000 + number, round(100 * gap) + 100], share)
        for number, setting in enumerate(population_settings())
        for gap in POPULATION_GAPS
        if sets[setting[0]].bar + gap < 0.995
    ]
    if jobs == 1:
        rows, of_populations = list(map(_row, asked)), list(map(_population_row, populations))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            waiting = pool.map(_population_row, populations)
            rows, of_populations = list(pool.map(_row, asked)), list(waiting)
    return {
        "alpha": ALPHA,
        "final_share": FINAL_SHARE,
        "paired_margin": PAIRED_MARGIN,
        "seed": seed,
        "jobs": jobs,
        "seconds": round(time.monotonic() - started, 1),
        "settings": rows,
        "population": of_populations,
    }


def settings() -> list[Setting]:
    """(items, kind, cap): every item set at 64 rounds, both kinds; the large sets also at caps that one would use."""
    found = [(items, kind, FIXED_ROUNDS) for kind in ("one-sample", "paired") for items in item_sets()]
    return found + [(items, "one-sample", cap) for items, cap in SHORTER_CAPS.items()]


def population_settings() -> list[Setting]:
    return [(items, kind, POPULATION_CAP) for kind in ("one-sample", "paired") for items in item_sets()]


def _row(asked: tuple[Setting, float, list[int], float]) -> dict[str, Any]:
    (items, kind, cap), gap, seed, share = asked
    row = simulate(item_sets()[items], kind, cap, gap, np.random.default_rng(seed), share=share)
    hybrid = row["designs"]["hybrid"]
    print(
        f"{items} {kind} cap {cap} gap {gap:+.2f}: {row['runs']} runs, pass {hybrid['pass']:.4f}, "
        f"fail {hybrid['fail']:.4f}, {hybrid['rounds']:.1f} rounds",
        file=sys.stderr,
        flush=True,
    )
    return row


def _population_row(asked: tuple[Setting, float, list[int], float]) -> dict[str, Any]:
    (items, kind, _), gap, seed, share = asked
    return simulate_population(item_sets()[items], kind, gap, np.random.default_rng(seed), share=share)


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
    return {
        "items": items.name,
        "n": len(items.chances),
        "kind": kind,
        "cap": cap,
        "gap": gap,
        "runs": runs,
        "least_rounds": round(least_rounds(*_truth(items, kind, gap), ALPHA), 2) if gap else None,
        "designs": designs,
    }


def _truth(items: ItemSet, kind: str, gap: float) -> tuple[Floats, Floats | None, float]:
    """Chances of the student, of the other model (paired), and the bar for the mean of (the difference of) the two."""
    if kind == "one-sample":
        return shifted(items.chances, items.bar + gap), None, items.bar
    return shifted(items.chances, items.bar - PAIRED_MARGIN + gap), shifted(items.chances, items.bar), -PAIRED_MARGIN


def _answers(items: ItemSet, kind: str, gap: float) -> tuple[Draw, float]:
    """A source of rounds with values in [0, 1], and the bar for them."""
    student, other, bar = _truth(items, kind, gap)
    return (lambda rng, batch: _values(rng, np.broadcast_to(student, (batch, len(student))), other)), (
        bar if other is None else (1 + bar) / 2
    )


def _values(rng: np.random.Generator, student: Floats, other: Floats | None) -> Floats:
    """One answer of every item: 0 or 1; paired, (student - other + 1) / 2."""
    answers = (rng.random(student.shape) < student).astype(float)
    return answers if other is None else (answers - (rng.random(student.shape) < other) + 1) / 2


def _batch(
    draw: Draw, batch: int, num_items: int, bar: float, cap: int, rng: np.random.Generator
) -> dict[str, tuple[Floats, Floats]]:
    """(outcome, rounds) of every run under every design."""
    betting = Betting(ALPHA, cap, FINAL_SHARE)
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


def simulate_population(
    items: ItemSet, kind: str, gap: float, rng: np.random.Generator, *, share: float
) -> dict[str, Any]:
    """Estimand `population`: every run draws its items anew from those of the set, with mean bar + gap.

    `benchmark` is the other estimand's test on the same answers, for a claim that it does not make.
    """
    student, other, bar = _truth(items, kind, gap)
    bar = bar if other is None else (1 + bar) / 2
    num_items, runs = len(student), int(share * POPULATION_RUNS) + 8
    drawn = rng.integers(num_items, size=(runs, num_items))
    names, betting = [str(at) for at in range(num_items)], Betting(ALPHA, POPULATION_CAP, FINAL_SHARE)
    tests: dict[str, list[Any]] = {
        "population": [PopulationEProcess(x, ["t"] * num_items, names, betting, batch=runs) for x in (bar, 1 - bar)],
        "benchmark": [EProcess(x, num_items, betting, batch=runs) for x in (bar, 1 - bar)],
    }
    found = {name: (np.zeros(runs), np.full(runs, float(POPULATION_CAP))) for name in tests}
    for at in range(1, POPULATION_CAP + 1):
        values = _values(rng, student[drawn], None if other is None else other[drawn])
        for name, sides in tests.items():
            sides[0].update(values)
            sides[1].update(1 - values)
            _decide(found[name], np.arange(runs), [side.log_e for side in sides], at)
    return {
        "items": items.name,
        "n": num_items,
        "kind": kind,
        "cap": POPULATION_CAP,
        "gap": gap,
        "runs": runs,
        "designs": {name: _summary(*outcome, POPULATION_CAP) for name, outcome in found.items()},
    }


if __name__ == "__main__":
    main()
