"""docs/evaluation.md: its commands parse, its example runs, and its tables say what the task files say.

pytest tests/contracts/test_evaluation_page.py
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from distill import catalog
from distill.cli import app
from distill.evaluate.local_file import NAMES
from distill.evaluate.tasks import read_task

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "evaluation.md").read_text()
OWN = re.findall(r"^(distill [^#\n]*?)\s*(?:#.*)?$", PAGE, re.MULTILINE)
STOCK = re.findall(r"^(lm_eval run [^\n]*)$", PAGE, re.MULTILINE)
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TASK_ROWS = re.findall(r"^\| (\w+) \| [\d,]+ \| ([^ |,]+)[^|]* \| (\w+) \| ([^|]+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", OWN)
def test_own_commands_exist_with_their_options(line: str) -> None:
    words = shlex.split(line)[1:]
    verb = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    assert {word for word in words if word.startswith("--")} <= {name for option in verb.params for name in option.opts}
    assert words[1] in catalog.names("tasks") or words[1] == "tasks"


@pytest.mark.parametrize("line", STOCK)
def test_commands_of_lm_eval_parse_and_name_tasks(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval._cli.harness import HarnessCLI

    monkeypatch.setattr("sys.argv", shlex.split(line))
    arguments = HarnessCLI().parse_args()
    assert arguments.include_path == "eval/tasks" and arguments.apply_chat_template is True
    assert set(arguments.tasks) <= set(catalog.names("tasks"))
    assert set(arguments.metadata or {}) <= {"task_data"}


def test_the_table_lists_every_task_as_its_file_has_it() -> None:
    assert [row[0] for row in TASK_ROWS] != [] and {row[0] for row in TASK_ROWS} == set(catalog.names("tasks"))
    for name, dataset, verifier, licence in TASK_ROWS:
        (source, *_) = read_task(name).metadata.problems
        if "dataset" in source:
            spec = source["dataset"]
            assert (spec["name"], spec["verifier"], spec["licence"]) == (dataset, verifier, licence)


def test_the_names_of_columns_are_those_that_are_read() -> None:
    for what in ("prompt", "choices", "tests", "id"):
        assert ", ".join(f"`{name}`" for name in NAMES[what]) in PAGE


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(6)]
    for split, part in (("test", rows[:3]), ("train", rows[3:])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it needs no hub
    exec(compile(EXAMPLE, "docs/evaluation.md", "exec"), {})
    score, tokens = map(float, capsys.readouterr().out.split()[-2:])
    assert 0 <= score <= 1 and tokens > 0
