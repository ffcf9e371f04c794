"""Inputs and the comparison of the tests of the fused kernels; used in the interpreter and on a GPU."""

import torch

from distill.fp8.quantize import BLOCK, Quantized, dequantize


def heavy_tailed(*shape: int, seed: int = 0, device: str = "cpu") -> torch.Tensor:
    """Student's t with 2 degrees of freedom and one channel of outliers."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(*shape, generator=generator)
    chi = torch.randn(*shape, 2, generator=generator).pow(2).sum(-1)
    x = normal / (chi / 2).sqrt()
    x[..., 3] *= 50
    return x.to(device)


def assert_close(found: Quantized, expected: Quantized, case: str) -> None:
    """Same layout; scales within 1e-5, values within one E4M3 step: sums and exponentials are not the same bits."""
    rows, columns = expected.scales.shape
    assert found.codes.shape == expected.codes.shape, case
    assert found.codes.dtype == expected.codes.dtype, case
    assert found.scales.shape == (rows, columns) and (columns == 1 or found.scales.stride() == (1, rows)), case
    finite = torch.isfinite(expected.scales)
    assert torch.equal(torch.isfinite(found.scales), finite), f"{case}: scales that are not finite"
    torch.testing.assert_close(found.scales[finite], expected.scales[finite], rtol=1e-5, atol=0.0)
    keep = finite.repeat_interleave(BLOCK, dim=1)
    a, b = dequantize(found)[keep], dequantize(expected)[keep]
    step = torch.maximum(b.abs() / 8, expected.scales.repeat_interleave(BLOCK, dim=1)[keep] * 2.0**-9)
    assert ((a - b).abs() <= step * 1.001).all(), f"{case}: more than one step of E4M3 apart"
    others = (found.codes.view(torch.uint8) != expected.codes.view(torch.uint8))[keep].sum().item()
    assert others <= 0.002 * keep.sum().item(), f"{case}: {others} codes are others"


def assert_padding(transposed: Quantized, tokens: int, case: str) -> None:
    """Zeros after the last token, but where the scale of the last block is not finite."""
    finite = torch.isfinite(transposed.scales[:, -1])
    assert not transposed.codes[finite, tokens:].view(torch.uint8).any(), f"{case}: padding"
