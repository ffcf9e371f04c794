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
from pathlib import Path

import pytest

from tests.e2e.gate_world import (
    ROOT,
    STUDENT,
    TEACHER,
    asked,
    at,
    check_files,
    control,
    rounds_in_evidence,
    sums,
    sums_in,
    verdict_of,
)

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
    given += ["--other", roles[0], "--other", roles[1], "--set", "gate.budget.max_rounds=4"]
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
    port, out = start(wrong=0.4, seconds=0.4), tmp_path / "run"
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
    port, out = start(wrong=0.4, seconds=0.4), tmp_path / "run"
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
