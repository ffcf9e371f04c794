"""Cards: what a teacher or a student is, how it is served or loaded, and where each fact comes from; and baselines.

    card = load_teacher("tiny"); card.model_location, card.sampling.temperature

A card is one YAML file in the catalogue. Not covered: loading weights (`distill/engines/`), gates (`distill/gate/`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from distill import catalog
from distill.config import Strict, load_yaml, parse
from distill.errors import ConfigError

Count = Annotated[int, Field(gt=0)]
"""A whole number above 0."""
R1_MAX_NEW_TOKENS = 32768
"""Of DeepSeek-R1's evaluations (arXiv 2501.12948, section 3)."""
Fraction = Annotated[float, Field(gt=0, le=1)]
Price = Annotated[float, Field(ge=0)]


class FileModel(Strict):
    """A model that remembers the file it was read from."""

    _path: Path | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path | None:
        """The file, or None for a model made in code."""
        return self._path

    @classmethod
    def from_file(cls, path: Path) -> Any:
        return cls.from_data(load_yaml(path), path)

    @classmethod
    def from_data(cls, data: dict[str, Any], path: Path) -> Any:
        """Parse, and remember that the data came from `path`."""
        model = parse(cls, data, where=_shown(path))
        model._path = path
        return model


def _shown(path: Path) -> str:
    """The path as a message shows it: relative to the working directory where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


class Source(Strict):
    """Where a fact was read, and when."""

    url: str
    what: str
    retrieved: date


class Sampling(Strict):
    """How the model's makers say to sample it."""

    temperature: float = Field(ge=0)
    top_p: Fraction
    max_new_tokens: Count
    top_k: Count | None = None


class ReasoningFormat(Strict):
    """How the model marks its reasoning; `field` is where an endpoint returns it when the server splits it off."""

    open_marker: str
    close_marker: str
    opened_by_prompt: bool
    field: str | None = None


class Serving(Strict):
    """A command that serves the model, and the hardware it was stated for."""

    engine: Literal["vllm", "sglang", "transformers"]
    command: str
    hardware: str
    nodes: Count = 1
    """With several, scripts/slurm/serve_rank.sh adds each node's rank and the address of the first."""


class TokenPrice(Strict):
    usd_per_million_input_tokens: Price
    usd_per_million_output_tokens: Price


class Benchmark(Strict):
    """A result as its source states it; `source` is a URL, or a phrase that names the table."""

    name: str
    metric: str
    value: float
    source: str


class ModelCard(FileModel):
    """What teacher cards and student cards share."""

    name: str
    title: str
    model: str
    """A hub id, or a path relative to the card."""
    revision: str | None = None
    architecture: str
    context_tokens: Count
    licence: str
    sources: list[Source] = Field(min_length=1)
    notes: str | None = None

    @property
    def model_location(self) -> str:
        """The hub id, or the absolute path where `model` is a path relative to the card (`.`, `./x`, `x`)."""
        if self.path is None:
            return self.model
        local = (self.path.parent / self.model).resolve()
        is_path = self.model in (".", "..") or self.model.startswith(("./", "../", "/"))
        return str(local) if is_path or local.exists() else self.model


class TeacherCard(ModelCard):
    """A mixture-of-experts (or dense) reasoning model to harvest from."""

    kind: Literal["teacher"]
    total_parameters: Count
    active_parameters: Count
    released: date
    reasoning: ReasoningFormat
    sampling: Sampling
    serving: list[Serving] = Field(default_factory=list)
    price: TokenPrice | None = None
    benchmarks: list[Benchmark] = Field(default_factory=list)


class TrainingDefaults(Strict):
    """What a recipe's `training` takes where it says nothing."""

    learning_rate: float = Field(gt=0)
    epochs: float = Field(gt=0)
    max_length: Count


class StudentCard(ModelCard):
    """A dense model to distil into."""

    kind: Literal["student"]
    parameters: Count
    chat_template: Literal["model", "r1"]
    lora_target_modules: list[str] = Field(min_length=1)
    training: TrainingDefaults


class TableSource(Strict):
    """The table or figure a published number stands in."""

    url: str
    table: str
    retrieved: date


class Conflict(Strict):
    """Another number published as this model's score: a gate gives its verdict under each."""

    value: float
    source: TableSource
    why: str | None = None
    """Whose it is, and what is known to differ."""


class Rerun(Strict):
    """Someone else's measurement in another harness: shown beside a verdict, never a bar."""

    value: float
    k: Count | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Fraction | None = None
    max_tokens: Count | None = None
    harness: str
    source: TableSource


class PublishedResult(Strict):
    """One published number, with the settings it was measured at; null where the source does not say."""

    task: str
    metric: str
    value: float
    """As tables print it: per cent, or the rating."""
    k: Count | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Fraction | None = None
    max_tokens: Count | None = None
    prompt: str | None = None
    dataset_revision: str | None = None
    harness: str
    source: TableSource
    conflicts_with: list[Conflict] = Field(default_factory=list)
    """Most trusted first."""
    reruns: list[Rerun] = Field(default_factory=list)
    standard_error: Annotated[float, Field(ge=0)] | Literal["unknown"] = "unknown"


class Baseline(FileModel):
    """Published numbers of one model, to hold a student against; `published.py` reads them for a gate."""

    kind: Literal["baseline"]
    name: str
    title: str
    model: str
    results: list[PublishedResult] = Field(min_length=1)
    expires: date | None = None
    notes: str | None = None

    def is_expired(self, today: date) -> bool:
        return self.expires is not None and today > self.expires

    def find(self, task: str, metric: str) -> PublishedResult | None:
        """The result of a task under a metric; None where this baseline has none."""
        return next((result for result in self.results if (result.task, result.metric) == (task, metric)), None)


Paths = Iterable[str | Path]


def load_teacher(name: str | Path, extra_dirs: Paths = ()) -> TeacherCard:
    """The teacher card of a name or path; raises CatalogError or ConfigError."""
    card: TeacherCard = TeacherCard.from_file(catalog.find("teachers", name, extra_dirs))
    if card.active_parameters > card.total_parameters:
        raise ConfigError(
            f"{card.path}: active_parameters: expected at most total_parameters ({card.total_parameters}),"
            f" found {card.active_parameters}."
        )
    return card


def load_student(name: str | Path, extra_dirs: Paths = ()) -> StudentCard:
    """The student card of a name or path; raises CatalogError or ConfigError."""
    card: StudentCard = StudentCard.from_file(catalog.find("students", name, extra_dirs))
    return card


def load_baseline(name: str | Path, extra_dirs: Paths = ()) -> Baseline:
    """The baseline of a name or path; raises CatalogError or ConfigError."""
    baseline: Baseline = Baseline.from_file(catalog.find("baselines", name, extra_dirs))
    return baseline
