"""On a GPU: the benchmark's checks, each by itself, and a training step by the device's own FP8 kernels.

    pytest -m gpu tests/gpu/test_training_step.py

The checks are in benchmarks/gpu/correctness.py, so that scripts/bench_gpu.sh runs them where there is no pytest.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu.correctness import CHECKS, small_student
from benchmarks.gpu.products import backends
from distill.fp8 import receipt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: FP8 kernels were not run"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_check(name):
    assert CHECKS[name](torch.device("cuda"))


def test_steps_lower_the_loss_by_the_devices_own_kernel():
    device = torch.device("cuda")
    student, batch = small_student(device)
    for group in student.optimizer.param_groups:
        group["lr"] = 1e-3
    student.use("fast", recompute=False)
    losses = [float(student.step(batch)[0]) for _ in range(10)]
    assert losses[-1] < losses[0] - 0.5
    assert set(receipt(student.model).kernels()) == {backends(device)[0]}
