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
    validity: {max_truncation_rate: 0.1}

Every comparison must hold, each at its own alpha; that needs no correction, since a student passes wrongly only if it
passes a comparison that it should not. Not covered: deciding (`decide.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from distill import catalog
from distill.cards import Count, FileModel
from distill.config import Strict
from distill.gate.statistics import Estimand, Method

Against = Literal["base", "teacher", "baseline", "constant"]
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
    method: Method = "bootstrap"

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
    validity: Validity = Validity()

    @property
    def needs(self) -> list[Against]:
        """Which other models must be evaluated: "base", "teacher"."""
        found = {comparison.against for comparison in self.comparisons}
        return [other for other in ("base", "teacher") if other in found]  # type: ignore[misc]


def load_gate(name: str | Path, extra_dirs: Iterable[str | Path] = ()) -> Gate:
    """The gate of a name or path; raises CatalogError or ConfigError."""
    gate: Gate = Gate.from_file(catalog.find("gates", name, extra_dirs))
    return gate
