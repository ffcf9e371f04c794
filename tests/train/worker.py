"""One training process: trains a tiny model as it is told, and writes weights and curve. Started by tests, alone or by
torchrun; it can kill itself as `kill -9` would, at a step or in the middle of a save.

    python worker.py '{"out": "/tmp/x", "settings": {...}, "die_at_step": 5}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch

sys.path.insert(0, str(Path(__file__).parent))
from conftest import build_documents, build_model, build_settings, small_tokenizer  # type: ignore[import-not-found]
from transformers import TrainerCallback

from distill.train.parallel import is_main_process, leave_processes
from distill.train.precision import convert
from distill.train.sft import fine_tune


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class Die(TrainerCallback):
    """Dies after an optimizer step that no checkpoint holds."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            die()


def die_in_save(step: int) -> None:
    """Dies in the save of this step, after half of optimizer.pt is on disk."""
    whole_save = torch.save

    def half_save(what: Any, target: Any, *args: Any, **kwargs: Any) -> None:
        whole_save(what, target, *args, **kwargs)
        if str(target).endswith(f"checkpoint-{step}/optimizer.pt"):
            os.truncate(target, os.path.getsize(target) // 2)
            die()

    torch.save = half_save


def main(job: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    out = Path(job["out"])
    settings = build_settings(**job["settings"])
    model = build_model(**job.get("model", {}))
    convert(model, settings)
    if "die_in_save" in job:
        die_in_save(job["die_in_save"])
    callbacks = [Die(job["die_at_step"])] if "die_at_step" in job else []
    documents = build_documents(**job["documents"])
    result = fine_tune(model, small_tokenizer(), documents, settings, out, seed=7, callbacks=callbacks, quiet=True)
    if is_main_process():
        torch.save(model.state_dict(), out / "weights.pt")
        (out / "result.json").write_text(json.dumps(result.to_dict()))
    leave_processes()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
