"""Scale of a block from its largest magnitude, inside a Triton kernel; bit for bit `quantize.scale_of`.

    scale, inverse = scale_of(tl.max(magnitude_bits(x), axis=1), POWER_OF_TWO)
    codes = encode_e4m3(x * inverse[:, None], EMULATE)

The maximum is taken over the bits of |x| as integers: for numbers that is the same order, and NaN is above infinity, so
that it survives where tl.max of floats would drop it.

Every thread that holds a part of a block works out the block's scale, and a division with its branch for odd numbers
costs more there than the rest of the kernel. So both quotients are made of multiply-adds, which round correctly for
every amax there can be (Markstein, IBM J. Res. Dev. 34(1), 1990: one step from a quotient and a reciprocal that are
almost right); the interpreter, whose multiply-add rounds twice, divides.

Source: the numbers are those of distill/fp8/quantize.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from distill.fp8.kernels.configuration import INTERPRETED
from distill.fp8.quantize import AMAX_FLOOR, E4M3_MAX

_FLOOR = tl.constexpr(AMAX_FLOOR)
_MAX = tl.constexpr(E4M3_MAX)
_RECIPROCAL_MAX = tl.constexpr(1.0 / E4M3_MAX)
_DIVIDES = tl.constexpr(INTERPRETED)


@triton.jit
def magnitude_bits(x):
    """Bits of |x| of float32 x as int32: ordered like the numbers, NaN above infinity."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def scale_of(amax_bits, POWER_OF_TWO: tl.constexpr):
    """(scale, inverse) of blocks whose largest magnitudes have these bits, float32 of the same shape."""
    amax = amax_bits.to(tl.float32, bitcast=True)
    amax = tl.where(amax < _FLOOR, _FLOOR, amax)  # keeps NaN
    if _DIVIDES:
        scale = tl.div_rn(amax, _MAX)
        inverse = tl.div_rn(_MAX, amax)
    else:
        scale, inverse = _divided(amax)
    if POWER_OF_TWO:
        bits = scale.to(tl.int32, bitcast=True)
        exponent = (bits >> 23) + ((bits & 0x7FFFFF) != 0).to(tl.int32)
        is_finite = bits < 0x7F800000
        scale = tl.where(is_finite, (exponent << 23).to(tl.float32, bitcast=True), scale)
        inverse = tl.where(is_finite, ((254 - exponent) << 23).to(tl.float32, bitcast=True), inverse)
    return scale, inverse


@triton.jit
def reciprocal(x):
    """1 / x to the last bit or the one beside it; x and the result are normal numbers."""
    if _DIVIDES:
        return 1.0 / x
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _divided(amax):
    """(amax / 448, 448 / amax), rounded to nearest, for amax from 2^-110 to infinity, or NaN."""
    quotient = amax * _RECIPROCAL_MAX
    scale = tl.fma(tl.fma(quotient, -_MAX, amax), _RECIPROCAL_MAX, quotient)
    is_infinite = amax == float("inf")
    shrink = tl.where(amax > 1.8446744073709552e19, 5.421010862427522e-20, 1.0)  # 2^64, 2^-64: no subnormal reciprocal
    small = amax * shrink
    near = reciprocal(small)
    near = tl.fma(tl.fma(-small, near, 1.0), near, near)
    quotient = near * _MAX
    inverse = tl.fma(tl.fma(-small, quotient, _MAX), near, quotient) * shrink
    return tl.where(is_infinite, amax, scale), tl.where(is_infinite, 0.0, inverse)
