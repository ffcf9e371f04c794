"""Which teachers are compared, from the command line, and an engine for each.

    specs = teacher_specs(["http://a:8000/v1"], ["deepseek-r1"], ["tiny", "qwq-32b=http://b:8000/v1"])
    teachers = open_teachers(specs, target, question=problems[0].prompt)

All endpoints are probed before anything is sampled: one that does not answer, or would lose its reasoning, ends the
comparison before anything is spent. Models that are loaded here are loaded when it is their turn.
Two addresses that serve one model under one name are told apart by address (providers of the same model are worth
comparing); their samples are then not those that a harvest would ask for. Not covered: replicas of a teacher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from distill import catalog
from distill.cards import TeacherCard, load_teacher
from distill.compare.target import Target
from distill.engines.base import Engine
from distill.engines.served import served_teacher
from distill.errors import ConfigError
from distill.recipes import Harvest, sampling_params
from distill.records import stable_hash


@dataclass(frozen=True)
class TeacherSpec:
    """A teacher to compare: at an address, or a card whose model is loaded here."""

    card: TeacherCard | None
    base_url: str | None
    served: str | None
    """The name to ask the server for; None is the card's model, or the only one."""


@dataclass
class Teacher:
    """A teacher that answers; `engine` is None until a model that is loaded here is loaded."""

    name: str
    spec: TeacherSpec
    settings: Harvest
    engine: Engine | None = None

    def opened(self) -> Engine:
        """The engine, loaded if it was not. Raises: TeacherError."""
        if self.engine is None:
            from distill.engines.local import LocalEngine

            card = self.spec.card
            assert card is not None, "only a card says what to load"
            self.engine = LocalEngine.open(
                card.model_location,
                name=card.name,
                reasoning=card.reasoning,
                revision=card.revision,
                batch_size=self.settings.batch_size,
            )
        return self.engine


def teacher_specs(base_urls: Sequence[str], models: Sequence[str], cards: Sequence[str]) -> list[TeacherSpec]:
    """Teachers of `--base-url`, `--model` (one for all, or one for each URL) and `--teacher CARD[=URL]`.

    Raises: ConfigError (nothing to compare, other numbers of models), CatalogError (no such card).
    """
    if len(models) not in (0, 1, len(base_urls)) or (models and not base_urls):
        raise ConfigError(
            f"--model: found {len(models)} names for {len(base_urls)} --base-url; give one for each, one for all, or "
            "none where each server serves one model."
        )
    named: list[str | None] = [*models]
    if len(named) != len(base_urls):
        named = (named or [None]) * len(base_urls)
    specs = [_at_address(url, model) for url, model in zip(base_urls, named, strict=True)]
    for given in cards:
        name, _, url = given.partition("=")
        specs.append(TeacherSpec(load_teacher(name), url or None, None))
    if len(specs) < 2:
        raise ConfigError(
            f"distill teachers compare: found {len(specs)} teachers, expected two or more; repeat --base-url, or "
            "--teacher CARD or CARD=URL."
        )
    if repeated := [spec for spec, count in Counter(map(_identity, specs)).items() if count > 1]:
        raise ConfigError(f"distill teachers compare: the same teacher is given twice: {repeated[0]}.")
    return specs


def _identity(spec: TeacherSpec) -> str:
    return f"{spec.served or (spec.card.name if spec.card else 'the only model')} at {spec.base_url or 'this machine'}"


def _at_address(url: str, model: str | None) -> TeacherSpec:
    if model is not None and model in catalog.names("teachers"):
        return TeacherSpec(load_teacher(model), url, None)
    return TeacherSpec(None, url, model)


def open_teachers(specs: Sequence[TeacherSpec], target: Target, *, question: str) -> list[Teacher]:
    """Every teacher, those at an address probed. Raises: TeacherError, InfrastructureError (exit code 6)."""
    teachers = []
    for spec in specs:
        settings = target.harvest_of(str(spec.card.path) if spec.card else None)
        if spec.base_url is None:
            assert spec.card is not None, "a teacher has an address or a card"
            teachers.append(Teacher(spec.card.name, spec, settings))
            continue
        params = sampling_params(settings)
        engine = served_teacher(spec.card, [spec.base_url], spec.served, target.endpoint, params, question=question)
        teachers.append(Teacher(engine.model, spec, settings, engine))
    _tell_apart(teachers)
    return teachers


def _tell_apart(teachers: Sequence[Teacher]) -> None:
    """Names and fingerprints that several have get their address."""
    served = [teacher for teacher in teachers if teacher.engine is not None]
    fingerprints = Counter(teacher.engine.fingerprint for teacher in served if teacher.engine)
    names = Counter(teacher.name for teacher in teachers)
    for teacher in served:
        address = urlsplit(str(teacher.spec.base_url)).netloc
        if teacher.engine is not None and fingerprints[teacher.engine.fingerprint] > 1:
            teacher.engine.fingerprint = stable_hash(teacher.engine.fingerprint, teacher.spec.base_url, length=16)
        if names[teacher.name] > 1:
            teacher.name = f"{teacher.name}@{address}"
