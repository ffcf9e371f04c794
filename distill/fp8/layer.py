"""A decoder layer of Qwen2, Qwen3 or Llama with its norms, projections and MLP fused into FP8 functions.

    hidden -> [RMSNorm + quantise -> q, k, v] -> rotary, attention (BF16, transformers' own) -> o_proj -> + hidden
           -> [RMSNorm + quantise -> gate, up -> SwiGLU + quantise -> down] -> + hidden

The layer's class is changed in place to a subclass made here, with the same name: lists of class names that FSDP and
ZeRO keep still find it. Where the fused way does not fit (evaluation and decoding, an adapter around a
projection, a part promoted to BF16) the layer runs transformers' own forward, its linears still being FP8.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import torch

from distill.fp8.linear import FP8Linear
from distill.fp8.mlp import swiglu_mlp
from distill.fp8.projection import Plan, project
from distill.fp8.recipe import Precision
from distill.fp8.weights import WeightGroup


class FusedParts:
    """What a fused layer knows beside its modules."""

    def __init__(
        self,
        base: Any,
        qkv: WeightGroup,
        gate_up: WeightGroup,
        qkv_plan: Plan,
        gate_up_plan: Plan,
        gate_up_stash: Precision,
    ) -> None:
        self.base = base
        self.qkv, self.gate_up = qkv, gate_up
        self.qkv_plan, self.gate_up_plan = qkv_plan, gate_up_plan
        self.gate_up_stash: Precision = gate_up_stash


class _FusedLayer:
    """Mixed into the layer's own class in front of it."""

    is_fp8 = True
    fp8: FusedParts

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """hidden_states [B, S, K] -> the same shape and dtype."""
        layer: Any = self
        if position_embeddings is None or not runs_fused(layer):
            result: torch.Tensor = super().forward(  # type: ignore[misc]
                hidden_states,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                position_embeddings=position_embeddings,
                **kwargs,
            )
            return result
        parts, attention = layer.fp8, layer.self_attn
        norm = layer.input_layernorm
        qkv = project(hidden_states, parts.qkv, parts.qkv_plan, norm.weight, norm.variance_epsilon)
        projected = qkv.split(parts.qkv.sizes, dim=-1)
        attended = attend(attention, projected, position_embeddings, attention_mask, past_key_values, kwargs)
        hidden_states = hidden_states + attention.o_proj(attended)
        norm = layer.post_attention_layernorm
        return hidden_states + swiglu_mlp(
            hidden_states,
            norm.weight,
            norm.variance_epsilon,
            parts.gate_up,
            layer.mlp.down_proj.group,
            parts.gate_up_plan,
            layer.mlp.down_proj.plan.label,
            parts.gate_up_stash,
        )

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _blank, (self.fp8.base,), self.__dict__


def runs_fused(layer: Any) -> bool:
    """Training, all parts in FP8, and every projection the plain one that was converted (no adapter around it)."""
    attention, mlp = layer.self_attn, layer.mlp
    linears = (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    return layer.training and all(type(linear) is FP8Linear and linear.precision == "fp8" for linear in linears)


def attend(
    attention: Any,
    projected: tuple[torch.Tensor, ...],
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor | None,
    past_key_values: Any,
    kwargs: dict[str, Any],
) -> torch.Tensor:
    """Attention over projected q, k, v [B, S, heads x head_dim] with the model's own rotary and attention functions."""
    modeling: Any = sys.modules[type(attention).__module__]
    batch_and_tokens = projected[0].shape[:-1]
    q, k, v = (part.view(*batch_and_tokens, -1, attention.head_dim) for part in projected)
    if hasattr(attention, "q_norm"):  # Qwen3
        q, k = attention.q_norm(q), attention.k_norm(k)
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    cos, sin = (part.to(v.dtype) for part in position_embeddings)
    q, k = modeling.apply_rotary_pos_emb(q, k, cos, sin)
    if past_key_values is not None:  # transformers makes one by default, in training too
        k, v = past_key_values.update(k, v, attention.layer_idx)
    function = modeling.ALL_ATTENTION_FUNCTIONS.get_interface(
        attention.config._attn_implementation, modeling.eager_attention_forward
    )
    if getattr(attention, "sliding_window", None) is not None:
        kwargs = {**kwargs, "sliding_window": attention.sliding_window}
    attended, _ = function(
        attention,
        q,
        k,
        v,
        attention_mask,
        dropout=attention.attention_dropout,
        scaling=attention.scaling,
        **kwargs,
    )
    result: torch.Tensor = attended.reshape(*batch_and_tokens, -1).contiguous()
    return result


@cache
def fused_class(base: Any) -> Any:
    """The fused subclass of a decoder layer's class."""
    return type(base.__name__, (_FusedLayer, base), {"__module__": base.__module__})


def _blank(base: Any) -> Any:
    """A fused layer without content, for pickle and copy to fill."""
    cls = fused_class(base)
    return cls.__new__(cls)
