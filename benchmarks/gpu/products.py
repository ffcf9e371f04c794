"""TFLOP/s of the twelve products of a layer at true shapes: BF16, tensorwise FP8, and this package's backends.

    fprop  [T, N] = x [T, K] w^T      dgrad  [T, K] = dy [T, N] w      wgrad  [N, K] = dy^T x

Operands are random and quantised beforehand, so that only products are timed. BF16 is torch.mm; tensorwise is
torch._scaled_mm with one scale a tensor, fast accumulation in the forward alone, as torchao sets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.quantize import kernels
from benchmarks.gpu.results import Part
from benchmarks.gpu.shapes import Product, Setting
from benchmarks.gpu.timing import summary, time_in_turns
from distill.fp8 import matmul as products
from distill.fp8.quantize import E4M3
from distill.fp8.recipe import SKINNY_BELOW

ORDER = ("7B", "1.5B", "14B", "32B")


def backends(device: torch.device) -> list[str]:
    """This package's, best first."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return list(products.candidates(capability))


def run(part: Part, setting: Setting) -> None:
    for name in (name for name in ORDER if name in setting.students):
        for product in setting.students[name].products(setting.tokens):
            if not part.has_time(f"{name} {product.linear} {product.kind}", 1.0):
                return
            part.add(student=name, **product._asdict(), **_measure(part, product, setting))


def _measure(part: Part, product: Product, setting: Setting) -> dict[str, Any]:
    """Milliseconds and TFLOP/s by implementation; one that raises is noted and left out."""
    calls: dict[str, Callable[[], Any]] = {}
    for name, call in _calls(product, setting).items():
        try:
            call()
            calls[name] = call
        except Exception as error:  # a kernel that this device or this torch does not have: the reason is recorded
            reason = (str(error).splitlines() or [""])[0][:200]
            part.note(f"{product.linear} {product.kind} by {name}: {type(error).__name__}: {reason}")
    times = time_in_turns(calls, setting.device, min(setting.repeats, 12), rounds=2 if setting.toy else 3)
    found = {name: summary(values) for name, values in times.items()}
    return {
        "milliseconds": found,
        "tflops": {name: product.flops / value["median"] / 1e9 for name, value in found.items()},
    }


def _calls(product: Product, setting: Setting) -> dict[str, Callable[[], Any]]:
    device = setting.device
    a = torch.randn(product.rows, product.inner, device=device, dtype=torch.bfloat16)
    b = torch.randn(product.columns, product.inner, device=device, dtype=torch.bfloat16)
    left, right = _as_stored(a, b, product.kind)
    quantisers = kernels(device)["quantize"]
    is_weight_gradient = product.kind == "wgrad"
    out_dtype = torch.float32 if is_weight_gradient else torch.bfloat16
    b_quantiser = quantisers.quantize_rows if is_weight_gradient else quantisers.quantize_blocks
    power_of_two = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (10, 0)
    qa, qb = quantisers.quantize_rows(a, power_of_two), b_quantiser(b, power_of_two)
    ta, tb = _tensorwise(a), _tensorwise(b)
    calls: dict[str, Callable[[], Any]] = {
        "bf16": lambda: torch.mm(left, right),
        "tensorwise": lambda: torch._scaled_mm(
            ta[0], tb[0].t(), ta[1], tb[1], out_dtype=torch.bfloat16, use_fast_accum=product.kind == "fprop"
        ),
    }
    for backend in backends(device):
        calls[backend] = _backend_call(backend, qa, qb, out_dtype)
    return calls


def _backend_call(backend: str, a: Any, b: Any, out_dtype: torch.dtype) -> Callable[[], Any]:
    return lambda: products.matmul(a, b, out_dtype, backend)


def _as_stored(a: torch.Tensor, b: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The two BF16 operands in the memory order that autograd has them in."""
    if kind == "fprop":
        return a, b.t()
    if kind == "dgrad":
        return a, b.t().contiguous()
    return a.t().contiguous().t(), b.t().contiguous()


def _tensorwise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and the one scale of a tensor."""
    scale = x.abs().max().float() / 448.0
    return (x.float() / scale).clamp(-448.0, 448.0).to(E4M3), scale


def rate(rows: list[dict[str, Any]], implementation: str) -> float | None:
    """TFLOP/s over all measured products: operations over time."""
    rows = [row for row in rows if implementation in row["milliseconds"]]
    if not rows:
        return None
    flops = sum(2 * row["rows"] * row["columns"] * row["inner"] for row in rows)
    return flops / sum(row["milliseconds"][implementation]["median"] for row in rows) / 1e9


def skinny_below(bf16_tflops: float, fp8_tflops: float, quantise_terabytes_per_second: float) -> float | None:
    """N K / (N + K) under which FP8 costs more than it saves, by the formula of distill/fp8/recipe.py (SKINNY_BELOW).

    6 N K (1 / bf16 - 1 / fp8) seconds a token saved, 4 (N + K) bytes a token moved; None where FP8 saves nothing.
    """
    saved_per_operation = 1 / (bf16_tflops * 1e12) - 1 / (fp8_tflops * 1e12)
    if saved_per_operation <= 0:
        return None
    return 4 / (quantise_terabytes_per_second * 1e12) / (6 * saved_per_operation)


def skinny_from(data: dict[str, Any]) -> dict[str, Any] | None:
    """The rule that follows from the measured rates of a result file, beside the one that is shipped."""
    rows = data["parts"].get("products", {}).get("rows", [])
    measured = data["parts"].get("quantize", {}).get("rows", [])
    both = [row["terabytes_per_second"] for row in measured if row["kernel"] == "quantize_both"]
    names = [name for name in (rows[0]["milliseconds"] if rows else {}) if name not in ("bf16", "tensorwise")]
    bf16, fp8 = rate(rows, "bf16"), rate(rows, names[0]) if names else None
    if bf16 is None or fp8 is None or not both:
        return None
    quantise = sum(both) / len(both)
    return {
        "bf16_tflops": bf16,
        "fp8_tflops": fp8,
        "fp8_backend": names[0],
        "quantise_terabytes_per_second": quantise,
        "skinny_below": skinny_below(bf16, fp8, quantise),
        "shipped": SKINNY_BELOW,
    }
