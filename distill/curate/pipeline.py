"""Builds the steps of a recipe and runs rows through them, in order: every drop has one step, one reason, and is kept.

    steps = build_steps([{"verified": {}}, {"max_per_problem": {"max_traces": 2}}], context)
    result = curate(candidates(ledger, asked), steps)

Not covered: where rows come from (`candidates.py`) and go to (`distill/store/parquet.py`).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from distill.curate import steps as steps_package
from distill.curate.step import CurationContext, Row, Step
from distill.curate.steps.verified import Verified
from distill.errors import ConfigError, did_you_mean


@dataclass(slots=True)
class CurationResult:
    """Kept rows as they came, dropped rows with `dropped_by`, `reason` and `detail` added."""

    kept: list[Row] = field(default_factory=list)
    drops: list[Row] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows dropped, by step (all steps of the recipe, in order) and reason."""

    @property
    def counts_by_reason(self) -> dict[str, int]:
        """Rows dropped by reason, most frequent first."""
        return dict(Counter(row["reason"] for row in self.drops).most_common())

    def to_dict(self) -> dict[str, Any]:
        return {"kept": len(self.kept), "dropped": len(self.drops), "counts": self.counts}


def step_names() -> list[str]:
    """Names of all steps: the files of `distill/curate/steps/`."""
    return sorted(module.name for module in pkgutil.iter_modules(steps_package.__path__))


def build_steps(
    spec: Sequence[Mapping[str, Mapping[str, Any] | None]], context: CurationContext | None = None
) -> list[Step]:
    """Fresh steps for one pass, from a recipe's list of `{name: parameters}`.

    Raises: ConfigError for an unknown step, an unknown parameter or a value of the wrong type.
    """
    context = context or CurationContext()
    return [_build(entry, f"curation[{position}]", context) for position, entry in enumerate(spec)]


def verifiers_of(steps: Sequence[Step]) -> frozenset[str] | None:
    """Whose verdicts the recipe's `verified` step takes; None: anyone's."""
    named = [step.verifiers for step in steps if isinstance(step, Verified) and step.verifiers is not None]
    return frozenset.intersection(*named) if named else None


def curate(rows: Iterable[Row], steps: Sequence[Step]) -> CurationResult:
    """Run every row through the steps until one drops it."""
    result = CurationResult(counts={step.name: {} for step in steps})
    for row in rows:
        drop = _first_drop(row, steps)
        if drop is None:
            result.kept.append(row)
            continue
        result.drops.append(row | drop)
        by_reason = result.counts[drop["dropped_by"]]
        by_reason[drop["reason"]] = by_reason.get(drop["reason"], 0) + 1
    return result


def _first_drop(row: Row, steps: Sequence[Step]) -> dict[str, str] | None:
    for step in steps:
        decision = step.filter(row)
        if decision is not True:
            detail = decision[2] if len(decision) == 3 else ""
            return {"dropped_by": step.name, "reason": decision[1], "detail": detail}
    return None


def _build(entry: Mapping[str, Mapping[str, Any] | None], where: str, context: CurationContext) -> Step:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError(f"{where}: expected one step as {{name: parameters}}, found {entry!r}.")
    ((name, given),) = entry.items()
    if name not in step_names():
        raise ConfigError(
            f"{where}: step '{name}' is unknown{did_you_mean(str(name), step_names()) or '.'} "
            f"Steps: {', '.join(step_names())}."
        )
    where = f"{where}.{name}"
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{where}: expected parameters as {{name: value}}, found {given!r}.")
    step_class = _step_class(name)
    allowed = inspect.signature(step_class).parameters
    parameters = _typed(step_class, dict(given or {}), where)
    if "context" in allowed:
        parameters["context"] = context
    try:
        step: Step = step_class(**parameters)
    except ValueError as error:
        raise ConfigError(f"{where}.{error}.") from error
    return step


def _step_class(name: str) -> type[Any]:
    module = importlib.import_module(f"{steps_package.__name__}.{name}")
    classes = [item for item in vars(module).values() if inspect.isclass(item) and getattr(item, "name", None) == name]
    assert len(classes) == 1, f"{module.__name__} must define one class whose name is '{name}'"
    return classes[0]


def _typed(step_class: type[Any], given: dict[str, Any], where: str) -> dict[str, Any]:
    """The given parameters, checked against the annotations of the step's `__init__`."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    names = [name for name in inspect.signature(step_class).parameters if name != "context"]
    hints = get_type_hints(step_class.__init__) if names else {}
    for name, value in given.items():
        if name not in names:
            raise ConfigError(
                f"{where}.{name}: unknown parameter{did_you_mean(str(name), names) or '.'} "
                f"Allowed: {', '.join(names) or 'none'}."
            )
        try:
            TypeAdapter(hints[name], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            expected = getattr(hints[name], "__name__", None) or str(hints[name])
            raise ConfigError(f"{where}.{name}: expected {expected}, found {value!r}.") from error
    return given
