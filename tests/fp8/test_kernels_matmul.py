"""The Triton product: its numbers in Triton's interpreter, and its machine code for GPUs that are not here.

Triton is either interpreted or compiled in a process, so this file runs itself again with TRITON_INTERPRET=1.
"""

import os
import re
import subprocess
import sys

import pytest
import torch

from distill.fp8.errors import Fp8Error
from distill.fp8.matmul import disagreement, emulation, matmul
from distill.fp8.quantize import BLOCK, E4M3, Quantized, dequantize, quantize_blocks, quantize_rows

pytest.importorskip("triton", reason="Triton has no wheel for this platform")

from distill.fp8.kernels.configuration import INTERPRETED
from distill.fp8.kernels.matmul import CONFIGURATIONS, matmul_blockwise

SIZES = [(128, 128, 128), (1, 1, 7), (129, 100, 256), (3, 257, 130), (260, 40, 600)]


def heavy_tailed(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator)
    return x * torch.exp(2 * torch.randn(rows, columns, generator=generator))


def summed_exactly(rows: int, blocks: int, seed: int, is_2d: bool) -> Quantized:
    """Codes that are small integers and scales that are powers of two: no order of summing 128 products rounds."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-16, 17, (rows, blocks * BLOCK), generator=generator).float().to(E4M3)
    shape = (-(-rows // BLOCK), blocks) if is_2d else (blocks, rows)
    scales = torch.exp2(torch.randint(-9, 10, shape, generator=generator).float())
    return Quantized(codes, scales if is_2d else scales.t())


if INTERPRETED:

    @pytest.mark.parametrize("is_2d", [True, False])
    @pytest.mark.parametrize(("rows_a", "rows_b", "blocks"), [(128, 128, 1), (131, 140, 4), (1, 300, 3), (260, 1, 2)])
    def test_bits_are_those_of_the_emulation(rows_a, rows_b, blocks, is_2d):
        """Blocks are added in order: with these scales another order would round differently."""
        a, b = summed_exactly(rows_a, blocks, 0, False), summed_exactly(rows_b, blocks, 1, is_2d)
        assert torch.equal(matmul_blockwise(a, b, torch.float32), emulation(a, b, torch.float32))

    @pytest.mark.parametrize("quantize_b", [quantize_blocks, quantize_rows])
    @pytest.mark.parametrize(("rows_a", "rows_b", "inner"), SIZES)
    def test_any_size_against_float64(rows_a, rows_b, inner, quantize_b):
        a, b = quantize_rows(heavy_tailed(rows_a, inner, 0)), quantize_b(heavy_tailed(rows_b, inner, 1))
        got = matmul_blockwise(a, b, torch.float32)
        left, right = dequantize(a).double(), dequantize(b).double().t()
        bound = (left.abs() @ right.abs()) * (133 + inner / BLOCK) * 2.0**-24
        assert got.shape == (rows_a, rows_b)
        assert bool(((got.double() - left @ right).abs() <= bound).all())

    @pytest.mark.parametrize("quantize_b", [quantize_blocks, quantize_rows])
    def test_bfloat16_is_the_float32_result_within_one_step(quantize_b):
        a, b = quantize_rows(heavy_tailed(130, 300, 0)), quantize_b(heavy_tailed(140, 300, 1))
        got, want = matmul_blockwise(a, b, torch.bfloat16), matmul_blockwise(a, b, torch.float32)
        assert got.dtype == torch.bfloat16
        assert bool(((got.float() - want).abs() <= want.abs() * 2.0**-7).all())

    def test_more_row_tiles_than_a_group_cover_every_tile_once():
        a, b = summed_exactly(9 * BLOCK + 5, 1, 0, False), summed_exactly(2 * BLOCK + 3, 1, 1, True)
        assert torch.equal(matmul_blockwise(a, b, torch.float32), emulation(a, b, torch.float32))

    def test_scales_made_contiguous_and_odd_views_give_the_same_numbers():
        a, b = quantize_rows(heavy_tailed(20, 600, 0)), quantize_rows(heavy_tailed(30, 600, 1))
        want = matmul_blockwise(a, b, torch.float32)
        contiguous = Quantized(a.codes, a.scales.contiguous())
        memory = torch.empty(b.codes.numel() + 8, dtype=torch.uint8)[3 : 3 + b.codes.numel()].view(b.codes.shape)
        odd = Quantized(memory.copy_(b.codes.view(torch.uint8)).view(E4M3), b.scales)
        assert torch.equal(matmul_blockwise(contiguous, odd, torch.float32), want)

    def test_what_is_not_finite_stays_in_its_row():
        x = heavy_tailed(6, 300, 0)
        x[2, 7], x[4, 290] = float("nan"), float("inf")
        y = matmul(quantize_rows(x), quantize_blocks(heavy_tailed(9, 300, 1)), torch.float32, "triton")
        assert not torch.isfinite(y[[2, 4]]).any() and torch.isfinite(y[[0, 1, 3, 5]]).all()

    def test_the_check_that_devices_run_passes_this_kernel():
        a, b = quantize_rows(heavy_tailed(20, 300, 0)), quantize_blocks(heavy_tailed(30, 300, 1))
        for out_dtype in (torch.float32, torch.bfloat16):
            assert disagreement(matmul_blockwise(a, b, out_dtype), a, b) is None

    def test_nothing_to_multiply_and_what_does_not_fit():
        a = quantize_rows(torch.ones(4, 128))
        empty = Quantized(a.codes[:0], a.scales[:0])
        assert matmul_blockwise(empty, a, torch.float32).shape == (0, 4)
        with pytest.raises(Fp8Error, match=r"found \[4, 128\] with scales \[4, 1\] and \[4, 256\]"):
            matmul_blockwise(a, quantize_rows(torch.ones(4, 256)), torch.float32)

else:
    from ahead_of_time import compile_ahead

    def test_in_the_interpreter():
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", __file__]
        environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
        assert re.search(r"\d\d passed", run.stdout) and "skipped" not in run.stdout, run.stdout[-2000:]

    @pytest.mark.parametrize("capability", [90, 100])
    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda configuration: configuration.name)
    def test_machine_code_in_bfloat16(configuration, capability):
        """The results in float32 are compiled by test_ahead_of_time.py."""
        signature = dict(configuration.signature) | {"out": "*bf16"}
        compiled = compile_ahead(configuration._replace(signature=signature), capability)
        assert compiled.tensor_core and compiled.spills == 0
        large = configuration.num_stages == 4
        assert compiled.shared_bytes <= (227 if large else 99) * 1024  # sm_90 and sm_100; sm_89 and sm_120
        assert not re.search(r"\bLDG\.", compiled.sass), "codes and scales are all loaded ahead, by LDGSTS (cp.async)"

    def test_every_partial_sum_is_promoted():
        """Four k32 products make 128: the tensor core starts from zero, and FFMA adds what it made to 64 registers."""
        for configuration in CONFIGURATIONS[:2]:
            sass = compile_ahead(configuration, 90).sass
            assert len(re.findall(r"\bQGMMA\.64x128x32\.F32\.E4M3\.E4M3", sass)) == BLOCK // 32
            assert len(re.findall(r"\bFFMA\b", sass)) >= BLOCK * BLOCK // (8 * 32)
