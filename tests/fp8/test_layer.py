"""The fused decoder layer: against the stock one, under checkpointing, and what it keeps for the backward."""

import json

import pytest
import torch
from models import (
    KINDS,
    Quantisations,
    assert_same,
    calls,
    gradients,
    loss_of,
    recipe,
    student,
    token_ids,
)

from benchmarks.fp8_memory import BEGIN, END, RESULT, ROOT, bytes_by_side, table
from distill.fp8 import convert_to_fp8, keep_in_bf16
from distill.fp8.layer import runs_fused


def cosine(left, right):
    return torch.nn.functional.cosine_similarity(left.flatten().float(), right.flatten().float(), dim=0).item()


@pytest.mark.parametrize("name", ["fast", "small", "accurate", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_follow_the_float32_model(kind, name):
    model, ids = student(kind), token_ids()
    loss, exact = gradients(model, ids)
    convert_to_fp8(model, recipe(name, edge_layers_bf16=0))
    found_loss, found = gradients(model, ids)
    assert found_loss == pytest.approx(loss, rel=5e-3)
    assert found.keys() == exact.keys()
    lowest = 0.999 if name == "bf16" else 0.97
    for parameter, gradient in exact.items():
        if gradient.norm() > 1e-4 * max(g.norm() for g in exact.values()):  # k's bias has none but noise
            assert cosine(found[parameter], gradient) > lowest, (parameter, cosine(found[parameter], gradient))
        assert found[parameter].dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_fused_and_alone_agree(kind):
    """The same model with its linears converted one by one: two ways to the same numbers, up to roundings."""
    model, twin, ids = student(kind), student(kind), token_ids()
    convert_to_fp8(model, recipe())
    state = convert_to_fp8(twin, recipe())
    for layer in state.layers.values():
        layer.__class__ = layer.fp8.base
        del layer.fp8
    state.layers.clear()
    fused, alone = gradients(model, ids), gradients(twin, ids)
    assert fused[0] == pytest.approx(alone[0], rel=2e-3)
    for name, gradient in alone[1].items():
        assert cosine(fused[1][name], gradient) > 0.97 or gradient.norm() < 1e-3, name


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["fast", "small", "accurate"])
def test_checkpointing_changes_no_bit(name, reentrant):
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe(name, edge_layers_bf16=0))
    wanted = gradients(model, ids)
    before = calls("fprop")
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert_same(gradients(model, ids), wanted)
    assert calls("fprop") - before == 2 * 8, "the forward of each layer ran twice"


@pytest.mark.parametrize("autocast", [False, True])
def test_autocast_is_allowed_and_not_needed(autocast):
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    wanted = gradients(model, ids)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = loss_of(model, ids)
    assert found.item() == pytest.approx(wanted[0], rel=1e-3)


def test_transformers_default_cache_does_not_leave_the_fused_way(monkeypatch):
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    wanted = loss_of(model, ids)
    with Quantisations(monkeypatch) as seen:
        found = model(input_ids=ids, labels=ids).loss
    assert found.item() == wanted.item()
    assert len(seen.role("input")) == 8


def test_a_padding_mask_is_heeded():
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    mask = torch.ones_like(ids)
    mask[0, :30] = 0
    changed = ids.clone()
    changed[0, :30] = 5
    with torch.no_grad():
        left, right = (model(input_ids=x, attention_mask=mask, use_cache=False).logits for x in (ids, changed))
    assert torch.equal(left[0, 30:], right[0, 30:])


def test_one_quantisation_of_an_input_that_linears_share(monkeypatch):
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    groups = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    wanted = sorted(f"model.layers.{layer}.{group}" for layer in range(2) for group in groups)
    loss_of(model, ids)
    with Quantisations(monkeypatch) as seen:
        loss_of(model, ids).backward()
    assert sorted(seen.role("input")) == [f"{name}/input" for name in wanted]
    assert sorted(seen.role("gradient")) == [f"{name}/gradient" for name in wanted]
    model.eval()
    with Quantisations(monkeypatch) as seen:
        loss_of(model, ids)
    assert sorted(seen.role("input")) == [f"{name}/input" for name in wanted], "also where they run one by one"


def test_a_promoted_part_unfuses_its_layer_only():
    model, ids = student(), token_ids()
    state = convert_to_fp8(model, recipe())
    keep_in_bf16(model, "model.layers.1.self_attn.k_proj", "test")
    assert [runs_fused(layer) for layer in state.layers.values()] == [True, False]
    keep_in_bf16(model, "model.layers.0.self_attn.o_proj", "test")
    assert [runs_fused(layer) for layer in state.layers.values()] == [True, False]
    gradients(model, ids)


def test_memory_is_saved():
    found = bytes_by_side()
    stock = min(found["BF16 by autocast, float32 weights"], found["BF16 throughout"])
    assert found["FP8, fast"] <= 0.5 * stock, found
    assert found["FP8, small"] < found["FP8, fast"] < found["FP8, accurate"] < 0.75 * stock, found
    # By hand, of `fast`: norms' inputs 2 x 2 x 256, gate and up 2 x 1408 and a scale for 128 of them, attention's q, k,
    # v, output and its float32 sums over keys (2 heads), and what rotary keeps.
    assert found["FP8, fast"] > 2 * 2 * 256 + 2 * 1408 * (1 + 4 / 128) + 2 * (256 + 128 + 128 + 256)


def test_the_page_shows_what_was_counted():
    result = json.loads(RESULT.read_text())
    assert (ROOT / "docs" / "fp8.md").read_text().split(BEGIN)[1].split(END)[0].strip() == table(result)
    counted = bytes_by_side()
    assert result["bytes_per_token_and_layer"] == {side: pytest.approx(size, rel=0.1) for side, size in counted.items()}


def test_codes_are_kept_and_not_what_they_were_made_from():
    model, ids = student(num_hidden_layers=1), token_ids(rows=1, tokens=64)
    convert_to_fp8(model, recipe())
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append((t.dtype, tuple(t.shape))) or t, lambda t: t):
        loss_of(model, ids)
    assert (torch.float8_e4m3fn, (64, 768)) in kept, "gate and up in FP8"
    assert (torch.bfloat16, (64, 768)) not in kept and (torch.float32, (64, 768)) not in kept
    assert not any(shape == (64, 384) for _, shape in kept), "the activation is computed again"
