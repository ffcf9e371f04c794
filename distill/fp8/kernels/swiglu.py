"""SwiGLU that writes FP8 in the same step, and its backward, in Triton; the definitions are in distill/fp8/fused.py.

    activation = swiglu_quantize(gate_up, power_of_two=False)                  # gate_up [T, 2 I], bf16 or fp32
    activation, stash = swiglu_quantize_stash(gate_up, power_of_two=False)     # and gate_up itself in FP8, one read
    activation_t, grad_rows, grad_t = swiglu_backward_quantize(grad, stash, power_of_two=False)

All are bound by memory. A program of the backward takes 128 tokens x 128 channels, where the FP8 blocks of a row and of
a column meet, and makes its three results one after another: all numbers of all three would not fit in registers, so
the tiles (32 KB each in bf16) are read again for each result, from the cache rather than from memory. Float32 gate_up,
or a float32 gradient of bf16 gate_up, goes in separate steps. Arithmetic is float32. I is a multiple of 128.

Source: DeepSeek-V3, arXiv 2412.19437, section 3.3.3 (SwiGLU's input is cached in FP8, its output is recomputed).

Letters for sizes: T tokens, I width of the MLP.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from distill.fp8.errors import Fp8Error
from distill.fp8.fused import swiglu_backward
from distill.fp8.kernels.configuration import INTERPRETED, Configuration
from distill.fp8.kernels.encode import encode_e4m3
from distill.fp8.kernels.quantize import quantize_both, quantize_columns
from distill.fp8.kernels.scale import magnitude_bits, reciprocal, scale_of
from distill.fp8.kernels.tile import load_tile, store_scales, store_tile, tile_of_group
from distill.fp8.quantize import BLOCK, E4M3, Quantized, blocks_in, column_major

_DIVIDES = tl.constexpr(INTERPRETED)
_TYPES = {torch.uint8: "u8", torch.bfloat16: "bf16", torch.float32: "fp32"}


@triton.jit
def _forward_kernel(gate_up, codes, scales, stash_codes, stash_scales, num_tokens, num_blocks, TOKENS: tl.constexpr,
                    STASH: tl.constexpr, POWER_OF_TWO: tl.constexpr, EMULATE: tl.constexpr):  # fmt: skip
    """TOKENS x 128 channels of the activation; with STASH of gate and up too."""
    width = num_blocks * 128
    token = tl.program_id(0) // num_blocks * TOKENS
    channel = tl.program_id(0) % num_blocks * 128
    gate = load_tile(gate_up, token, channel, num_tokens, 2 * width, 2 * width, TOKENS, 128).to(tl.float32)
    up = load_tile(gate_up, token, width + channel, num_tokens, 2 * width, 2 * width, TOKENS, 128).to(tl.float32)
    if STASH:
        _write_rows(gate, stash_codes, stash_scales, token, channel, num_tokens, 2 * width, POWER_OF_TWO, EMULATE)
        _write_rows(up, stash_codes, stash_scales, token, width + channel, num_tokens, 2 * width, POWER_OF_TWO, EMULATE)
    activation = gate * _sigmoid(gate) * up
    _write_rows(activation, codes, scales, token, channel, num_tokens, width, POWER_OF_TWO, EMULATE)


@triton.jit
def _backward_kernel(grad, gate_up, gate_up_scales, activation_codes, activation_scales, row_codes, row_scales,
                     column_codes, column_scales, num_tokens, num_blocks, STASHED: tl.constexpr, GROUP: tl.constexpr,
                     POWER_OF_TWO: tl.constexpr, EMULATE: tl.constexpr):  # fmt: skip
    """128 tokens x 128 channels, one result after another; what a result needs is read when its turn comes."""
    width = num_blocks * 128
    token_blocks = tl.cdiv(num_tokens, 128)
    token_block, channel_block = tile_of_group(tl.program_id(0), token_blocks, num_blocks, GROUP)
    token = token_block * 128
    channel = channel_block * 128
    padded = token_blocks * 128

    gate = _load_gate_up(gate_up, gate_up_scales, token, channel, num_tokens, 2 * width, STASHED, EMULATE)
    activation = gate * _sigmoid(gate)
    activation *= _load_gate_up(
        gate_up, gate_up_scales, token, width + channel, num_tokens, 2 * width, STASHED, EMULATE
    )
    _write_columns(activation, activation_codes, activation_scales, token, channel, padded, width, POWER_OF_TWO,
                   EMULATE)  # fmt: skip

    gate = _load_gate_up(gate_up, gate_up_scales, token, channel, num_tokens, 2 * width, STASHED, EMULATE)
    grad_up = gate * _sigmoid(gate)
    grad_up *= load_tile(grad, token, channel, num_tokens, width, width, 128, 128).to(tl.float32)
    _write_rows(grad_up, row_codes, row_scales, token, width + channel, num_tokens, 2 * width, POWER_OF_TWO, EMULATE)
    _write_columns(grad_up, column_codes, column_scales, token, width + channel, padded, 2 * width, POWER_OF_TWO,
                   EMULATE)  # fmt: skip

    gate = _load_gate_up(gate_up, gate_up_scales, token, channel, num_tokens, 2 * width, STASHED, EMULATE)
    sigmoid = _sigmoid(gate)
    grad_gate = sigmoid * (1.0 + gate * (1.0 - sigmoid))
    grad_gate *= _load_gate_up(gate_up, gate_up_scales, token, width + channel, num_tokens, 2 * width, STASHED, EMULATE)
    grad_gate *= load_tile(grad, token, channel, num_tokens, width, width, 128, 128).to(tl.float32)
    _write_rows(grad_gate, row_codes, row_scales, token, channel, num_tokens, 2 * width, POWER_OF_TWO, EMULATE)
    _write_columns(grad_gate, column_codes, column_scales, token, channel, padded, 2 * width, POWER_OF_TWO, EMULATE)


@triton.jit
def _sigmoid(x):
    """1 / (1 + e^-x): two approximate instructions, each right to about the last bit; 0 and 1 at the ends."""
    if _DIVIDES:
        return 1.0 / (1.0 + tl.exp(-x))
    scaled = x * -1.4426950408889634  # log2 e
    power = tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [scaled], dtype=tl.float32, is_pure=True,
                                      pack=1)  # fmt: skip
    return reciprocal(1.0 + power)


@triton.jit
def _load_gate_up(gate_up, scales, token, channel, num_tokens, width, STASHED: tl.constexpr, EMULATE: tl.constexpr):
    """float32 [128, 128] of gate_up, from numbers or from FP8 codes and their scales."""
    values = load_tile(gate_up, token, channel, num_tokens, width, width, 128, 128)
    if STASHED:
        is_nan = (values & 0x7F) == 0x7F
        values = values.to(tl.float8e4nv, bitcast=True).to(tl.float32)
        if EMULATE:  # Triton's interpreter reads the code of NaN as 480
            values = tl.where(is_nan, float("nan"), values)
        row = token + tl.arange(0, 128)
        scale = tl.load(scales + (channel // 128).to(tl.int64) * num_tokens + row, mask=row < num_tokens, other=0.0)
        values = values * scale[:, None]
    return values.to(tl.float32)


@triton.jit
def _write_rows(x, codes, scales, token, channel, num_tokens, width, POWER_OF_TWO: tl.constexpr,
                EMULATE: tl.constexpr):  # fmt: skip
    """x [tokens, 128] in blocks of a row, to codes [T, width] from (token, channel) on."""
    scale, inverse = scale_of(tl.max(magnitude_bits(x), axis=1), POWER_OF_TWO)
    store_tile(codes, encode_e4m3(x * inverse[:, None], EMULATE), token, channel, num_tokens, width, x.shape[0], 128)
    store_scales(scales, scale, token, channel, num_tokens, x.shape[0])


@triton.jit
def _write_columns(x, codes, scales, token, channel, padded, width, POWER_OF_TWO: tl.constexpr,
                   EMULATE: tl.constexpr):  # fmt: skip
    """x [128, 128] in blocks of a column, to transposed codes [width, padded] from (channel, token) on."""
    scale, inverse = scale_of(tl.max(magnitude_bits(x), axis=0), POWER_OF_TWO)
    turned = tl.trans(encode_e4m3(x * inverse[None, :], EMULATE))
    store_tile(codes, turned, channel, token, width, padded, 128, 128)
    store_scales(scales, scale, channel, token, width, 128)


def _forward_configuration(is_stash: bool, power_of_two: bool, dtype: str = "bf16") -> Configuration:
    signature = {"gate_up": f"*{dtype}", "codes": "*u8", "scales": "*fp32", "num_tokens": "i32", "num_blocks": "i32"}
    constexprs: dict[str, Any] = {"TOKENS": 32, "STASH": is_stash, "POWER_OF_TWO": power_of_two, "EMULATE": False}
    if is_stash:
        signature |= {"stash_codes": "*u8", "stash_scales": "*fp32"}
    else:
        constexprs |= {"stash_codes": None, "stash_scales": None}
    name = f"swiglu_quantize{'_stash' * is_stash}-{dtype}{'-power_of_two' * power_of_two}"
    return Configuration(name, _forward_kernel, signature, constexprs, 4, 1)


def _backward_configuration(source: str, power_of_two: bool, dtype: str = "bf16") -> Configuration:
    """source: dtype of gate_up, "u8" for FP8 codes; dtype: that of the gradient."""
    names = ("activation", "row", "column")
    signature = {"grad": f"*{dtype}", "gate_up": f"*{source}", "num_tokens": "i32", "num_blocks": "i32"}
    signature |= {f"{name}_codes": "*u8" for name in names} | {f"{name}_scales": "*fp32" for name in names}
    is_stashed = source == "u8"
    constexprs: dict[str, Any] = {"STASHED": is_stashed, "GROUP": 8}
    constexprs |= {"POWER_OF_TWO": power_of_two, "EMULATE": False}
    if is_stashed:
        signature["gate_up_scales"] = "*fp32"
    else:
        constexprs["gate_up_scales"] = None
    name = f"swiglu_backward_quantize-{source}-{dtype}{'-power_of_two' * power_of_two}"
    return Configuration(name, _backward_kernel, signature, constexprs, 16, 1)


_FORWARD = {(stash, two): _forward_configuration(stash, two) for stash in (False, True) for two in (False, True)}
_BACKWARD = {
    (source, dtype, two): _backward_configuration(source, two, dtype)
    for source, dtype in (("u8", "bf16"), ("u8", "fp32"), ("bf16", "bf16"))
    for two in (False, True)
}
CONFIGURATIONS = [*_FORWARD.values(), _forward_configuration(True, False, "fp32"), *_BACKWARD.values()]


def swiglu_quantize(gate_up: torch.Tensor, power_of_two: bool) -> Quantized:
    """silu(gate) * up [T, I] in 1x128 blocks."""
    tokens, width = _sizes("swiglu_quantize", gate_up)
    activation = _empty(gate_up.device, tokens, width)
    _forward(gate_up, activation, None, power_of_two)
    return activation


def swiglu_quantize_stash(gate_up: torch.Tensor, power_of_two: bool) -> tuple[Quantized, Quantized]:
    """`swiglu_quantize`, and gate_up itself in 1x128 blocks to keep for the backward; one read of it."""
    tokens, width = _sizes("swiglu_quantize_stash", gate_up)
    activation = _empty(gate_up.device, tokens, width)
    stash = _empty(gate_up.device, tokens, 2 * width)
    _forward(gate_up, activation, stash, power_of_two)
    return activation, stash


def swiglu_backward_quantize(
    grad: torch.Tensor, gate_up: torch.Tensor | Quantized, power_of_two: bool
) -> tuple[Quantized, Quantized, Quantized]:
    """What the three products of the MLP's backward read; gate_up as it was, or its FP8 rows.

    Returns (activation transposed [I, T padded], gradient of gate_up [T, 2 I], the same transposed [2 I, T padded]).
    """
    if isinstance(gate_up, Quantized):
        codes, scales = gate_up.codes.view(torch.uint8), column_major(gate_up.scales)
    else:
        codes, scales = gate_up, None
    tokens, width = _sizes("swiglu_backward_quantize", codes)
    if grad.shape != (tokens, width):
        found = f"{list(grad.shape)} for gate_up {list(codes.shape)}"
        raise Fp8Error(f"swiglu_backward_quantize: gradient of shape {found}; give [{tokens}, {width}].")
    if codes.dtype not in _TYPES or grad.dtype not in _TYPES:
        raise Fp8Error(f"swiglu_backward_quantize: {codes.dtype} and {grad.dtype}; allowed are bfloat16 and float32.")
    kinds = (_TYPES[codes.dtype], _TYPES[grad.dtype], power_of_two)
    if kinds not in _BACKWARD:
        return _backward_in_steps(grad, codes, power_of_two)
    padded = blocks_in(tokens) * BLOCK
    activation = _empty(codes.device, width, padded)
    rows = _empty(codes.device, tokens, 2 * width)
    columns = _empty(codes.device, 2 * width, padded)
    chosen = _BACKWARD[kinds]
    outputs = [tensor for q in (activation, rows, columns) for tensor in (q.codes.view(torch.uint8), q.scales)]
    constants = {**chosen.constexprs, "gate_up_scales": scales, "EMULATE": INTERPRETED}
    sizes = {"num_tokens": tokens, "num_blocks": width // BLOCK}
    names = [f"{name}_{part}" for name in ("activation", "row", "column") for part in ("codes", "scales")]
    with torch.cuda.device_of(codes):
        _backward_kernel[(blocks_in(tokens) * (width // BLOCK),)](
            grad=grad.contiguous(),
            gate_up=codes.contiguous(),
            **dict(zip(names, outputs, strict=True)),
            **sizes,
            **constants,
            **chosen.options,
        )
    return activation, rows, columns


def _backward_in_steps(
    grad: torch.Tensor, gate_up: torch.Tensor, power_of_two: bool
) -> tuple[Quantized, Quantized, Quantized]:
    """The same for float32 gate_up, or a float32 gradient of it in bf16: they do not fit in one kernel's registers."""
    activation, grad_gate_up = swiglu_backward(grad, gate_up)
    return quantize_columns(activation, power_of_two), *quantize_both(grad_gate_up, power_of_two)


