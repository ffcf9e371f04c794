"""`distill gate` as a user runs it: real models and a real server, verdict files, kills, replays, refusals.

pytest tests/e2e/test_gate.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
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
    verdict = verdict_of(out)
    assert "Traceback" not in done.stderr, done.stderr
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


# -- models that are loaded here


@pytest.fixture(scope="module")
def compared(distill, shelf, tmp_path_factory):
    """The untrained student against the teacher and itself, in an empty directory."""
    out = tmp_path_factory.mktemp("compared") / "new" / "run"
    settings = ["gate.sampling.max_new_tokens=256", "gate.sampling.batch_size=16", "gate.budget.max_rounds=4"]
    command = ["gate", "toy", "--out", out, "--model", STUDENT, "--other", f"base={STUDENT}"]
    command += ["--other", f"teacher={TEACHER}", *(part for each in settings for part in ("--set", each))]
    return out, command, distill(*command)


def test_from_an_empty_directory(compared):
    out, _, done = compared
    verdict = check_files(out, done)
    assert (verdict["outcome"], done.returncode, verdict["stopped_by"]) == ("FAIL", 3, "verdict"), done.stderr
    assert verdict["models"]["teacher"]["scores"]["toy"]["pass@1"] > verdict["comparisons"][0]["student"]
    assert (verdict["student_model"], verdict["n_items"]) == ("tiny", 10)
    assert verdict["models"]["student"]["completion_tokens_drawn"] > 0
    for role in ("student", "base", "teacher"):
        saved = json.loads((out / "eval" / f"{role}.json").read_text())
        assert saved["tasks"]["toy"]["samples_per_item"] == verdict["models"][role]["rounds"]
        assert saved["model_fingerprint"] == verdict["models"][role]["identity"]
    assert json.loads((out / "eval" / "curves.json").read_text())
    assert "gate: round 1 of at most 4" in done.stderr


def test_a_second_run_draws_nothing_and_says_the_same(distill, compared, query, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(compared[0], out)
    samples = query(out, "SELECT key, text FROM samples ORDER BY row_id")
    again = distill(*(out if part == compared[0] else part for part in compared[1]))
    assert (again.returncode, again.stdout) == (compared[2].returncode, compared[2].stdout)
    first, second = verdict_of(compared[0]), check_files(out, again)
    assert query(out, "SELECT key, text FROM samples ORDER BY row_id") == samples
    assert {each["completion_tokens_drawn"] for each in second["models"].values()} == {0}
    for same in ("outcome", "comparisons", "evidence", "reasons", "stopped_by", "notes"):
        assert second[same] == first[same], same


WITHOUT_TORCH = """
import sys

class NoTorch:  # as where it is not installed: find_spec gives None, an import raises ModuleNotFoundError
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == "torch" else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [NoTorch(finder) for finder in sys.meta_path]
from distill.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


def test_without_torch_from_the_samples_alone(shelf, compared, tmp_path):
    """Replay: roles by the model's hash in the ledger; the command line runs where there is no torch."""
    source = compared[0] / "ledger.db"
    identity = {who: each["identity"] for who, each in verdict_of(compared[0])["models"].items()}
    roles = [f"{who}={source}#{identity[who]}" for who in ("base", "teacher")]
    given = ["--catalog", shelf, "gate", "toy", "--out", tmp_path / "run", "--model", f"{source}#{identity['student']}"]
    given += ["--other", roles[0], "--other", roles[1]]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, given)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    verdict, drawn = check_files(tmp_path / "run", done), verdict_of(compared[0])
    assert verdict["outcome"] == drawn["outcome"] == "FAIL"
    assert verdict["comparisons"][0]["student"] == drawn["comparisons"][0]["student"]
    assert {each["completion_tokens_drawn"] for each in verdict["models"].values()} == {0}


def test_a_ledger_of_two_models_with_one_name(refused, shelf, compared, tmp_path):
    source = compared[0] / "ledger.db"
    command = ["gate", "earlier", "--out", tmp_path / "run", "--other", f"checkpoint={TEACHER}", "--model"]
    message = refused(*command, f"{source}#tiny")
    assert "several models or settings: tiny (hash " in message and "or its hash, LEDGER.db#MODEL" in message


