"""docs/ci.md names what exists: commands and options, inputs of the action, variables, gates, exit codes.

pytest tests/scripts/test_ci_docs.py
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from distill import catalog, errors
from distill.cli import app

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "scripts" / "ci"
TEXT = (ROOT / "docs" / "ci.md").read_text()
BLOCKS: list[dict[str, Any]] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
COMMANDS = re.findall(r"^(distill [^#\n]+?)\s*(?:#.*)?$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_their_options_and_gates(line):
    verb, gate, *words = shlex.split(line)[1:]
    parameters = typer.main.get_command(app).commands[verb].params
    assert {word for word in words if word.startswith("--")} <= {name for each in parameters for name in each.opts}
    assert gate in catalog.names("gates")


def test_arguments_named_in_the_text_exist():
    known = {name for each in typer.main.get_command(app).commands["gate"].params for name in each.opts}
    assert {"--trained-on", "--anchor"} <= set(re.findall(r"`(--[a-z-]+)=", TEXT)) <= known


def test_the_github_example_fits_the_action():
    assert len(COMMANDS) == 3 and len(BLOCKS) == 2
    action = yaml.safe_load((CI / "github" / "action.yml").read_text())
    checkout, step = BLOCKS[0]["jobs"]["gate"]["steps"]
    assert re.fullmatch(r"actions/checkout@[0-9a-f]{40}", checkout["uses"])
    assert step["uses"].split("@")[0].endswith("/scripts/ci/github")
    assert set(step["with"]) <= set(action["inputs"])
    assert step["with"]["gate"] in catalog.names("gates")
    for name in ("outcome", "exit-code", "verdict", "junit"):
        assert f"`{name}`" in TEXT and name in action["outputs"]


def test_the_gitlab_example_fits_the_job():
    job = BLOCKS[1]["gate"]
    gitlab = yaml.safe_load((CI / "gitlab.yml").read_text())
    assert job["extends"] in gitlab and (ROOT / BLOCKS[1]["include"][0]["file"]).exists()
    known = (CI / "gate.sh").read_text() + "\n".join(gitlab[".distill-gate"]["before_script"])
    assert all(re.search(rf"\b{name}\b", known) for name in job["variables"])
    assert job["variables"]["GATE"] in catalog.names("gates")


def test_exit_codes_are_those_of_distill():
    rows = dict(re.findall(r"^\| (\d) \| ([A-Z]+)", TEXT, re.MULTILINE))
    assert rows == {
        str(errors.EXIT_OK): "PASS",
        str(errors.EXIT_USAGE): "USAGE",
        str(errors.EXIT_GATE_FAILED): "FAIL",
        str(errors.EXIT_GATE_INCONCLUSIVE): "INCONCLUSIVE",
        str(errors.EXIT_INVALID_RUN): "INVALID",
        str(errors.EXIT_INFRASTRUCTURE): "INFRASTRUCTURE",
    }
    assert set(re.findall(r"outcome=([A-Z]+)", (CI / "gate.sh").read_text())) <= set(re.findall("[A-Z]{4,}", TEXT))


def test_named_files_and_settings_exist():
    for name in re.findall(r"`(scripts/[\w./]+|constraints\.txt)`", TEXT):
        assert (ROOT / name).exists(), name
    known = "".join(path.read_text() for path in CI.rglob("*") if path.is_file())
    assert all(name in known for name in re.findall(r"\b((?:GATE|DISTILL)_[A-Z_]+)\b", TEXT))
