"""The quantisers, fused steps and products as torch operators: Triton on CUDA, plain torch elsewhere.

As operators they are opaque to torch.compile, which then cannot re-order or re-round them, and what really ran is
recorded inside them (`record.py`), where no graph capture can lie about it. No operator has a gradient of its own; the
autograd functions of this package call them in their forward and backward.

Labels are `NAME/ROLE`, see `record.py`. A quantised matrix crosses the operator boundary as (codes, scales).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import library

from distill.fp8 import fused, quantize
from distill.fp8.matmul import choose
from distill.fp8.matmul import matmul as multiply
from distill.fp8.quantize import BLOCK, E4M3, Quantized, blocks_in
from distill.fp8.record import RECORD

_LIBRARY = library.Library("distill_fp8", "DEF")
Pair = tuple[torch.Tensor, torch.Tensor]


def _operator(fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as `distill_fp8::<its name>`; `fake` gives the shapes of its results."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__

        def kernel(*arguments: Any) -> Any:
            with torch.no_grad(), torch.autocast(arguments[0].device.type, enabled=False):
                return function(*arguments)

        schema = library.infer_schema(function, mutates_args=())
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
        library.register_fake(f"distill_fp8::{name}", fake, lib=_LIBRARY)
        operator: Callable[..., Any] = getattr(torch.ops.distill_fp8, name).default
        return operator

    return register


def _kernels(x: torch.Tensor, module: str) -> Any:
    """The Triton module for CUDA tensors, the reference for all others."""
    if not x.is_cuda:
        return quantize if module == "quantize" else fused
    import importlib

    return importlib.import_module(f"distill.fp8.kernels.{module}")


def _empty_rows(x: torch.Tensor, rows: int, columns: int) -> Pair:
    num_blocks = blocks_in(columns)
    codes = x.new_empty((rows, num_blocks * BLOCK), dtype=E4M3)
    return codes, x.new_empty((num_blocks, rows), dtype=torch.float32).t()


def _empty_blocks(x: torch.Tensor, rows: int, columns: int) -> Pair:
    codes = x.new_empty((rows, blocks_in(columns) * BLOCK), dtype=E4M3)
    return codes, x.new_empty((blocks_in(rows), blocks_in(columns)), dtype=torch.float32)


@_operator(lambda x, power_of_two, label: _empty_rows(x, *x.shape))
def quantize_rows(x: torch.Tensor, power_of_two: bool, label: str) -> tuple[torch.Tensor, torch.Tensor]:
    """1x128 blocks of x [R, C]."""
    q = _kernels(x, "quantize").quantize_rows(x, power_of_two)
    RECORD.quantized(label, q, x)
    return q.codes, q.scales


@_operator(lambda x, power_of_two, label: _empty_rows(x, x.shape[1], x.shape[0]))
def quantize_columns(x: torch.Tensor, power_of_two: bool, label: str) -> tuple[torch.Tensor, torch.Tensor]:
    """1x128 blocks of the transpose of x [R, C]."""
    q = _kernels(x, "quantize").quantize_columns(x, power_of_two)
    RECORD.quantized(label, q, x.t())
    return q.codes, q.scales


@_operator(lambda x, power_of_two, label: (*_empty_rows(x, *x.shape), *_empty_rows(x, x.shape[1], x.shape[0])))
def quantize_both(
    x: torch.Tensor, power_of_two: bool, label: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """1x128 blocks of x [R, C] and of its transpose, from one read."""
    rows, columns = _kernels(x, "quantize").quantize_both(x, power_of_two)
    RECORD.quantized(label, rows, x)
    return rows.codes, rows.scales, columns.codes, columns.scales


@_operator(lambda w, power_of_two, label: _empty_blocks(w, *w.shape))
def quantize_blocks(w: torch.Tensor, power_of_two: bool, label: str) -> tuple[torch.Tensor, torch.Tensor]:
    """128x128 blocks of w [N, K]."""
    q = _kernels(w, "quantize").quantize_blocks(w, power_of_two)
    RECORD.quantized(label, q, w)
    return q.codes, q.scales


@_operator(lambda codes, scales, rows, columns: _empty_blocks(codes, columns, rows))
def transpose_blocks(
    codes: torch.Tensor, scales: torch.Tensor, rows: int, columns: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The transpose of 128x128 blocks of a [rows, columns] matrix."""
    q = _kernels(codes, "quantize").transpose_blocks(Quantized(codes, scales), rows, columns)
    return q.codes, q.scales


@_operator(lambda codes, scales, columns: codes.new_empty((codes.shape[0], columns), dtype=torch.bfloat16))
def dequantize(codes: torch.Tensor, scales: torch.Tensor, columns: int) -> torch.Tensor:
    """bfloat16 [R, columns]."""
    return quantize.dequantize(Quantized(codes, scales), columns).bfloat16()


