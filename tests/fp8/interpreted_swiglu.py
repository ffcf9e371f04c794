"""Run by test_kernels_swiglu.py in a process with TRITON_INTERPRET=1: the fused SwiGLU against the reference."""

import torch
from fused_data import assert_close, assert_padding, heavy_tailed

from distill.fp8 import fused
from distill.fp8.kernels import swiglu
from distill.fp8.kernels.configuration import INTERPRETED
from distill.fp8.quantize import Quantized, dequantize


def compare(gate_up: torch.Tensor, grad: torch.Tensor, power_of_two: bool, case: str) -> None:
    """All three functions on one gate_up, the backward from it and from its stash."""
    expected = fused.swiglu_quantize_stash(gate_up, power_of_two)
    found = swiglu.swiglu_quantize_stash(gate_up, power_of_two)
    assert_close(swiglu.swiglu_quantize(gate_up, power_of_two), expected[0], case)
    assert_close(found[0], expected[0], case)
    assert torch.equal(found[1].codes.float().nan_to_num(999), expected[1].codes.float().nan_to_num(999)), case
    assert torch.equal(found[1].scales.nan_to_num(), expected[1].scales.nan_to_num()), case
    compare_backward(grad, gate_up, gate_up, power_of_two, case)
    compare_backward(grad, expected[1], dequantize(expected[1]), power_of_two, f"{case}, stash")


def compare_backward(
    grad: torch.Tensor, gate_up: torch.Tensor | Quantized, numbers: torch.Tensor, power_of_two: bool, case: str
) -> None:
    found = swiglu.swiglu_backward_quantize(grad, gate_up, power_of_two)
    expected = fused.swiglu_backward_quantize(grad, numbers, power_of_two)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, case)
    for transposed in (found[0], found[2]):
        assert_padding(transposed, grad.shape[0], case)


def main() -> None:
    torch.set_num_threads(1)
    assert INTERPRETED
    cases = (
        ("one token", 1, 128, torch.bfloat16, torch.bfloat16),
        ("tokens no multiple of 128", 131, 256, torch.bfloat16, torch.bfloat16),
        ("float32", 37, 256, torch.float32, torch.float32),
        ("float32 gradient", 150, 128, torch.bfloat16, torch.float32),
    )
    for case, tokens, width, dtype, grad_dtype in cases:
        gate_up, grad = heavy_tailed(tokens, 2 * width).to(dtype), heavy_tailed(tokens, width, seed=1).to(grad_dtype)
        for power_of_two in (False, True):
            compare(gate_up, grad, power_of_two, case)
        print("same:", case, flush=True)
    gate_up, grad = heavy_tailed(9, 512).bfloat16(), heavy_tailed(9, 256, seed=1).bfloat16()
    gate_up[2, 5], gate_up[4, 300], gate_up[6] = torch.nan, torch.inf, 0.0
    gate_up[7, :4] = torch.tensor([-500.0, 500.0, -90.0, 90.0])
    grad[8, 130] = torch.nan
    compare(gate_up, grad, False, "not finite")
    activation, stash = swiglu.swiglu_quantize_stash(gate_up, False)
    assert not torch.isfinite(activation.scales[2, 0]) and not torch.isfinite(activation.scales[4, 0])
    assert not torch.isfinite(stash.scales[2, 0]) and not torch.isfinite(stash.scales[4, 2])
    print("same: not finite", flush=True)


if __name__ == "__main__":
    main()
