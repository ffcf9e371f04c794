"""What the verbs decide before a model is loaded; what they do is in tests/e2e/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill import commands
from distill.errors import CatalogError, ConfigError, LedgerError
from distill.gate_stage import GateModels, models_of

STUDENT = Path(__file__).resolve().parent.parent / "students" / "tiny"


def test_recipes_tasks_and_gates_are_told_apart(tmp_path):
    assert commands._is_recipe("tiny/quickstart")
    assert not commands._is_recipe("tiny")
    assert not commands._is_recipe("quickstart")
    path = tmp_path / "any.yaml"
    path.write_text("kind: recipe\n")
    assert commands._is_recipe(str(path))
    with pytest.raises(CatalogError, match="neither a recipe nor a task nor a gate"):
        commands._is_recipe("tiny/quikstart")


def test_a_task_needs_a_model(tmp_path):
    with pytest.raises(ConfigError, match="a task needs --model"):
        commands.eval_command("tiny", tmp_path, overrides=[], model=None, base_url=None)


def test_a_bad_out_is_found_before_a_model_is_loaded(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(LedgerError, match="file"):
        commands.eval_command("tiny", tmp_path / "file", overrides=[], model="no-such-model", base_url=None)


def test_a_gate_says_what_is_missing_before_it_samples(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no student: .* Name it with --model or --base-url"):
        commands.gate_command("quickstart", tmp_path, overrides=[])
    with pytest.raises(ConfigError, match=r"there is no base: .* Name it with --other base=MODEL"):
        commands.gate_command("quickstart", tmp_path, overrides=[], models=GateModels(model="tiny"))
    with pytest.raises(ConfigError, match=r"--set evaluation.temperature=1: a gate has gate\., data\., endpoint\."):
        commands.gate_command("quickstart", tmp_path, overrides=["evaluation.temperature=1"])
    with pytest.raises(ConfigError, match=r"--set data.tiny=none.jsonl: there is no such file"):
        commands.gate_command("quickstart", tmp_path, overrides=["data.tiny=none.jsonl"])


def test_lm_evals_own_task_from_the_command_line(tmp_path):
    """Its GSM8K over files of two splits, by the embedded student; a second call draws nothing."""
    rows = [{"question": f"What is {at} + 1?", "answer": f"It is\n#### {at + 1}"} for at in range(8)]
    files = []
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files.append(f"data.gsm8k.{split}={tmp_path / split}.jsonl")
    given = {"overrides": [*files, "evaluation.max_new_tokens=8"], "model": str(STUDENT), "base_url": None}
    first = commands.eval_command("lm-eval/gsm8k", tmp_path / "run", **given)
    assert "exact_match,flexible-extract" in first["summary"] and first["samples_drawn"] == 8
    assert json.loads((tmp_path / "run" / "eval" / "official.json").read_text())["scores"] == first["scores"]
    assert commands.eval_command("lm-eval/gsm8k", tmp_path / "run", **given)["samples_drawn"] == 0
    with pytest.raises(ConfigError, match="splits are of lm-eval's own tasks"):
        commands.eval_command("gsm8k", tmp_path / "other", **{**given, "overrides": files})


def test_thoughts_are_closed_at_token_budgets(tmp_path, monkeypatch):
    """--set evaluation.force_close adds a curve from the thoughts that the evaluation drew."""
    (tmp_path / "eval" / "tasks").mkdir(parents=True)
    source = "{family: gcd, size: 4, seed: 5, config: {min_value: 10, max_value: 99}}"
    (tmp_path / "eval" / "tasks" / "few.yaml").write_text(
        "task: few\nclass: !function distill.evaluate.problem_task.ProblemTask\n"
        f"metadata:\n  version: 1.0\n  problems:\n    - gym: {source}\n"
    )
    monkeypatch.setattr("distill.catalog._added", [tmp_path])
    overrides = ["evaluation.max_new_tokens=320", "evaluation.force_close=[8, 320]"]
    commands.eval_command("few", tmp_path / "run", overrides=overrides, model="tiny", base_url=None)
    curves = json.loads((tmp_path / "run" / "eval" / "curves.json").read_text())["models"]["student"]["tasks"]["few"]
    early, late = curves["force_closed"]
    assert (early["budget"], early["share_finished"], late["share_finished"]) == (8, 0.0, 1.0)
    assert late["accuracy"] == curves["pass_at"][0]["value"] > early["accuracy"]


def test_roles_are_named_as_pairs():
    assert models_of(None, None, ["base=a"], ["o1-mini=b"], None).others == {"base": "a"}
    with pytest.raises(ConfigError, match=r"--other tutor=\.\.\.: expected one of base, teacher, checkpoint"):
        models_of(None, None, ["tutor=a"], [], None)
    with pytest.raises(ConfigError, match="expected NAME=MODEL"):
        models_of(None, None, [], ["o1-mini"], None)


def test_a_finished_evaluation_needs_its_parts(tmp_path):
    fixed = [f"gate.comparisons.{row}.method=bootstrap" for row in (0, 1)]
    with pytest.raises(ConfigError, match=r"no student\.json to judge; run `distill eval tiny --model PATH"):
        commands.gate_command("quickstart", tmp_path, overrides=fixed)
    with pytest.raises(ConfigError, match=r"compares with base and teacher, of which .* has no evaluation"):
        commands.gate_command("quickstart", tmp_path, overrides=fixed, models=GateModels(model="tiny"))
