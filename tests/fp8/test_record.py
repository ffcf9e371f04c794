"""What the record counts, what it refuses, and what every operator promises torch.compile."""

import pytest
import torch
from models import gradients, recipe, student, token_ids
from torch import library

from distill.fp8 import Fp8Error, convert_to_fp8, ops, receipt
from distill.fp8.quantize import quantize_rows
from distill.fp8.record import RECORD, Record, observing

LABEL = "0:layers.3.mlp.down_proj/input"


@pytest.fixture
def record():
    return Record()


def test_kernels_are_counted_by_label(record):
    record.ran("1:a/fprop", "emulation", [])
    record.ran("1:a/fprop", "emulation", [])
    record.ran("2:a/fprop", "triton", [])
    assert record.kernels["1:a/fprop"] == {"emulation": 2}
    record.clear("1:")
    assert list(record.kernels) == ["2:a/fprop"]


def test_a_fallback_is_an_error_unless_the_recipe_allows_it(record):
    with pytest.raises(Fp8Error, match=r"layers.3.mlp.up/fprop: would run as 'triton'.*17 tokens.*allow_fallback"):
        record.ran("1:layers.3.mlp.up/fprop", "triton", ["17 tokens"])
    record.strict["1"] = False
    record.ran("1:layers.3.mlp.up/fprop", "triton", ["17 tokens"])
    assert record.fallbacks["1:layers.3.mlp.up/fprop"]["17 tokens"] == 2


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_a_number_that_is_not_finite_names_module_operand_and_step(value, kind, monkeypatch):
    monkeypatch.setattr(RECORD, "step", 41)
    x = torch.ones(4, 300)
    x[2, 130] = value
    with pytest.raises(Fp8Error, match=rf"layers.3.mlp.down_proj/input: {kind} amax in 1 of 12 blocks at step 41"):
        ops.quantize_rows(x, False, LABEL)


def test_finite_scales_are_looked_at_every_so_many_steps_on_a_gpu(record, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen = []
    for step in range(5):
        record.begin_step(step, check_every=2)
        seen.append(record.check_finite)
    assert seen == [True, False, True, False, True]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    record.begin_step(3, check_every=2)
    assert record.check_finite and record.step == 3


def test_statistics_by_hand(record):
    """448 and 1 stay; 2^-11 is half of the smallest code and goes to zero; 13 of a 16 + 2^n grid errs by hand."""
    x = torch.tensor([[448.0, 1.0, 2.0**-11, 17.0] + [0.0] * 124])
    record.observe = True
    record.quantized(LABEL, quantize_rows(x), x)
    figures = record.statistics[LABEL].to_dict()
    assert figures["underflow_rate"] == 1 / 4 and figures["saturation_rate"] == 0.0
    noise = 1.0 + 2.0**-22  # 17 becomes 16, and what went to zero
    assert figures["snr_db"] == round(10 * torch.log10((x.double() ** 2).sum() / noise).item(), 2)


def test_saturation_is_seen(record):
    x = torch.full((128, 128), 3.0)
    q = quantize_rows(x)
    q.scales.mul_(0.5)
    record.observe = True
    record.quantized(LABEL, q, x)
    assert record.statistics[LABEL].to_dict()["saturation_rate"] == 1.0


def test_nothing_is_observed_outside(monkeypatch):
    monkeypatch.setattr(RECORD, "statistics", {})
    x = torch.randn(8, 128)
    ops.quantize_rows(x, False, LABEL)
    assert not RECORD.statistics
    with observing():
        ops.quantize_rows(x, False, LABEL)
    assert RECORD.statistics[LABEL].tensors == 1 and not RECORD.observe


def test_nan_in_training_names_the_linear_and_the_step():
    model, ids = student(), token_ids()
    convert_to_fp8(model, recipe())
    RECORD.begin_step(7, 1)
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight[3] = float("nan")
    with pytest.raises(Fp8Error, match=r"^model.layers.1.mlp.gate_up_proj/input: NaN amax .* at step 7"):
        gradients(model, ids)
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight[3] = 1.0
        model.model.layers[0].self_attn.k_proj.weight[5, 5] = float("inf")
    with pytest.raises(Fp8Error, match=r"^model.layers.0.self_attn.qkv_proj/weight: infinite amax"):
        gradients(model, ids)


def test_a_fallback_in_training(monkeypatch):
    monkeypatch.setattr(ops, "choose", lambda a, b, out_dtype, device: ("emulation", ["hopper: 140 tokens"]))
    ids = token_ids()
    model = student()
    convert_to_fp8(model, recipe())
    with pytest.raises(Fp8Error, match=r"model.layers.0.self_attn.qkv_proj/fprop: would run as 'emulation'"):
        gradients(model, ids)
    model = student()
    convert_to_fp8(model, recipe(allow_fallback=True))
    gradients(model, ids)
    paper = receipt(model)
    paper.check()
    fallbacks = paper.linears["model.layers.0.mlp.down_proj"].fallbacks
    assert fallbacks == {f"{p}: hopper: 140 tokens": 1 for p in ("fprop", "dgrad", "wgrad")}
    assert "fallbacks: 24" in paper.summary()


def operators():
    torch.manual_seed(0)
    x, w = torch.randn(70, 256), torch.randn(128, 256)
    norm, hidden, grad = torch.randn(256), torch.randn(70, 256), torch.randn(70, 128)
    xq, wq = ops.quantize_rows(x, False, LABEL), ops.quantize_blocks(w, False, LABEL)
    rstd = torch.rand(70)
    return {
        "quantize_rows": (x, True, LABEL),
        "quantize_columns": (x, False, LABEL),
        "quantize_both": (x, False, LABEL),
        "quantize_blocks": (w, False, LABEL),
        "transpose_blocks": (*wq, 128, 256),
        "dequantize": (*xq, 256),
        "rms_norm_quantize": (hidden, norm, 1e-6, False, LABEL),
        "rms_norm_quantize_columns": (hidden, norm, rstd, False),
        "rms_norm_backward": (x, hidden, norm, rstd),
        "swiglu_quantize_stash": (x, False, LABEL),
        "swiglu_quantize": (x, False, LABEL),
        "swiglu_backward_quantize": (grad, x, None, False, LABEL),
        "matmul": (*xq, *wq, torch.bfloat16, LABEL),
        "matmul_bf16": (grad, x, LABEL),
    }


@pytest.mark.parametrize("name", operators())
def test_operators_are_what_they_declare(name):
    """No argument is changed, no result is a view of one; shapes, dtypes and strides are those that are declared."""
    arguments = operators()[name]
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    before = [bytes_of(a) for a in tensors]
    library.opcheck(getattr(ops, name), arguments, test_utils="test_faketensor")
    real = getattr(ops, name)(*arguments)
    assert all(torch.equal(bytes_of(a), b) for a, b in zip(tensors, before, strict=True))
    storages = [a.untyped_storage().data_ptr() for a in (*tensors, *_tensors(real))]
    assert len(set(storages)) == len(storages)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = getattr(ops, name)(*(mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments))
    for left, right in zip(_tensors(real), _tensors(fake), strict=True):
        assert left.shape == right.shape and left.dtype == right.dtype
        if min(left.shape) > 1:
            assert left.stride() == right.stride(), name


def test_every_operator_is_in_that_check():
    registered = {name.removeprefix("distill_fp8::").partition(".")[0] for name in _registered()}
    assert registered == set(operators())


def _registered():
    return [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("distill_fp8::")]


def bytes_of(x):
    return x.detach().clone().contiguous().view(torch.uint8)


def _tensors(result):
    return [result] if isinstance(result, torch.Tensor) else list(result)
