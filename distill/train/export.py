"""A trained student as a folder to publish or serve: BF16, or block FP8 as DeepSeek-V3 publishes its weights.

    export_bf16(model, tokenizer, out / "bf16", input_ids=held_out)
    figures = export_block_fp8(model, tokenizer, out / "fp8", input_ids=held_out)

The folder is read back with transformers and its logits are compared with the model's on `input_ids` (a list of token
sequences); the figures go to its README.md and export.json. It appears whole or not at all, and one that already holds
this very export is left as it is. Block FP8 is for Qwen2, Qwen3 and Llama. transformers loads it as BF16 where there is
no GPU for FP8; vLLM's loader takes the files as they are.

Not covered: a model sharded over processes (gather it first), LoRA adapters (merge them first), mixtures of experts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import TrainingError
from distill.provenance import write_text_atomically
from distill.train.export_card import ExportFigures, export_card
from distill.train.logits import LogitDifference, logit_difference

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BLOCK_FP8_ARCHITECTURES = ("llama", "qwen2", "qwen3")
FUSED_WHEN_SERVED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""vLLM makes one matrix of these, and refuses a checkpoint where only some of them are in FP8 (`is_layer_skipped` in
vllm/model_executor/layers/quantization/utils/quant_utils.py)."""


def export_bf16(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    input_ids: Sequence[Sequence[int]],
    card: str = "",
    max_shard_size: str = "5GB",
) -> ExportFigures:
    """Every weight in BF16, in safetensors; `card` is the text that README.md starts with.

    Raises: TrainingError for a model that is not plain, weights that are not finite, or a folder with something else.
    """
    _require_plain(model)
    return _export(model, tokenizer, folder, "bf16", [], input_ids, card, max_shard_size)


def export_block_fp8(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    input_ids: Sequence[Sequence[int]],
    skip: Iterable[str] = (),
    card: str = "",
    max_shard_size: str = "5GB",
) -> ExportFigures:
    """Linears in 128x128 FP8 blocks, the rest in BF16. `skip` names linears, or their ends or parents, left in BF16.

    Raises: TrainingError as `export_bf16`, and for another architecture or linears that are no multiple of 128.
    """
    _require_plain(model)
    if model.config.model_type not in BLOCK_FP8_ARCHITECTURES:
        raise TrainingError(
            f"block-FP8 export: {model.config.model_type} is not supported; allowed are "
            f"{', '.join(BLOCK_FP8_ARCHITECTURES)}. Use export_bf16."
        )
    chosen = _chosen_linears(model, skip)
    return _export(model, tokenizer, folder, "block-fp8", chosen, input_ids, card, max_shard_size)


def uneven_linears(model: PreTrainedModel) -> list[str]:
    """Names of the linears with a side that is no multiple of 128: what `skip` must hold for such a model.

    The format has a rule for them, but transformers takes the block size to be weight size / scale size when it
    dequantises (`Fp8Dequantize._dequantize_one` in integrations/finegrained_fp8.py, 5.17 to 5.23): 200 rows with two
    scales are read as two blocks of 100, without an error. vLLM refuses them within a fused matrix.
    """
    sizes = {name: (module.out_features, module.in_features) for name, module in _linears(model).items()}
    return [name for name, size in sizes.items() if any(side % 128 for side in size)]


def quantization_config(not_converted: Sequence[str]) -> dict[str, Any]:
    """`quantization_config` of config.json; DeepSeek-V3's, and by their full names the linears that stay in BF16.

    vLLM matches names exactly. transformers reads no list as "all but the head" and an empty one as "all", so the head
    is always named.
    """
    return {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": list(not_converted),
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }


def _linears(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """Every linear but the head."""
    from torch import nn

    head = model.get_output_embeddings()
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear) and part is not head}


def _head_name(model: PreTrainedModel) -> str:
    head = model.get_output_embeddings()
    return next(name for name, part in model.named_modules() if part is head)


def _chosen_linears(model: PreTrainedModel, skip: Iterable[str]) -> list[str]:
    names = list(_linears(model))
    kept: set[str] = set()
    for entry in skip:
        found = [name for name in names if f".{name}.".endswith(f".{entry}.") or name.startswith(f"{entry}.")]
        if not found:
            raise TrainingError(f"skip: no linear is called {entry}, or ends or begins so; the first is {names[0]}.")
        kept.update(found)
    for name in list(kept):
        parent, _, own = name.rpartition(".")
        kept.update(f"{parent}.{other}" for group in FUSED_WHEN_SERVED if own in group for other in group)
    uneven = [name for name in uneven_linears(model) if name not in kept]
    if uneven:
        first = _linears(model)[uneven[0]]
        raise TrainingError(
            f"{uneven[0]}: {first.out_features} x {first.in_features} (and {len(uneven) - 1} more) cannot be cut into "
            "128x128 blocks that transformers and vLLM read right; both sides must be multiples of 128. Leave them in "
            "BF16 with skip=uneven_linears(model), or use export_bf16."
        )
    chosen = [name for name in names if name not in kept]
    if not chosen:
        raise TrainingError("skip: leaves no linear to store in FP8; use export_bf16.")
    return chosen


