"""docs/fp8.md says what the code says."""

from __future__ import annotations

from pathlib import Path

from distill.fp8 import RECIPES
from distill.fp8.recipe import SKINNY_BELOW
from distill.recipes import Fp8

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fp8.md").read_text()


def test_every_recipe_is_described_in_its_own_words():
    for recipe in RECIPES.values():
        assert f"| `{recipe.name}` | {recipe.trade} |" in PAGE


def test_every_recipe_can_be_chosen():
    assert [Fp8(recipe=name).recipe for name in RECIPES] == list(RECIPES)


def test_the_rule_for_small_linears_is_the_codes():
    assert f"`N K / (N + K) < {SKINNY_BELOW}`" in PAGE
    saved, spent = 6 * (1 / 640e12 - 1 / 1000e12), 4 / 2.75e12  # seconds per N K, per N + K; see recipe.py
    assert round(spent / saved) == SKINNY_BELOW


def test_every_setting_is_named():
    assert all(f"`{name}`" in PAGE for name in Fp8.model_fields)
