"""Small models and matrices of the FP8 tests: sizes that the fused layers take (multiples of 128), and little more."""

from __future__ import annotations

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from distill.fp8 import Fp8Recipe, get_recipe
from distill.fp8.linear import FP8Linear
from distill.fp8.projection import Plan
from distill.fp8.record import RECORD
from distill.fp8.weights import WeightGroup

KINDS = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
VOCABULARY = 96


def student(kind="qwen2", seed=0, **changes):
    """A model that trains in float32; q has 256 outputs, k and v 128 each."""
    config_class, model_class = KINDS[kind]
    sizes = dict(hidden_size=256, intermediate_size=384, num_hidden_layers=2, num_attention_heads=2, head_dim=128)
    sizes |= dict(num_key_value_heads=1, vocab_size=VOCABULARY, max_position_embeddings=512, initializer_range=0.05)
    config = config_class(**(sizes | changes))
    config._attn_implementation = "sdpa"
    torch.manual_seed(seed)
    model = model_class(config).float().train()
    for name, parameter in model.named_parameters():  # biases and norms that are not trivial
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape)
        assert parameter.dtype == torch.float32, name
    return model


def recipe(name="fast", **changes) -> Fp8Recipe:
    """A recipe that takes linears of any size."""
    return get_recipe(name, **({"skinny_below": 0} | changes))


def token_ids(rows=2, tokens=70, seed=1):
    return torch.randint(0, VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def loss_of(model, ids, **arguments):
    return model(input_ids=ids, labels=ids, use_cache=False, **arguments).loss


def gradients(model, ids, **arguments):
    """(loss, gradient by name) of one step from zero."""
    model.zero_grad()
    loss = loss_of(model, ids, **arguments)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(left, right):
    """Two results of `gradients`, bit for bit."""
    assert left[0] == right[0]
    assert left[1].keys() == right[1].keys()
    for name, gradient in left[1].items():
        assert torch.equal(gradient, right[1][name]), name


def calls(role):
    """How often the record has seen a role (fprop, dgrad, wgrad), over all labels."""
    return sum(sum(c.values()) for label, c in RECORD.kernels.items() if label.endswith(f"/{role}"))


class Quantisations:
    """Labels that are quantised inside `with Quantisations(monkeypatch) as seen:`."""

    def __init__(self, monkeypatch):
        self.labels: list[str] = []
        self.patch = monkeypatch

    def __enter__(self):
        self.patch.setattr(
            type(RECORD), "quantized", lambda record, label, q, x=None: self.labels.append(label.partition(":")[2])
        )
        return self

    def __exit__(self, *_):
        self.patch.undo()

    def role(self, role):
        return [label for label in self.labels if label.endswith(f"/{role}")]


def heavy(rows, columns, seed, dtype=torch.float32):
    """Normal numbers with a few rows and columns 50 times as large, as activations and their gradients have."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator)
    large = torch.ones(rows, columns)
    large[:, torch.randperm(columns, generator=generator)[:8]] = 50
    large[torch.randperm(rows, generator=generator)[:8]] = 50
    return (x * large).to(dtype)


def fp8_linear(linear, wgrad="fp8", stash="fp8", label="0:linear", power_of_two=False):
    """That nn.Linear as an FP8 one, in place."""
    group = WeightGroup(label, [linear], power_of_two=power_of_two, keep_transposed=True)
    return FP8Linear.convert(linear, group, Plan(label, power_of_two, wgrad, stash), None, "fp8")


def error(found, exact):
    """|| found - exact || / || exact ||, in float64."""
    exact = exact.double()
    return ((found.double() - exact).norm() / exact.norm()).item()


def worst_block_error(found, exact, block=128):
    """`error` of the worst 128x128 block: one wrong scale or one transposed block cannot hide."""
    return max(
        error(found[i : i + block, j : j + block], exact[i : i + block, j : j + block])
        for i in range(0, exact.shape[0], block)
        for j in range(0, exact.shape[1], block)
    )
