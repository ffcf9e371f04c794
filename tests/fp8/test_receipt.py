"""The precision receipt: complete, and an error where a linear was bypassed."""

import json

import pytest
import torch
from models import gradients, loss_of, recipe, student, token_ids
from torch import nn

from distill.fp8 import Fp8Error, convert_to_fp8, keep_in_bf16, receipt, revert_from_fp8
from distill.fp8.record import RECORD, observing

GROUPS = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")


def converted(**changes):
    model = student()
    convert_to_fp8(model, recipe(**changes))
    return model


def test_every_product_of_every_linear_is_there():
    model, ids = converted(), token_ids()
    with observing():
        for _ in range(2):
            gradients(model, ids)
    paper = receipt(model)
    paper.check()
    assert sorted(paper.linears) == sorted(f"model.layers.{layer}.{group}" for layer in range(2) for group in GROUPS)
    for linear in paper.linears.values():
        assert linear.kernels == {product: {"emulation": 2} for product in ("fprop", "dgrad", "wgrad")}
        assert linear.operands.keys() == {"input", "weight", "gradient"}
        # Rounding errs by 0.0265 of a number: 31.5 dB. Small numbers beside large ones fare worse.
        assert all(28 < figures["snr_db"] < 34 for figures in linear.operands.values()), linear.operands
        assert all(figures["saturation_rate"] == 0 for figures in linear.operands.values())
    assert (paper.converted, paper.num_linears, paper.bf16, paper.missing) == (14, 14, {}, {})
    assert json.loads(json.dumps(paper.to_dict()))["linears"]["model.layers.1.mlp.down_proj"]["kernels"]["wgrad"]
    assert "14 of 14 linears in FP8; products: 48 by emulation; fallbacks: 0" in paper.summary()
    assert "lowest SNR" in paper.summary()


def test_inputs_shared_by_linears_that_run_alone_are_shown_for_each():
    model, ids = converted(), token_ids()
    model.eval()
    with observing():
        loss_of(model, ids)
    paper = receipt(model)
    assert len(paper.linears) == 14
    assert all({"input", "weight"} <= linear.operands.keys() for linear in paper.linears.values())
    paper.check()


def test_nothing_ran():
    with pytest.raises(Fp8Error, match="no FP8 product was computed"):
        receipt(converted()).check()


@pytest.mark.parametrize("training", [True, False])
def test_a_replaced_linear_is_an_error(training):
    model, ids = converted(), token_ids()
    mlp = model.model.layers[1].mlp
    plain = nn.Linear(384, 256, bias=False).bfloat16()
    mlp.down_proj = plain
    model.train(training)
    gradients(model, ids)
    with pytest.raises(Fp8Error, match=r"layers.1.mlp.down_proj: fprop, wgrad never ran in FP8 \(1 linears"):
        receipt(model).check()


def test_a_forward_that_is_replaced_is_an_error():
    model, ids = converted(), token_ids()
    model.eval()
    linear = model.model.layers[0].self_attn.v_proj
    linear.forward = lambda x: nn.functional.linear(x, linear.weight.to(x.dtype), linear.bias.to(x.dtype))
    loss_of(model, ids)
    with pytest.raises(Fp8Error, match=r"layers.0.self_attn.v_proj: fprop never ran in FP8"):
        receipt(model).check()


def test_a_weight_that_never_got_its_gradient_in_fp8_is_an_error():
    model, ids = converted(), token_ids()
    linear = model.model.layers[0].self_attn.o_proj
    linear.requires_grad_(False)
    gradients(model, ids)
    receipt(model).check()
    linear.requires_grad_(True)
    with pytest.raises(Fp8Error, match=r"layers.0.self_attn.o_proj: wgrad never ran in FP8"):
        receipt(model).check()


def test_evaluation_alone_needs_no_gradients():
    model, ids = converted(), token_ids()
    with torch.no_grad():
        loss_of(model, ids)
    receipt(model).check()


def test_a_product_in_bf16_that_no_recipe_asks_for():
    model, ids = converted(), token_ids()
    gradients(model, ids)
    RECORD.ran(f"{model.fp8_state.prefix}:model.layers.0.mlp.down_proj/dgrad", "bf16", [])
    with pytest.raises(Fp8Error, match="down_proj: dgrad ran in BF16"):
        receipt(model).check()


def test_wgrad_in_bf16_and_promoted_linears_are_named():
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe("accurate", edge_layers_bf16=0))
    keep_in_bf16(model, "model.layers.1.mlp.gate_up_proj", "gradient cosine 0.5 at step 3")
    gradients(model, ids)
    paper = receipt(model)
    paper.check()
    assert paper.linears["model.layers.0.mlp.down_proj"].kernels["wgrad"] == {"bf16": 1}
    assert list(paper.bf16) == ["model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"]
    assert paper.converted == 12 and "in BF16: 2 linears (gradient cosine 0.5 at step 3)" in paper.summary()


def test_two_models_do_not_mix():
    left, right, ids = converted(), converted(), token_ids()
    gradients(left, ids)
    assert receipt(left).kernels() == {"emulation": 24} and receipt(right).kernels() == {}
    revert_from_fp8(left)
    with pytest.raises(Fp8Error, match="is not converted"):
        receipt(left)
