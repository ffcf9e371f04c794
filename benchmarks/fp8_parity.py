"""Fine-tunes the embedded student in FP8 emulation and in BF16, same traces, same order, and records both.

    python benchmarks/fp8_parity.py                 # harvests once, trains every side with three seeds, then the page
    python benchmarks/fp8_parity.py --page          # docs/fp8-parity.svg and the table in docs/fp8.md, from the JSON

Every run is a process of its own, and a finished one is not run again. Results: benchmarks/fp8_parity.json. The seed
changes the packing and order of the documents; the student starts from the same weights. Speed is not compared: on a
CPU, FP8 is emulated. Losses are nats per trained token, each point the mean over `window` optimizer steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

from distill import provenance  # noqa: E402
from distill.recipes import Fp8, Recipe, load_recipe  # noqa: E402

RESULT = ROOT / "benchmarks" / "fp8_parity.json"
RECIPE = "tiny/quickstart"
NUM_EPOCHS = 3.0
LEARNING_RATES = {"adamw": 2e-3, "muon": 3e-3}
SEEDS = (1, 2, 3)
SAMPLES_PER_ITEM = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="Only write plot and table from the JSON.")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench-fp8-parity")
    parser.add_argument("--side", help="Train one side, in this process.")
    parser.add_argument("--sides", nargs="*", help="Only these sides.")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    arguments = parser.parse_args()
    if arguments.side:
        train_side(arguments.side, arguments.seeds[0], arguments.out)
        return
    if not arguments.page:
        run_all(arguments.out, arguments.sides, arguments.seeds)
        write_result(arguments.out)
    from fp8_parity_page import write_page

    write_page(json.loads(RESULT.read_text()))


def run_all(out: Path, wanted: list[str] | None, seeds: list[int]) -> None:
    """Traces first, then each side and seed that has no result yet."""
    from fp8_sides import SIDES

    if not (out / "traces" / "dataset" / "README.md").exists():
        for verb in ("harvest", "curate"):
            command = [sys.executable, "-m", "distill", verb, RECIPE, "--out", str(out / "traces")]
            subprocess.run(command, check=True, cwd=ROOT)
    for seed in seeds:
        for side in wanted or SIDES:
            if not (folder_of(out, side, seed) / "figures.json").exists():
                command = [sys.executable, __file__, "--side", side, "--seeds", str(seed), "--out", str(out)]
                subprocess.run(command, check=True, cwd=ROOT)


def folder_of(out: Path, side: str, seed: int) -> Path:
    return out / side.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"


def train_side(name: str, seed: int, out: Path) -> None:
    """One run: train, evaluate, write figures.json."""
    from fp8_sides import SIDES, add_outliers, damage

    from distill.fp8 import revert_from_fp8
    from distill.store.parquet import read_traces
    from distill.train.documents import trace_documents
    from distill.train.precision import convert
    from distill.train.sft import fine_tune
    from distill.train.student import load_student_model

    side, recipe, folder = SIDES[name], load_recipe(RECIPE), folder_of(out, name, seed)
    fp8 = Fp8(recipe=side.recipe, skinny_below=0, probe_every_steps=None) if side.precision == "fp8" else None
    changes = {
        "precision": side.precision,
        "fp8": fp8,
        "optimizer": side.optimizer,
        "learning_rate": LEARNING_RATES[side.optimizer],
        "num_train_epochs": NUM_EPOCHS,
        "save_every_steps": 10**6,
    }
    settings = recipe.training.model_copy(update=changes)
    damage(side.damage)
    model, tokenizer = load_student_model(student_card(recipe), settings)
    if side.outliers:
        add_outliers(model)
    convert(model, settings)
    documents = trace_documents(tokenizer, read_traces(out / "traces" / "dataset"))
    result = fine_tune(model, tokenizer, documents, settings, folder, seed=seed, quiet=True)
    if side.precision == "fp8":
        revert_from_fp8(model)
    model.save_pretrained(folder / "student")
    tokenizer.save_pretrained(folder / "student")
    figures = {
        "side": name,
        "seed": seed,
        "loss_curve": result.loss_curve,
        "optimizer_steps": result.optimizer_steps,
        "trained_tokens": result.trained_tokens,
        "accuracy": accuracy(recipe, folder),
        "receipt": receipt_figures(result.precision),
    }
    (folder / "figures.json").write_text(json.dumps(figures) + "\n")


def student_card(recipe: Recipe) -> Any:
    from distill.cards import load_student

    return load_student(recipe.student)


def accuracy(recipe: Recipe, folder: Path) -> list[float]:
    """Share of right samples of each held-out item, the model as saved (computed in float32)."""
    from distill.cards import load_teacher
    from distill.engines.local import LocalEngine
    from distill.evaluate.runner import evaluate
    from distill.records import SamplingParams
    from distill.store.ledger import Ledger

    teacher = load_teacher(recipe.teacher)
    engine = LocalEngine.open(
        str(folder / "student"), name="student", reasoning=teacher.reasoning, batch_size=recipe.evaluation.batch_size
    )
    sampling = teacher.sampling
    params = SamplingParams(sampling.temperature, sampling.top_p, sampling.max_new_tokens)
    with Ledger.open(folder / "ledger.db", create=True) as ledger:
        result = evaluate(
            recipe.evaluation.tasks,
            engine,
            ledger,
            samples_per_item=SAMPLES_PER_ITEM,
            params=params,
            run_seed=recipe.seed,
            verify_workers=2,
            verify_timeout_seconds=recipe.harvest.verify_timeout_seconds,
        )
    return [
        sum(outcome == "correct" for outcome in item.outcomes) / len(item.outcomes)
        for task in result.tasks.values()
        for item in task.items
    ]


def receipt_figures(precision: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the precision receipt says, in short."""
    if precision is None:
        return None
    paper = precision["receipt"]
    kernels: dict[str, int] = {}
    for linear in paper["linears"].values():
        for calls in linear["kernels"].values():
            for kernel, count in calls.items():
                kernels[kernel] = kernels.get(kernel, 0) + count
    return {"converted": paper["converted"], "num_linears": paper["num_linears"], "kernels": kernels}


