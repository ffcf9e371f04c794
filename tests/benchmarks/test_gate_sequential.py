"""The recorded simulation keeps the promises that the docs make, its designs are right, and a short run of it works.

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
import gate_sequential as benchmark  # noqa: E402


@pytest.fixture(scope="module")
def result():
    return json.loads((ROOT / "benchmarks" / "gate_sequential.json").read_text(encoding="utf-8"))


def wrong_sides(row):
    return [side for side, is_wrong in (("pass", row["gap"] <= 0), ("fail", row["gap"] >= 0)) if is_wrong]


def test_errors_are_at_most_alpha_at_the_bar_and_inside(result):
    """Within three standard errors of the simulation, in every setting, on each side; estimand population too."""
    rows = [(row, row["designs"][name]) for row in result["settings"] for name in ("hybrid", "betting")]
    rows += [(row, row["hybrid"]) for row in result["population"]]
    assert len(rows) > 250
    for row, design in rows:
        for side in wrong_sides(row):
            assert design[side] <= result["alpha"] + 3 * design[f"{side}_se"], (
                row["items"],
                row["kind"],
                row["gap"],
                side,
            )


def test_peeking_is_what_the_gate_replaces(result):
    at_bar = [row["designs"]["peeking"] for row in result["settings"] if row["gap"] == 0 and row["cap"] == 64]
    assert min(design["pass"] + design["fail"] for design in at_bar) > 0.3


def test_samples_at_six_and_ten_points(result):
    """20 and 10 per cent of fixed k = 64; where the items are too noisy for that, 1.7 times what any test needs."""
    rows = [row for row in result["settings"] if row["kind"] == "one-sample" and row["cap"] == 64]
    for row in rows:
        share = {0.06: 0.20, 0.10: 0.10}.get(abs(row["gap"]))
        if share is not None:
            found, right = row["designs"]["hybrid"], "pass" if row["gap"] > 0 else "fail"
            assert found["share_of_cap"] <= share or found["rounds"] <= 1.7 * row["least_rounds"]
            assert found[right] > 0.98 and sum(found[side] for side in wrong_sides(row)) < 0.02
    aime = {row["gap"]: row["designs"]["hybrid"]["share_of_cap"] for row in rows if row["items"] == "AIME-like"}
    assert max(aime[0.06], aime[-0.06]) <= 0.20 and max(aime[0.10], aime[-0.10]) <= 0.10


def test_group_sequential_boundaries_are_the_published_ones():
    """Jennison & Turnbull 2000, tables 2.1 and 2.3, two-sided 0.1, 4 looks: 2.067 and 1.733."""
    assert designs.group_sequential_boundaries(0.05, flat=True)[0] == pytest.approx(2.067, abs=2e-3)
    assert designs.group_sequential_boundaries(0.05, flat=False)[-1] == pytest.approx(1.733, abs=2e-3)


def test_least_rounds_by_hand():
    """Equal items are one coin: KL of two coins, n times a round."""
    q, r = 0.7, 0.6
    kl = q * np.log(q / r) + (1 - q) * np.log((1 - q) / (1 - r))
    assert designs.least_rounds(np.full(10, q), r, 0.05) == pytest.approx(np.log(20) / (10 * kl), rel=1e-6)
    mixed = designs.shifted(designs.item_sets()["AIME-like"].chances, 0.7)
    assert mixed.mean() == pytest.approx(0.7)
    assert designs.least_rounds(mixed, 0.6, 0.05) < designs.least_rounds(np.full(30, 0.7), 0.6, 0.05)


def test_a_short_run(tmp_path, monkeypatch):
    sets = designs.item_sets()
    monkeypatch.setattr(benchmark, "settings", lambda: [(sets["flat"], kind, 8) for kind in ("one-sample", "paired")])
    monkeypatch.setattr(sys, "argv", ["x", "--quick", "--out", str(tmp_path / "found.json")])
    benchmark.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert {row["gap"] for row in found["settings"]} == set(benchmark.GAPS) and found["versions"]["numpy"]
    for row in found["settings"]:
        for design in row["designs"].values():
            assert design["pass"] + design["fail"] + design["undecided"] == pytest.approx(1, abs=1e-4)
