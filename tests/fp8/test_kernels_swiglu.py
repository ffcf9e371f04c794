"""The fused SwiGLU kernels in the interpreter against the reference, and what they refuse.

TRITON_INTERPRET=1 has to be set before triton is imported, so the kernels run in one process of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from distill.fp8.errors import Fp8Error
from distill.fp8.kernels import swiglu

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def interpreted() -> list[str]:
    """Lines that the process printed."""
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-W", "ignore", str(FOLDER / "interpreted_swiglu.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout.splitlines()


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
