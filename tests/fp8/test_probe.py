"""The shadow probe: sees damage, promotes what is damaged and nothing else, and leaves training as it was."""

import pytest
import torch
from models import assert_same, gradients, loss_of, recipe, student, token_ids

from distill.fp8 import Fp8Error, convert_to_fp8, in_bf16, ops, receipt, shadow_probe, state_of


@pytest.fixture
def model():
    model = student()
    convert_to_fp8(model, recipe())
    return model


def scaled(monkeypatch, suffix, factor):
    """Scales of one label are wrong by a factor, for a few rows: the direction of a gradient changes, not its size."""
    right = ops.matmul

    def wrong(a, a_scales, b, b_scales, out_dtype, label):
        if label.endswith(suffix):
            a_scales = a_scales.clone()
            a_scales[:, ::2] *= factor
        return right(a, a_scales, b, b_scales, out_dtype, label)

    monkeypatch.setattr(ops, "matmul", wrong)


def test_sound_fp8_passes(model):
    ids = token_ids()
    result = shadow_probe(model, lambda: loss_of(model, ids), step=5, promote_below=0.9)
    assert abs(result.relative_gap) < 0.0025 and not result.promoted
    assert result.relative_gap == pytest.approx((result.loss_fp8 - result.loss_bf16) / result.loss_bf16)
    assert len(result.cosines) == 14 and min(result.cosines.values()) > 0.95 and max(result.cosines.values()) < 1
    assert "at step 5" in result.summary() and "lowest gradient cosine" in result.summary()


@pytest.mark.parametrize("damaged", ["model.layers.1.mlp.down_proj", "model.layers.0.self_attn.o_proj"])
def test_one_damaged_linear_is_promoted_and_no_other(model, damaged, monkeypatch):
    ids = token_ids(tokens=200)
    scaled(monkeypatch, f"{damaged}/wgrad", 8.0)
    result = shadow_probe(model, lambda: loss_of(model, ids), step=9, promote_below=0.9)
    assert result.promoted == [damaged] and f"put in BF16: {damaged}" in result.summary()
    state = state_of(model)
    assert [name for name, linear in state.linears.items() if linear.precision == "bf16"] == [damaged]
    assert state.bf16[damaged] == f"gradient cosine {result.cosines[damaged]:.3f} at step 9"
    after = shadow_probe(model, lambda: loss_of(model, ids), step=10, promote_below=0.9)
    assert not after.promoted and damaged not in after.cosines
    gradients(model, ids)
    receipt(model).check()


def test_a_damaged_forward_shows_in_the_loss(model, monkeypatch):
    ids = token_ids(tokens=200)
    scaled(monkeypatch, "model.layers.1.mlp.gate_up_proj/fprop", 4.0)
    result = shadow_probe(model, lambda: loss_of(model, ids), step=1)
    assert abs(result.relative_gap) > 0.0025 and not result.promoted


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_is_left_as_it_was(checkpointing):
    model, ids = student(attention_dropout=0.3), token_ids()
    convert_to_fp8(model, recipe())
    if checkpointing:
        model.gradient_checkpointing_enable()
    torch.manual_seed(3)
    wanted = gradients(model, ids)
    random_state = torch.get_rng_state()
    result = shadow_probe(model, lambda: loss_of(model, ids), step=1)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(p.grad, wanted[1][name]) for name, p in model.named_parameters())
    assert abs(result.relative_gap) < 0.01, "both passes drop the same"
    torch.manual_seed(3)
    assert_same(gradients(model, ids), wanted)


def test_without_any_gradient_before(model):
    ids = token_ids()
    shadow_probe(model, lambda: loss_of(model, ids), step=1)
    assert all(p.grad is None for p in model.parameters())


def test_every_operand_is_observed_though_weights_are_cached(model):
    ids = token_ids()
    loss_of(model, ids)
    shadow_probe(model, lambda: loss_of(model, ids), step=1)
    for linear in receipt(model).linears.values():
        assert linear.operands.keys() == {"input", "weight", "gradient"}


def test_in_bf16_computes_in_bf16_and_ends(model):
    ids = token_ids()
    twin = student()
    convert_to_fp8(twin, recipe("bf16"))
    wanted, before = loss_of(twin, ids).item(), loss_of(model, ids).item()
    with in_bf16(model):
        assert loss_of(model, ids).item() == wanted
    assert loss_of(model, ids).item() == before != wanted


def test_adapters_are_what_is_compared():
    peft = pytest.importorskip("peft")
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    result = shadow_probe(adapted, lambda: loss_of(adapted, ids), step=1)
    assert sorted(result.cosines) == sorted(
        f"model.layers.{layer}.{name}" for layer in range(2) for name in ("self_attn.q_proj", "mlp.down_proj")
    )
    assert min(result.cosines.values()) > 0.9


def test_sharded_weights_cannot_be_compared(model):
    model.model.layers[0].mlp.up_proj.weight.ds_id = 1
    with pytest.raises(Fp8Error, match="weights are sharded"):
        shadow_probe(model, lambda: loss_of(model, token_ids()), step=1)
