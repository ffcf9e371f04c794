"""torch.compile: the same bits as eager, kernels still counted, weights refreshed, nothing compiled anew."""

import warnings

import pytest
import torch
from models import Quantisations, assert_same, calls, error, gradients, loss_of, recipe, student, token_ids
from torch._dynamo.testing import CompileCounterWithBackend

from distill.fp8 import convert_to_fp8, in_bf16, receipt, shadow_probe

warnings.filterwarnings("ignore", category=UserWarning)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compile_layers(model, backend, fullgraph=True):
    for layer in model.model.layers:
        layer.compile(backend=backend, fullgraph=fullgraph, dynamic=False)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_a_layer_compiles_whole_and_gives_the_same_bits(kind):
    model = student(kind, num_hidden_layers=1)
    state = convert_to_fp8(model, recipe())
    ids = token_ids()
    eager = gradients(model, ids)
    before = {role: calls(role) for role in ("fprop", "dgrad", "wgrad")}
    compile_layers(model, "aot_eager")
    assert_same(gradients(model, ids), eager)
    assert {role: calls(role) - n for role, n in before.items()} == {"fprop": 4, "dgrad": 4, "wgrad": 4}
    receipt(model).check()
    assert all(layer.fp8.qkv._operand is not None for layer in state.layers.values())


@pytest.mark.parametrize("name", ["small", "accurate"])
def test_other_recipes_compile(name):
    model = student(num_hidden_layers=1)
    convert_to_fp8(model, recipe(name, edge_layers_bf16=0))
    ids = token_ids()
    eager = gradients(model, ids)
    compile_layers(model, "aot_eager")
    assert_same(gradients(model, ids), eager)


def test_no_recompilation_and_weights_are_refreshed_at_each_step(monkeypatch):
    model, twin = (student(num_hidden_layers=1) for _ in range(2))
    ids = token_ids()
    counter = CompileCounterWithBackend("aot_eager")
    for each in (model, twin):
        convert_to_fp8(each, recipe())
    compile_layers(model, counter)
    optimizers = [torch.optim.AdamW(each.parameters(), lr=1e-3) for each in (model, twin)]
    frames = []
    for _ in range(4):
        for each, optimizer in zip((model, twin), optimizers, strict=True):
            losses = [loss_of(each, ids), loss_of(each, ids)]
            sum(losses).backward()
            optimizer.step()
            optimizer.zero_grad()
            each.last = losses[0].item()
        assert model.last == twin.last
        frames.append(counter.frame_count)
    assert len(set(frames)) == 1, frames
    assert frames[0] == 1
    with Quantisations(monkeypatch) as seen:
        loss_of(model, ids)
    assert len(seen.role("weight")) == 7  # each once, outside of the graph
    with Quantisations(monkeypatch) as seen:
        loss_of(model, ids).backward()
    assert seen.role("weight") == []


def errors(model, ids, exact, call=None):
    """Loss, and the relative error of each gradient against those of an unconverted float32 model."""
    model.zero_grad()
    loss = loss_of(model if call is None else call, ids)
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return loss.item(), {name: error(found[name], gradient) for name, gradient in exact.items()}


def test_a_whole_model_compiles():
    """Loss to the bit; the gradients of embeddings and loss are decomposed otherwise, and FP8 amplifies last bits."""
    model = student(num_hidden_layers=1)
    ids = token_ids()
    _, exact = gradients(model, ids)
    convert_to_fp8(model, recipe())
    compiled = torch.compile(model, backend="aot_eager", dynamic=False)
    before, after = errors(model, ids, exact), errors(model, ids, exact, compiled)
    assert after[0] == before[0]
    for name, found in before[1].items():
        assert after[1][name] == pytest.approx(found, rel=0.1), name
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert loss_of(compiled, ids).item() == loss_of(model, ids).item() != before[0]


def test_linears_beside_one_another_share_one_quantisation(monkeypatch):
    """Unfused, as under an adapter: the compiler merges what q, k and v ask for."""
    model = student(num_hidden_layers=1)
    convert_to_fp8(model, recipe())
    model.eval()
    ids = token_ids()
    eager = loss_of(model, ids).item()
    compile_layers(model, "aot_eager")
    assert loss_of(model, ids).item() == eager
    with Quantisations(monkeypatch) as seen:
        loss_of(model, ids)
    assert sorted(seen.role("input")) == sorted(
        f"model.layers.0.{group}/input"
        for group in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    )


def test_the_probe_finds_linears_of_compiled_layers():
    model = student(num_hidden_layers=1)
    convert_to_fp8(model, recipe())
    ids = token_ids()
    for index, layer in enumerate(model.model.layers):
        model.model.layers[index] = torch.compile(layer, backend="aot_eager", dynamic=False)
    result = shadow_probe(model, lambda: loss_of(model, ids), step=1)
    assert len(result.cosines) == 7 and min(result.cosines.values()) > 0.9
    with in_bf16(model):
        assert loss_of(model, ids).item() == result.loss_bf16


@pytest.mark.slow
def test_inductor():
    """Inductor does not round to BF16 between fused steps: other last bits, and no larger errors."""
    model = student(num_hidden_layers=1)
    ids = token_ids()
    _, exact = gradients(model, ids)
    convert_to_fp8(model, recipe())
    eager = errors(model, ids, exact)
    compile_layers(model, "inductor")
    compiled = errors(model, ids, exact)
    assert compiled[0] == pytest.approx(eager[0], rel=1e-3)
    for name, found in eager[1].items():
        assert compiled[1][name] < 1.1 * found, name
    receipt(model).check()
