"""Bad input: one clear `error:` message on stderr, no traceback, nothing on stdout, the right exit code."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import warnings

import pytest

from distill import catalog

JSONL = "problems.train=[{{jsonl: {{path: {}, prompt: q, answer: a, domain: d, licence: mit, verifier: exact}}}}]"


@pytest.fixture
def teacher(tmp_path):
    """A copy of the embedded teacher, to damage; its card's path."""
    folder = tmp_path / "mine"
    shutil.copytree(catalog.find("teachers", "tiny").parent, folder)
    return folder / "card.yaml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["harvest", "toy/quik"], "did you mean 'toy/quick'?"),
        (["harvest", "toy/quick", "--set", "harvest.sample_per_problem=2"], "did you mean 'samples_per_problem'?"),
        (["harvest", "toy/quick", "--base-url", "localhost:1"], "expected http://HOST:PORT/v1"),
        (["harvest", "toy/quick", "--model", "tinny"], "did you mean 'tiny'?"),
        (["curate", "toy/quick"], "nothing is harvested yet; run `distill harvest toy/quick --out"),
        (["train", "toy/quick"], "distill curate"),
        (["gate", "toy/quick"], "no evaluation of base, student, teacher yet; run `distill eval toy/quick --out"),
        (["gate", "toy"], "there is no student: "),
        (["gate", "toy", "--model", "tiny"], "Name it with --other base=MODEL, or run `distill eval RECIPE --out"),
        (["eval", "toy"], "a task needs --model"),
        (["eval", "toi", "--model", "tiny"], "'toi' is neither a recipe nor a task nor a gate"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "",
)
def test_refused(refused, tmp_path, arguments, message):
    assert message in refused(*arguments, "--out", tmp_path / "run")


def test_errors_as_json(distill, tmp_path):
    done = distill("harvest", "toy/quik", "--out", tmp_path, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert json.loads(done.stderr)["error"]["type"] == "CatalogError"


def test_a_typo_in_a_teacher_card(refused, teacher, tmp_path):
    teacher.write_text(teacher.read_text().replace("temperature:", "temperatur:"))
    message = refused("harvest", "toy/quick", "--out", tmp_path / "run", "--set", f"teacher={teacher}")
    assert "did you mean 'temperature'?" in message
    assert str(teacher) in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no *.safetensors file"),
        (lambda folder: cut(folder / "model.safetensors", 5000), "cannot be loaded"),
        (lambda folder: cut(folder / "config.json", 100), "cannot be loaded"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
    ],
    ids=["no-weights", "torn-weights", "torn-config", "no-chat-template"],
)
def test_a_broken_teacher(refused, teacher, tmp_path, damage, message):
    damage(teacher.parent)
    assert message in refused("harvest", "toy/quick", "--out", tmp_path / "run", "--set", f"teacher={teacher}")


def cut(path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_more_tokens_than_the_context(refused, tmp_path):
    settings = ("--set", "harvest.max_new_tokens=5000")
    message = refused("harvest", "toy/quick", "--out", tmp_path / "run", *settings)
    assert "max_new_tokens" in message
    assert "1024" in message


def test_ledgers_that_are_none(refused, tmp_path):
    torn, foreign = tmp_path / "torn" / "ledger.db", tmp_path / "foreign" / "ledger.db"
    for path in (torn, foreign):
        path.parent.mkdir()
    torn.write_bytes(b"not a ledger at all" * 500)
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    assert "damaged or not a ledger" in refused("harvest", "toy/quick", "--out", torn.parent)
    before = foreign.read_bytes()
    assert "another program" in refused("eval", "toy", "--model", "tiny", "--out", foreign.parent)
    assert foreign.read_bytes() == before


def test_an_empty_problem_set(refused, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    setting = JSONL.format(tmp_path / "none.jsonl")
    assert "none.jsonl" in refused("harvest", "toy/quick", "--out", tmp_path / "run", "--set", setting)


@pytest.mark.parametrize("verb", [["harvest", "toy/quick"], ["eval", "toy", "--model", "tiny"]], ids=["recipe", "task"])
def test_out_under_a_regular_file(refused, tmp_path, verb):
    (tmp_path / "file").write_text("text")
    assert "file" in refused(*verb, "--out", tmp_path / "file" / "run")


def test_fp8_of_a_student_that_is_too_small_for_it(refused, toy_run, tmp_path):
    out = toy_run.copy(tmp_path / "run", "student")
    message = refused("train", "toy/quick", "--out", out, "--set", "training.precision=fp8")
    assert "no linear of this model would be FP8 (skinny: 128 x 128" in message
    assert not list(out.glob("student/*.safetensors"))


def test_fp8_settings_without_fp8(refused, tmp_path):
    out = tmp_path / "run"
    message = refused("train", "toy/quick", "--out", out, "--set", "training.fp8.recipe=small")
    assert "fp8: given although precision is" in message


def test_evaluation_before_training(refused, toy_run, tmp_path):
    out = toy_run.copy(tmp_path / "run", "student", "eval")
    assert "there is no trained student yet; run `distill train" in refused("eval", "toy/quick", "--out", out)


@pytest.mark.slow
def test_a_full_disk(distill, toy_run, tmp_path):
    """Exit code 6; with more room the same command goes on from what the ledger has."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)]
    mounting = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounting.returncode:
        warnings.warn(f"no disk to fill: mount refused ({mounting.stderr.strip()})", stacklevel=1)
        pytest.skip("mounting a small tmpfs was refused: run as root to test a disk that is really full")
    try:
        full = distill("harvest", "toy/quick", "--out", disk)
        assert full.returncode == 6, full.stderr
        assert full.stderr.count("error: ") == 1
        assert "the disk is full" in full.stderr
        assert "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        done = distill("harvest", "toy/quick", "--out", disk, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["samples"] == toy_run.record["harvest"]["samples"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
