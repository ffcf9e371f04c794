"""pytest tests/test_cards.py"""

import copy
import pickle
from datetime import date

import pytest
import yaml

from distill.cards import Baseline, load_baseline, load_student, load_teacher
from distill.errors import ConfigError

SOURCE = {"url": "https://example.org/card", "what": "everything", "retrieved": date(2026, 1, 2)}
TEACHER = {
    "kind": "teacher",
    "name": "big",
    "title": "Big",
    "model": "maker/big",
    "architecture": "deepseek_v3",
    "total_parameters": 1000,
    "active_parameters": 100,
    "context_tokens": 4096,
    "licence": "mit",
    "released": date(2025, 1, 20),
    "reasoning": {"open_marker": "<think>", "close_marker": "</think>", "opened_by_prompt": False, "field": None},
    "sampling": {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 64},
    "sources": [SOURCE],
}
STUDENT = {
    "kind": "student",
    "name": "small",
    "title": "Small",
    "model": ".",
    "architecture": "qwen2",
    "parameters": 10,
    "context_tokens": 4096,
    "licence": "apache-2.0",
    "chat_template": "model",
    "lora_target_modules": ["q_proj"],
    "training": {"learning_rate": 1.0e-4, "epochs": 2, "max_length": 512},
    "sources": [SOURCE],
}


def card(tmp_path, data: dict, **changes):
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(data), **changes}), encoding="utf-8")
    return path


def test_a_hub_id_stays_and_a_path_is_relative_to_the_card(tmp_path):
    assert load_teacher(card(tmp_path, TEACHER)).model_location == "maker/big"
    assert load_student(card(tmp_path, STUDENT)).model_location == str(tmp_path)
    assert load_student(card(tmp_path, STUDENT, model="./gone")).model_location == str(tmp_path / "gone")
    (tmp_path / "weights").mkdir()
    assert load_student(card(tmp_path, STUDENT, model="weights")).model_location == str(tmp_path / "weights")


def test_a_card_remembers_its_file_through_pickle(tmp_path):
    path = card(tmp_path, TEACHER)
    assert pickle.loads(pickle.dumps(load_teacher(path))).path == path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": None}, "licence: expected text, found nothing"),
        ({"sources": []}, "sources: expected at least 1 entry, found an empty list."),
        ({"kind": "student"}, "kind: expected 'teacher', found the text 'student'"),
        ({"active_parameters": 2000}, "active_parameters: expected at most total_parameters (1000), found 2000."),
        ({"sampling": {**TEACHER["sampling"], "top_p": 1.5}}, "sampling.top_p: expected a number at most 1"),
        ({"sampling": {**TEACHER["sampling"], "temprature": 1.0}}, "did you mean 'temperature'?"),
        ({"released": "2025-01-20"}, "released: expected a date"),
        ({"price": {"usd_per_million_input_tokens": 1.0}}, "price.usd_per_million_output_tokens: required"),
    ],
)
def test_a_typo_in_a_teacher_card_is_one_clear_error(tmp_path, changes, message):
    with pytest.raises(ConfigError) as caught:
        load_teacher(card(tmp_path, TEACHER, **changes))
    assert "card.yaml: " in str(caught.value)
    assert message in str(caught.value)


def test_baseline_expiry_and_conflicts(tmp_path):
    table = {"url": "https://example.org", "table": "3", "retrieved": date(2026, 1, 2)}
    result = {"task": "aime24", "metric": "pass@1", "value": 63.6, "harness": "own", "source": table}
    data = {
        "kind": "baseline",
        "name": "b",
        "title": "B",
        "model": "m",
        "results": [result],
        "expires": date(2026, 6, 1),
    }
    baseline: Baseline = load_baseline(card(tmp_path, data))
    assert baseline.results[0].standard_error == "unknown"
    assert not baseline.is_expired(date(2026, 6, 1))
    assert baseline.is_expired(date(2026, 6, 2))
    conflict = {"value": 60.0, "source": table}
    kept = load_baseline(
        card(tmp_path, data, results=[{**result, "conflicts_with": [conflict], "standard_error": 1.5}])
    )
    assert kept.results[0].conflicts_with[0].value == 60.0
    assert kept.find("aime24", "pass@1") is kept.results[0]
    assert kept.find("aime24", "cons@64") is None


def test_a_rerun_states_its_harness(tmp_path):
    table = {"url": "https://example.org", "table": "3", "retrieved": date(2026, 1, 2)}
    rerun = {"value": 61.0, "k": 64, "harness": "lighteval", "source": table}
    result = {"task": "aime24", "metric": "pass@1", "value": 63.6, "harness": "own", "source": table, "reruns": [rerun]}
    data = {"kind": "baseline", "name": "b", "title": "B", "model": "m", "results": [result]}
    assert load_baseline(card(tmp_path, data)).results[0].reruns[0].k == 64
    del rerun["harness"]
    with pytest.raises(ConfigError, match="harness: required"):
        load_baseline(card(tmp_path, data))
