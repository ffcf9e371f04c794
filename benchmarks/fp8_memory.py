"""Counts what the backward of a decoder layer keeps: benchmarks/fp8_memory.json and the table in docs/fp8.md.

    python benchmarks/fp8_memory.py           # seconds, on a CPU

Bytes of distinct storages that autograd saves inside the layers, attention's own included, weights and their FP8 codes
left out. The model is a Qwen2 of random weights at the ratio of widths of Qwen2.5-1.5B. What autograd saves does not
depend on the device, except in attention: other attention functions than torch's CPU one keep other sums.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from distill.fp8 import convert_to_fp8, get_recipe

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "fp8_memory.json"
SIZES = {"hidden_size": 256, "intermediate_size": 1408, "num_hidden_layers": 3}
TOKENS = 192
BEGIN, END = "<!-- fp8 memory: begin -->", "<!-- fp8 memory: end -->"


def build_model() -> Any:
    """q has 256 outputs, k and v 128 each."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 128}
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, **heads, vocab_size=96, attn_implementation="sdpa")).train()


def kept_bytes(model: Any, ids: torch.Tensor, *, autocast: bool = False) -> int:
    """Bytes that the backward of the decoder layers keeps, each storage once."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    for layer in getattr(getattr(model, "fp8_state", None), "layers", {}).values():
        for group in (layer.fp8.qkv, layer.fp8.gate_up, layer.mlp.down_proj.group, layer.self_attn.o_proj.group):
            known |= {tensor.untyped_storage().data_ptr() for tensor in group.operand() if tensor is not None}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # so that no address is used twice
    inside: list[bool] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        is_cast_weight = autocast and tensor.dim() == 2 and tensor.shape[0] != ids.shape[1]
        if inside and storage.data_ptr() not in known and not is_cast_weight:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda *_: inside.append(True))
        layer.register_forward_hook(lambda *_: inside.clear())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", torch.bfloat16, autocast):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    del loss
    return sum(kept.values())


def bytes_by_side() -> dict[str, float]:
    """Bytes per token and layer."""
    ids = torch.randint(0, 96, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    found = {
        "BF16 by autocast, float32 weights": kept_bytes(build_model(), ids, autocast=True),
        "BF16 throughout": kept_bytes(build_model().bfloat16(), ids),
    }
    for name in ("accurate", "fast", "small"):
        model = build_model()
        convert_to_fp8(model, get_recipe(name, skinny_below=0, edge_layers_bf16=0))
        found[f"FP8, {name}"] = kept_bytes(model, ids)
    return {side: size / TOKENS / SIZES["num_hidden_layers"] for side, size in found.items()}


def table(result: dict[str, Any]) -> str:
    found = result["bytes_per_token_and_layer"]
    whole = found["BF16 throughout"]
    lines = ["| side | bytes per token and layer | of BF16 throughout |", "|---|---|---|"]
    return "\n".join(lines + [f"| {side} | {size:,.0f} | {size / whole:.2f} |" for side, size in found.items()])


def main() -> None:
    from distill import provenance

    where = {"machine": provenance.machine(), "versions": provenance.versions(), "code": provenance.commit()}
    sizes = {**SIZES, "tokens": TOKENS}
    result = {"date": provenance.utc_now(), **where, "sizes": sizes, "bytes_per_token_and_layer": bytes_by_side()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    page = ROOT / "docs" / "fp8.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
