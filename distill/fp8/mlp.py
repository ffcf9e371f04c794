"""RMSNorm, gate and up, SwiGLU, down: one autograd function, so that FP8 goes from one step to the next.

Forward: norm -> 8-bit x -> gate_up (BF16) -> 8-bit silu(gate) up -> y. Kept for the backward: the norm's input, and
gate_up in FP8 (or BF16). SwiGLU and the normed state are computed again from them (DeepSeek-V3, arXiv 2412.19437,
sections 3.2.3 and 3.3.3). The backward of SwiGLU writes the three operands that the remaining products read, in FP8.
"""

from __future__ import annotations

from typing import Any

import torch

from distill.fp8 import fused, ops
from distill.fp8.projection import (
    Plan,
    cached_or_quantized,
    keep_input,
    quantize_gradient,
    restore_input,
    split_gradient,
    transposed_weights,
    weight_gradient,
)
from distill.fp8.recipe import Precision
from distill.fp8.weights import WeightGroup


def swiglu_mlp(
    hidden: torch.Tensor,
    norm_weight: torch.Tensor,
    eps: float,
    gate_up: WeightGroup,
    down: WeightGroup,
    plan: Plan,
    down_label: str,
    gate_up_stash: Precision,
) -> torch.Tensor:
    """down(silu(gate(x)) * up(x)) of x = RMSNorm(hidden [..., K]); BF16 [..., K]. The linears have no biases."""
    rows = hidden.reshape(-1, hidden.shape[-1])
    weights = (*gate_up.weights, *down.weights)
    y = _SwiGLU.apply(
        plan, down_label, gate_up_stash, eps, rows, norm_weight, *gate_up.operand(), *down.operand(), *weights
    )
    return y.view(hidden.shape)


class _SwiGLU(torch.autograd.Function):
    """See the module; inputs: plan, label of down, stash, eps, hidden, norm weight, cached weights (8), 3 weights."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        down_label: str,
        gate_up_stash: Precision,
        eps: float,
        hidden: torch.Tensor,
        norm_weight: torch.Tensor,
        *operands: torch.Tensor,
    ) -> torch.Tensor:
        cached, (gate, up, down) = operands[:8], operands[8:]
        codes, scales, rstd = ops.rms_norm_quantize(hidden, norm_weight, eps, plan.power_of_two, f"{plan.label}/input")
        gate_up = ops.matmul(
            codes, scales, *cached_or_quantized(plan, cached[:4], (gate, up)), torch.bfloat16, f"{plan.label}/fprop"
        )
        input_label = f"{down_label}/input"
        stash: tuple[torch.Tensor | None, ...] = (gate_up, None)
        if gate_up_stash == "fp8":
            *activation, stash_codes, stash_scales = ops.swiglu_quantize_stash(gate_up, plan.power_of_two, input_label)
            stash = (stash_codes, stash_scales)
        else:
            activation = ops.swiglu_quantize(gate_up, plan.power_of_two, input_label)
        down_weights = cached_or_quantized(plan._replace(label=down_label), cached[4:], (down,))
        y = ops.matmul(*activation, *down_weights, torch.bfloat16, f"{down_label}/fprop")
        kept = keep_input(plan, hidden, True, codes, scales, wanted=True)
        ctx.save_for_backward(*kept, *stash, rstd, norm_weight, *operands)
        ctx.plan, ctx.down_label = plan, down_label
        ctx.shape, ctx.dtype = hidden.shape, hidden.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        plan: Plan = ctx.plan
        down_plan = plan._replace(label=ctx.down_label)
        needs_weights = any(ctx.needs_input_grad[14:])
        kept, kept_scales, stash, stash_scales, rstd, norm_weight, *operands = ctx.saved_tensors
        cached, (gate, up, down) = operands[:8], operands[8:]
        both = quantize_gradient(grad, down_plan, needs_weights)
        d_activation = ops.matmul(
            *both[:2], *transposed_weights(down_plan, cached[4:], (down,)), torch.bfloat16, f"{ctx.down_label}/dgrad"
        )
        hidden = restore_input(kept, kept_scales, ctx.shape, ctx.dtype)
        if plan.wgrad == "fp8":
            rows, d_gate_up, d_down = _quantized_step(plan, ctx.down_label, both, d_activation, stash, stash_scales)
        else:
            kept_grad = grad if needs_weights else None
            rows, d_gate_up, d_down = _unquantized_step(
                plan, ctx.down_label, kept_grad, d_activation, stash, stash_scales
            )
        wt = transposed_weights(plan, cached[:4], (gate, up))
        dx = ops.matmul(*rows[:2], *wt, torch.bfloat16, f"{plan.label}/dgrad")
        d_hidden, d_norm = ops.rms_norm_backward(dx, hidden, norm_weight, rstd)
        d_weights: tuple[torch.Tensor | None, ...] = (None, None, None)
        if d_down is not None:
            dw = weight_gradient(plan, d_gate_up, rows, hidden, norm_weight, rstd)
            d_weights = (*split_gradient(dw, (gate, up)), *split_gradient(d_down, (down,)))
        return (None, None, None, None, d_hidden, d_norm.to(norm_weight.dtype), *(None,) * 8, *d_weights)


def _quantized_step(
    plan: Plan,
    down_label: str,
    both: tuple[torch.Tensor, ...],
    d_activation: torch.Tensor,
    stash: torch.Tensor,
    stash_scales: torch.Tensor | None,
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor | None]:
    """(gradient of gate_up quantised both ways, one tensor of its width, gradient of down's weight unless frozen)."""
    act_codes, act_scales, *rows = ops.swiglu_backward_quantize(
        d_activation, stash, stash_scales, plan.power_of_two, f"{plan.label}/gradient"
    )
    d_down = None
    if both[2:]:
        d_down = ops.matmul(*both[2:], act_codes, act_scales, torch.float32, f"{down_label}/wgrad")
    return tuple(rows), rows[0], d_down


def _unquantized_step(
    plan: Plan,
    down_label: str,
    grad: torch.Tensor | None,
    d_activation: torch.Tensor,
    stash: torch.Tensor,
    stash_scales: torch.Tensor | None,
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor | None]:
    """The same for a recipe whose weight gradients are BF16; without a gradient of y, down's weight is frozen."""
    gate_up = stash if stash_scales is None else ops.dequantize(stash, stash_scales, stash.shape[1])
    activation, d_gate_up = fused.swiglu_backward(d_activation, gate_up)
    d_down = None if grad is None else ops.matmul_bf16(grad, activation, f"{down_label}/wgrad")
    d_gate_up = d_gate_up.to(torch.bfloat16)
    return quantize_gradient(d_gate_up, plan, False), d_gate_up, d_down
