"""Floating-point operations of a training step on packed documents, and their share of the device's peak.

    flops = step_flops(N, T, layers, attention_width, lengths)

    6 N T  +  6 layers attention_width sum(L^2)

N counts the parameters that every token is multiplied with (linears and output head, no embedding): 2 operations in
the forward, 4 in the backward. Attention is causal within each document of length L: q k^T and the product with v take
L^2 attention_width operations each, twice that again for the backward. What is recomputed is not counted. The share is
of the dense BF16 peak on both sides, FP8 and BF16, so that two shares are in the ratio of two times.
"""

from __future__ import annotations

from collections.abc import Sequence

BF16_PEAK_FLOPS = {
    "NVIDIA H200": 989.4e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA B200": 2250e12,
}
"""Dense BF16 by NVIDIA's datasheets (SXM parts); a device that is not here gets no share."""


def step_flops(parameters: int, tokens: int, layers: int, attention_width: int, lengths: Sequence[int]) -> int:
    """Operations of forward and backward of one row."""
    return 6 * parameters * tokens + 6 * layers * attention_width * sum(length**2 for length in lengths)


def utilisation(flops: float, seconds: float, device_name: str) -> float | None:
    """Model FLOPs utilisation, or None where the peak is not known."""
    peak = BF16_PEAK_FLOPS.get(device_name)
    return None if peak is None else flops / seconds / peak
