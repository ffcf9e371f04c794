"""What a recipe will ask of the hardware, before anything is run: memory by ZeRO stage, samples, tokens, time, cost.

    distill plan tiny/quickstart --hardware 8xh100

Everything here is an estimate from formulas, and says so. Not counted: activations, logits, communication buffers, the
adapter of a LoRA run (small) and the key-value cache of the teacher; leave room for them.
"""

from __future__ import annotations

import re
from typing import Any

from distill.cards import StudentCard, TeacherCard, load_student, load_teacher
from distill.errors import ConfigError, did_you_mean
from distill.recipes import Recipe, Training

DEVICES = {
    "a100": (80, 312),
    "a100-40gb": (40, 312),
    "h100": (80, 989),
    "h200": (141, 989),
    "b200": (180, 2250),
    "l40s": (48, 362),
    "rtx4090": (24, 165),
}
"""Memory in GB and dense bf16 peak in TFLOP/s, as the makers' data sheets state them."""

ASSUMED_UTILISATION = 0.4
"""Share of the bf16 peak that training reaches; reported runs of dense models lie around 0.3 to 0.5."""


def parse_hardware(text: str) -> tuple[int, str]:
    """`8xh100` -> (8, "h100"); a bare name is one device."""
    match = re.fullmatch(r"(?:(\d+)\s*x\s*)?([a-z][a-z0-9-]*)", text.strip().lower())
    if match is None or match[1] == "0":
        raise ConfigError(f"--hardware {text}: expected COUNTxDEVICE, such as 8xh100.")
    count, device = int(match[1] or 1), match[2]
    if device not in DEVICES:
        hint = did_you_mean(device, DEVICES) or ";"
        raise ConfigError(f"--hardware {text}: unknown device '{device}'{hint} known: {', '.join(sorted(DEVICES))}.")
    return count, device


def bytes_per_parameter(training: Training) -> dict[str, float]:
    """Bytes of weights, gradients and optimizer states a parameter.

    fp32: 4 weights, 4 gradients. bf16: 2 weights, 2 gradients, and a 4-byte master copy among the optimizer's. fp8: 4
    weights (they are the master copy), 4 gradients, and with the weights 2 for codes in both orientations.
    AdamW keeps two moments of 4 bytes, Muon one (embeddings counted alike). LoRA trains nothing of the base.
    Source: ZeRO, https://arxiv.org/abs/1910.02054, section 3.1 (2 + 2 + 12 bytes for mixed-precision Adam).
    """
    weights, gradients, master = {"fp32": (4.0, 4.0, 0.0), "bf16": (2.0, 2.0, 4.0), "fp8": (6.0, 4.0, 0.0)}[
        training.precision
    ]
    if training.method == "lora":
        return {"weights": weights, "gradients": 0.0, "optimizer": 0.0}
    moments = 8.0 if training.optimizer == "adamw" else 4.0
    return {"weights": weights, "gradients": gradients, "optimizer": moments + master}


def training_memory_gib(parameters: int, training: Training, devices: int) -> dict[int, float]:
    """GiB of weights, gradients and optimizer states on each device, by ZeRO stage 0 to 3.

    Source: ZeRO, https://arxiv.org/abs/1910.02054, figure 1: stage 1 shares out the optimizer states, 2 the gradients
    too, 3 the weights too.
    """
    parts = bytes_per_parameter(training)
    shared_from = {"optimizer": 1, "gradients": 2, "weights": 3}
    return {
        stage: sum(size * parameters / (devices if stage >= shared_from[part] else 1) for part, size in parts.items())
        / 2**30
        for stage in range(4)
    }


def count_problems(recipe: Recipe) -> int | None:
    """Problems before deduplication; None where a source cannot be counted without the network."""
    total = 0
    for source in recipe.problems.train:
        if source.gym is not None:
            total += source.gym.size
        elif source.jsonl is not None and (recipe.base_dir / source.jsonl.path).is_file():
            with open(recipe.base_dir / source.jsonl.path, "rb") as file:
                total += sum(1 for line in file if line.strip())
        else:
            return None
    return total


def sampling_plan(recipe: Recipe, teacher: TeacherCard) -> dict[str, Any]:
    """Samples, and upper bounds of completion tokens and their price."""
    problems = count_problems(recipe)
    cap = recipe.harvest.max_new_tokens or teacher.sampling.max_new_tokens
    harvest = recipe.harvest
    adaptive = harvest.adaptive
    most = max(harvest.samples_per_problem, (adaptive.most_if_rare or 0) if adaptive else 0)
    samples = None if problems is None else problems * most
    traces = None if problems is None else problems * (min(most, adaptive.enough) if adaptive else most)
    tokens = None if samples is None else min(samples * cap, harvest.budget.tokens or samples * cap)
    usd = None
    if teacher.price is not None and tokens is not None:
        usd = round(tokens / 1e6 * teacher.price.usd_per_million_output_tokens, 2)
    return {
        "problems": problems,
        "max_samples": samples,
        "max_traces": traces,
        "max_completion_tokens": tokens,
        "max_output_usd": usd,
        "teacher_weights_gib_at_2_bytes": round(teacher.total_parameters * 2 / 2**30, 2),
    }


def training_plan(recipe: Recipe, student: StudentCard, sampling: dict[str, Any], hardware: str) -> dict[str, Any]:
    """Memory a device by ZeRO stage, and upper bounds of trained tokens and hours."""
    training = recipe.training
    devices, name = parse_hardware(hardware)
    memory_gb, peak_tflops = DEVICES[name]
    by_stage = training_memory_gib(student.parameters, training, devices)
    capacity_gib = memory_gb * 1e9 / 2**30
    fitting = [stage for stage, gib in by_stage.items() if gib < capacity_gib]
    traces = sampling["max_traces"]
    tokens = None if traces is None else int(traces * training.max_length * training.num_train_epochs)
    hours = None
    if tokens is not None:  # 6 N D: https://arxiv.org/abs/2001.08361, section 2.1
        flops_per_second = devices * peak_tflops * 1e12 * ASSUMED_UTILISATION
        hours = float(f"{6 * student.parameters * tokens / flops_per_second / 3600:.3g}")
    return {
        "hardware": f"{devices} x {name}, {memory_gb} GB each",
        "states_gib_per_device_by_zero_stage": {str(stage): round(gib, 2) for stage, gib in by_stage.items()},
        "recipe_zero_stage": training.zero_stage,
        "smallest_zero_stage_whose_states_fit": fitting[0] if fitting else None,
        "max_trained_tokens": tokens,
        "max_hours_at_assumed_utilisation": hours,
        "assumed_utilisation": ASSUMED_UTILISATION,
    }


def plan(recipe: Recipe, hardware: str | None = None) -> dict[str, Any]:
    """The whole estimate; the training part only when hardware is named."""
    teacher, student = load_teacher(recipe.teacher), load_student(recipe.student)
    sampling = sampling_plan(recipe, teacher)
    result: dict[str, Any] = {
        "estimate": True,
        "teacher": teacher.name,
        "student": student.name,
        "student_parameters": student.parameters,
        "harvest": sampling,
    }
    if hardware is not None:
        result["training"] = training_plan(recipe, student, sampling, hardware)
    result["not_counted"] = "activations, logits, buffers, LoRA adapters, the teacher's key-value cache"
    return result
