"""Correct first: what must hold on this device before any time is worth reading.

    for name, check in CHECKS.items():
        detail = check(device)        # raises AssertionError, or says what was found

Plain functions, so that they run where there is no pytest; tests/gpu/test_training_step.py runs the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch

from benchmarks.gpu import attention
from benchmarks.gpu.documents import Batch, packed_batch, packing_of
from benchmarks.gpu.products import backends
from benchmarks.gpu.quantize import kernels
from benchmarks.gpu.results import Part
from benchmarks.gpu.shapes import TOYS, Setting
from benchmarks.gpu.training import STOCK, Trainee, chunked_loss
from distill.fp8 import fused, quantize, receipt, shadow_probe
from distill.fp8 import matmul as products
from distill.fp8.quantize import Quantized, dequantize

Check = Callable[[torch.device], str]
SIZES = ((256, 384), (200, 328), (1, 128), (512, 1536))
LEAST_GRADIENT_COSINE = 0.95


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton's kernels run on a CPU where this was set before the start."""


def _kernels(device: torch.device) -> dict[str, Any]:
    return kernels(torch.device("cuda") if INTERPRETED else device)


def heavy_tailed(rows: int, columns: int, seed: int, device: torch.device) -> torch.Tensor:
    """float32 with outliers, a row of zeros and one of subnormal codes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator)
    x *= torch.exp(2 * torch.randn(rows, columns, generator=generator))
    if rows > 2:
        x[0] = 0.0
        x[1] *= 1e-12
    return x.to(device)


def quantisers_equal_the_reference(device: torch.device) -> str:
    """Codes and scales bit for bit: kernel on the device, reference on the device, reference on the CPU."""
    compared = 0
    for seed, (rows, columns) in enumerate(SIZES[: 2 if device.type == "cpu" else None]):
        for dtype in (torch.bfloat16, torch.float32):
            x = heavy_tailed(rows, columns, seed, device).to(dtype)
            for power_of_two in (False, True):
                for name in ("quantize_rows", "quantize_columns", "quantize_both", "quantize_blocks"):
                    got = getattr(_kernels(device)["quantize"], name)(x, power_of_two)
                    _same_bits(got, getattr(quantize, name)(x, power_of_two), f"{name} {rows}x{columns} {dtype}")
                    on_cpu = getattr(quantize, name)(x.cpu(), power_of_two)
                    _same_bits(got, on_cpu, f"{name} {rows}x{columns} {dtype} against the CPU")
                    compared += 1
            blocks = quantize.quantize_blocks(x)
            turned = _kernels(device)["quantize"].transpose_blocks(blocks, rows, columns)
            _same_bits(turned, quantize.transpose_blocks(blocks, rows, columns), f"transpose_blocks {rows}x{columns}")
    return f"{compared} comparisons bit-equal"


def special_values_survive(device: torch.device) -> str:
    """A block with NaN or infinity keeps a scale that is not finite; its neighbours are untouched."""
    x = heavy_tailed(256, 256, 7, device)
    x[5, 130], x[9, 3], x[200, 255] = float("nan"), float("inf"), float("-inf")
    got = _kernels(device)["quantize"].quantize_rows(x)
    bad = {tuple(place) for place in (~torch.isfinite(got.scales)).nonzero().tolist()}
    assert bad == {(5, 1), (9, 0), (200, 1)}, f"scales that are not finite: {sorted(bad)}"
    assert torch.equal(got.scales.isnan(), quantize.quantize_rows(x).scales.isnan()), "NaN became infinity"
    return "NaN and infinity keep their scales"


def fused_kernels_match_the_reference(device: torch.device) -> str:
    """Within one step of E4M3 (2^-3 of a code) for the quantised, 1e-2 of the norm for the rest."""
    worst = 0.0
    x = heavy_tailed(384, 512, 3, device).clamp(-50, 50).to(torch.bfloat16)
    grad = torch.randn(384, 256, generator=torch.Generator().manual_seed(4)).to(device, torch.bfloat16)
    weight = torch.rand(512, generator=torch.Generator().manual_seed(5)).to(device) + 0.5
    rstd = fused.reciprocal_std(x, 1e-6)
    stash = quantize.quantize_rows(x)
    cases: list[tuple[str, str, tuple[Any, ...]]] = [
        ("norm", "rms_norm_quantize", (x, weight, 1e-6, False)),
        ("norm", "rms_norm_quantize_columns", (x, weight, rstd, False)),
        ("norm", "rms_norm_backward", (x.flip(0).contiguous(), x, weight, rstd)),
        ("swiglu", "swiglu_quantize", (x, False)),
        ("swiglu", "swiglu_quantize_stash", (x, False)),
        ("swiglu", "swiglu_backward_quantize", (grad, x, False)),
        ("swiglu", "swiglu_backward_quantize", (grad, stash, False)),
    ]
    for module, name, arguments in cases:
        got = _flat(getattr(_kernels(device)[module], name)(*arguments))
        want = _flat(getattr(fused, name)(*arguments))
        for at, (a, b) in enumerate(zip(got, want, strict=True)):
            error = float((a - b).norm() / b.norm().clamp(min=1e-30))
            assert error <= 1e-2, f"{name}, result {at}: relative error {error:.2e}"
            worst = max(worst, error)
    return f"largest relative error {worst:.1e}"


def backends_match_the_emulation(device: torch.device) -> str:
    """The package's own check, then a larger product that is also the same each time."""
    refused = {name: reason for name, reason in products.self_check(device).items() if reason is not None}
    assert not refused, f"refused: {refused}"
    names = backends(device) + (["triton"] if device.type == "cpu" and INTERPRETED else [])
    rows, columns, inner = (1024, 768, 3584) if device.type == "cuda" else (64, 128, 256)
    for name in names:
        power_of_two = name == "mxfp8"
        a = quantize.quantize_rows(heavy_tailed(rows, inner, 11, device), power_of_two)
        wide = heavy_tailed(columns, inner, 12, device)
        for b in (quantize.quantize_blocks(wide, power_of_two), quantize.quantize_rows(wide, power_of_two)):
            runs = [products.matmul(a, b, torch.float32, name) for _ in range(3)]
            reason = products.disagreement(runs[0], a, b)
            assert reason is None, f"{name}: {reason}"
            assert all(torch.equal(runs[0], again) for again in runs[1:]), f"{name}: another result each time"
    return f"{', '.join(names)} agree with the emulation"


