"""A linear layer in FP8: nn.Linear with other arithmetic. Parameters, their names and the state dict stay as they were.

`convert_to_fp8` changes the class of a linear in place and `revert_from_fp8` changes it back, so optimizers, hooks and
checkpoints made before keep working. On its own (an adapter of peft wraps it, a layer that has another shape than the
fused ones, decoding with a cache) it quantises its input once with its neighbours (`Siblings`) and keeps it in FP8.
"""

from __future__ import annotations

import weakref
from typing import cast

import torch
from torch import nn

from distill.fp8 import ops
from distill.fp8.projection import Plan, project
from distill.fp8.recipe import Precision
from distill.fp8.weights import WeightGroup


class Siblings:
    """Linears that are given the same input one after another: the first quantises it, the others find it made.

    Inside torch.compile nothing is remembered: each asks for the same operator, and the compiler merges equal ones.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._input: weakref.ref[torch.Tensor] | None = None
        self._version = -1
        self._quantized: tuple[torch.Tensor, torch.Tensor] | None = None

    def quantized(self, x: torch.Tensor, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of x [..., K]."""
        if torch.compiler.is_compiling():
            return self._quantize(x, plan)
        version = 0 if x.is_inference() else x._version
        if self._quantized is None or self._input is None or self._input() is not x or self._version != version:
            self._quantized = self._quantize(x, plan)
            self._input, self._version = weakref.ref(x, self._forget), version
        return self._quantized

    def _quantize(self, x: torch.Tensor, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
        rows = x.detach().reshape(-1, x.shape[-1])
        pair: tuple[torch.Tensor, torch.Tensor] = ops.quantize_rows(rows, plan.power_of_two, f"{self.label}/input")
        return pair

    def _forget(self, _: object) -> None:
        self._quantized = None

    def __reduce__(self) -> tuple[type[Siblings], tuple[str]]:
        return Siblings, (self.label,)


class FP8Linear(nn.Linear):
    """nn.Linear whose three products are FP8; in BF16 where the shadow probe or a recipe says so."""

    is_fp8 = True
    group: WeightGroup
    plan: Plan
    siblings: Siblings | None
    precision: Precision

    @classmethod
    def convert(
        cls, linear: nn.Linear, group: WeightGroup, plan: Plan, siblings: Siblings | None, precision: Precision
    ) -> FP8Linear:
        """Make this linear an FP8 one, in place."""
        converted = cast(FP8Linear, linear)
        converted.__class__ = cls
        converted.group, converted.plan, converted.siblings, converted.precision = group, plan, siblings, precision
        return converted

    def revert(self) -> None:
        """Make it nn.Linear again, in place."""
        for name in ("group", "plan", "siblings", "precision"):
            delattr(self, name)
        self.__class__ = nn.Linear  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., K] -> [..., N] in BF16."""
        if self.precision == "bf16":
            return linear_bf16(x, self.weight, self.bias)
        quantized = self.siblings.quantized(x, self.plan) if self.siblings is not None else None
        return project(x, self.group, self.plan, quantized=quantized)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, precision={self.precision}"


def linear_bf16(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The BF16 linear beside the FP8 one: operands cast, float32 gradients for float32 weights."""
    bias = None if bias is None else bias.to(torch.bfloat16)
    return torch.nn.functional.linear(x.to(torch.bfloat16), weight.to(torch.bfloat16), bias)
