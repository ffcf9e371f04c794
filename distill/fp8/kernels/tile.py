"""Pieces of the quantising kernels: read a tile of a matrix, write codes and scales, walk over the tiles.

    tile = load_tile(x, row, column, rows, columns, stride, 128, 128)
    store_tile(codes, encoded, row, column, rows, padded, 128, 128)
    store_scales(scales, scale, row, column, rows, 128)

With STEP = 4 a tile has every fourth row: four such tiles hold four neighbours of a column in the same place of a
thread, so that `packed` makes 32-bit words of their codes, and a transposed result moves through shared memory in words
instead of bytes. The place of a tile is computed in 64 bits, places inside a tile in 32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_tile(x, row, column, rows, columns, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr = 1):
    """[ROWS, COLUMNS] of x [rows, columns], every STEP-th row from (row, column) on, zeros outside."""
    down = tl.arange(0, ROWS)[:, None] * STEP
    along = tl.arange(0, COLUMNS)[None, :]
    inside = (row + down < rows) & (column + along < columns)
    return tl.load(x + row.to(tl.int64) * stride + column + (down * stride + along), mask=inside, other=0)


@triton.jit
def store_tile(
    codes, tile, row, column, rows, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr = 1
):
    """Write [ROWS, COLUMNS] to every STEP-th row of a padded [rows, stride] matrix from (row, column) on."""
    down = tl.arange(0, ROWS)[:, None] * STEP
    along = tl.arange(0, COLUMNS)[None, :]
    tl.store(codes + row.to(tl.int64) * stride + column + (down * stride + along), tile, mask=row + down < rows)


@triton.jit
def store_scales(scales, values, row, column, rows, ROWS: tl.constexpr, STEP: tl.constexpr = 1):
    """Write the scales of every STEP-th row from `row` on, for the 128 columns at `column`: stride (1, rows)."""
    down = tl.arange(0, ROWS) * STEP
    tl.store(scales + (column // 128).to(tl.int64) * rows + row + down, values, mask=row + down < rows)


@triton.jit
def packed(a, b, c, d):
    """int32 words of four uint8 tiles, the first in the lowest byte: its place in memory comes first."""
    return a.to(tl.int32) | (b.to(tl.int32) << 8) | (c.to(tl.int32) << 16) | (d.to(tl.int32) << 24)


@triton.jit
def tile_of_group(program, row_blocks, column_blocks, GROUP: tl.constexpr):
    """(row block, column block): GROUP row blocks run side by side, so that transposed lines are neighbours."""
    group = program // (GROUP * column_blocks)
    height = tl.minimum(row_blocks - group * GROUP, GROUP)
    inner = program % (GROUP * column_blocks)
    return group * GROUP + inner % height, inner // height
