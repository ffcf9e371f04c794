"""Products of one input with one or more weights: forward, gradient of the input and gradient of the weights in FP8.

    y = project(x, group, plan)                            # [T, sum of N_i]
    y = project(hidden, group, plan, norm_weight, eps)     # RMSNorm in front, fused with the quantiser

The input is quantised once for all linears of the group. What is kept for the backward is chosen by the plan: the input
itself where something else keeps it alive anyway (attention's output), its FP8 codes, or, behind a norm, the norm's
input, from which the normed state is computed again and quantised along tokens without having been quantised before.

    fprop  y  = x8 [T, K] (1x128)    x  w8 [N, K] (128x128)      DeepSeek-V3, arXiv 2412.19437, figure 6 and
    dgrad  dx = dy8 [T, N] (1x128)   x  w8^T [K, N] (128x128)    section 3.3.1; the tiles of each operand: 3.3.2 and
    wgrad  dw = dy8^T [N, T] (128x1) x  x8^T [K, T] (128x1)      appendix B.2 (gradients must not have 128x128)

fprop and dgrad come out in BF16, wgrad in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from distill.fp8 import ops
from distill.fp8.fused import rms_norm
from distill.fp8.recipe import Precision
from distill.fp8.weights import WeightGroup, quantize_weights


class Plan(NamedTuple):
    """The constants of one group's products."""

    label: str
    power_of_two: bool
    wgrad: Precision
    stash: Precision
    """fp8: keep codes of the input (behind a norm: of the norm's input); bf16: keep it, as a BF16 wgrad needs."""


