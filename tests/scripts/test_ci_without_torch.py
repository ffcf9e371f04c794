"""A gate over recorded samples, or over a served model, runs where there is no torch.

pytest tests/scripts/test_ci_without_torch.py
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "accelerate", "deepspeed", "peft")
ABSENT = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {HEAVY!r} else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
HALF = """
kind: gate
name: half
description: Half of the sums are right.
tasks: [tiny]
comparisons: [{against: constant, minimum: 0.5}]
"""
SOURCES = ("distill", "teachers", "students", "eval", "scripts", "constraints.txt", "setup.cfg", "pyproject.toml")


def names(path: Path) -> set[str]:
    """Requirements of a file by name, options and comments left out."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return {re.split("[=<>]", line)[0].lower() for line in lines if line and not line.startswith(("#", "-"))}


def test_the_light_requirements_are_pinned_and_distills_own():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    required = {re.split("[<>=]", line)[0] for line in config["options"]["install_requires"].split()}
    light = names(ROOT / "scripts" / "ci" / "requirements-replay.txt")
    assert light <= required and light.isdisjoint(HEAVY)
    assert light <= names(ROOT / "constraints.txt")


@pytest.fixture
def no_torch(tmp_path):
    """A PYTHONPATH under which heavy packages are not to be found, in a process or its children."""
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT)
    path = os.pathsep.join([str(tmp_path / "absent"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", "import torch"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert "No module named 'torch'" in done.stderr
    return path


def test_a_finished_evaluation_is_judged(check, record, no_torch):
    record(check.out, "PASS")
    done = check.run(PYTHONPATH=no_torch)
    assert (done.code, done.outputs["outcome"]) == (0, "PASS"), done.stderr


def served_then_replayed(check, serve, **settings: str) -> None:
    (check.folder / "half.yaml").write_text(HALF)
    served = check.run(GATE="half.yaml", GATE_BASE_URL=serve(), **settings)
    assert (served.code, served.outputs["outcome"]) == (3, "FAIL"), served.stderr
    replayed = check.run(GATE="half.yaml", GATE_REPLAY="distill-gate/ledger.db", GATE_OUT="replayed", **settings)
    assert (replayed.code, replayed.outputs["outcome"]) == (3, "FAIL"), replayed.stderr


def test_a_served_model_is_judged_and_its_samples_are_replayed(check, serve, no_torch):
    served_then_replayed(check, serve, PYTHONPATH=no_torch)


@pytest.mark.slow
def test_an_environment_without_torch(check, record, serve, tmp_path):
    """install.sh with what the package index has, for real; about a minute."""
    probe = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(tmp_path / "probe"),
        "typer",
    ]
    if subprocess.run(probe, capture_output=True, timeout=120).returncode:
        pytest.skip("no package index can be reached")
    source, venv = tmp_path / "source", tmp_path / "venv"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(ROOT / name, source / name)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("GATE", "DISTILL", "PYTHON"))}
    done = subprocess.run(
        ["bash", str(source / "scripts" / "ci" / "install.sh"), str(venv)],
        env={**keep, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("distill ")
    listed = subprocess.run([str(venv / "bin" / "pip"), "list", "--format=freeze"], capture_output=True, text=True)
    installed = dict(line.split("==") for line in listed.stdout.lower().split())
    assert not set(installed) & set(HEAVY)
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().split("\n") if "==" in line
    )
    assert {name: installed[name] for name in pinned if name in installed}.items() <= pinned.items()
    light = {"DISTILL_VENV": str(venv), "PYTHONPATH": ""}
    record(tmp_path / "finished", "PASS")
    judged = check.run(GATE_OUT="finished", **light)
    assert (judged.code, judged.outputs["outcome"]) == (0, "PASS"), judged.stderr
    served_then_replayed(check, serve, **light)
