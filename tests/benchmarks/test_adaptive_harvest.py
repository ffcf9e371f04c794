"""docs/harvest-adaptive.md shows the record, the record is right, and what is claimed of it can fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import adaptive_harvest as benchmark  # noqa: E402
import adaptive_page as page  # noqa: E402
import adaptive_sides as sides  # noqa: E402

from distill.harvest.policy import Plan  # noqa: E402
from distill.recipes import Adaptive  # noqa: E402


@pytest.fixture(scope="module")
def result():
    return json.loads(benchmark.RESULT.read_text())


def test_the_page_shows_the_record(result):
    shown = page.PAGE.read_text().split(page.BEGIN)[1].split(page.END)[0]
    assert shown.strip() == page.tables(result), "run `python benchmarks/adaptive_harvest.py --page`"


def test_the_page_names_every_setting():
    assert all(f"`{name}" in page.PAGE.read_text() for name in Adaptive.model_fields)


def test_the_recorded_harvest_plays_as_the_product_harvested_it(result):
    """Three ways to the same figures: played here, replayed from the ledger, and (nearly: batches differ) drawn."""
    recorded, (most, enough) = result["recorded"], benchmark.REAL
    problems = benchmark.recorded_population(recorded)
    limit = max(max(problem.lengths) for problem in problems)
    plan = Plan(most, (limit,), enough=enough)
    spent = [sides.play(problem, plan, enough) for problem in problems]
    replayed, drawn = recorded["replayed"], recorded["from_nothing"]
    assert sum(one.tokens for one in spent) == replayed["completion_tokens"]
    assert sum(one.samples for one in spent) == replayed["samples"] == replayed["samples_from_ledger"]
    assert sum(one.kept for one in spent) == replayed["accepted"]
    assert drawn["samples_from_ledger"] in (0, drawn["samples"])
    assert drawn["completion_tokens"] == pytest.approx(replayed["completion_tokens"], rel=0.02)
    assert drawn["accepted"] == pytest.approx(replayed["accepted"], rel=0.02)
    assert recorded["fixed"]["samples"] == len(problems) * benchmark.RECORDED
    assert sum(sum(problem.lengths) for problem in problems) == recorded["fixed"]["completion_tokens"]


def test_adaptive_keeps_the_same_traces_for_fewer_tokens(result):
    for name, comparisons in result["compared"].items():
        for limit, found in comparisons.items():
            for side in ("adaptive", "ladder, continued"):
                if side in found:
                    assert (found[side]["kept_change"], found[side]["covered_change"]) == (0.0, 0.0), (name, limit)
                    assert found[side]["ratio"] < 1.0


def test_what_the_page_says_in_words(result):
    """The target, where it is met and where not; what the hopeless stop loses."""
    ratios = {name: {limit: found["adaptive"]["ratio"] for limit, found in each.items()}
              for name, each in result["compared"].items()}  # fmt: skip
    assert all(ratios["math"][limit] <= page.TARGET for limit in ("4, 1", "8, 2", "16, 4"))
    assert all(ratios[name]["16, 2"] <= page.TARGET for name in ("math", "aime", "flat", "recorded"))
    assert all(ratios[name]["16, 4"] > page.TARGET for name in ("aime", "openr1", "flat", "settled", "recorded"))
    for name, found in result["hopeless"].items():
        for limit, by_chance in found.items():
            assert by_chance[f"{Adaptive().hopeless_below:g}"]["covered_change"] > -0.0101, (name, limit)


def test_a_toy_comparison_by_hand():
    problems = [
        sides.Drawable([True, True, False, False], [10, 20, 30, 40]),
        sides.Drawable([False, True, True, False], [5, 5, 5, 5]),
        sides.Drawable([False] * 4, [100] * 4),
    ]
    found = benchmark.compared(problems * 20, 4, 1, limit=1000)
    assert "more if rare" not in found  # it would need samples that are not there
    assert (found["fixed"]["tokens"], found["fixed"]["kept"]) == (20 * 520, 20 * 2)
    assert (found["adaptive"]["tokens"], found["adaptive"]["kept"], found["adaptive"]["covered"]) == (20 * 420, 40, 40)
    assert found["adaptive"]["ratio"] == pytest.approx(420 / 520, abs=1e-4)


def test_the_ladder_by_hand():
    problem = sides.Drawable([True, True, False], [40, 12, 9])
    continued = sides.play(problem, Plan(3, (8, 16, 64), enough=1, can_continue=True), 1)
    assert (continued.tokens, continued.samples, continued.kept) == (40, 1, 1)
    anew = sides.play(problem, Plan(3, (8, 16, 64), enough=1), 1)
    assert (anew.tokens, anew.samples, anew.kept) == (8 + 12, 2, 1)


def test_simulated_populations_are_as_described():
    rates = {name: [problem.rate for problem in sides.population(name, 3000)] for name in sides.RATES}
    assert sum(rates["math"]) / 3000 == pytest.approx(0.923, abs=0.01)
    assert sum(rates["aime"]) / 3000 == pytest.approx(0.556, abs=0.02)
    solved_in_three = sum(1 - (1 - rate) ** 3 for rate in rates["openr1"]) / 3000
    assert solved_in_three == pytest.approx(0.55, abs=0.02)
    lengths = [
        length
        for problem in sides.population("math", 200)
        for length, right in zip(problem.lengths, problem.is_right, strict=True)
        if right
    ]
    assert sum(length < 8192 for length in lengths) / len(lengths) == pytest.approx(0.75, abs=0.02)
