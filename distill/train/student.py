"""From a dataset of traces to a student checkpoint: load, fine-tune, save, describe.

    result = train_student(card, traces, recipe.training, out / "student", seed=17)

Full fine-tuning or LoRA (peft); a LoRA run saves the merged model, and the adapter in `adapter/`. A finished
checkpoint is not trained again: its identity (traces, settings, seed, student) is kept in `training.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.engines.local import load_model
from distill.errors import TraceError, TrainingError
from distill.provenance import write_text_atomically
from distill.train.checkpoint import training_identity
from distill.train.documents import Document, trace_documents
from distill.train.parallel import is_main_process
from distill.train.precision import convert
from distill.train.sft import TrainingResult, fine_tune
from distill.train.templates import apply_r1_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill.cards import StudentCard
    from distill.recipes import Training


def train_student(
    card: StudentCard,
    traces: Sequence[dict[str, Any]],
    settings: Training,
    output_dir: Path,
    *,
    seed: int,
    teacher: str,
    quiet: bool = False,
) -> TrainingResult:
    """Distil the traces into the card's model; weights, tokenizer and model card go to `output_dir`.

    Raises: TraceError for no traces, TrainingError for settings that cannot be trained, TeacherError where the student
    cannot be loaded.
    """
    if not traces:
        raise TraceError("training: the dataset has no traces; dataset/drops.parquet says what was dropped and why.")
    from distill.fp8 import revert_from_fp8

    identity = training_identity([row["id"] for row in traces], settings, seed, card.model)
    finished = _finished(output_dir, identity)
    if finished is not None:
        return finished
    _seed_weights(seed)
    model, tokenizer = load_student_model(card, settings)
    documents = trace_documents(tokenizer, traces)
    convert(model, settings)
    trained = _with_lora(model, settings, card) if settings.method == "lora" else model
    result = fine_tune(trained, tokenizer, documents, settings, output_dir, seed=seed, quiet=quiet)
    if settings.precision == "fp8":
        revert_from_fp8(model)
    if is_main_process():
        saved = _save(trained, tokenizer, output_dir)
        text = model_card(card, settings, result, teacher, len(traces))
        result.exports = _export(saved, tokenizer, documents, settings, output_dir, text)
        write_text_atomically(output_dir / "README.md", text)
        record = {"identity": identity, "result": result.to_dict()}
        write_text_atomically(output_dir / "training.json", json.dumps(record, indent=1) + "\n")
    return result


def _seed_weights(seed: int) -> None:
    """New weights (of LoRA, of added tokens) are the same in every run of this seed."""
    import torch

    torch.manual_seed(seed)


def load_student_model(card: StudentCard, settings: Training) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The student before distillation, weights in float32 (bf16 training keeps them as master weights)."""
    model, tokenizer = load_model(
        card.model_location,
        name=card.name,
        revision=card.revision,
        dtype="float32",
        attn_implementation=settings.attn_implementation,
    )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if card.chat_template == "r1":
        apply_r1_template(model, tokenizer)
    return model, tokenizer


def _finished(output_dir: Path, identity: str) -> TrainingResult | None:
    """The result of a run that ended, if the folder holds exactly this one."""
    record = output_dir / "training.json"
    if not record.exists() or not list(output_dir.glob("*.safetensors")):
        return None
    data = json.loads(record.read_text())
    if data["identity"] != identity:
        raise TrainingError(
            f"{output_dir}: holds a student of other traces, settings or seed; give another --out, or remove it."
        )
    return TrainingResult(**data["result"])


def _with_lora(model: PreTrainedModel, settings: Training, card: StudentCard) -> Any:
    from peft import LoraConfig, get_peft_model

    from distill.recipes import Lora

    lora = settings.lora or Lora()
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules or card.lora_target_modules,
        task_type="CAUSAL_LM",
    )
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
    return get_peft_model(model, config)


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, output_dir: Path) -> PreTrainedModel:
    """Write the student, an adapter merged into it, and return what was written."""
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(output_dir / "adapter")
        model = model.merge_and_unload()
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    saved: PreTrainedModel = model
    return saved


def _export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    settings: Training,
    output_dir: Path,
    card: str,
) -> dict[str, Any]:
    """The copies that the recipe asks for; figures by kind. Logits are compared on the beginnings of 16 traces."""
    from distill.train.export import export_bf16, export_block_fp8

    writers = {"bf16": export_bf16, "fp8": export_block_fp8}
    input_ids = [document.input_ids[:512] for document in documents[:16]]
    return {
        kind: writers[kind](model, tokenizer, output_dir / kind, input_ids=input_ids, card=card).to_dict()
        for kind in settings.export
    }


def model_card(card: StudentCard, settings: Training, result: TrainingResult, teacher: str, num_traces: int) -> str:
    """README.md of the checkpoint: where it comes from and what it was trained on."""
    return f"""---
license: {card.licence}
library_name: transformers
tags: [distillation, reasoning]
---
# {card.title}, distilled from {teacher}

- Student: {card.name} (`{card.model}`, {card.architecture}, {card.parameters:,} parameters)
- Data: {num_traces} verified traces of {teacher}; {result.num_overlong} over {settings.max_length} tokens left out
- Training: {settings.method} fine-tuning, {settings.optimizer}, learning rate {settings.learning_rate:g}, \
{settings.num_train_epochs:g} epochs, {settings.precision}, {result.optimizer_steps} steps, \
{result.trained_tokens:,} trained tokens
- Final loss: {result.final_loss:.4f} nats per trained token
- Limits: measured only on the tasks of its run's evaluation; nothing else is known of it.
"""
