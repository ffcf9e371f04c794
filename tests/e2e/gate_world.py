"""What the gate's end-to-end tests share: a catalogue with a task of sums, recorded samples, readers of OUT/gate."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ElementTree
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUDENT, TEACHER = ROOT / "students" / "tiny", ROOT / "teachers" / "tiny"
TASK = """
task: {name}
class: !function distill.evaluate.problem_task.ProblemTask
metadata:
  version: 1.0
  problems:
    - jsonl: {{path: {name}.jsonl, prompt: prompt, answer: answer, id: id, family: sums, domain: math, licence: none,
              verifier: math}}
"""
SUMS = """
kind: gate
name: {name}
description: Sums, of a served model.
tasks: [{task}]
estimand: benchmark
comparisons:
  - {row}
sampling: {{max_new_tokens: 64}}
budget: {{max_rounds: 4}}
"""
TOY = """
kind: gate
name: earlier
description: The toy task against an earlier checkpoint.
tasks: [toy]
estimand: benchmark
comparisons:
  - {against: checkpoint, margin: 0.1}
sampling: {temperature: 0.6, max_new_tokens: 160, batch_size: 16}
budget: {max_rounds: 12}
validity: {max_truncation_rate: null, max_unclosed_rate: null, max_extractor_disagreement_rate: null}
"""
BASELINE = """
kind: baseline
name: {name}
title: A published model
model: published
{expires}
results:
  - task: sums
    metric: pass@1
    value: 50.0
    harness: another
    source: {{url: "https://example.org/table", table: "Table 1", retrieved: 2026-01-02}}
"""
GATES = {
    "sums": "{against: constant, minimum: 0.6}",
    "tokens": "{against: constant, metric: mean_tokens, maximum: 30}",
    "within": "{against: constant, metric: accuracy@3, minimum: 0.5}",
    "even": "{against: constant, minimum: 0.5}",
    "certain": "{against: constant, minimum: 1.0}",
    "stale": "{against: baseline, baseline: stale}",
    "published": "{against: baseline, baseline: published}",
    "elsewhere": "{against: baseline, baseline: o1-mini}",
    "paired": "{against: teacher, margin: 0.2}",
    "open": "{against: baseline, baseline: published, alpha: 0.001}",
}


def sums(count: int = 10) -> str:
    rows = [{"id": f"p{at:02d}", "prompt": f"What is {at} + 4?", "answer": str(at + 4)} for at in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def shelf(distill) -> Path:
    """The catalogue of the other tests here, with a task of sums, gates and baselines."""
    yesterday = date.today() - timedelta(days=1)
    files = {f"gates/{name}.yaml": SUMS.format(name=name, task="sums", row=row) for name, row in GATES.items()}
    files |= {
        "gates/earlier.yaml": TOY,
        "tasks/sums.yaml": TASK.format(name="sums"),
        "tasks/sums.jsonl": sums(),
        "tasks/torn.yaml": TASK.format(name="torn").replace("verifier: math}", "verifier: math"),
        "gates/torn.yaml": SUMS.format(name="torn", task="torn", row=GATES["sums"]),
        "gates/hub.yaml": SUMS.format(name="hub", task="gsm8k", row=GATES["sums"]),
        "baselines/published.yaml": BASELINE.format(name="published", expires=""),
        "baselines/stale.yaml": BASELINE.format(name="stale", expires=f"expires: {yesterday}"),
    }
    for name, text in files.items():
        path = distill.shelf / "eval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip(), encoding="utf-8")
    return distill.shelf


def verdict_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "gate" / "verdict.json").read_text())


def rounds_in_evidence(out: Path) -> list[int]:
    return [question["rounds"] for question in verdict_of(out)["evidence"]["questions"].values()]


def check_files(out: Path, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The three files say what the process said; gives the verdict."""
    assert "Traceback" not in done.stderr and (out / "gate" / "verdict.json").exists(), done.stderr
    verdict = verdict_of(out)
    assert done.returncode == verdict["exit_code"], done.stderr
    assert f": {verdict['outcome']}" in done.stdout.splitlines()[0]
    assert f": {verdict['outcome']}" in (out / "gate" / "summary.md").read_text().splitlines()[0]
    suite = ElementTree.parse(out / "gate" / "junit.xml").getroot()
    assert bool(list(suite.iter("failure")) or list(suite.iter("error"))) == (verdict["outcome"] != "PASS")
    assert not list((out / "gate").glob("*.partial"))
    return verdict


def control(port: int, **settings: Any) -> None:
    data = json.dumps(settings).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/control", data=data, timeout=30) as reply:
        reply.read()


def at(port: int) -> list[str]:
    return ["--base-url", f"http://127.0.0.1:{port}/v1"]


PROBED = 16
"""Requests of the probe for repeats, of the same prompts and seeds as the first rounds."""


def asked(stats: dict[str, Any]) -> int:
    """How many requests for samples of the task were served."""
    return sum(count for name, count in stats["by_request"].items() if " + 4?" in name) - PROBED


def sums_in(query, out: Path) -> int:
    return (query(out, "SELECT count(*) FROM samples WHERE problem_id NOT LIKE 'probe/%'") or [(0,)])[0][0]


@pytest.fixture(scope="module")
def recorded(distill, shelf, tmp_path_factory):
    """A run directory with four rounds of a served model that gets some sums wrong."""
    out = tmp_path_factory.mktemp("recorded") / "run"
    command = [sys.executable, str(ROOT / "tests/engines/misbehaving_server.py"), json.dumps({"wrong": 0.4})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        done = distill("gate", "open", "--out", out, *at(int(process.stdout.readline())))
        process.kill()
    check_files(out, done)
    return out