def damaged(source: Path, target: Path, share: float) -> Path:
    """A copy whose weights have normal noise of `share` of their own spread added."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    torch.manual_seed(0)
    weights = load_file(target / "model.safetensors")
    noisy = {
        name: (value + share * value.float().std() * torch.randn(value.shape)).to(value.dtype).contiguous()
        for name, value in weights.items()
        if value.is_floating_point() and value.numel() > 1
    }
    save_file({**weights, **noisy}, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_damaged_weights_fail_against_the_undamaged(distill, shelf, tmp_path):
    """A model that can do the task, and the same with noise on its weights."""
    broken, out = damaged(TEACHER, tmp_path / "broken", 0.6), tmp_path / "run"
    done = distill("gate", "earlier", "--out", out, "--model", broken, "--other", f"checkpoint={TEACHER}")
    verdict = check_files(out, done)
    (row,) = verdict["comparisons"]
    assert (verdict["outcome"], done.returncode) == ("FAIL", 3), (verdict["reasons"], done.stderr)
    assert row["student"] < row["other"] - 0.1 and row["p_value_fail"] < 0.05
    assert row["rounds"] < 12, "stopped early"


# -- a served model


def test_a_served_model_passes_and_is_not_asked_twice(distill, shelf, start, served, query, tmp_path):
    port, out = start(), tmp_path / "run"
    command = ["gate", "sums", "--out", out, *at(port)]
    verdict = check_files(out, distill(*command))
    assert (verdict["outcome"], verdict["student_model"], verdict["exit_code"]) == ("PASS", "tiny-served", 0)
    drawn = asked(served(port))
    again = check_files(out, distill(*command))
    assert again["comparisons"] == verdict["comparisons"]
    assert asked(served(port)) == drawn == sums_in(query, out) <= 20, "the round that decided, and one ahead"


def test_a_server_that_repeats_itself_is_invalid_and_mending_it_goes_on(distill, shelf, start, query, tmp_path):
    """No round is paid for, and evidence of before stays as it was."""
    port, out = start(pieces=20, same="seed"), tmp_path / "run"
    command = ["gate", "open", "--out", out, *at(port), "--set", "gate.budget.max_rounds=2"]
    done = distill(*command)
    verdict = check_files(out, done)
    assert (verdict["outcome"], done.returncode, verdict["stopped_by"]) == ("INVALID", 5, "invalid")
    assert "other seeds gave the same text" in done.stdout and sums_in(query, out) == 0
    control(port, same=None, wrong=0.4)
    mended = check_files(out, distill(*command))
    assert (mended["outcome"], mended["stopped_by"]) == ("INCONCLUSIVE", "cap")
    assert rounds_in_evidence(out) == [2]


def test_contaminated_training_data_is_invalid_and_the_evidence_stays(distill, shelf, start, served, tmp_path):
    port, out = start(wrong=0.4), tmp_path / "run"
    command = ["gate", "open", "--out", out, *at(port), "--set", "gate.budget.max_rounds=2"]
    kept = check_files(out, distill(*command))
    before, training = asked(served(port)), tmp_path / "train.jsonl"
    training.write_text(json.dumps({"prompt": "What is 3 + 4?"}) + "\n")
    done = distill(*command, "--trained-on", training)
    verdict = check_files(out, done)
    assert (verdict["outcome"], done.returncode) == ("INVALID", 5)
    assert "contamination: 1 of 10 items" in done.stdout and str(training) in done.stdout
    assert verdict["evidence"] == kept["evidence"] and asked(served(port)) == before
    training.write_text(json.dumps({"prompt": "Name a river."}) + "\n")
    clean = check_files(out, distill(*command, "--trained-on", training))
    assert clean["comparisons"] == kept["comparisons"] and not clean["notes"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle(distill, shelf, start, served, query, tmp_path, number):
    """The next run goes on with the rounds of the evidence; no answer that was kept is asked for again."""
    port, out = start(wrong=0.4, seconds=0.15), tmp_path / "run"
    command = ["gate", "open", "--out", out, *at(port), "--set", "endpoint.max_in_flight=5"]

    def has_rounds() -> bool:
        return (out / "gate" / "verdict.json").exists() and rounds_in_evidence(out) >= [2] and sums_in(query, out) < 40

    code, err = distill.interrupt(has_rounds, number, *command)
    assert code == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[number], err
    assert "Traceback" not in err
    if number is signal.SIGINT:
        assert "error: interrupted; everything finished so far is saved" in err
    kept, (rounds,) = sums_in(query, out), rounds_in_evidence(out)
    evidence = verdict_of(out)["evidence"]["questions"]
    assert rounds >= 2 and 20 <= kept < 40 and verdict_of(out)["outcome"] == "INCONCLUSIVE"
    done = distill(*command)
    verdict = check_files(out, done)
    (after,) = verdict["evidence"]["questions"].values()
    (before,) = evidence.values()
    assert after["rounds"] == 4 and after["log_e"][:rounds] == before["log_e"]
    assert sums_in(query, out) == 40
    assert asked(served(port)) <= 40 + 5, "at most what was in flight is asked for again"
    assert verdict["models"]["student"]["rounds"] == 4


def test_the_endpoint_goes_down_in_the_middle(distill, shelf, start, query, tmp_path):
    port, out = start(wrong=0.4, seconds=0.15), tmp_path / "run"
    command = ["gate", "open", "--out", out, *at(port), "--set", "endpoint.max_in_flight=5"]
    patience = ["--set", "endpoint.give_up_seconds=2"]
    process = distill.start(*command, *patience)
    for line in process.stderr:
        if "round 2 of" in line:
            control(port, broken=True)
            break
    _, err = process.communicate(timeout=120)
    assert process.returncode == 6, err
    assert "error: " in err and "run the same command again" in err and "Traceback" not in err
    kept, (rounds,) = sums_in(query, out), rounds_in_evidence(out)
    assert kept >= 20 and rounds >= 2 and verdict_of(out)["outcome"] == "INCONCLUSIVE"
    control(port, broken=False)
    verdict = check_files(out, distill(*command))
    assert rounds_in_evidence(out) == [4] and sums_in(query, out) == 40
    assert verdict["stopped_by"] == "cap" and verdict["exit_code"] == 4


def test_out_of_budget_and_on(distill, shelf, start, served, tmp_path):
    port, out = start(wrong=0.4), tmp_path / "run"
    command = ["gate", "open", "--out", out, *at(port)]
    stopped = distill(*command, "--set", "gate.budget.max_completion_tokens=80")
    verdict = check_files(out, stopped)
    assert (verdict["outcome"], stopped.returncode, verdict["stopped_by"]) == ("INCONCLUSIVE", 6, "budget")
    assert "out of budget: 100 completion tokens were drawn, gate.budget.max_completion_tokens=80" in stopped.stdout
    assert rounds_in_evidence(out) == [2]
    rest = check_files(out, distill(*command))
    assert (rest["stopped_by"], rest["exit_code"]) == ("cap", 4)
    assert rounds_in_evidence(out) == [4] and asked(served(port)) == 40


# -- replay


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


def test_more_samples_wanted_than_recorded(distill, recorded, tmp_path):
    command = ["gate", "open", "--out", tmp_path / "run", "--model", recorded / "ledger.db"]
    done = distill(*command, "--set", "gate.budget.max_rounds=9")
    verdict = check_files(tmp_path / "run", done)
    assert (verdict["outcome"], verdict["stopped_by"], done.returncode) == ("INCONCLUSIVE", "samples", 4)
    assert "the recorded samples end after 4 complete rounds, at most 9 were asked for" in done.stdout


def test_a_ledgers_samples_as_the_teacher(distill, recorded, start, served, tmp_path):
    """The student is drawn, the teacher is not."""
    port, out = start(wrong=0.1), tmp_path / "run"
    done = distill("gate", "paired", "--out", out, *at(port), "--other", f"teacher={recorded}/ledger.db#tiny-served")
    verdict = check_files(out, done)
    teacher, student = verdict["models"]["teacher"], verdict["models"]["student"]
    assert verdict["outcome"] in ("PASS", "INCONCLUSIVE") and teacher["rounds"] == student["rounds"] > 0
    assert teacher["completion_tokens_drawn"] == 0 < student["completion_tokens_drawn"]


@pytest.mark.slow
def test_a_harvests_ledger_as_the_teacher(distill, shelf, start, tmp_path):
    source = (
        f"{{path: {shelf}/eval/tasks/sums.jsonl, prompt: prompt, answer: answer, id: id, family: sums, domain: math"
    )
    problems = f"problems.train=[{{jsonl: {source}, licence: none, verifier: math}}}}]"
    settings = [problems, "harvest.samples_per_problem=2", "evaluation.tasks=[tiny]"]
    sets = [part for each in settings for part in ("--set", each)]
    harvest = distill("harvest", "toy/quick", "--out", tmp_path / "harvest", *sets, *at(start()))
    assert harvest.returncode == 0, harvest.stderr
    out, source = tmp_path / "run", f"teacher={tmp_path}/harvest/ledger.db"
    verdict = check_files(out, distill("gate", "paired", "--out", out, *at(start(wrong=1.0)), "--other", source))
    assert (verdict["outcome"], verdict["comparisons"][0]["other"]) == ("FAIL", 1.0), verdict["reasons"]
    assert verdict["models"]["teacher"]["completion_tokens_drawn"] == 0


def test_metrics_of_tokens(distill, recorded, tmp_path):
    source = ["--model", recorded / "ledger.db"]
    mean = check_files(tmp_path / "mean", distill("gate", "tokens", "--out", tmp_path / "mean", *source))
    assert (mean["outcome"], mean["comparisons"][0]["metric"]) == ("PASS", "mean_tokens")
    assert mean["comparisons"][0]["student"] == 5.0 and "student 5 tokens, needed 30 tokens" in mean["reasons"][0]
    within = check_files(tmp_path / "within", distill("gate", "within", "--out", tmp_path / "within", *source))
    (row,) = within["comparisons"]
    assert (within["outcome"], row["metric"], row["student"]) == ("FAIL", "accuracy@3", 0.0), "5 tokens each"


def test_an_anchor_is_shown_and_changes_no_verdict(distill, recorded, tmp_path):
    out, source = tmp_path / "run", recorded / "ledger.db"
    command = ["gate", "open", "--out", out, "--model", source]
    plain = check_files(out, distill(*command))
    anchored = check_files(out, distill(*command, "--anchor", f"published={source}#tiny-served"))
    assert anchored["comparisons"] == plain["comparisons"] and not plain["anchors"]
    (row,) = anchored["anchors"]
    assert (row["baseline"], row["task"], row["rounds"], row["published"]) == ("published", "sums", 4, 0.5)
    assert row["distance"] == pytest.approx(row["measured"] - 0.5)
    assert (
        f"| published | tiny-served | sums | 4 | {row['measured']:.3f} | 0.500 |"
        in (out / "gate" / "summary.md").read_text()
    )


def test_local_data_in_the_tasks_place(distill, shelf, start, tmp_path):
    """`--set data.TASK` and `--set gate.X`; other items are other evidence."""
    port, out, own = start(wrong=0.4), tmp_path / "run", tmp_path / "own.jsonl"
    own.write_text(sums(4))
    command = ["gate", "open", "--out", out, *at(port), "--set", "gate.budget.max_rounds=2"]
    check_files(out, distill(*command))
    verdict = check_files(out, distill(*command, "--set", f"data.sums={own}"))
    assert (verdict["n_items"], verdict["comparisons"][0]["cap_rounds"]) == (4, 2)
    assert any("the evidence of an earlier run was not continued" in note for note in verdict["notes"])


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
