"""Published numbers as a gate uses them: what to compare with, how settings differ, whether a file of them is sound.

    baseline = load_baseline("o1-mini")
    published_values(baseline, "aime24", "pass@1")
    # 0.636 "63.6 (DeepSeek-R1 paper, Tables 2, 4 and 5)", and 0.7 "70.0 (OpenAI o1-mini page, text)"
    settings_note(baseline.find("aime24", "pass@1"), params, k=16)
    check_baseline(baseline, tasks=catalog.names("tasks"))

A published number counts as exact: no source here states its error. Tables print per cent, a gate works on fractions.
Not covered: testing a student against these numbers (`distill/gate/`), and whether a source says what a file claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from math import sqrt
from typing import Any, NoReturn

from distill.cards import Baseline, PublishedResult, TableSource
from distill.errors import ConfigError

RANGES = {"rating": (0.0, 5000.0), "mean_tokens": (1.0, 10_000_000.0)}
"""Metrics that are not in per cent."""
PER_CENT = (0.0, 100.0)
TASK_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """One number to hold a student against."""

    value: float
    """A fraction for metrics in per cent; ratings and tokens as printed."""
    label: str
    source: TableSource


def is_per_cent(metric: str) -> bool:
    return metric not in RANGES


def published_values(baseline: Baseline, task: str, metric: str) -> list[PublishedValue]:
    """The published value and those that conflict with it, most trusted first; empty where none is published."""
    result = baseline.find(task, metric)
    if result is None:
        return []
    stated = [(result.value, result.source), *((other.value, other.source) for other in result.conflicts_with)]
    return [
        PublishedValue(_scaled(value, metric), f"{_printed(value, metric)} ({source.table})", source)
        for value, source in stated
    ]


def reruns_note(result: PublishedResult) -> str:
    """Others' measurements in one phrase, or nothing: "measured elsewhere: 50.8 (lighteval in open-r1, k = 64)"."""
    if not result.reruns:
        return ""
    found = [
        f"{_printed(rerun.value, result.metric)} ({rerun.harness}{f', k = {rerun.k}' if rerun.k else ''})"
        for rerun in result.reruns
    ]
    return f"measured elsewhere: {', '.join(found)}"


def _scaled(value: float, metric: str) -> float:
    return value / 100 if is_per_cent(metric) else value


def _printed(value: float, metric: str) -> str:
    """63.6, 70.0, 96.06; a rating without a decimal."""
    text = f"{value:.6g}"
    return text if "." in text or not is_per_cent(metric) else f"{text}.0"


def settings_note(result: PublishedResult, params: Mapping[str, Any], k: int) -> str:
    """One sentence on how a run's settings differ from the published ones; empty where they are the same.

    `params` holds temperature, top_p and max_new_tokens (`SamplingParams.to_dict()`), `k` is samples an item. What the
    source does not state cannot differ; it is named.
    """
    rows = [
        ("temperature", "temperature {:g}", result.temperature, params["temperature"]),
        ("top-p", "top-p {:g}", result.top_p, params["top_p"]),
        ("tokens", "{:,} tokens", result.max_tokens, params["max_new_tokens"]),
        ("k", "k = {}", result.k, k),
    ]
    differing = [(form, stated, ours) for _, form, stated, ours in rows if stated is not None and stated != ours]
    unknown = [name for name, _, stated, _ in rows if stated is None]
    clauses = []
    if differing:
        published = ", ".join(form.format(stated) for form, stated, _ in differing)
        here = ", ".join(form.format(ours) for form, _, ours in differing)
        clauses.append(f"published at {published}, this run at {here}")
    if unknown:
        clauses.append(f"the source does not state {_listed(unknown)}")
    return f"{result.task} {result.metric}: {'; '.join(clauses)}." if clauses else ""


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def check_baseline(baseline: Baseline, tasks: Iterable[str] = (), today: date | None = None) -> None:
    """Whether the numbers can be what they say they are; `tasks` are the names in the catalogue.

    A task without a file there is allowed (benchmarks that cannot be run here are published too), but not another
    spelling of one that has a file: it would never be found. Raises: ConfigError for the first fault.
    """
    today = today or date.today()
    known = {_squeezed(task): task for task in tasks}
    seen: set[tuple[str, str]] = set()
    for index, result in enumerate(baseline.results):
        where = f"{baseline.path}: results.{index} ({result.task} {result.metric})"
        if (result.task, result.metric) in seen:
            _fault(where, "the same task and metric twice; name the other number under conflicts_with.")
        seen.add((result.task, result.metric))
        _check_task_name(where, result.task, known)
        _check_values(where, result)
        _check_sources(where, result, today)
    _check_scale(baseline)
    if baseline.is_expired(today):
        _fault(f"{baseline.path}", f"expired on {baseline.expires}; look its numbers up again and set a new date.")


