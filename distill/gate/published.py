"""What a baseline says of a gate's tasks: one value for every source where sources conflict.

    for each in published(gate.name, baseline, ["aime24", "math500"], "pass@1"):
        each.value, each.label          # 0.636, "Table 4 and Table 5"; 0.7, "AIME, in the text"

A gate of several tasks compares means over tasks, so a value here is such a mean. Published numbers count as exact.
Not covered: whether a baseline has expired (`validity.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.cards import Baseline, PublishedResult
from distill.errors import GateError


@dataclass(frozen=True, slots=True)
class Published:
    """A published score, as a fraction; `label` says by which source, `note` what a reader should know."""

    value: float
    label: str
    note: str


def published(gate: str, baseline: Baseline, tasks: Sequence[str], metric: str) -> list[Published]:
    """One for every source: the row's own value first. Raises: GateError where the baseline lacks a task's metric."""
    rows = [_row(gate, baseline, task, metric) for task in tasks]
    sources = [_sources(row) for row in rows]
    note = "; ".join(map(_note, rows))
    return [
        Published(
            value=float(np.mean([found[min(number, len(found) - 1)][0] for found in sources])) / 100,
            label="; ".join(
                f"{row.task} {found[min(number, len(found) - 1)][0]:g}, {found[min(number, len(found) - 1)][1]}"
                for row, found in zip(rows, sources, strict=True)
            ),
            note=note,
        )
        for number in range(max(map(len, sources)))
    ]


def _row(gate: str, baseline: Baseline, task: str, metric: str) -> PublishedResult:
    for result in baseline.results:
        if (result.task, result.metric) == (task, metric):
            return result
    known = ", ".join(sorted({f"{result.task} {result.metric}" for result in baseline.results}))
    raise GateError(f"gate {gate}: baseline {baseline.name} has no {metric} of task '{task}'; it has {known}.")


def _sources(row: PublishedResult) -> list[tuple[float, str]]:
    """(value in per cent, table), distinct values only."""
    found = {row.value: row.source.table}
    for conflict in row.conflicts_with:
        found.setdefault(conflict.value, conflict.source.table)
    return list(found.items())


def _note(row: PublishedResult) -> str:
    values = sorted(value for value, _ in _sources(row))
    conflict = f"; sources conflict ({', '.join(f'{value:g}' for value in values)})" if len(values) > 1 else ""
    unknown = "; its uncertainty is unknown, it counts as exact" if row.standard_error == "unknown" else ""
    return f"{row.task}: {row.source.table}{conflict}{unknown}"
