"""One decoder layer under torch.compile: BF16, this package's FP8, and torchao's float8 where it can be imported.

torchao's float8 is made to be compiled, and a BF16 layer gains from it too, so this is the fair place to compare them.
Each layer is compiled by itself; its attention is the same function on every side.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch

from benchmarks.gpu.documents import Batch, packed_batch
from benchmarks.gpu.layer import TOY_VOCABULARY, layer_calls
from benchmarks.gpu.results import Part
from benchmarks.gpu.shapes import Setting
from benchmarks.gpu.timing import release, summary, time_calls
from benchmarks.gpu.training import STOCK, Trainee

TORCHAO_RECIPES = ("tensorwise", "rowwise")
SIZES = ("7B", "1.5B")


def run(part: Part, setting: Setting, attention: str) -> None:
    """Each variant compiles anew, which takes most of the time; dynamo's cache is emptied between them."""
    variants = [STOCK, "fast", "bf16"]
    try:
        importlib.import_module("torchao.float8")
        variants += [f"torchao {name}" for name in TORCHAO_RECIPES]
    except ImportError as error:
        part.note(f"torchao is not there ({error}); carry its wheel to compare it")
    batch = packed_batch(setting.tokens, TOY_VOCABULARY, setting.device, 0, mean=80.0 if setting.toy else 7600.0)
    for name in SIZES[: 1 if setting.toy else None]:
        shape = setting.students[name]._replace(vocabulary=TOY_VOCABULARY)
        for variant in variants:
            if not part.has_time(f"{variant}, compiled, {name}", 15.0 if not setting.toy else 0.0):
                return
            student = Trainee(setting, shape, 1, attention)
            row: dict[str, Any] = {"student": name, "tokens": setting.tokens, "variant": variant}
            try:
                row |= _measure(student, variant, batch, setting)
            except Exception as error:  # whatever a compiler or a library raises: the reason is recorded
                row["left_out"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
            part.add(**row)
            del student
            torch.compiler.reset()
            release(setting.device)


def _measure(student: Trainee, variant: str, batch: Batch, setting: Setting) -> dict[str, Any]:
    recipe = variant.removeprefix("torchao ")
    student.use(STOCK if recipe != variant else variant, recompute=False)
    if recipe != variant:
        float8 = importlib.import_module("torchao.float8")
        config = float8.Float8LinearConfig.from_recipe_name(recipe)
        float8.convert_to_float8_training(student.model.model.layers[0], config=config)
    student.model.model.layers[0].compile(backend="aot_eager" if setting.toy else "inductor")
    forward, both = layer_calls(student, batch)
    return {
        "forward_milliseconds": summary(time_calls(forward, setting.device, setting.repeats)),
        "milliseconds": summary(time_calls(both, setting.device, setting.repeats)),
    }
