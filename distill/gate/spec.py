"""What a gate demands: a YAML file in `eval/gates/`, strict.

    gate = load_gate("quickstart")

    kind: gate
    name: quickstart
    tasks: [tiny]
    metric: pass@1
    estimand: population
    comparisons:
      - {against: teacher, ratio: 0.85}        # student >= 0.85 x teacher
      - {against: base, ratio: 3.0}
      - {against: constant, minimum: 0.5}
      - {against: baseline, baseline: o1-mini, margin: 0.02}
      - {against: checkpoint, margin: 0.02, method: sequential, alpha_fail: 0.05}
    budget: {max_rounds: 64, max_completion_tokens: 20000000}
    validity: {max_truncation_rate: 0.1}

Every comparison must hold, each at its own alpha; that needs no correction, since a student passes wrongly only if it
passes a comparison that it should not. Not covered: deciding (`decide.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from distill import catalog
from distill.cards import Count, FileModel
from distill.config import Strict
from distill.gate.demand import Demand, FailsBelow, against_constant, against_model
from distill.gate.statistics import Estimand, Method

Against = Literal["base", "teacher", "checkpoint", "baseline", "constant"]
MODELS: tuple[Against, ...] = ("base", "teacher", "checkpoint")
"""Compared with item by item; `checkpoint` is an earlier student."""
Rate = Annotated[float, Field(ge=0, le=1)]


class Comparison(Strict):
    """student >= ratio x other - margin, or student >= minimum."""

    against: Against
    baseline: str | None = None
    """Name in the catalogue, for `against: baseline`."""
    ratio: Annotated[float, Field(gt=0)] | None = None
    margin: Rate | None = None
    minimum: Rate | None = None
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """One-sided: the chance of passing a student that is exactly at the bar."""
    alpha_fail: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """One-sided, `sequential` only: the chance that the gate fails a student that meets every demand; null is alpha."""
    fails_below: FailsBelow = "bar"
    """`sequential` only: `reference` fails a student that is certainly below the reference, within the margin too."""
    method: Method | Literal["sequential"] = "bootstrap"

    @model_validator(mode="after")
    def _fits_together(self) -> Comparison:
        wanted = {"constant": ("minimum",), "baseline": ("baseline",)}.get(self.against, ())
        allowed = {"constant": ("minimum",), "baseline": ("baseline", "ratio", "margin")}
        for name in ("baseline", "ratio", "margin", "minimum"):
            given = getattr(self, name) is not None
            if name in wanted and not given:
                raise ValueError(f"against {self.against} needs '{name}'.")
            if given and name not in allowed.get(self.against, ("ratio", "margin")):
                raise ValueError(f"'{name}' has no meaning against {self.against}; remove it.")
        if self.method != "sequential" and (self.alpha_fail is not None or self.fails_below != "bar"):
            raise ValueError("'alpha_fail' and 'fails_below' are of method sequential; remove them, or set it.")
        return self

    @property
    def label(self) -> str:
        """The demand in words: "student >= 0.85 x teacher - 0.02"."""
        if self.minimum is not None:
            return f"student >= {self.minimum:g}"
        other = self.baseline or self.against
        share = f"{self.ratio:g} x {other}" if self.ratio is not None else other
        return f"student >= {share}" + (f" - {self.margin:g}" if self.margin else "")


class Validity(Strict):
    """What makes a run unfit to be judged, before any score is looked at; null switches a cap off.

    Rates are over all samples of the student, and of the teacher where it is compared with: a teacher that was cut off
    is an easy bar. The base student may ramble; that is what it is.
    """

    max_truncation_rate: Rate | None = 0.1
    max_no_answer_rate: Rate | None = None
    max_undecided_rate: Rate | None = None
    max_error_rate: Rate | None = 0.01
    min_distinct_sample_rate: Rate | None = None
    """Distinct texts over samples, averaged over items; 1/k is an engine that repeats itself (always invalid)."""
    min_items: Count | None = None
    """Items evaluated per task; null is all items of the task."""


class Budget(Strict):
    """What a sequential gate may use. A round is one completion of every item (of both models, where there are two)."""

    max_rounds: Count = 64
    max_completion_tokens: Count | None = None
    """Of one run of the gate, over all models; it ends after a complete round, and a later run goes on."""
    final_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the evidence that plays for the last round: the final test. 0 is betting alone (`eprocess.py`)."""


class Gate(FileModel):
    """One gate file."""

    kind: Literal["gate"]
    name: str
    description: str
    tasks: list[str] = Field(min_length=1)
    metric: Literal["pass@1"] = "pass@1"
    estimand: Estimand = "population"
    """`population`: a claim about items like these; `benchmark`: about exactly these items. See `statistics.py`."""
    comparisons: list[Comparison] = Field(min_length=1)
    budget: Budget = Budget()
    validity: Validity = Validity()

    @property
    def needs(self) -> list[Against]:
        """Which other models must be evaluated, of `MODELS`."""
        found = {comparison.against for comparison in self.comparisons}
        return [other for other in MODELS if other in found]

    def demand(self, comparison: Comparison, published: float | None = None) -> Demand:
        """A sequential comparison as bars and error levels; `published` is the baseline's value, as a fraction.

        Any comparison that fails fails the gate, so each gets an equal part of alpha_fail (Bonferroni); all must pass,
        so alpha needs no correction. Raises: GateError if the bar lies outside what a score can be.
        """
        settings: dict[str, Any] = {
            "estimand": self.estimand,
            "alpha_pass": comparison.alpha,
            "alpha_fail": (comparison.alpha_fail or comparison.alpha) / len(self.comparisons),
            "cap_rounds": self.budget.max_rounds,
            "final_share": self.budget.final_share,
            "fails_below": comparison.fails_below,
            "margin": comparison.margin or 0.0,
        }
        ratio = comparison.ratio or 1.0
        if comparison.against in MODELS:
            return against_model(ratio=ratio, **settings)
        value = comparison.minimum if comparison.against == "constant" else published
        assert value is not None, "a baseline's value is looked up before"
        return against_constant(ratio * value, **settings)


def load_gate(name: str | Path, extra_dirs: Iterable[str | Path] = ()) -> Gate:
    """The gate of a name or path; raises CatalogError or ConfigError."""
    gate: Gate = Gate.from_file(catalog.find("gates", name, extra_dirs))
    return gate
