"""Two processes under torchrun on gloo, plain and with DeepSpeed ZeRO: the curve of one process, and a real resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill.train.parallel import deepspeed_config
from distill.train.precision import convert
from distill.train.sft import fine_tune

WORKER = Path(__file__).with_name("worker.py")
DOCUMENTS = {"count": 20}
SETTINGS = {"num_train_epochs": 4, "gradient_accumulation_steps": 2, "save_every_steps": 4}


def torchrun(out: Path, settings: dict, **job) -> int:
    job = {"out": str(out), "settings": {**SETTINGS, **settings}, "documents": DOCUMENTS, **job}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(WORKER)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*command, json.dumps(job)], env=environment, timeout=500, check=False).returncode


def assert_the_same(straight, expected, out: Path) -> None:
    found = json.loads((out / "result.json").read_text())
    assert found["trained_tokens"] == expected.trained_tokens
    assert [step for step, _ in found["loss_curve"]] == [step for step, _ in expected.loss_curve]
    for (_, left), (_, right) in zip(found["loss_curve"], expected.loss_curve, strict=True):
        assert left == pytest.approx(right, abs=1e-3)
    weights = torch.load(out / "weights.pt", weights_only=True)
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=1e-3, rtol=0, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_two_processes_train_like_one(make_model, make_documents, make_settings, tokenizer, tmp_path, zero_stage):
    """One process with twice the accumulation sees the same rows in a step."""
    alone = make_settings(**{**SETTINGS, "gradient_accumulation_steps": 4})
    straight = make_model()
    expected = fine_tune(straight, tokenizer, make_documents(**DOCUMENTS), alone, tmp_path / "one", seed=7, quiet=True)
    assert expected.optimizer_steps >= 5

    out = tmp_path / "two"
    two = {"num_processes": 2, "zero_stage": zero_stage}
    assert torchrun(out, two, die_at_step=5) != 0
    assert (out / "checkpoints" / "checkpoint-4").is_dir()
    assert torchrun(out, two) == 0
    assert json.loads((out / "result.json").read_text())["resumed_from_step"] == 4
    assert_the_same(straight, expected, out)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_two_processes_train_in_fp8_like_one(
    make_model, make_documents, make_settings, tokenizer, tmp_path, zero_stage
):
    probe_every_steps = None if zero_stage == 3 else 3
    fp8 = {"precision": "fp8", "fp8": {"skinny_below": 0, "probe_every_steps": probe_every_steps}}
    model = {"hidden_size": 128}
    alone = make_settings(**{**SETTINGS, **fp8, "gradient_accumulation_steps": 4})
    straight = make_model(**model)
    convert(straight, alone)
    expected = fine_tune(straight, tokenizer, make_documents(**DOCUMENTS), alone, tmp_path / "one", seed=7, quiet=True)

    out = tmp_path / "two"
    assert torchrun(out, {**fp8, "num_processes": 2, "zero_stage": zero_stage}, model=model) == 0
    found = json.loads((out / "result.json").read_text())
    for (_, left), (_, right) in zip(found["loss_curve"], expected.loss_curve, strict=True):
        assert left == pytest.approx(right, rel=0.02)
    linears = found["precision"]["receipt"]["linears"]
    assert set(linears["model.layers.1.mlp.gate_up_proj"]["kernels"]) == {"fprop", "dgrad", "wgrad"}
    assert all(set(calls) == {"emulation"} for linear in linears.values() for calls in linear["kernels"].values())
    assert len(found["precision"]["probes"]) == (0 if zero_stage == 3 else 1 + (expected.optimizer_steps - 1) // 3)


def test_no_deepspeed_without_zero(make_settings):
    assert deepspeed_config(make_settings()) is None


def test_deepspeed_settings(make_settings):
    settings = deepspeed_config(make_settings(zero_stage=3, precision="bf16"))
    assert settings["zero_optimization"]["stage"] == 3
    assert settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
    assert settings["bf16"]["enabled"]
