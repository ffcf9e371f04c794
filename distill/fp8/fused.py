"""RMSNorm and SwiGLU with the quantiser in the same step, and their backwards: the definition, in plain torch.

The Triton kernels of the same names (kernels/norm.py, kernels/swiglu.py) write FP8 where a chain of operations would
write BF16 and read it again; here the steps stand one after another. All arithmetic is float32. What a backward
needs of a normed or gated activation is computed again from the smaller thing that was kept (DeepSeek-V3,
arXiv 2412.19437, section 3.2.3: RMSNorm and SwiGLU are recomputed, their inputs cached).

Letters for sizes: T tokens, K width of the hidden state, I width of the MLP.
"""

from __future__ import annotations

import torch

from distill.fp8.quantize import Quantized, dequantize, quantize_columns, quantize_rows


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor) -> torch.Tensor:
    """(hidden * rstd) * weight in float32; hidden [T, K], weight [K], rstd [T]."""
    return (hidden.float() * rstd[:, None]) * weight.float()


def reciprocal_std(hidden: torch.Tensor, eps: float) -> torch.Tensor:
    """1 / sqrt(mean of squares + eps) of each row, float32 [T]."""
    return torch.rsqrt(hidden.float().pow(2).mean(dim=1) + eps)


def rms_norm_quantize(
    hidden: torch.Tensor, weight: torch.Tensor, eps: float, power_of_two: bool
) -> tuple[Quantized, torch.Tensor]:
    """The normed hidden state [T, K] in 1x128 blocks, and rstd [T] for the backward."""
    rstd = reciprocal_std(hidden, eps)
    return quantize_rows(rms_norm(hidden, weight, rstd), power_of_two), rstd


def rms_norm_quantize_columns(
    hidden: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, power_of_two: bool
) -> Quantized:
    """The normed hidden state again, transposed [K, T padded], for the weight gradient."""
    return quantize_columns(rms_norm(hidden, weight, rstd), power_of_two)


def rms_norm_backward(
    grad: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of hidden [T, K], in its dtype, and of weight [K], float32, from the gradient of the normed state."""
    unit = hidden.float() * rstd[:, None]
    grad = grad.float()
    grad_weight = (grad * unit).sum(dim=0)
    weighted = grad * weight.float()
    grad_hidden = (weighted - unit * (weighted * unit).mean(dim=1, keepdim=True)) * rstd[:, None]
    return grad_hidden.to(hidden.dtype), grad_weight


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up in float32; gate_up [T, 2 I] holds gate, then up."""
    gate, up = gate_up.float().chunk(2, dim=1)
    return torch.nn.functional.silu(gate) * up


def swiglu_quantize(gate_up: torch.Tensor, power_of_two: bool) -> Quantized:
    """silu(gate) * up [T, I] in 1x128 blocks."""
    return quantize_rows(swiglu(gate_up), power_of_two)


def swiglu_quantize_stash(gate_up: torch.Tensor, power_of_two: bool) -> tuple[Quantized, Quantized]:
    """`swiglu_quantize`, and gate_up itself in 1x128 blocks to keep for the backward; one read of it on a GPU."""
    return swiglu_quantize(gate_up, power_of_two), quantize_rows(gate_up, power_of_two)


def swiglu_backward(grad: torch.Tensor, gate_up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(activation [T, I], gradient of gate_up [T, 2 I]) in float32, from the gradient of the activation [T, I]."""
    gate, up = gate_up.float().chunk(2, dim=1)
    grad = grad.float()
    sigmoid = torch.sigmoid(gate)
    silu = gate * sigmoid
    grad_gate = grad * up * (sigmoid * (1.0 + gate * (1.0 - sigmoid)))
    return silu * up, torch.cat((grad_gate, grad * silu), dim=1)


def kept_gate_up(gate_up: torch.Tensor | Quantized) -> torch.Tensor:
    """gate_up [T, 2 I] as it was kept: itself, or read back from its codes in float32."""
    return dequantize(gate_up) if isinstance(gate_up, Quantized) else gate_up


def swiglu_backward_quantize(
    grad: torch.Tensor, gate_up: torch.Tensor | Quantized, power_of_two: bool
) -> tuple[Quantized, Quantized, Quantized]:
    """What the three products of the MLP's backward read, quantised.

    Returns (activation transposed [I, T padded], gradient of gate_up [T, 2 I], the same transposed [2 I, T padded]).
    """
    activation, grad_gate_up = swiglu_backward(grad, kept_gate_up(gate_up))
    return (
        quantize_columns(activation, power_of_two),
        quantize_rows(grad_gate_up, power_of_two),
        quantize_columns(grad_gate_up, power_of_two),
    )
