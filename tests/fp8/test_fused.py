"""The reference of RMSNorm and SwiGLU (distill/fp8/fused.py) against float64 autograd and transformers.

pytest tests/fp8/test_fused.py
"""

import pytest
import torch

from distill.fp8 import fused
from distill.fp8.quantize import dequantize, quantize_columns, quantize_rows


def heavy_tailed(*shape: int, seed: int = 0) -> torch.Tensor:
    """Student's t with 2 degrees of freedom: some numbers are a hundred times the median."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(*shape, generator=generator)
    chi = torch.randn(*shape, 2, generator=generator).pow(2).sum(-1)
    return normal / (chi / 2).sqrt()


def norm_in_float64(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return hidden / torch.sqrt((hidden * hidden).mean(dim=1, keepdim=True) + eps) * weight


@pytest.mark.parametrize("shape", [(1, 128), (130, 384)])
def test_gradients_of_the_norm_are_those_of_autograd(shape):
    hidden, grad, weight = heavy_tailed(*shape), heavy_tailed(*shape, seed=1), heavy_tailed(shape[1], seed=2)
    exact_hidden, exact_weight = hidden.double().requires_grad_(), weight.double().requires_grad_()
    norm_in_float64(exact_hidden, exact_weight, 1e-5).backward(grad.double())

    rstd = fused.reciprocal_std(hidden, 1e-5)
    grad_hidden, grad_weight = fused.rms_norm_backward(grad, hidden, weight, rstd)

    assert grad_hidden.dtype == grad_weight.dtype == torch.float32
    assert relative_error(grad_hidden, exact_hidden.grad) < 1e-6
    assert relative_error(grad_weight, exact_weight.grad) < 1e-6


def test_gradient_of_the_hidden_state_has_its_type():
    hidden = heavy_tailed(5, 128).bfloat16()
    grad = heavy_tailed(5, 128, seed=1)
    grad_hidden, grad_weight = fused.rms_norm_backward(grad, hidden, torch.ones(128), fused.reciprocal_std(hidden, 0.0))
    assert (grad_hidden.dtype, grad_weight.dtype) == (torch.bfloat16, torch.float32)


def test_norm_is_the_one_of_qwen2():
    qwen2 = pytest.importorskip("transformers.models.qwen2.modeling_qwen2")
    hidden, weight = heavy_tailed(7, 256), heavy_tailed(256, seed=1)
    module = qwen2.Qwen2RMSNorm(256, eps=1e-6)
    module.weight.data.copy_(weight)
    ours = fused.rms_norm(hidden, weight, fused.reciprocal_std(hidden, 1e-6))
    torch.testing.assert_close(ours, module(hidden), rtol=1e-6, atol=1e-7)


def test_normed_state_by_rows_and_by_columns_is_one_matrix():
    hidden, weight = heavy_tailed(130, 256), heavy_tailed(256, seed=1)
    rows, rstd = fused.rms_norm_quantize(hidden, weight, 1e-6, False)
    columns = fused.rms_norm_quantize_columns(hidden, weight, rstd, False)
    exact = norm_in_float64(hidden.double(), weight.double(), 1e-6)
    for found in (dequantize(rows), dequantize(columns, 130).t()):
        assert relative_error(found, exact) < 0.04  # 3 bits of mantissa: at most 1/16, and 0.03 in the mean square


@pytest.mark.parametrize("shape", [(1, 128), (130, 256)])
def test_gradients_of_swiglu_are_those_of_autograd(shape):
    tokens, width = shape
    gate_up, grad = heavy_tailed(tokens, 2 * width), heavy_tailed(tokens, width, seed=1)
    exact = gate_up.double().requires_grad_()
    gate, up = exact.chunk(2, dim=1)
    result = gate / (1 + torch.exp(-gate)) * up
    result.backward(grad.double())

    activation, grad_gate_up = fused.swiglu_backward(grad, gate_up)

    assert relative_error(fused.swiglu(gate_up), result.detach()) < 1e-6
    assert relative_error(activation, result.detach()) < 1e-6
    assert relative_error(grad_gate_up, exact.grad) < 1e-6


def test_the_backward_quantises_what_autograd_gives():
    gate_up, grad = heavy_tailed(130, 256), heavy_tailed(130, 128, seed=1)
    activation, grad_gate_up = fused.swiglu_backward(grad, gate_up)
    expected = (quantize_columns(activation), quantize_rows(grad_gate_up), quantize_columns(grad_gate_up))
    for found, wanted in zip(fused.swiglu_backward_quantize(grad, gate_up, False), expected, strict=True):
        assert torch.equal(found.codes.view(torch.uint8), wanted.codes.view(torch.uint8))
        assert torch.equal(found.scales, wanted.scales)
    assert expected[0].codes.shape == (128, 256)
    assert not expected[0].codes[:, 130:].float().any()


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()
