"""Scale of a block from its largest magnitude, inside a Triton kernel; bit for bit `quantize.scale_of`.

    scale, inverse = scale_of(tl.max(magnitude_bits(x), axis=1), POWER_OF_TWO)
    codes = encode_e4m3(x * inverse[:, None], EMULATE)

The maximum is taken over the bits of |x| as integers: for numbers that is the same order, and NaN is above infinity, so
that it survives where tl.max of floats would drop it.

Source: the numbers are those of distill/fp8/quantize.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from distill.fp8.quantize import AMAX_FLOOR, E4M3_MAX

_FLOOR = tl.constexpr(AMAX_FLOOR)
_MAX = tl.constexpr(E4M3_MAX)


@triton.jit
def magnitude_bits(x):
    """Bits of |x| of float32 x as int32: ordered like the numbers, NaN above infinity."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def scale_of(amax_bits, POWER_OF_TWO: tl.constexpr):
    """(scale, inverse) of blocks whose largest magnitudes have these bits, float32 of the same shape."""
    amax = amax_bits.to(tl.float32, bitcast=True)
    amax = tl.where(amax < _FLOOR, _FLOOR, amax)  # keeps NaN
    scale = tl.div_rn(amax, _MAX)
    inverse = tl.div_rn(_MAX, amax)
    if POWER_OF_TWO:
        bits = scale.to(tl.int32, bitcast=True)
        exponent = (bits >> 23) + ((bits & 0x7FFFFF) != 0).to(tl.int32)
        is_finite = bits < 0x7F800000
        scale = tl.where(is_finite, (exponent << 23).to(tl.float32, bitcast=True), scale)
        inverse = tl.where(is_finite, ((254 - exponent) << 23).to(tl.float32, bitcast=True), inverse)
    return scale, inverse
