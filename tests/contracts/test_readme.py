"""README's commands name what exists: verbs, options, recipes, scripts and files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from distill import catalog
from distill.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"^(distill [^#\n]*?)\s*(?:#.*)?$|`(distill [a-z][^`]*)`", README, re.MULTILINE)))
LINES = sorted({first or second for first, second in COMMANDS})
PLACEHOLDERS = {"NAME", "RECIPE", "PATH", "DIR", "...", "runs/q"}


def test_readme_has_commands() -> None:
    assert len(LINES) > 10


@pytest.mark.parametrize("line", LINES)
def test_command_exists_with_its_options(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0] == "--catalog":
        words = words[2:]
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if words == ["..."]:
        return
    assert words[0] in verbs, f"{line}: no such verb"
    verb = verbs[words[0]]
    if hasattr(verb, "commands"):  # a verb with verbs of its own, such as `teachers compare`
        verb = verb.commands[words[1]]
    options = {option for parameter in verb.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("line", [line for line in LINES if "/" in line])
def test_recipes_exist(line: str) -> None:
    known = set(catalog.names("recipes"))
    named = [word for word in shlex.split(line)[2:3] if "/" in word and word not in PLACEHOLDERS]
    assert all(name in known or name.startswith("runs/") for name in named), line


def test_links_and_scripts_exist() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"^bash (\S+)", README, re.MULTILINE)
    missing = [target for target in targets if not target.startswith("http") and not (ROOT / target).exists()]
    assert not missing
