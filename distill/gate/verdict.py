"""A gate's verdict: PASS, FAIL, INCONCLUSIVE or INVALID, and everything it rests on.

    verdict.outcome, verdict.exit_code, verdict.to_dict()

PASS: every comparison's lower bound reaches zero. FAIL: some comparison's upper bound is below zero. INCONCLUSIVE: the
samples do not say. INVALID: the run may not be judged, and no comparison was made.
Not covered: writing it to files (`report.py`).
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from typing import Any, Literal

from distill.errors import EXIT_GATE_FAILED, EXIT_GATE_INCONCLUSIVE, EXIT_INVALID_RUN, EXIT_OK
from distill.evaluate.result import EvalResult

GateOutcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
EXIT_CODES: dict[GateOutcome, int] = {
    "PASS": EXIT_OK,
    "FAIL": EXIT_GATE_FAILED,
    "INCONCLUSIVE": EXIT_GATE_INCONCLUSIVE,
    "INVALID": EXIT_INVALID_RUN,
}


@dataclass(frozen=True, slots=True)
class ComparisonVerdict:
    """One comparison. `estimate` and bounds are of the student's lead over what was needed; negative is short of it.

    A fixed number of samples gives bounds; rounds give `log_e_pass` and `log_e_fail`, natural logarithms of the
    evidence for either verdict.
    """

    label: str
    against: str
    outcome: GateOutcome
    student: float
    other: float | None
    needed: float
    estimate: float
    lower_bound: float | None
    upper_bound: float | None
    p_value: float
    p_value_fail: float
    alpha: float
    method: str
    note: str = ""
    rounds: int | None = None
    cap_rounds: int | None = None
    log_e_pass: float | None = None
    log_e_fail: float | None = None
    final_test: str = ""

    @property
    def sentence(self) -> str:
        rounds = "" if self.rounds is None else f" after {self.rounds} of at most {self.cap_rounds} rounds"
        bounds = ""
        if self.lower_bound is not None and self.upper_bound is not None:
            bounds = f"one-sided bounds {self.lower_bound:+.3f} and {self.upper_bound:+.3f}, "
        return (
            f"{self.label}: {self.outcome.lower()}{rounds}: student {self.student:.3f}, needed {self.needed:.3f}; "
            f"lead {self.estimate:+.3f}, {bounds}p = {self.p_value:.2g}."
        )


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What was sampled of one model, over all of the gate's tasks, in this run and before."""

    role: str
    model: str
    samples: int
    completion_tokens: int

    @classmethod
    def of(cls, role: str, result: EvalResult, tasks: Sequence[str]) -> ModelUsage:
        counts = [tokens for task in tasks for item in result.tasks[task].items for tokens in item.completion_tokens]
        return cls(role, result.model, len(counts), sum(counts))


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate says of a student."""

    gate: str
    outcome: GateOutcome
    estimand: str
    tasks: tuple[str, ...]
    student_model: str
    comparisons: tuple[ComparisonVerdict, ...]
    reasons: tuple[str, ...]
    """Why the run is invalid; or, in sentences, what each comparison came to."""
    n_items: int
    samples_per_item: int
    resampling_seed: int
    usage: tuple[ModelUsage, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "exit_code": self.exit_code}

    def _repr_html_(self) -> str:
        colour = {"PASS": "#2e7d32", "FAIL": "#c62828"}.get(self.outcome, "#b26a00")
        title = f'<p><b>gate {html.escape(self.gate)}: <span style="color:{colour}">{self.outcome}</span></b></p>'
        if self.outcome == "INVALID":
            return title + "<ul>" + "".join(f"<li>{html.escape(reason)}</li>" for reason in self.reasons) + "</ul>"
        columns, body = table(self.comparisons)
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
        return f"{title}<table><tr>{head}</tr>{rows}</table>"


def table(comparisons: Sequence[ComparisonVerdict]) -> tuple[list[str], list[list[str]]]:
    """Column names and the cells of every row; a column that no comparison fills is left out."""
    rows = [cells(row) for row in comparisons]
    shown = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    return shown, [[row[name] or "-" for name in shown] for row in rows]


def cells(row: ComparisonVerdict) -> dict[str, str]:
    """A comparison as text by column; empty where it has no such figure."""
    return {
        "demand": row.label,
        "outcome": row.outcome,
        "student": f"{row.student:.3f}",
        "needed": f"{row.needed:.3f}",
        "lead": f"{row.estimate:+.3f}",
        "lower bound": "" if row.lower_bound is None else f"{row.lower_bound:+.3f}",
        "upper bound": "" if row.upper_bound is None else f"{row.upper_bound:+.3f}",
        "rounds": "" if row.rounds is None else f"{row.rounds} of {row.cap_rounds}",
        "e to pass": "" if row.log_e_pass is None else e_value(row.log_e_pass),
        "e to fail": "" if row.log_e_fail is None else e_value(row.log_e_fail),
        "p": f"{row.p_value:.2g}",
        "alpha": f"{row.alpha:g}",
    }


def e_value(log_e: float) -> str:
    """Evidence from its natural logarithm, of any size: "27.1", "1e+412"."""
    tens = log_e / log(10)
    return f"{exp(log_e):.3g}" if abs(tens) < 300 else f"1e{tens:+.0f}"
