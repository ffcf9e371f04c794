"""Every card, recipe and baseline that ships is read, and what it says is plausible and sourced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from distill import catalog
from distill.cards import (
    Baseline,
    ModelCard,
    PublishedResult,
    Source,
    TableSource,
    load_baseline,
    load_student,
    load_teacher,
)
from distill.errors import ProblemError
from distill.gate.spec import load_gate
from distill.problems import load_problems
from distill.recipes import DatasetSource, load_recipe

EMBEDDED = {"tiny"}
"""Made by this repository: their facts come from its own files."""

TEACHERS = sorted(set(catalog.names("teachers")) - EMBEDDED)
STUDENTS = sorted(set(catalog.names("students")) - EMBEDDED)
RECIPES = [name for name in catalog.names("recipes") if name.split("/")[0] not in EMBEDDED]
BASELINES = catalog.names("baselines")

LOOKED_UP = date(2026, 11, 23)

PUBLISHED_LEARNING_RATES = {
    "qwen2.5-math-1.5b": 1e-4,
    "qwen2.5-math-7b": 8e-5,
    "qwen2.5-14b": 7e-5,
    "qwen2.5-32b": 6e-5,
    "llama-3.1-8b": 5e-5,
}
"""DeepSeek-R1, arXiv:2501.12948v2, appendix B.3.3."""

REQUIRED_TEACHERS = {
    "deepseek-r1",
    "deepseek-r1-0528",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "qwen3-235b-a22b-thinking-2507",
    "qwen3-30b-a3b-thinking-2507",
}


def check_sources(sources: Iterable[Source | TableSource]) -> None:
    for source in sources:
        assert source.url.startswith("https://"), source
        assert source.retrieved >= LOOKED_UP, source


def check_card(card: ModelCard, name: str) -> None:
    assert card.name == name
    assert card.model.count("/") == 1, "a hub id"
    assert card.title and card.licence and card.architecture
    assert 2_048 <= card.context_tokens <= 2**21
    check_sources(card.sources)
    assert all(source.what for source in card.sources)


def test_the_shelf_is_stocked() -> None:
    assert set(TEACHERS) >= REQUIRED_TEACHERS
    assert set(STUDENTS) >= {*PUBLISHED_LEARNING_RATES, "smollm2-135m"}
    assert set(BASELINES) >= {"o1-mini", "deepseek-r1"}
    assert len([name for name in BASELINES if name.startswith("r1-distill-")]) == 6


@pytest.mark.parametrize("name", TEACHERS)
def test_teacher(name: str) -> None:
    card = load_teacher(name)
    check_card(card, name)
    assert 10**9 <= card.active_parameters <= card.total_parameters <= 10**13
    assert date(2024, 9, 1) < card.released <= LOOKED_UP
    assert 0 < card.sampling.temperature <= 1.5
    assert 8_192 <= card.sampling.max_new_tokens <= card.context_tokens
    assert card.reasoning.open_marker != card.reasoning.close_marker
    assert card.serving, "a command that serves it"
    for serving in card.serving:
        assert card.model in serving.command
        assert serving.engine in serving.command
        assert serving.hardware
    for benchmark in card.benchmarks:
        assert_in_range(benchmark.value, benchmark.metric)
        assert "https://" in benchmark.source


@pytest.mark.parametrize("name", STUDENTS)
def test_student(name: str) -> None:
    card = load_student(name)
    check_card(card, name)
    assert 10**8 <= card.parameters <= 10**11
    assert stated_size(name) == pytest.approx(card.parameters, rel=0.25)
    assert 1e-6 <= card.training.learning_rate <= 1e-3
    assert 1 <= card.training.epochs <= 5
    assert set(card.lora_target_modules) >= {"q_proj", "v_proj"}
    if card.training.max_length > card.context_tokens:
        assert "max_position_embeddings" in (card.notes or ""), "says what must be raised first"


def stated_size(name: str) -> float:
    """Parameters as the name says: `qwen2.5-math-1.5b` -> 1.5e9."""
    size = name.rsplit("-", 1)[1]
    return float(size[:-1]) * {"m": 1e6, "b": 1e9}[size[-1]]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str) -> None:
    recipe = load_recipe(name)
    student = load_student(recipe.student)
    assert name.split("/")[0] == recipe.student
    assert recipe.curation[0] == {"verified": {}}, "nothing is learned that was not checked"
    assert set(recipe.evaluation.tasks) <= set(catalog.names("tasks"))
    gate = load_gate(recipe.gate)
    assert set(gate.tasks) <= set(recipe.evaluation.tasks)
    for comparison in gate.comparisons:
        if comparison.baseline is not None:
            published = {(result.task, result.metric) for result in load_baseline(comparison.baseline).results}
            assert {(task, gate.metric) for task in gate.tasks} <= published
    if gate.estimand == "benchmark":
        assert recipe.evaluation.samples_per_item >= 2, "one sample an item says nothing of its noise"
    assert recipe.training.max_length >= 2_048
    held_out = {("openai/gsm8k", "test")}
    for source in recipe.problems.train:
        assert isinstance(source.dataset, DatasetSource)
        assert (source.dataset.name, source.dataset.split) not in held_out
        assert source.dataset.licence in ("Apache-2.0", "MIT")
    if name.endswith("/r1-distill"):
        training = recipe.training
        assert recipe.teacher == "deepseek-r1"
        assert training.learning_rate == PUBLISHED_LEARNING_RATES[student.name] == student.training.learning_rate
        assert training.num_processes * training.rows_per_micro_batch * training.gradient_accumulation_steps == 64
        assert training.max_length == 32_768
        assert 2 <= training.num_train_epochs <= 3
        assert (training.lr_scheduler_type, training.min_learning_rate_ratio) == ("cosine", 0.1)


def test_every_published_learning_rate_has_its_recipe() -> None:
    assert {f"{student}/r1-distill" for student in PUBLISHED_LEARNING_RATES} <= set(RECIPES)


def assert_in_range(value: float, metric: str) -> None:
    lowest, highest = (500, 4_000) if metric == "rating" else (0, 100)
    assert lowest <= value <= highest, metric


@pytest.mark.parametrize("name", BASELINES)
def test_baseline(name: str) -> None:
    baseline = load_baseline(name)
    assert baseline.name == name
    measured = [(result.task, result.metric) for result in baseline.results]
    assert len(set(measured)) == len(measured), "one result a task and metric, others are its conflicts"
    for result in baseline.results:
        assert_in_range(result.value, result.metric)
        assert (result.source.table, result.harness) != ("", "")
        check_sources([result.source, *(conflict.source for conflict in result.conflicts_with)])
        for conflict in result.conflicts_with:
            assert_in_range(conflict.value, result.metric)
            assert conflict.value != result.value
            assert conflict.why


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "o1-mini"])
def test_baselines_of_deepseek_state_how_they_were_sampled(name: str) -> None:
    aime = result_of(load_baseline(name), "aime24")
    assert (aime.k, aime.temperature, aime.top_p, aime.max_tokens) == (64, 0.6, 0.95, 32_768)


@pytest.mark.parametrize("name", [name for name in BASELINES if name.startswith("r1-distill-")])
def test_independent_reruns_of_the_distilled_models_are_kept(name: str) -> None:
    for task in ("aime24", "math500"):
        conflicts = result_of(load_baseline(name), task).conflicts_with
        assert any("open-r1" in conflict.source.url for conflict in conflicts), task


def test_both_published_numbers_of_o1_mini_are_kept() -> None:
    baseline = load_baseline("o1-mini")
    for task, metric, here, elsewhere in (("aime24", "pass@1", 63.6, 70.0), ("codeforces", "rating", 1820, 1650)):
        result = result_of(baseline, task, metric)
        assert result.value == here
        assert [conflict.value for conflict in result.conflicts_with] == [elsewhere]
        assert "openai.com" in result.conflicts_with[0].source.url
    assert all(result.k is None and result.temperature is None for result in baseline.results), "nobody states them"


def result_of(baseline: Baseline, task: str, metric: str = "pass@1") -> PublishedResult:
    return next(result for result in baseline.results if (result.task, result.metric) == (task, metric))


@pytest.mark.parametrize("kind", ["teachers", "students", "baselines"])
def test_names_are_kebab_case_and_models_are_listed_once(kind: str) -> None:
    load: Callable[[str], Any] = {"teachers": load_teacher, "students": load_student, "baselines": load_baseline}[kind]
    names = [name for name in catalog.names(kind) if name not in EMBEDDED]
    assert all(name == name.lower() and "_" not in name and " " not in name for name in names)
    models = [load(name).model for name in names]
    assert len(set(models)) == len(models)


def test_the_answer_of_gsm8k_is_what_follows_its_marker(tmp_path: Path) -> None:
    recipe = load_recipe("smollm2-135m/gsm8k")
    dataset = recipe.problems.train[0].dataset
    assert dataset is not None and dataset.answer_after == "####"
    columns = {"prompt": "question", "answer": "answer", "answer_after": dataset.answer_after}
    source = {"path": "rows.jsonl", **columns, "domain": "math", "licence": "MIT", "verifier": "math"}
    row = {"question": "2 + 3?", "answer": "2 and 3 are <<2+3=5>>5.\n#### 5"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert [problem.answer for problem in load_problems([{"jsonl": source}], base_dir=tmp_path)] == ["5"]
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row, "answer": "5"}) + "\n", encoding="utf-8")
    with pytest.raises(ProblemError, match=r"row 0.*nothing follows answer_after '####'"):
        load_problems([{"jsonl": source}], base_dir=tmp_path)
