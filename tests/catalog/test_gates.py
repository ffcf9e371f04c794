"""Every gate that ships can be met, has published numbers behind it and a budget: pytest tests/catalog/test_gates.py"""

from __future__ import annotations

import pytest

from distill import catalog
from distill.cards import load_baseline
from distill.gate.spec import load_gate
from distill.published import published_values

GATES = [name for name in catalog.names("gates") if name != "quickstart"]
"""quickstart is of the embedded pair, and its own tests run it."""
PUBLISHED_SIZES = {"1.5b": "qwen-1.5b", "7b": "qwen-7b", "8b": "llama-8b", "14b": "qwen-14b", "32b": "qwen-32b"}


def test_the_shelf_has_one_gate_for_each_published_size_and_each_kind_of_comparison() -> None:
    assert set(GATES) >= {"no-regression", "teacher-gap", "fp8-parity", "gsm8k-gain", "o1-mini-gsm8k"}
    for size, model in {**PUBLISHED_SIZES, "70b": "llama-70b"}.items():
        first = load_gate(f"r1-distill-{size}").comparisons[0]
        assert (first.against, first.baseline, first.margin) == ("baseline", f"r1-distill-{model}", 0.03)


def test_only_sizes_that_can_are_held_to_o1_mini() -> None:
    """Below 14B no published distillation reaches it (DeepSeek-R1, Table 5)."""
    held = {name for name in GATES if any(row.baseline == "o1-mini" for row in load_gate(name).comparisons)}
    assert held - {"o1-mini", "o1-mini-gsm8k"} == {"r1-distill-14b", "r1-distill-32b", "r1-distill-70b"}


@pytest.mark.parametrize("name", GATES)
def test_gate(name: str) -> None:
    gate = load_gate(name)
    assert gate.description
    assert gate.budget.max_rounds <= 64 and gate.budget.max_completion_tokens, "no gate samples without end"
    assert gate.validity.max_truncation_rate is not None
    for row in gate.comparisons:
        assert row.alpha <= 0.05
        if row.against == "baseline":
            assert row.baseline is not None
            assert gate.estimand == "benchmark", "a published number is of these very items"
            for task in gate.tasks:
                values = published_values(load_baseline(row.baseline), task, gate.metric)
                assert values, f"{row.baseline} has no {gate.metric} of {task}"
                assert all(0 < (row.ratio or 1) * value.value - (row.margin or 0) < 1 for value in values)


@pytest.mark.parametrize(("name", "against"), [("no-regression", "checkpoint"), ("fp8-parity", "checkpoint")])
def test_paired_gates_name_the_other_model_by_its_role(name: str, against: str) -> None:
    assert load_gate(name).needs == [against]


def test_the_teacher_gap_is_what_published_distillations_reach() -> None:
    """From the 7B on, DeepSeek's own students keep 95 per cent of R1 on MATH-500; the 1.5B and Llama 8B do not."""
    (row,) = load_gate("teacher-gap").comparisons
    (teacher,) = published_values(load_baseline("deepseek-r1"), "math500", "pass@1")
    passes = {
        size
        for size, model in PUBLISHED_SIZES.items()
        for student in published_values(load_baseline(f"r1-distill-{model}"), "math500", "pass@1")
        if student.value >= (row.ratio or 1) * teacher.value
    }
    assert passes == {"7b", "14b", "32b"}
