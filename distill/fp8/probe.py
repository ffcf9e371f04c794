"""The BF16 shadow probe: the same micro-batch in FP8 and in BF16, and how far apart they are.

    result = shadow_probe(model, lambda: model(**batch).loss, step=100, promote_below=0.9)

Gives the relative gap of the loss, which DeepSeek-V3 kept under 0.25 % (arXiv 2412.19437, section 3.3), and for each
converted linear the cosine between its two gradients; a linear under `promote_below` is put in BF16 from then on. It
also takes SNR, underflow and saturation of every operand for the receipt. It costs two forward and backward passes and
a second set of the gradients it compares, in BF16; `.grad` and random state are left as they were. Not under ZeRO-3 or
FSDP2, whose gradients no process has whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from distill.fp8.convert import Fp8State, forget_weights, keep_in_bf16, state_of
from distill.fp8.errors import Fp8Error
from distill.fp8.record import observing
from distill.fp8.weights import is_sharded


@dataclass(slots=True)
class ProbeResult:
    """One probe; losses in the unit of the loss given, cosines by linear."""

    step: int
    loss_fp8: float
    loss_bf16: float
    relative_gap: float
    cosines: dict[str, float]
    promoted: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def summary(self) -> str:
        worst = min(self.cosines, key=self.cosines.__getitem__, default="")
        text = f"fp8 probe at step {self.step}: loss {self.loss_fp8:.5f}, in BF16 {self.loss_bf16:.5f}"
        text += f" ({self.relative_gap:+.3%})"
        if worst:
            text += f"; lowest gradient cosine {self.cosines[worst]:.4f} ({worst})"
        if self.promoted:
            text += f"; put in BF16: {', '.join(self.promoted)}"
        return text


def shadow_probe(
    model: Any, loss: Callable[[], torch.Tensor], *, step: int, promote_below: float | None = None
) -> ProbeResult:
    """Compare FP8 with BF16 on one micro-batch; `loss` computes it from `model` as training does.

    In several processes each brings its own micro-batch, and figures are the mean over all, so that all promote alike.

    Raises: Fp8Error for a model that is not converted, or whose weights are sharded.
    """
    state = state_of(model)
    parameters = _compared(model, state)
    if any(is_sharded(parameter) for _, parameter in parameters):
        raise Fp8Error(
            "shadow probe: weights are sharded (ZeRO-3 or FSDP2), so gradients cannot be compared; turn it off."
        )
    devices = [torch.device(state.device)] if state.device.startswith("cuda") else []
    forget_weights(model)  # so that they are quantised again, and observed
    with torch.random.fork_rng(devices), observing():
        loss_fp8, grads_fp8 = _pass(loss, parameters)
    kept = [None if grad is None else grad.to(torch.bfloat16) for grad in grads_fp8]
    del grads_fp8
    with torch.random.fork_rng(devices), in_bf16(model):
        loss_bf16, grads_bf16 = _pass(loss, parameters)
    names = [name for name, _ in parameters]
    figures = _mean_over_processes([loss_fp8, loss_bf16, *_cosines(names, kept, grads_bf16).values()], grads_bf16)
    cosines = dict(zip(dict.fromkeys(names), figures[2:], strict=True))
    result = ProbeResult(step, figures[0], figures[1], (figures[0] - figures[1]) / abs(figures[1]), cosines)
    if promote_below is not None:
        for name, cosine in cosines.items():
            if cosine < promote_below:
                keep_in_bf16(model, name, f"gradient cosine {cosine:.3f} at step {step}")
                result.promoted.append(name)
    return result


@contextmanager
def in_bf16(model: Any) -> Iterator[None]:
    """The converted model computes in BF16 inside."""
    state = state_of(model)
    before = {name: linear.precision for name, linear in state.linears.items()}
    for linear in state.linears.values():
        linear.precision = "bf16"
    try:
        yield
    finally:
        for name, linear in state.linears.items():
            linear.precision = before[name]


def _compared(model: Any, state: Fp8State) -> list[tuple[str, nn.Parameter]]:
    """(linear, parameter): what trains in each FP8 linear, or in the adapter around it."""
    wanted = [name for name, linear in state.linears.items() if linear.precision == "fp8"]
    pairs = []
    for path, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dim() == 2:
            owner = next((name for name in wanted if f".{name}." in f".{path}".replace("._orig_mod", "")), None)
            if owner is not None:
                pairs.append((owner, parameter))
    return pairs


def _pass(
    loss: Callable[[], torch.Tensor], parameters: list[tuple[str, nn.Parameter]]
) -> tuple[float, tuple[torch.Tensor | None, ...]]:
    with torch.enable_grad():
        value = loss()
        wanted = [parameter for _, parameter in parameters]
        grads = torch.autograd.grad(value, wanted, allow_unused=True) if wanted else ()
    return float(value.detach()), grads


def _cosines(
    names: list[str], left: list[torch.Tensor | None], right: tuple[torch.Tensor | None, ...]
) -> dict[str, float]:
    """By linear; 1.0 where both gradients are zero, 0.0 where one is."""
    sums: dict[str, list[float]] = {}
    for name, a, b in zip(names, left, right, strict=True):
        total = sums.setdefault(name, [0.0, 0.0, 0.0])
        if a is None or b is None:
            continue
        a, b = a.float(), b.float()
        for at, value in enumerate(((a * b).sum(), (a * a).sum(), (b * b).sum())):
            total[at] += float(value)
    return {name: _cosine(*total) for name, total in sums.items()}


def _cosine(dot: float, left: float, right: float) -> float:
    if left == 0.0 or right == 0.0:
        return float(left == right)
    return dot / (left**0.5 * right**0.5)


def _mean_over_processes(values: list[float], like: tuple[torch.Tensor | None, ...]) -> list[float]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    device = next((grad.device for grad in like if grad is not None), torch.device("cpu"))
    mean = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(mean)
    return [float(value) for value in mean / torch.distributed.get_world_size()]
