"""The verbs of the command line as functions: each runs stages of a `Run` and returns a JSON-clean mapping.

`summary` is what people read, `exit_code` decides the process's code, everything else is for `--json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import catalog
from distill.config import apply_overrides, parse
from distill.errors import CatalogError, ConfigError
from distill.evaluate.official import PREFIX as OFFICIAL_PREFIX
from distill.models import longest_completion, open_engine, reasoning_of
from distill.provenance import write_text_atomically
from distill.recipes import sampling_params
from distill.run import Run

if TYPE_CHECKING:
    from distill.cards import ReasoningFormat
    from distill.engines.base import Engine
    from distill.engines.endpoint import EndpointEngine
    from distill.engines.local import LocalEngine
    from distill.evaluate.result import EvalResult
    from distill.gate.spec import Gate
    from distill.gate.verdict import GateVerdict
    from distill.gate_stage import GateModels
    from distill.harvest_stage import Executor
    from distill.recipes import Evaluation
    from distill.store.ledger import Ledger

R1_SAMPLING = {"samples_per_item": 1, "temperature": 0.6, "top_p": 0.95}


def run_command(recipe: str, out: Path, *, overrides: Sequence[str]) -> dict[str, Any]:
    """Every stage, a line for each on stderr as it ends; the exit code is the gate's."""
    run = Run.open(recipe, out, overrides)
    _tell(run.problems())
    _tell(run.harvest())
    _tell(_curation_line(run))
    _tell(_training_line(run))
    _tell(_evaluation_lines(run.evaluate()))
    verdict = run.gate()
    report = run.report()
    return {
        "run": str(out),
        **_verdict_fields(verdict),
        "summary": f"{_verdict_line(verdict)}\nreport: {report}",
    }


def harvest_command(
    recipe: str,
    out: Path,
    *,
    overrides: Sequence[str],
    base_urls: Sequence[str],
    model: str | None,
    executor: Executor = "local",
) -> dict[str, Any]:
    """Problems and harvest. With base URLs, `model` is the name the servers know, or a teacher card's."""
    is_card = not base_urls or model in catalog.names("teachers")
    run = Run.open(
        recipe,
        out,
        _with_model("teacher", model, overrides) if is_card else overrides,
        base_urls=base_urls,
        served_model=None if is_card else model,
    )
    counts = run.problems()
    summary = run.harvest(executor)
    return {**summary.to_dict(), "problems": counts.counts, "summary": f"{counts}\n{summary}"}


def verify_command(
    recipe: str, out: Path, *, overrides: Sequence[str], everything: bool = False, judge: bool = False
) -> dict[str, Any]:
    """Verify what is in the ledger again; with `judge`, ask the recipe's judge. The teacher draws nothing."""
    run = Run.open(recipe, out, overrides)
    result = run.verify(everything=everything)
    judged = run.judge() if judge else None
    return {
        **result.to_dict(),
        **({} if judged is None else {"judge": judged.to_dict()}),
        "summary": str(result),
    }


def curate_command(recipe: str, out: Path, *, overrides: Sequence[str]) -> dict[str, Any]:
    """Curation; the dataset is written to OUT/dataset."""
    run = Run.open(recipe, out, overrides)
    line = _curation_line(run)
    return {**run.file.data["curation"], "summary": line}


def train_command(recipe: str, out: Path, *, overrides: Sequence[str]) -> dict[str, Any]:
    """Training; the student is written to OUT/student."""
    run = Run.open(recipe, out, overrides)
    line = _training_line(run)
    return {**run.file.data.get("training", {}), "summary": line}


def eval_command(
    target: str, out: Path, *, overrides: Sequence[str], model: str | None, base_url: str | None
) -> dict[str, Any]:
    """A recipe's evaluation of base, student (or --model in its place) and teacher; or a task with --model."""
    if not _is_recipe(target):
        return _eval_task(target, out, model, overrides, base_url)
    run = Run.open(target, out, overrides)
    results = run.evaluate(student=_student_of(run, model, base_url))
    return {"evaluation": run.file.data["evaluation"], "summary": _evaluation_lines(results)}


