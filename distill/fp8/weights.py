"""Quantised weights: made once for an optimizer step, used by every micro-batch, recomputation and backward of it.

A group is the linears that read one input (q, k and v; gate and up), quantised as one matrix: one product for all of
them, forward and backward. 128x128 blocks have no direction, so the transpose for the gradient of the input is a copy
of bytes, not another quantisation.

A cache is stale after any optimizer's step (torch's global hook: DeepSpeed copies its master weights where no version
counter sees it), and when a weight was changed in place or moved. Weights that FSDP2 or ZeRO-3 keep in pieces are not
cached: a whole copy in FP8 would undo the sharding; they are quantised where they are gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from distill.fp8 import ops
from distill.fp8.quantize import BLOCK


class Operand(NamedTuple):
    """Quantised weights of a group: codes [N, K] and, if kept, their transpose [K, N]; None where nothing is cached."""

    codes: torch.Tensor | None = None
    scales: torch.Tensor | None = None
    codes_t: torch.Tensor | None = None
    scales_t: torch.Tensor | None = None


class _OptimizerSteps:
    """How many optimizer steps this process has made, of any optimizer."""

    count = 0
    hooked = False

    @classmethod
    def watch(cls) -> None:
        if not cls.hooked:
            register_optimizer_step_post_hook(lambda optimizer, args, kwargs: cls.advance())
            cls.hooked = True

    @classmethod
    def advance(cls) -> None:
        cls.count += 1


class WeightGroup:
    """Linears that share an input, and their weights in FP8."""

    def __init__(self, label: str, linears: Sequence[nn.Linear], *, power_of_two: bool, keep_transposed: bool) -> None:
        _OptimizerSteps.watch()
        self.label = label
        self.linears = list(linears)
        self.power_of_two = power_of_two
        self.keep_transposed = keep_transposed
        self.sharded = False
        self._operand: Operand | None = None
        self._made_from: tuple[object, ...] = ()

    @property
    def sizes(self) -> list[int]:
        """Outputs of each linear."""
        return [linear.out_features for linear in self.linears]

    @property
    def weights(self) -> list[torch.Tensor]:
        return [linear.weight for linear in self.linears]

    @property
    def biases(self) -> list[torch.Tensor | None]:
        return [linear.bias for linear in self.linears]

    def operand(self) -> Operand:
        """The cached weights, made anew if stale; an empty Operand where they are sharded.

        Inside torch.compile what the last call outside of it left is taken: `refresh_weights` runs before the graph.
        """
        if torch.compiler.is_compiling():
            return self._operand or Operand()
        if self.sharded:
            self.forget()
            return Operand()
        version = (_OptimizerSteps.count, *((w.data_ptr(), w._version, w.dtype) for w in self.weights))
        if self._operand is None or version != self._made_from:
            self._operand = None  # freed before the new one is made
            self._operand = self._quantize()
            self._made_from = version
        return self._operand

    def forget(self) -> None:
        """Drop the cache."""
        self._operand = None
        self._made_from = ()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_operand": None, "_made_from": ()}  # a copy has other weights, a file needs no cache

    def __setstate__(self, state: dict[str, object]) -> None:
        _OptimizerSteps.watch()
        self.__dict__.update(state)

    @torch.inference_mode(False)  # else the next training step could not keep what an evaluation has quantised
    @torch.no_grad()
    def _quantize(self) -> Operand:
        codes, scales = quantize_weights(self.weights, self.power_of_two, self.label)
        if not self.keep_transposed:
            return Operand(codes, scales)
        return Operand(codes, scales, *ops.transpose_blocks(codes, scales, sum(self.sizes), self.weights[0].shape[1]))


def quantize_weights(
    weights: Sequence[torch.Tensor], power_of_two: bool, label: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [N_i, K] below one another in 128x128 blocks; more than one only if every N_i but the last is blocked."""
    assert all(weight.shape[0] % BLOCK == 0 for weight in weights[:-1])
    pieces = [ops.quantize_blocks(weight, power_of_two, f"{label}/weight") for weight in weights]
    if len(pieces) == 1:
        return pieces[0]
    codes = torch.cat([codes.view(torch.uint8) for codes, _ in pieces]).view(pieces[0][0].dtype)
    return codes, torch.cat([scales for _, scales in pieces])


def is_sharded(weight: torch.Tensor) -> bool:
    """True for a weight of which this process holds a piece (FSDP2's DTensor, ZeRO-3's partitioned parameter)."""
    return type(weight).__name__ == "DTensor" or hasattr(weight, "ds_id")
