"""Batched decoding in which rows come and go: finished rows leave the batch, waiting requests take their place.

Rows are aligned to the right: every row's next token is written to the same cache column, prompts are padded on the
left, and columns that no row needs any more are cut off. Works with any transformers decoder whose layers keep keys
and values (full attention). Each row draws its randomness from its own seed, so what a row says does not depend on
its neighbours, up to the floating-point noise of a different batch shape.

Legend: B rows in the batch, L cache columns, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from distill.engines.latents import latents_expanded_once
from distill.records import SampleRequest

SPARE_COLUMNS = 64


class RoomyLayer(DynamicLayer):
    """A dynamic cache layer that grows in strides, so that a decoding step writes one column instead of copying all."""

    keys: torch.Tensor
    values: torch.Tensor
    _room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held, total = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < total:
            self._room = self._grown(self.keys, key_states, total), self._grown(self.values, value_states, total)
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[..., held:total, :] = new
        self.keys, self.values = (room[..., :total, :] for room in self._room)
        return self.keys, self.values

    @staticmethod
    def _grown(held: torch.Tensor, new: torch.Tensor, total: int) -> torch.Tensor:
        room = new.new_zeros((*new.shape[:-2], total + SPARE_COLUMNS, new.shape[-1]))
        if held.numel():
            room[..., : held.shape[-2], :] = held
        return room

    def replace(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values, self._room = keys, values, None


@dataclass(slots=True)
class Row:
    """One completion being drawn."""

    request: SampleRequest
    prompt_ids: list[int]
    uniforms: torch.Tensor  # [max_new_tokens], one number in [0, 1) per token to draw
    started: float
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    is_handed_out: bool = False


def choose_tokens(
    logits_BV: torch.Tensor, temperature_B: torch.Tensor, top_p_B: torch.Tensor, uniform_B: torch.Tensor
) -> torch.Tensor:
    """Next tokens [B] by nucleus sampling (Holtzman et al., arXiv 1904.09751, section 3.1) with given uniforms.

    Temperature 0 is greedy. The token is found by inverting the cumulative distribution of the nucleus at `uniform_B`.
    """
    greedy_B = temperature_B == 0
    scaled_BV = logits_BV.float() / torch.where(greedy_B, 1.0, temperature_B)[:, None]
    sorted_BV, order_BV = torch.softmax(scaled_BV, dim=-1).sort(dim=-1, descending=True, stable=True)
    cumulative_BV = sorted_BV.cumsum(dim=-1)
    outside_BV = cumulative_BV - sorted_BV >= top_p_B[:, None]
    outside_BV[:, 0] = False
    kept_BV = sorted_BV.masked_fill(outside_BV, 0.0).cumsum(dim=-1)
    target_B1 = (uniform_B * kept_BV[:, -1])[:, None]
    rank_B = torch.searchsorted(kept_BV, target_B1, right=True).squeeze(1)
    inside_B = (~outside_BV).sum(dim=-1) - 1
    rank_B = torch.where(greedy_B, 0, torch.minimum(rank_B, inside_B))
    return order_BV.gather(1, rank_B[:, None]).squeeze(1)


class Batch:
    """The rows being decoded and their cache."""

    def __init__(self, model: PreTrainedModel, eos_ids: frozenset[int], pad_id: int):
        self.model, self.eos_ids, self.pad_id = model, eos_ids, pad_id
        self.device = model.device
        self.rows: list[Row] = []
        self.new_cache: Callable[[], Cache] = lambda: Cache(layer_class_to_replicate=RoomyLayer)
        self.cache = self.new_cache()
        self.mask_BL = torch.zeros((0, 0), dtype=torch.long, device=self.device)
        self.next_B = torch.zeros(0, dtype=torch.long, device=self.device)
        self.position_B = torch.zeros(0, dtype=torch.long, device=self.device)

    def admit(self, rows: list[Row]) -> None:
        """Read the prompts of new rows, draw their first tokens and join them to the batch."""
        width = max(len(row.prompt_ids) for row in rows)
        ids = torch.full((len(rows), width), self.pad_id, dtype=torch.long, device=self.device)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, width - len(row.prompt_ids) :] = torch.tensor(row.prompt_ids)
            mask[at, width - len(row.prompt_ids) :] = 1
        cache = self.new_cache()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        tokens = self._draw(rows, output.logits[:, -1])
        self._join(cache, mask, tokens, mask.sum(-1), rows)

    def _join(
        self, cache: Cache, mask: torch.Tensor, tokens: torch.Tensor, positions: torch.Tensor, rows: list[Row]
    ) -> None:
        if self.rows:
            columns = max(mask.shape[1], self.mask_BL.shape[1])
            for layer, new in zip(self.cache.layers, cache.layers, strict=True):
                layer.replace(
                    torch.cat([_left_padded(layer.keys, columns), _left_padded(new.keys, columns)]),
                    torch.cat([_left_padded(layer.values, columns), _left_padded(new.values, columns)]),
                )
            padded = [torch.nn.functional.pad(part, (columns - part.shape[1], 0)) for part in (self.mask_BL, mask)]
            self.mask_BL = torch.cat(padded)
            self.next_B = torch.cat([self.next_B, tokens])
            self.position_B = torch.cat([self.position_B, positions])
        else:
            self.cache, self.mask_BL, self.next_B, self.position_B = cache, mask, tokens, positions
        self.rows += rows

    def step(self) -> None:
        """Draw one more token for every unfinished row."""
        self.mask_BL = torch.cat([self.mask_BL, self.mask_BL.new_ones(len(self.rows), 1)], dim=1)
        output = self.model(
            input_ids=self.next_B[:, None],
            attention_mask=self.mask_BL,
            position_ids=self.position_B[:, None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.position_B = self.position_B + 1
        self.next_B = self._draw(self.rows, output.logits[:, -1])

    def _draw(self, rows: list[Row], logits_BV: torch.Tensor) -> torch.Tensor:
        temperature = torch.tensor([row.request.params.temperature for row in rows], device=self.device)
        top_p = torch.tensor([row.request.params.top_p for row in rows], device=self.device)
        last = [min(len(row.token_ids), len(row.uniforms) - 1) for row in rows]
        uniform = torch.stack([row.uniforms[at] for row, at in zip(rows, last, strict=True)]).to(self.device)
        tokens = choose_tokens(logits_BV, temperature, top_p, uniform)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row.finish_reason is None:
                row.token_ids.append(token)
                if token in self.eos_ids:
                    row.finish_reason = "stop"
                elif len(row.token_ids) >= row.request.params.max_new_tokens:
                    row.finish_reason = "length"
        return tokens

    def release(self) -> None:
        """Take finished rows out of the batch and cut columns that nobody needs any more."""
        kept = [at for at, row in enumerate(self.rows) if row.finish_reason is None]
        self.rows = [self.rows[at] for at in kept]
        if not kept:
            return
        index = torch.tensor(kept, device=self.device)
        self.mask_BL = self.mask_BL[index]
        first = int(self.mask_BL.argmax(dim=1).min())
        self.mask_BL = self.mask_BL[:, first:]
        self.next_B, self.position_B = self.next_B[index], self.position_B[index]
        for layer in self.cache.layers:
            layer.replace(layer.keys[index, :, first:], layer.values[index, :, first:])


def _left_padded(states: torch.Tensor, columns: int) -> torch.Tensor:
    """States [B, heads, L, dim] with zero columns put in front until L = columns."""
    return torch.nn.functional.pad(states, (0, 0, columns - states.shape[-2], 0))


def new_row(request: SampleRequest, prompt_ids: list[int]) -> Row:
    """A row with its own stream of uniforms, from the request's seed."""
    generator = torch.Generator().manual_seed(request.seed)
    uniforms = torch.rand(request.params.max_new_tokens, generator=generator)
    return Row(request, prompt_ids, uniforms, time.monotonic())


