"""A student, its optimizer and its data, which trains as any variant in turn: the same weights on every side.

    student = Trainee(setting, shape, layers, attention)
    student.use("fast", recompute=False)
    loss, spans = student.step(batch)

Variants: the FP8 recipes by name (`bf16` among them: the same code path without FP8), and `stock`, transformers' own
model under autocast. All hold float32 master weights with float32 gradients and AdamW moments, share the attention
function and the loss head, and are switched by converting and reverting one model in place.

The loss head is cross entropy by chunks of 4,096 tokens whose logits are computed again in the backward: logits of
152,064 words at 32,768 tokens would take 20 GB in float32. It is BF16 on every side.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint

from benchmarks.gpu.documents import IGNORED, Batch
from benchmarks.gpu.shapes import Setting, Student
from benchmarks.gpu.timing import Stopwatch
from distill.fp8 import convert_to_fp8, refresh_weights, revert_from_fp8
from distill.fp8.record import RECORD

CHUNK_TOKENS = 4096
STOCK = "stock"


class Trainee:
    """See the module."""

    def __init__(self, setting: Setting, shape: Student, layers: int, attention: str) -> None:
        from transformers import Qwen2ForCausalLM

        torch.manual_seed(0)
        self.setting, self.shape, self.layers = setting, shape, layers
        with torch.device(setting.device):
            self.model: Any = Qwen2ForCausalLM(shape.config(layers, attention)).float()
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, fused=True)
        self.variant = STOCK
        self._convert(STOCK)

    def use(self, variant: str, recompute: bool) -> None:
        """Become this variant: converted, weights quantised, gradient checkpointing on or off."""
        if variant != self.variant:
            self._convert(variant)
        # transformers 5.23 has another name for it and warns of the old one.
        word = "activation" if hasattr(self.model, "activation_checkpointing_enable") else "gradient"
        if recompute:
            keywords = {f"{word}_checkpointing_kwargs": {"use_reentrant": False}}
            getattr(self.model, f"{word}_checkpointing_enable")(**keywords)
        else:
            getattr(self.model, f"{word}_checkpointing_disable")()

    def _convert(self, variant: str) -> None:
        if self.variant != STOCK:
            revert_from_fp8(self.model)
        self.variant = variant
        if variant != STOCK:
            convert_to_fp8(self.model, self.setting.recipe(variant, self.layers == self.shape.layers))
            refresh_weights(self.model)
        # As `distill train` between its checks: looking for NaN costs a synchronisation, done in every 100th step.
        RECORD.begin_step(1, check_every=100)

    def precision(self) -> AbstractContextManager[Any]:
        """Autocast for the stock model; the converted ones compute in BF16 by themselves."""
        if self.variant == STOCK:
            return torch.autocast(self.setting.device.type, torch.bfloat16)
        return nullcontext()

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Last hidden state [1, T, K]: everything but the loss head."""
        with self.precision():
            output = self.model.model(
                input_ids=batch.input_ids, position_ids=batch.position_ids, packing=batch.packing, use_cache=False
            )
        state: torch.Tensor = output.last_hidden_state
        return state

    def loss(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross entropy in nats over counted tokens."""
        return chunked_loss(hidden[0], self.model.lm_head.weight, batch.labels[0])

    def step(self, batch: Batch) -> tuple[torch.Tensor, Stopwatch]:
        """One optimizer step of one micro-batch; spans: forward, backward, optimizer (with quantising new weights)."""
        watch = Stopwatch(self.setting.device)
        watch.mark()
        loss = self.loss(self.hidden(batch), batch)
        watch.mark()
        loss.backward()
        watch.mark()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.variant != STOCK:
            refresh_weights(self.model)
        watch.mark()
        return loss.detach(), watch


def chunked_loss(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of hidden [T, K] under a head [V, K], never with all logits at once."""
    weight = weight.to(torch.bfloat16)
    total = hidden.new_zeros((), dtype=torch.float32)
    for states, targets in zip(hidden.split(CHUNK_TOKENS), labels.split(CHUNK_TOKENS), strict=True):
        total = total + checkpoint(_chunk_loss, states.to(torch.bfloat16), weight, targets, use_reentrant=False)
    return total / (labels != IGNORED).sum()


def _chunk_loss(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(linear(states, weight).float(), targets, ignore_index=IGNORED, reduction="sum")
