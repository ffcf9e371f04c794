"""The sides of the FP8 parity comparison: how each one computes, and the damaged ones that must be seen to be worse.

A damaged side is FP8 with its scales taken over more than a block: of the whole tensor (`tensorwise`), or of 128x128
blocks for the gradients of activations, which DeepSeek-V3 saw diverge (arXiv 2412.19437, appendix B.2). `unscaled` has
no scales at all. Outliers are put into the MLP without changing its function: a third of its channels are made larger
by a power of two in up_proj and smaller by the same in down_proj. In BF16 that changes no bit of any product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from distill.fp8 import fused, quantize
from distill.fp8.quantize import BLOCK, Quantized

OUTLIER_FACTOR = 2.0**16


@dataclass(frozen=True)
class Side:
    """One way to train: precision, the FP8 recipe, a damage to it, outliers in the model, the optimizer."""

    precision: str
    recipe: str = "fast"
    damage: str = ""
    outliers: bool = False
    optimizer: str = "muon"


SIDES = {
    "bf16": Side("bf16"),
    "fp32": Side("fp32"),
    "fp8 bf16": Side("fp8", "bf16"),
    "fp8 fast": Side("fp8", "fast"),
    "fp8 accurate": Side("fp8", "accurate"),
    "fp8 small": Side("fp8", "small"),
    "fp8 gradients 128x128": Side("fp8", damage="gradients"),
    "fp8 unscaled": Side("fp8", damage="unscaled"),
    "bf16, adamw": Side("bf16", optimizer="adamw"),
    "fp32, adamw": Side("fp32", optimizer="adamw"),
    "fp8 fast, adamw": Side("fp8", optimizer="adamw"),
    "bf16, outliers": Side("bf16", outliers=True),
    "fp8 fast, outliers": Side("fp8", outliers=True),
    "fp8 tensorwise, outliers": Side("fp8", damage="tensorwise", outliers=True),
}


def add_outliers(model: Any) -> None:
    """Make the first 128 channels of every MLP larger by OUTLIER_FACTOR, and freeze what has its scale changed.

    An optimizer's step would be out of scale there, on every side.
    """
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight[:BLOCK] *= OUTLIER_FACTOR
            layer.mlp.down_proj.weight[:, :BLOCK] /= OUTLIER_FACTOR
    for layer in model.model.layers:
        layer.mlp.up_proj.weight.requires_grad_(False)
        layer.mlp.down_proj.weight.requires_grad_(False)


def damage(kind: str) -> None:
    """Replace the quantiser's scales in this process."""
    if kind == "tensorwise":
        _replace_scales(lambda amax: amax.amax().expand_as(amax).contiguous())
    elif kind == "unscaled":
        _replace_scales(lambda amax: torch.full_like(amax, quantize.E4M3_MAX))
    elif kind == "gradients":
        _share_gradient_scales()


def _replace_scales(shared: Callable[[torch.Tensor], torch.Tensor]) -> None:
    original = quantize.scale_of

    def scale_of(amax: torch.Tensor, power_of_two: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return original(shared(amax.float()), power_of_two)

    quantize.scale_of = scale_of


def _share_gradient_scales() -> None:
    """Gradients of activations, and only they, get one scale for 128 x 128."""
    rows, columns = quantize.quantize_rows, quantize.quantize_columns

    def coarse(x: torch.Tensor, power_of_two: bool) -> Quantized:
        original = quantize.scale_of

        def scale_of(amax: torch.Tensor, power: bool) -> tuple[torch.Tensor, torch.Tensor]:
            pieces = [piece.amax(dim=0, keepdim=True).expand_as(piece) for piece in amax.split(BLOCK)]
            return original(torch.cat(pieces), power)

        quantize.scale_of = scale_of
        try:
            return rows(x, power_of_two)
        finally:
            quantize.scale_of = original

    def quantize_both(x: torch.Tensor, power_of_two: bool = False) -> tuple[Quantized, Quantized]:
        return coarse(x, power_of_two), coarse(x.t(), power_of_two)

    def swiglu_backward_quantize(grad: Any, gate_up: Any, power_of_two: bool) -> tuple[Quantized, Quantized, Quantized]:
        activation, gradient = fused.swiglu_backward(grad, fused.kept_gate_up(gate_up))
        return columns(activation, power_of_two), coarse(gradient, power_of_two), coarse(gradient.t(), power_of_two)

    quantize.quantize_both = quantize_both
    fused.swiglu_backward_quantize = swiglu_backward_quantize
