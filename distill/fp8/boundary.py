"""What stays BF16 around the FP8 linears: embeddings, norms and the output head, with their float32 parameters.

A converted model computes in BF16 on its own, with autocast or without: the embeddings give a BF16 residual stream,
norms answer in the dtype they were given, and the head casts its weight. Parameters stay what they are (DeepSeek-V3,
arXiv 2412.19437, section 3.3.1: embedding, head, norms and attention keep their precision). Classes change in place.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from distill.fp8.linear import linear_bf16


class BF16Embedding(nn.Embedding):
    """nn.Embedding that gives BF16."""

    is_fp8 = True

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).to(torch.bfloat16)


class BF16Head(nn.Linear):
    """nn.Linear computed in BF16."""

    is_fp8 = True

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear_bf16(input, self.weight, self.bias)


class _SameDtypeNorm:
    """Mixed into a model's RMSNorm: float32 weights do not turn a BF16 state into float32."""

    is_fp8 = True

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = super().forward(hidden_states)  # type: ignore[misc]
        return result.to(hidden_states.dtype)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[2],), self.__dict__


@cache
def norm_class(base: Any) -> Any:
    """The subclass of a model's RMSNorm that answers in its input's dtype."""
    return type(base.__name__, (_SameDtypeNorm, base), {"__module__": base.__module__})


def _blank(base: Any) -> Any:
    """A norm without content, for pickle and copy to fill."""
    cls = norm_class(base)
    return cls.__new__(cls)


def to_boundary(model: Any) -> list[tuple[Any, Any]]:
    """Change the classes of a model's embeddings, head and RMSNorms; returns each module with what it was."""
    changes: list[tuple[Any, Any]] = [
        (module, new)
        for module, old, new in (
            (model.get_input_embeddings(), nn.Embedding, BF16Embedding),
            (model.get_output_embeddings(), nn.Linear, BF16Head),
        )
        if type(module) is old
    ]
    norms: list[Any] = [module for module in model.modules() if hasattr(module, "variance_epsilon")]
    changes += [(norm, norm_class(norm.__class__)) for norm in norms]
    before = [(module, type(module)) for module, _ in changes]
    for module, new in changes:
        module.__class__ = new
    return before
