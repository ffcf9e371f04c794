"""The fused SwiGLU kernels in the interpreter against the reference, and what they refuse.

TRITON_INTERPRET=1 has to be set before triton is imported, so the kernels run in one process of their own.
"""

import pytest
import torch
from interpreter import interpreted_lines

pytest.importorskip("triton")

from distill.fp8.errors import Fp8Error
from distill.fp8.kernels import swiglu


@pytest.fixture(scope="module")
def interpreted() -> list[str]:
    return interpreted_lines("interpreted_swiglu.py")


@pytest.mark.parametrize(
    "case", ["one token", "tokens no multiple of 128", "float32", "float32 gradient", "not finite"]
)
def test_kernels_agree_with_the_reference(interpreted, case):
    assert f"same: {case}" in interpreted


def test_a_width_that_cannot_be_blocked_is_named():
    with pytest.raises(Fp8Error, match="gate_up is 384 wide, so I is 192; I must be a multiple of 128"):
        swiglu.swiglu_quantize(torch.zeros(2, 384), False)
    with pytest.raises(Fp8Error, match="at least one token"):
        swiglu.swiglu_quantize_stash(torch.zeros(0, 256), False)


def test_a_gradient_of_another_shape_is_named():
    with pytest.raises(Fp8Error, match=r"gradient of shape \[2, 256\] for gate_up \[2, 256\]; give \[2, 128\]"):
        swiglu.swiglu_backward_quantize(torch.zeros(2, 256), torch.zeros(2, 256), False)
