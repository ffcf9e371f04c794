"""How far two models are from each other in their logits, on the same tokens.

    figures = logit_difference(model, exported, [[1, 5, 9], [1, 7]])

Each sequence goes through both models alone, without padding. Not covered: models with different vocabularies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

POSITIONS_AT_ONCE = 256
"""Rows of logits that are turned into probabilities together: 150 MiB in float32 for a vocabulary of 152k."""


@dataclass(frozen=True)
class LogitDifference:
    """Over all logits of `num_tokens` positions; KL is KL(first model || second)."""

    num_tokens: int
    max_abs_difference: float
    mean_abs_difference: float
    kl_nats_per_token: float
    top1_agreement: float
    """Share of positions where both models give the same token the largest logit."""


def logit_difference(
    model: PreTrainedModel, other: PreTrainedModel, input_ids: Sequence[Sequence[int]]
) -> LogitDifference:
    """Compare two models in evaluation mode, each in its own precision, the logits in float32."""
    import torch

    tokens, vocabulary, largest, total, kl, agreed = 0, 1, 0.0, 0.0, 0.0, 0
    was_training = model.training
    model.eval()
    other.eval()
    try:
        for ids in input_ids:
            if not len(ids):
                continue
            logits_SV, other_logits_SV = _logits(model, ids), _logits(other, ids)
            tokens, vocabulary = tokens + logits_SV.shape[0], logits_SV.shape[1]
            for ours, theirs in zip(
                logits_SV.split(POSITIONS_AT_ONCE), other_logits_SV.split(POSITIONS_AT_ONCE), strict=True
            ):
                difference = (ours.float() - theirs.float()).abs()
                largest = max(largest, float(difference.max()))
                total += float(difference.sum(dtype=torch.float64))
                kl += _kl_sum(ours, theirs)
                agreed += int((ours.argmax(dim=1) == theirs.argmax(dim=1)).sum())
    finally:
        model.train(was_training)
    return LogitDifference(tokens, largest, total / (tokens * vocabulary), kl / tokens, agreed / tokens)


def _logits(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """[S, V] of one sequence."""
    import torch

    with torch.no_grad():
        batch = torch.as_tensor(ids, device=model.device)[None]
        return model(input_ids=batch, use_cache=False).logits[0]


def _kl_sum(logits_SV: torch.Tensor, other_logits_SV: torch.Tensor) -> float:
    """Sum over positions of KL(softmax(logits) || softmax(other)); float64, as most of its terms cancel."""
    ours = logits_SV.double().log_softmax(dim=1)
    theirs = other_logits_SV.double().log_softmax(dim=1)
    return float((ours.exp() * (ours - theirs)).sum())
