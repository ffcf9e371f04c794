"""The Triton quantiser in the interpreter, bit for bit the reference, and what it refuses.

TRITON_INTERPRET=1 has to be set before triton is imported, so all of it runs in one process of its own.
"""

import pytest
import torch
from interpreter import interpreted_lines
from quantizer_data import KINDS

pytest.importorskip("triton")

from distill.fp8.errors import Fp8Error
from distill.fp8.kernels import quantize


@pytest.fixture(scope="module")
def interpreted() -> list[str]:
    return interpreted_lines("interpreted_quantize.py")


@pytest.mark.parametrize("case", [*KINDS, "strides", "no rows"])
def test_kernels_give_the_bits_of_the_reference(interpreted, case):
    assert f"same: {case}" in interpreted


@pytest.mark.parametrize("x", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.float64)], ids=["vector", "float64"])
def test_what_cannot_be_quantised_is_named(x):
    with pytest.raises(Fp8Error, match="takes a matrix of bfloat16, float16 or float32"):
        quantize.quantize_rows(x)


def test_a_side_beyond_32_bit_places_is_refused():
    x = torch.zeros(1).expand(1, 2**24 + 1)
    with pytest.raises(Fp8Error, match="at most 16777216"):
        quantize.quantize_rows(x)