def gate_command(
    target: str, out: Path, *, overrides: Sequence[str], models: GateModels | None = None
) -> dict[str, Any]:
    """A recipe's gate, or a gate over named models and what OUT/eval has measured.

    With a recipe, a model is evaluated in the student's place first.
    """
    from distill.gate_stage import GateModels

    models = models or GateModels()
    if _is_recipe(target):
        run = Run.open(target, out, overrides)
        student = _student_of(run, models.model, models.base_url)
        if student is not None:
            run.evaluate(student=student)
        verdict = run.gate(student=student, models=replace(models, model=None, base_url=None))
    else:
        verdict = _judge(target, out, models, overrides)
    return {**_verdict_fields(verdict), "summary": _verdict_line(verdict)}


def report_command(directory: Path) -> dict[str, Any]:
    """report.html of a run directory, and the funnel from problems to traces."""
    from distill.report.funnel import lines, read_funnel
    from distill.report.html import write_report

    path = write_report(directory)
    funnel = read_funnel(directory)
    return {
        "report": str(path),
        "funnel": None if funnel is None else funnel.to_dict(),
        "summary": f"{'' if funnel is None else lines(funnel) + chr(10)}report: {path}",
    }


def _tell(line: object) -> None:
    """Stdout is kept for the result."""
    print(line, file=sys.stderr, flush=True)


def _eval_task(
    task: str, out: Path, model: str | None, overrides: Sequence[str], base_url: str | None
) -> dict[str, Any]:
    if model is None and base_url is None:
        raise ConfigError(
            f"distill eval {task}: a task needs --model with a card's name or a checkpoint folder, or --base-url."
        )
    if task.startswith(OFFICIAL_PREFIX):
        return _eval_official(task, out, model, overrides, base_url)
    result = _evaluate_model([task], out, model, overrides, base_url=base_url)
    return {**result.to_dict(), "summary": _evaluation_lines({result.model: result})}


def _eval_official(
    task: str, out: Path, model: str | None, overrides: Sequence[str], base_url: str | None
) -> dict[str, Any]:
    """A task of lm-eval's own, saved as OUT/eval/official.json; one sample an item, greedy unless --set says else."""
    from distill.evaluate.official import evaluate_official
    from distill.gate_stage import endpoint_of, official_data_of
    from distill.store.ledger import Ledger

    endpoint, data = endpoint_of(overrides), official_data_of(overrides)
    with Ledger.open(out / "ledger.db", create=True) as ledger:
        engine = open_engine(model, base_url=base_url, endpoint=endpoint)
        defaults = {"samples_per_item": 1, "temperature": 0.0, "top_p": 1.0}
        settings = _evaluation([task], engine, overrides, defaults)
        result = evaluate_official([task], engine, ledger, sampling_params(settings), run_seed=0, data=data)
    write_text_atomically(out / "eval" / "official.json", json.dumps(result.to_dict(), indent=1) + "\n")
    figures = [f"{name}: {figure}" for name, scores in result.scores.items() for figure in _shown(scores)]
    return {**result.to_dict(), "summary": "\n".join(f"eval: {result.model} on {figure}" for figure in figures)}


def _shown(scores: dict[str, float]) -> list[str]:
    """lm-eval's figures as lines; what it could not estimate is left out."""
    return [f"{name} {value:.4f}" for name, value in scores.items() if "stderr" not in name]


def _evaluation(
    tasks: list[str], engine: LocalEngine | EndpointEngine, overrides: Sequence[str], defaults: dict[str, Any]
) -> Evaluation:
    """How a model is sampled: `defaults`, and what --set evaluation.X=Y says. Raises: ConfigError."""
    from distill.recipes import Evaluation

    given = [each for each in overrides if not each.startswith(("endpoint.", "data."))]
    start = {"max_new_tokens": longest_completion(engine), **defaults, "tasks": tasks}
    data = apply_overrides({"evaluation": start}, given)
    return parse(Evaluation, data["evaluation"], where="--set evaluation")


