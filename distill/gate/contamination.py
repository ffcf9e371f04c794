"""Items of a task that stand in the data a student was trained on.

    found = contamination({"aime24": problems}, Path("run/dataset"))
    found["aime24"].item_ids, found["aime24"].example

Reads the dataset that `distill curate` writes, a run directory that holds one, or a JSONL file (one object a line with
`prompt`, `question`, `problem`, or chat `messages`). Copies are found as curation finds them, with its own code:
equal text first, then shared word n-grams that are no template (`distill/curate/steps/decontaminate.py`).
Not covered: paraphrase, translation, copies in completions, and what the base model has read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distill.curate.step import CurationContext
from distill.curate.steps.decontaminate import Decontaminate
from distill.errors import TraceError
from distill.problems import normalise, question, remove_overlap
from distill.records import Problem
from distill.store.parquet import stream_rows

PROMPT_KEYS = ("prompt", "question", "problem", "instruction")
CHAT_KEYS = ("messages", "conversations")


@dataclass(slots=True)
class Contamination:
    """What training data shares with one task."""

    n_items: int
    n_prompts: int
    """Distinct training prompts that were looked at."""
    item_ids: list[str] = field(default_factory=list)
    example: str = ""
    """A training prompt that is a copy, and of which item."""

    @property
    def rate(self) -> float:
        """Share of the task's items that are in the training data."""
        return len(self.item_ids) / self.n_items if self.n_items else 0.0

    def add(self, item_id: str, evidence: str) -> None:
        if item_id not in self.item_ids:
            self.item_ids.append(item_id)
            self.example = self.example or evidence


def contamination(tasks: Mapping[str, Sequence[Problem]], training: Path) -> dict[str, Contamination]:
    """For each task, which of its items are in the training data.

    Raises: TraceError if the data is missing, damaged, or has rows without a prompt.
    """
    prompts = training_prompts(training)
    found = {task: Contamination(len(problems), len(prompts)) for task, problems in tasks.items()}
    held_out = [replace(problem, source=task) for task, problems in tasks.items() for problem in problems]
    if not held_out:
        return found
    rest = _equal(prompts, held_out, found)
    step = Decontaminate(context=CurationContext(held_out, prompts))
    for prompt in rest:
        match = step.match(prompt.prompt)
        if match is not None:
            found[match.problem.source].add(match.problem.id, f"training prompt {prompt.id} {match}")
    return found


def _equal(prompts: list[Problem], held_out: list[Problem], found: dict[str, Contamination]) -> list[Problem]:
    """Notes prompts that equal a question, with the task's instruction or without; gives the others."""
    by_text: dict[str, list[Problem]] = {}
    for problem in held_out:
        for text in {normalise(problem.prompt), normalise(question(problem))}:
            by_text.setdefault(text, []).append(problem)
    with_instruction = [replace(problem, meta={}) for problem in held_out]
    rest, copies = remove_overlap(prompts, [*held_out, *with_instruction])
    for prompt in copies:
        for problem in by_text[normalise(prompt.prompt)]:
            found[problem.source].add(problem.id, f"training prompt {prompt.id} is item {problem.id}")
    return rest


def training_prompts(training: Path) -> list[Problem]:
    """The distinct prompts of a dataset directory, a run directory or a JSONL file, as problems without an answer."""
    if not training.exists():
        raise TraceError(
            f"training data {training}: there is no such file or folder; name what the student was trained on: a "
            "dataset or run directory, or a JSONL file."
        )
    rows = _rows_of_jsonl(training) if training.is_file() else _rows_of_dataset(training)
    distinct: dict[str, Problem] = {}
    for name, family, prompt in rows:
        if prompt not in distinct:
            distinct[prompt] = Problem(name, prompt, None, "", family, "", "training", "")
    if not distinct:
        raise TraceError(f"training data {training}: no rows in it; name the dataset that the student was trained on.")
    return list(distinct.values())


def _rows_of_dataset(directory: Path) -> Iterator[tuple[str, str, str]]:
    """(problem id, family, prompt) of the kept rows: drops, which come last, were not trained on."""
    nested = directory / "dataset"
    for row in stream_rows(nested if nested.is_dir() else directory, ("problem_id", "family", "prompt", "reason")):
        if row["reason"] is not None:
            return
        if not row["prompt"]:
            raise TraceError(f"training data {directory}: a row without a prompt. Curate again: `distill curate`.")
        yield str(row["problem_id"]), str(row["family"]), row["prompt"]


def _rows_of_jsonl(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                prompt = _prompt_of(row)
                if prompt is None:
                    raise TraceError(
                        f"training data {path}:{number}: no prompt found; expected an object with one of "
                        f"{', '.join(PROMPT_KEYS + CHAT_KEYS)}. Rename the column, or give the Parquet dataset."
                    )
                yield str(row.get("id") or f"row {number}"), str(row.get("family") or ""), prompt
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"training data {path}: cannot be read ({error}); give a JSONL file or a dataset.") from error
    except json.JSONDecodeError as error:
        raise TraceError(
            f"training data {path}: a line is not JSON ({error.msg}); expected one object a line."
        ) from error


def _prompt_of(row: Any) -> str | None:
    if not isinstance(row, dict):
        return None
    for key in PROMPT_KEYS:
        if isinstance(row.get(key), str) and row[key].strip():
            return str(row[key])
    for key in CHAT_KEYS:
        for turn in row.get(key) or ():
            if isinstance(turn, dict) and turn.get("role", turn.get("from")) in ("user", "human"):
                return str(turn.get("content", turn.get("value")) or "") or None
    return None
