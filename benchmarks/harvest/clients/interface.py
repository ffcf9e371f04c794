"""What every client script is: `run` draws all rows of a task, `rows` reads back what is kept on disk.

    python clients/NAME.py run TASK.json        # may be killed and started again on the same folder
    python clients/NAME.py rows TASK.json       # one JSON object on stdout: rows by problem, lines that do not parse
    python clients/NAME.py torn TASK.json       # the files that a crash may tear, as the client names them

A client runs in the virtual environment of its own package, so nothing here needs more than the standard library.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

Row = tuple[int, str | None, str | None]
"""Number of the problem, reasoning, content; None is what the client did not keep."""


@dataclass(frozen=True)
class Task:
    """One run of one client; the same for all of them but for `out`."""

    base_url: str
    model: str
    problems: str
    """A JSONL file of number, prompt and answer."""
    out: str
    in_flight: int
    max_tokens: int
    save_partial_seconds: float = 5.0
    """Of clients that save unfinished rows."""
    stubs: bool = True
    """Whether a package that wants the internet at start gets a stand-in for what it would fetch."""

    @classmethod
    def read(cls, path: str) -> Task:
        data = json.loads(Path(path).read_text())
        return cls(**{field.name: data[field.name] for field in fields(cls) if field.name in data})

    @property
    def folder(self) -> Path:
        folder = Path(self.out)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def prompts(self) -> list[tuple[int, str]]:
        with open(self.problems) as lines:
            return [(row["number"], row["prompt"]) for row in map(json.loads, lines)]


def messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def reasoning_in(message: dict[str, Any]) -> str | None:
    return message.get("reasoning_content") or message.get("reasoning")


def jsonl(path: Path, read: Callable[[dict[str, Any]], Row | None], unreadable: Counter[str]) -> Iterator[Row]:
    """Rows of a JSONL file line by line; a line that does not parse is counted, as its reader would meet it."""
    if not path.exists():
        return
    with open(path, errors="replace") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                row = read(json.loads(line))
            except (ValueError, KeyError, TypeError):
                unreadable["lines"] += 1
                continue
            if row is not None:
                yield row


def report(rows: Iterable[Row], unreadable: Counter[str]) -> dict[str, Any]:
    """Digests of what is kept, by problem; a problem kept twice counts as a duplicate."""
    found: dict[int, list[str | None]] = {}
    duplicates = 0
    for number, reasoning, content in rows:
        duplicates += number in found
        found[number] = [_digest(reasoning), _digest(content)]
    return {"rows": found, "duplicates": duplicates, "unreadable": unreadable["lines"]}


def _digest(text: str | None) -> str | None:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:16] if text else None


def main(
    run: Callable[[Task], None],
    rows: Callable[[Task, Counter[str]], Iterable[Row]],
    torn: Callable[[Task], list[Path]] = lambda task: [],
) -> None:
    """The script's entry."""
    verb, task = sys.argv[1], Task.read(sys.argv[2])
    if verb == "run":
        run(task)
    elif verb == "rows":
        unreadable: Counter[str] = Counter()
        print(json.dumps(report(rows(task, unreadable), unreadable)))
    elif verb == "torn":
        print(json.dumps([str(path) for path in torn(task) if path.exists()]))
    else:
        raise SystemExit(f"{sys.argv[0]}: unknown verb {verb}; allowed: run, rows, torn")