def attention_keeps_documents_apart(device: torch.device) -> str:
    """Each attention that this device has against float32 by the definition; one must be right."""
    found: dict[str, float] = {}
    for name in attention.candidates(device):
        try:
            found[name] = attention.error_of(name, device)
        except Exception as error:  # not there, or not for these heads; `attention.choose` records it too
            found[name] = float("inf")
            print(f"  {name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}")
    right = [name for name, error in found.items() if error <= attention.LARGEST_ERROR]
    assert attention.FALLBACK in right, f"relative errors {found}"
    return f"right: {', '.join(right)}"


def chunked_loss_is_cross_entropy(device: torch.device) -> str:
    """Value and gradient against cross entropy over all logits, in BF16."""
    generator = torch.Generator().manual_seed(6)
    hidden = torch.randn(96, 64, generator=generator).to(device).requires_grad_()
    weight = (torch.randn(300, 64, generator=generator) / 8).to(device).requires_grad_()
    labels = torch.randint(300, (96,), generator=generator).to(device)
    labels[10:20] = -100
    loss = chunked_loss(hidden, weight, labels)
    logits = hidden.to(torch.bfloat16) @ weight.to(torch.bfloat16).t()
    want = torch.nn.functional.cross_entropy(logits.float(), labels)
    got_grads = torch.autograd.grad(loss, (hidden, weight))
    for got, expected in zip(got_grads, torch.autograd.grad(want, (hidden, weight)), strict=True):
        assert float((got - expected).norm() / expected.norm()) < 2e-2
    value, expected_value = float(loss.detach()), float(want.detach())
    assert abs(value - expected_value) < 1e-3, f"{value} instead of {expected_value}"
    return f"loss {value:.4f}"


