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
      - {against: checkpoint, margin: 0.02, alpha_fail: 0.05}
      - {against: teacher, metric: mean_tokens, ratio: 1.2}        # student <= 1.2 x teacher
    sampling: {temperature: 0.6, top_p: 0.95, max_new_tokens: 32768}
    budget: {max_rounds: 64, max_completion_tokens: 20000000}
    validity: {max_truncation_rate: 0.1}

Every comparison must hold, each at its own alpha; that needs no correction, since a student passes wrongly only if it
passes a comparison that it should not. Not covered: deciding (`decide.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from distill import catalog
from distill.cards import Count, FileModel, Fraction
from distill.config import Strict, apply_overrides, load_yaml
from distill.gate.demand import Demand, FailsBelow, against_constant, against_model
from distill.gate.metric import METRIC_PATTERN, Metric
from distill.gate.statistics import Estimand, Method

Against = Literal["base", "teacher", "checkpoint", "baseline", "constant"]
MODELS: tuple[Against, ...] = ("base", "teacher", "checkpoint")
"""Compared with item by item; `checkpoint` is an earlier student."""
Rate = Annotated[float, Field(ge=0, le=1)]
MetricName = Annotated[str, Field(pattern=f"^({METRIC_PATTERN})$")]


class Comparison(Strict):
    """student >= ratio x other - margin, or student >= minimum; of tokens, student <= ratio x other + margin."""

    against: Against
    metric: MetricName = "pass@1"
    """Of this comparison alone; what a gate's file leaves out is the gate's."""
    baseline: str | None = None
    """Name in the catalogue, for `against: baseline`."""
    ratio: Annotated[float, Field(gt=0)] | None = None
    margin: Annotated[float, Field(ge=0)] | None = None
    """In the metric's units: 0.03 is 3 points of accuracy."""
    minimum: Rate | None = None
    maximum: Annotated[float, Field(gt=0)] | None = None
    """Of mean_tokens."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """One-sided: the chance of passing a student that is exactly at the bar."""
    alpha_fail: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """One-sided, `sequential` only: the chance that the gate fails a student that meets every demand; null is alpha."""
    fails_below: FailsBelow = "bar"
    """`sequential` only: `reference` fails a student that is certainly below the reference, within the margin too."""
    method: Method | Literal["sequential"] = "sequential"
    """`sequential` draws its own rounds; the others judge a finished evaluation of a fixed number of samples."""

    @model_validator(mode="after")
    def _fits_together(self) -> Comparison:
        if self.against == "constant" and (self.minimum is None) == (self.maximum is None):
            raise ValueError("against constant needs 'minimum' (of mean_tokens: 'maximum'), and not both.")
        wanted = {"baseline": ("baseline",)}.get(self.against, ())
        allowed = {"constant": ("minimum", "maximum"), "baseline": ("baseline", "ratio", "margin")}
        for name in ("baseline", "ratio", "margin", "minimum", "maximum"):
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
        """The demand in words: "student >= 0.85 x teacher - 0.02"; a metric other than pass@1 is named."""
        sign, slack = ("<=", "+") if self.metric == "mean_tokens" else (">=", "-")
        of = f" ({self.metric})" if self.metric != "pass@1" else ""
        if self.limit is not None:
            return f"student {sign} {self.limit:g}{of}"
        other = self.baseline or self.against
        share = f"{self.ratio:g} x {other}" if self.ratio is not None else other
        return f"student {sign} {share}" + (f" {slack} {self.margin:g}" if self.margin else "") + of

    @property
    def limit(self) -> float | None:
        """The constant of `against: constant`."""
        return self.minimum if self.minimum is not None else self.maximum


class Validity(Strict):
    """What makes a run unfit to be judged, before any score is looked at; null switches a cap off.

    Rates are over all samples of the student, and of the teacher or checkpoint where it is compared with: a teacher
    that was cut off is an easy bar. The base student may ramble; that is what it is. The defaults are meant for a small
    model at R1's settings: a few samples may go wrong there, while a wrong setting makes most of them do.
    """

    max_truncation_rate: Rate | None = 0.1
    """Samples cut off by the token limit: raising it has moved a score from 43 to 76 (modelscope/evalscope#1529)."""
    max_unclosed_rate: Rate | None = 0.05
    """Thoughts opened and never closed by a model that stopped by itself. Near 1: a server that eats `</think>`."""
    max_unanswered_rate: Rate | None = 0.05
    """Samples that the engine gave up after a timeout or a refusal. They count as failures, so many of them judge the
    server. One item of AIME's 30 may always run into the limit (3.3%)."""
    max_no_answer_rate: Rate | None = None
    """No answer found, unclosed thoughts included. Off: small students do fail to answer, and a failure it is."""
    max_extractor_disagreement_rate: Rate | None = 0.05
    """Samples that are right by one reading of the answer and not by another (`distill/verify/second_extract.py`);
    verifiers math, exact and choice only. Above it, extraction decides the score. On MATH-500's own solutions it is
    0.2% with their boxes and 9.8% without."""
    max_undecided_rate: Rate | None = None
    max_error_rate: Rate | None = 0.01
    min_distinct_sample_rate: Rate | None = None
    """Distinct texts over samples, averaged over items; 1/k is an engine that repeats itself (always invalid). Off: the
    right rate falls with k and with how sure the model is. 0.5 suits long reasoning at R1's settings."""
    min_items: Count | None = None
    """Items evaluated per task; null is all items of the task."""
    max_contaminated_rate: Rate | None = 0.01
    """Share of a task's items that stand in the training data. Not 0: word n-grams also find questions that are only
    built alike (3 of GSM8K's 1,319 in its own training set). One item of AIME's 30 is over it."""
    items_hash: dict[str, str] = Field(default_factory=dict)
    """Task -> hash of its items (`validity.items_hash`): another dataset revision or instruction is invalid."""


class Sampling(Strict):
    """How a gate that is not a recipe's samples its models; a recipe's gate samples as its evaluation does.

    The defaults are R1's (arXiv 2501.12948, section 3).
    """

    temperature: Annotated[float, Field(ge=0)] = 0.6
    top_p: Fraction = 0.95
    max_new_tokens: Count | None = None
    """null is 32,768, or what the model's context leaves (`distill/models.py`)."""
    seed: Annotated[int, Field(ge=0)] = 0
    batch_size: Count = 128
    """Of models that are loaded here."""


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
    metric: MetricName = "pass@1"
    estimand: Estimand = "population"
    """`population`: a claim about items like these; `benchmark`: about exactly these items. See `statistics.py`."""
    comparisons: list[Comparison] = Field(min_length=1)
    sampling: Sampling = Sampling()
    budget: Budget = Budget()
    validity: Validity = Validity()

    @model_validator(mode="before")
    @classmethod
    def _metric_of_every_row(cls, data: Any) -> Any:
        """A comparison without a metric has the gate's."""
        if not isinstance(data, dict) or not isinstance(data.get("comparisons"), list):
            return data
        metric = data.get("metric", "pass@1")
        rows = [{"metric": metric, **row} if isinstance(row, dict) else row for row in data["comparisons"]]
        return {**data, "comparisons": rows}

    @model_validator(mode="after")
    def _one_way_to_judge(self) -> Gate:
        if len({row.method == "sequential" for row in self.comparisons}) > 1:
            raise ValueError(
                "comparisons: found method sequential beside others; a gate draws its own rounds or judges a finished "
                "evaluation. Give every comparison method: sequential, or none."
            )
        for row in self.comparisons:
            if row.limit is not None and (row.maximum is not None) != (row.metric == "mean_tokens"):
                right = "maximum" if row.metric == "mean_tokens" else "minimum"
                raise ValueError(f"comparisons: metric {row.metric} against constant needs '{right}'.")
        fixed = [row for row in self.comparisons if row.method != "sequential" and row.metric != "pass@1"]
        if fixed:
            raise ValueError(f"comparisons: metric {fixed[0].metric} needs method: sequential.")
        if not self.is_sequential and "checkpoint" in self.needs:
            raise ValueError("comparisons: against checkpoint needs method: sequential.")
        return self

    @property
    def is_sequential(self) -> bool:
        """Whether the gate draws its own rounds."""
        return self.comparisons[0].method == "sequential"

    @property
    def needs(self) -> list[Against]:
        """Which other models must be evaluated, of `MODELS`."""
        found = {comparison.against for comparison in self.comparisons}
        return [other for other in MODELS if other in found]

    def demand(
        self, comparison: Comparison, max_new_tokens: int, *, published: float | None = None, num_questions: int
    ) -> Demand:
        """A sequential comparison as bars and error levels; `published` is the baseline's value, as a fraction.

        Any comparison that fails fails the gate, so each of `num_questions` gets an equal part of alpha_fail
        (Bonferroni); all must pass, so alpha needs no correction. Raises: GateError if the bar lies outside what a
        score can be.
        """
        metric = Metric.of(comparison.metric)
        settings: dict[str, Any] = {
            "highest": metric.highest(max_new_tokens),
            "direction": metric.direction,
            "estimand": self.estimand,
            "alpha_pass": comparison.alpha,
            "alpha_fail": (comparison.alpha_fail or comparison.alpha) / num_questions,
            "cap_rounds": self.budget.max_rounds,
            "final_share": self.budget.final_share,
            "fails_below": comparison.fails_below,
            "margin": comparison.margin or 0.0,
        }
        ratio = comparison.ratio or 1.0
        if comparison.against in MODELS:
            return against_model(ratio=ratio, **settings)
        value = comparison.limit if comparison.against == "constant" else published
        assert value is not None, "a baseline's value is looked up before"
        return against_constant(ratio * value, **settings)


def load_gate(name: str | Path, extra_dirs: Iterable[str | Path] = (), overrides: Sequence[str] = ()) -> Gate:
    """The gate of a name or path, with settings changed (`gate.budget.max_rounds=8`).

    Raises: CatalogError, ConfigError.
    """
    path = catalog.find("gates", name, extra_dirs)
    data = apply_overrides({"gate": load_yaml(path)}, [each for each in overrides if each.startswith("gate.")])
    gate: Gate = Gate.from_data(data["gate"], path)
    return gate
