"""Teacher tokens per kept trace, adaptive against fixed-N sampling: adaptive_harvest.json, docs/harvest-adaptive.md.

    python benchmarks/adaptive_harvest.py --record DIR   # harvests the embedded teacher in DIR first: about 15 minutes
    python benchmarks/adaptive_harvest.py                # simulates, and plays every plan on what was recorded
    python benchmarks/adaptive_harvest.py --page         # the page again, from the JSON

Recorded: the embedded teacher answers the problems of adaptive_harvest.yaml sixteen times each; the ledger is copied,
and `distill harvest` with an adaptive plan runs on the copy, where it finds every sample that it asks for; and the same
adaptive harvest runs from nothing. Populations, plans and lengths are in `adaptive_sides.py`, the table is made by
`adaptive_page.py`. Not covered: wall clock; a plan that asks in waves keeps fewer requests of a problem in flight.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptive_sides import (
    LIMIT,
    LIMITS,
    RATES,
    Drawable,
    figures,
    plans,
    play,
    population,
)

from distill import provenance
from distill.harvest.policy import Plan
from distill.harvest.prior import fit_prior
from distill.store.ledger import Ledger

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "adaptive_harvest.json"
RECIPE = ROOT / "benchmarks" / "adaptive_harvest.yaml"
SIMULATED = 10_000
RECORDED = 16
"""Samples a problem that are recorded."""
REAL = (8, 2)
"""Samples a problem at most, and traces that are enough, of the harvest that is drawn from nothing."""
HOPELESS = (0.05, 0.1, 0.2, 0.3, 0.5)
FITTED_ON = 200
"""Problems whose counts a prior is fitted to."""


def record(folder: Path) -> dict[str, Any]:
    """The harvests of the embedded teacher; a folder that has them already is only read."""
    fixed = harvested(folder / "fixed")
    with Ledger.open(folder / "fixed" / "ledger.db") as ledger:
        by_problem: dict[str, dict[int, tuple[bool, int]]] = {}
        for sample in ledger.samples():
            outcome = ledger.get_verdicts([sample.key])[sample.key].outcome
            by_problem.setdefault(sample.problem_id, {})[sample.index] = outcome == "correct", sample.completion_tokens
    most, enough = REAL
    adaptive = [f"harvest.samples_per_problem={most}", f"harvest.adaptive={{enough: {enough}, hopeless_below: 0}}"]
    (folder / "replayed").mkdir(exist_ok=True)
    shutil.copy(folder / "fixed" / "ledger.db", folder / "replayed" / "ledger.db")
    return {
        "teacher_fingerprint": fixed["teacher_fingerprint"],
        "fixed": fixed,
        "replayed": harvested(folder / "replayed", *adaptive),
        "from_nothing": harvested(folder / "adaptive", *adaptive),
        "problems": [
            {
                "id": name,
                "right": "".join(str(int(drawn[index][0])) for index in range(RECORDED)),
                "tokens": [drawn[index][1] for index in range(RECORDED)],
            }
            for name, drawn in sorted(by_problem.items())
        ],
    }


def harvested(folder: Path, *overrides: str) -> dict[str, Any]:
    """What `distill harvest` says of itself."""
    settings = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, "-m", "distill", "harvest", str(RECIPE), "--out", str(folder), "--json", *settings]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    summary = json.loads(done.stdout)
    names = ("problems", "problems_covered", "samples", "samples_from_ledger", "completion_tokens", "accepted")
    return {name: summary[name] for name in ("teacher_fingerprint", *names, "outcomes", "settled_by")}


def recorded_population(recorded: dict[str, Any]) -> list[Drawable]:
    return [Drawable([mark == "1" for mark in row["right"]], row["tokens"]) for row in recorded["problems"]]


def compared(problems: Sequence[Drawable], most: int, keep: int, limit: int) -> dict[str, Any]:
    """Every side of one comparison."""
    sides = plans(most, keep, limit)
    if len(problems[0].lengths) < 2 * most:
        del sides["more if rare"]
    spent = {name: [play(problem, plan, keep) for problem in problems] for name, plan in sides.items()}
    return {name: figures(each, spent["fixed"]) for name, each in spent.items()}


def hopeless(problems: Sequence[Drawable], most: int, keep: int, limit: int) -> dict[str, Any]:
    """What the hopeless stop saves and loses, by `hopeless_below`; against fixed sampling too."""
    plan = plans(most, keep, limit)["adaptive"]
    fixed = [play(problem, Plan(most, (limit,)), keep) for problem in problems]
    found = {}
    for below in HOPELESS:
        stopping = replace(plan, hopeless_below=below)
        each = figures([play(problem, stopping, keep) for problem in problems], fixed)
        found[f"{below:g}"] = {name: each[name] for name in ("ratio", "covered_change", "kept_change")}
    return found


def calibration(problems: Sequence[Drawable]) -> dict[str, Any]:
    """How often the 90 % interval holds the rate, under a plan that stops; with the default prior, and a fitted one.

    The prior is fitted to what the plan itself saw of the first problems, and judged on the others.
    """
    plan = Plan(16, (LIMIT,), enough=2)
    first = [play(problem, plan, 2) for problem in problems[:FITTED_ON]]
    fitted = fit_prior((spent.correct, spent.pass_rate.attempts) for spent in first)
    return {
        "default": _held(problems, plan),
        "fitted": {**_held(problems, replace(plan, prior=fitted)), "prior": fitted},
    }


def _held(problems: Sequence[Drawable], plan: Plan) -> dict[str, float]:
    inside, error, width = 0, 0.0, 0.0
    rest = problems[FITTED_ON:]
    for problem in rest:
        assert problem.rate is not None
        rate = play(problem, plan, 2).pass_rate
        inside += rate.low <= problem.rate <= rate.high
        error += (rate.mean - problem.rate) ** 2
        width += rate.high - rate.low
    count = len(rest)
    return {
        "held": round(inside / count, 4),
        "root_mean_square_error": round((error / count) ** 0.5, 4),
        "mean_width": round(width / count, 4),
    }


def measure(recorded: dict[str, Any], count: int = SIMULATED) -> dict[str, Any]:
    """Every comparison on every population."""
    result: dict[str, Any] = {"simulated_problems": count, "recorded": recorded}
    everyone = {name: (population(name, count), LIMIT) for name in RATES}
    everyone["recorded"] = recorded_population(recorded), max(max(row["tokens"]) for row in recorded["problems"])
    result["compared"], result["hopeless"], result["calibration"] = {}, {}, {}
    for name, (problems, limit) in everyone.items():
        limits = [each for each in LIMITS if each[0] <= len(problems[0].lengths)]
        result["compared"][name] = {f"{most}, {keep}": compared(problems, most, keep, limit) for most, keep in limits}
        result["hopeless"][name] = {
            f"{most}, {keep}": hopeless(problems, most, keep, limit) for most, keep in limits if most >= 16
        }
        if name in RATES:
            result["calibration"][name] = calibration(problems)
        print(name, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="DIR", help="harvest the embedded teacher there first")
    parser.add_argument("--page", action="store_true", help="only write the page, from the JSON")
    arguments = parser.parse_args()
    from adaptive_page import write_page

    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if not arguments.page:
        where = {"machine": provenance.machine(), "versions": provenance.versions(), "code": provenance.commit()}
        recorded = record(arguments.record) if arguments.record else before["recorded"]
        before = {"date": provenance.utc_now(), **where, **measure(recorded)}
        RESULT.write_text(compact(before))
    write_page(before)


def compact(result: dict[str, Any]) -> str:
    """JSON with a line for each recorded problem."""
    rows = result["recorded"]["problems"]
    short = {**result, "recorded": {**result["recorded"], "problems": "ROWS"}}
    lines = ",\n".join("   " + json.dumps(row, separators=(",", ":")) for row in rows)
    return json.dumps(short, indent=1).replace('"ROWS"', f"[\n{lines}\n  ]") + "\n"


if __name__ == "__main__":
    main()
