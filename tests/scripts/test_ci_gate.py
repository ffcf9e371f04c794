"""scripts/ci/gate.sh as GitHub and GitLab run it, over real gates: what the step does, and what it reports.

pytest tests/scripts/test_ci_gate.py
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GATE = """
kind: gate
name: half
description: Half of the sums are right.
tasks: [tiny]
estimand: population
comparisons: [{against: constant, minimum: 0.5}]
"""


def test_scripts_are_sound_shell():
    scripts = sorted((ROOT / "scripts" / "ci").glob("*.sh"))
    assert len(scripts) == 3
    done = subprocess.run(
        [str(Path(sys.executable).with_name("shellcheck")), *map(str, scripts)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("outcome", "code", "level"),
    [("PASS", 0, "notice"), ("FAIL", 3, "error"), ("INCONCLUSIVE", 4, "error"), ("INVALID", 5, "error")],
)
def test_each_verdict_as_a_step(check, record, outcome, code, level):
    record(check.out, outcome)
    done = check.run()
    assert done.code == code, done.stderr
    assert done.outputs == {
        "outcome": outcome,
        "exit-code": str(code),
        "verdict": "distill-gate/gate/verdict.json",
        "junit": "distill-gate/gate/junit.xml",
    }
    assert json.loads((check.folder / done.outputs["verdict"]).read_text())["outcome"] == outcome
    assert done.step_summary.startswith(f"## Gate near: {outcome}\n")
    assert done.cases["validity"] == ("error" if outcome == "INVALID" else "passed")
    rows = [state for name, state in done.cases.items() if name != "validity"]
    expected = {"PASS": ["passed"] * 2, "FAIL": ["failure"] * 2, "INCONCLUSIVE": ["error", "passed"], "INVALID": []}
    assert rows == expected[outcome]
    assert f"\n::{level} title=distill gate::gate near.yaml: {outcome} (exit code {code})" in done.stdout
    settled = (check.out / "gate" / "outcome.env").read_text()
    assert settled == f"DISTILL_GATE_OUTCOME={outcome}\nDISTILL_GATE_EXIT_CODE={code}\n"


@pytest.mark.parametrize(("outcome", "code"), [("INCONCLUSIVE", 0), ("FAIL", 3)])
def test_neutral_is_for_inconclusive_alone(check, record, outcome, code):
    record(check.out, outcome)
    done = check.run(GATE_ON_INCONCLUSIVE="neutral")
    assert done.code == code
    assert done.outputs["outcome"] == outcome
    if outcome == "INCONCLUSIVE":
        assert "::warning title=distill gate::" in done.stdout
        assert done.outputs["exit-code"] == "4"
        assert "error" in done.cases.values()  # JUnit is not green


def test_an_endpoint_that_is_down_is_no_verdict_and_leaves_no_older_one(check, record, answers_nothing):
    record(check.out, "PASS")
    assert check.run().outputs["outcome"] == "PASS"
    (check.folder / "half.yaml").write_text(GATE)
    done = check.run(GATE="half.yaml", GATE_BASE_URL=answers_nothing, GATE_SET="endpoint.give_up_seconds=1")
    assert done.code == 6, done.stderr
    assert (done.outputs["outcome"], done.outputs["verdict"]) == ("INFRASTRUCTURE", "")
    assert done.cases == {"verdict": "error"}
    assert "no verdict (INFRASTRUCTURE, exit code 6)" in done.step_summary
    assert answers_nothing in done.step_summary
    assert not (check.out / "gate" / "summary.md").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"GATE": ""}, "GATE: give the name"),
        ({"GATE": 'quick<"&\x1b'}, "neither a recipe nor a task nor a gate"),
        ({"GATE_ON_INCONCLUSIVE": "pass"}, "expected fail or neutral"),
        ({"GATE_REPLAY": "nowhere.db#mine"}, "GATE_REPLAY=nowhere.db#mine: no such file"),
        ({"GATE_REPLAY": "half.db", "GATE_MODEL": "tiny"}, "stands in place of a model"),
        ({"DISTILL_VENV": "/nowhere"}, "/nowhere/bin/distill: not found"),
        ({"GATE_ARGS": "--no-such-option"}, "--no-such-option"),
    ],
)
def test_bad_settings_are_reported_as_such(check, settings, message):
    done = check.run(**settings)
    assert done.code == 2
    assert message in done.stderr
    assert done.outputs["outcome"] == "USAGE"
    assert done.cases == {"verdict": "error"}
    assert "no verdict (USAGE, exit code 2)" in done.step_summary
    assert '<"&' not in done.step_summary.split("\n")[0]


def test_success_without_a_verdict_is_not_green(check):
    done = check.run(GATE_ARGS="--help")
    assert done.code == 1
    assert done.outputs["outcome"] == "CRASH"
    assert done.cases == {"verdict": "error"}


def test_settings_become_arguments(check, tmp_path):
    """A `distill` that writes down what it was given, and is then the real one."""
    tools = tmp_path / "tools" / "bin"
    tools.mkdir(parents=True)
    (tools / "distill").write_text(
        f'#!/usr/bin/env bash\nprintf "%s\\n" "$@" >given.txt\nexec "{Path(sys.executable).parent}/distill" "$@"\n'
    )
    (tools / "distill").chmod(0o755)
    (tmp_path / "recorded.db").write_text("")
    settings = {
        "DISTILL_VENV": str(tools.parent),
        "GATE": "no-such-gate",
        "GATE_OUT": "an out",
        "GATE_CATALOG": "my catalog",
        "GATE_OTHER": "base=a b\nteacher=runs/r1/ledger.db#r1\n",
        "GATE_SET": "  gate.budget.max_rounds=8  \n\n# a comment\ngate.name=two words\n",
        "GATE_ARGS": "--json\n--set\nx=$(touch injected)",
    }
    start = ["--catalog", "my catalog", "gate", "no-such-gate", "--out", "an out"]
    end = [
        *("--other", "base=a b", "--other", "teacher=runs/r1/ledger.db#r1"),
        *("--set", "gate.budget.max_rounds=8", "--set", "gate.name=two words"),
        *("--json", "--set", "x=$(touch injected)"),
    ]
    check.run(**settings, GATE_REPLAY="recorded.db#mine")
    assert (tmp_path / "given.txt").read_text().splitlines() == [*start, "--model", "recorded.db#mine", *end]
    check.run(**settings, GATE_MODEL="mine", GATE_BASE_URL="http://a/v1")
    served = ["--model", "mine", "--base-url", "http://a/v1"]
    assert (tmp_path / "given.txt").read_text().splitlines() == [*start, *served, *end]
    assert not (tmp_path / "injected").exists()


def num_samples(path: Path) -> int:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM samples").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.slow
def test_a_cancelled_job_keeps_its_samples_the_next_goes_on_and_a_third_replays_them(check, serve):
    """Runners signal the script alone; distill saves what it has."""
    (check.folder / "half.yaml").write_text(GATE)
    ledger = check.out / "ledger.db"
    process = check.start(
        GATE="half.yaml", GATE_BASE_URL=serve('{"seconds": 0.5}'), GATE_SET="endpoint.max_in_flight=4"
    )
    give_up_at = time.monotonic() + 60
    while num_samples(ledger) < 8 and time.monotonic() < give_up_at:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    done = check.wait(process)
    assert done.code == 143, done.stderr
    assert (done.outputs["outcome"], done.outputs["verdict"]) == ("INTERRUPTED", "")
    assert done.cases == {"verdict": "error"}
    kept = num_samples(ledger)
    assert kept >= 8
    again = check.run(GATE="half.yaml", GATE_BASE_URL=serve())
    assert again.code == 3, again.stderr
    assert again.outputs["outcome"] == "FAIL"
    assert num_samples(ledger) > kept
    replayed = check.run(GATE="half.yaml", GATE_REPLAY="distill-gate/ledger.db", GATE_OUT="replayed")
    assert replayed.code == 3, replayed.stderr
    first, second = (json.loads((check.folder / each.outputs["verdict"]).read_text()) for each in (again, replayed))
    assert first["models"]["student"]["completion_tokens_drawn"] > 0
    assert second["models"]["student"]["completion_tokens_drawn"] == 0
    assert second["comparisons"] == first["comparisons"]


@pytest.mark.slow
def test_a_rerun_adds_rounds_to_the_evidence_that_a_cache_kept(check, serve):
    """From what the action keeps, and nothing else, in a folder that is new each time."""
    (check.folder / "few.yaml").write_text(GATE.replace("0.5", "0.02").replace("population", "benchmark"))
    url = serve()

    def run(number: int, max_rounds: int):
        out, before = check.folder / f"run{number}", check.folder / f"run{number - 1}"
        for name in ("gate/verdict.json", "ledger.db", "ledger.db-wal"):
            if (before / name).exists():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).write_bytes((before / name).read_bytes())
        settings = {"GATE_OUT": out.name, "GATE_SET": f"gate.budget.max_rounds={max_rounds}"}
        done = check.run(GATE="few.yaml", GATE_BASE_URL=url, **settings)
        assert done.outputs["outcome"] == ("INCONCLUSIVE" if max_rounds == 1 else "FAIL"), done.stderr
        verdict = json.loads((out / "gate" / "verdict.json").read_text())
        (question,) = verdict["evidence"]["questions"].values()
        return verdict["models"]["student"]["completion_tokens_drawn"], question, done.step_summary

    drawn, first, _ = run(1, 1)
    assert drawn > 0 and (first["rounds"], first["final_test"]) == (1, "spent")
    drawn, same, text = run(2, 1)
    assert drawn == 0 and same["log_e"] == first["log_e"]
    assert "The final test at the cap is spent" in text
    drawn, more, _ = run(3, 2)
    assert drawn > 0 and more["rounds"] == 2 and more["log_e"][:1] == first["log_e"]


def test_a_key_that_is_missing_is_no_verdict(check, serve):
    """As in the run for a fork's pull request."""
    (check.folder / "half.yaml").write_text(GATE)
    done = check.run(GATE="half.yaml", GATE_BASE_URL=serve('{"key": "sk-1234"}'))
    assert (done.code, done.outputs["outcome"]) == (6, "INFRASTRUCTURE"), done.stderr
    assert "Set the key in DISTILL_API_KEY" in done.step_summary


@pytest.mark.slow
def test_a_local_checkpoint_passes_and_its_weights_name_the_evidence(check):
    (check.folder / "half.yaml").write_text(GATE)
    teacher = ROOT / "teachers" / "tiny"
    done = check.run(GATE="half.yaml", GATE_MODEL=str(teacher))
    assert (done.code, done.outputs["outcome"]) == (0, "PASS"), done.stderr
    again = check.run(GATE="half.yaml", GATE_MODEL=str(teacher))
    verdict = json.loads((check.out / "gate" / "verdict.json").read_text())
    assert (again.code, verdict["models"]["student"]["completion_tokens_drawn"]) == (0, 0)
    student = check.run(GATE="half.yaml", GATE_MODEL=str(ROOT / "students" / "tiny"))
    assert (student.code, student.outputs["outcome"]) == (3, "FAIL"), student.stderr
    assert "was not continued" in student.step_summary
