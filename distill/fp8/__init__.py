"""FP8 mixed-precision training after DeepSeek-V3: blockwise E4M3 for the three products of every linear.

    from distill.fp8 import convert_to_fp8, get_recipe, receipt, revert_from_fp8

    convert_to_fp8(model, get_recipe("fast"))
    ...train...
    print(receipt(model).summary())
    revert_from_fp8(model)

Imports torch only; Triton where a CUDA tensor comes. docs/fp8.md explains what runs in which precision and why.
"""

from __future__ import annotations

from distill.fp8.convert import convert_to_fp8, forget_weights, keep_in_bf16, refresh_weights, revert_from_fp8, state_of
from distill.fp8.errors import Fp8Error
from distill.fp8.linear import FP8Linear
from distill.fp8.probe import ProbeResult, in_bf16, shadow_probe
from distill.fp8.receipt import Receipt, receipt
from distill.fp8.recipe import RECIPES, Fp8Recipe, get_recipe

__all__ = [
    "RECIPES",
    "FP8Linear",
    "Fp8Error",
    "Fp8Recipe",
    "ProbeResult",
    "Receipt",
    "convert_to_fp8",
    "forget_weights",
    "get_recipe",
    "in_bf16",
    "keep_in_bf16",
    "receipt",
    "refresh_weights",
    "revert_from_fp8",
    "shadow_probe",
    "state_of",
]
