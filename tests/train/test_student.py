"""From traces to a student folder: full and LoRA, template, finished and foreign folders."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from distill.cards import StudentCard
from distill.engines.local import load_model
from distill.errors import TraceError, TrainingError
from distill.train.student import load_student_model, train_student


@pytest.fixture(scope="module")
def base(world_tokenizer, tmp_path_factory) -> Path:
    """A Qwen2 with random weights and the embedded tokenizer."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=448, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            tie_word_embeddings=False,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    world_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def card(make_card, base) -> StudentCard:
    return make_card(base)


@pytest.fixture(scope="module")
def traces() -> list[dict]:
    rng = random.Random(0)
    pairs = [(rng.randrange(10, 99), rng.randrange(10, 99)) for _ in range(12)]
    return [
        {"id": f"t{at}", "prompt": f"{a}+{b}?", "reasoning": f"{a}+{b}={a + b}", "answer": f"\\boxed{{{a + b}}}"}
        for at, (a, b) in enumerate(pairs)
    ]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder, name="student")[0].state_dict()


def test_full(card, traces, base, make_settings, tmp_path):
    out = tmp_path / "student"
    result = train_student(card, traces, make_settings(), out, seed=3, teacher="big", quiet=True)
    assert result.num_documents == 12
    before, after = weights_of(base), weights_of(out)
    assert all(not torch.equal(before[name], after[name]) for name in before if "proj.weight" in name)
    config = json.loads((out / "config.json").read_text())
    assert config["use_cache"] is True
    readme = (out / "README.md").read_text()
    assert "distilled from big" in readme
    assert "license: apache-2.0" in readme


def test_lora_changes_its_target_modules_alone(card, traces, base, make_settings, tmp_path):
    out = tmp_path / "student"
    settings = make_settings(method="lora", lora={"r": 4, "lora_alpha": 8}, num_train_epochs=4)
    result = train_student(card, traces, settings, out, seed=3, teacher="big", quiet=True)
    assert result.final_loss < result.loss_curve[0][1]
    adapter = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"]) == (4, 8)
    assert set(adapter["target_modules"]) == {"q_proj", "v_proj"}
    before, after = weights_of(base), weights_of(out)
    assert set(before) == set(after), "the merged model is a plain one"
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.layers.{n}.self_attn.{part}_proj.weight" for n in (0, 1) for part in "qv"}
    for name in changed:
        assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) <= 4


def test_the_adapter_on_the_base_is_the_merged_student(card, traces, base, make_settings, tmp_path):
    from peft import PeftModel

    out = tmp_path / "student"
    train_student(card, traces, make_settings(method="lora"), out, seed=3, teacher="big", quiet=True)
    model, tokenizer = load_model(base, name="base")
    ids = torch.tensor([tokenizer("12+34?")["input_ids"]])
    adapted = PeftModel.from_pretrained(model, out / "adapter")(ids).logits
    torch.testing.assert_close(adapted, load_model(out, name="student")[0](ids).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_same_seed_gives_the_same_student(card, traces, make_settings, tmp_path, method):
    for name in ("one", "two"):
        torch.manual_seed(hash(name) % 1000)
        train_student(card, traces, make_settings(method=method), tmp_path / name, seed=3, teacher="big", quiet=True)
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_lora_resumes_where_it_was(card, traces, make_settings, tmp_path):
    """The newest checkpoint is torn: the rerun goes on from the one before and ends with the same student."""
    settings = make_settings(method="lora", num_train_epochs=4, save_every_steps=2, lora={"lora_dropout": 0.1})
    expected = train_student(card, traces, settings, tmp_path, seed=3, teacher="big", quiet=True)
    before = weights_of(tmp_path)
    newest = max((tmp_path / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    path = newest / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    (tmp_path / "training.json").unlink()
    found = train_student(card, traces, settings, tmp_path, seed=3, teacher="big", quiet=True)
    assert 0 < found.resumed_from_step < found.optimizer_steps
    assert found.loss_curve == expected.loss_curve
    assert all(torch.equal(value, weights_of(tmp_path)[name]) for name, value in before.items())


def test_a_finished_student_is_not_trained_again(card, traces, make_settings, tmp_path):
    first = train_student(card, traces, make_settings(), tmp_path, seed=3, teacher="big", quiet=True)
    changed = (tmp_path / "model.safetensors").stat().st_mtime_ns
    again = train_student(card, traces, make_settings(), tmp_path, seed=3, teacher="big", quiet=True)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == changed
    assert again.final_loss == first.final_loss
    with pytest.raises(TrainingError, match="holds a student of other traces, settings or seed"):
        train_student(card, traces, make_settings(), tmp_path, seed=4, teacher="big", quiet=True)


def test_r1_template_is_given_where_the_card_says_so(card, make_settings):
    model, tokenizer = load_student_model(card.model_copy(update={"chat_template": "r1"}), make_settings())
    messages = [{"role": "user", "content": "1+1?"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|begin|><|User|>1+1?<|Assistant|>"
    assert len(tokenizer) <= model.get_input_embeddings().num_embeddings


def test_no_traces(card, make_settings, tmp_path):
    with pytest.raises(TraceError, match="the dataset has no traces"):
        train_student(card, [], make_settings(), tmp_path, seed=3, teacher="big")


def test_bf16_trains_with_float32_weights(card, traces, make_settings, tmp_path):
    result = train_student(card, traces, make_settings(precision="bf16"), tmp_path, seed=3, teacher="big", quiet=True)
    assert result.final_loss < 7
    assert {value.dtype for value in weights_of(tmp_path).values()} == {torch.float32}
