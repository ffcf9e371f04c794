"""Pieces that the quantising kernels share: read a tile, find the scale of a block, write codes and scales.

    tile = load_tile(x, row, column, rows, columns, stride, 128, 128).to(tl.float32)
    scale, inverse = scale_of_bits(tl.max(magnitude_bits(tile), axis=1), POWER_OF_TWO)
    store_tile(codes, encode_e4m3(tile * inverse[:, None], EMULATE), row, column, rows, padded, 128, 128)
    store_scales(scales, scale, row, column, rows, 128)

The largest magnitude is a maximum of bit patterns: for floats without sign it is the same order, and a NaN is above
infinity, so that it survives, which it would not in tl.max of floats. The place of a tile is computed in 64 bits, places
inside a tile in 32.

Source: the numbers are those of distill/fp8/quantize.py.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def magnitude_bits(x):
    """Bits of |x|, float32 as int32: ordered like the magnitudes, NaN on top."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def scale_of_bits(bits, POWER_OF_TWO: tl.constexpr):
    """(scale, inverse) of blocks whose largest magnitude has these bits: `quantize.scale_of`."""
    amax = tl.maximum(bits, 0x08800000).to(tl.float32, bitcast=True)  # 2^-110
    scale = tl.div_rn(amax, 448.0)
    inverse = tl.div_rn(448.0, amax)
    if POWER_OF_TWO:
        pattern = scale.to(tl.int32, bitcast=True)
        exponent = (pattern >> 23) + tl.where((pattern & 0x7FFFFF) != 0, 1, 0)
        finite = (pattern & 0x7F800000) != 0x7F800000
        scale = tl.where(finite, (exponent << 23).to(tl.float32, bitcast=True), scale)
        inverse = tl.where(finite, ((254 - exponent) << 23).to(tl.float32, bitcast=True), inverse)
    return scale, inverse


@triton.jit
def load_tile(x, row, column, rows, columns, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """float32 [ROWS, COLUMNS] of x [rows, columns] from (row, column) on, zeros outside."""
    down = tl.arange(0, ROWS)[:, None]
    along = tl.arange(0, COLUMNS)[None, :]
    inside = (row + down < rows) & (column + along < columns)
    return tl.load(x + row.to(tl.int64) * stride + column + (down * stride + along), mask=inside, other=0.0)


@triton.jit
def store_tile(codes, tile, row, column, rows, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Write codes [ROWS, COLUMNS] to a padded [rows, stride] matrix from (row, column) on."""
    down = tl.arange(0, ROWS)[:, None]
    along = tl.arange(0, COLUMNS)[None, :]
    tl.store(codes + row.to(tl.int64) * stride + column + (down * stride + along), tile, mask=row + down < rows)


@triton.jit
def store_scales(scales, values, row, column, rows, ROWS: tl.constexpr):
    """Write the scales of ROWS rows from `row` on, for the blocks of 128 columns at `column`: stride (1, rows)."""
    down = tl.arange(0, ROWS)
    tl.store(scales + (column // 128).to(tl.int64) * rows + row + down, values, mask=row + down < rows)


@triton.jit
def tile_of_group(program, row_blocks, column_blocks, GROUP: tl.constexpr):
    """(row block, column block): GROUP row blocks run side by side, so transposed lines are written next to each other."""
    group = program // (GROUP * column_blocks)
    height = tl.minimum(row_blocks - group * GROUP, GROUP)
    inner = program % (GROUP * column_blocks)
    return group * GROUP + inner % height, inner // height
