"""FP8 in a training run: convert the student, watch it while it trains, and account for it at the end.

`training.precision: fp8` trains through `distill.fp8`: float32 master weights and gradients, BF16 where FP8 does not
belong. Every `training.fp8.probe_every_steps` steps the first micro-batch is also computed in BF16 (the shadow probe);
what the probes found is in the Trainer's log history, so a resumed run keeps its promotions. After the first step, and
at the end, the precision receipt must show that what should be FP8 was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distill.errors import TrainingError
from distill.train.parallel import is_main_process

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer

    from distill.cards import StudentCard
    from distill.recipes import Fp8, Training

PROBE = "fp8_probe"
FP8_TOKENS = 16
"""Rows of a batch are padded to a multiple of this; Hopper's products take no other number of tokens."""


@contextmanager
def fp8_errors() -> Iterator[None]:
    """What FP8 refuses becomes the toolkit's own error."""
    from distill.fp8 import Fp8Error

    try:
        yield
    except Fp8Error as error:
        raise TrainingError(f"training.precision: fp8: {error}") from error


def convert(model: PreTrainedModel, settings: Training) -> None:
    """Convert the student in place where the recipe says fp8; before adapters are added.

    Raises: TrainingError for an architecture, device or size that has no FP8, or where nothing is left to convert.
    """
    if settings.precision != "fp8":
        return
    import torch

    from distill.fp8 import convert_to_fp8, get_recipe

    fp8 = fp8_settings(settings)
    changes: dict[str, Any] = {
        "keep_bf16": tuple(fp8.keep_bf16),
        "allow_fallback": fp8.allow_fallback,
        "power_of_two": fp8.power_of_two_scales,
    }
    if fp8.skinny_below is not None:
        changes["skinny_below"] = fp8.skinny_below
    with fp8_errors():
        recipe = get_recipe(fp8.recipe, **changes)
        convert_to_fp8(model, recipe, device="cuda" if torch.cuda.is_available() else "cpu")


def check_student(card: StudentCard, settings: Training) -> None:
    """Before anything is paid for: whether the student's architecture can train in the recipe's precision.

    Raises: TrainingError where it cannot.
    """
    if settings.precision != "fp8":
        return
    from distill.fp8.convert import SUPPORTED

    if card.architecture not in SUPPORTED:
        raise TrainingError(
            f"training.precision: fp8: student '{card.name}' is of architecture '{card.architecture}'; supported are "
            f"{', '.join(SUPPORTED)}. Use precision: bf16."
        )


def fp8_settings(settings: Training) -> Fp8:
    """`training.fp8`, or its defaults."""
    from distill.recipes import Fp8

    return settings.fp8 or Fp8()


class PrecisionMonitor:
    """Probes and checks of one run; does nothing for a model that is not FP8."""

    def __init__(self, model: PreTrainedModel, settings: Training) -> None:
        self.model = model
        self.settings = fp8_settings(settings)
        self.active = settings.precision == "fp8"
        self.probes_off = "ZeRO-3 leaves no process whole gradients" if settings.zero_stage == 3 else ""
        self._step = -1
        self._steps_seen = 0

    def before_micro_batch(self, trainer: Trainer, inputs: dict[str, Any]) -> None:
        """To be called before each micro-batch; acts on the first of an optimizer step."""
        step = trainer.state.global_step
        if not self.active or step == self._step:
            return
        from distill.fp8 import receipt
        from distill.fp8.record import RECORD

        self._step = step
        every = self.settings.probe_every_steps
        with fp8_errors():
            if self._steps_seen == 0:
                self._promote_again(trainer)
            elif self._steps_seen == 1:
                receipt(self.model).check()
            self._steps_seen += 1
            RECORD.begin_step(step + 1, every or 100)
            if every and not self.probes_off and step % every == 0:
                self._probe(trainer, inputs, step)

    def result(self, trainer: Trainer) -> dict[str, Any] | None:
        """For run.json: the receipt of this process's steps and every probe.

        Raises: TrainingError where the receipt shows that a linear did not train in FP8.
        """
        if not self.active:
            return None
        from distill.fp8 import receipt

        with fp8_errors():
            paper = receipt(self.model)
            if self._steps_seen:  # else a run was resumed at its end
                paper.check()
        if is_main_process():
            print(paper.summary(), file=sys.stderr, flush=True)
        return {"receipt": paper.to_dict(), "probes": probes_of(trainer), "probes_off": self.probes_off}

    def _probe(self, trainer: Trainer, inputs: dict[str, Any], step: int) -> None:
        from distill.fp8 import shadow_probe

        batch = trainer._prepare_inputs(inputs)
        if not bool((batch["labels"][:, 1:] >= 0).any()):
            return
        self.model.train()
        found = shadow_probe(
            self.model,
            lambda: self.model(**batch, use_cache=False).loss,
            step=step,
            promote_below=self.settings.promote_below,
        )
        trainer.state.log_history.append({"step": step, PROBE: found.to_dict()})
        if is_main_process():
            print(found.summary(), file=sys.stderr, flush=True)

    def _promote_again(self, trainer: Trainer) -> None:
        """Linears that probes before a kill had put in BF16."""
        from distill.fp8 import keep_in_bf16

        for probe in probes_of(trainer):
            for name in probe["promoted"]:
                keep_in_bf16(self.model, name, f"gradient cosine {probe['cosines'][name]:.3f} at step {probe['step']}")


def probes_of(trainer: Trainer) -> list[dict[str, Any]]:
    """Probes of the whole run, also of the part before it was resumed."""
    return [entry[PROBE] for entry in trainer.state.log_history if PROBE in entry]
