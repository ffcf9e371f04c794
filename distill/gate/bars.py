"""What a baseline says of a gate's tasks: one bar for every source where sources conflict.

    for bar in bars(gate.name, baseline, ["aime24", "math500"], "pass@1"):
        bar.value, bar.label          # 0.636, "aime24 63.6 (DeepSeek-R1 paper, Table 4)"; 0.7, "aime24 70.0 (...)"

A gate of several tasks compares means over tasks, so a bar is such a mean.
Not covered: whether a baseline has expired (`validity.py`), and what its rows may hold (`distill/published.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.cards import Baseline, PublishedResult
from distill.errors import GateError
from distill.published import published_values, reruns_note, settings_note


@dataclass(frozen=True, slots=True)
class Bar:
    """A published score in the metric's units; `label` says by which source, `rows` are the tasks' rows."""

    value: float
    label: str
    rows: tuple[PublishedResult, ...]

    @property
    def note(self) -> str:
        """What a reader should know of the numbers: conflicts, errors, and what others measured."""
        return "; ".join(filter(None, (each for row in self.rows for each in (_note(row), reruns_note(row)))))

    def settings_note(self, params: Mapping[str, Any], k: int) -> str:
        """How this run's settings differ from the published ones."""
        return " ".join(filter(None, (settings_note(row, params, k) for row in self.rows)))


def bars(gate: str, baseline: Baseline, tasks: Sequence[str], metric: str) -> list[Bar]:
    """One for every source: the rows' own values first. Raises: GateError where the baseline lacks a task's metric."""
    rows = tuple(_row(gate, baseline, task, metric) for task in tasks)
    values = [published_values(baseline, task, metric) for task in tasks]
    found = []
    for number in range(max(map(len, values))):
        chosen = [each[min(number, len(each) - 1)] for each in values]
        label = "; ".join(f"{task} {each.label}" for task, each in zip(tasks, chosen, strict=True))
        found.append(Bar(float(np.mean([each.value for each in chosen])), label, rows))
    return found


def _row(gate: str, baseline: Baseline, task: str, metric: str) -> PublishedResult:
    row = baseline.find(task, metric)
    if row is None:
        known = ", ".join(sorted({f"{result.task} {result.metric}" for result in baseline.results}))
        raise GateError(
            f"gate {gate}: baseline {baseline.name} has no {metric} of task '{task}'; it has {known}. "
            "Choose another baseline, or leave the task or the metric out of the gate."
        )
    return row


def _note(row: PublishedResult) -> str:
    values = sorted({row.value, *(conflict.value for conflict in row.conflicts_with)})
    conflict = f"sources conflict ({', '.join(f'{value:g}' for value in values)})" if len(values) > 1 else ""
    unknown = "its uncertainty is unknown, it counts as exact" if row.standard_error == "unknown" else ""
    said = ", ".join(filter(None, (conflict, unknown)))
    return f"{row.task}: {said}" if said else ""
