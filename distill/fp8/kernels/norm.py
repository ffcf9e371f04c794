"""RMSNorm that writes FP8 in the same step, and its backward, in Triton; the definitions are in distill/fp8/fused.py.

    normed, rstd = rms_norm_quantize(hidden, weight, 1e-6, power_of_two=False)
    columns = rms_norm_quantize_columns(hidden, weight, rstd, power_of_two=False)
    grad_hidden, grad_weight = rms_norm_backward(grad, hidden, weight, rstd)

All three are bound by memory: each number is read once and written once. hidden and grad are bf16 or fp32, weight
either; arithmetic is float32. The width K is a multiple of 128 up to 8192. The gradient of the weight is summed in a
fixed order, without atomics, so the same call on the same device gives the same bits.

Source: DeepSeek-V3, arXiv 2412.19437, section 3.2.3 (RMSNorm is recomputed in the backward) and 3.3.2 (1x128 tiles).

Letters for sizes: T tokens, K width of the hidden state.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from distill.fp8.errors import Fp8Error
from distill.fp8.kernels.configuration import INTERPRETED, Configuration
from distill.fp8.kernels.encode import encode_e4m3
from distill.fp8.kernels.scale import magnitude_bits, scale_of
from distill.fp8.kernels.tile import load_tile, store_scales, store_tile
from distill.fp8.quantize import BLOCK, E4M3, Quantized, blocks_in

MAX_WIDTH = 8192
"""A program holds whole rows in registers."""
PROGRAMS_PER_MULTIPROCESSOR = 2
"""Of the backward: each walks over many rows and leaves one partial sum of the weight's gradient."""


