"""Matrices that try a quantiser, and the exact comparison of two results; for the tests here and in tests/gpu."""

from __future__ import annotations

import torch

from distill.fp8.quantize import Quantized

KINDS = ("normal", "heavy_tailed", "outliers", "subnormal", "zeros", "infinite", "nan", "huge")


def matrix(kind: str, rows: int, columns: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """[rows, columns] numbers of this kind."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(rows, columns, generator=generator)
    chi = torch.randn(rows, columns, 2, generator=generator).pow(2).mean(dim=2).sqrt()
    x = normal.clone()
    if kind == "heavy_tailed":
        x = normal / chi  # Student t with two degrees of freedom
    elif kind == "outliers":
        x[:, :: max(columns // 3, 1)] *= 1000.0
    elif kind == "subnormal":
        x = normal * 1e-39
        x[rows // 2 :] = normal[rows // 2 :] * 3e-34  # around the floor of the largest magnitude, 2^-110
    elif kind == "zeros":
        x[: rows // 2] = 0.0
        x[0, 0] = -0.0
    elif kind == "infinite":
        x[0, 0], x[rows // 2, columns // 2] = float("inf"), -float("inf")
    elif kind == "nan":
        x[0, columns - 1], x[rows // 2, 0] = float("nan"), -float("nan")
    elif kind == "huge":
        x = normal * (torch.finfo(dtype).max / 8)
    return x.to(dtype)


def code_bytes(q: Quantized) -> torch.Tensor:
    """uint8 codes; NaN of either sign is 0x7F, since a device's cast drops the sign and torch's on a CPU does not."""
    codes = q.codes.view(torch.uint8).cpu()
    return torch.where(codes == 0xFF, 0x7F, codes)


def assert_same(found: Quantized, expected: Quantized, columns: int | None = None) -> None:
    """The same shapes, strides, codes (of so many columns) and scales, bit for bit."""
    assert found.codes.dtype == expected.codes.dtype and found.codes.is_contiguous()
    assert found.codes.shape == expected.codes.shape and found.scales.shape == expected.scales.shape
    for size, stride, wanted in zip(
        expected.scales.shape, found.scales.stride(), expected.scales.stride(), strict=True
    ):
        assert size <= 1 or stride == wanted
    torch.testing.assert_close(found.scales.cpu(), expected.scales.cpu(), rtol=0, atol=0, equal_nan=True)
    differing = (code_bytes(found) != code_bytes(expected))[:, :columns].sum().item()
    assert differing == 0, f"{differing} of {found.codes.numel()} codes differ"
