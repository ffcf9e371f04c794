"""The division of kernels/scale.py, made of multiply-adds, is the division: the same steps in wider arithmetic."""

import numpy as np
import pytest

pytest.importorskip("triton")


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c rounded once: the product of two float32 is exact in 64 bits of mantissa."""
    wide = np.longdouble
    if np.finfo(wide).nmant < 63:
        pytest.skip("numpy has no 80-bit floats on this machine")
    return (a.astype(wide) * b.astype(wide) + c.astype(wide)).astype(np.float32)


@pytest.mark.parametrize("reciprocal_error", [-1, 0, 1])
def test_both_quotients_are_rounded_to_nearest(reciprocal_error):
    lowest, infinity = 0x08800000, 0x7F800000  # 2^-110
    bits = np.random.default_rng(0).integers(lowest, infinity, 400_000, dtype=np.int32)
    amax = np.concatenate([bits, [lowest, infinity - 1]]).astype(np.int32).view(np.float32)
    most, part = np.float32(448), np.float32(1 / 448)
    most, part = np.full_like(amax, most), np.full_like(amax, part)

    quotient = amax * part
    scale = fma(fma(quotient, -most, amax), part, quotient)
    np.testing.assert_array_equal(scale, amax / most)

    shrink = np.where(amax > 2.0**64, np.float32(2.0**-64), np.float32(1))
    small = amax * shrink
    near = ((np.float32(1) / small).view(np.int32) + reciprocal_error).view(np.float32)
    near = fma(fma(-small, near, np.ones_like(amax)), near, near)
    quotient = near * most
    inverse = fma(fma(-small, quotient, most), near, quotient) * shrink
    np.testing.assert_array_equal(inverse, most / amax)
