"""The fused RMSNorm kernels in the interpreter against the reference, and what they refuse.

TRITON_INTERPRET=1 has to be set before triton is imported, so the kernels run in one process of their own.
"""

import pytest
import torch
from interpreter import interpreted_lines

pytest.importorskip("triton")

from distill.fp8.errors import Fp8Error
from distill.fp8.kernels import norm


@pytest.fixture(scope="module")
def interpreted() -> list[str]:
    return interpreted_lines("interpreted_norm.py")


@pytest.mark.parametrize("case", ["one token", "tokens no multiple of 128", "float32", "wide", "not finite", "strides"])
def test_kernels_agree_with_the_reference(interpreted, case):
    assert f"same: {case}" in interpreted


@pytest.mark.parametrize("width", [100, 8320])
def test_a_width_that_does_not_fit_is_named(width):
    with pytest.raises(Fp8Error, match=f"is {width} wide; allowed is a multiple of 128 up to 8192"):
        norm.rms_norm_quantize(torch.zeros(2, width), torch.ones(width), 1e-6, False)


def test_shapes_that_do_not_belong_together_are_named():
    hidden, weight = torch.zeros(2, 128), torch.ones(128)
    with pytest.raises(Fp8Error, match=r"\[2, 128\] and \[256\]"):
        norm.rms_norm_quantize_columns(hidden, torch.ones(256), torch.ones(2), False)
    with pytest.raises(Fp8Error, match=r"\[3, 128\] and \[2, 128\]"):
        norm.rms_norm_backward(torch.zeros(3, 128), hidden, weight, torch.ones(2))
    with pytest.raises(Fp8Error, match="no tokens"):
        norm.rms_norm_quantize(torch.zeros(0, 128), weight, 1e-6, False)
