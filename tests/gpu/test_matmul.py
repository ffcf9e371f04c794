"""Every FP8 product of this device against the emulation on it, at the shapes of the students.

    python -m pytest tests/gpu/test_matmul.py

Says why and skips where there is no CUDA device with FP8.
"""

import pytest
import torch

from distill.fp8.matmul import candidates, choose, disagreement, emulation, matmul, self_check, supports
from distill.fp8.quantize import Quantized, quantize_blocks, quantize_rows

CAPABILITY = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
BACKENDS = candidates(CAPABILITY) if CAPABILITY else ()
TOKENS = 2048
PROJECTIONS = {  # (N, K)
    "1.5b q": (1536, 1536),
    "1.5b k": (256, 1536),
    "1.5b gate_up": (17920, 1536),
    "1.5b down": (1536, 8960),
    "7b gate_up": (37888, 3584),
    "7b down": (3584, 18944),
    "14b q": (5120, 5120),
    "32b down": (5120, 27648),
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not BACKENDS, reason=f"no CUDA device with FP8 tensor cores here (found {CAPABILITY})"),
]


def heavy_tailed(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator(device="cuda").manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator, device="cuda")
    return x * torch.exp(torch.randn(rows, columns, generator=generator, device="cuda"))


def check(backend: str, a: Quantized, b: Quantized, out_dtype: torch.dtype) -> None:
    assert supports(backend, a, b, CAPABILITY) is None
    got = matmul(a, b, out_dtype, backend)
    assert got.shape == (len(a.codes), len(b.codes)) and got.dtype == out_dtype
    assert disagreement(got, a, b) is None
    want = emulation(a, b, torch.float32)
    # bfloat16 rounds by 2^-9 at most, about a third of it on average; Hopper's accumulation adds less.
    error = float((got.float() - want).norm() / want.norm())
    assert error < (2.0**-8 if out_dtype == torch.bfloat16 else 2.0**-9), f"{backend}: relative error {error:.2e}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_self_check_lets_every_candidate_pass(backend):
    assert self_check(torch.device("cuda"))[backend] is None


@pytest.mark.parametrize("shape", PROJECTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_and_dgrad(backend, shape):
    outputs, inputs = PROJECTIONS[shape]
    for rows_b, inner in ((outputs, inputs), (inputs, outputs)):
        a = quantize_rows(heavy_tailed(TOKENS, inner, 0), backend == "mxfp8")
        check(backend, a, quantize_blocks(heavy_tailed(rows_b, inner, 1), backend == "mxfp8"), torch.bfloat16)


@pytest.mark.parametrize("tokens", [TOKENS, 1000])
@pytest.mark.parametrize("shape", PROJECTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_wgrad(backend, shape, tokens):
    outputs, inputs = PROJECTIONS[shape]
    a = quantize_rows(heavy_tailed(outputs, tokens, 0), backend == "mxfp8")
    check(backend, a, quantize_rows(heavy_tailed(inputs, tokens, 1), backend == "mxfp8"), torch.float32)


@pytest.mark.parametrize(("rows_a", "rows_b", "inner"), [(1, 1, 7), (129, 100, 256), (1023, 257, 1100), (6, 2000, 130)])
@pytest.mark.parametrize("quantize_b", [quantize_blocks, quantize_rows])
def test_triton_takes_any_size(rows_a, rows_b, inner, quantize_b):
    a, b = quantize_rows(heavy_tailed(rows_a, inner, 0)), quantize_b(heavy_tailed(rows_b, inner, 1))
    for out_dtype in (torch.bfloat16, torch.float32):
        check("triton", a, b, out_dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_finite_stays_in_its_row(backend):
    x = heavy_tailed(64, 512, 0)
    x[3, 200], x[40, 500] = float("nan"), float("inf")
    a = quantize_rows(x, backend == "mxfp8")
    y = matmul(a, quantize_blocks(heavy_tailed(256, 512, 1), backend == "mxfp8"), torch.bfloat16, backend)
    bad = torch.zeros(64, dtype=torch.bool, device="cuda")
    bad[[3, 40]] = True
    assert not torch.isfinite(y[bad]).any() and torch.isfinite(y[~bad]).all()


def test_a_shape_that_fits_gets_the_best_backend_without_a_reason():
    a, b = quantize_rows(heavy_tailed(512, 512, 0), True), quantize_blocks(heavy_tailed(512, 512, 1), True)
    assert choose(a, b, torch.bfloat16, "cuda") == (BACKENDS[0], [])
