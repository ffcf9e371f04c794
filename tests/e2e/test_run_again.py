"""A finished run directory: its files agree with each other, and running again changes nothing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

EXIT_CODES = {"PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4, "INVALID": 5}

STUDENT = Path(__file__).resolve().parents[2] / "students" / "tiny"


def test_stdout_is_one_json_object_and_the_code_is_the_gates(toy_run):
    said = json.loads(toy_run.done.stdout)
    verdict = json.loads((toy_run.directory / "gate" / "verdict.json").read_text())
    assert said["verdict"]["outcome"] == verdict["outcome"] == toy_run.record["gate"]["outcome"]
    assert toy_run.done.returncode == said["exit_code"] == EXIT_CODES[verdict["outcome"]]
    assert "Traceback" not in toy_run.done.stderr


def test_overlap_with_the_held_out_problems_is_removed_and_counted(toy_run):
    problems = toy_run.record["problems"]
    assert problems["removed_overlap"] == 5
    assert problems["train"] == 44
    assert problems["held_out"] == 10
    assert "removed 0 duplicates and 5 that are held out" in toy_run.done.stderr


def test_harvest_figures_follow_from_the_ledger(toy_run, query):
    harvest = toy_run.record["harvest"]
    fingerprint = harvest["teacher_fingerprint"]
    found = query(
        toy_run.directory,
        "SELECT s.completion_tokens, s.finish_reason, v.outcome FROM samples s JOIN verdicts v ON v.sample_key = s.key "
        f"WHERE s.model_fingerprint = '{fingerprint}' ORDER BY s.row_id LIMIT {harvest['samples']}",
    )
    accepted = sum(outcome == "correct" for _, _, outcome in found)
    tokens = sum(count for count, _, _ in found)
    assert (len(found), accepted, tokens) == (harvest["samples"], harvest["accepted"], harvest["completion_tokens"])
    assert harvest["tokens_per_accepted_trace"] == round(tokens / accepted, 1)
    assert harvest["accept_rate"] == round(accepted / len(found), 4)
    assert sum(harvest["outcomes"].values()) == sum(harvest["finish_reasons"].values()) == harvest["samples"]
    assert harvest["finish_reasons"].get("length", 0) == sum(reason == "length" for _, reason, _ in found)
    assert sum(family["samples"] for family in harvest["families"].values()) == harvest["samples"]
    assert sum(family["accepted"] for family in harvest["families"].values()) == accepted
    assert harvest["samples_from_ledger"] == 0


def test_dataset_loads_and_agrees_with_the_counts(toy_run, tmp_path):
    from datasets import load_dataset

    from distill.store.parquet import read_drops

    dataset = load_dataset(str(toy_run.directory / "dataset"), split="train", cache_dir=str(tmp_path))
    drops = read_drops(toy_run.directory / "dataset")
    record = toy_run.record
    assert len(dataset) + len(drops) == record["harvest"]["samples"]
    assert sum(record["curation"]["drops_by_reason"].values()) == len(drops)
    assert set(dataset["outcome"]) == {"correct"}
    assert len(dataset) == record["training"]["num_documents"] + record["training"]["num_overlong"]


def test_student_loads_and_is_described(toy_run):
    from transformers import AutoModelForCausalLM

    from distill.engines.local import load_tokenizer

    folder = toy_run.directory / "student"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(folder)
    assert model.config.model_type == "qwen2"
    assert tokenizer.chat_template
    card = (folder / "README.md").read_text()
    assert f"{toy_run.record['training']['optimizer_steps']} steps" in card


def test_evaluation_gate_and_report_agree(toy_run):
    record = toy_run.record
    results = json.loads((toy_run.directory / "eval" / "results.json").read_text())
    assert results == record["evaluation"]
    for role in ("base", "student", "teacher"):
        saved = json.loads((toy_run.directory / "eval" / f"{role}.json").read_text())["tasks"]["toy"]
        assert saved["scores"]["pass@1"] == results[role]["toy"]["scores"]["pass@1"]
        correct = sum(outcome == "correct" for item in saved["items"] for outcome in item["outcomes"])
        assert saved["scores"]["pass@1"] == correct / 20
    verdict = json.loads((toy_run.directory / "gate" / "verdict.json").read_text())
    suite = ElementTree.parse(toy_run.directory / "gate" / "junit.xml").getroot()
    assert bool(list(suite.iter("failure")) or list(suite.iter("error"))) == (verdict["outcome"] != "PASS")
    assert verdict["outcome"] in (toy_run.directory / "gate" / "summary.md").read_text()
    assert verdict["outcome"] in (toy_run.directory / "report.html").read_text()
    assert all(stage["state"] == "done" for stage in record["stages"].values()), record["stages"]


def test_running_again_draws_and_trains_nothing(distill, toy_run, query, tmp_path):
    out = toy_run.copy(tmp_path / "run")
    weights = out / "student" / "model.safetensors"
    before, samples = weights.stat().st_mtime_ns, query(out, "SELECT key, text FROM samples ORDER BY row_id")
    done = distill("run", "toy/quick", "--out", out, "--json")
    assert done.returncode == toy_run.done.returncode, done.stderr
    assert query(out, "SELECT key, text FROM samples ORDER BY row_id") == samples
    assert weights.stat().st_mtime_ns == before
    first, again = toy_run.record, json.loads((out / "run.json").read_text())
    assert again["harvest"].pop("samples_from_ledger") == first["harvest"].pop("samples")
    first["harvest"].pop("samples_from_ledger"), again["harvest"].pop("samples")
    for section in ("harvest", "curation", "training", "evaluation", "gate", "problems"):
        assert again[section] == first[section], section
    for role in ("base", "student", "teacher"):
        saved = json.loads((out / "eval" / f"{role}.json").read_text())
        assert (saved["samples_drawn"], saved["samples_reused"]) == (0, 20)


def test_a_gate_by_itself(distill, toy_run, query, tmp_path):
    """`distill gate GATE --model` evaluates the model as the others were: here the ledger knows every sample."""
    out = toy_run.copy(tmp_path / "run", "gate", "report.html")
    (out / "eval" / "student.json").unlink()
    without_probes = "SELECT count(*) FROM samples WHERE problem_id NOT LIKE 'probe/%'"
    samples = query(out, without_probes)
    done = distill("gate", "toy", "--out", out, "--model", out / "student", "--json")
    verdict = json.loads(done.stdout)["verdict"]
    first = json.loads((toy_run.directory / "gate" / "verdict.json").read_text())
    assert verdict["outcome"] == first["outcome"]
    assert verdict["comparisons"] == first["comparisons"]
    assert done.returncode == toy_run.done.returncode
    assert query(out, without_probes) == samples


def test_a_recipes_gate_on_another_model(distill, toy_run, tmp_path):
    """`distill gate RECIPE --model` puts the model in the student's place: the base student, here."""
    out = toy_run.copy(tmp_path / "run", "gate", "report.html")
    done = distill("gate", "toy/quick", "--out", out, "--model", STUDENT, "--json")
    judged = json.loads(done.stdout)["verdict"]
    base, student = (json.loads((out / "eval" / f"{role}.json").read_text()) for role in ("base", "student"))
    assert student["tasks"]["toy"]["scores"]["pass@1"] == base["tasks"]["toy"]["scores"]["pass@1"]
    assert judged["outcome"] in ("FAIL", "INCONCLUSIVE")


@pytest.mark.slow
def test_a_task_by_itself(distill, toy_run, tmp_path):
    settings = ("--set", "evaluation.max_new_tokens=32", "--set", "evaluation.batch_size=16")
    model = toy_run.directory / "student"
    done = distill("eval", "toy", "--model", model, "--out", tmp_path / "run", *settings, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["samples_drawn"], result["params"]["max_new_tokens"]) == (10, 32)
    assert json.loads((tmp_path / "run" / "eval" / "student.json").read_text())["tasks"] == result["tasks"]
