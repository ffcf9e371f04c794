"""Bandwidth of the quantisers and fused steps, against a copy of as many bytes on the same device.

Bytes are counted as each input read once and each output written once, padding and scales included: what the kernel
must move, not what it may move besides. The copy moves as many bytes in all, half of them read and half written.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch

from benchmarks.gpu.results import Part
from benchmarks.gpu.shapes import Setting, Student
from benchmarks.gpu.timing import summary, time_in_turns
from distill.fp8 import fused, quantize

QUANTISERS = ("quantize_rows", "quantize_columns", "quantize_both", "quantize_blocks")
"""Those that the target is about; the fused steps are shown beside them."""


def kernels(device: torch.device) -> dict[str, Any]:
    """Triton's modules on CUDA, the reference elsewhere."""
    if device.type != "cuda":
        return {"quantize": quantize, "norm": fused, "swiglu": fused}
    return {name: importlib.import_module(f"distill.fp8.kernels.{name}") for name in ("quantize", "norm", "swiglu")}


def tensors_in(values: Iterable[Any]) -> list[torch.Tensor]:
    """All tensors in nested tuples."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, tuple):
            found += tensors_in(value)
    return found


def bytes_of(values: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(values))


def run(part: Part, setting: Setting) -> None:
    """7B first: the target is judged there."""
    for name in sorted(setting.students, key=lambda name: name != "7B"):
        for kernel, (function, arguments) in _calls(setting.students[name], setting).items():
            if not part.has_time(f"{name} {kernel}", 0.5):
                return
            moved = bytes_of(arguments) + bytes_of((function(*arguments),))
            part.add(student=name, kernel=kernel, bytes=moved, **_against_copy(function, arguments, moved, setting))


def _against_copy(
    function: Callable[..., Any], arguments: tuple[Any, ...], moved: int, setting: Setting
) -> dict[str, Any]:
    source = torch.randint(-(2**31), 2**31 - 1, (moved // 8,), dtype=torch.int32, device=setting.device)
    target = torch.empty_like(source)
    calls = {"kernel": lambda: function(*arguments), "copy": lambda: target.copy_(source)}
    times = time_in_turns(calls, setting.device, setting.repeats)
    kernel, copy = summary(times["kernel"]), summary(times["copy"])
    return {
        "milliseconds": kernel,
        "copy_milliseconds": copy,
        "terabytes_per_second": moved / kernel["median"] / 1e9,
        "copy_terabytes_per_second": moved / copy["median"] / 1e9,
        "share_of_copy": copy["median"] / kernel["median"],
    }


def _calls(student: Student, setting: Setting) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Each kernel with the operands that a training step of this student gives it."""
    tokens, hidden, width = setting.tokens, student.hidden, student.intermediate
    modules = kernels(setting.device)

    def random(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(shape, device=setting.device).to(dtype)

    q, norm, swiglu = modules["quantize"], modules["norm"], modules["swiglu"]
    x, gate_up, grad = random(tokens, hidden), random(tokens, 2 * width), random(tokens, width)
    weight, scale = random(2 * width, hidden, dtype=torch.float32), random(hidden, dtype=torch.float32)
    blocks, stash = q.quantize_blocks(weight), q.quantize_rows(gate_up)
    rstd = fused.reciprocal_std(x, 1e-6)
    return {
        "quantize_rows": (q.quantize_rows, (x,)),
        "quantize_columns": (q.quantize_columns, (x,)),
        "quantize_both": (q.quantize_both, (x,)),
        "quantize_blocks": (q.quantize_blocks, (weight,)),
        "rms_norm_quantize": (norm.rms_norm_quantize, (x, scale, 1e-6, False)),
        "swiglu_quantize_stash": (swiglu.swiglu_quantize_stash, (gate_up, False)),
        "swiglu_backward_quantize": (swiglu.swiglu_backward_quantize, (grad, stash, False)),
        "rms_norm_quantize_columns": (norm.rms_norm_quantize_columns, (x, scale, rstd, False)),
        "rms_norm_backward": (norm.rms_norm_backward, (x.flip(0).contiguous(), x, scale, rstd)),
        "swiglu_quantize": (swiglu.swiglu_quantize, (gate_up, False)),
        "transpose_blocks": (q.transpose_blocks, (blocks, *weight.shape)),
        "quantize_both of d(gate_up)": (q.quantize_both, (gate_up,)),
    }
