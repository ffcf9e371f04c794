"""Supervised fine-tuning on packed documents, through transformers' Trainer.

    result = fine_tune(model, tokenizer, documents, settings, output_dir, seed=17)

What this adds to Trainer: rows packed in a fixed order for all epochs (so a resumed run sees exactly the batches the
uninterrupted one would), no leakage between documents, overlong documents dropped and counted, Muon, checkpoints that a
kill -9 in the middle of a save cannot spoil, and throughput in trained tokens. Trainer itself divides the loss by the
trained tokens of the whole accumulation window, so batch 1 x 8 equals 8 x 1.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import TrainingError
from distill.train.checkpoint import claim_checkpoints, load_weights, usable_checkpoint
from distill.train.documents import Document, split_overlong
from distill.train.optimizer import build_optimizer
from distill.train.packing import collate_rows, epoch_rows
from distill.train.parallel import check_processes, deepspeed_config, gather_layers_whole, gather_weights
from distill.train.precision import FP8_TOKENS, PrecisionMonitor, fp8_errors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback

    from distill.recipes import Training


@dataclass(slots=True)
class TrainingResult:
    """Figures of a finished run; `loss_curve` is [(step, loss)], loss in nats per trained token."""

    optimizer_steps: int
    trained_tokens: int
    processed_tokens: int
    seconds: float
    trained_tokens_per_second: float
    num_documents: int
    num_overlong: int
    packing_efficiency: float
    final_loss: float
    resumed_from_step: int
    loss_curve: list[tuple[int, float]] = field(default_factory=list)
    overlong_keys: list[str] = field(default_factory=list)
    precision: dict[str, Any] | None = None
    """Of an FP8 run: the precision receipt and the shadow probes."""
    exports: dict[str, Any] = field(default_factory=dict)
    """Further copies of the student by kind: where, how large, and how far their logits are from the student's."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    settings: Training,
    output_dir: Path,
    *,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
    quiet: bool = False,
) -> TrainingResult:
    """Train `model` in place; checkpoints go to `output_dir`/checkpoints and a rerun goes on from the newest whole one.

    Raises: TrainingError where no document fits `max_length`, where the checkpoints belong to another run, or where the
    loss is not finite.
    """
    check_processes(settings)
    fits, overlong = split_overlong(documents, settings.max_length)
    if not fits:
        raise TrainingError(
            f"training: none of {len(documents)} documents fits max_length={settings.max_length} tokens; raise "
            "training.max_length or harvest with a smaller max_new_tokens."
        )
    rows = epoch_rows(
        fits,
        settings.max_length,
        settings.num_train_epochs,
        settings.rows_per_micro_batch * settings.gradient_accumulation_steps * settings.num_processes,
        seed=seed,
    )
    packed = [[fits[index] for index in row] for row in rows]
    claim_checkpoints(output_dir / "checkpoints", fits, settings, seed)
    checkpoint = usable_checkpoint(output_dir / "checkpoints", settings.num_processes)
    use_cache = model.config.use_cache
    monitor = PrecisionMonitor(model, settings)
    trainer = _trainer(model, tokenizer, packed, settings, output_dir, seed, callbacks, quiet, monitor)
    started = time.monotonic()
    with fp8_errors():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started
    if settings.zero_stage == 3:
        gather_weights(trainer, model)
    model.config.use_cache = use_cache  # Trainer turned it off; the student that is saved decodes with it
    result = _result(trainer, packed, settings, overlong, seconds, checkpoint)
    result.precision = monitor.result(trainer)
    return result


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    packed: list[list[Document]],
    settings: Training,
    output_dir: Path,
    seed: int,
    callbacks: Sequence[TrainerCallback],
    quiet: bool,
    monitor: PrecisionMonitor,
) -> Trainer:
    import torch
    from transformers import PreTrainedModel, PrinterCallback, Trainer

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it had to find out

    class PackedTrainer(Trainer):
        """Trainer with our optimizer; everything else is transformers'."""

        def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
            if getattr(self, "optimizer", None) is None:
                target = model if model is not None else self.model
                self.optimizer = build_optimizer(
                    target, settings.optimizer, settings.learning_rate, settings.weight_decay
                )
            return self.optimizer

        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
            monitor.before_micro_batch(self, inputs)
            return super().training_step(model, inputs, num_items_in_batch)

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            _check_finite(float(logs.get("loss", 0.0)))
            super().log(logs, *args, **kwargs)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            target = model if model is not None else self.model
            if isinstance(target, PreTrainedModel):
                load_weights(target, resume_from_checkpoint)
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    if settings.zero_stage == 3 and settings.precision == "fp8":
        gather_layers_whole(model)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def collate(rows: list[list[Document]]) -> dict[str, Any]:
        return collate_rows(rows, pad_token_id, multiple_of=FP8_TOKENS if settings.precision == "fp8" else 1)

    trainer = PackedTrainer(
        model=model,
        args=_arguments(settings, output_dir, seed, len(packed), quiet),
        train_dataset=packed,
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    if quiet:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_progress_lines())
    return trainer


