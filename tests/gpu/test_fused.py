"""The fused RMSNorm and SwiGLU kernels on a device against the reference on the same device.

python -m pytest tests/gpu/test_fused.py
"""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "fp8"))
from fused_data import assert_close, assert_padding, heavy_tailed

from distill.fp8 import fused
from distill.fp8.quantize import dequantize

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("width", [896, 1536, 2048, 3584, 5120, 8192])
@pytest.mark.parametrize("tokens", [1, 131, 2048])
def test_norms(tokens, width, dtype, power_of_two):
    from distill.fp8.kernels import norm

    hidden = heavy_tailed(tokens, width, device="cuda").to(dtype)
    grad = heavy_tailed(tokens, width, seed=1, device="cuda").to(dtype)
    weight = heavy_tailed(width, seed=2, device="cuda")
    expected, rstd = fused.rms_norm_quantize(hidden, weight, 1e-6, power_of_two)
    found, found_rstd = norm.rms_norm_quantize(hidden, weight, 1e-6, power_of_two)
    torch.testing.assert_close(found_rstd, rstd, rtol=1e-5, atol=0.0)
    # A scale that is a power of two jumps by 2 where the sums differ in the last bit: compare from one rstd.
    if not power_of_two:
        assert_close(found, expected, "rows")
    expected = fused.rms_norm_quantize_columns(hidden, weight, rstd, power_of_two)
    found = norm.rms_norm_quantize_columns(hidden, weight, rstd, power_of_two)
    assert_close(found, expected, "columns")
    assert_padding(found, tokens, "columns")

    found, again = (norm.rms_norm_backward(grad, hidden, weight, rstd) for _ in range(2))
    exact = fused.rms_norm_backward(grad, hidden, weight, rstd)
    for one, other, wanted in zip(found, again, exact, strict=True):
        assert torch.equal(one, other), "two runs differ"
        error = (one.double() - wanted.double()).norm() / wanted.double().norm()
        assert error < (3e-3 if one.dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("width", [128, 4864, 8960])
@pytest.mark.parametrize("tokens", [1, 131, 1024])
def test_swiglu(tokens, width, dtype):
    from distill.fp8.kernels import swiglu

    gate_up = heavy_tailed(tokens, 2 * width, device="cuda").to(dtype)
    grad = heavy_tailed(tokens, width, seed=1, device="cuda").to(dtype)
    found, expected = swiglu.swiglu_quantize_stash(gate_up, False), fused.swiglu_quantize_stash(gate_up, False)
    assert_close(swiglu.swiglu_quantize(gate_up, False), expected[0], "activation")
    assert_close(found[0], expected[0], "activation beside the stash")
    assert torch.equal(found[1].codes.view(torch.uint8), expected[1].codes.view(torch.uint8))
    assert torch.equal(found[1].scales, expected[1].scales)
    for source, numbers in ((gate_up, gate_up), (expected[1], dequantize(expected[1]))):
        results = swiglu.swiglu_backward_quantize(grad, source, False)
        for one, other in zip(results, fused.swiglu_backward_quantize(grad, numbers, False), strict=True):
            assert_close(one, other, "backward")
        assert_padding(results[0], tokens, "activation transposed")
        assert_padding(results[2], tokens, "gradient transposed")


def test_numbers_that_are_not_finite_keep_a_scale_that_is_not():
    from distill.fp8.kernels import norm, swiglu

    gate_up = heavy_tailed(9, 512, device="cuda")
    gate_up[2, 5], gate_up[4, 300] = torch.nan, torch.inf
    activation, stash = swiglu.swiglu_quantize_stash(gate_up, False)
    assert not torch.isfinite(activation.scales[[2, 4], 0]).any()
    assert torch.isnan(stash.scales[2, 0]) and torch.isinf(stash.scales[4, 2])
    rows, _ = norm.rms_norm_quantize(gate_up, torch.ones(512, device="cuda"), 1e-6, False)
    assert not torch.isfinite(rows.scales[2]).any() and not torch.isfinite(rows.scales[4, 2])
