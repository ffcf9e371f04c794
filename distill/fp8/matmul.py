"""The FP8 product and its four ways to run: [Ra, Rb] = dequantize(a) @ dequantize(b).T.

    backend, reasons = choose(a, b, torch.bfloat16, device)      # reasons: why better ones were passed over
    y = matmul(a, b, torch.bfloat16, backend)

    hopper      cuBLASLt through torch.nn.functional.scaled_mm, scales of 1x128 and 128x128 blocks      sm_90
    mxfp8       the same with scales of 1x32 blocks; the recipe has made them powers of two             sm_100, later
    triton      kernels/matmul.py, any size                                                             sm_89, later
    emulation   plain torch: the definition, and what runs on a CPU                                     any device

a is 1x128. b is 128x128 (weights, in forward and dgrad) or 1x128 (wgrad: both operands are transposed, tokens inside).
All four multiply the same codes and scales; they differ in how the 128 products of a block are summed. The definition:

    out[i, j] = sum over blocks k, in order:  (sum of 128 products of codes) * (a_scale[i, k] * b_scale[j, k])

in float32, each operation rounded once. No backend has been run by this project's CI on the GPU it is for, so the first
product on a device compares each with `emulation` there, and one that raises or disagrees is not chosen (`self_check`).

Not here: quantising (quantize.py), counting what ran (record.py), FP32 accumulation over micro-batches (linear.py).

Source: DeepSeek-V3, arXiv 2412.19437, section 3.3.2, and cuBLAS 13, sections 3.1.4.4 and 3.1.4.5 (layouts of scales).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from distill.fp8.errors import Fp8Error
from distill.fp8.quantize import BLOCK, Quantized, decode, quantize_blocks, quantize_rows

Capability = tuple[int, int]
"""Compute capability of a CUDA device, (9, 0) for an H100."""

OUT_DTYPES = (torch.bfloat16, torch.float32)
_ROWS_IN_CACHE = 512
"""Rows that `emulation` does at a time on a CPU, so that its float32 tiles stay in the cache."""


def matmul(a: Quantized, b: Quantized, out_dtype: torch.dtype, backend: str | None = None) -> torch.Tensor:
    """[Ra, Rb] in bfloat16 or float32, by this backend, or by the best one of the device.

    Raises: Fp8Error for operands that do not fit, another dtype, an unknown backend; whatever the backend raises.
    """
    shapes = f"a {list(a.codes.shape)} with scales {list(a.scales.shape)}, b {list(b.codes.shape)}"
    if a.is_2d or a.codes.shape[1] != b.codes.shape[1] or a.codes.shape[1] % BLOCK:
        raise Fp8Error(f"FP8 product: {shapes}; a must be 1x128, and both as deep, padded to 128. See quantize_rows.")
    if out_dtype not in OUT_DTYPES:
        raise Fp8Error(f"FP8 product: out_dtype {out_dtype}; allowed are torch.bfloat16 and torch.float32.")
    if backend is None:
        backend = choose(a, b, out_dtype, a.codes.device)[0]
    if backend not in _BACKENDS:
        raise Fp8Error(f"FP8 product: backend '{backend}' is unknown; there are {', '.join(_BACKENDS)}.")
    return _BACKENDS[backend].run(a, b, out_dtype)


def candidates(capability: Capability | None) -> tuple[str, ...]:
    """Backends of a device, best first; None is a CPU, and () a GPU without FP8."""
    if capability is None:
        return ("emulation",)
    if capability < (8, 9):
        return ()
    best = {9: ("hopper",)}.get(capability[0], ("mxfp8",) if capability[0] >= 10 else ())
    return (*best, "triton")


def supports(backend: str, a: Quantized, b: Quantized, capability: Capability | None) -> str | None:
    """None where the backend takes this product on such a device, or the reason why not."""
    return _BACKENDS[backend].refusal(a, b, capability)


def choose(a: Quantized, b: Quantized, out_dtype: torch.dtype, device: torch.device | str) -> tuple[str, list[str]]:
    """The best backend for this product, and for each better one of the device why it was passed over.

    Raises: Fp8Error where none is left, with all the reasons.
    """
    device = torch.device(device)
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return choose_from(a, b, capability, self_check(device))


def choose_from(
    a: Quantized, b: Quantized, capability: Capability | None, checked: Mapping[str, str | None]
) -> tuple[str, list[str]]:
    """`choose` for a device of this capability, where `self_check` gave `checked`."""
    reasons: list[str] = []
    for backend in candidates(capability):
        reason = checked.get(backend) or supports(backend, a, b, capability)
        if reason is None:
            return backend, reasons
        reasons.append(f"{backend}: {reason}")
    found = "; ".join(reasons) or f"compute capability {capability}, and FP8 tensor cores begin with (8, 9)"
    raise Fp8Error(f"FP8 product: no backend is left ({found}). Train in bf16, or choose backend 'emulation'.")


# Emulation --------------------------------------------------------------------------------------------------------


def emulation(a: Quantized, b: Quantized, out_dtype: torch.dtype) -> torch.Tensor:
    """The definition, in float32; about as fast on a CPU as one float32 product of the same size."""
    rows_a, rows_b = len(a.codes), len(b.codes)
    b_values = decode(b.codes)
    b_scales = (b.scales.repeat_interleave(BLOCK, dim=0)[:rows_b] if b.is_2d else b.scales).t().contiguous()
    out = torch.empty(rows_a, rows_b, dtype=out_dtype, device=a.codes.device)
    step = _ROWS_IN_CACHE if out.device.type == "cpu" else max(rows_a, 1)
    for first in range(0, rows_a, step):
        rows = slice(first, first + step)
        out[rows] = _emulated_rows(decode(a.codes[rows]), a.scales[rows], b_values, b_scales)
    return out


def _emulated_rows(
    a_values: torch.Tensor, a_scales: torch.Tensor, b_values: torch.Tensor, b_scales: torch.Tensor
) -> torch.Tensor:
    """float32 [R, Rb] of some rows; b_scales is [blocks, Rb]."""
    total = a_values.new_zeros(len(a_values), len(b_values))
    partial, scale = torch.empty_like(total), torch.empty_like(total)
    for block in range(a_values.shape[1] // BLOCK):
        inner = slice(block * BLOCK, (block + 1) * BLOCK)
        torch.mm(a_values[:, inner], b_values[:, inner].t(), out=partial)
        torch.mul(a_scales[:, block, None], b_scales[None, block], out=scale)
        total.add_(partial.mul_(scale))
    return total


def _emulation_refusal(a: Quantized, b: Quantized, capability: Capability | None) -> str | None:
    return None


# Triton -----------------------------------------------------------------------------------------------------------


def triton(a: Quantized, b: Quantized, out_dtype: torch.dtype) -> torch.Tensor:
    """The portable kernel; on a CPU only where TRITON_INTERPRET=1 was set before the start."""
    from distill.fp8.kernels.matmul import matmul_blockwise

    return matmul_blockwise(a, b, out_dtype)


def _triton_refusal(a: Quantized, b: Quantized, capability: Capability | None) -> str | None:
    if capability is None or capability < (8, 9):
        return "it needs a CUDA device of compute capability 8.9 or later"
    return None


# Hopper -----------------------------------------------------------------------------------------------------------


def hopper(a: Quantized, b: Quantized, out_dtype: torch.dtype) -> torch.Tensor:
    """cuBLASLt 12.9 or later, which promotes to FP32 by itself.

    1x128 scales go as they are. The 128x128 scales of b [ceil(Rb / 128), L] go as [L4, ceil(Rb / 128)], stride (1, L4),
    L4 the next multiple of 4: another stride gave wrong numbers in silence until torch 2.10 (pytorch#166752).

    Source: cuBLAS 13, section 3.1.4.5.1, and torch's checks of it, `_scaled_block1x128_block128x128` in
    https://github.com/pytorch/pytorch/blob/0174dfabc023f11a8f78c79c301b49c8d7e02c8b/aten/src/ATen/native/cuda/ScaledBlas.cpp
    """
    kinds = torch.nn.functional.ScalingType
    b_kind, b_scales = kinds.BlockWise1x128, b.scales
    if b.is_2d:
        b_kind, b_scales = kinds.BlockWise128x128, padded_blocks(b.scales).t()
    return torch.nn.functional.scaled_mm(
        a.codes, b.codes.t(), a.scales, kinds.BlockWise1x128, b_scales, b_kind, output_dtype=out_dtype
    )


def padded_blocks(scales: torch.Tensor) -> torch.Tensor:
    """128x128 scales [blocks, L] with zeros up to the next multiple of 4 along L, row-major."""
    missing = -scales.shape[1] % 4
    return torch.nn.functional.pad(scales, (0, missing)) if missing else scales.contiguous()


def _hopper_refusal(a: Quantized, b: Quantized, capability: Capability | None) -> str | None:
    if capability is None or capability[0] != 9:
        return "it needs a Hopper GPU (compute capability 9.0)"
    if len(a.codes) % 4:
        return f"{len(a.codes)} rows are no multiple of 4, which the layout of the scales needs"
    if b.is_2d and len(b.codes) % BLOCK:  # cuBLAS takes them; torch's checks of a traced product do not agree
        return f"{len(b.codes)} columns are no multiple of 128, and scaled_mm wants whole 128x128 blocks"
    return _refused_columns(b)


def _refused_columns(b: Quantized) -> str | None:
    """scaled_mm's own rule for the columns of the result."""
    return f"{len(b.codes)} columns are no multiple of 16, which scaled_mm needs" if len(b.codes) % 16 else None


# MXFP8 ------------------------------------------------------------------------------------------------------------


def mxfp8(a: Quantized, b: Quantized, out_dtype: torch.dtype) -> torch.Tensor:
    """Blackwell's own block-scaled product, exact where scales are powers of two, as the recipe makes them there.

    One scale of 128 numbers becomes four equal ones of 32: the same dequantised matrix, so the same quantised bits.
    """
    kind = torch.nn.functional.ScalingType.BlockWise1x32
    swizzled = torch.nn.functional.SwizzleType.SWIZZLE_32_4_4
    return torch.nn.functional.scaled_mm(
        a.codes,
        b.codes.t(),
        swizzle_32_4_4(groups_of_32(a)).view(torch.float8_e8m0fnu),
        kind,
        swizzle_32_4_4(groups_of_32(b)).view(torch.float8_e8m0fnu),
        kind,
        swizzle_a=swizzled,
        swizzle_b=swizzled,
        output_dtype=out_dtype,
    )


def groups_of_32(q: Quantized) -> torch.Tensor:
    """UE8M0 scales, uint8 [R, C / 32]: the exponents of power-of-two scales, one for 32 neighbours of a row.

    A float32 exponent is the UE8M0 code; 255, of infinite and NaN scales, is its NaN. A mantissa is dropped unseen.
    """
    exponents = (q.scales.view(torch.int32) >> 23).to(torch.uint8)
    if q.is_2d:
        exponents = exponents.repeat_interleave(BLOCK, dim=0)[: len(q.codes)]
    return exponents.repeat_interleave(BLOCK // 32, dim=1)


def swizzle_32_4_4(groups: torch.Tensor) -> torch.Tensor:
    """groups [R, G] in tiles of 128x4, tiles row by row, zeros beyond the edges; one dimension.

    Within a tile, (outer, inner) is at (outer % 32) * 16 + (outer // 32) * 4 + inner.

    Source: cuBLAS 13, section 3.1.4.4.2, "1D Block Scaling Factors Layout".
    """
    rows, columns = groups.shape
    padded = torch.nn.functional.pad(groups, (0, -columns % 4, 0, -rows % 128))
    tiles = padded.view(padded.shape[0] // 128, 4, 32, padded.shape[1] // 4, 4)
    return tiles.permute(0, 3, 2, 1, 4).reshape(-1)


def _mxfp8_refusal(a: Quantized, b: Quantized, capability: Capability | None) -> str | None:
    if capability is None or capability[0] < 10:
        return "it needs a Blackwell GPU (compute capability 10.0 or later)"
    return _refused_columns(b)


# The table, and the check of it on a device -----------------------------------------------------------------------


class _Backend(NamedTuple):
    run: Callable[[Quantized, Quantized, torch.dtype], torch.Tensor]
    refusal: Callable[[Quantized, Quantized, Capability | None], str | None]


_BACKENDS: dict[str, _Backend] = {
    "hopper": _Backend(hopper, _hopper_refusal),
    "mxfp8": _Backend(mxfp8, _mxfp8_refusal),
    "triton": _Backend(triton, _triton_refusal),
    "emulation": _Backend(emulation, _emulation_refusal),
}


@lru_cache
def self_check(device: torch.device) -> Mapping[str, str | None]:
    """For each candidate of the device None, or why it is not to be used: it raised, or it disagrees with `emulation`.

    Once for a process and device, in front of its first product; a small product of each kind, with outliers.
    """
    if device.type != "cuda":
        return {"emulation": None}
    return {name: _checked(name, device) for name in candidates(torch.cuda.get_device_capability(device))}


def _checked(backend: str, device: torch.device) -> str | None:
    a, blocks, rows = check_operands(device, power_of_two=backend == "mxfp8")
    for b in (blocks, rows):
        for out_dtype in OUT_DTYPES:
            try:
                reason = disagreement(matmul(a, b, out_dtype, backend), a, b)
            except Exception as error:  # whatever a library, a compiler or a driver raises: the reason is recorded
                reason = f"it raised {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
            if reason is not None:
                return f"{reason} ({'128x128' if b.is_2d else '1x128'} scales, {out_dtype})"
    return None


def check_operands(device: torch.device, power_of_two: bool) -> tuple[Quantized, Quantized, Quantized]:
    """a [144, 640] in 1x128, b [384, 640] in 128x128 and in 1x128: 5 blocks deep, so L4 is 8, and scales far apart."""
    generator = torch.Generator().manual_seed(0)

    def heavy(rows: int) -> torch.Tensor:
        x: Any = torch.randn(rows, 600, generator=generator)
        return (x * torch.exp(2 * torch.randn(rows, 600, generator=generator))).to(device)

    a, b = heavy(144), heavy(384)
    return quantize_rows(a, power_of_two), quantize_blocks(b, power_of_two), quantize_rows(b, power_of_two)


def disagreement(got: torch.Tensor, a: Quantized, b: Quantized) -> str | None:
    """Why `got` is not this product, or None.

    Every element is held against its own sum of magnitudes, so that no outlier hides a wrong scale of a quiet row. The
    bound of 2^-7 leaves room for bfloat16 (2^-9) and for sums of 128 products in 14 bits (a few steps of 2^-13), and
    none for a scale of another block.
    """
    want = emulation(a, b, torch.float32)
    magnitude = emulation(_magnitude(a), _magnitude(b), torch.float32)
    error = (got.float() - want).abs()
    wrong = ~(error <= magnitude * 2.0**-7)
    if not bool(wrong.any()):
        return None
    return f"it disagrees with the emulation in {int(wrong.sum())} of {wrong.numel()} elements"


def _magnitude(q: Quantized) -> Quantized:
    return Quantized((q.codes.view(torch.uint8) & 0x7F).view(q.codes.dtype), q.scales)