def _evaluate_model(
    tasks: list[str],
    out: Path,
    model: str | None,
    overrides: Sequence[str],
    like: EvalResult | None = None,
    base_url: str | None = None,
) -> EvalResult:
    """Tasks on one model, saved as OUT/eval/student.json.

    Sampled as `like` was, else at R1's settings (arXiv 2501.12948, section 3), unless --set evaluation.X=Y says else.
    """
    from distill.evaluate.curves import curves_command
    from distill.evaluate.runner import evaluate
    from distill.gate_stage import endpoint_of, task_data_of
    from distill.store.ledger import Ledger

    endpoint, task_data = endpoint_of(overrides), task_data_of(overrides)
    with Ledger.open(out / "ledger.db", create=True) as ledger:  # first: a bad OUT is found before a model is loaded
        engine = open_engine(model, base_url=base_url, endpoint=endpoint)
        defaults: dict[str, Any] = R1_SAMPLING
        if like is not None:
            samples_per_item = min(task.samples_per_item for task in like.tasks.values())
            defaults = {**like.params, "samples_per_item": samples_per_item}
        settings = _evaluation(tasks, engine, overrides, defaults)
        result = evaluate(
            settings.tasks,
            engine,
            ledger,
            samples_per_item=settings.samples_per_item,
            params=sampling_params(settings),
            run_seed=like.run_seed if like else 0,
            task_data=task_data,
        )
        result.save(out / "eval" / "student.json")
        curves_command(out)
        if settings.force_close:
            _close_thoughts(out, result, engine, ledger, settings, reasoning_of(model), task_data)
    return result


def _close_thoughts(
    out: Path,
    result: EvalResult,
    engine: LocalEngine | EndpointEngine,
    ledger: Ledger,
    settings: Evaluation,
    reasoning: ReasoningFormat,
    task_data: dict[str, Path],
) -> None:
    """Thoughts of the evaluation cut at each budget, closed and answered: a further curve in OUT/eval/curves.json."""
    from distill.evaluate.budget import force_closed_curve, recorded_samples
    from distill.evaluate.curves import CURVES_FILE, load_curves, save_curves, with_force_closed
    from distill.evaluate.tasks import read_task

    path = out / "eval" / CURVES_FILE
    curves = load_curves(path)
    for name, task in result.tasks.items():
        pairs = recorded_samples(task, ledger, read_task(name).problems(task_data.get(name)))
        points = force_closed_curve(engine, ledger, pairs, settings.force_close, reasoning=reasoning)
        curves["models"]["student"] = with_force_closed(curves["models"]["student"], name, points)
    save_curves(path, curves)


def _student_of(run: Run, model: str | None, base_url: str | None) -> Engine | None:
    """What is measured in the place of the run's own student; None where nothing is given."""
    if model is None and base_url is None:
        return None
    settings = run.recipe.evaluation
    return open_engine(
        model,
        base_url=base_url,
        endpoint=run.recipe.endpoint,
        params=sampling_params(settings),
        batch_size=settings.batch_size,
    )


def _judge(gate_name: str, out: Path, models: GateModels, overrides: Sequence[str]) -> GateVerdict:
    """A gate that is not a recipe's: it draws its own rounds, or judges the evaluations in OUT/eval."""
    from distill.gate.spec import load_gate
    from distill.gate_stage import GateStage, endpoint_of, task_data_of

    gate = load_gate(gate_name, overrides=overrides)
    if not gate.is_sequential:
        return _judge_finished(gate, out, models, overrides)
    known = ("gate.", "data.", "endpoint.")
    for override in overrides:
        if not override.startswith(known):
            raise ConfigError(f"--set {override}: a gate has {', '.join(known)} (gate.sampling, gate.budget, ...).")
    return GateStage(gate, out, models, task_data_of(overrides), endpoint_of(overrides)).run()


