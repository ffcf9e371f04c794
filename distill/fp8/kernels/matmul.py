"""The portable FP8 product in Triton: tensor cores sum 128 numbers, FP32 registers sum the rest.

    y = matmul_blockwise(rows, blocks, torch.bfloat16)      # [Ra, Rb] = dequantize(rows) @ dequantize(blocks).T

Hopper's tensor cores keep about 14 bits of an FP8 sum, so every 128-deep partial sum is promoted: it starts from zero,
is multiplied by its two scales and added in FP32. For sizes and devices that the libraries' products do not take
(distill/fp8/matmul.py chooses), and for tests without a GPU. Not for speed: a tile has two accumulators, 128x128 on 8
warps is the largest that does not spill on sm_90 and sm_100 (tests/fp8/test_kernels_matmul.py), and loads are cp.async,
not the bulk copies of the libraries.

The bits are those of `matmul.emulation` but for three things: the order in which the 128 products are summed (two BLAS
libraries, or a tensor core); the promotion, here one fused multiply-add; and, interpreted, the cast to bfloat16, which
truncates. With power-of-two scales and sums that float32 holds exactly, the interpreted bits are equal.

Source: DeepSeek-V3, arXiv 2412.19437, section 3.3.2, "Increasing accumulation precision" (N_C = 128).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from distill.fp8.errors import Fp8Error
from distill.fp8.kernels.configuration import INTERPRETED, Configuration
from distill.fp8.quantize import BLOCK, Quantized, blocks_in, column_major

LARGEST_SIDE = 2**24
"""128 rows of this length are what the 32-bit places inside a tile reach."""
_GROUP = 8
"""Row tiles of `a` that share tiles of `b` while both are in the L2 cache."""


@triton.jit
def _matmul_kernel(
    a_codes,
    b_codes,
    a_scales,
    b_scales,
    out,
    num_rows_a,
    num_rows_b,
    num_blocks,
    B_IS_2D: tl.constexpr,
    GROUP: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    KNOWN_BLOCKS: tl.constexpr,
):
    """One 128x128 tile of out [Ra, Rb]; the inner dimension is num_blocks * 128, zeros beyond its end.

    KNOWN_BLOCKS: num_blocks again when interpreted, as Triton 3.6 cannot loop up to an argument there; else 0.
    """
    BLOCK: tl.constexpr = 128
    tile_a, tile_b = _tile(tl.program_id(0), tl.cdiv(num_rows_a, BLOCK), tl.cdiv(num_rows_b, BLOCK), GROUP)
    left_a = num_rows_a - tile_a * BLOCK
    left_b = num_rows_b - tile_b * BLOCK
    lane = tl.arange(0, BLOCK)
    # Rows beyond the edge read the last row again and are not stored: full loads without a mask.
    row_a = tl.minimum(lane, left_a - 1)
    row_b = tl.minimum(lane, left_b - 1)
    inner = num_blocks * BLOCK
    a_pointers = a_codes + tile_a.to(tl.int64) * BLOCK * inner + (row_a[:, None] * inner + lane[None, :])
    b_pointers = b_codes + tile_b.to(tl.int64) * BLOCK * inner + (row_b[None, :] * inner + lane[:, None])
    a_scale_pointers = a_scales + tile_a * BLOCK + lane
    b_scale_pointers = b_scales + (tile_b.to(tl.int64) * num_blocks if B_IS_2D else tile_b * BLOCK + lane)
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    # Stages are named here, and not only at the launch, so that the scales are loaded ahead too.
    for _ in tl.range(0, KNOWN_BLOCKS if KNOWN_BLOCKS else num_blocks, num_stages=NUM_STAGES):
        a = tl.load(a_pointers)
        b = tl.load(b_pointers)
        a_scale = tl.load(a_scale_pointers, mask=lane < left_a, other=0.0)
        partial = tl.dot(a, b, max_num_imprecise_acc=BLOCK)
        if B_IS_2D:
            scale = tl.broadcast_to((a_scale * tl.load(b_scale_pointers))[:, None], BLOCK, BLOCK)
            b_scale_pointers += 1
        else:
            b_scale = tl.load(b_scale_pointers, mask=lane < left_b, other=0.0)
            scale = a_scale[:, None] * b_scale[None, :]
            b_scale_pointers += num_rows_b
        total = tl.fma(partial, scale, total)
        a_pointers += BLOCK
        b_pointers += BLOCK
        a_scale_pointers += num_rows_a
    corner = out + tile_a.to(tl.int64) * BLOCK * num_rows_b + tile_b * BLOCK
    inside = (lane[:, None] < left_a) & (lane[None, :] < left_b)
    tl.store(corner + (lane[:, None] * num_rows_b + lane[None, :]), total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _tile(program, tiles_a, tiles_b, GROUP: tl.constexpr):
    """(row, column) of a program's tile: GROUP rows of tiles are walked column by column."""
    programs_in_group = GROUP * tiles_b
    first = (program // programs_in_group) * GROUP
    rows = tl.minimum(tiles_a - first, GROUP)
    within = program % programs_in_group
    return first + within % rows, within // rows


def _configuration(is_2d: bool, num_stages: int) -> Configuration:
    return Configuration(
        name=f"matmul_1x128_{'128x128' if is_2d else '1x128'}_{num_stages}_stages",
        kernel=_matmul_kernel,
        signature={
            "a_codes": "*fp8e4nv",
            "b_codes": "*fp8e4nv",
            "a_scales": "*fp32",
            "b_scales": "*fp32",
            "out": "*fp32",
            "num_rows_a": "i32",
            "num_rows_b": "i32",
            "num_blocks": "i32",
        },
        constexprs={"B_IS_2D": is_2d, "GROUP": _GROUP, "NUM_STAGES": num_stages, "KNOWN_BLOCKS": 0},
        num_warps=8,
        num_stages=num_stages,
        products=True,
    )


# 4 stages take 131 KiB of shared memory: sm_90 and sm_10x have 227. 3 stages fit the 99 KiB of sm_89 and sm_120.
_LARGE_SHARED_MEMORY = {is_2d: _configuration(is_2d, 4) for is_2d in (True, False)}
_SMALL_SHARED_MEMORY = {is_2d: _configuration(is_2d, 3) for is_2d in (True, False)}
CONFIGURATIONS = [*_LARGE_SHARED_MEMORY.values(), *_SMALL_SHARED_MEMORY.values()]


def matmul_blockwise(a: Quantized, b: Quantized, out_dtype: torch.dtype) -> torch.Tensor:
    """[Ra, Rb] = dequantize(a) @ dequantize(b).T, bfloat16 or float32; a is 1x128, b is 1x128 or 128x128."""
    rows_a, rows_b, inner = len(a.codes), len(b.codes), a.codes.shape[1]
    if a.is_2d or inner != b.codes.shape[1] or inner % BLOCK or max(inner, rows_b) > LARGEST_SIDE:
        found = f"{list(a.codes.shape)} with scales {list(a.scales.shape)} and {list(b.codes.shape)}"
        wanted = f"a in 1x128, both equally deep, padded to {BLOCK}, no deeper or wider than {LARGEST_SIDE}"
        raise Fp8Error(f"matmul_blockwise: found {found}; it takes {wanted}.")
    out = torch.empty(rows_a, rows_b, dtype=out_dtype, device=a.codes.device)
    if out.numel() == 0 or inner == 0:
        return out.zero_()
    configuration = _configuration_for(a.codes.device, b.is_2d)
    grid = (blocks_in(rows_a) * blocks_in(rows_b),)
    arguments = (a.codes, b.codes, _column_major(a), b.scales if b.is_2d else _column_major(b), out)
    _matmul_kernel[grid](
        *(_aligned(argument) for argument in arguments),
        rows_a,
        rows_b,
        inner // BLOCK,
        **(dict(configuration.constexprs) | {"KNOWN_BLOCKS": inner // BLOCK if INTERPRETED else 0}),
        **configuration.options,
    )
    return out


def _configuration_for(device: torch.device, is_2d: bool) -> Configuration:
    large = device.type != "cuda" or torch.cuda.get_device_capability(device)[0] in (9, 10)
    return (_LARGE_SHARED_MEMORY if large else _SMALL_SHARED_MEMORY)[is_2d]


def _column_major(q: Quantized) -> torch.Tensor:
    """1x128 scales with stride (1, R), as they come; a copy where somebody made them contiguous."""
    rows, blocks = q.scales.shape
    if rows == 1 or (q.scales.stride(0) == 1 and (blocks == 1 or q.scales.stride(1) == rows)):
        return q.scales
    return column_major(q.scales)


def _aligned(x: torch.Tensor) -> torch.Tensor:
    """x itself where it starts at a multiple of 16 bytes, as whatever torch allocates does; a copy of an odd view."""
    return x if x.data_ptr() % 16 == 0 else x.clone(memory_format=torch.preserve_format)
