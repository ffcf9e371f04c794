"""docs/gates.md shows the record, the record keeps the promises made there, and the simulation is of what a gate runs.

pytest tests/benchmarks/test_gate_sequential.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gate_designs as designs  # noqa: E402
import gate_page as page  # noqa: E402
import gate_sequential as benchmark  # noqa: E402

from distill.gate.demand import Demand, against_constant  # noqa: E402
from distill.gate.sequential import SequentialTest  # noqa: E402

GAPS_ASKED = (0.02, 0.03, 0.06, 0.10)


@pytest.fixture(scope="module")
def result():
    return json.loads(benchmark.RESULT.read_text(encoding="utf-8"))


def wrong_sides(row):
    return [side for side, is_wrong in (("pass", row["gap"] <= 0), ("fail", row["gap"] >= 0)) if is_wrong]


def test_the_page_shows_the_record(result):
    shown = page.PAGE.read_text(encoding="utf-8").split(page.BEGIN)[1].split(page.END)[0]
    assert shown.strip() == page.tables(result), "run `python benchmarks/gate_sequential.py --page`"


def test_the_record_is_whole(result):
    """Every item set, both kinds, at the bar, inside both nulls and at every gap asked for; both estimands."""
    found = {(row["items"], row["kind"], row["gap"]) for row in result["settings"] if row["cap"] == 64}
    for items, each in designs.item_sets().items():
        for kind in ("one-sample", "paired"):
            for gap in (0.0, *(sign * size for sign in (-1, 1) for size in (0.01, *GAPS_ASKED))):
                assert (items, kind, gap) in found or each.bar + gap > 0.995
    assert {(row["items"], row["kind"]) for row in result["population"]} == {
        (items, kind) for items in designs.item_sets() for kind in ("one-sample", "paired")
    }
    assert result["machine"] and result["versions"]["numpy"] and not result["code"]["dirty"]
    assert result["final_share"] == Demand.__dataclass_fields__["final_share"].default


def test_errors_are_at_most_alpha_at_the_bar_and_inside(result):
    """In every setting, on each side, both estimands; well inside a null they are rarer still."""
    rows = [(row, row["designs"][name]) for row in result["settings"] for name in ("hybrid", "betting")]
    rows += [(row, row["designs"]["population"]) for row in result["population"]]
    assert len(rows) > 350
    for row, design in rows:
        for side in wrong_sides(row):
            at_most = result["alpha"] if abs(row["gap"]) < 0.015 else result["alpha"] / 4
            assert design[side] <= at_most, (row["items"], row["kind"], row["gap"], side)


def test_what_is_usual_is_wrong_more_often(result):
    """Peeking, and a claim about new items from the test of these items."""
    at_bar = [row["designs"]["peeking"] for row in result["settings"] if row["gap"] == 0 and row["cap"] == 64]
    assert min(design["pass"] + design["fail"] for design in at_bar) > 0.3
    misused = [
        row["designs"]["benchmark"] for row in result["population"] if row["gap"] == 0 and row["items"] != "flat"
    ]
    assert np.mean([design["pass"] for design in misused]) > 2 * result["alpha"]


def test_samples_at_six_and_ten_points(result):
    """Where 20 and 10 per cent of fixed k = 64 are missed, no test can do with much less than the page says."""
    for row in result["settings"]:
        share = page.TARGETS.get(abs(row["gap"]))
        if share is None or row["cap"] != 64:
            continue
        found, right = row["designs"]["hybrid"], "pass" if row["gap"] > 0 else "fail"
        assert found["share_of_cap"] <= share or found["rounds"] <= 1.8 * row["least_rounds"], row["items"]
        assert found[right] > (0.98 if row["kind"] == "one-sample" else 0.85)
    met = page.targets(result)
    assert {"AIME-like", "GPQA-like", "MATH-like", "near-deterministic"} <= set(
        met["20 % of fixed k at 6 points"]["met"]
    ) & set(met["10 % of fixed k at 10 points"]["met"])


def test_fewer_rounds_than_a_group_sequential_design(result):
    for row in result["settings"]:
        if abs(row["gap"]) in page.TARGETS:
            assert row["designs"]["hybrid"]["rounds"] < row["designs"]["o'brien-fleming"]["rounds"], row["items"]


def test_group_sequential_boundaries_are_the_published_ones():
    """Jennison & Turnbull 2000, tables 2.1 and 2.3, two-sided 0.1, 4 looks: 2.067 and 1.733."""
    assert designs.group_sequential_boundaries(0.05, flat=True)[0] == pytest.approx(2.067, abs=2e-3)
    assert designs.group_sequential_boundaries(0.05, flat=False)[-1] == pytest.approx(1.733, abs=2e-3)


def kl(p, q):
    return float(np.sum(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))))


def test_least_rounds_by_hand_and_by_search():
    """Equal items are one coin: KL of two coins, n times a round. Pairs: the nearest of many pairs at the margin."""
    q, r = np.full(10, 0.7), np.full(10, 0.6)
    assert designs.least_rounds(q, None, 0.6, 0.05) == pytest.approx(np.log(20) / kl(q, r), rel=1e-6)
    assert designs.least_rounds(1 - q, None, 0.4, 0.05) == pytest.approx(np.log(20) / kl(q, r), rel=1e-6)
    mixed = designs.shifted(designs.item_sets()["AIME-like"].chances, 0.7)
    assert mixed.mean() == pytest.approx(0.7)
    assert designs.least_rounds(mixed, None, 0.6, 0.05) < designs.least_rounds(np.full(30, 0.7), None, 0.6, 0.05)
    student, other = np.array([0.9, 0.5]), np.array([0.6, 0.5])
    nulls = np.random.default_rng(0).uniform(0.01, 0.99, (200_000, 4))
    nulls = nulls[np.abs(nulls[:, :2].sum(axis=1) - nulls[:, 2:].sum(axis=1)) < 2e-3]
    nearest = min(kl(student, null[:2]) + kl(other, null[2:]) for null in nulls)
    assert np.log(20) / designs.least_rounds(student, other, 0.0, 0.05) == pytest.approx(nearest, abs=0.02)


@pytest.mark.parametrize("gap", [0.06, -0.06])
def test_the_hybrid_is_what_a_gate_runs(gap):
    """The batch of the simulation, from which decided runs leave, gives the verdicts of one test after the other."""
    items, runs, cap = designs.item_sets()["AIME-like"], 24, 16
    draw, bar = benchmark._answers(items, "one-sample", gap)
    outcome, rounds = benchmark._batch(draw, runs, 30, bar, cap, np.random.default_rng(5))["hybrid"]
    rng = np.random.default_rng(5)
    values = np.stack([draw(rng, runs) for _ in range(cap)], axis=1)
    for at in range(runs):
        test = SequentialTest(against_constant(bar, cap_rounds=cap), {f"i{item:02d}": "t" for item in range(30)})
        for row in values[at]:
            if not test.is_over:
                test.add_round(dict(zip(test.item_ids, map(float, row), strict=True)))
        assert (test.outcome, test.rounds) == ({1: "PASS", -1: "FAIL", 0: "INCONCLUSIVE"}[outcome[at]], rounds[at])
    assert len(set(rounds.tolist())) > 4


def test_pairs_are_of_the_means_that_they_say():
    items = designs.item_sets()["two clusters"]
    student, other, bar = benchmark._truth(items, "paired", 0.03)
    assert student.mean() - other.mean() - bar == pytest.approx(0.03) and other.mean() == pytest.approx(items.bar)
    draw, unit_bar = benchmark._answers(items, "paired", 0.03)
    values = draw(np.random.default_rng(1), 4000)
    assert set(np.unique(values)) == {0.0, 0.5, 1.0}
    assert values.mean() - unit_bar == pytest.approx(0.015, abs=5 * values.std() / np.sqrt(values.size))


def test_a_short_run(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "settings", lambda: [("flat", kind, 8) for kind in ("one-sample", "paired")])
    monkeypatch.setattr(benchmark, "population_settings", lambda: [("flat", "paired", 16)])
    monkeypatch.setattr(sys, "argv", ["x", "--quick", "--out", str(tmp_path / "found.json")])
    benchmark.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert {row["gap"] for row in found["settings"]} == set(benchmark.GAPS) and found["versions"]["numpy"]
    assert {row["gap"] for row in found["population"]} == set(benchmark.POPULATION_GAPS)
    for row in found["settings"]:
        for design in row["designs"].values():
            assert design["pass"] + design["fail"] + design["undecided"] == pytest.approx(1, abs=1e-4)