def _progress_lines() -> TrainerCallback:
    """Plain lines instead of a bar, for a log file: at a tenth, two tenths, ... of the way."""
    from transformers import TrainerCallback

    class ProgressLines(TrainerCallback):
        shown = 0

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            tenths = 10 * state.global_step // max(1, state.max_steps)
            if state.is_world_process_zero and tenths > self.shown and "loss" in (logs or {}):
                self.shown = tenths
                line = f"train: step {state.global_step}/{state.max_steps}, loss {float(logs['loss']):.4f}"
                print(line, file=sys.stderr, flush=True)

    return ProgressLines()


def _arguments(settings: Training, output_dir: Path, seed: int, num_rows: int, quiet: bool) -> Any:
    import torch
    from transformers import TrainingArguments

    rows_per_step = settings.rows_per_micro_batch * settings.gradient_accumulation_steps * settings.num_processes
    num_steps = num_rows // rows_per_step
    schedule: str = settings.lr_scheduler_type
    schedule_arguments: dict[str, Any] = {}
    if schedule == "cosine" and settings.min_learning_rate_ratio:
        schedule = "cosine_with_min_lr"
        schedule_arguments = {"min_lr_rate": settings.min_learning_rate_ratio}
    if schedule == "warmup_stable_decay":
        schedule_arguments = {"num_decay_steps": max(1, int(0.2 * num_steps))}
    return TrainingArguments(
        output_dir=str(output_dir / "checkpoints"),
        num_train_epochs=1,
        max_steps=num_steps,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=settings.rows_per_micro_batch,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=int(settings.warmup_fraction * num_steps),
        lr_scheduler_type=schedule,
        lr_scheduler_kwargs=schedule_arguments,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        save_steps=settings.save_every_steps,
        save_total_limit=2,
        logging_steps=max(1, num_steps // 200),
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=quiet,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        deepspeed=deepspeed_config(settings),
    )


def _check_finite(loss: float) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"training: the loss is {loss}; lower training.learning_rate or use precision: fp32, with another --out."
        )


def _result(
    trainer: Trainer,
    packed: list[list[Document]],
    settings: Training,
    overlong: list[Document],
    seconds: float,
    checkpoint: Path | None,
) -> TrainingResult:
    curve = [(entry["step"], float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry]
    final_loss = curve[-1][1] if curve else float("nan")
    _check_finite(final_loss)
    resumed = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
    steps = int(trainer.state.global_step)
    documents = [document for row in packed for document in row]
    trained = sum(document.num_trained_tokens for document in documents)
    processed = sum(len(document.input_ids) for document in documents)
    share = (steps - resumed) / steps if steps else 0.0
    return TrainingResult(
        optimizer_steps=steps,
        trained_tokens=trained,
        processed_tokens=processed,
        seconds=round(seconds, 2),
        trained_tokens_per_second=round(trained * share / seconds, 1) if seconds else 0.0,
        num_documents=len({document.key for document in documents}),
        num_overlong=len(overlong),
        packing_efficiency=round(processed / (sum(map(bool, packed)) * settings.max_length), 4),
        final_loss=final_loss,
        resumed_from_step=resumed,
        loss_curve=curve,
        overlong_keys=[document.key for document in overlong],
    )
