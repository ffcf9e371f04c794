"""What an evaluation found: every item's outcomes, and the figures that follow from them.

    result = evaluate(...); result.tasks["tiny"].scores["pass@1"]
    result.save(path); EvalResult.load(path)

The items are the record; every figure is computed from them, on loading too, so a file cannot disagree with itself.
Not covered: the texts of the samples, which are in the ledger under `sample_keys`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.errors import ConfigError
from distill.evaluate import metrics
from distill.records import Outcome, stable_hash

FORMAT_VERSION = 2
VOTING: tuple[Outcome, ...] = ("correct", "wrong", "undecided")
Scores = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One item's samples, in index order; a sample that the engine never returned is absent from every list."""

    problem_id: str
    family: str
    outcomes: tuple[Outcome, ...]
    answers: tuple[str | None, ...]
    completion_tokens: tuple[int, ...]
    sample_keys: tuple[str, ...]
    num_distinct_texts: int
    num_distinct_seeds: int
    answer_classes: tuple[int | None, ...] = ()
    """Which answers mean the same (`votes.classes_of`); empty in older files, where their texts stand for it."""
    num_unclosed: int = 0
    """Samples that opened a thought and never closed it, though the model stopped by itself."""
    num_unanswered: int = 0
    """Samples that the engine gave up (a time limit, a refusal): observed failures, see `with_unanswered`."""
    num_reread: int = 0
    """Samples whose answer a second extractor read too (`distill/verify/second_extract.py`)."""
    num_reread_changed: int = 0
    """Of these, samples that would turn from right to not right, or back, by what it read."""
    prompt_hashes: tuple[str, ...] = ()
    """The distinct prompts of the samples: one, or they answer different questions."""
    params_hashes: tuple[str, ...] = ()
    """The distinct sampling parameters, as `params_hash` writes them."""
    first_text_hash: str = ""
    """Of the first sample's text: the same for every item where a server does not read its prompts."""

    @property
    def num_correct(self) -> int:
        return self.outcomes.count("correct")

    @property
    def votes(self) -> tuple[int | str | None, ...]:
        """What each sample votes for; None where it was cut off, failed, or gave no answer."""
        labels: Sequence[int | str | None] = self.answer_classes or self.answers
        pairs = zip(labels, self.outcomes, strict=True)
        return tuple(label if outcome in VOTING else None for label, outcome in pairs)


def score(items: Sequence[Item], samples_per_item: int) -> Scores:
    """Every figure of a set of items. Only "correct" counts for it; a missing sample counts against it."""
    k = samples_per_item
    correct = [item.num_correct for item in items]
    outcomes = [outcome for item in items for outcome in item.outcomes]
    tokens = [count for item in items for count in item.completion_tokens]
    cons = [metrics.cons_at_k(item.votes, [outcome == "correct" for outcome in item.outcomes]) for item in items]
    low, high = metrics.population_interval(correct, k)
    return {
        "n_items": len(items),
        "k": k,
        "n_samples": len(outcomes),
        "pass@1": sum(correct) / (k * len(items)),
        "pass@1_interval": [low, high],
        "pass@1_interval_benchmark": _as_list(metrics.benchmark_interval(correct, k)),
        "standard_error_items": metrics.item_standard_error(correct, k),
        "standard_error_decoding": metrics.decoding_standard_error(correct, k),
        "pass@k": _mean([metrics.pass_at_k(k, count, k) for count in correct]),
        "pass_at": {str(size): _mean([metrics.pass_at_k(k, c, size) for c in correct]) for size in _powers_of_two(k)},
        "cons@k": _mean(cons),
        **{f"{name}_rate": _share(outcomes, outcome) for name, outcome in _RATES.items()},
        "unclosed_rate": sum(item.num_unclosed for item in items) / max(1, len(outcomes)),
        "unanswered_rate": sum(item.num_unanswered for item in items) / (k * len(items)),
        "extractor_disagreement_rate": _disagreement(items),
        "mean_completion_tokens": _mean(tokens),
        "distinct_sample_rate": _mean([item.num_distinct_texts / k for item in items]),
    }


def _disagreement(items: Sequence[Item]) -> float | None:
    """Share of samples whose verdict changes with the second extractor; None where it has read none."""
    read = sum(item.num_reread for item in items)
    return sum(item.num_reread_changed for item in items) / read if read else None


def params_hash(params: Mapping[str, Any]) -> str:
    """Sampling parameters as a short hash; 1 and 1.0 are the same."""
    plain = {name: float(value) if isinstance(value, int) else value for name, value in params.items()}
    return stable_hash(plain, length=8)


_RATES: dict[str, Outcome] = {
    "truncation": "truncated",
    "no_answer": "no_answer",
    "undecided": "undecided",
    "error": "error",
}


def _powers_of_two(k: int) -> list[int]:
    return sorted({1 << exponent for exponent in range(k.bit_length())} | {k})


def _share(outcomes: list[Outcome], outcome: Outcome) -> float:
    return outcomes.count(outcome) / len(outcomes) if outcomes else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _as_list(interval: tuple[float, float] | None) -> list[float] | None:
    return list(interval) if interval is not None else None


