"""precision: fp8 through the whole of training: receipt, probes, promotion, resume, LoRA, exports, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from distill.cards import StudentCard
from distill.engines.local import load_model
from distill.errors import TrainingError
from distill.fp8 import FP8Linear
from distill.recipes import Fp8, Lora
from distill.train.precision import check_student, convert
from distill.train.sft import fine_tune
from distill.train.student import train_student

TINY = Path(__file__).resolve().parents[2] / "students" / "tiny"
NUM_LINEARS = 28  # seven in each of its four layers


@pytest.fixture
def card(make_card) -> StudentCard:
    return make_card(TINY)


@pytest.fixture(scope="module")
def traces() -> list[dict]:
    return [
        {"id": f"t{a}", "prompt": f"{a}+{a}?", "reasoning": f"{a}+{a}={2 * a}", "answer": f"\\boxed{{{2 * a}}}"}
        for a in range(10, 34)
    ]


@pytest.fixture
def settings(make_settings):
    def build(precision: str = "fp8", probe_every_steps: int | None = 3, **fp8: object):
        shape = {"learning_rate": 1e-3, "num_train_epochs": 3, "max_length": 128, "rows_per_micro_batch": 2}
        own = Fp8(skinny_below=0, probe_every_steps=probe_every_steps, **fp8) if precision == "fp8" else None
        return make_settings(precision=precision, fp8=own, gradient_accumulation_steps=1, **shape)

    return build


@pytest.mark.parametrize("recipe", ["fast", "accurate", "small", "bf16"])
def test_every_recipe_learns_what_bf16_learns(card, traces, settings, tmp_path, recipe):
    expected = train_student(card, traces, settings("bf16"), tmp_path / "bf16", seed=3, teacher="big", quiet=True)
    found = train_student(card, traces, settings(recipe=recipe), tmp_path / "fp8", seed=3, teacher="big", quiet=True)
    assert found.optimizer_steps == expected.optimizer_steps
    assert found.loss_curve[0][1] == pytest.approx(expected.loss_curve[0][1], rel=0.01)
    assert found.final_loss == pytest.approx(expected.final_loss, rel=0.15)  # nine steps, far from settled
    assert found.final_loss < 0.5 * found.loss_curve[0][1]
    saved = load_model(tmp_path / "fp8", name="student")[0]
    assert type(saved.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert saved.model.layers[0].mlp.up_proj.weight.dtype == torch.float32


def test_receipt_and_probes_are_kept_and_printed(card, traces, settings, tmp_path, capsys):
    result = train_student(card, traces, settings(), tmp_path, seed=3, teacher="big", quiet=True)
    paper = result.precision["receipt"]
    assert (paper["converted"], paper["num_linears"]) == (NUM_LINEARS, NUM_LINEARS)
    gate_up = paper["linears"]["model.layers.0.mlp.gate_up_proj"]
    steps_and_probes = result.optimizer_steps + len(result.precision["probes"])
    assert gate_up["kernels"] == {product: {"emulation": steps_and_probes} for product in ("fprop", "dgrad", "wgrad")}
    assert gate_up["fallbacks"] == {}
    assert 20 < gate_up["operands"]["gradient"]["snr_db"] < 45
    assert [probe["step"] for probe in result.precision["probes"]] == list(range(0, result.optimizer_steps, 3))
    for probe in result.precision["probes"]:
        assert abs(probe["relative_gap"]) < 0.05
        assert len(probe["cosines"]) == NUM_LINEARS
    assert json.loads((tmp_path / "training.json").read_text())["result"]["precision"] == result.precision
    printed = capsys.readouterr().err
    assert f"fp8 receipt: recipe fast on cpu, {NUM_LINEARS} of {NUM_LINEARS} linears in FP8" in printed
    assert "fp8 probe at step 3: loss" in printed


def test_promotion_survives_a_resume(card, traces, settings, tmp_path, make_documents, tokenizer):
    """Every linear is promoted at step 0; what goes on from a checkpoint is in BF16 without another probe."""
    model = load_model(TINY, name="student")[0]
    chosen = settings(promote_below=1.0, probe_every_steps=1000)
    documents = make_documents(24)
    convert(model, chosen)
    fine_tune(model, tokenizer, documents, chosen, tmp_path, seed=1, quiet=True)
    newest = max(tmp_path.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    for path in sorted(newest.iterdir()):
        path.unlink()
    newest.rmdir()
    again = load_model(TINY, name="student")[0]
    convert(again, chosen)
    result = fine_tune(again, tokenizer, documents, chosen, tmp_path, seed=1, quiet=True)
    assert result.resumed_from_step > 0
    linears = [module for module in again.modules() if isinstance(module, FP8Linear)]
    assert {linear.precision for linear in linears} == {"bf16"}
    assert len(result.precision["probes"]) == 1
    assert len(result.precision["receipt"]["bf16"]) == NUM_LINEARS


def test_lora_on_an_fp8_base(card, traces, settings, tmp_path):
    chosen = settings().model_copy(update={"method": "lora", "lora": Lora(r=8, lora_alpha=16)})
    result = train_student(card, traces, chosen, tmp_path, seed=3, teacher="big", quiet=True)
    kernels = result.precision["receipt"]["linears"]["model.layers.1.self_attn.q_proj"]["kernels"]
    assert set(kernels) == {"fprop", "dgrad"}  # the base is frozen
    assert result.final_loss < result.loss_curve[0][1]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert load_model(tmp_path, name="student")[0].model.layers[0].self_attn.q_proj.weight.isfinite().all()


def test_exports(card, traces, settings, tmp_path):
    chosen = settings().model_copy(update={"export": ["bf16", "fp8"]})
    result = train_student(card, traces, chosen, tmp_path, seed=3, teacher="big", quiet=True)
    assert result.exports["fp8"]["fp8_linears"] == NUM_LINEARS
    assert result.exports["fp8"]["weights"]["kl_nats_per_token"] < 0.1
    assert "Logit" in (tmp_path / "fp8" / "README.md").read_text()
    reloaded = load_model(tmp_path / "fp8", name="student")[0]
    assert reloaded.config.model_type == "qwen2"
    assert load_model(tmp_path / "bf16", name="student")[0].config.model_type == "qwen2"


def test_gradient_checkpointing_changes_nothing(card, traces, settings, tmp_path):
    plain = train_student(card, traces, settings(), tmp_path / "plain", seed=3, teacher="big", quiet=True)
    chosen = settings().model_copy(update={"gradient_checkpointing": True})
    found = train_student(card, traces, chosen, tmp_path / "checkpointed", seed=3, teacher="big", quiet=True)
    assert found.loss_curve == plain.loss_curve


def test_nan_names_the_module_and_the_step(settings, make_documents, tokenizer, tmp_path):
    model = load_model(TINY, name="student")[0]
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[5, 7] = float("nan")
    chosen = settings(probe_every_steps=None)
    convert(model, chosen)
    with pytest.raises(TrainingError, match=r"model\.layers\.2\.mlp\.gate_up_proj/weight: NaN amax .* at step 1"):
        fine_tune(model, tokenizer, make_documents(24), chosen, tmp_path, seed=1, quiet=True)


def test_a_student_too_small_for_fp8(card, traces, make_settings, tmp_path):
    with pytest.raises(TrainingError, match=r"no linear of this model would be FP8 \(skinny: 128 x 128"):
        train_student(card, traces, make_settings(precision="fp8"), tmp_path, seed=3, teacher="big")


def test_an_architecture_without_fp8(card, make_settings):
    other = card.model_copy(update={"architecture": "gemma3"})
    with pytest.raises(TrainingError, match=r"architecture 'gemma3'; supported are qwen2, qwen3, llama"):
        check_student(other, make_settings(precision="fp8"))
    check_student(other, make_settings(precision="bf16"))


def test_fp8_settings_need_fp8(make_settings):
    with pytest.raises(ValidationError, match="fp8: given although precision is 'bf16'"):
        make_settings(precision="bf16", fp8=Fp8())
