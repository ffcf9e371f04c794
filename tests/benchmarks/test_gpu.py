"""The GPU benchmark's arithmetic against numbers worked out by hand, its judgements, and its table.

The whole program is run in tests/scripts/test_bench_gpu.py; no figure of this file was measured.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import documents, memory, mfu, products, quantize, results, shapes, table, targets, timing

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def test_lengths_fill_the_row_and_are_clipped_to_it():
    for tokens in (1, 4096, 16384, 32768):
        lengths = documents.document_lengths(tokens, seed=0)
        assert sum(lengths) == tokens
        assert min(lengths) >= 1
    assert documents.document_lengths(16384, seed=0) == documents.document_lengths(16384, seed=0)
    assert documents.document_lengths(16384, seed=0) != documents.document_lengths(16384, seed=1)


def test_lengths_have_the_mean_and_the_length_biased_mean_of_their_distribution():
    """E[L] = 7600 and E[L^2] / E[L] = 7600 exp(0.8^2) = 14413: the 14k of the cost model."""
    lengths = documents.document_lengths(60_000_000, seed=2)
    assert sum(lengths) / len(lengths) == pytest.approx(7600, rel=0.03)
    assert documents.length_biased_mean(lengths) == pytest.approx(14413, rel=0.06)


def test_a_batch_forgets_the_next_document():
    batch = documents.packed_batch(300, 50, CPU, seed=4, mean=60.0)
    ends = batch.packing.starts[1:].tolist()
    assert len(ends) > 2 and ends[-1] == 300
    for at in range(300):
        last = at + 1 in ends
        assert batch.labels[0, at] == (documents.IGNORED if last else batch.input_ids[0, at + 1])
        assert batch.position_ids[0, at] == at - max(start for start in [0, *ends] if start <= at)


def test_length_biased_mean_by_hand():
    assert documents.length_biased_mean([1, 3]) == 10 / 4


def test_step_flops_by_hand():
    """10 parameters, 4 tokens: 240. Two layers of width 8, lengths 1 and 3: 6 x 2 x 8 x 10 = 960."""
    assert mfu.step_flops(10, 4, 2, 8, [1, 3]) == 240 + 960


def test_attention_flops_are_those_of_the_products():
    """One document of L: q k^T and p v are 2 L^2 width each, half of it under the diagonal, three times in training."""
    length, width = 64, 32
    forward = 2 * (2 * length * length * width) // 2
    assert mfu.step_flops(0, length, 1, width, [length]) == 3 * forward


def test_utilisation_is_of_the_datasheet_peak_and_unknown_devices_have_none():
    assert mfu.utilisation(989.4e12, 2.0, "NVIDIA H200") == pytest.approx(0.5)
    assert mfu.utilisation(1e12, 1.0, "cpu") is None


@pytest.mark.parametrize(
    ("name", "billions"), [("1.5B", 1.31 + 0.233), ("7B", 6.53 + 0.545), ("14B", 13.1 + 0.779), ("32B", 31.0 + 0.779)]
)
def test_students_have_the_parameters_of_their_cards(name, billions):
    """Parameters without embedding by the model cards of Qwen2.5, and the head: vocabulary x width."""
    student = shapes.STUDENTS[name]
    assert student.matmul_parameters(student.layers) / 1e9 == pytest.approx(billions, rel=0.01)


def test_shapes_are_those_of_the_model():
    """Parameters counted in the model that transformers builds from the configuration, biases and norms apart."""
    from transformers import Qwen2ForCausalLM

    for student in (shapes.STUDENTS["1.5B"], shapes.STUDENTS["7B"]):
        with torch.device("meta"):
            model = Qwen2ForCausalLM(student.config(2, "eager"))
        linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
        assert sum(linear.weight.numel() for linear in linears) == student.matmul_parameters(2)
        assert model.config.num_attention_heads * model.config.hidden_size // student.heads == student.attention_width


def test_products_of_a_layer_multiply_what_the_parameters_say():
    student = shapes.STUDENTS["7B"]
    flops = sum(product.flops for product in student.products(100))
    assert flops == 6 * 100 * (student.matmul_parameters(1) - student.vocabulary * student.hidden)


def test_bytes_are_counted_by_element():
    x = torch.zeros(4, 8, dtype=torch.bfloat16)
    assert quantize.bytes_of((x, (torch.zeros(2), 7))) == 64 + 8


def test_skinny_rule_is_the_recipes_formula():
    """640 and 1000 TFLOP/s, 2.75 TB/s: the rates in the docstring of SKINNY_BELOW."""
    found = products.skinny_below(640.0, 1000.0, 2.75)
    assert found == pytest.approx(430.98, abs=0.01)
    assert products.skinny_below(640.0, 600.0, 2.75) is None


def test_summary_is_the_median_and_the_middle():
    assert timing.summary([5.0, 1.0, 3.0]) == {"median": 3.0, "least": 1.0, "most": 5.0, "count": 3}
    twenty = timing.summary([float(value) for value in range(20)])
    assert (twenty["median"], twenty["least"], twenty["most"]) == (9.5, 2.0, 17.0)


def test_weight_copies_are_found_and_activations_are_not():
    linear = torch.nn.Linear(48, 32, bias=False)
    copies = memory.WeightCopies(linear)
    x = torch.randn(5, 48, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(copies.pack, copies.unpack):
        y = torch.nn.functional.linear(x.bfloat16(), linear.weight.bfloat16())
    y.sum().backward()
    assert copies.bytes == 48 * 32 * 2
    assert linear.weight.grad is not None


def test_file_name_of_a_device():
    assert results.file_name("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3.json"


def step_row(student, layers, variant, whole, milliseconds, activation):
    spread = {"median": milliseconds, "least": milliseconds, "most": milliseconds, "count": 6}
    third = {**spread, "median": milliseconds / 4}
    row = {"student": student, "layers": layers, "variant": variant, "whole": whole, "tokens": 16384}
    row |= {"recompute": False, "step_milliseconds": spread, "activation_bytes": activation, "loss": 12.0}
    row |= {"forward_milliseconds": third, "backward_milliseconds": {**third, "median": milliseconds / 2}}
    row |= {"optimizer_milliseconds": third, "tokens_per_second": 1.0, "mfu": 0.5, "peak_bytes": 1, "working_bytes": 1}
    return row


def invented():
    """A result file whose judgements can be worked out by hand: 7B costs 20 + 10 L in BF16, 20 + 6 L in FP8."""
    seven = [
        step_row("7B", layers, variant, False, 20 + cost * layers, size * layers)
        for layers in (2, 6)
        for variant, cost, size in (("fast", 6, 4), ("bf16", 10, 10), ("stock", 12, 20))
    ]
    one = [
        step_row("1.5B", 28, variant, True, cost, size)
        for variant, cost, size in (("fast", 80, 55), ("bf16", 100, 100), ("stock", 99, 200))
    ]
    part = {"notes": [], "complete": True}
    copies = [{"student": "7B", "kernel": name, "share_of_copy": 0.9} for name in quantize.QUANTISERS]
    copies[1]["share_of_copy"] = 0.84
    parts = {
        "step-7B": {"rows": seven, **part},
        "step-1.5B": {"rows": one, **part},
        "quantize": {"rows": copies, **part},
    }
    return {"toy": False, "row_tokens": [4096, 16384, 32768], "parts": parts}


def test_targets_are_judged_against_the_better_bf16_and_slices_are_put_together():
    judged = {target["target"].split(",")[0]: target for target in targets.judge(invented())}
    one = judged["step time of 1.5B at 16k"]
    assert (one["value"], one["result"]) == (pytest.approx(80 / 99), "pass")
    seven = judged["step time of 7B at 16k"]
    assert seven["value"] == pytest.approx((20 + 6 * 28) / (20 + 10 * 28))
    assert seven["result"] == "pass"
    assert "28 layers put together from slices of 2 and 6" in seven["basis"]
    assert judged["activation memory of 1.5B at 16k"]["result"] == "miss"
    assert judged["activation memory of 7B at 16k"]["value"] == pytest.approx(0.4)
    assert judged["quantise bandwidth / copy bandwidth"]["result"] == "miss"


def test_what_is_not_measured_is_not_judged():
    data = invented()
    data["parts"]["step-7B"]["rows"] = [row for row in data["parts"]["step-7B"]["rows"] if row["layers"] == 2]
    del data["parts"]["quantize"]
    results_of = {target["target"].split(",")[0]: target["result"] for target in targets.judge(data)}
    assert results_of["step time of 7B at 16k"] == "not measured"
    assert results_of["quantise bandwidth / copy bandwidth"] == "not measured"


def test_a_step_of_eight_micro_batches_has_one_optimizer_step():
    row = step_row("7B", 2, "fast", False, 40.0, 1)
    assert targets.step_of_8_ms(row) == 8 * (10 + 20) + 10


def test_parts_of_an_earlier_run_are_kept_for_the_same_device_and_versions_only(tmp_path):
    head = results.header(CPU, toy=True)
    first = results.Results(tmp_path / "cpu.json", head)
    first.data["row_tokens"] = [1, 2, 3]
    first.begin("quantize", deadline=0.0).finish()
    again = results.Results(tmp_path / "cpu.json", head, keep=True)
    assert list(again.data["parts"]) == ["quantize"]
    other = copy.deepcopy(head)
    other["versions"]["torch"] = "0"
    assert results.Results(tmp_path / "cpu.json", other, keep=True).data["parts"] == {}


def test_recorded_tables_are_made_from_their_json():
    """Every result that lies in the repository, and none of them a toy."""
    for path in sorted((ROOT / "benchmarks" / "gpu").glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        assert not data["toy"]
        assert data["targets"] == targets.judge(data)
        assert path.with_suffix(".md").read_text(encoding="utf-8") == table.table(data)
