"""The Triton quantiser on a device, bit for bit the reference on the CPU; the same data as in tests/fp8."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "fp8"))
from quantizer_data import KINDS, assert_same, matrix

from distill.fp8 import quantize as reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SIZES = [(1, 1), (130, 257), (256, 384), (1000, 1536)]


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_kernels_give_the_bits_of_the_reference(size, kind, dtype, power_of_two):
    from distill.fp8.kernels import quantize as kernels

    x = matrix(kind, *size, dtype)
    on_device = x.cuda()
    assert_same(kernels.quantize_rows(on_device, power_of_two), reference.quantize_rows(x, power_of_two))
    assert_same(kernels.quantize_columns(on_device, power_of_two), reference.quantize_columns(x, power_of_two))
    pairs = zip(kernels.quantize_both(on_device, power_of_two), reference.quantize_both(x, power_of_two), strict=True)
    for found, expected in pairs:
        assert_same(found, expected)
    blocks = kernels.quantize_blocks(on_device, power_of_two)
    assert_same(blocks, reference.quantize_blocks(x, power_of_two))
    transposed = reference.transpose_blocks(reference.quantize_blocks(x, power_of_two), *size)
    assert_same(kernels.transpose_blocks(blocks, *size), transposed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_gives_the_same_bits_on_a_device(kind):
    x = matrix(kind, 130, 384, torch.bfloat16)
    for power_of_two in (False, True):
        assert_same(reference.quantize_rows(x.cuda(), power_of_two), reference.quantize_rows(x, power_of_two))
        assert_same(reference.quantize_blocks(x.cuda(), power_of_two), reference.quantize_blocks(x, power_of_two))


def test_places_beyond_2_to_the_31_are_reached():
    from distill.fp8.kernels import quantize as kernels

    rows, columns = 2**19 + 256, 4096
    if torch.cuda.get_device_properties(0).total_memory < 16 * 2**30:
        pytest.skip("needs 16 GB of device memory")
    x = torch.zeros(rows, columns, dtype=torch.bfloat16, device="cuda")
    x[-1] = torch.randn(columns, device="cuda").bfloat16()
    by_row, by_column = kernels.quantize_both(x)
    tail = reference.quantize_rows(x[-128:].cpu())
    assert torch.equal(by_row.codes[-128:].view(torch.uint8).cpu(), tail.codes.view(torch.uint8))
    turned = reference.quantize_columns(x[-128:].cpu())
    assert torch.equal(by_column.codes[:, -128:].view(torch.uint8).cpu(), turned.codes.view(torch.uint8))
