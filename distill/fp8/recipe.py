"""Named recipes: what is computed and kept in FP8, and what that trades.

    get_recipe("fast")    get_recipe("accurate", probe_every_steps=50)

All of them keep embeddings, head, norms and the attention operator in BF16, master weights and weight gradients in
float32, and use E4M3 for every tensor (DeepSeek-V3, arXiv 2412.19437, section 3.3).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from distill.fp8.errors import Fp8Error

Precision = Literal["fp8", "bf16"]

SKINNY_BELOW = 431
"""N K / (N + K) under which quantising costs more than the faster product saves.

Saved per token: 6 N K floating-point operations at 1000 instead of 640 TFLOP/s (pytorch/ao#2784: cuBLASLt blockwise and
what BF16 reaches beside it). Spent: x and its gradient read in BF16 and written twice in FP8, 4 (N + K) bytes at
2.75 TB/s (torchao's blockwise kernels). Equal at N K / (N + K) = 431, that is 862 x 862. scripts/bench_gpu.sh measures
the three rates on a GPU and prints the figure that follows from them.
"""


@dataclass(frozen=True, slots=True)
class Fp8Recipe:
    """One way to train in FP8; `trade` says what it gives and what it costs."""

    name: str
    trade: str
    matmul: Precision = "fp8"
    """Forward products and gradients of inputs; bf16 turns the whole recipe off, for comparison."""
    wgrad: Precision = "fp8"
    """Products that give weight gradients."""
    gate_up_stash: Precision = "fp8"
    """What SwiGLU keeps for the backward."""
    hidden_stash: Precision = "bf16"
    """What an RMSNorm keeps for the backward; the residual stream itself is BF16."""
    cache_transposed_weights: bool = True
    """Keep W^T beside W for the gradients of inputs: one byte a parameter, no transposing in a backward."""
    power_of_two: bool | None = None
    """Scales rounded up to powers of two; None is what the device needs: no, except on Blackwell (MXFP8)."""
    edge_layers_bf16: int = 0
    """So many decoder layers at each end stay in BF16."""
    skinny_below: float = SKINNY_BELOW
    """A linear stays in BF16 if N K / (N + K) is less; linears that share an input count as one."""
    keep_bf16: tuple[str, ...] = ()
    """Linears whose name ends so stay in BF16."""
    allow_fallback: bool = False
    """Let a product run on a slower FP8 kernel than the device's own; else that is an error."""


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Fp8Recipe(
            name="fast",
            trade="Fewest bytes moved: all three products in FP8, SwiGLU's input kept in FP8, weights cached in both "
            "orientations (2 bytes a parameter).",
        ),
        Fp8Recipe(
            name="accurate",
            trade="Weight gradients in BF16 from unquantised operands, SwiGLU's input kept in BF16, first and last "
            "layer in BF16: a third of the products, and half of the memory saved by `fast`, are given back.",
            wgrad="bf16",
            gate_up_stash="bf16",
            edge_layers_bf16=1,
        ),
        Fp8Recipe(
            name="small",
            trade="Least memory: as `fast`, with the inputs of RMSNorm kept in FP8 too (the weight gradient then sees "
            "them quantised twice) and weights cached in one orientation, transposed again in each backward.",
            hidden_stash="fp8",
            cache_transposed_weights=False,
        ),
        Fp8Recipe(
            name="bf16",
            trade="No FP8 at all, in the same code path: the other side of a comparison.",
            matmul="bf16",
            wgrad="bf16",
            gate_up_stash="bf16",
        ),
    )
}


def get_recipe(name: str, **changes: Any) -> Fp8Recipe:
    """A named recipe, with fields changed.

    Raises: Fp8Error for a name or a field that there is not.
    """
    if name not in RECIPES:
        raise Fp8Error(f"fp8 recipe '{name}': unknown{_near(name, RECIPES)}; there are {', '.join(RECIPES)}.")
    known = [field.name for field in fields(Fp8Recipe)]
    for change in changes:
        if change not in known:
            raise Fp8Error(
                f"fp8 recipe '{name}': no field '{change}'{_near(change, known)}; see distill/fp8/recipe.py."
            )
    return replace(RECIPES[name], **changes)


def is_skinny(recipe: Fp8Recipe, num_outputs: int, num_inputs: int) -> bool:
    """True where FP8 would cost more than it saves, by the rule of SKINNY_BELOW."""
    return num_outputs * num_inputs < recipe.skinny_below * (num_outputs + num_inputs)


def _near(found: str, allowed: Any) -> str:
    close = difflib.get_close_matches(found, list(allowed), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
