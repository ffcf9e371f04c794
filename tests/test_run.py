"""A run's inputs and order of stages, without a model; whole runs are in tests/e2e/."""

from __future__ import annotations

import json

import pytest

import distill
from distill.errors import CatalogError, ConfigError, ProblemError, TraceError
from distill.harvest.summary import HarvestSummary
from distill.harvest_stage import kept_speed
from distill.run import ROLES, Run, sampling_params

ONE_SOURCE = "problems.train=[{gym: {family: gcd, size: 30, seed: 7, config: {min_value: 10, max_value: 99}}}]"
HELD_OUT = ONE_SOURCE.replace("seed: 7", "seed: 20260001")


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.open("tiny/quickstart", tmp_path / "run", [ONE_SOURCE, "seed=9"])


def test_open_records_what_the_run_is_made_of(run):
    record = json.loads((run.directory / "run.json").read_text())
    assert record["recipe_name"] == "tiny/quickstart"
    assert record["recipe"]["seed"] == 9
    assert record["overrides"] == [ONE_SOURCE, "seed=9"]
    assert len(record["recipe_hash"]) == 16
    assert "tiny" in record["card_hashes"]
    assert {"machine", "versions", "code"} <= record.keys()


def test_opening_again_keeps_figures(run):
    run.file.update("harvest", samples=3)
    again = Run.open("tiny/quickstart", run.directory, [ONE_SOURCE, "seed=9"])
    assert again.file.data["harvest"] == {"samples": 3}
    assert again.file.data["created_at"] == run.file.data["created_at"]


def test_run_loads_lazily_from_the_package():
    assert distill.Run is Run
    with pytest.raises(AttributeError, match="it has GateModels, GateStage, Run"):
        distill.Runs  # noqa: B018


def test_problems_are_counted(run):
    counts = run.problems()
    assert counts.counts["train"] + counts.counts["removed_overlap"] + counts.counts["removed_duplicates"] == 30
    assert counts.counts["held_out"] == 299
    assert sum(counts.counts["by_family"].values()) == counts.counts["train"] == len(run.train_problems)
    assert f"problems: {counts.counts['train']} to harvest, 299 held out" in str(counts)
    held_out = {problem.prompt for problem in run.held_out}
    assert not held_out & {problem.prompt for problem in run.train_problems}


def test_nothing_but_held_out_problems(tmp_path):
    run = Run.open("tiny/quickstart", tmp_path / "run", [HELD_OUT])
    with pytest.raises(ProblemError, match="every training problem is also held out"):
        run.problems()


@pytest.mark.parametrize(
    ("stage", "error", "command"),
    [
        ("curate", ConfigError, "distill harvest tiny/quickstart --out"),
        ("train", TraceError, "distill curate"),
        ("gate", ConfigError, "distill eval tiny/quickstart --out"),
    ],
)
def test_a_stage_without_its_input_says_which_command_makes_it(run, stage, error, command):
    with pytest.raises(error, match=command):
        getattr(run, stage)()


def test_evaluation_of_a_student_that_is_not_trained(run):
    with pytest.raises(ConfigError, match="there is no trained student yet; run `distill train tiny/quickstart"):
        run.engine("student", 16)
    assert ROLES == ("base", "student", "teacher")


def test_a_failed_stage_is_recorded_with_its_error(run):
    with pytest.raises(ConfigError):
        run.curate()
    stage = json.loads((run.directory / "run.json").read_text())["stages"]["curate"]
    assert stage["state"] == "failed"
    assert "nothing is harvested yet" in stage["error"]


def test_sampling_is_the_teacher_cards_unless_the_recipe_says_else(tmp_path):
    run = Run.open("tiny/quickstart", tmp_path / "run", ["harvest.temperature=0.3"])
    card, params = run.teacher_card.sampling, sampling_params(run.recipe.harvest)
    assert (params.temperature, params.top_p, params.max_new_tokens) == (0.3, card.top_p, card.max_new_tokens)
    assert sampling_params(run.recipe.evaluation) == params


def test_places_that_are_no_folder(tmp_path):
    (tmp_path / "file").write_text("text")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="choose another --out"):
            Run.open("tiny/quickstart", place)
    with pytest.raises(CatalogError):
        Run.open("tiny/quikstart", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_harvest_that_drew_nothing_keeps_the_speed_of_the_one_that_did():
    def summary(known: int, speed: float) -> HarvestSummary:
        return HarvestSummary(
            "t", "f", 4, 4, 2, {}, None, 1, 4, known, 40, None, 2, {}, {}, {}, seconds=1.0, tokens_per_second=speed
        )

    first = kept_speed(summary(0, 40.0), {})
    assert (first["seconds"], first["tokens_per_second"]) == (1.0, 40.0)
    before = {"seconds": 9.0, "tokens_per_second": 7.0}
    assert kept_speed(summary(4, 0.0), before)["tokens_per_second"] == 7.0
    assert kept_speed(summary(4, 0.0), before)["seconds"] == 9.0
    assert kept_speed(summary(2, 5.0), before)["tokens_per_second"] == 5.0
