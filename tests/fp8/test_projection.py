"""Gradients of FP8 products against float64.

E4M3 has 3 bits after the point: rounding a number m 2^e, 1 <= m < 2, errs by at most 2^-4 / m, evenly, so relative to
the number by 2^-3 / sqrt(12) * sqrt(E[m^-2]) = 0.0265 in the mean square, with m spread as numbers of a wide
distribution are (density 1 / (m ln 2)). A product of two rounded matrices of independent numbers errs by sqrt(2) times
that, 0.0375, and a BF16 result by 2^-9 / sqrt(3) more, which adds nothing in squares. A wrong scale, a lost or a
transposed block errs by 0.5 or more: bounds may be generous.
"""

import copy

import pytest
import torch
from models import error, fp8_linear, heavy, worst_block_error
from torch import nn

from distill.fp8 import ops
from distill.fp8.projection import Plan, project
from distill.fp8.quantize import Quantized, dequantize
from distill.fp8.weights import WeightGroup

ONE_ROUNDING = 0.0265
PRODUCT = 2**0.5 * ONE_ROUNDING
BOUND = 1.15 * PRODUCT
"""Over a whole matrix."""
BLOCK_BOUND = 1.6 * PRODUCT
"""Of the worst of its blocks, which at the edge are a few numbers wide."""


def exact(x, linear, grad):
    """(y, dx, dw, db) in float64 of the very numbers given."""
    x = x.detach().double().requires_grad_()
    linear = copy.deepcopy(linear).double()
    y = linear(x)
    (y * grad.double()).sum().backward()
    return y.detach(), x.grad, linear.weight.grad, None if linear.bias is None else linear.bias.grad


def case(tokens, outputs, inputs, dtype=torch.float32, bias=True):
    torch.manual_seed(tokens + outputs)
    linear = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(heavy(outputs, inputs, seed=2) / inputs**0.5)
    x = heavy(tokens, inputs, seed=3, dtype=dtype).requires_grad_()
    return linear, x, heavy(tokens, outputs, seed=4).bfloat16().float()


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize(
    ("tokens", "outputs", "inputs", "dtype"),
    [
        (128, 128, 128, torch.float32),
        (300, 256, 384, torch.bfloat16),
        (77, 144, 400, torch.float32),
        (130, 272, 208, torch.bfloat16),
        (1, 160, 96, torch.float32),
    ],
)
def test_forward_and_gradients_are_within_the_format(tokens, outputs, inputs, dtype, power_of_two):
    linear, x, grad = case(tokens, outputs, inputs, dtype)
    y0, dx0, dw0, db0 = exact(x, linear, grad)
    fp8_linear(linear, power_of_two=power_of_two)
    y = linear(x)
    (y.float() * grad).sum().backward()
    assert y.dtype == torch.bfloat16 and y.shape == y0.shape
    assert x.grad.dtype == dtype and linear.weight.grad.dtype == torch.float32
    for found, wanted in ((y, y0), (x.grad, dx0), (linear.weight.grad, dw0)):
        assert error(found, wanted) < (BOUND if tokens > 1 else 2**-3)  # of a few numbers: twice the largest error
        assert worst_block_error(found, wanted) < (BLOCK_BOUND if tokens > 1 else 2**-3)
    assert error(linear.bias.grad, db0) < 2**-8


@pytest.mark.parametrize("product", ["dgrad", "wgrad", "fprop"])
def test_the_bounds_see_scales_twice_too_large(product, monkeypatch):
    linear, x, grad = case(256, 256, 256)
    wanted = dict(zip(("fprop", "dgrad", "wgrad"), exact(x, linear, grad), strict=False))
    fp8_linear(linear)
    right = ops.matmul

    def damaged(a, a_scales, b, b_scales, out_dtype, label):
        if label.endswith(product):
            b_scales = b_scales.clone()
            b_scales[-128:, -1] *= 2  # of one block of 128x128, or of 128 of 1x128
        return right(a, a_scales, b, b_scales, out_dtype, label)

    monkeypatch.setattr(ops, "matmul", damaged)
    y = linear(x)
    (y.float() * grad).sum().backward()
    found = {"fprop": y, "dgrad": x.grad, "wgrad": linear.weight.grad}[product]
    damage = worst_block_error(found, wanted[product])
    assert damage > BLOCK_BOUND


