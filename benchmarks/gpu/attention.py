"""Attention over packed documents without a T x T mask, one function for both sides of every comparison.

    name = choose(part, setting)          # checked against float32, then the fastest at 7B's heads
    config = student.config(layers, attention=name)
    model.model(..., packing=packing)     # transformers hands the keyword through to the function

Registered with transformers' AttentionInterface: an implementation that its mask registry does not know gets no mask.

    bench_varlen             torch.nn.attention.varlen (FlashAttention 2), grouped heads as they are
    bench_varlen_repeated    the same with keys and values repeated for each head
    bench_documents          scaled_dot_product_attention for each document of the row, torch's choice of kernel
    bench_documents_cudnn    the same with cuDNN's kernel first, which builds a plan for each new length
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.documents import Packing, document_lengths, packing_of
from benchmarks.gpu.results import Part
from benchmarks.gpu.shapes import Setting
from benchmarks.gpu.timing import summary, time_calls

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Packing, float], torch.Tensor]
"""q [1, H, T, D], k and v [1, H or fewer, T, D], packing, scale -> [1, T, H, D]."""
FALLBACK = "bench_documents"
LARGEST_ERROR = 2e-2
"""Relative to the norm of the float32 result; BF16 operands and probabilities land near 5e-3."""


def varlen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scale: float) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    grouped: dict[str, Any] = {}
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:
        grouped["enable_gqa"] = q.shape[1] != k.shape[1]
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))
    starts, longest = packing.starts, packing.longest
    out = varlen_attn(q, k, v, starts, starts, longest, longest, scale=scale, window_size=(-1, 0), **grouped)
    assert isinstance(out, torch.Tensor)
    return out[None]


def varlen_repeated(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scale: float) -> torch.Tensor:
    repeats = q.shape[1] // k.shape[1]
    return varlen(q, k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1), packing, scale)


def documents(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scale: float) -> torch.Tensor:
    grouped = q.shape[1] != k.shape[1]
    pieces = zip(*(x.split(list(packing.lengths), dim=2) for x in (q, k, v)), strict=True)
    parts = [
        scaled_dot_product_attention(q_part, k_part, v_part, is_causal=True, scale=scale, enable_gqa=grouped)
        for q_part, k_part, v_part in pieces
    ]
    return (torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]).transpose(1, 2)


def documents_cudnn(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scale: float) -> torch.Tensor:
    # In order: a document of a token or two is too short for cuDNN's kernel.
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        return documents(q, k, v, packing, scale)


ATTENTIONS: dict[str, Attention] = {
    "bench_varlen": varlen,
    "bench_varlen_repeated": varlen_repeated,
    FALLBACK: documents,
    "bench_documents_cudnn": documents_cudnn,
}


def candidates(device: torch.device) -> list[str]:
    return list(ATTENTIONS) if device.type == "cuda" else [FALLBACK]


def register() -> None:
    """Make every name known to transformers."""
    from transformers import AttentionInterface

    for name, attention in ATTENTIONS.items():
        AttentionInterface.register(name, _for_transformers(attention))


def _for_transformers(attention: Attention) -> Callable[..., tuple[torch.Tensor, None]]:
    def function(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, None]:
        assert mask is None, "attention over packed documents was given a mask; transformers has changed"
        query, key = query.to(value.dtype), key.to(value.dtype)  # rotary gives float32 under autocast
        return attention(query, key, value, kwargs["packing"], kwargs["scaling"]), None

    return function


def error_of(name: str, device: torch.device, heads: int = 4, key_heads: int = 2) -> float:
    """Largest relative error of result and gradients against float32 by the definition, on three documents."""
    generator = torch.Generator().manual_seed(1)
    lengths = [190, 1, 65]
    packing = packing_of(lengths, device)
    shapes = [(1, count, sum(lengths), 128) for count in (heads, key_heads, key_heads)]
    q, k, v = (torch.randn(s, generator=generator).to(device, torch.bfloat16).requires_grad_() for s in shapes)
    exact_q, exact_k, exact_v = (leaf.detach().float().requires_grad_() for leaf in (q, k, v))
    got = ATTENTIONS[name](q, k, v, packing, 128**-0.5)
    want = _by_definition(exact_q, exact_k, exact_v, packing, 128**-0.5)
    direction = torch.randn(want.shape, generator=generator).to(device)
    got.backward(direction.to(got.dtype))
    want.backward(direction)
    pairs = [(got, want), (q.grad, exact_q.grad), (k.grad, exact_k.grad), (v.grad, exact_v.grad)]
    errors = [_relative(a, b) for a, b in pairs if a is not None and b is not None]
    assert len(errors) == 4
    return float(max(errors)) if all(error == error for error in errors) else float("nan")


def _relative(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.detach().float() - want.detach()).norm() / want.detach().norm())


def _by_definition(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scale: float) -> torch.Tensor:
    """softmax(q k^T scale) v over a mask of documents and causality, in float32."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, dim=1) for x in (k, v))
    owner = torch.repeat_interleave(torch.tensor(packing.lengths, device=q.device))
    allowed = (owner[:, None] == owner[None]).tril()
    scores = (q @ k.transpose(2, 3) * scale).masked_fill(~allowed, float("-inf"))
    return (scores.softmax(dim=-1) @ v).transpose(1, 2)


def choose(part: Part, setting: Setting) -> str:
    """The fastest that is right, forward and backward; what was tried is in the part's rows."""
    student = setting.students["7B"]
    times: dict[str, float] = {}
    for name in candidates(setting.device):
        row: dict[str, Any] = {"attention": name}
        try:
            row["relative_error"] = error_of(name, setting.device)
            if not row["relative_error"] <= LARGEST_ERROR:
                row["refused"] = f"relative error above {LARGEST_ERROR}"
            else:
                row["milliseconds"] = summary(_times(name, student.heads, student.key_heads, setting))
                times[name] = row["milliseconds"]["median"]
        except Exception as error:  # a kernel that this device or this torch does not have: the reason is recorded
            row["refused"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        part.add(**row)
    if not times:
        part.results.fail("attention: no implementation is right on this device")
        return FALLBACK
    chosen = min(times, key=times.__getitem__)
    part.data["chosen"] = chosen
    return chosen


def _times(name: str, heads: int, key_heads: int, setting: Setting) -> list[float]:
    """Forward and backward of one layer's attention at T packed tokens."""
    packing = packing_of(document_lengths(setting.tokens, seed=0, mean=80.0 if setting.toy else 7600.0), setting.device)
    shapes = [(1, setting.tokens, count, 128) for count in (heads, key_heads, key_heads)]
    q, k, v = (torch.randn(s, device=setting.device, dtype=torch.bfloat16).requires_grad_() for s in shapes)
    direction = torch.randn(shapes[0], device=setting.device, dtype=torch.bfloat16)

    def call() -> None:
        q.grad = k.grad = v.grad = None
        out = ATTENTIONS[name](q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), packing, 128**-0.5)
        out.backward(direction)

    return time_calls(call, setting.device, setting.repeats)
