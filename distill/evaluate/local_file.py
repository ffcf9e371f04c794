"""Which columns of a user's own JSONL file hold what a task's dataset holds.

    columns_in(Path("aime.jsonl"), {"prompt": "problem", "answer": "answer"}, task="aime24")

A column is looked for under the dataset's own name first, so that a copy of it works as it is, then under common names:
`prompt`, `problem` or `question`; `answer`; and so on, see NAMES.
Not covered: files in which rows differ in their columns; the first row decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import ProblemError
from distill.problems import names_in

_QUESTION = ("prompt", "problem", "question")
NAMES: dict[str, tuple[str, ...]] = {
    "prompt": _QUESTION,
    "answer": ("answer",),
    "tests": ("tests", "test"),
    "entry_point": ("entry_point",),
    "setup": _QUESTION,
    "choices": ("choices", "options"),
    "id": ("id", "task_id"),
}
"""What a column may be called in a file of one's own, the first that is there."""

OPTIONAL = ("id",)


def columns_in(path: Path, columns: Mapping[str, Any], *, task: str) -> dict[str, Any]:
    """The file's columns by what they hold; an id column is used wherever there is one.

    Raises: ProblemError, naming the columns that were found, if one that the task needs is not there.
    """
    first = _first_row(path)
    if first is None:  # missing, empty or malformed: the loader says what is wrong
        return dict(columns)
    known = {what: _name_in(first, what, columns.get(what)) for what in dict.fromkeys([*columns, "id"])}
    if missing := [what for what, name in known.items() if name is None and what not in OPTIONAL]:
        expected = "; ".join(f"{what} as {_allowed(columns[what], NAMES[what])}" for what in missing)
        raise ProblemError(f"{path}: task {task}: found the columns {', '.join(first)}; expected also {expected}.")
    return {what: name for what, name in known.items() if name is not None}


def _name_in(first: Mapping[str, Any], what: str, own: Any) -> Any:
    if own is not None and all(name in first for name in names_in([own])):
        return own
    return next((name for name in NAMES[what] if name in first), None)


def _allowed(own: Any, common: tuple[str, ...]) -> str:
    own_name = " with ".join(names_in([own]))
    return " or ".join(f"'{name}'" for name in dict.fromkeys([own_name, *common]))


def _first_row(path: Path) -> dict[str, Any] | None:
    try:
        with path.open(encoding="utf-8") as file:
            line = next((line for line in file if line.strip()), "")
        row = json.loads(line)
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) else None