def test_the_bounds_see_scales_that_were_not_transposed(monkeypatch):
    linear, x, grad = case(128, 256, 256)
    _, dx0, _, _ = exact(x, linear, grad)
    fp8_linear(linear)
    right = ops.transpose_blocks
    monkeypatch.setattr(ops, "transpose_blocks", lambda codes, scales, r, c: (right(codes, scales, r, c)[0], scales))
    (linear(x).float() * grad).sum().backward()
    assert error(x.grad, dx0) > BOUND


def test_three_dimensions_give_what_two_do():
    linear, x, grad = case(60, 160, 128)
    fp8_linear(linear)
    (linear(x).float() * grad).sum().backward()
    flat = (x.grad.clone(), linear.weight.grad.clone())
    x.grad = linear.weight.grad = None
    cubes = x.view(3, 20, 128)
    y = linear(cubes)
    assert y.shape == (3, 20, 160)
    (y.float() * grad.view(3, 20, 160)).sum().backward()
    assert torch.equal(x.grad, flat[0]) and torch.equal(linear.weight.grad, flat[1])


def test_inputs_and_gradients_need_not_be_contiguous():
    linear, x, grad = case(60, 160, 128)
    fp8_linear(linear)
    y0 = linear(x)
    (y0.float() * grad).sum().backward()
    dw0 = linear.weight.grad.clone()
    linear.weight.grad = None
    strided = x.detach().t().contiguous().t().requires_grad_()
    y = linear(strided)
    y.backward(grad.bfloat16().t().contiguous().t())
    assert torch.equal(y, y0) and torch.equal(linear.weight.grad, dw0) and torch.equal(strided.grad, x.grad)


SIZES = (256, 128, 144)


def grouped(dtype=torch.float32, bias=(True, False, True), wgrad="fp8", stash="bf16", tokens=150, inputs=256):
    torch.manual_seed(5)
    linears = [nn.Linear(inputs, size, bias=b) for size, b in zip(SIZES, bias, strict=True)]
    for at, linear in enumerate(linears):
        linear.weight.data.copy_(heavy(*linear.weight.shape, seed=10 + at) / 16)
    group = WeightGroup("0:group", linears, power_of_two=False, keep_transposed=stash == "bf16")
    x = heavy(tokens, inputs, seed=7, dtype=dtype).requires_grad_()
    grad = heavy(tokens, sum(SIZES), seed=8).bfloat16().float()
    return linears, group, Plan("0:group", False, wgrad, stash), x, grad


def test_a_group_of_unequal_linears():
    linears, group, plan, x, grad = grouped()
    x64 = x.detach().double().requires_grad_()
    exact_linears = [copy.deepcopy(linear).double() for linear in linears]
    y64 = torch.cat([linear(x64) for linear in exact_linears], dim=1)
    (y64 * grad).sum().backward()
    y = project(x, group, plan)
    (y.float() * grad).sum().backward()
    assert error(y, y64) < BOUND and error(x.grad, x64.grad) < BOUND
    for linear, wanted in zip(linears, exact_linears, strict=True):
        assert linear.weight.grad.dtype == torch.float32
        assert worst_block_error(linear.weight.grad, wanted.weight.grad) < BLOCK_BOUND
        if linear.bias is not None:
            assert error(linear.bias.grad, wanted.bias.grad) < 2**-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("wgrad", "stash"), [("fp8", "bf16"), ("fp8", "fp8"), ("bf16", "bf16")])
def test_behind_a_norm(dtype, wgrad, stash):
    linears, group, plan, x, grad = grouped(dtype, wgrad=wgrad, stash=stash)
    weight = (1 + 0.3 * torch.randn(256)).requires_grad_()
    norm64 = nn.RMSNorm(256, eps=1e-5).double()
    norm64.weight.data.copy_(weight)
    x64 = x.detach().double().requires_grad_()
    exact_linears = [copy.deepcopy(linear).double() for linear in linears]
    y64 = torch.cat([linear(norm64(x64)) for linear in exact_linears], dim=1)
    (y64 * grad).sum().backward()
    y = project(x, group, plan, weight, 1e-5)
    (y.float() * grad).sum().backward()
    assert error(y, y64) < BOUND
    # The norm takes off the part of a gradient that points along its input, and with it some of the signal, not of
    # the noise; of a heavy row, much of it. A stash in FP8 rounds the input once more.
    stash_error = ONE_ROUNDING if stash == "fp8" else 0.0
    assert error(x.grad, x64.grad) < 1.5 * (PRODUCT**2 + stash_error**2) ** 0.5
    assert error(weight.grad, norm64.weight.grad) < 1.5 * (PRODUCT**2 + stash_error**2) ** 0.5
    assert x.grad.dtype == dtype and weight.grad.dtype == torch.float32
    wgrad_error = {"fp8": (PRODUCT**2 + stash_error**2) ** 0.5, "bf16": 2**-8}[wgrad]
    for linear, wanted in zip(linears, exact_linears, strict=True):
        assert error(linear.weight.grad, wanted.weight.grad) < 1.15 * wgrad_error


