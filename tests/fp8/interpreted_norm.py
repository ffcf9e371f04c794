"""Run by test_kernels_norm.py in a process with TRITON_INTERPRET=1: the fused norms against the reference."""

import torch
from fused_data import assert_close, assert_padding, heavy_tailed

from distill.fp8 import fused
from distill.fp8.kernels import norm
from distill.fp8.kernels.configuration import INTERPRETED


def compare(hidden: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, power_of_two: bool, case: str) -> None:
    """All three functions on one hidden state."""
    expected, rstd = fused.rms_norm_quantize(hidden, weight, 1e-6, power_of_two)
    found, found_rstd = norm.rms_norm_quantize(hidden, weight, 1e-6, power_of_two)
    assert_close(found, expected, case)
    torch.testing.assert_close(found_rstd, rstd, rtol=1e-6, atol=0.0, equal_nan=True)
    expected = fused.rms_norm_quantize_columns(hidden, weight, rstd, power_of_two)
    found = norm.rms_norm_quantize_columns(hidden, weight, rstd, power_of_two)
    assert_close(found, expected, case)
    assert_padding(found, hidden.shape[0], case)
    compare_backward(hidden, grad, weight, rstd)


def compare_backward(hidden: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor) -> None:
    found = norm.rms_norm_backward(grad, hidden, weight, rstd)
    again = norm.rms_norm_backward(grad, hidden, weight, rstd)
    for first, second, expected in zip(found, again, fused.rms_norm_backward(grad, hidden, weight, rstd), strict=True):
        assert first.dtype == expected.dtype and first.shape == expected.shape
        assert torch.equal(first.nan_to_num(), second.nan_to_num())
        tolerance = 1e-2 if expected.dtype == torch.bfloat16 else 2e-5
        largest = expected.float().nan_to_num(0, 0, 0).abs().max().item()
        torch.testing.assert_close(first, expected, rtol=tolerance, atol=largest * 1e-6, equal_nan=True)


def main() -> None:
    torch.set_num_threads(1)
    assert INTERPRETED
    cases = (
        ("one token", 1, 128, torch.bfloat16, torch.float32),
        ("tokens no multiple of 128", 131, 384, torch.bfloat16, torch.bfloat16),
        ("float32", 37, 640, torch.float32, torch.float32),
        ("wide", 5, 5120, torch.bfloat16, torch.float32),
    )
    for case, tokens, width, dtype, weight_dtype in cases:
        hidden, grad = heavy_tailed(tokens, width).to(dtype), heavy_tailed(tokens, width, seed=1).to(dtype)
        weight = heavy_tailed(width, seed=2).to(weight_dtype)
        for power_of_two in (False, True):
            compare(hidden, grad, weight, power_of_two, case)
        print("same:", case, flush=True)
    hidden, grad, weight = heavy_tailed(9, 256), heavy_tailed(9, 256, seed=1), heavy_tailed(256, seed=2)
    hidden[2, 5], hidden[4, 200], hidden[6] = torch.nan, torch.inf, 0.0
    compare(hidden, grad, weight, False, "not finite")
    rows, _ = norm.rms_norm_quantize(hidden, weight, 1e-6, False)
    assert not torch.isfinite(rows.scales[2]).any() and not torch.isfinite(rows.scales[4, 1])
    print("same: not finite", flush=True)
    compare(heavy_tailed(256, 9).t(), grad, weight, False, "strides")
    print("same: strides", flush=True)


if __name__ == "__main__":
    main()
