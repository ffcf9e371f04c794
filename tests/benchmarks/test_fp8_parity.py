"""docs/fp8.md's comparison is the recorded one, its arithmetic is right, and the comparison can see damage."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import fp8_parity_page as page  # noqa: E402
import fp8_sides as sides  # noqa: E402


@pytest.fixture(scope="module")
def result():
    return json.loads((ROOT / "benchmarks" / "fp8_parity.json").read_text())


@pytest.fixture(scope="module")
def compared(result):
    return page.compare(result)


def test_the_page_shows_the_record(result):
    shown = (ROOT / "docs" / "fp8.md").read_text().split(page.BEGIN)[1].split(page.END)[0]
    assert shown.strip() == page.table(result), "run `python benchmarks/fp8_parity.py --page`"
    assert (ROOT / "docs" / "fp8-parity.svg").read_text() == page.plot(result) + "\n"


def test_three_seeds_of_real_training(result):
    runs = {(run["side"], run["seed"]): run for run in result["runs"]}
    for seed in (1, 2, 3):
        bf16, fp8 = runs["bf16", seed], runs["fp8 fast", seed]
        assert bf16["trained_tokens"] == fp8["trained_tokens"] > 1_000_000
        assert bf16["receipt"] is None
        assert fp8["receipt"]["converted"] == fp8["receipt"]["num_linears"] == 28
        assert set(fp8["receipt"]["kernels"]) == {"emulation"}


def test_accuracy_is_that_of_bf16_within_noise(compared):
    found = compared["fp8 fast"]
    assert found["accuracy_difference"] > -3 * max(found["standard_error"], 0.005)


def test_damage_is_seen(compared):
    """What is expected to hurt hurts more than FP8 itself does."""
    fast = compared["fp8 fast"]
    assert compared["fp8 unscaled"]["whole_run"] > 3 * abs(fast["whole_run"])
    assert compared["fp8 unscaled"]["accuracy_difference"] < -0.05
    whole, tensorwise = compared["fp8 fast, outliers"], compared["fp8 tensorwise, outliers"]
    assert tensorwise["whole_run"] > 3 * abs(whole["whole_run"])


def run_of(side, seed, losses, accuracy):
    return {
        "side": side,
        "seed": seed,
        "loss_curve": [[at, loss] for at, loss in enumerate(losses)],
        "accuracy": accuracy,
    }


def test_arithmetic_by_hand():
    runs = [
        run_of("bf16", 1, [2.0] * 10 + [1.0] * 10, [1.0, 0.0, 0.5, 0.5]),
        run_of("fp8 fast", 1, [2.0] * 10 + [1.1] * 10, [1.0, 0.5, 0.5, 0.0]),
    ]
    found = page.compare({"runs": runs})["fp8 fast"]
    assert found["whole_run"] == pytest.approx(1.0 / 30)
    assert found["by_window"] == pytest.approx([0.0] * 5 + [0.1] * 5)
    assert found["largest_window"] == pytest.approx(0.1)
    assert found["accuracy_difference"] == pytest.approx(0.0)
    assert found["standard_error"] == pytest.approx((0.5 / 3) ** 0.5 / 2)


@pytest.mark.parametrize("kind", ["tensorwise", "unscaled", "gradients"])
def test_a_damage_changes_what_it_says(kind, monkeypatch):
    from distill.fp8 import fused, quantize

    for module, names in ((quantize, ("scale_of", "quantize_both")), (fused, ("swiglu_backward_quantize",))):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    x = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    x[3] *= 100
    rows, both = quantize.quantize_rows(x), quantize.quantize_both(x)
    sides.damage(kind)
    damaged_rows, damaged_both = quantize.quantize_rows(x), quantize.quantize_both(x)
    scales = damaged_both[0].scales
    if kind == "gradients":
        assert torch.equal(damaged_rows.scales, rows.scales)
        assert torch.equal(scales[:128], rows.scales[:128].amax(dim=0).expand(128, 2))
        assert torch.equal(quantize.dequantize(damaged_both[1]).t(), quantize.dequantize(damaged_both[0]))
    else:
        assert torch.unique(damaged_rows.scales).numel() == 1
        assert not torch.equal(damaged_rows.codes.float(), rows.codes.float())
    assert not torch.equal(damaged_both[0].codes.float(), both[0].codes.float())


def test_outliers_do_not_change_the_function():
    from distill.engines.local import load_model

    model = load_model(ROOT / "students" / "tiny", name="tiny")[0].eval()
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        before = model(ids).logits
        sides.add_outliers(model)
        after = model(ids).logits
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
