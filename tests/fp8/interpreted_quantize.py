"""Run by test_kernels_quantize.py in a process with TRITON_INTERPRET=1: the Triton quantiser against the reference."""

import sys

import torch
from quantizer_data import KINDS, assert_same, matrix

from distill.fp8 import quantize as reference
from distill.fp8.kernels import quantize as kernels
from distill.fp8.kernels.configuration import INTERPRETED


def compare(x: torch.Tensor, power_of_two: bool) -> None:
    """Every function of the module on one matrix."""
    assert_same(kernels.quantize_rows(x, power_of_two), reference.quantize_rows(x, power_of_two))
    assert_same(kernels.quantize_columns(x, power_of_two), reference.quantize_columns(x, power_of_two))
    pairs = zip(kernels.quantize_both(x, power_of_two), reference.quantize_both(x, power_of_two), strict=True)
    for found, expected in pairs:
        assert_same(found, expected)
    blocks = reference.quantize_blocks(x, power_of_two)
    assert_same(kernels.quantize_blocks(x, power_of_two), blocks)
    assert_same(kernels.transpose_blocks(blocks, *x.shape), reference.transpose_blocks(blocks, *x.shape))


def main() -> None:
    torch.set_num_threads(1)
    assert INTERPRETED
    for number, kind in enumerate(KINDS):
        size = ((130, 200), (40, 128), (1, 300))[number % 3]
        dtype = (torch.float32, torch.bfloat16, torch.float16)[number % 3]
        for power_of_two in (False, True):
            compare(matrix(kind, *size, torch.float32), power_of_two)
        compare(matrix(kind, 20, 136, dtype), power_of_two=False)
        print("same:", kind, flush=True)
    x = matrix("heavy_tailed", 140, 260, torch.bfloat16)
    compare(x.t(), power_of_two=False)
    compare(x[3:, 5:150], power_of_two=False)
    compare(x[:, ::2], power_of_two=False)
    print("same: strides", flush=True)
    compare(torch.zeros(0, 128), power_of_two=False)
    print("same: no rows", flush=True)


if __name__ == "__main__":
    sys.exit(main())