@_operator(
    lambda hidden, weight, eps, power_of_two, label: (
        *_empty_rows(hidden, *hidden.shape),
        hidden.new_empty(hidden.shape[0], dtype=torch.float32),
    )
)
def rms_norm_quantize(
    hidden: torch.Tensor, weight: torch.Tensor, eps: float, power_of_two: bool, label: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes and scales of the normed hidden state [T, K], and rstd [T]."""
    q, rstd = _kernels(hidden, "norm").rms_norm_quantize(hidden, weight, eps, power_of_two)
    RECORD.quantized(label, q, fused.rms_norm(hidden, weight, rstd) if RECORD.observe else None)
    return q.codes, q.scales, rstd


@_operator(lambda hidden, weight, rstd, power_of_two: _empty_rows(hidden, hidden.shape[1], hidden.shape[0]))
def rms_norm_quantize_columns(
    hidden: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, power_of_two: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The normed hidden state transposed, [K, T padded]."""
    q = _kernels(hidden, "norm").rms_norm_quantize_columns(hidden, weight, rstd, power_of_two)
    return q.codes, q.scales


@_operator(
    lambda grad, hidden, weight, rstd: (
        torch.empty_like(hidden),
        weight.new_empty(weight.shape, dtype=torch.float32),
    )
)
def rms_norm_backward(
    grad: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of hidden [T, K] and weight [K], the latter float32."""
    result: Pair = _kernels(hidden, "norm").rms_norm_backward(grad, hidden, weight, rstd)
    return result


@_operator(
    lambda gate_up, power_of_two, label: (
        *_empty_rows(gate_up, gate_up.shape[0], gate_up.shape[1] // 2),
        *_empty_rows(gate_up, *gate_up.shape),
    )
)
def swiglu_quantize_stash(
    gate_up: torch.Tensor, power_of_two: bool, label: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """silu(gate) * up [T, I], and gate_up [T, 2 I] itself, in 1x128 blocks."""
    activation, stash = _kernels(gate_up, "swiglu").swiglu_quantize_stash(gate_up, power_of_two)
    RECORD.quantized(label, activation, fused.swiglu(gate_up) if RECORD.observe else None)
    return activation.codes, activation.scales, stash.codes, stash.scales


@_operator(lambda gate_up, power_of_two, label: _empty_rows(gate_up, gate_up.shape[0], gate_up.shape[1] // 2))
def swiglu_quantize(gate_up: torch.Tensor, power_of_two: bool, label: str) -> tuple[torch.Tensor, torch.Tensor]:
    """silu(gate) * up [T, I] in 1x128 blocks."""
    q = _kernels(gate_up, "swiglu").swiglu_quantize(gate_up, power_of_two)
    RECORD.quantized(label, q, fused.swiglu(gate_up) if RECORD.observe else None)
    return q.codes, q.scales


def _fake_swiglu_backward(
    grad: torch.Tensor, gate_up: torch.Tensor, scales: torch.Tensor | None, power_of_two: bool, label: str
) -> tuple[torch.Tensor, ...]:
    tokens, width = grad.shape
    return (
        *_empty_rows(grad, width, tokens),
        *_empty_rows(grad, tokens, 2 * width),
        *_empty_rows(grad, 2 * width, tokens),
    )


@_operator(_fake_swiglu_backward)
def swiglu_backward_quantize(
    grad: torch.Tensor, gate_up: torch.Tensor, scales: torch.Tensor | None, power_of_two: bool, label: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activation transposed, gradient of gate_up, and that transposed; gate_up is BF16, or FP8 codes with `scales`."""
    kept = gate_up if scales is None else Quantized(gate_up, scales)
    activation, rows, columns = _kernels(grad, "swiglu").swiglu_backward_quantize(grad, kept, power_of_two)
    exact = None
    if RECORD.observe:
        exact = fused.swiglu_backward(grad, fused.kept_gate_up(kept))[1]
    RECORD.quantized(label, rows, exact)
    return (*activation, *rows, *columns)


@_operator(lambda a, a_scales, b, b_scales, out_dtype, label: a.new_empty((a.shape[0], b.shape[0]), dtype=out_dtype))
def matmul(
    a: torch.Tensor, a_scales: torch.Tensor, b: torch.Tensor, b_scales: torch.Tensor, out_dtype: torch.dtype, label: str
) -> torch.Tensor:
    """The product of the first with the transpose of the second, [Ra, Rb], by the best kernel of the device."""
    left, right = Quantized(a, a_scales), Quantized(b, b_scales)
    backend, reasons = choose(left, right, out_dtype, a.device)
    RECORD.ran(label, backend, reasons)
    return multiply(left, right, out_dtype, backend)


@_operator(lambda grad, x, label: grad.new_empty((grad.shape[1], x.shape[1]), dtype=torch.float32))
def matmul_bf16(grad: torch.Tensor, x: torch.Tensor, label: str) -> torch.Tensor:
    """Weight gradient of a recipe that keeps it in BF16: grad^T x, [N, K] float32; grad [T, N], x [T, K]."""
    RECORD.ran(label, "bf16", [])
    left, right = grad.to(torch.bfloat16).t(), x.to(torch.bfloat16)
    if grad.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
