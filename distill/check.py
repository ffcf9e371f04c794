"""Says whether cards, recipes, tasks, gates and baselines are sound, offline: `distill check [NAME|PATH]...`.

A recipe is sound if everything it names exists and is sound in its schema. Not covered: whether a hub id, a URL or a
dataset name exists; whether a model behaves as its card says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

from distill import catalog
from distill.cards import ModelCard, Source, load_baseline, load_student, load_teacher
from distill.errors import ConfigError, DistillError, GateError
from distill.published import check_baseline
from distill.recipes import Recipe, load_recipe
from distill.records import Problem


def check(names: Iterable[str] = ()) -> dict[str, Any]:
    """`{"checked": n, "faults": [{"kind", "file", "message"}]}` for the named files, or for the whole catalogue."""
    asked = [pair for name in names for pair in catalog.find_any(name)]
    pairs = asked or [(kind, path) for kind in catalog.KINDS for path in catalog.entries(kind).values()]
    faults = []
    for kind, path in pairs:
        try:
            CHECKS[kind](path)
        except DistillError as error:
            faults.append({"kind": kind, "file": str(path), "message": str(error)})
    return {"checked": len(pairs), "faults": faults}


def _check_teacher(path: Path) -> None:
    _check_card(load_teacher(path), path)


def _check_student(path: Path) -> None:
    _check_card(load_student(path), path)


def _check_card(card: ModelCard, path: Path) -> None:
    expected = path.parent.name if path.name == "card.yaml" else path.stem
    _expect_name(path, card.name, expected)
    _check_retrieved(path, card.sources)
    location = Path(card.model_location)
    if location.is_absolute():
        _check_weights(path, location)


def _expect_name(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ConfigError(f"{path}: name: expected '{expected}' as the file is called, found '{found}'.")


def _check_retrieved(path: Path, sources: Iterable[Source]) -> None:
    for source in sources:
        if not source.url.startswith(("https://", "http://")) and not (path.parent / source.url).exists():
            raise ConfigError(f"{path}: sources: '{source.url}' is neither a URL nor a file next to the card.")
        if source.retrieved > date.today():
            raise ConfigError(f"{path}: sources: retrieved {source.retrieved} lies in the future ({source.url}).")


def _check_weights(path: Path, folder: Path) -> None:
    """The files of a model that ships with its card: configuration and safetensors, whole."""
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{path}: model: {folder} has no config.json; train it, or restore it from the repository.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ConfigError(f"{path}: model: {folder} has no *.safetensors; train it, or restore it from the repository.")
    for file in weights:
        _check_safetensors(file)


def _check_safetensors(file: Path) -> None:
    """A header that parses and a file as long as it says; a Git LFS pointer fails this.

    Source: https://github.com/huggingface/safetensors, "Format": 8 bytes of length, JSON header, data.
    """
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        size = file.stat().st_size
        if length <= size - 8:
            try:
                header = json.loads(stream.read(length))
                ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                ends = []
            if ends and 8 + length + max(ends) == size:
                return
    raise ConfigError(f"{file}: not a whole safetensors file ({size} bytes); restore it from the repository.")


_STAND_IN = Problem("", "", None, verifier="exact", family="", domain="", source="", licence="")
"""For steps that want the evaluation's problems: reading them may need the network; parameters are checked."""


def _check_recipe(path: Path) -> None:
    check_recipe(load_recipe(path))


def check_recipe(recipe: Recipe) -> None:
    """Whether all that a loaded recipe names exists and is sound, so that a run will not stop halfway for it.

    Raises: CatalogError or ConfigError for the first fault.
    """
    from distill.curate.pipeline import build_steps
    from distill.curate.step import CurationContext

    path = recipe.path
    _check_gate(catalog.find("gates", recipe.gate))
    for task in recipe.evaluation.tasks:
        _check_task(catalog.find("tasks", task))
    try:
        build_steps(recipe.curation, CurationContext(evaluation_problems=[_STAND_IN]))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    for source in recipe.problems.train:
        if source.jsonl is not None and not (recipe.base_dir / source.jsonl.path).is_file():
            raise ConfigError(f"{path}: problems: '{source.jsonl.path}' does not exist next to the recipe.")


def _check_baseline(path: Path) -> None:
    baseline = load_baseline(path)
    _expect_name(path, baseline.name, path.stem)
    check_baseline(baseline, tasks=catalog.names("tasks"))


def _check_gate(path: Path) -> None:
    from distill.gate.question import check_bars
    from distill.gate.spec import load_gate

    gate = load_gate(path)
    _expect_name(path, gate.name, path.stem)
    for task in gate.tasks:
        catalog.find("tasks", task)
    for comparison in gate.comparisons:
        if comparison.baseline is not None:
            _check_published(path, comparison.baseline, gate.tasks, comparison.metric)
    if gate.is_sequential:
        try:
            check_bars(gate, {row.baseline: load_baseline(row.baseline) for row in gate.comparisons if row.baseline})
        except GateError as error:
            raise ConfigError(f"{path}: {error}") from None


def _check_published(path: Path, name: str, tasks: Iterable[str], metric: str) -> None:
    """A gate that compares with a baseline needs a published number for each of its tasks."""
    baseline = load_baseline(name)
    for task in tasks:
        if baseline.find(task, metric) is None:
            known = ", ".join(sorted({result.task for result in baseline.results if result.metric == metric}))
            raise ConfigError(
                f"{path}: baseline {name} has no {metric} of task '{task}'; it has {known or f'no {metric} at all'}."
            )


def _check_task(path: Path) -> None:
    """As evaluation reads it, before lm-eval does: lm-eval leaves out a file that does not parse without a word."""
    from distill.evaluate.tasks import read_task

    read_task(path)


CHECKS: dict[str, Callable[[Path], None]] = {
    "teachers": _check_teacher,
    "students": _check_student,
    "recipes": _check_recipe,
    "tasks": _check_task,
    "gates": _check_gate,
    "baselines": _check_baseline,
}
