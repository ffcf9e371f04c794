"""What `distill gate` refuses: one clear message each, the right exit code, and nothing lost.

pytest tests/e2e/test_gate_refused.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.e2e.gate_world import ROOT, STUDENT, check_files, sums, verdict_of

# -- refusals


REPLAY = ("--model", "{ledger}")
NOBODY = ("--base-url", "http://127.0.0.1:1/v1")
REFUSED = {
    "endpoint-down": (["sums", *NOBODY], 6, "http://127.0.0.1:1/v1: unreachable"),
    "no-address": (["sums", "--base-url", "localhost:1"], 2, "--base-url: expected http://HOST:PORT/v1, found 'local"),
    "no-folder": (["sums", "--model", "/nowhere/student"], 2, "there is no such folder, and no card of that name"),
    "no-ledger": (["sums", "--model", "/nowhere/ledger.db"], 2, "ledger /nowhere/ledger.db: no such file"),
    "no-such-model": (["sums", "--model", "{ledger}#tiny-servd"], 2, "did you mean 'tiny-served'?"),
    "other-items": (["toy", *REPLAY, "--other", "base=tiny", "--other", "teacher=tiny"], 2, "has samples of tiny-serv"),
    "hub": (["hub", *NOBODY], 6, "a local file stands in for the hub: `--set data.gsm8k=FILE.jsonl`"),
    "no-file": (["sums", *REPLAY, "--set", "data.sums=/nowhere.jsonl"], 2, "there is no such file; name a JSONL"),
    "torn-row": (["sums", *REPLAY, "--set", "data.sums={torn}"], 2, "torn.jsonl:2: not JSON"),
    "lacking-row": (["sums", *REPLAY, "--set", "data.sums={lacking}"], 2, "column: unknown 'answer'"),
    "other-task": (["sums", *REPLAY, "--set", "data.gsm8k={lacking}"], 2, "tasks of this run: sums"),
    "torn-task": (["torn", *REPLAY], 2, "torn.yaml: line "),
    "unknown-gate": (["sumz", *REPLAY], 2, "'sumz' is neither a recipe nor a task nor a gate"),
    "unknown-setting": (["sums", *REPLAY, "--set", "gate.budget.rounds=3"], 2, "did you mean 'max_rounds'?"),
    "foreign-setting": (["sums", *REPLAY, "--set", "harvest.x=3"], 2, "a gate has gate., data., endpoint."),
    "unknown-role": (["sums", *REPLAY, "--other", "bass=tiny"], 2, "expected one of base, teacher, checkpoint"),
    "unasked-role": (["sums", *REPLAY, "--other", "base=tiny"], 2, "compares with no other model; leave it out"),
    "role-alone": (["sums", *REPLAY, "--other", "base"], 2, "expected NAME=MODEL"),
    "missing-role": (["paired", *REPLAY], 2, "Name it with --other teacher=MODEL"),
    "impossible-bar": (["certain", *NOBODY], 2, "expected both inside the range of a score, 0 to 1"),
    "baseline-lacks-task": (["elsewhere", *NOBODY], 2, "o1-mini has no pass@1 of task 'sums'"),
    "anchor-lacks-task": (["sums", *NOBODY, "--anchor", "o1-mini=tiny"], 2, "o1-mini has no pass@1 of task 'sums'"),
    "no-anchor": (["sums", *REPLAY, "--anchor", "o2-mini=tiny"], 2, "did you mean 'o1-mini'?"),
    "no-training-data": (["sums", *NOBODY, "--trained-on", "/nowhere"], 2, "/nowhere: there is no such file or folder"),
}


RUN_ALL = """
import contextlib, io, json, sys
from distill.cli import main
found = {}
for name, arguments in json.load(sys.stdin).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    found[name] = [code, out.getvalue(), err.getvalue()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def refusals(shelf, recorded, tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """Exit code, stdout and stderr of every refused command, one after another in one process to save its imports."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "torn.jsonl").write_text(sums(1) + '{"id": "b", broken\n')
    (folder / "lacking.jsonl").write_text(sums(1) + '{"id": "b", "prompt": "x"}\n')
    places = {each: str(folder / f"{each}.jsonl") for each in ("torn", "lacking")}
    commands = {
        name: [
            *("--catalog", str(shelf), "gate"),
            *(part.format(ledger=recorded / "ledger.db", **places) for part in given),
            *("--out", str(folder / name)),
        ]
        for name, (given, _, _) in REFUSED.items()
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(commands), capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(refusals, name):
    """Told before a model is opened wherever that can be: the address of most is nobody's."""
    _, code, message = REFUSED[name]
    found, out, err = refusals[name]
    assert (found, out) == (code, ""), err
    assert err.startswith("error: ") and err.count("error: ") == 1 and err.isascii()
    assert "Traceback" not in err and message in err


@pytest.mark.parametrize(
    ("missing", "message"),
    [("chat_template.jinja", "no chat template"), ("model.safetensors", "no *.safetensors file in")],
)
def test_a_folder_that_lacks_something(refused, shelf, tmp_path, missing, message):
    shutil.copytree(STUDENT, tmp_path / "mine")
    (tmp_path / "mine" / missing).unlink()
    given = ["--model", tmp_path / "mine", "--other", f"checkpoint={STUDENT}"]
    assert message in refused("gate", "earlier", "--out", tmp_path / "run", *given)


def test_an_expired_baseline_is_invalid(distill, recorded, tmp_path):
    done = distill("gate", "stale", "--out", tmp_path / "run", "--model", recorded / "ledger.db")
    verdict = check_files(tmp_path / "run", done)
    assert (verdict["outcome"], done.returncode) == ("INVALID", 5)
    assert "baseline stale: expired on" in done.stdout and "look its numbers up again" in done.stdout


@pytest.mark.parametrize("damage", ["{", "[]"])
def test_a_damaged_verdict_is_not_thrown_away(refused, recorded, tmp_path, damage):
    path = tmp_path / "run" / "gate" / "verdict.json"
    path.parent.mkdir(parents=True)
    path.write_text(damage)
    message = refused("gate", "open", "--out", tmp_path / "run", "--model", recorded / "ledger.db")
    assert str(path) in message and "the samples are in the ledger" in message
    assert path.read_text() == damage


def test_damaged_evidence_is_refused(refused, recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / "run")
    path = tmp_path / "run" / "gate" / "verdict.json"
    verdict = verdict_of(tmp_path / "run")
    (question,) = verdict["evidence"]["questions"].values()
    question["log_e"].pop()
    path.write_text(json.dumps(verdict))
    assert "the saved evidence is damaged" in refused(
        "gate", "open", "--out", tmp_path / "run", "--model", tmp_path / "run" / "ledger.db"
    )