def fixed_weights(out: Path, seed: int) -> dict[str, float]:
    """Mean loss of the student that was trained in BF16, computed in other precisions; the first 500 traces.

    Nothing drifts apart here: what differs is the rounding of one forward pass.
    """
    import torch

    from distill.engines.local import load_model
    from distill.fp8 import RECIPES, convert_to_fp8, get_recipe, revert_from_fp8
    from distill.store.parquet import read_traces
    from distill.train.documents import trace_documents
    from distill.train.packing import collate_rows

    model, tokenizer = load_model(folder_of(out, "bf16", seed) / "student", name="student")
    model.train()
    documents = trace_documents(tokenizer, read_traces(out / "traces" / "dataset")[:500])

    def mean_loss(autocast: bool = False) -> float:
        total = 0.0
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, autocast):
            for document in documents:
                batch = collate_rows([[document]], 0)
                total += float(model(**batch, use_cache=False).loss) * document.num_trained_tokens
        return total / sum(document.num_trained_tokens for document in documents)

    found = {"fp32": mean_loss(), "bf16": mean_loss(autocast=True)}
    for name in RECIPES:
        convert_to_fp8(model, get_recipe(name, skinny_below=0))
        found[f"fp8 {name}"] = mean_loss()
        revert_from_fp8(model)
    return found


def write_result(out: Path) -> None:
    """benchmarks/fp8_parity.json from the finished runs."""
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("*/seed-*/figures.json"))]
    where = {"machine": provenance.machine(), "versions": provenance.versions(), "code": provenance.commit()}
    setup = {"recipe": RECIPE, "num_train_epochs": NUM_EPOCHS, "samples_per_item": SAMPLES_PER_ITEM}
    seeds = sorted(run["seed"] for run in runs if run["side"] == "bf16")
    fixed = {str(seed): fixed_weights(out, seed) for seed in seeds}
    result = {"date": provenance.utc_now(), "setup": setup, **where, "fixed_weights": fixed, "runs": runs}
    RESULT.write_text(one_run_a_line(result) + "\n")


def one_run_a_line(result: dict[str, Any]) -> str:
    """JSON that a reader can compare line by line."""
    lines = [f'"{name}": {json.dumps(value)}' for name, value in result.items() if name != "runs"]
    runs = ",\n".join(json.dumps(run) for run in result["runs"])
    return "{\n" + ",\n".join([*lines, f'"runs": [\n{runs}\n]']) + "\n}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