def test_wgrad_in_bf16_is_ten_times_as_close():
    errors = {}
    for wgrad in ("fp8", "bf16"):
        linear, x, grad = case(200, 144, 272)
        _, _, dw0, _ = exact(x, linear, grad)
        fp8_linear(linear, wgrad=wgrad, stash="bf16")
        (linear(x).float() * grad).sum().backward()
        errors[wgrad] = error(linear.weight.grad, dw0)
        assert linear.weight.grad.dtype == torch.float32
    assert errors["bf16"] < errors["fp8"] / 10


def test_float32_gradients_of_micro_batches_add_up():
    linear, x, grad = case(300, 160, 128)
    fp8_linear(linear)
    parts = []
    for piece in range(3):
        linear.weight.grad = None
        (linear(x[piece * 100 : piece * 100 + 100]).float() * grad[piece * 100 : piece * 100 + 100]).sum().backward()
        parts.append(linear.weight.grad)
    linear.weight.grad = None
    for piece in range(3):
        (linear(x[piece * 100 : piece * 100 + 100]).float() * grad[piece * 100 : piece * 100 + 100]).sum().backward()
    assert torch.equal(linear.weight.grad, parts[0] + parts[1] + parts[2])
    assert not torch.equal(linear.weight.grad, linear.weight.grad.bfloat16().float())


def test_frozen_weights_still_pass_the_gradient_on():
    linear, x, grad = case(100, 160, 128)
    fp8_linear(linear)
    (linear(x).float() * grad).sum().backward()
    dx = x.grad.clone()
    x.grad = linear.weight.grad = None
    linear.requires_grad_(False)
    y = linear(x)
    saved = [t for t in y.grad_fn.saved_tensors if t is not None] if hasattr(y.grad_fn, "saved_tensors") else []
    assert all(t.shape[0] != 100 for t in saved), "nothing of the tokens is kept for frozen weights"
    (y.float() * grad).sum().backward()
    assert torch.equal(x.grad, dx) and linear.weight.grad is None


def test_an_input_without_gradient():
    linear, x, grad = case(100, 160, 128)
    fp8_linear(linear)
    (linear(x).float() * grad).sum().backward()
    dw = linear.weight.grad.clone()
    linear.weight.grad = None
    (linear(x.detach()).float() * grad).sum().backward()
    assert torch.equal(linear.weight.grad, dw)


def test_a_norm_behind_a_frozen_input_still_learns():
    linears, group, plan, x, grad = grouped()
    weight = torch.ones(256, requires_grad=True)
    (project(x, group, plan, weight, 1e-6).float() * grad).sum().backward()
    wanted = weight.grad.clone()
    weight.grad = None
    (project(x.detach(), group, plan, weight, 1e-6).float() * grad).sum().backward()
    assert torch.equal(weight.grad, wanted)
    for linear in linears:
        linear.requires_grad_(False)
    weight.grad = None
    (project(x.detach(), group, plan, weight, 1e-6).float() * grad).sum().backward()
    assert torch.equal(weight.grad, wanted)


def test_the_product_is_that_of_the_codes():
    linear, x, _ = case(64, 144, 200, bias=False)
    fp8_linear(linear)
    y = linear(x)
    left = dequantize(Quantized(*ops.quantize_rows(x.detach(), False, "0:x/input")))
    right = dequantize(Quantized(*linear.group.operand()[:2]))
    assert error(y, left.double() @ right.double().t()) < 2**-8


def test_a_second_derivative_is_an_error():
    linear, x, grad = case(64, 128, 128)
    fp8_linear(linear)
    (dx,) = torch.autograd.grad((linear(x).float() * grad).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        dx.sum().backward()
