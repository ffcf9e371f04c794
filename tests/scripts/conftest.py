"""What the tests of scripts/ci share: recorded evaluations, and gate.sh run as CI runs it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

GATE = """
kind: gate
name: near
description: Near the teacher, far above the base. Over finished evaluations.
tasks: [tiny]
comparisons:
  - {against: teacher, ratio: 0.85, method: bootstrap}
  - {against: base, ratio: 3.0, method: bootstrap}
"""
ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.executable).parent.parent
STUDENTS: dict[str, dict[str, Any]] = {
    "PASS": {"num_correct": [4] * 100},
    "FAIL": {"num_correct": [0] * 100},
    "INCONCLUSIVE": {"num_correct": [4, 4, 4, 2] * 25},
    "INVALID": {"num_correct": [4] * 100, "num_distinct_seeds": 1},
}
CODES = {"PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4, "INVALID": 5}


@pytest.fixture(scope="session")
def record():
    """Writes evaluations into OUT/eval, from which gate `near` comes to the outcome, without a sample drawn."""
    spec = importlib.util.spec_from_file_location("gate_fixtures", ROOT / "tests" / "gate" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def write(out: Path, outcome: str) -> Path:
        found = {
            "student": module.make_result(**STUDENTS[outcome], model="student"),
            "base": module.make_result([0, 0, 0, 1] * 25, model="base"),
            "teacher": module.make_result([4] * 100, model="teacher"),
        }
        for who, result in found.items():
            result.save(out / "eval" / f"{who}.json")
        return out

    return write


@dataclass
class Ended:
    """What a run of gate.sh left behind."""

    code: int
    stdout: str
    stderr: str
    outputs: dict[str, str]
    step_summary: str
    out: Path

    @property
    def cases(self) -> dict[str, str]:
        """Test cases of junit.xml by name: passed, failure, error or skipped."""
        suite = ElementTree.parse(self.out / "gate" / "junit.xml").getroot().find("testsuite")
        return {
            case.get("name"): next((each.tag for each in case if each.tag in ("failure", "error", "skipped")), "passed")
            for case in suite.findall("testcase")
        }


class Check:
    """gate.sh in a folder, as a step of GitHub Actions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "distill-gate"
        (folder / "near.yaml").write_text(GATE)

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("GATE", "GITHUB", "DISTILL"))}
        files = {name: str(self.folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for path in files.values():
            Path(path).write_text("")
        given = {"GITHUB_ACTIONS": "true", "GATE": "near.yaml", "DISTILL_VENV": str(VENV), "PYTHONPATH": str(ROOT)}
        return {**keep, "OMP_NUM_THREADS": "1", **files, **given, **settings}

    def start(self, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(ROOT / "scripts" / "ci" / "gate.sh")],
            env=self.environment(settings),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, process: subprocess.Popen[str]) -> Ended:
        stdout, stderr = process.communicate(timeout=300)
        lines = (self.folder / "GITHUB_OUTPUT").read_text().splitlines()
        outputs = dict(line.split("=", 1) for line in lines)
        summary = (self.folder / "GITHUB_STEP_SUMMARY").read_text()
        return Ended(process.returncode, stdout, stderr, outputs, summary, self.out)

    def run(self, **settings: str) -> Ended:
        return self.wait(self.start(**settings))


@pytest.fixture
def check(tmp_path):
    return Check(tmp_path)


@pytest.fixture
def answers_nothing():
    """An endpoint where nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


@pytest.fixture
def serve():
    """Starts the misbehaving server of sums; gives its base URL."""
    processes = []

    def started(settings: str = "{}") -> str:
        server = ROOT / "tests" / "engines" / "misbehaving_server.py"
        process = subprocess.Popen([sys.executable, str(server), settings], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return f"http://127.0.0.1:{int(process.stdout.readline())}/v1"

    yield started
    for process in processes:
        process.kill()
        process.communicate()
