"""DeepSpeed settings of a run; ZeRO stages 1-3 come from the recipe's `training.zero_stage`.

A run with `num_processes` above 1 is started under torchrun by `distill train`; see `launch`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer

    from distill.recipes import Training


def check_processes(settings: Training) -> None:
    """Raises: TrainingError where this process is not one of `num_processes`, or optimizer and ZeRO do not fit."""
    running = int(os.environ.get("WORLD_SIZE", "1"))
    if running != settings.num_processes:
        raise TrainingError(
            f"training.num_processes: {settings.num_processes}, but {running} running; start with `distill train`, or "
            f"with torchrun --nproc-per-node={settings.num_processes}."
        )
    if settings.zero_stage and settings.optimizer == "muon":
        raise TrainingError(
            "training.optimizer: muon needs whole matrices, which ZeRO cuts into flat pieces; use optimizer: adamw, or "
            "zero_stage: 0."
        )


def deepspeed_config(settings: Training) -> dict[str, Any] | None:
    """The configuration Trainer hands to DeepSpeed, or None for zero_stage 0; `auto` values are Trainer's own."""
    if settings.zero_stage == 0:
        return None
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": settings.precision == "bf16"},
        "zero_optimization": {
            "stage": settings.zero_stage,
            "overlap_comm": False,
            "stage3_gather_16bit_weights_on_model_save": settings.zero_stage == 3,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def gather_layers_whole(model: PreTrainedModel) -> None:
    """Tell ZeRO-3 to gather a decoder layer of an FP8 student as one: its function reads its children's weights."""
    from deepspeed.utils import set_z3_leaf_modules

    from distill.fp8 import state_of

    kinds = {type(layer) for layer in state_of(model).layers.values()}
    if kinds:
        set_z3_leaf_modules(model, list(kinds))


def gather_weights(trainer: Trainer, model: PreTrainedModel) -> None:
    """Put the whole weights back into the main process's model after ZeRO-3, where each process holds pieces of them.

    All processes must call it. The model can then be saved, not trained.
    """
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if is_main_process():
        for name, parameter in model.named_parameters():
            parameter.data = state[name]


def is_worker() -> bool:
    """True in a process that torchrun started."""
    return "LOCAL_RANK" in os.environ


def is_main_process() -> bool:
    """True in the one process that writes results."""
    return os.environ.get("RANK", "0") == "0"


def leave_processes() -> None:
    """Wait for the others and close the group; a process that just ends can abort while another still talks to it."""
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def launch(module_arguments: Sequence[str], num_processes: int) -> None:
    """Run `python -m distill.cli ARGUMENTS` in `num_processes` processes of this machine under torchrun.

    Raises: TrainingError if a process fails; its own message has been printed above.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    code = subprocess.call([*command, "-m", "distill.cli", *module_arguments])
    if code:
        raise TrainingError(f"training: torchrun ended with exit code {code}; the failing process's message is above.")
