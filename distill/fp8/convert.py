"""Turn a transformers model into one that trains in FP8, in place, and back.

    convert_to_fp8(model, get_recipe("fast"))       # before get_peft_model, DDP, FSDP2 or deepspeed.initialize
    ...train...
    revert_from_fp8(model)                          # before it is exported

Parameters keep their names, shapes and dtypes; nothing is added to the state dict, so checkpoints are plain ones of the
model. float32 parameters are the master weights and get float32 gradients; what is not FP8 is computed in BF16, with
autocast or without (boundary.py). Supported are Qwen2 (and 2.5), Qwen3 and Llama.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from distill.fp8.boundary import to_boundary
from distill.fp8.errors import Fp8Error
from distill.fp8.layer import FusedParts, fused_class, runs_fused
from distill.fp8.linear import FP8Linear, Siblings
from distill.fp8.matmul import self_check
from distill.fp8.projection import Plan
from distill.fp8.quantize import BLOCK
from distill.fp8.recipe import Fp8Recipe, Precision, is_skinny
from distill.fp8.record import RECORD
from distill.fp8.weights import WeightGroup, is_sharded

SUPPORTED = ("qwen2", "qwen3", "llama")
_GROUPS = (
    ("self_attn", "qkv_proj", ("q_proj", "k_proj", "v_proj")),
    ("self_attn", "o_proj", ("o_proj",)),
    ("mlp", "gate_up_proj", ("gate_proj", "up_proj")),
    ("mlp", "down_proj", ("down_proj",)),
)
_conversions = itertools.count(1)


@dataclass
class Fp8State:
    """What a converted model knows of its conversion; `model.fp8_state`."""

    recipe: Fp8Recipe
    device: str
    power_of_two: bool
    prefix: str
    """Of its labels in the record."""
    linears: dict[str, FP8Linear] = field(default_factory=dict)
    """Converted linears by name."""
    bf16: dict[str, str] = field(default_factory=dict)
    """Linears of the decoder layers that stayed, or were put, in BF16: name to reason."""
    layers: dict[str, Any] = field(default_factory=dict)
    """Fused decoder layers by name."""
    boundary: list[tuple[Any, Any]] = field(default_factory=list)
    """Embeddings, head and norms, each with the class it had."""
    hook: Any = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        RECORD.strict[self.prefix] = not self.recipe.allow_fallback  # read back in another process


def convert_to_fp8(model: Any, recipe: Fp8Recipe, *, device: torch.device | str | None = None) -> Fp8State:
    """Make the linears of a model's decoder layers FP8, in place.

    `device` is where it will train, by default where it is: a recipe must fit that device.

    Raises: Fp8Error for another architecture, a model with adapters or one converted before, a device without FP8, a
    linear whose sizes cannot be blocked.
    """
    target = torch.device(device) if device is not None else next(model.parameters()).device
    _check_model(model)
    power_of_two = _check_device(recipe, target)
    state = Fp8State(recipe, str(target), power_of_two, prefix=f"{next(_conversions)}")
    RECORD.strict[state.prefix] = not recipe.allow_fallback
    layers = list(_decoder_layers(model))
    parts = []
    for index, (name, layer) in enumerate(layers):
        at_edge = min(index, len(layers) - 1 - index) < recipe.edge_layers_bf16
        parts.append(_groups(recipe, name, layer, "edge layer" if at_edge else ""))
    _check_any(recipe, parts)
    for (name, layer), groups in zip(layers, parts, strict=True):
        _convert_layer(state, name, layer, groups)
    state.boundary = to_boundary(model)
    state.hook = model.register_forward_pre_hook(_refresh_before_forward)
    model.fp8_state = state
    return state


def revert_from_fp8(model: Any) -> Any:
    """The plain transformers model again, in place; returns it.

    Raises: Fp8Error for a model that was not converted.
    """
    state = state_of(model)
    for name, layer in state.layers.items():
        if type(layer) is not fused_class(layer.fp8.base):
            raise Fp8Error(
                f"{name}: is wrapped as {type(layer).__name__} now (FSDP2?); load its state dict into a plain model "
                "instead: names and shapes are the same."
            )
    for linear in state.linears.values():
        linear.revert()
    for layer in state.layers.values():
        layer.__class__ = layer.fp8.base
        del layer.fp8
    for module, before in state.boundary:
        module.__class__ = before
    state.hook.remove()
    RECORD.clear(f"{state.prefix}:")
    del model.fp8_state
    return model


def state_of(model: Any) -> Fp8State:
    """The state of a converted model, also inside DDP, peft or a compiled wrapper.

    Raises: Fp8Error for a model that was not converted.
    """
    for module in model.modules():
        state = module.__dict__.get("fp8_state")
        if isinstance(state, Fp8State):
            return state
    raise Fp8Error(f"{type(model).__name__}: is not converted to FP8; call convert_to_fp8(model, recipe) first.")


def _refresh_before_forward(module: Any, arguments: Any) -> None:
    refresh_weights(module)


@torch.compiler.disable
def refresh_weights(model: Any) -> None:
    """Quantise what an optimizer step has changed; runs by itself before each forward of a converted model."""
    state = state_of(model)
    fused = {name for name, layer in state.layers.items() if runs_fused(layer)}
    used: list[WeightGroup] = []
    for name, layer in state.layers.items():
        parts = (layer.fp8.qkv, layer.fp8.gate_up)
        if name in fused:
            used += parts
        else:
            for group in parts:
                group.forget()
    for name, linear in state.linears.items():
        alone = name.rsplit(".", 2)[0] not in fused or name.endswith(("o_proj", "down_proj"))
        if alone and linear.precision == "fp8":
            used.append(linear.group)
        else:
            linear.group.forget()
    for group in used:
        group.sharded = group.sharded or any(is_sharded(weight) for weight in group.weights)
        group.operand()


def forget_weights(model: Any) -> None:
    """Drop all quantised weights, after a change that nothing can see (`weight.data.mul_(2)`)."""
    state = state_of(model)
    for layer in state.layers.values():
        layer.fp8.qkv.forget()
        layer.fp8.gate_up.forget()
    for linear in state.linears.values():
        linear.group.forget()


def keep_in_bf16(model: Any, name: str, reason: str) -> None:
    """Put a group of linears (its name as in the receipt) in BF16 from now on."""
    state = state_of(model)
    members = [linear for linear in state.linears if linear == name or group_of(linear) == name]
    if not members:
        raise Fp8Error(f"{name}: no converted linear or group of that name; see the receipt for names.")
    for member in members:
        state.linears[member].precision = "bf16"
        state.bf16[member] = reason


def _check_model(model: Any) -> None:
    names = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    if names:
        raise Fp8Error(
            f"{names[0]}: the model has LoRA adapters already; convert_to_fp8 comes first, then get_peft_model, so "
            "that the frozen linears under the adapters are FP8."
        )
    if any(getattr(module, "is_fp8", False) for module in model.modules()):
        raise Fp8Error("the model is converted to FP8 already; call revert_from_fp8 before another conversion.")
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in SUPPORTED:
        raise Fp8Error(f"architecture '{kind}': cannot be trained in FP8; supported are {', '.join(SUPPORTED)}.")


def _check_device(recipe: Fp8Recipe, device: torch.device) -> bool:
    """Whether scales are powers of two there."""
    if device.type == "cpu":
        return bool(recipe.power_of_two)
    if device.type != "cuda":
        raise Fp8Error(f"device '{device}': FP8 runs on CUDA (8.9 or later) and, emulated, on the CPU; use bf16.")
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 9) and recipe.matmul == "fp8":
        raise Fp8Error(
            f"{torch.cuda.get_device_name(device)}: compute capability {capability[0]}.{capability[1]} has no FP8 "
            "tensor cores; 8.9 or later is needed. Use training.precision: bf16."
        )
    if capability >= (10, 0) and recipe.power_of_two is False:
        raise Fp8Error(
            f"fp8 recipe '{recipe.name}': power_of_two: false, but this device multiplies MXFP8, whose scales are "
            "powers of two; set it to true or leave it out."
        )
    if recipe.matmul == "fp8":
        _check_kernels(device)
    return capability >= (10, 0) if recipe.power_of_two is None else recipe.power_of_two


def _check_kernels(device: torch.device) -> None:
    """Run each kernel of the device once, before anything is timed, captured or trained."""
    found = self_check(device)
    if all(found.values()):
        reasons = "; ".join(f"{kernel}: {reason}" for kernel, reason in found.items())
        raise Fp8Error(
            f"{torch.cuda.get_device_name(device)}: no FP8 product agrees with its definition ({reasons}). Update "
            "torch and triton, or use training.precision: bf16."
        )


def _decoder_layers(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if hasattr(module, "self_attn") and hasattr(module, "mlp") and hasattr(module, "input_layernorm"):
            yield name, module


class _Group(NamedTuple):
    """Linears of one layer that read one input, before anything is converted."""

    name: str
    linears: dict[str, nn.Linear]
    why: str
    """The reason for BF16, or nothing."""


def _groups(recipe: Fp8Recipe, name: str, layer: Any, reason: str) -> list[_Group]:
    """What will become of one layer."""
    groups = []
    for parent, group_name, members in _GROUPS:
        linears = {f"{name}.{parent}.{member}": getattr(getattr(layer, parent), member) for member in members}
        for full_name, linear in linears.items():
            if type(linear) is not nn.Linear:
                raise Fp8Error(
                    f"{full_name}: is a {type(linear).__name__}, and only a plain nn.Linear can be converted to FP8; "
                    "load the model without quantisation or other replacements of its linears."
                )
        groups.append(_Group(f"{name}.{parent}.{group_name}", linears, reason or _reason_for_bf16(recipe, linears)))
    return groups


def _check_any(recipe: Fp8Recipe, layers: list[list[_Group]]) -> None:
    reasons = {group.why for groups in layers for group in groups}
    if recipe.matmul == "fp8" and "" not in reasons:
        raise Fp8Error(
            f"fp8 recipe '{recipe.name}': no linear of this model would be FP8 ({'; '.join(sorted(reasons)[:4])}); "
            "train it in bf16, or change skinny_below, keep_bf16 or edge_layers_bf16."
        )


def _convert_layer(state: Fp8State, name: str, layer: Any, groups: list[_Group]) -> None:
    """Convert the linears of one layer, and fuse it if those around its norms are FP8 and blocked."""
    shared: dict[str, WeightGroup] = {}
    for group_name, linears, why in groups:
        precision: Precision = "bf16" if why else "fp8"
        siblings = Siblings(f"{state.prefix}:{group_name}") if len(linears) > 1 else None
        stash: Precision = "bf16" if group_name.endswith("o_proj") else "fp8"  # attention keeps its output anyway
        for full_name, linear in linears.items():
            own = _group(state, full_name, [linear])
            converted = FP8Linear.convert(linear, own, _plan(state, own, stash), siblings, precision)
            state.linears[full_name] = converted
            if why:
                state.bf16[full_name] = why
        if not why:
            shared[group_name.rpartition(".")[2]] = _group(state, group_name, list(linears.values()))
    if shared.keys() >= {"qkv_proj", "gate_up_proj", "down_proj"} and _is_blocked(layer):
        _fuse(state, name, layer, shared["qkv_proj"], shared["gate_up_proj"])


def _group(state: Fp8State, name: str, linears: list[nn.Linear]) -> WeightGroup:
    return WeightGroup(
        f"{state.prefix}:{name}",
        linears,
        power_of_two=state.power_of_two,
        keep_transposed=state.recipe.cache_transposed_weights,
    )


def _plan(state: Fp8State, group: WeightGroup, stash: Precision) -> Plan:
    wgrad = state.recipe.wgrad
    return Plan(group.label, state.power_of_two, wgrad, "bf16" if wgrad == "bf16" else stash)


def _fuse(state: Fp8State, name: str, layer: Any, qkv: WeightGroup, gate_up: WeightGroup) -> None:
    plans = [_plan(state, group, state.recipe.hidden_stash) for group in (qkv, gate_up)]
    base: Any = type(layer)
    layer.__class__ = fused_class(base)
    layer.fp8 = FusedParts(base, qkv, gate_up, plans[0], plans[1], state.recipe.gate_up_stash)
    state.layers[name] = layer


def _reason_for_bf16(recipe: Fp8Recipe, linears: dict[str, nn.Linear]) -> str:
    """Why these linears stay in BF16, or nothing.

    Raises: Fp8Error for sizes that no kernel can read.
    """
    if recipe.matmul == "bf16":
        return "recipe"
    if any(name.endswith(suffix) for name in linears for suffix in recipe.keep_bf16):
        return "keep_bf16"
    num_outputs = sum(linear.out_features for linear in linears.values())
    num_inputs = next(iter(linears.values())).in_features
    if is_skinny(recipe, num_outputs, num_inputs):
        return f"skinny: {num_outputs} x {num_inputs}"
    for name, linear in linears.items():
        if linear.out_features % 16 or linear.in_features % 16:
            raise Fp8Error(
                f"{name}: {linear.out_features} x {linear.in_features} cannot be blocked: FP8 kernels read sizes that "
                f"are multiples of 16 (of {BLOCK} for full speed). Add its name to keep_bf16."
            )
    return ""


def _is_blocked(layer: Any) -> bool:
    """Whether the fused functions fit: sizes are multiples of 128, gated SiLU, no bias in the MLP."""
    attention, mlp = layer.self_attn, layer.mlp
    linears = (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    sizes = [size for linear in linears for size in (linear.in_features, linear.out_features)]
    activation = type(getattr(mlp, "act_fn", None)).__name__.lower()
    return (
        all(size % BLOCK == 0 for size in sizes)
        and all(linear.bias is None for linear in linears[3:])
        and activation in ("silu", "siluactivation")
    )


def group_of(linear: str) -> str:
    """The group of a linear, by name: ...self_attn.q_proj -> ...self_attn.qkv_proj."""
    path, _, member = linear.rpartition(".")
    for _parent, group, members in _GROUPS:
        if member in members:
            return f"{path}.{group}"
    return linear
