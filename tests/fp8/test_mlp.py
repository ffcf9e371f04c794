"""The fused norm and SwiGLU MLP against float64.

Bounds: independent errors add in squares, each rounding to E4M3 giving 0.0265 (test_projection.py). gate and up err by
two roundings each; their product by about 2 (gate's error is larger through silu), and rounded, with down's weights: y
has 6 of them. A gradient has at most 8: the largest terms cancel nothing, but not all errors reach each of them.
"""

import pytest
import torch
from models import error, heavy
from torch import nn

from distill.fp8 import ops
from distill.fp8.mlp import swiglu_mlp
from distill.fp8.projection import Plan
from distill.fp8.weights import WeightGroup

ONE_ROUNDING = 0.0265
TOKENS, HIDDEN, WIDTH = 200, 256, 384


class Float64(nn.Module):
    """What is meant."""

    def __init__(self, linears, norm_weight, eps):
        super().__init__()
        self.norm = nn.RMSNorm(HIDDEN, eps=eps).double()
        self.norm.weight.data.copy_(norm_weight)
        self.gate, self.up, self.down = (nn.Linear(x.in_features, x.out_features, bias=False).double() for x in linears)
        for mine, given in zip((self.gate, self.up, self.down), linears, strict=True):
            mine.weight.data.copy_(given.weight)

    def forward(self, x):
        x = self.norm(x)
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


def build(wgrad, hidden_stash, gate_up_stash, dtype, cache=True):
    torch.manual_seed(1)
    linears = [nn.Linear(HIDDEN, WIDTH, bias=False) for _ in range(2)] + [nn.Linear(WIDTH, HIDDEN, bias=False)]
    for at, linear in enumerate(linears):
        linear.weight.data.copy_(heavy(*linear.weight.shape, seed=20 + at) / (8 * linear.in_features**0.5))
    norm_weight = (1 + 0.3 * torch.randn(HIDDEN)).requires_grad_()
    gate_up = WeightGroup("0:gate_up_proj", linears[:2], power_of_two=False, keep_transposed=cache)
    down = WeightGroup("0:down_proj", linears[2:], power_of_two=False, keep_transposed=cache)
    plan = Plan("0:gate_up_proj", False, wgrad, hidden_stash)

    def mlp(x):
        return swiglu_mlp(x, norm_weight, 1e-5, gate_up, down, plan, "0:down_proj", gate_up_stash)

    x = heavy(TOKENS, HIDDEN, seed=30, dtype=dtype).requires_grad_()
    grad = heavy(TOKENS, HIDDEN, seed=31).bfloat16().float()
    return linears, norm_weight, mlp, x, grad


def errors(linears, norm_weight, mlp, x, grad):
    """By name, of the result and of every gradient."""
    meant = Float64(linears, norm_weight.detach(), 1e-5)
    x64 = x.detach().double().requires_grad_()
    y64 = meant(x64)
    (y64 * grad).sum().backward()
    y = mlp(x)
    assert y.dtype == torch.bfloat16
    (y.float() * grad).sum().backward()
    assert x.grad.dtype == x.dtype
    assert all(linear.weight.grad.dtype == torch.float32 for linear in linears)
    names = ("gate", "up", "down")
    return {
        "y": error(y, y64),
        "x": error(x.grad, x64.grad),
        "norm": error(norm_weight.grad, meant.norm.weight.grad),
    } | {n: error(m.weight.grad, getattr(meant, n).weight.grad) for n, m in zip(names, linears, strict=True)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("wgrad", "hidden_stash", "gate_up_stash", "cache"),
    [("fp8", "bf16", "fp8", True), ("fp8", "fp8", "fp8", False), ("bf16", "bf16", "bf16", True)],
    ids=["fast", "small", "accurate"],
)
def test_gradients_are_within_the_format(wgrad, hidden_stash, gate_up_stash, cache, dtype):
    found = errors(*build(wgrad, hidden_stash, gate_up_stash, dtype, cache))
    assert found["y"] < 6**0.5 * ONE_ROUNDING * 1.15
    roundings = 8
    for name in ("x", "norm", "gate", "up", "down"):
        assert found[name] < roundings**0.5 * ONE_ROUNDING * 1.15, (name, found)


def test_more_kept_in_bf16_is_closer():
    fast = errors(*build("fp8", "bf16", "fp8", torch.float32))
    accurate = errors(*build("bf16", "bf16", "bf16", torch.float32))
    for name in ("gate", "up", "down"):
        assert accurate[name] < 0.95 * fast[name], (name, fast, accurate)
    assert accurate["y"] == fast["y"]


@pytest.mark.parametrize("damaged", ["swiglu_backward_quantize", "swiglu_quantize_stash", "transpose_blocks"])
def test_the_bounds_see_damage(damaged, monkeypatch):
    right = getattr(ops, damaged)

    def wrong(*arguments):
        results = list(right(*arguments))
        results[-1] = results[-1] * 2  # the scales that come last
        return tuple(results)

    monkeypatch.setattr(ops, damaged, wrong)
    assert max(errors(*build("fp8", "bf16", "fp8", torch.float32)).values()) > 8**0.5 * ONE_ROUNDING * 1.15


@pytest.mark.parametrize("wgrad", ["fp8", "bf16"])
def test_frozen_weights_cost_no_weight_gradient(wgrad, monkeypatch):
    linears, norm_weight, mlp, x, grad = build(wgrad, "bf16", "fp8", torch.float32)
    (mlp(x).float() * grad).sum().backward()
    wanted = (x.grad.clone(), norm_weight.grad.clone())
    x.grad = norm_weight.grad = None
    labels = []
    for name in ("matmul", "matmul_bf16"):
        right = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *a, right=right: labels.append(a[-1].partition("/")[2]) or right(*a))
    for linear in linears:
        linear.requires_grad_(False)
        linear.weight.grad = None
    (mlp(x).float() * grad).sum().backward()
    assert torch.equal(x.grad, wanted[0]) and torch.equal(norm_weight.grad, wanted[1])
    assert all(linear.weight.grad is None for linear in linears)
    assert labels == ["fprop", "fprop", "dgrad", "dgrad"]


def test_one_quantisation_of_each_operand(monkeypatch):
    """Three products forward, six backward, and no operand is rounded from BF16 where a fused step can write it."""
    _, _, mlp, x, grad = build("fp8", "bf16", "fp8", torch.float32)
    mlp(x)  # the weights are made
    seen = []
    for name in ops.__dict__:
        if "quantize" in name and callable(ops.__dict__[name]):
            right = getattr(ops, name)
            monkeypatch.setattr(ops, name, lambda *a, right=right, name=name: seen.append(name) or right(*a))
    (mlp(x).float() * grad).sum().backward()
    assert seen == [
        "rms_norm_quantize",
        "swiglu_quantize_stash",
        "quantize_both",
        "swiglu_backward_quantize",
        "rms_norm_quantize_columns",
    ]
