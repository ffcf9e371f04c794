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
from distill.published import check_baseline
from distill.recipes import DatasetSource, load_recipe

EMBEDDED = {"tiny"}
"""Made by this repository: their facts come from its own files."""

TEACHERS = sorted(set(catalog.names("teachers")) - EMBEDDED)
STUDENTS = sorted(set(catalog.names("students")) - EMBEDDED)
RECIPES = [name for name in catalog.names("recipes") if name.split("/")[0] not in EMBEDDED]
BASELINES = catalog.names("baselines")
DISTILLED = [name for name in BASELINES if name.startswith("r1-distill-")]
DEEPSEEKS_OWN = [*DISTILLED, "deepseek-r1", "deepseek-r1-zero", "deepseek-r1-zero-qwen-32b"]

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
    assert set(BASELINES) >= {"o1-mini", "o1-preview", "o1-0912", "o1-1217", "deepseek-r1", "deepseek-r1-zero"}
    assert set(BASELINES) >= {"deepseek-v3", "gpt-4o-0513", "qwq-32b-preview"}
    assert len(DISTILLED) == 6


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
    check_baseline(baseline, tasks=catalog.names("tasks"))
    assert baseline.name == name
    assert baseline.notes, "what a reader must know before holding a student against it"
    for result in baseline.results:
        assert result.harness
        check_sources([result.source, *(conflict.source for conflict in result.conflicts_with)])
        check_sources([rerun.source for rerun in result.reruns])
        assert all(conflict.why for conflict in result.conflicts_with)
        assert result.standard_error == "unknown", "none of these sources states one"


@pytest.mark.parametrize("name", DEEPSEEKS_OWN)
def test_baselines_of_deepseek_state_how_they_were_sampled(name: str) -> None:
    baseline = load_baseline(name)
    aime = result_of(baseline, "aime24")
    assert (aime.k, aime.temperature, aime.top_p, aime.max_tokens) == (64, 0.6, 0.95, 32_768)
    for task in ("math500", "gpqa_diamond", "livecodebench"):
        result = result_of(baseline, task)
        assert result.k is None, "64 in the README, 4 to 64 in the paper"
        assert (result.temperature, result.top_p, result.max_tokens) == (0.6, 0.95, 32_768)


PUBLISHED = """
r1-distill-qwen-1.5b  28.9 52.7 83.9 33.8 16.9  954
r1-distill-qwen-7b    55.5 83.3 92.8 49.1 37.6 1189
r1-distill-qwen-14b   69.7 80.0 93.9 59.1 53.1 1481
r1-distill-qwen-32b   72.6 83.3 94.3 62.1 57.2 1691
r1-distill-llama-8b   50.4 80.0 89.1 49.0 39.6 1205
r1-distill-llama-70b  70.0 86.7 94.5 65.2 57.5 1633
o1-mini               63.6 80.0 90.0 60.0 53.8 1820
o1-0912               74.4 83.3 94.8 77.3 63.4 1843
gpt-4o-0513            9.3 13.4 74.6 49.9 32.9  759
qwq-32b-preview       50.0 60.0 90.6 54.5 41.9 1316
deepseek-r1-zero      71.0 86.7 95.9 73.3 50.0 1444
"""
"""DeepSeek-R1, arXiv:2501.12948v1, Tables 2 and 5, in the paper's order of columns."""
COLUMNS = (
    ("aime24", "pass@1"),
    ("aime24", "cons@64"),
    ("math500", "pass@1"),
    ("gpqa_diamond", "pass@1"),
    ("livecodebench", "pass@1"),
    ("codeforces", "rating"),
)


@pytest.mark.parametrize("row", PUBLISHED.strip().splitlines(), ids=lambda row: row.split()[0])
def test_the_numbers_are_those_of_the_papers_tables(row: str) -> None:
    name, *values = row.split()
    baseline = load_baseline(name)
    assert [result_of(baseline, *column).value for column in COLUMNS] == [float(value) for value in values]