def _judge_finished(gate: Gate, out: Path, models: GateModels, overrides: Sequence[str]) -> GateVerdict:
    """The gate over OUT/eval; with a model, that model is evaluated as the others there were, and judged."""
    from distill.evaluate.result import EvalResult
    from distill.gate.decide import judge
    from distill.gate.report import write_verdict
    from distill.gate.spec import MODELS

    found = {
        path.stem: EvalResult.load(path)
        for path in sorted((out / "eval").glob("*.json"))
        if path.stem in ("student", *MODELS)
    }
    has_model = models.student is not None
    if "student" not in found and not has_model:
        task = gate.tasks[0]
        raise ConfigError(f"{out}/eval: no student.json to judge; run `distill eval {task} --model PATH --out {out}`.")
    missing = [name for name in gate.needs if name not in found]
    if missing:
        raise ConfigError(
            f"gate {gate.name}: compares with {' and '.join(missing)}, of which {out}/eval has no evaluation; "
            f"run `distill eval RECIPE --out {out}` first."
        )
    if has_model:
        like = found.get("teacher") or found.get("base")
        found["student"] = _evaluate_model(list(gate.tasks), out, models.model, overrides, like, models.base_url)
    verdict = judge(gate, found.pop("student"), found)
    write_verdict(verdict, out / "gate")
    return verdict


def _is_recipe(target: str) -> bool:
    """Whether the argument names a recipe (else a task or a gate); the catalogue decides, or the file's `kind`."""
    if target in catalog.names("recipes"):
        return True
    if target.startswith(OFFICIAL_PREFIX):
        return False
    if Path(target).is_file():
        return catalog.kind_of(Path(target)) == "recipes"
    others = [*catalog.names("tasks"), *catalog.names("gates")]
    if target not in others:
        known = ", ".join([*catalog.names("recipes"), *others])
        raise CatalogError(f"'{target}' is neither a recipe nor a task nor a gate; the catalogue has {known}.")
    return False


def _with_model(role: str, model: str | None, overrides: Sequence[str]) -> list[str]:
    return [*overrides, f"{role}={model}"] if model else list(overrides)


def _curation_line(run: Run) -> str:
    result = run.curate()
    reasons = ", ".join(f"{reason} {count}" for reason, count in result.counts_by_reason.items()) or "nothing"
    return f"curate: {len(result.kept)} traces kept, {len(result.drops)} dropped ({reasons})"


def _training_line(run: Run) -> str:
    result = run.train()
    return (
        f"train: {result.optimizer_steps} steps, {result.trained_tokens} trained tokens at "
        f"{result.trained_tokens_per_second:.0f} tokens/s, loss {result.final_loss:.4f}, "
        f"{result.num_overlong} overlong dropped"
    )


def _evaluation_lines(results: dict[Any, EvalResult]) -> str:
    lines = []
    for role, result in results.items():
        for name, task in result.tasks.items():
            scores = task.scores
            low, high = scores["pass@1_interval"]
            lines.append(
                f"eval: {role} on {name}: pass@1 {scores['pass@1']:.3f} [{low:.3f}, {high:.3f}], "
                f"cons@{scores['k']} {scores['cons@k']:.3f}, truncated {scores['truncation_rate']:.1%}"
            )
    return "\n".join(lines)


def _verdict_fields(verdict: GateVerdict) -> dict[str, Any]:
    return {"verdict": verdict.to_dict(), "exit_code": verdict.exit_code}


def _verdict_line(verdict: GateVerdict) -> str:
    return f"gate {verdict.gate}: {verdict.outcome}\n" + "\n".join(f"  {reason}" for reason in verdict.reasons)
