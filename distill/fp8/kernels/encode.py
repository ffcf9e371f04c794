"""float32 to E4M3 inside a Triton kernel: the device's own cast, or the same in integers for the interpreter.

    codes = encode_e4m3(x * inverse, EMULATE)                  # uint8, whatever the shape of x
    tl.store(codes_ptr + offsets, codes, mask=mask)            # codes_ptr: tensor.view(torch.uint8)

A launcher passes EMULATE=INTERPRETED (kernels/configuration.py). Both ways round to nearest even, saturate at 448
(infinity too), keep the sign of zero and give 0x7F for NaN of either sign; torch on a CPU gives 0xFF for NaN with a
sign bit, the one difference from `quantize.encode`.

On a device the cast is the instruction cvt.rn.satfinite.e4m3x2.f32 (PTX ISA, section "cvt"). The interpreter of Triton
loses the carry of the mantissa in this cast (triton-lang/triton#8322), hence the integers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def encode_e4m3(x, EMULATE: tl.constexpr):
    """uint8 E4M3 codes of float32 x: nearest even, saturating at 448, NaN is 0x7F."""
    if EMULATE:
        return _encode_in_integers(x)
    return x.to(tl.float8e4nv).to(tl.uint8, bitcast=True)


@triton.jit
def _encode_in_integers(x):
    """The same without the cast. E4M3: 3 bits of mantissa, exponent bias 7, subnormal below 2^-6 in steps of 2^-9."""
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    sign = (bits >> 24) & 0x80
    # Round away the lower 20 of 23 mantissa bits, ties to even; a carry walks into the exponent. Then bias 127 -> 7.
    clipped = tl.minimum(magnitude, 0x43E00000)  # 448
    normal = ((clipped + 0x7FFFF + ((clipped >> 20) & 1)) >> 20) - (120 << 3)
    # 2^14 + |x| is rounded to a multiple of 2^-9 by the addition itself.
    shifted = clipped.to(tl.float32, bitcast=True) + 16384.0
    subnormal = shifted.to(tl.int32, bitcast=True) - 0x46800000
    code = tl.where(clipped < 0x3C800000, subnormal, normal) | sign  # 2^-6
    return tl.where(magnitude > 0x7F800000, 0x7F, code).to(tl.uint8)
