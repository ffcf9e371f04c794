"""docs/gates.md names what exists: commands, options, gates; and shows what was seen.

pytest tests/contracts/test_gates_page.py
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from benchmarks import gate_seen
from distill import catalog
from distill.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gates.md").read_text()
COMMANDS = re.findall(r"^(distill gate [^#\n]+?)\s*(?:#.*)?$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_their_options_and_gates(line: str) -> None:
    verb, gate, *words = shlex.split(line)[1:]
    options = {name for each in typer.main.get_command(app).commands[verb].params for name in each.opts}  # type: ignore[attr-defined]
    assert {word for word in words if word.startswith("--")} <= options
    assert gate in [*catalog.names("gates"), *catalog.names("recipes")]


def test_every_shipped_gate_is_in_the_table() -> None:
    rows = re.findall(r"^\| ([a-z0-9][^|]*?) \| [a-z0-9_, ]+ \| [^|]+ \|$", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.split(r",\s*", row)}
    first = next(row for row in rows if row.startswith("r1-distill"))
    sizes = {f"r1-distill{name}" for name in re.split(r",\s*", first)[1:]}
    assert set(catalog.names("gates")) <= named | sizes


def test_the_page_shows_what_was_seen() -> None:
    result = json.loads(gate_seen.RESULT.read_text())
    shown = PAGE.partition(gate_seen.BEGIN)[2].partition(gate_seen.END)[0].strip()
    assert shown == gate_seen.table(result).strip()
    outcomes = [case["outcome"] for case in result["cases"].values()]
    assert outcomes == ["PASS", "FAIL", "INVALID", "FAIL"]
    assert {case["exit_code"] for case in result["cases"].values()} == {0, 3, 5}