def _fault(where: str, what: str) -> NoReturn:
    raise ConfigError(f"{where}: {what}")


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _check_task_name(where: str, task: str, known: Mapping[str, str]) -> None:
    ours = known.get(_squeezed(task))
    if ours is not None and ours != task:
        _fault(where, f"task: found '{task}', the task is called '{ours}'; write that.")
    if not TASK_NAME.fullmatch(task):
        _fault(where, f"task: expected lower-case words joined by '_', found '{task}'.")


def _stated(result: PublishedResult) -> Iterator[tuple[str, float, TableSource]]:
    yield "", result.value, result.source
    for index, conflict in enumerate(result.conflicts_with):
        yield f"conflicts_with.{index}.", conflict.value, conflict.source
    for index, rerun in enumerate(result.reruns):
        yield f"reruns.{index}.", rerun.value, rerun.source


def _check_values(where: str, result: PublishedResult) -> None:
    low, high = RANGES.get(result.metric, PER_CENT)
    for field, value, _ in _stated(result):
        if not low <= value <= high:
            unit = "per cent" if is_per_cent(result.metric) else result.metric
            _fault(where, f"{field}value: expected {low:g} to {high:g} ({unit}), found {value:g}.")
    values = [result.value]
    for index, conflict in enumerate(result.conflicts_with):
        if conflict.value in values:
            _fault(
                where,
                f"conflicts_with.{index}.value: {conflict.value:g} stands above already and conflicts with nothing; "
                "remove it, or name both sources in one table.",
            )
        values.append(conflict.value)
    if result.standard_error != "unknown":
        _check_standard_error(where, result.value, result.standard_error, result.metric)


def _check_standard_error(where: str, value: float, found: float, metric: str) -> None:
    """The spread of one answer bounds that of any mean of answers between 0 and 100 (Bhatia and Davis 2000)."""
    if not is_per_cent(metric):
        return
    most = sqrt(value * (100 - value))
    if found > most + 1e-9:
        _fault(where, f"standard_error: expected at most {most:.3g}, that of a single answer, found {found:g}.")
    if found == 0 < most:
        _fault(where, "standard_error: found 0; a measured score has an error. Write unknown if it is not published.")


def _check_sources(where: str, result: PublishedResult, today: date) -> None:
    for field, _, source in _stated(result):
        if not source.url.startswith("https://"):
            _fault(where, f"{field}source.url: expected https://..., found '{source.url}'.")
        if not source.table.strip():
            _fault(where, f"{field}source.table: name the table, figure or line that holds the number.")
        if source.retrieved > today:
            _fault(where, f"{field}source.retrieved: {source.retrieved} lies in the future.")


def _check_scale(baseline: Baseline) -> None:
    """A file of fractions would be a bar that anything clears."""
    highest = max((result.value for result in baseline.results if is_per_cent(result.metric)), default=0.0)
    if 0 < highest <= 1:
        _fault(
            f"{baseline.path}", f"every value is at most 1; values are per cent: {100 * highest:g}, not {highest:g}."
        )
