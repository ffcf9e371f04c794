"""Conversion in place and back: what stays as it was, what is refused, and what a converted model can still do."""

import copy
import io

import pytest
import torch
from models import KINDS, assert_same, gradients, loss_of, recipe, student, token_ids
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from distill.fp8 import Fp8Error, convert_to_fp8, get_recipe, keep_in_bf16, receipt, revert_from_fp8, state_of
from distill.fp8.linear import FP8Linear


@pytest.mark.parametrize("kind", KINDS)
def test_reverting_gives_the_same_bits_as_before(kind):
    model, ids = student(kind), token_ids()
    wanted, classes = gradients(model, ids), [type(module) for module in model.modules()]
    convert_to_fp8(model, recipe())
    assert gradients(model, ids)[0] != wanted[0]
    assert revert_from_fp8(model) is model
    assert [type(module) for module in model.modules()] == classes
    assert_same(gradients(model, ids), wanted)
    assert not model._forward_pre_hooks and not hasattr(model, "fp8_state")
    convert_to_fp8(model, recipe())  # and again


def test_state_dict_parameters_and_their_order_stay():
    model = student()
    before = [(name, id(p)) for name, p in model.named_parameters()]
    buffers = [(name, id(b)) for name, b in model.named_buffers()]
    keys = list(model.state_dict())
    convert_to_fp8(model, recipe())
    assert [(name, id(p)) for name, p in model.named_parameters()] == before
    assert list(model.state_dict()) == keys
    assert [(name, id(b)) for name, b in model.named_buffers()] == buffers
    assert [type(layer).__name__ for layer in model.model.layers] == ["Qwen2DecoderLayer"] * 2


def test_saved_in_the_middle_of_training_it_is_a_plain_checkpoint(tmp_path):
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss_of(model, ids).backward()
    optimizer.step()
    model.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(plain.model.layers[0].mlp.down_proj) is nn.Linear
    for (name, left), (_, right) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.equal(left, right), name


def test_copies_and_files_train_on(tmp_path):
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    wanted = gradients(model, ids)
    file = io.BytesIO()
    torch.save(model, file)
    assert len(file.getvalue()) < 1.1 * sum(4 * p.numel() for p in model.parameters()), "no quantised weights in it"
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert_same(gradients(twin, ids), wanted)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.mul_(0.5)
        assert gradients(twin, ids)[0] != wanted[0]
        assert_same(gradients(model, ids), wanted)
        revert_from_fp8(twin)
        assert not twin._forward_pre_hooks
    assert state_of(model).layers


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_and_generation(kind):
    model, ids = student(kind), token_ids()
    convert_to_fp8(model, recipe())
    training = loss_of(model, ids).item()
    model.eval()
    with torch.inference_mode():
        assert loss_of(model, ids).item() == pytest.approx(training, rel=2e-3)
        prompt = token_ids(rows=2, tokens=9)
        one_by_one = model.generate(prompt, max_new_tokens=6, do_sample=False, pad_token_id=0)
        whole = model.generate(prompt, max_new_tokens=6, do_sample=False, use_cache=False, pad_token_id=0)
    assert one_by_one.shape == (2, 15)
    assert (one_by_one == whole).float().mean() > 0.9  # BF16 attention over a cache adds in another order


LORA = dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM")


def test_lora_after_conversion_trains_over_fp8():
    peft = pytest.importorskip("peft")
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    adapted = peft.get_peft_model(model, peft.LoraConfig(**LORA))
    assert isinstance(adapted.base_model.model.model.layers[0].self_attn.q_proj.base_layer, FP8Linear)
    adapted.enable_input_require_grads()
    adapted.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(5):
        loss = loss_of(adapted, ids)
        loss.backward()
        assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05, losses
    paper = receipt(adapted)
    paper.check()
    assert len(paper.linears) == 14 and paper.converted == 14
    assert all("wgrad" not in linear.kernels for linear in paper.linears.values()), "the base is frozen"


def test_lora_before_conversion_is_the_wrong_order():
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(student(), peft.LoraConfig(**LORA))
    with pytest.raises(Fp8Error, match=r"q_proj: the model has LoRA adapters already; convert_to_fp8 comes first"):
        convert_to_fp8(adapted, recipe())


