"""Packing documents into rows without leakage between them.

Rows hold whole documents; positions start again at 0 in each, no attention mask is given, and transformers then keeps
every document to itself (its `find_packed_sequence_indices`), for eager, sdpa and flex attention alike. A mask of ones
beside the positions would undo that (measured; transformers#46634), so there is none. Padding sits at the end of a row,
each pad token a document of its own without loss.

Best-fit decreasing (Johnson, 1973) over shuffled documents; rows are then shuffled. Same seed and epoch, same rows.
"""

from __future__ import annotations

import bisect
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.train.documents import Document

if TYPE_CHECKING:
    import torch

IGNORED = -100


def pack(lengths: Sequence[int], row_length: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Rows of document indices; every document is in exactly one row and no row is longer than `row_length`."""
    rng = random.Random(f"pack/{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    order.sort(key=lambda index: -lengths[index])
    rows: list[list[int]] = []
    rows_by_space: dict[int, list[int]] = defaultdict(list)
    spaces: list[int] = []  # distinct free spaces, ascending
    for index in order:
        length = lengths[index]
        assert length <= row_length, (length, row_length)
        at = bisect.bisect_left(spaces, length)
        if at == len(spaces):
            rows.append([])
            row, space = len(rows) - 1, row_length
        else:
            space = spaces[at]
            row = rows_by_space[space].pop()
            if not rows_by_space[space]:
                spaces.pop(at)
        rows[row].append(index)
        left = space - length
        if left > 0:
            if not rows_by_space[left]:
                bisect.insort(spaces, left)
            rows_by_space[left].append(row)
    for row_documents in rows:
        rng.shuffle(row_documents)
    rng.shuffle(rows)
    return rows


def epoch_rows(
    documents: Sequence[Document], row_length: int, num_epochs: float, rows_per_step: int, *, seed: int
) -> list[list[int]]:
    """Rows of all epochs in training order; a fractional last epoch is cut short.

    Rows without documents fill up the last optimizer step, so that no document is lost to rounding; they carry no loss.
    """
    lengths = [len(document.input_ids) for document in documents]
    rows: list[list[int]] = []
    wanted = num_epochs
    epoch = 0
    while wanted > 1e-9:
        packed = pack(lengths, row_length, seed=seed, epoch=epoch)
        rows += packed[: max(1, round(len(packed) * min(1.0, wanted)))]
        wanted -= 1.0
        epoch += 1
    return rows + [[] for _ in range(-len(rows) % rows_per_step)]


def collate_rows(
    rows: Sequence[Sequence[Document]], pad_token_id: int, *, row_length: int | None = None, multiple_of: int = 1
) -> dict[str, torch.Tensor]:
    """input_ids, labels and position_ids of shape [rows, tokens].

    tokens is the longest row, rounded up to `multiple_of`, unless `row_length` is given.
    """
    import torch

    longest = max(1, *(sum(len(document.input_ids) for document in row) for row in rows))
    width = row_length or -(-longest // multiple_of) * multiple_of
    input_ids = torch.full((len(rows), width), pad_token_id, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    position_ids = torch.zeros((len(rows), width), dtype=torch.long)
    for at, row in enumerate(rows):
        start = 0
        for document in row:
            end = start + len(document.input_ids)
            ids = torch.tensor(document.input_ids)
            input_ids[at, start:end] = ids
            position_ids[at, start:end] = torch.arange(end - start)
            trained_from = max(1, document.num_masked_tokens)
            labels[at, start + trained_from : end] = ids[trained_from:]
            start = end
    return {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}
