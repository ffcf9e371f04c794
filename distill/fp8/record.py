"""What really ran: counted where it runs, underneath autograd and torch.compile.

Every operation of `ops.py` reports here under a label, `NAME/ROLE`: the linears' name and what was done for them
(fprop, dgrad, wgrad, input, gradient, weight). `receipt.py` turns the counts into the precision receipt. Replays of a
CUDA graph are not counted: the capture is.

Quantities that cost another pass over the data (SNR, underflow) are taken only inside `observing()`; whether scales
are finite is looked at while `check_finite` is set, which costs a synchronisation on a GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from distill.fp8.errors import Fp8Error
from distill.fp8.quantize import E4M3_MAX, Quantized, dequantize


@dataclass(slots=True)
class Statistics:
    """Sums over the tensors that were quantised under one label."""

    signal: float = 0.0
    noise: float = 0.0
    nonzero: int = 0
    underflowed: int = 0
    saturated: int = 0
    tensors: int = 0

    def add(self, x: torch.Tensor, q: Quantized) -> None:
        """x [R, C] and its codes; sums in float64."""
        back = dequantize(q, x.shape[1]).double()
        exact = x.double()
        scales = q.scales.repeat_interleave(128, dim=0)[: x.shape[0]] if q.is_2d else q.scales
        limit = scales.double().repeat_interleave(128, dim=1)[:, : x.shape[1]] * E4M3_MAX
        self.signal += float(exact.pow(2).sum())
        self.noise += float((exact - back).pow(2).sum())
        self.nonzero += int((exact != 0).sum())
        self.underflowed += int(((exact != 0) & (back == 0)).sum())
        self.saturated += int((exact.abs() > limit * (1 + 2.0**-20)).sum())
        self.tensors += 1

    def to_dict(self) -> dict[str, float]:
        """snr_db, underflow_rate and saturation_rate of the non-zero numbers."""
        count = max(1, self.nonzero)
        noise = max(self.noise, 1e-300)
        snr = 10.0 * torch.log10(torch.tensor(max(self.signal, 1e-300) / noise, dtype=torch.float64)).item()
        return {
            "snr_db": round(snr, 2),
            "underflow_rate": self.underflowed / count,
            "saturation_rate": self.saturated / count,
        }


@dataclass(slots=True)
class Record:
    """Counts of one process."""

    kernels: dict[str, Counter[str]] = field(default_factory=dict)
    fallbacks: dict[str, Counter[str]] = field(default_factory=dict)
    statistics: dict[str, Statistics] = field(default_factory=dict)
    strict: dict[str, bool] = field(default_factory=dict)
    """By the prefix of a label: whether a slower kernel than the device's own is an error."""
    step: int = 0
    check_finite: bool = True
    observe: bool = False

    def begin_step(self, step: int, check_every: int) -> None:
        """Name the optimizer step; scales are looked at in each step on a CPU, in every `check_every`-th on CUDA."""
        self.step = step
        self.check_finite = not torch.cuda.is_available() or step % check_every == 0

    def ran(self, label: str, kernel: str, reasons: list[str]) -> None:
        """Count a kernel; `reasons` say why the device's better ones were passed over.

        Raises: Fp8Error where there are reasons and the recipe of this label allows no fallback.
        """
        self.kernels.setdefault(label, Counter())[kernel] += 1
        for reason in reasons:
            self.fallbacks.setdefault(label, Counter())[reason] += 1
        if reasons and self.strict.get(label.partition(":")[0], True):
            raise Fp8Error(
                f"{plain(label)}: would run as '{kernel}', not as this device's own FP8 kernel, because "
                f"{'; '.join(reasons)}. Pad the tokens of a batch to a multiple of 128, or set allow_fallback: true."
            )

    def quantized(self, label: str, q: Quantized, x: torch.Tensor | None = None) -> None:
        """Look at a quantised tensor; x is what it was made from, where that exists.

        Raises: Fp8Error naming module, tensor and step where amax was NaN or infinite.
        """
        if self.check_finite and not bool(torch.isfinite(q.scales).all()):
            bad = q.scales[~torch.isfinite(q.scales)]
            kind = "NaN" if bool(torch.isnan(bad).any()) else "infinite"
            raise Fp8Error(
                f"{plain(label)}: {kind} amax in {bad.numel()} of {q.scales.numel()} blocks at step {self.step}; lower "
                "the learning rate, look at the data of this step, or train this module in bf16 (keep_bf16)."
            )
        if self.observe and x is not None:
            self.statistics.setdefault(label, Statistics()).add(x, q)

    def clear(self, prefix: str = "") -> None:
        """Forget the counts of labels that begin so."""
        for table in (self.kernels, self.fallbacks, self.statistics):
            for label in [label for label in table if label.startswith(prefix)]:
                del table[label]


RECORD = Record()


def plain(label: str) -> str:
    """A label as a reader knows it: without the number of the conversion."""
    return label.partition(":")[2] or label


@contextmanager
def observing() -> Iterator[None]:
    """Take SNR, underflow and saturation of everything quantised inside."""
    before, RECORD.observe = RECORD.observe, True
    try:
        yield
    finally:
        RECORD.observe = before