def test_what_each_distilled_model_beats_o1_mini_on() -> None:
    """By the first number of each file; the paper says the same of its tables (section 3.2)."""
    bar = load_baseline("o1-mini")
    beats = {
        name: "".join(
            letter
            for letter, (task, metric) in zip("ACMGLF", COLUMNS, strict=True)
            if result_of(load_baseline(name), task, metric).value > result_of(bar, task, metric).value
        )
        for name in DISTILLED
    }
    assert beats == {
        "r1-distill-llama-70b": "ACMGL",
        "r1-distill-llama-8b": "",
        "r1-distill-qwen-1.5b": "",
        "r1-distill-qwen-14b": "AM",
        "r1-distill-qwen-32b": "ACMGL",
        "r1-distill-qwen-7b": "CM",
    }


RERUN_AIME = {
    "r1-distill-qwen-1.5b": 30.7,
    "r1-distill-qwen-7b": 50.8,
    "r1-distill-qwen-14b": 65.9,
    "r1-distill-qwen-32b": 69.7,
    "r1-distill-llama-8b": 43.9,
    "r1-distill-llama-70b": 63.0,
}
"""open-r1's README: 64 responses a question in lighteval."""


@pytest.mark.parametrize("name", DISTILLED)
def test_independent_reruns_of_the_distilled_models_are_kept_and_are_no_conflict(name: str) -> None:
    baseline = load_baseline(name)
    for task, k, within in (("aime24", 64, 7.0), ("math500", 4, 1.7), ("gpqa_diamond", 8, 2.4)):
        result = result_of(baseline, task)
        (rerun,) = result.reruns
        assert not result.conflicts_with, "another harness is no other number of the same model's makers"
        assert (rerun.k, rerun.temperature, rerun.max_tokens) == (k, 0.6, 32_768)
        assert 0 < abs(rerun.value - result.value) <= within + 1e-9
        if task == "aime24":
            assert rerun.value == RERUN_AIME[name]


def test_a_slip_of_the_pen_is_told_and_not_counted() -> None:
    baseline = load_baseline("r1-distill-llama-8b")
    assert "41.7" in (baseline.notes or "")
    result = result_of(baseline, "aime24")
    assert 41.7 not in [result.value, *(rerun.value for rerun in result.reruns)]
    assert not result.conflicts_with


CONFLICTS = [
    ("o1-mini", "aime24", "pass@1", [63.6, 70.0]),
    ("o1-mini", "gsm8k", "pass@1", [95.1, 96.06]),
    ("o1-mini", "codeforces", "rating", [1820, 1650]),
    ("qwq-32b-preview", "aime24", "pass@1", [50.0, 44.0]),
    ("deepseek-r1-zero", "aime24", "pass@1", [71.0, 77.9]),
    ("deepseek-r1-zero", "gpqa_diamond", "pass@1", [73.3, 75.8]),
    ("gpt-4o-0513", "livecodebench", "pass@1", [32.9, 34.2]),
    ("claude-3.5-sonnet-1022", "livecodebench", "pass@1", [38.9, 33.8]),
]


@pytest.mark.parametrize(("name", "task", "metric", "values"), CONFLICTS)
def test_numbers_that_conflict_are_kept_most_trusted_first(
    name: str, task: str, metric: str, values: list[float]
) -> None:
    result = result_of(load_baseline(name), task, metric)
    assert [result.value, *(conflict.value for conflict in result.conflicts_with)] == values


@pytest.mark.parametrize("name", ["o1-mini", "o1-preview", "o1-0912", "o1-1217"])
def test_nobody_states_how_the_o1_models_were_sampled(name: str) -> None:
    results = [result for result in load_baseline(name).results if not result.metric.startswith("cons@")]
    assert all((result.k, result.temperature, result.top_p, result.max_tokens) == (None,) * 4 for result in results)


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
