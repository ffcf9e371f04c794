"""The Triton quantiser in the interpreter, bit for bit the reference, and what it refuses.

TRITON_INTERPRET=1 has to be set before triton is imported, so all of it runs in one process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quantizer_data import KINDS

pytest.importorskip("triton")

from distill.fp8.errors import Fp8Error
from distill.fp8.kernels import quantize

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def interpreted() -> list[str]:
    """Lines that the process printed."""
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-W", "ignore", str(FOLDER / "interpreted_quantize.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout.splitlines()


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
