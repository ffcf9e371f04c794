"""One decoder layer of each student, forward and backward at T packed tokens: FP8 against BF16, in turns.

The layer is called by itself, with its rotary embedding made beforehand: no embedding, no head, no optimizer. `stock`
gets a float32 hidden state, as autocast with float32 masters gives it; the converted ones get BF16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.documents import Batch, packed_batch
from benchmarks.gpu.products import ORDER
from benchmarks.gpu.results import Part
from benchmarks.gpu.shapes import Setting
from benchmarks.gpu.timing import release, summary, time_calls
from benchmarks.gpu.training import STOCK, Trainee

VARIANTS = ("fast", "bf16", STOCK, "small", "accurate")
TOY_VOCABULARY = 512


def run(part: Part, setting: Setting, attention: str) -> None:
    batch = packed_batch(setting.tokens, TOY_VOCABULARY, setting.device, 0, mean=80.0 if setting.toy else 7600.0)
    for name in (name for name in ORDER if name in setting.students):
        if not part.has_time(f"layer of {name}", 5.0):
            return
        shape = setting.students[name]._replace(vocabulary=TOY_VOCABULARY)
        student = Trainee(setting, shape, 1, attention)
        times: dict[str, dict[str, list[float]]] = {variant: {"forward": [], "both": []} for variant in VARIANTS}
        for turn in range(2):
            for variant in VARIANTS:
                student.use(variant, recompute=False)
                forward, both = layer_calls(student, batch)
                repeats, warm_up = -(-setting.repeats // 2), 3 if turn == 0 else 1
                times[variant]["forward"] += time_calls(forward, setting.device, repeats, warm_up=warm_up)
                times[variant]["both"] += time_calls(both, setting.device, repeats, warm_up=warm_up)
        for variant, found in times.items():
            part.add(
                student=name,
                tokens=setting.tokens,
                variant=variant,
                forward_milliseconds=summary(found["forward"]),
                milliseconds=summary(found["both"]),
            )
        del student
        release(setting.device)


def layer_calls(student: Trainee, batch: Batch) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """(forward that keeps what a backward needs, forward and backward) of the first layer."""
    device, body = student.setting.device, student.model.model
    dtype = torch.float32 if student.variant == STOCK else torch.bfloat16
    shape = (1, batch.input_ids.shape[1], student.shape.hidden)
    hidden = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
    direction = torch.randn(shape, device=device, dtype=dtype)
    with torch.no_grad():
        rotary = body.rotary_emb(hidden, batch.position_ids)

    def forward() -> torch.Tensor:
        with student.precision():
            result: torch.Tensor = body.layers[0](
                hidden, position_ids=batch.position_ids, position_embeddings=rotary, packing=batch.packing
            )
        return result

    def both() -> None:
        hidden.grad = None
        student.optimizer.zero_grad(set_to_none=True)
        forward().backward(direction)

    return forward, both