@dataclass(frozen=True)
class TaskResult:
    """One task: its items, and the figures over all of them and by family."""

    task: str
    version: float
    samples_per_item: int
    n_items_in_task: int
    items: tuple[Item, ...]
    items_hash: str = ""
    """Of the task's items as they were (`tasks.items_hash`); empty where it was not recorded."""

    @cached_property
    def scores(self) -> Scores:
        return score(self.items, self.samples_per_item)

    @cached_property
    def families(self) -> dict[str, Scores]:
        names = dict.fromkeys(item.family for item in self.items)
        return {
            name: score([item for item in self.items if item.family == name], self.samples_per_item) for name in names
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "samples_per_item": self.samples_per_item,
            "n_items_in_task": self.n_items_in_task,
            "items_hash": self.items_hash,
            "scores": self.scores,
            "families": self.families,
            "items": [asdict(item) for item in self.items],
        }

    @staticmethod
    def from_dict(task: str, data: dict[str, Any]) -> TaskResult:
        return TaskResult(
            task=task,
            version=data["version"],
            samples_per_item=data["samples_per_item"],
            n_items_in_task=data["n_items_in_task"],
            items=tuple(_item(row) for row in data["items"]),
            items_hash=data.get("items_hash", ""),
        )


def with_unanswered(result: EvalResult, unanswered: Mapping[str, Mapping[str, int]]) -> EvalResult:
    """The result with the samples that the engine gave up: task -> item id -> how many.

    They scored 0 before, as missing ones; now they are observed failures, and the run may be judged with them.
    """
    tasks = {
        name: replace(
            task,
            items=tuple(
                replace(item, num_unanswered=unanswered.get(name, {}).get(item.problem_id, item.num_unanswered))
                for item in task.items
            ),
        )
        for name, task in result.tasks.items()
    }
    return replace(result, tasks=tasks)


def _item(row: dict[str, Any]) -> Item:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return Item(**values)


@dataclass(frozen=True)
class EvalResult:
    """One model on some tasks. `samples_drawn` were sampled now, `samples_reused` came from the ledger."""

    model: str
    model_fingerprint: str
    params: dict[str, Any]
    run_seed: int
    tasks: dict[str, TaskResult]
    samples_drawn: int
    samples_reused: int
    seconds: float
    lm_eval: dict[str, Any] = field(default_factory=dict)  # its version, and the figures it computed itself

    def to_dict(self) -> dict[str, Any]:
        plain = {key: value for key, value in vars(self).items() if key != "tasks"}
        return {
            "format_version": FORMAT_VERSION,
            **plain,
            "tasks": {name: task.to_dict() for name, task in self.tasks.items()},
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> EvalResult:
        plain = {key: value for key, value in data.items() if key not in ("format_version", "tasks")}
        return EvalResult(**plain, tasks={name: TaskResult.from_dict(name, row) for name, row in data["tasks"].items()})

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)

    @staticmethod
    def load(path: str | Path) -> EvalResult:
        """Raises: ConfigError if the file is missing or is not an evaluation result of this version."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data.get("format_version") != FORMAT_VERSION:
                found = data.get("format_version")
                raise ConfigError(f"{path}: format_version: expected {FORMAT_VERSION}, found {found}; evaluate again.")
            return EvalResult.from_dict(data)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}; `distill eval` makes it.") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: not an evaluation result ({error!r}); evaluate again.") from None

    def rows(self) -> list[tuple[str, str, Scores]]:
        """(task, family, scores) for tables; the family of a whole task is "all"."""
        found = []
        for name, task in self.tasks.items():
            found.append((name, "all", task.scores))
            if len(task.families) > 1:
                found.extend((name, family, scores) for family, scores in task.families.items())
        return found

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in ("task", "family", "items", "k", *_COLUMNS))
        body = "".join(f"<tr>{_html_cells(task, family, scores)}</tr>" for task, family, scores in self.rows())
        drawn = f"{self.samples_drawn} samples drawn, {self.samples_reused} from the ledger"
        return f"<p><b>{html.escape(self.model)}</b>: {drawn}</p><table><tr>{head}</tr>{body}</table>"


_COLUMNS = ("pass@1", "95% interval", "pass@k", "cons@k", "truncated", "no answer", "undecided", "mean tokens")


def _html_cells(task: str, family: str, scores: Scores) -> str:
    low, high = scores["pass@1_interval"]
    cells = [
        html.escape(task),
        html.escape(family),
        scores["n_items"],
        scores["k"],
        f"{scores['pass@1']:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{scores['pass@k']:.3f}",
        f"{scores['cons@k']:.3f}",
        f"{scores['truncation_rate']:.1%}",
        f"{scores['no_answer_rate']:.1%}",
        f"{scores['undecided_rate']:.1%}",
        f"{scores['mean_completion_tokens']:.0f}",
    ]
    return "".join(f"<td>{cell}</td>" for cell in cells)
