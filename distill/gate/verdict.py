"""A gate's verdict: PASS, FAIL, INCONCLUSIVE or INVALID, and everything it rests on.

    verdict.outcome, verdict.exit_code, verdict.to_dict()

PASS: every comparison certainly holds. FAIL: some comparison certainly does not. INCONCLUSIVE: the samples do not say.
INVALID: the run may not be judged.
Not covered: writing it to files (`report.py`).
"""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from distill.errors import EXIT_GATE_FAILED, EXIT_GATE_INCONCLUSIVE, EXIT_INFRASTRUCTURE, EXIT_INVALID_RUN, EXIT_OK

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

    A comparison of fixed samples has bounds; a sequential one has rounds and evidence.
    """

    label: str
    against: str
    outcome: GateOutcome
    student: float
    other: float | None
    needed: float
    estimate: float
    p_value: float
    p_value_fail: float
    alpha: float
    method: str
    lower_bound: float | None = None
    upper_bound: float | None = None
    note: str = ""
    metric: str = "pass@1"
    alpha_fail: float | None = None
    rounds: int | None = None
    cap_rounds: int | None = None
    decided_at_round: int | None = None
    rounds_to_decision: int | None = None
    """About how many more rounds would decide, if the score so far is the true one."""
    log_e_pass: float | None = None
    """Natural logarithm of the evidence for PASS; decided at log(1 / alpha)."""
    log_e_fail: float | None = None
    final_test: str | None = None
    """Of the evidence: "none", "unspent", or "spent" once the cap that it was planned for is reached."""

    @property
    def sentence(self) -> str:
        scores = f"student {self._shown(self.student)}, needed {self._shown(self.needed)}"
        start = f"{self.label}: {self.outcome.lower()}"
        if self.rounds is None:
            bounds = f"one-sided bounds {self.lower_bound:+.3f} and {self.upper_bound:+.3f}"
            return f"{start}: {scores}; lead {self.estimate:+.3f}, {bounds}, p = {self.p_value:.2g}."
        spent = "; the final test at the cap is spent" if self.final_test == "spent" else ""
        more = f"; about {self.rounds_to_decision} more rounds would decide" if self.rounds_to_decision else ""
        return (
            f"{start} after {self.rounds} of at most {self.cap_rounds} rounds: {scores}; "
            f"p = {self.p_value:.2g} to pass, {self.p_value_fail:.2g} to fail{spent}{more}."
        )

    def _shown(self, score: float) -> str:
        return f"{score:.0f} tokens" if self.metric == "mean_tokens" else f"{score:.3f}"


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
    notes: tuple[str, ...] = ()
    """What a reader should know that changes no verdict."""
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By role: model, sampling, rounds, completion tokens (drawn now, and in all) and scores of each task."""
    anchors: tuple[dict[str, Any], ...] = ()
    """Models with a published row that were scored in the same run: what this harness makes of them."""
    stopped_by: str | None = None
    """Of a sequential gate: `verdict`, `cap` (rounds), `budget` (tokens), `samples` (no more recorded), `invalid`."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """State of a sequential gate; the next run goes on from it."""

    @property
    def exit_code(self) -> int:
        """The outcome's; out of tokens before a verdict is what a budget is everywhere: infrastructure."""
        if self.outcome == "INCONCLUSIVE" and self.stopped_by == "budget":
            return EXIT_INFRASTRUCTURE
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "exit_code": self.exit_code}

    def _repr_html_(self) -> str:
        colour = {"PASS": "#2e7d32", "FAIL": "#c62828"}.get(self.outcome, "#b26a00")
        title = f'<p><b>gate {html.escape(self.gate)}: <span style="color:{colour}">{self.outcome}</span></b></p>'
        if self.outcome == "INVALID":
            return title + "<ul>" + "".join(f"<li>{html.escape(reason)}</li>" for reason in self.reasons) + "</ul>"
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(row)) + "</tr>"
            for row in self.comparisons
        )
        return f"{title}<table><tr>{head}</tr>{rows}</table>"


COLUMNS = ("demand", "outcome", "student", "needed", "lead", "bounds or rounds", "p pass", "p fail", "alpha")


def cells(row: ComparisonVerdict) -> list[str]:
    """A comparison as table cells, in the order of `COLUMNS`."""
    figure = "{:.0f}" if row.metric == "mean_tokens" else "{:.3f}"
    bounds = f"{row.rounds} of {row.cap_rounds}"
    if row.lower_bound is not None and row.upper_bound is not None:
        bounds = f"{row.lower_bound:+.3f} to {row.upper_bound:+.3f}"
    return [
        row.label,
        row.outcome,
        figure.format(row.student),
        figure.format(row.needed),
        figure.replace(":", ":+").format(row.estimate),
        bounds,
        f"{row.p_value:.2g}",
        f"{row.p_value_fail:.2g}",
        f"{row.alpha:g}",
    ]
