"""Activation memory of a training step, measured with gradients in place and the loss head left out.

    activation_bytes    allocated when the forward through all layers is done, less what was allocated before it, less
                        BF16 copies of float32 weights that the graph holds (the other side keeps its own in a cache)
    working_bytes       the most allocated during forward, loss head and backward, less what was allocated before

Before it are: parameters, gradients, optimizer states, and for FP8 the cached weights. `None` on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.documents import Batch
from benchmarks.gpu.training import Trainee


def measure(student: Trainee, batch: Batch) -> dict[str, int | None]:
    """One micro-batch without an optimizer step; leaves no gradients behind."""
    device = student.setting.device
    for parameter in student.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = _allocated(device)
    copies = WeightCopies(student.model)
    with torch.autograd.graph.saved_tensors_hooks(copies.pack, copies.unpack):
        hidden = student.hidden(batch)
    after = _allocated(device)
    student.loss(hidden, batch).backward()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    del hidden
    student.optimizer.zero_grad(set_to_none=True)
    return {
        "activation_bytes": None if before is None or after is None else after - before - copies.bytes,
        "weight_copy_bytes": copies.bytes,
        "working_bytes": None if before is None or peak is None else peak - before,
    }


class WeightCopies:
    """Counts BF16 tensors with the shape of a weight that are saved for the backward and are no parameter."""

    def __init__(self, model: Any) -> None:
        parameters = list(model.parameters())
        self.shapes = {shape for p in parameters if p.dim() == 2 for shape in (tuple(p.shape), tuple(p.shape)[::-1])}
        self.own = {p.untyped_storage().data_ptr() for p in parameters}
        self.seen: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        return sum(self.seen.values())

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in self.shapes and place not in self.own:
            self.seen[place] = tensor.untyped_storage().nbytes()
        return tensor.detach() if tensor.grad_fn is not None else tensor

    @staticmethod
    def unpack(tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def _allocated(device: torch.device) -> int | None:
    """Bytes allocated now; the peak is counted from here on."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