def test_what_is_refused():
    other = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=10))
    with pytest.raises(Fp8Error, match=r"architecture 'gpt2': .* supported are qwen2, qwen3, llama"):
        convert_to_fp8(other, recipe())
    model = student()
    with pytest.raises(Fp8Error, match=r"is not converted to FP8; call convert_to_fp8"):
        revert_from_fp8(model)
    with pytest.raises(Fp8Error, match=r"device 'meta': FP8 runs on CUDA"):
        convert_to_fp8(model, recipe(), device="meta")
    convert_to_fp8(model, recipe())
    with pytest.raises(Fp8Error, match=r"converted to FP8 already; call revert_from_fp8"):
        convert_to_fp8(model, recipe())
    with pytest.raises(Fp8Error, match=r"layers.9.mlp: no converted linear"):
        keep_in_bf16(model, "layers.9.mlp", "test")
    with pytest.raises(Fp8Error, match=r"fp8 recipe 'fats': unknown \(did you mean 'fast'\?\)"):
        get_recipe("fats")
    with pytest.raises(Fp8Error, match=r"no field 'keep_bf61' \(did you mean 'keep_bf16'\?\)"):
        get_recipe("fast", keep_bf61=())


def assert_untouched(model):
    assert type(model.model.layers[0].self_attn.q_proj) is nn.Linear
    assert not model._forward_pre_hooks and not hasattr(model, "fp8_state")


def test_sizes_that_cannot_be_blocked_name_the_linear_and_leave_the_model_alone():
    model = student(intermediate_size=392)
    with pytest.raises(Fp8Error, match=r"model.layers.0.mlp.gate_proj: 392 x 256 cannot be blocked.*keep_bf16"):
        convert_to_fp8(model, recipe())
    assert_untouched(model)
    keep = ("gate_proj", "up_proj", "down_proj")
    state = convert_to_fp8(model, recipe(keep_bf16=keep))
    assert len(state.bf16) == 6 and set(state.bf16.values()) == {"keep_bf16"}
    gradients(model, token_ids())
    receipt(model).check()


def test_a_linear_of_another_kind_is_refused():
    class Quantised(nn.Linear):
        pass

    model = student()
    model.model.layers[1].mlp.up_proj.__class__ = Quantised
    with pytest.raises(Fp8Error, match=r"layers.1.mlp.up_proj: is a Quantised, and only a plain nn.Linear"):
        convert_to_fp8(model, recipe())
    assert_untouched(model)


def test_a_recipe_under_which_nothing_is_fp8_is_an_error():
    model = student()
    with pytest.raises(Fp8Error, match=r"no linear of this model would be FP8 \(skinny: .*skinny_below"):
        convert_to_fp8(model, get_recipe("fast"))
    with pytest.raises(Fp8Error, match=r"no linear of this model would be FP8 \(edge layer\)"):
        convert_to_fp8(model, recipe("accurate"))
    assert_untouched(model)
    convert_to_fp8(model, get_recipe("bf16"))


def test_edges_and_skinny_linears_stay_in_bf16():
    model = student(num_hidden_layers=4)
    state = convert_to_fp8(model, recipe("accurate"))
    assert sorted({name.split(".")[2] for name in state.bf16}) == ["0", "3"]
    assert set(state.bf16.values()) == {"edge layer"} and list(state.layers) == ["model.layers.1", "model.layers.2"]
    gradients(model, token_ids())
    paper = receipt(model)
    paper.check()
    assert {name.split(".")[2] for name in paper.linears} == {"1", "2"}
    model = student()  # o_proj: 256 x 256, N K / (N + K) = 128; q, k and v together: 512 x 256, 171
    state = convert_to_fp8(model, get_recipe("fast", skinny_below=150))
    assert set(state.bf16) == {f"model.layers.{layer}.self_attn.o_proj" for layer in range(2)}
    assert len(state.layers) == 2, "the layer is fused all the same"
    gradients(model, token_ids())
    receipt(model).check()


def test_sizes_of_16_run_one_by_one():
    model = student(hidden_size=144, intermediate_size=208, head_dim=16, num_attention_heads=3)
    ids = token_ids()
    loss, _ = gradients(model, ids)
    state = convert_to_fp8(model, recipe())
    assert not state.layers
    assert gradients(model, ids)[0] == pytest.approx(loss, rel=1e-2)
    receipt(model).check()


def test_tied_embeddings():
    model, ids = student(tie_word_embeddings=True), token_ids()
    loss, exact = gradients(model, ids)
    convert_to_fp8(model, recipe())
    found = gradients(model, ids)
    assert found[0] == pytest.approx(loss, rel=1e-2)
    name = "model.embed_tokens.weight"
    assert torch.nn.functional.cosine_similarity(found[1][name].flatten(), exact[name].flatten(), dim=0) > 0.99
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_loss_of_a_frozen_layer_and_embedding():
    model, ids = student(), token_ids()
    model.model.embed_tokens.requires_grad_(False)
    model.model.layers[0].mlp.requires_grad_(False)
    convert_to_fp8(model, recipe())
    _, found = gradients(model, ids)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trained and all(g.abs().sum() > 0 for g in found.values())