@triton.jit
def _rows_kernel(
    hidden,
    weight,
    codes,
    scales,
    rstd,
    num_tokens,
    num_blocks,
    eps,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """ROWS whole rows as [ROWS, BLOCKS, 128]; the blocks after num_blocks are not there."""
    width = num_blocks * 128
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = tl.arange(0, ROWS)
    block = tl.arange(0, BLOCKS)
    inside = block[None, :, None] * 128 + tl.arange(0, 128)[None, None, :]
    offsets = row[:, None, None] * width + inside
    is_row = first + row < num_tokens
    is_block = block < num_blocks
    mask = is_row[:, None, None] & is_block[None, :, None]

    x = tl.load(hidden + first * width + offsets, mask=mask, other=0.0).to(tl.float32)
    w = tl.load(weight + inside, mask=is_block[None, :, None], other=0.0).to(tl.float32)
    mean_square = tl.div_rn(tl.sum(tl.sum(x * x, axis=2), axis=1), width.to(tl.float32))
    row_rstd = tl.div_rn(1.0, tl.sqrt_rn(mean_square + eps))
    tl.store(rstd + first + row, row_rstd, mask=is_row)

    normed = (x * row_rstd[:, None, None]) * w
    scale, inverse = scale_of(tl.max(magnitude_bits(normed), axis=2), POWER_OF_TWO)
    column_of_scales = block[None, :].to(tl.int64) * num_tokens
    mask_scales = is_row[:, None] & is_block[None, :]
    tl.store(scales + first + row[:, None] + column_of_scales, scale, mask=mask_scales)
    tl.store(codes + first * width + offsets, encode_e4m3(normed * inverse[:, :, None], EMULATE), mask=mask)


@triton.jit
def _columns_kernel(
    hidden,
    weight,
    rstd,
    codes,
    scales,
    num_tokens,
    num_blocks,
    CHANNELS: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """128 tokens x CHANNELS, written transposed; tokens after the last are zeros."""
    width = num_blocks * 128
    strips = width // CHANNELS
    first_token = tl.program_id(0) // strips * 128
    first_channel = tl.program_id(0) % strips * CHANNELS
    token = first_token + tl.arange(0, 128)
    is_token = token < num_tokens

    x = load_tile(hidden, first_token, first_channel, num_tokens, width, width, 128, CHANNELS).to(tl.float32)
    row_rstd = tl.load(rstd + token, mask=is_token, other=0.0)
    w = tl.load(weight + first_channel + tl.arange(0, CHANNELS)).to(tl.float32)
    normed = tl.where(is_token[:, None], (x * row_rstd[:, None]) * w[None, :], 0.0)

    scale, inverse = scale_of(tl.max(magnitude_bits(normed), axis=0), POWER_OF_TWO)
    store_scales(scales, scale, first_channel, first_token, width, CHANNELS)
    turned = tl.trans(encode_e4m3(normed * inverse[None, :], EMULATE))
    store_tile(codes, turned, first_channel, first_token, width, tl.cdiv(num_tokens, 128) * 128, CHANNELS, 128)


@triton.jit
def _backward_kernel(
    grad,
    hidden,
    weight,
    rstd,
    grad_hidden,
    partial,
    num_tokens,
    num_blocks,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Rows ROWS * p, ROWS * (p + P), ... of program p of P; its sum for the weight's gradient goes to partial[p]."""
    width = num_blocks * 128
    row = tl.arange(0, ROWS)
    block = tl.arange(0, BLOCKS)
    inside = block[None, :, None] * 128 + tl.arange(0, 128)[None, None, :]
    offsets = row[:, None, None] * width + inside
    is_block = block < num_blocks
    w = tl.load(weight + inside, mask=is_block[None, :, None], other=0.0).to(tl.float32)
    total = tl.zeros([ROWS, BLOCKS, 128], dtype=tl.float32)

    first = tl.program_id(0).to(tl.int64) * ROWS
    while first < num_tokens:
        is_row = first + row < num_tokens
        mask = is_row[:, None, None] & is_block[None, :, None]
        x = tl.load(hidden + first * width + offsets, mask=mask, other=0.0).to(tl.float32)
        g = tl.load(grad + first * width + offsets, mask=mask, other=0.0).to(tl.float32)
        row_rstd = tl.load(rstd + first + row, mask=is_row, other=0.0)
        unit = x * row_rstd[:, None, None]
        total += g * unit
        weighted = g * w
        mean = tl.div_rn(tl.sum(tl.sum(weighted * unit, axis=2), axis=1), width.to(tl.float32))
        result = (weighted - unit * mean[:, None, None]) * row_rstd[:, None, None]
        tl.store(grad_hidden + first * width + offsets, result.to(grad_hidden.dtype.element_ty), mask=mask)
        first += tl.num_programs(0) * ROWS

    inside_row = block[:, None] * 128 + tl.arange(0, 128)[None, :]
    sums = partial + tl.program_id(0).to(tl.int64) * width
    tl.store(sums + inside_row, tl.sum(total, axis=0), mask=is_block[:, None])


class _Shape:
    """How many rows a program holds, as [ROWS, BLOCKS, 128], and its warps, by the next power of two of the width."""

    NUMBERS = 4096
    WIDTHS = (1024, 2048, 4096, 8192)

    @classmethod
    def of(cls, next_width: int) -> dict[str, int]:
        return {"ROWS": max(1, cls.NUMBERS // next_width), "BLOCKS": next_width // BLOCK}


def _rows_configuration(next_width: int, power_of_two: bool, dtype: str = "bf16") -> Configuration:
    signature = {"hidden": f"*{dtype}", "weight": f"*{dtype}", "codes": "*u8", "scales": "*fp32", "rstd": "*fp32"}
    signature |= {"num_tokens": "i32", "num_blocks": "i32", "eps": "fp32"}
    constexprs = {**_Shape.of(next_width), "POWER_OF_TWO": power_of_two, "EMULATE": False}
    name = f"rms_norm_quantize-{next_width}-{dtype}{'-power_of_two' if power_of_two else ''}"
    return Configuration(name, _rows_kernel, signature, constexprs, 8 if next_width > 4096 else 4, 1)


def _columns_configuration(power_of_two: bool, dtype: str = "bf16") -> Configuration:
    signature = {"hidden": f"*{dtype}", "weight": f"*{dtype}", "rstd": "*fp32", "codes": "*u8", "scales": "*fp32"}
    signature |= {"num_tokens": "i32", "num_blocks": "i32"}
    constexprs = {"CHANNELS": 64, "POWER_OF_TWO": power_of_two, "EMULATE": False}
    name = f"rms_norm_quantize_columns-{dtype}{'-power_of_two' if power_of_two else ''}"
    return Configuration(name, _columns_kernel, signature, constexprs, 4, 1)


def _backward_configuration(next_width: int, dtype: str = "bf16") -> Configuration:
    signature = {"grad": f"*{dtype}", "hidden": f"*{dtype}", "weight": f"*{dtype}", "rstd": "*fp32"}
    signature |= {"grad_hidden": f"*{dtype}", "partial": "*fp32", "num_tokens": "i32", "num_blocks": "i32"}
    name = f"rms_norm_backward-{next_width}-{dtype}"
    return Configuration(name, _backward_kernel, signature, _Shape.of(next_width), 16 if next_width > 4096 else 8, 1)


_ROWS = {(width, two): _rows_configuration(width, two) for width in _Shape.WIDTHS for two in (False, True)}
_COLUMNS = {two: _columns_configuration(two) for two in (False, True)}
_BACKWARD = {width: _backward_configuration(width) for width in _Shape.WIDTHS}
CONFIGURATIONS = [
    *_ROWS.values(),
    *_COLUMNS.values(),
    *_BACKWARD.values(),
    # The same in float32, where a number takes twice the registers until it is used: the widest of each.
    _rows_configuration(MAX_WIDTH, False, "fp32"),
    _columns_configuration(False, "fp32"),
    _backward_configuration(MAX_WIDTH, "fp32"),
]


def rms_norm_quantize(
    hidden: torch.Tensor, weight: torch.Tensor, eps: float, power_of_two: bool
) -> tuple[Quantized, torch.Tensor]:
    """The normed hidden state [T, K] in 1x128 blocks, and rstd [T] for the backward."""
    next_width = _next_width("rms_norm_quantize", hidden, weight)
    tokens, width = hidden.shape
    codes = torch.empty(tokens, width, dtype=torch.uint8, device=hidden.device)
    scales = torch.empty(width // BLOCK, tokens, dtype=torch.float32, device=hidden.device).t()
    rstd = torch.empty(tokens, dtype=torch.float32, device=hidden.device)
    chosen = _ROWS[next_width, power_of_two]
    grid = (triton.cdiv(tokens, chosen.constexprs["ROWS"]),)
    constants = {**chosen.constexprs, "EMULATE": INTERPRETED}
    with torch.cuda.device_of(hidden):
        _rows_kernel[grid](
            hidden.contiguous(),
            weight.contiguous(),
            codes,
            scales,
            rstd,
            tokens,
            width // BLOCK,
            eps,
            **constants,
            **chosen.options,
        )
    return Quantized(codes.view(E4M3), scales), rstd


def rms_norm_quantize_columns(
    hidden: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, power_of_two: bool
) -> Quantized:
    """The normed hidden state again, transposed [K, T padded], for the weight gradient."""
    _next_width("rms_norm_quantize_columns", hidden, weight)
    tokens, width = hidden.shape
    token_blocks = blocks_in(tokens)
    codes = torch.empty(width, token_blocks * BLOCK, dtype=torch.uint8, device=hidden.device)
    scales = torch.empty(token_blocks, width, dtype=torch.float32, device=hidden.device).t()
    chosen = _COLUMNS[power_of_two]
    grid = (token_blocks * (width // chosen.constexprs["CHANNELS"]),)
    constants = {**chosen.constexprs, "EMULATE": INTERPRETED}
    with torch.cuda.device_of(hidden):
        _columns_kernel[grid](
            hidden.contiguous(),
            weight.contiguous(),
            rstd.contiguous(),
            codes,
            scales,
            tokens,
            width // BLOCK,
            **constants,
            **chosen.options,
        )
    return Quantized(codes.view(E4M3), scales)


def rms_norm_backward(
    grad: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of hidden [T, K], in its dtype, and of weight [K], float32, from the gradient of the normed state."""
    next_width = _next_width("rms_norm_backward", hidden, weight)
    if grad.shape != hidden.shape:
        found = f"{list(grad.shape)} and {list(hidden.shape)}"
        raise Fp8Error(f"rms_norm_backward: gradient and hidden state have shapes {found}; give two of one shape.")
    tokens, width = hidden.shape
    chosen = _BACKWARD[next_width]
    programs = min(triton.cdiv(tokens, chosen.constexprs["ROWS"]), _most_programs(hidden.device))
    grad_hidden = torch.empty(tokens, width, dtype=hidden.dtype, device=hidden.device)
    partial = torch.empty(programs, width, dtype=torch.float32, device=hidden.device)
    with torch.cuda.device_of(hidden):
        _backward_kernel[(programs,)](
            grad.contiguous(),
            hidden.contiguous(),
            weight.contiguous(),
            rstd.contiguous(),
            grad_hidden,
            partial,
            tokens,
            width // BLOCK,
            **chosen.constexprs,
            **chosen.options,
        )
    return grad_hidden, partial.sum(dim=0)


def _most_programs(device: torch.device) -> int:
    """Programs of the backward on this device; two in the interpreter, so that each walks over several rows there."""
    if device.type != "cuda":
        return 2
    return PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


def _next_width(name: str, hidden: torch.Tensor, weight: torch.Tensor) -> int:
    """The entry of _Shape.WIDTHS that holds a row of hidden [T, K]."""
    if hidden.dim() != 2 or weight.shape != hidden.shape[1:]:
        found = f"{list(hidden.shape)} and {list(weight.shape)}"
        raise Fp8Error(f"{name}: hidden state and weight have shapes {found}; give [tokens, K] and [K].")
    tokens, width = hidden.shape
    if width % BLOCK or not BLOCK <= width <= MAX_WIDTH:
        allowed = f"a multiple of {BLOCK} up to {MAX_WIDTH}"
        raise Fp8Error(f"{name}: the hidden state is {width} wide; allowed is {allowed}. Keep this norm in BF16.")
    if tokens == 0:
        raise Fp8Error(f"{name}: the hidden state has no tokens; give at least one row.")
    return next(size for size in _Shape.WIDTHS if size >= width)