def _require_plain(model: PreTrainedModel) -> None:
    for name, part in model.named_modules():
        if getattr(type(part), "is_fp8", False):
            raise TrainingError(
                f"{name or 'the model'}: converted to FP8 ({type(part).__name__}); convert it back with "
                "revert_from_fp8 first."
            )
    if hasattr(model, "merge_and_unload"):
        raise TrainingError("export: the model has LoRA adapters; export what model.merge_and_unload() returns.")
    for name, weight in model.named_parameters():
        if not weight.is_floating_point() or weight.element_size() == 1:
            raise TrainingError(f"{name}: is quantised ({weight.dtype}); load the model in BF16, or dequantised.")


def _export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    kind: str,
    chosen: list[str],
    input_ids: Sequence[Sequence[int]],
    card: str,
    max_shard_size: str,
) -> ExportFigures:
    from distill.fp8.errors import Fp8Error
    from distill.fp8.export import block_fp8_state_dict

    if not any(len(ids) for ids in input_ids):
        raise TrainingError("export: input_ids are empty; give token sequences to compare the logits on.")
    try:
        state = block_fp8_state_dict(model.state_dict(), chosen)
    except Fp8Error as error:
        raise TrainingError(f"export: {error}") from error
    identity = _identity(state, input_ids)
    finished = _finished(folder, kind, identity)
    if finished is not None:
        return finished
    kept = [name for name in _linears(model) if name not in chosen] if chosen else []
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    _write(model, tokenizer, part, state, [_head_name(model), *kept] if chosen else None, max_shard_size)
    del state
    weights, both = _differences(model, part, chosen, input_ids)
    files = list(part.glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    figures = ExportFigures(kind, size, len(files), len(chosen), kept, weights, both)
    write_text_atomically(part / "README.md", export_card(figures, card or f"# {folder.name}\n"))
    record = {"identity": identity, "figures": figures.to_dict()}
    write_text_atomically(part / "export.json", json.dumps(record, indent=1) + "\n")
    if folder.exists():  # and empty, or _finished would have refused it
        folder.rmdir()
    part.rename(folder)
    return figures


def _finished(folder: Path, kind: str, identity: str) -> ExportFigures | None:
    """The figures of this very export, if the folder holds it."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        record = json.loads((folder / "export.json").read_text())
    except (OSError, ValueError):
        record = {}
    if record.get("identity") != identity:
        raise TrainingError(
            f"{folder}: holds something else than this {kind} export (another model, format, or tokens to compare "
            "on); give another folder, or remove it."
        )
    return ExportFigures.from_dict(record["figures"])


def _identity(state: Mapping[str, torch.Tensor], input_ids: Sequence[Sequence[int]]) -> str:
    """Hash of every stored weight, and of the tokens the logits are compared on."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    digest.update(json.dumps([[int(token) for token in ids] for ids in input_ids]).encode())
    return digest.hexdigest()


def _write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    state: dict[str, torch.Tensor],
    not_converted: Sequence[str] | None,
    max_shard_size: str,
) -> None:
    """Weights in shards, configuration and tokenizer."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    # "Original format": renamed and regrouped as on the hub, or quantised as it was. Dense models need neither.
    regroup = model.config.model_type not in BLOCK_FP8_ARCHITECTURES
    model.save_pretrained(folder, state_dict=state, max_shard_size=max_shard_size, save_original_format=regroup)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "bfloat16"
    if not_converted is not None:
        config["quantization_config"] = quantization_config(not_converted)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_dequantized(folder: Path) -> PreTrainedModel:
    """An exported folder as transformers reads it, FP8 weights as BF16, on any machine.

    Only with BF16: asked for float32, transformers 5.23 leaves what is not a linear in BF16.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    if getattr(config, "quantization_config", None):
        config.quantization_config["dequantize"] = True  # else only where no GPU can run FP8
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype="bfloat16", use_safetensors=True, output_loading_info=True
    )
    if wrong := sorted({*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]}):
        raise TrainingError(
            f"{folder}: transformers finds {len(wrong)} weights missing, unknown or of another shape, {wrong[0]} "
            "first; this is a fault of the export: report it with the version of transformers."
        )
    return model


def _differences(
    model: PreTrainedModel, folder: Path, chosen: list[str], input_ids: Sequence[Sequence[int]]
) -> tuple[LogitDifference, LogitDifference | None]:
    exported = load_dequantized(folder).to(model.device)
    if model.dtype != exported.dtype:  # .to(dtype) would also round the rotary frequencies, kept in float32
        exported = exported.to(model.dtype)
    weights = logit_difference(model, exported, input_ids)
    if not chosen:
        return weights, None
    for name in chosen:
        exported.get_submodule(name).register_forward_pre_hook(_input_in_fp8)
    return weights, logit_difference(model, exported, input_ids)


def _input_in_fp8(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The input of a linear as FP8 kernels read it: E4M3 in 1x128 blocks."""
    from distill.fp8.quantize import dequantize, quantize_rows

    rows = inputs[0].flatten(0, -2)
    return dequantize(quantize_rows(rows), rows.shape[1]).to(rows.dtype).view(inputs[0].shape)
