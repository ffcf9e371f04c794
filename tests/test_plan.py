"""pytest tests/test_plan.py"""

import pytest

from distill.errors import ConfigError
from distill.plan import parse_hardware, plan, training_memory_gib
from distill.recipes import load_recipe

pytestmark = pytest.mark.usefixtures("small_catalogue")


def test_memory_is_the_zero_papers_own_example():
    """ZeRO, https://arxiv.org/abs/1910.02054, figure 1: 7.5 B parameters, 64 devices: 120, 31.4, 16.6 and 1.9 GB."""
    training = load_recipe("small/quick").training
    gb = {stage: gib * 2**30 / 1e9 for stage, gib in training_memory_gib(7_500_000_000, training, 64).items()}
    assert gb == pytest.approx({0: 120, 1: 31.4, 2: 16.6, 3: 1.9}, abs=0.06)


def test_counts_and_cost_by_hand():
    """22 problems x 4 samples x 1000 tokens at 2 USD a million."""
    harvest = plan(load_recipe("small/quick"))["harvest"]
    assert (harvest["problems"], harvest["max_samples"]) == (22, 88)
    assert (harvest["max_completion_tokens"], harvest["max_output_usd"]) == (88_000, 0.18)


def test_a_dataset_is_not_counted_offline():
    source = "{dataset: {name: a/b, columns: {prompt: q, answer: a}, domain: math, licence: mit, verifier: math}}"
    result = plan(load_recipe("small/quick", [f"problems.train=[{source}]"]), "8xh100")
    assert result["harvest"]["max_samples"] is None
    assert result["training"]["max_trained_tokens"] is None


def test_training_part():
    training = plan(load_recipe("small/quick"), "8xh100")["training"]
    assert training["max_trained_tokens"] == 88 * 512 * 2
    assert training["states_gib_per_device_by_zero_stage"]["0"] == pytest.approx(16e9 / 2**30, abs=0.01)
    assert training["smallest_zero_stage_whose_states_fit"] == 0


def test_lora_trains_nothing_of_the_base():
    training = load_recipe("small/quick", ["training.method=lora"]).training
    assert training_memory_gib(2**30, training, 1)[0] == 2.0


@pytest.mark.parametrize(
    ("text", "parsed"), [("8xh100", (8, "h100")), ("H200", (1, "h200")), ("2 x L40S", (2, "l40s"))]
)
def test_hardware(text, parsed):
    assert parse_hardware(text) == parsed


@pytest.mark.parametrize("text", ["8", "0xh100", "8xh10", "", "h100x8"])
def test_hardware_that_is_none(text):
    with pytest.raises(ConfigError, match="--hardware"):
        parse_hardware(text)


def test_an_adaptive_harvest_is_bounded_by_what_it_may_draw_keep_and_spend():
    settings = ["harvest.adaptive={enough: 1, most_if_rare: 12}", "harvest.budget.tokens=1000"]
    harvest = plan(load_recipe("small/quick", settings))["harvest"]
    fixed = plan(load_recipe("small/quick"))["harvest"]
    assert harvest["max_samples"] == 12 * harvest["problems"]
    assert (harvest["max_traces"], harvest["max_completion_tokens"]) == (harvest["problems"], 1000)
    assert fixed["max_traces"] == fixed["max_samples"]