def _forward(gate_up: torch.Tensor, activation: Quantized, stash: Quantized | None, power_of_two: bool) -> None:
    tokens, width = activation.codes.shape
    chosen = _FORWARD[stash is not None, power_of_two]
    constants = {**chosen.constexprs, "EMULATE": INTERPRETED}
    constants["stash_codes"] = None if stash is None else stash.codes.view(torch.uint8)
    constants["stash_scales"] = None if stash is None else stash.scales
    programs = triton.cdiv(tokens, chosen.constexprs["TOKENS"]) * (width // BLOCK)
    with torch.cuda.device_of(gate_up):
        _forward_kernel[(programs,)](
            gate_up=gate_up.contiguous(),
            codes=activation.codes.view(torch.uint8),
            scales=activation.scales,
            num_tokens=tokens,
            num_blocks=width // BLOCK,
            **constants,
            **chosen.options,
        )


def _empty(device: torch.device, rows: int, columns: int) -> Quantized:
    """Room for a [rows, columns] matrix in 1x128 blocks; columns is a multiple of 128."""
    codes = torch.empty(rows, columns, dtype=E4M3, device=device)
    return Quantized(codes, torch.empty(columns // BLOCK, rows, dtype=torch.float32, device=device).t())


def _sizes(name: str, gate_up: torch.Tensor) -> tuple[int, int]:
    """(T, I) of gate_up [T, 2 I]."""
    if gate_up.dim() != 2 or gate_up.shape[0] == 0:
        raise Fp8Error(f"{name}: gate_up has shape {list(gate_up.shape)}; give [tokens, 2 I] with at least one token.")
    if gate_up.shape[1] % (2 * BLOCK) or gate_up.shape[1] == 0:
        found = f"gate_up is {gate_up.shape[1]} wide, so I is {gate_up.shape[1] / 2:g}"
        raise Fp8Error(f"{name}: {found}; I must be a multiple of {BLOCK}. Keep this MLP in BF16.")
    return gate_up.shape[0], gate_up.shape[1] // 2
