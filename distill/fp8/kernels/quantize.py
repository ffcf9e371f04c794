"""The quantiser of distill/fp8/quantize.py in Triton: the same functions, shapes, strides and bits.

    rows, columns = quantize_both(x)      # x [R, C] bf16, fp16 or fp32 on a GPU; any row stride

A program takes a tile that holds whole blocks, so that it finds the largest magnitude and writes the codes while the
numbers are in registers. All of these kernels are bound by memory: a thread reads and writes 16 bytes at a time, a
transposed result is turned in shared memory. `quantize_both` moves 2 + 1 + 1 bytes for a bf16 number, and the scales.
A matrix whose columns are contiguous is taken as the transpose of one whose rows are.

Source: DeepSeek-V3, arXiv 2412.19437, section 3.3.2; the numbers are defined in distill/fp8/quantize.py.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from distill.fp8.errors import Fp8Error
from distill.fp8.kernels.configuration import INTERPRETED, Configuration
from distill.fp8.kernels.encode import encode_e4m3
from distill.fp8.kernels.scale import magnitude_bits, scale_of
from distill.fp8.kernels.tile import load_tile, packed, store_scales, store_tile, tile_of_group
from distill.fp8.quantize import BLOCK, E4M3, Quantized, blocks_in

LARGEST_SIDE = 2**24
"""128 rows of this length are what the 32-bit places inside a tile reach."""
INPUTS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@triton.jit
def _rows_kernel(
    x, codes, scales, rows, columns, stride, ROWS: tl.constexpr, POWER_OF_TWO: tl.constexpr, EMULATE: tl.constexpr
):
    column_blocks = tl.cdiv(columns, 128)
    row = tl.program_id(0) // column_blocks * ROWS
    column = tl.program_id(0) % column_blocks * 128
    tile = load_tile(x, row, column, rows, columns, stride, ROWS, 128).to(tl.float32)
    scale, inverse = scale_of(tl.max(magnitude_bits(tile), axis=1), POWER_OF_TWO)
    store_tile(codes, encode_e4m3(tile * inverse[:, None], EMULATE), row, column, rows, column_blocks * 128, ROWS, 128)
    store_scales(scales, scale, row, column, rows, ROWS)


@triton.jit
def _encode_words(a, b, c, d, inverse, EMULATE: tl.constexpr):
    """Words of the codes of four tiles of every fourth row, one inverse for a column."""
    inverse = inverse[None, :]
    a = encode_e4m3(a.to(tl.float32) * inverse, EMULATE)
    b = encode_e4m3(b.to(tl.float32) * inverse, EMULATE)
    c = encode_e4m3(c.to(tl.float32) * inverse, EMULATE)
    d = encode_e4m3(d.to(tl.float32) * inverse, EMULATE)
    return packed(a, b, c, d)


@triton.jit
def _columns_kernel(
    x,
    words,
    scales,
    rows,
    columns,
    stride,
    COLUMNS: tl.constexpr,
    GROUP: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    EMULATE: tl.constexpr,
):
    row_blocks = tl.cdiv(rows, 128)
    row_block, column_block = tile_of_group(tl.program_id(0), row_blocks, tl.cdiv(columns, COLUMNS), GROUP)
    row = row_block * 128
    column = column_block * COLUMNS
    a = load_tile(x, row, column, rows, columns, stride, 32, COLUMNS, 4).to(tl.float32)
    b = load_tile(x, row + 1, column, rows, columns, stride, 32, COLUMNS, 4).to(tl.float32)
    c = load_tile(x, row + 2, column, rows, columns, stride, 32, COLUMNS, 4).to(tl.float32)
    d = load_tile(x, row + 3, column, rows, columns, stride, 32, COLUMNS, 4).to(tl.float32)
    bits = tl.maximum(magnitude_bits(a), magnitude_bits(b))
    bits = tl.maximum(bits, tl.maximum(magnitude_bits(c), magnitude_bits(d)))
    scale, inverse = scale_of(tl.max(bits, axis=0), POWER_OF_TWO)
    turned = tl.trans(_encode_words(a, b, c, d, inverse, EMULATE))
    store_tile(words, turned, column, row_block * 32, columns, row_blocks * 32, COLUMNS, 32)
    store_scales(scales, scale, column, row, columns, COLUMNS)


@triton.jit
def _fourth_of_rows(tile, codes, scales, row, column, rows, padded, POWER_OF_TWO: tl.constexpr, EMULATE: tl.constexpr):
    """Write the codes and scales of every fourth row; the magnitudes go on to the columns."""
    tile = tile.to(tl.float32)
    bits = magnitude_bits(tile)
    scale, inverse = scale_of(tl.max(bits, axis=1), POWER_OF_TWO)
    store_tile(codes, encode_e4m3(tile * inverse[:, None], EMULATE), row, column, rows, padded, 32, 128, 4)
    store_scales(scales, scale, row, column, rows, 32, 4)
    return bits


@triton.jit
def _both_kernel(
    x,
    row_codes,
    row_scales,
    column_words,
    column_scales,
    rows,
    columns,
    stride,
    GROUP: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    EMULATE: tl.constexpr,
):
    row_blocks = tl.cdiv(rows, 128)
    column_blocks = tl.cdiv(columns, 128)
    row_block, column_block = tile_of_group(tl.program_id(0), row_blocks, column_blocks, GROUP)
    row = row_block * 128
    column = column_block * 128
    a = load_tile(x, row, column, rows, columns, stride, 32, 128, 4)
    b = load_tile(x, row + 1, column, rows, columns, stride, 32, 128, 4)
    c = load_tile(x, row + 2, column, rows, columns, stride, 32, 128, 4)
    d = load_tile(x, row + 3, column, rows, columns, stride, 32, 128, 4)
    padded = column_blocks * 128
    bits = _fourth_of_rows(a, row_codes, row_scales, row, column, rows, padded, POWER_OF_TWO, EMULATE)
    more = _fourth_of_rows(b, row_codes, row_scales, row + 1, column, rows, padded, POWER_OF_TWO, EMULATE)
    bits = tl.maximum(bits, more)
    more = _fourth_of_rows(c, row_codes, row_scales, row + 2, column, rows, padded, POWER_OF_TWO, EMULATE)
    bits = tl.maximum(bits, more)
    more = _fourth_of_rows(d, row_codes, row_scales, row + 3, column, rows, padded, POWER_OF_TWO, EMULATE)
    bits = tl.maximum(bits, more)
    scale, inverse = scale_of(tl.max(bits, axis=0), POWER_OF_TWO)
    turned = tl.trans(_encode_words(a, b, c, d, inverse, EMULATE))
    store_tile(column_words, turned, column, row_block * 32, columns, row_blocks * 32, 128, 32)
    store_scales(column_scales, scale, column, row, columns, 128)


@triton.jit
def _blocks_kernel(x, codes, scales, rows, columns, stride, POWER_OF_TWO: tl.constexpr, EMULATE: tl.constexpr):
    column_blocks = tl.cdiv(columns, 128)
    row = tl.program_id(0) // column_blocks * 128
    column = tl.program_id(0) % column_blocks * 128
    tile = load_tile(x, row, column, rows, columns, stride, 128, 128).to(tl.float32)
    bits = tl.max(tl.max(magnitude_bits(tile), axis=1), axis=0)
    scale, inverse = scale_of(bits, POWER_OF_TWO)
    store_tile(codes, encode_e4m3(tile * inverse, EMULATE), row, column, rows, column_blocks * 128, 128, 128)
    tl.store(scales + tl.program_id(0), scale)


@triton.jit
def _transpose_kernel(codes, words, rows, columns, GROUP: tl.constexpr):
    row_blocks = tl.cdiv(rows, 128)
    column_blocks = tl.cdiv(columns, 128)
    row_block, column_block = tile_of_group(tl.program_id(0), row_blocks, column_blocks, GROUP)
    row = row_block * 128
    column = column_block * 128
    stride = column_blocks * 128  # the padding is in range: it is not written, rows of the result end at `columns`
    a = load_tile(codes, row, column, rows, stride, stride, 32, 128, 4)
    b = load_tile(codes, row + 1, column, rows, stride, stride, 32, 128, 4)
    c = load_tile(codes, row + 2, column, rows, stride, stride, 32, 128, 4)
    d = load_tile(codes, row + 3, column, rows, stride, stride, 32, 128, 4)
    store_tile(words, tl.trans(packed(a, b, c, d)), column, row_block * 32, columns, row_blocks * 32, 128, 32)


def _configuration(name: str, kernel: Any, warps: int, dtype: str, power_of_two: bool, **sizes: int) -> Configuration:
    """One entry: the input of this type, uint8 codes or int32 words of four, float32 scales, 32-bit sizes."""
    constexprs = {**sizes, "POWER_OF_TWO": power_of_two, "EMULATE": False}
    signature = {}
    for argument in kernel.arg_names:
        if argument == "x":
            signature[argument] = f"*{dtype}"
        elif "codes" in argument:
            signature[argument] = "*u8"
        elif "words" in argument:
            signature[argument] = "*i32"
        elif "scales" in argument:
            signature[argument] = "*fp32"
        elif argument not in constexprs:
            signature[argument] = "i32"
    full_name = f"{name}_{dtype}" + ("_power_of_two" if power_of_two else "")
    return Configuration(full_name, kernel, signature, constexprs, warps, num_stages=1, any_size=("rows",))


def _by_input(name: str, kernel: Any, warps: int, **sizes: int) -> dict[tuple[torch.dtype, bool], Configuration]:
    """The configurations of a kernel by dtype of the input and kind of scale."""
    return {
        (dtype, power_of_two): _configuration(name, kernel, warps, text, power_of_two, **sizes)
        for dtype, text in INPUTS.items()
        for power_of_two in (False, True)
    }


ROWS = _by_input("quantize_rows", _rows_kernel, 4, ROWS=64)
COLUMNS = _by_input("quantize_columns", _columns_kernel, 4, COLUMNS=64, GROUP=8)
BOTH_ODD = {
    key: configuration._replace(any_size=("rows", "columns", "stride"))
    for key, configuration in _by_input("quantize_both_odd", _both_kernel, 16, GROUP=8).items()
}
"""For columns or a row stride that are no multiple of 16."""
BOTH = {
    # Two programs fit a multiprocessor: one computes while the other waits for memory.
    key: configuration._replace(max_registers=128)
    for key, configuration in _by_input("quantize_both", _both_kernel, 8, GROUP=8).items()
}
BLOCKS = _by_input("quantize_blocks", _blocks_kernel, 8)
TRANSPOSE = Configuration(
    "transpose_blocks",
    _transpose_kernel,
    {"codes": "*u8", "words": "*i32", "rows": "i32", "columns": "i32"},
    {"GROUP": 8},
    num_warps=4,
    num_stages=1,
    any_size=("rows", "columns"),
)
CONFIGURATIONS = [*ROWS.values(), *COLUMNS.values(), *BOTH.values(), *BOTH_ODD.values(), *BLOCKS.values(), TRANSPOSE]


def quantize_rows(x: torch.Tensor, power_of_two: bool = False) -> Quantized:
    """1x128 blocks of x [R, C]: one scale for 128 neighbouring numbers of a row."""
    x, is_turned = _rows_contiguous(x)
    return _columns(x, power_of_two) if is_turned else _rows(x, power_of_two)


def quantize_columns(x: torch.Tensor, power_of_two: bool = False) -> Quantized:
    """The transpose of x [R, C] in 1x128 blocks: codes [C, R padded], one scale for 128 neighbours of a column."""
    x, is_turned = _rows_contiguous(x)
    return _rows(x, power_of_two) if is_turned else _columns(x, power_of_two)


def quantize_both(x: torch.Tensor, power_of_two: bool = False) -> tuple[Quantized, Quantized]:
    """`quantize_rows` and `quantize_columns` of the same matrix in one read of it."""
    x, is_turned = _rows_contiguous(x)
    by_row, by_column = _both(x, power_of_two)
    return (by_column, by_row) if is_turned else (by_row, by_column)


def quantize_blocks(w: torch.Tensor, power_of_two: bool = False) -> Quantized:
    """128x128 blocks of w [R, C]; a block at the edge has the numbers that are there."""
    w = _checked(w)
    rows, columns = w.shape
    row_blocks, column_blocks = blocks_in(rows), blocks_in(columns)
    codes = w.new_empty((rows, column_blocks * BLOCK), dtype=E4M3)
    scales = w.new_empty((row_blocks, column_blocks), dtype=torch.float32)
    arguments = (w, codes.view(torch.uint8), scales, rows, columns, w.stride(0))
    _launch(BLOCKS[w.dtype, power_of_two], row_blocks * column_blocks, arguments)
    return Quantized(codes, scales)


def transpose_blocks(w: Quantized, rows: int, columns: int) -> Quantized:
    """The transpose of `quantize_blocks` of a [rows, columns] matrix, bit for bit."""
    codes = w.codes.contiguous()
    turned = codes.new_empty((columns, blocks_in(rows) * BLOCK))
    arguments = (codes.view(torch.uint8), _words(turned), rows, columns)
    _launch(TRANSPOSE, blocks_in(rows) * blocks_in(columns), arguments)
    return Quantized(turned, w.scales.t().contiguous())


def _rows(x: torch.Tensor, power_of_two: bool) -> Quantized:
    rows, columns = x.shape
    result = _empty(x, rows, columns)
    configuration = ROWS[x.dtype, power_of_two]
    programs = triton.cdiv(rows, configuration.constexprs["ROWS"]) * blocks_in(columns)
    _launch(configuration, programs, (x, result.codes.view(torch.uint8), result.scales, rows, columns, x.stride(0)))
    return result


def _columns(x: torch.Tensor, power_of_two: bool) -> Quantized:
    rows, columns = x.shape
    result = _empty(x, columns, rows)
    configuration = COLUMNS[x.dtype, power_of_two]
    programs = blocks_in(rows) * triton.cdiv(columns, configuration.constexprs["COLUMNS"])
    _launch(configuration, programs, (x, _words(result.codes), result.scales, rows, columns, x.stride(0)))
    return result


def _both(x: torch.Tensor, power_of_two: bool) -> tuple[Quantized, Quantized]:
    rows, columns = x.shape
    by_row, by_column = _empty(x, rows, columns), _empty(x, columns, rows)
    outputs = (by_row.codes.view(torch.uint8), by_row.scales, _words(by_column.codes), by_column.scales)
    arguments = (x, *outputs, rows, columns, x.stride(0))
    is_odd = columns % 16 or x.stride(0) % 16 or x.data_ptr() % 16
    _launch((BOTH_ODD if is_odd else BOTH)[x.dtype, power_of_two], blocks_in(rows) * blocks_in(columns), arguments)
    return by_row, by_column


def _empty(x: torch.Tensor, rows: int, columns: int) -> Quantized:
    """Room for a [rows, columns] matrix in 1x128 blocks."""
    num_blocks = blocks_in(columns)
    codes = x.new_empty((rows, num_blocks * BLOCK), dtype=E4M3)
    return Quantized(codes, x.new_empty((num_blocks, rows), dtype=torch.float32).t())


def _words(codes: torch.Tensor) -> torch.Tensor:
    """int32 words of four codes; a matrix without numbers cannot be seen so, and is not written."""
    return codes.view(torch.int32) if codes.numel() else codes


def _rows_contiguous(x: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """(x or its transpose with contiguous rows, whether it is the transpose)."""
    if x.dim() == 2 and x.stride(0) == 1 and x.stride(1) != 1:
        return _checked(x.t()), True
    return _checked(x), False


def _checked(x: torch.Tensor) -> torch.Tensor:
    """x with contiguous rows, if a kernel can take it."""
    if x.dim() != 2 or x.dtype not in INPUTS:
        raise Fp8Error(
            f"FP8 quantiser: found {x.dtype} of shape {list(x.shape)}. "
            "It takes a matrix of bfloat16, float16 or float32. Reshape or cast it first."
        )
    if max(*x.shape, x.stride(0)) > LARGEST_SIDE:
        raise Fp8Error(
            f"FP8 quantiser: found a matrix of shape {list(x.shape)} with row stride {x.stride(0)}. "
            f"Sides and stride are at most {LARGEST_SIDE}. Quantise it in parts."
        )
    return x if x.stride(1) == 1 else x.contiguous()


def _launch(configuration: Configuration, programs: int, arguments: tuple[torch.Tensor | int, ...]) -> None:
    """Run the kernel on the device of its first argument; nothing runs for a matrix without numbers."""
    constants = dict(configuration.constexprs)
    if "EMULATE" in constants:
        constants["EMULATE"] = INTERPRETED
    if programs:
        with torch.cuda.device_of(arguments[0]):
            configuration.kernel[(programs,)](*arguments, **constants, **configuration.options)
