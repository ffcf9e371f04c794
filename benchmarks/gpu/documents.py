"""Packed rows with document lengths like reasoning traces, and what attention must know of them.

    batch = packed_batch(tokens=16384, vocabulary=152064, device=device, seed=0)

Lengths are log-normal with mean 7,600 and sigma 0.8, drawn one after another until the row is full; each is clipped to
the row, and the last one to what is left of it. Packing is by position_ids alone, as in `distill.train`.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import torch

MEAN_TOKENS = 7600.0
SIGMA = 0.8
IGNORED = -100


class Packing(NamedTuple):
    """Where the documents of a row begin and end."""

    lengths: tuple[int, ...]
    starts: torch.Tensor
    """int32 [documents + 1], on the device: 0, ..., T."""

    @property
    def longest(self) -> int:
        return max(self.lengths)


class Batch(NamedTuple):
    """One row: input_ids, position_ids, labels [1, T]; a label is the next token, -100 at the end of a document."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    packing: Packing


def document_lengths(tokens: int, seed: int, mean: float = MEAN_TOKENS, sigma: float = SIGMA) -> list[int]:
    """Lengths that fill a row of so many tokens."""
    generator = random.Random(seed)
    lengths: list[int] = []
    left = tokens
    while left > 0:
        drawn = generator.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)
        lengths.append(min(max(1, round(drawn)), left))
        left -= lengths[-1]
    return lengths


def length_biased_mean(lengths: list[int] | tuple[int, ...]) -> float:
    """Sum of squares over sum: the length of the document that a token is in, on average."""
    return sum(length**2 for length in lengths) / sum(lengths)


def packing_of(lengths: list[int], device: torch.device) -> Packing:
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return Packing(tuple(lengths), torch.tensor(ends, dtype=torch.int32, device=device))


def packed_batch(tokens: int, vocabulary: int, device: torch.device, seed: int, mean: float = MEAN_TOKENS) -> Batch:
    """One row of random tokens in documents of random length."""
    lengths = document_lengths(tokens, seed, mean)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary, (1, tokens), generator=generator)
    labels = torch.full_like(ids, IGNORED)
    labels[0, :-1] = ids[0, 1:]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    packing = packing_of(lengths, device)
    labels[0, (packing.starts[1:].cpu() - 1).long()] = IGNORED
    return Batch(ids.to(device), positions.to(device), labels.to(device), packing)