def project(
    x: torch.Tensor,
    group: WeightGroup,
    plan: Plan,
    norm_weight: torch.Tensor | None = None,
    eps: float = 0.0,
    quantized: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """x [..., K] times each weight of the group, side by side: [..., sum of N_i] in BF16, biases added.

    `quantized`: codes and scales of x where a neighbour has made them already.
    """
    rows = x.reshape(-1, x.shape[-1])
    codes, scales = quantized or (None, None)
    y = _Projection.apply(plan, eps, rows, norm_weight, codes, scales, *group.operand(), *group.weights)
    biases = group.biases
    if any(bias is not None for bias in biases):
        y = y + _biases(biases, group.sizes, y)
    return y.view(*x.shape[:-1], y.shape[-1])


def _biases(biases: list[torch.Tensor | None], sizes: list[int], y: torch.Tensor) -> torch.Tensor:
    whole = [y.new_zeros(size) if bias is None else bias for bias, size in zip(biases, sizes, strict=True)]
    return torch.cat(whole).to(y.dtype) if len(whole) > 1 else whole[0].to(y.dtype)


class _Projection(torch.autograd.Function):
    """See the module; inputs: plan, eps, x, norm weight, codes and scales of x, the cached weights (4), weights."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        eps: float,
        x: torch.Tensor,
        norm_weight: torch.Tensor | None,
        codes: torch.Tensor | None,
        scales: torch.Tensor | None,
        w_codes: torch.Tensor | None,
        w_scales: torch.Tensor | None,
        wt_codes: torch.Tensor | None,
        wt_scales: torch.Tensor | None,
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        rstd = None
        label = f"{plan.label}/input"
        if norm_weight is not None:
            codes, scales, rstd = ops.rms_norm_quantize(x, norm_weight, eps, plan.power_of_two, label)
        elif codes is None or scales is None:
            codes, scales = ops.quantize_rows(x, plan.power_of_two, label)
        assert codes is not None and scales is not None
        w = cached_or_quantized(plan, (w_codes, w_scales), weights)
        y = ops.matmul(codes, scales, *w, torch.bfloat16, f"{plan.label}/fprop")
        kept = keep_input(plan, x, norm_weight is not None, codes, scales, wanted=any(w.requires_grad for w in weights))
        ctx.save_for_backward(*kept, rstd, norm_weight, w_codes, w_scales, wt_codes, wt_scales, *weights)
        ctx.plan = plan
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        plan: Plan = ctx.plan
        saved = ctx.saved_tensors  # once: a checkpoint hands them out a single time
        x_codes, x_scales, rstd, norm_weight, *cached = saved[:8]
        weights = saved[8:]
        needs_input = any(ctx.needs_input_grad[2:4])  # the norm's weight too is reached through it
        needs_weights = any(ctx.needs_input_grad[10:])
        both = quantize_gradient(grad, plan, needs_weights)
        dx = dnorm = None
        if needs_input:
            wt_codes, wt_scales = transposed_weights(plan, cached, weights)
            dx = ops.matmul(*both[:2], wt_codes, wt_scales, dgrad_dtype(ctx.dtype), f"{plan.label}/dgrad")
        dweights: tuple[torch.Tensor | None, ...] = (None,) * len(weights)
        if needs_weights or norm_weight is not None:
            hidden = restore_input(x_codes, x_scales, ctx.shape, ctx.dtype)
            if needs_weights:
                dw = weight_gradient(plan, grad, both, hidden, norm_weight, rstd)
                dweights = split_gradient(dw, weights)
            if norm_weight is not None and dx is not None:
                dx, dnorm = ops.rms_norm_backward(dx, hidden, norm_weight, rstd)
                dnorm = dnorm.to(norm_weight.dtype)
        return None, None, dx, dnorm, None, None, None, None, None, None, *dweights


def keep_input(
    plan: Plan,
    x: torch.Tensor,
    behind_norm: bool,
    codes: torch.Tensor,
    scales: torch.Tensor,
    *,
    wanted: bool,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """What a backward needs of the input: (x, None), or codes and scales; nothing for frozen weights without a norm."""
    if not wanted and not behind_norm:
        return None, None
    if plan.stash == "bf16":
        return x, None
    if behind_norm:
        return ops.quantize_rows(x, plan.power_of_two, f"{plan.label}/hidden")
    return codes, scales


def restore_input(
    kept: torch.Tensor, scales: torch.Tensor | None, shape: torch.Size, dtype: torch.dtype
) -> torch.Tensor:
    """The input again, in its dtype."""
    return kept if scales is None else ops.dequantize(kept, scales, shape[1]).to(dtype)


def dgrad_dtype(dtype: torch.dtype) -> torch.dtype:
    """Gradients of inputs come out in the input's dtype, which a product gives in BF16 or float32."""
    return dtype if dtype in (torch.bfloat16, torch.float32) else torch.bfloat16


def quantize_gradient(grad: torch.Tensor, plan: Plan, needs_weights: bool) -> tuple[torch.Tensor, ...]:
    """Codes and scales of the gradient, and of its transpose where a weight gradient in FP8 will read it."""
    label = f"{plan.label}/gradient"
    if needs_weights and plan.wgrad == "fp8":
        both: tuple[torch.Tensor, ...] = ops.quantize_both(grad.contiguous(), plan.power_of_two, label)
        return both
    rows: tuple[torch.Tensor, ...] = ops.quantize_rows(grad.contiguous(), plan.power_of_two, label)
    return rows


def cached_or_quantized(
    plan: Plan, cached: Sequence[torch.Tensor | None], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """W [N, K]: the cached codes and scales, or new ones from weights that are gathered for this layer."""
    codes, scales = cached[:2]
    if codes is not None and scales is not None:
        return codes, scales
    return quantize_weights(weights, plan.power_of_two, plan.label)


def transposed_weights(
    plan: Plan, cached: Sequence[torch.Tensor | None], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """W^T [K, N]: cached, or a transposed copy of W."""
    codes_t, scales_t = cached[2:]
    if codes_t is not None and scales_t is not None:
        return codes_t, scales_t
    rows, columns = sum(weight.shape[0] for weight in weights), weights[0].shape[1]
    pair: tuple[torch.Tensor, torch.Tensor] = ops.transpose_blocks(
        *cached_or_quantized(plan, cached, weights), rows, columns
    )
    return pair


def weight_gradient(
    plan: Plan,
    grad: torch.Tensor,
    both: tuple[torch.Tensor, ...],
    hidden: torch.Tensor,
    norm_weight: torch.Tensor | None,
    rstd: torch.Tensor | None,
) -> torch.Tensor:
    """dy^T x, float32 [N, K]; x is `hidden`, or its normed state."""
    if plan.wgrad == "bf16":
        x = hidden
        if norm_weight is not None and rstd is not None:
            x = rms_norm(hidden, norm_weight, rstd).to(torch.bfloat16)
        product: torch.Tensor = ops.matmul_bf16(grad, x, f"{plan.label}/wgrad")
        return product
    if norm_weight is not None and rstd is not None:
        columns = ops.rms_norm_quantize_columns(hidden, norm_weight, rstd, plan.power_of_two)
    else:
        columns = ops.quantize_columns(hidden, plan.power_of_two, f"{plan.label}/input_t")
    dw: torch.Tensor = ops.matmul(*both[2:], *columns, torch.float32, f"{plan.label}/wgrad")
    return dw


def split_gradient(dw: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """One gradient for each weight, in its dtype: float32 master weights get what the product gave."""
    parts = dw.split([weight.shape[0] for weight in weights])
    return tuple(part.to(weight.dtype) for part, weight in zip(parts, weights, strict=True))
