"""Quantised weights: once for an optimizer step, never stale, never kept for what is sharded."""

import copy
import pickle

import pytest
import torch
from models import Quantisations, gradients, loss_of, recipe, student, token_ids
from torch import nn

from distill.fp8 import convert_to_fp8, forget_weights
from distill.fp8.quantize import Quantized, dequantize
from distill.fp8.weights import WeightGroup, is_sharded


def group(*sizes, keep_transposed=True):
    torch.manual_seed(0)
    linears = [nn.Linear(160, size, bias=False) for size in sizes]
    return WeightGroup("0:group", linears, power_of_two=False, keep_transposed=keep_transposed)


def fresh(weights):
    """What a group's weights must be now."""
    whole = torch.cat([w.detach() for w in weights.weights])
    return WeightGroup("0:x", [_linear(whole)], power_of_two=False, keep_transposed=True).operand()


def _linear(weight):
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data.copy_(weight)
    return linear


def same(left, right):
    return all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(left, right, strict=True))


def test_a_group_is_its_linears_below_one_another():
    weights = group(256, 128, 144)
    assert same(weights.operand(), fresh(weights))
    codes, scales, codes_t, scales_t = weights.operand()
    straight = dequantize(Quantized(codes, scales), 160)
    turned = dequantize(Quantized(codes_t, scales_t), 528)
    assert torch.equal(straight, turned.t())
    assert weights.operand()[0] is codes


def test_one_orientation_where_the_recipe_says_so():
    operand = group(128, keep_transposed=False).operand()
    assert operand.codes is not None and operand.codes_t is None


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=False),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stale_after_any_optimizer_step(name):
    weights = group(128, 144)
    optimizer = OPTIMIZERS[name](weights.weights)
    before = weights.operand()
    for weight in weights.weights:
        weight.grad = torch.randn_like(weight)
    assert weights.operand() is before
    optimizer.step()
    assert weights.operand() is not before and same(weights.operand(), fresh(weights))


def test_stale_after_an_optimizer_that_writes_where_no_counter_sees():
    """As DeepSpeed does: after its optimizer's step the new weights arrive through `.data`."""
    weights = group(128)
    before = weights.operand()
    master = nn.Parameter(weights.weights[0].detach().clone())
    master.grad = torch.ones_like(master)
    torch.optim.SGD([master], lr=0.1).step()
    weights.weights[0].data.copy_(master)
    assert weights.operand() is not before and same(weights.operand(), fresh(weights))


def test_stale_after_a_checkpoint_is_loaded_and_after_data_is_swapped():
    weights = group(128)
    (linear,) = weights.linears
    before = weights.operand()
    linear.load_state_dict({"weight": torch.randn(128, 160)})
    assert weights.operand() is not before and same(weights.operand(), fresh(weights))
    before = weights.operand()
    linear.weight.data = torch.randn(128, 160)
    assert weights.operand() is not before and same(weights.operand(), fresh(weights))
    before = weights.operand()
    linear.to(torch.bfloat16)
    assert weights.operand() is not before
    linear.weight = nn.Parameter(torch.randn(128, 160))
    assert same(weights.operand(), fresh(weights))


def test_forget_weights_is_for_changes_that_nothing_sees():
    model, ids = student(num_hidden_layers=1), token_ids()
    convert_to_fp8(model, recipe())
    before = loss_of(model, ids).item()
    model.model.layers[0].mlp.down_proj.weight.data.mul_(2)
    assert loss_of(model, ids).item() == before
    forget_weights(model)
    assert loss_of(model, ids).item() != before


@pytest.mark.parametrize("name", ["fast", "small"])
def test_once_for_a_step_of_micro_batches_recomputation_and_dgrad(name, monkeypatch):
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe(name))
    model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        with Quantisations(monkeypatch) as seen:
            for _ in range(3):
                loss_of(model, ids).backward()
        optimizer.step()
        names = ("self_attn.qkv_proj",) * 3 + ("self_attn.o_proj",) + ("mlp.gate_up_proj",) * 2 + ("mlp.down_proj",)
        wanted = [f"model.layers.{layer}.{name}/weight" for layer in range(2) for name in names]
        assert sorted(seen.role("weight")) == sorted(wanted)


def test_evaluation_in_inference_mode_leaves_nothing_that_training_cannot_keep():
    model, ids = student(num_hidden_layers=1), token_ids()
    convert_to_fp8(model, recipe())
    wanted = gradients(model, ids)[0]
    forget_weights(model)
    with torch.inference_mode():
        loss_of(model.eval(), ids)
    assert gradients(model.train(), ids)[0] == wanted


def test_copies_take_no_cache_along():
    weights = group(128)
    weights.operand()
    for twin in (copy.deepcopy(weights), pickle.loads(pickle.dumps(weights))):
        assert twin._operand is None
        assert twin.weights[0] is not weights.weights[0]
        assert same(twin.operand(), weights.operand())


def test_sharded_weights_are_not_cached():
    weights = group(128)
    weights.operand()
    weights.weights[0].ds_id = 0
    assert is_sharded(weights.weights[0])
    weights.sharded = True
    assert weights.operand() == (None,) * 4 and weights._operand is None
