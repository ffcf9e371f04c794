"""Medians over the repetitions, and where this toolkit's side stands in each column.

    found = standing(results["runs"])       # {scenario: {column: Standing}}

The best of a column is taken among the clients that kept every row of the scenario with its reasoning in every
repetition: what a client saves by losing rows is no saving. Of this toolkit's two sides the library is what stands
against the peers' library calls; the command line also verifies every row, which no peer does.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Run = Mapping[str, Any]
OURS = "distill-engine"
WITHIN = 0.05
COLUMNS: dict[str, Literal["low", "high"]] = {
    "seconds": "low",
    "requests_per_second": "high",
    "occupancy_of_allowed": "high",
    "with_reasoning": "high",
    "wasted": "low",
    "tokens_wasted": "low",
    "cpu_ms_per_request": "low",
    "process_seconds": "low",
}


@dataclass(frozen=True)
class Spread:
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Standing:
    """Ours against the best of a column; `by` is who that is."""

    ours: float
    best: float
    by: str
    is_within: bool


def by_client(runs: Iterable[Run], scenario: str) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run["scenario"] == scenario:
            found.setdefault(run["client"], []).append(run)
    return found


def spread(runs: Sequence[Run], column: str) -> Spread | None:
    """None where a repetition has no such figure."""
    values = [run.get(column) for run in runs]
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def keeps_all(runs: Sequence[Run], rows: int) -> bool:
    """Every row whole, once, in every repetition."""
    return all(run["with_reasoning"] == rows and not run["duplicates"] and not run["wrong"] for run in runs)


def standing(runs: Sequence[Run], rows: Mapping[str, int], ours: str = OURS) -> dict[str, dict[str, Standing]]:
    """By scenario and column; scenarios without our side, or where nobody kept all rows, are left out."""
    found: dict[str, dict[str, Standing]] = {}
    for scenario, count in rows.items():
        clients = by_client(runs, scenario)
        whole = {name: each for name, each in clients.items() if keeps_all(each, count)}
        if ours not in clients or not whole:
            continue
        found[scenario] = {}
        for column, direction in COLUMNS.items():
            mine = spread(clients[ours], column)
            medians = {name: figure.median for name, each in whole.items() if (figure := spread(each, column))}
            if mine is None or not medians:
                continue
            by = (min if direction == "low" else max)(medians, key=lambda name: medians[name])
            is_within = _is_within(mine.median, medians[by], direction)
            found[scenario][column] = Standing(mine.median, medians[by], by, is_within)
    return found


def _is_within(ours: float, best: float, direction: Literal["low", "high"]) -> bool:
    return ours <= best * (1 + WITHIN) if direction == "low" else ours >= best * (1 - WITHIN)
