"""This toolkit as its users run it: `distill harvest RECIPE --base-url URL`, every sample verified as it comes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from distill_engine import ledger_rows
from interface import Row, Task, main

RECIPE = """\
kind: recipe
description: The side-by-side benchmark's harvest; nothing after it is run.
seed: 1
teacher: deepseek-r1
student: tiny
problems:
  train:
    - jsonl:
        {{path: {problems}, prompt: prompt, answer: answer, id: number, domain: math, licence: none, verifier: exact}}
harvest: {{samples_per_problem: 1, max_new_tokens: {max_tokens}}}
endpoint: {{max_in_flight: {in_flight}, save_partial_seconds: {save_partial_seconds}}}
curation: [verified]
training: {{precision: bf16}}
evaluation: {{tasks: [tiny], samples_per_item: 1}}
gate: quickstart
"""


def out(task: Task) -> Path:
    return task.folder / "run"


def rows(task: Task, unreadable: Counter[str]) -> Iterable[Row]:
    return ledger_rows(out(task) / "ledger.db")


def torn(task: Task) -> list[Path]:
    return [out(task) / "ledger.db-wal"]


def harvest(task: Task) -> None:
    """The command line's own process, started over this one."""
    recipe = task.folder / "recipe.yaml"
    recipe.write_text(
        RECIPE.format(
            problems=Path(task.problems).resolve(),
            max_tokens=task.max_tokens,
            in_flight=task.in_flight,
            save_partial_seconds=task.save_partial_seconds,
        )
    )
    command = ["harvest", str(recipe), "--out", str(out(task)), "--base-url", task.base_url, "--model", task.model]
    os.execv(sys.executable, [sys.executable, "-m", "distill", *command])


if __name__ == "__main__":
    main(harvest, rows, torn)