def small_model_trains_alike(device: torch.device) -> str:
    """Gradients of two layers in FP8 against BF16, with and without recomputation, and a receipt without fallbacks."""
    student, batch = small_student(device)
    results = []
    for recipe in ("fast", "small", "accurate"):
        for recompute in (False, True):
            student.use(recipe, recompute)
            probe = shadow_probe(student.model, lambda: student.loss(student.hidden(batch), batch), step=1)
            worst = min(probe.cosines.values())
            assert abs(probe.relative_gap) < 5e-3, f"{recipe}: loss gap {probe.relative_gap:.3%}"
            assert worst >= LEAST_GRADIENT_COSINE, f"{recipe}: {probe.summary()}"
            results.append(worst)
        told = receipt(student.model)
        told.check()
        assert not any(linear.fallbacks for linear in told.linears.values()), told.summary()
    return f"lowest gradient cosine {min(results):.4f}; {told.summary().splitlines()[0]}"


def small_student(device: torch.device) -> tuple[Trainee, Batch]:
    attention.register()
    setting = Setting(device, toy=True)
    student = Trainee(setting, TOYS["1.5B"], 2, attention.FALLBACK)
    return student, packed_batch(320, TOYS["1.5B"].vocabulary, device, seed=3, mean=100.0)


def packed_row_equals_its_documents(device: torch.device) -> str:
    """Loss of a packed row in BF16 against its documents one by one."""
    student, batch = small_student(device)
    student.use(STOCK, recompute=False)
    starts, total, counted = [0, *torch.tensor(batch.packing.lengths).cumsum(0).tolist()], 0.0, 0
    with torch.no_grad():
        packed = float(student.loss(student.hidden(batch), batch))
        for start, end in pairwise(starts):
            ids, positions, wanted = (tensor[:, start:end].contiguous() for tensor in batch[:3])
            alone = Batch(ids, positions, wanted, packing_of([end - start], device))
            counted += (labels := end - start - 1)
            total += labels * float(student.loss(student.hidden(alone), alone)) if labels else 0.0
    assert abs(packed - total / counted) < 2e-3 * packed, f"packed {packed}, one by one {total / counted}"
    return f"{len(batch.packing.lengths)} documents, loss {packed:.4f}"


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        quantisers_equal_the_reference,
        special_values_survive,
        fused_kernels_match_the_reference,
        backends_match_the_emulation,
        attention_keeps_documents_apart,
        chunked_loss_is_cross_entropy,
        packed_row_equals_its_documents,
        small_model_trains_alike,
    )
}


def run(part: Part, setting: Setting) -> None:
    """All checks; what fails is recorded, and fails the run."""
    for name, check in CHECKS.items():
        if not part.has_time(name):
            part.results.fail(f"correctness: {name} was not reached")
            continue
        try:
            part.add(check=name, passed=True, detail=check(setting.device))
        except Exception as error:  # a wrong result or a broken kernel: recorded, and the run fails
            reason = f"{type(error).__name__}: {str(error)[:500]}"
            part.add(check=name, passed=False, detail=reason)
            part.results.fail(f"correctness: {name}: {reason}")


def _flat(value: Any) -> Iterator[torch.Tensor]:
    """Quantised matrices read back, other tensors, all float32."""
    if isinstance(value, Quantized):
        yield dequantize(value)
    elif isinstance(value, torch.Tensor):
        yield value.float()
    else:
        for item in value:
            yield from _flat(item)


def _same_bits(got: Any, want: Any, what: str) -> None:
    if not isinstance(got, Quantized):
        for a, b in zip(got, want, strict=True):
            _same_bits(a, b, what)
        return
    assert got.codes.shape == want.codes.shape and got.scales.shape == want.scales.shape, f"{what}: another shape"
    for a, b in ((got.codes.view(torch.uint8), want.codes.view(torch.uint8)), (got.scales, want.scales)):
        wrong = int((a.cpu() != b.cpu()).sum())
        assert wrong == 0, f"{what}: {wrong} of {a.numel()} differ"