@torch.inference_mode()
def decode(
    batch: Batch, waiting: Iterable[tuple[SampleRequest, list[int]] | None], batch_size: int
) -> Iterator[Row | None]:
    """Draw every waiting request, at most `batch_size` at a time; yields rows as they finish.

    None among `waiting` says that more may come later; None is yielded while there is nothing else to do.
    """
    with latents_expanded_once(batch.model, RoomyLayer) as batch.new_cache:
        queue = iter(waiting)
        exhausted = False
        while True:
            room = batch_size - len(batch.rows)
            if not exhausted and (room * 4 >= batch_size or not batch.rows):
                taken, exhausted = _take(queue, room)
                if taken:
                    batch.admit([new_row(request, ids) for request, ids in taken])
            if not batch.rows:
                if exhausted:
                    return
                yield None
                continue
            batch.step()
            finished = [row for row in batch.rows if row.finish_reason is not None]
            yield from (row for row in finished if not row.is_handed_out)
            for row in finished:
                row.is_handed_out = True
            if len(finished) * 8 >= len(batch.rows):  # moving the cache costs more than a few idle rows
                batch.release()


def _take(
    queue: Iterator[tuple[SampleRequest, list[int]] | None], count: int
) -> tuple[list[tuple[SampleRequest, list[int]]], bool]:
    """At most `count` entries, up to the first None; and whether the queue has ended."""
    taken: list[tuple[SampleRequest, list[int]]] = []
    while len(taken) < count:
        try:
            entry = next(queue)
        except StopIteration:
            return taken, True
        if entry is None:
            break
        taken.append(entry)
    return taken, False
