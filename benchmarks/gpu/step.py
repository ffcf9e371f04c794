"""Whole training steps of one student: FP8 against BF16 at packed rows of 4k, 16k and 32k tokens, with and without
recomputation.

A step is forward, backward and AdamW (with quantising the new weights) of one micro-batch of one packed row. Variants
take turns on one model (training.py), one step untimed after each change. Before anything is timed, the losses and last
hidden states of all variants on the same weights and data are held together.

A student that does not fit whole is measured as a slice: fewer layers, true widths and vocabulary. The shallow slice is
there so that the time of a whole student can be put together: head + layers x (deep - shallow) / (difference in depth);
targets.py does that, and says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from benchmarks.gpu import memory
from benchmarks.gpu.documents import Batch, length_biased_mean, packed_batch
from benchmarks.gpu.mfu import step_flops, utilisation
from benchmarks.gpu.results import Part
from benchmarks.gpu.shapes import Setting, Student
from benchmarks.gpu.timing import Stopwatch, release, summary
from benchmarks.gpu.training import STOCK, Trainee

MAIN = ("fast", "bf16", STOCK)
LARGEST_LOSS_GAP = 0.005
"""Relative to BF16. DeepSeek-V3 keeps 0.25 % smoothed over training; one batch of fresh weights gets twice that."""
LEAST_COSINE = 0.97
"""Between last hidden states of FP8 and BF16."""


class Cell(NamedTuple):
    """One comparison: tokens of the row, recomputation, who takes part."""

    tokens: int
    recompute: bool
    variants: tuple[str, ...]


def cells(setting: Setting) -> list[Cell]:
    """What is compared, the most important first."""
    short, middle, long = setting.row_tokens
    if setting.toy:
        return [Cell(middle, False, (*MAIN, "small", "accurate")), Cell(long, True, MAIN)]
    return [
        Cell(middle, False, (*MAIN, "small", "accurate")),
        Cell(middle, True, MAIN),
        Cell(long, False, MAIN),
        Cell(short, False, MAIN),
        Cell(long, True, MAIN),
        Cell(short, True, MAIN),
    ]


def run(part: Part, setting: Setting, attention: str, name: str) -> None:
    shape = setting.students[name]
    depths = shape.slices or (shape.layers,)
    for layers in depths:
        if not part.has_time(f"{name} with {layers} layers", 5.0):
            return
        student = Trainee(setting, shape, layers, attention)
        chosen = cells(setting) if layers == depths[-1] else [Cell(setting.row_tokens[1], False, MAIN)]
        for cell in chosen:
            what = f"{name}, {layers} layers, {cell.tokens} tokens{', recomputing' if cell.recompute else ''}"
            if part.has_time(what, 3.0):
                _measure(part, student, cell, what)
        del student
        release(setting.device)


def _measure(part: Part, student: Trainee, cell: Cell, what: str) -> None:
    """All rows of one cell; what does not fit in memory is a row too."""
    setting, shape = student.setting, student.shape
    batch = packed_batch(cell.tokens, shape.vocabulary, setting.device, 0, mean=80.0 if setting.toy else 7600.0)
    left_out: dict[str, str] = {}
    losses = _compare(part, student, cell, batch, left_out)
    watches: dict[str, list[Stopwatch]] = {variant: [] for variant in cell.variants if variant not in left_out}
    peaks: dict[str, int | None] = {}
    for turn in range(setting.turns[0]):
        for variant in [variant for variant in watches if variant not in left_out]:
            if not part.has_time(f"{what}, turn {turn + 1} of {variant}", 0.0):
                left_out[variant] = "the time of this part is spent"
                continue
            try:
                watches[variant] += _turn(student, variant, cell.recompute, batch)
                peaks[variant] = torch.cuda.max_memory_allocated() if setting.device.type == "cuda" else None
            except torch.OutOfMemoryError:
                left_out[variant] = "out of memory"
                student.optimizer.zero_grad(set_to_none=True)
    for variant in cell.variants:
        row: dict[str, Any] = {"student": shape.name, "layers": student.layers, **_cell_facts(cell, batch)}
        row |= {"whole": student.layers == shape.layers, "variant": variant}
        if variant in left_out:
            part.add(**row, left_out=left_out[variant])
            continue
        kept = _memory(student, variant, cell.recompute, batch)
        row |= {**losses[variant], "peak_bytes": peaks[variant], **kept}
        part.add(**row, **_figures(watches[variant], shape, student.layers, cell, batch, part))


def _turn(student: Trainee, variant: str, recompute: bool, batch: Batch) -> list[Stopwatch]:
    """Timed steps of one variant after an untimed one."""
    device = student.setting.device
    release(device, collect=False)
    student.use(variant, recompute)
    student.step(batch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    watches = [student.step(batch)[1] for _ in range(student.setting.turns[1])]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return watches


def _compare(
    part: Part, student: Trainee, cell: Cell, batch: Batch, left_out: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Loss and last hidden state of each variant on the same weights; one that is far from BF16 is left out."""
    found: dict[str, dict[str, float]] = {}
    reference: torch.Tensor | None = None
    for variant in sorted(cell.variants, key=lambda name: name != "bf16"):
        student.use(variant, recompute=False)
        try:
            with torch.no_grad():
                hidden = student.hidden(batch)
                loss = float(student.loss(hidden, batch))
        except torch.OutOfMemoryError:
            left_out[variant] = "out of memory"
            continue
        if reference is None:
            reference = hidden[0].to(torch.bfloat16)
        cosine = _cosine(hidden[0], reference)
        found[variant] = {"loss": loss, "hidden_cosine": cosine}
        gap = abs(loss / next(iter(found.values()))["loss"] - 1)
        if not (gap <= LARGEST_LOSS_GAP and cosine >= LEAST_COSINE):
            left_out[variant] = f"loss {loss:.4f} is {gap:.2%} from BF16's, cosine of the hidden state {cosine:.4f}"
            part.results.fail(f"{student.shape.name} {variant}: {left_out[variant]}")
    return found


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over tokens."""
    return float(torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=1).mean())


def _memory(student: Trainee, variant: str, recompute: bool, batch: Batch) -> dict[str, Any]:
    release(student.setting.device, collect=False)
    student.use(variant, recompute)
    try:
        return dict(memory.measure(student, batch))
    except torch.OutOfMemoryError:
        student.optimizer.zero_grad(set_to_none=True)
        return {"activation_bytes": None, "weight_copy_bytes": None, "working_bytes": None}


def _cell_facts(cell: Cell, batch: Batch) -> dict[str, Any]:
    lengths = batch.packing.lengths
    return {
        "tokens": cell.tokens,
        "recompute": cell.recompute,
        "documents": len(lengths),
        "sum_of_squared_lengths": sum(length**2 for length in lengths),
        "length_biased_mean": length_biased_mean(lengths),
    }


def _figures(
    watches: list[Stopwatch], shape: Student, layers: int, cell: Cell, batch: Batch, part: Part
) -> dict[str, Any]:
    spans = [watch.milliseconds() for watch in watches]
    step = summary([sum(span) for span in spans])
    seconds = step["median"] / 1000
    flops = step_flops(
        shape.matmul_parameters(layers), cell.tokens, layers, shape.attention_width, batch.packing.lengths
    )
    names = ("forward_milliseconds", "backward_milliseconds", "optimizer_milliseconds")
    return {
        "step_milliseconds": step,
        **{name: summary([span[at] for span in spans]) for at, name in enumerate(names)},
        "tokens_per_second": cell.tokens / seconds,
        "model_tflops": flops / seconds / 1e12,
        "mfu": utilisation(flops, seconds, part.results.data["device"]),
    }
