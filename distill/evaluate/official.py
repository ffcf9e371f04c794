"""lm-eval's own tasks (its GSM8K, its MATH-500) through an engine and the ledger: its prompts, filters and scores.

    with Ledger.open("out/ledger.db", create=True) as ledger:
        result = evaluate_official(["gsm8k", "hendrycks_math500"], engine, ledger, params, run_seed=0)
    result.scores["gsm8k"]["exact_match,flexible-extract"], result.tokens["gsm8k"]["mean_completion_tokens"]

For comparisons with published lm-eval figures. The chat template is applied and few-shot examples stand in the one user
message, as `lm_eval run --apply_chat_template --fewshot_as_multiturn false` has it; stop strings act on the finished
answer (`stop_strings.py`). Sampling is by `params`, whatever the task asks for.
Not covered: tasks by log-likelihood, with a system message or a started answer; code tasks, which lm-eval runs without
a sandbox. These are refused. The gate reads the toolkit's own tasks (`runner.py`), which verify answers.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.engines.base import Engine
from distill.errors import CatalogError, ConfigError, DistillError, InfrastructureError, did_you_mean
from distill.records import Sample, SamplingParams
from distill.store.ledger import Ledger

PREFIX = "lm-eval/"
"""Marks a name as lm-eval's own where both catalogues have it: `lm-eval/gsm8k`."""

FEWSHOT_SEED = 1234
"""lm-eval's default; which examples a prompt shows depends on it."""

SHOWN_SPLITS = ("fewshot_split", "training_split", "validation_split")
"""Where few-shot examples come from, the first that a task has; else from the split that is evaluated."""

Files = str | Path | Mapping[str, str | Path]
OfficialData = Mapping[str, Files]
"""Task name -> a JSONL file in place of its evaluation split, or files by split; columns as the task has them."""


@dataclass(frozen=True, slots=True)
class OfficialResult:
    """lm-eval's results and what they cost in tokens."""

    model: str
    model_fingerprint: str
    params: dict[str, Any]
    run_seed: int
    tokens: dict[str, dict[str, float]]
    """By task: see `_tokens`."""
    samples_drawn: int
    samples_reused: int
    lm_eval: dict[str, Any]
    """What `lm_eval.evaluator.evaluate` returned, per-item records under "samples"."""

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """lm-eval's figures by task, named as it names them: `exact_match,strict-match`."""
        return {
            task: {key: float(value) for key, value in figures.items() if isinstance(value, int | float)}
            for task, figures in self.lm_eval["results"].items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the per-item records: the samples are in the ledger."""
        from lm_eval.utils import handle_non_serializable

        kept = {key: value for key, value in self.lm_eval.items() if key != "samples"}
        return {
            "kind": "official_evaluation",
            "model": self.model,
            "model_fingerprint": self.model_fingerprint,
            "params": self.params,
            "run_seed": self.run_seed,
            "scores": self.scores,
            "tokens": self.tokens,
            "samples_drawn": self.samples_drawn,
            "samples_reused": self.samples_reused,
            "lm_eval": json.loads(json.dumps(kept, default=handle_non_serializable)),
        }


def evaluate_official(
    names: Sequence[str],
    engine: Engine,
    ledger: Ledger,
    params: SamplingParams,
    *,
    run_seed: int,
    limit: int | None = None,
    num_fewshot: int | None = None,
    data: OfficialData | None = None,
    on_sample: Callable[[Sample], None] | None = None,
) -> OfficialResult:
    """Sample and score lm-eval's tasks `names`, with or without PREFIX; `data` is by name without it.

    Raises: CatalogError for an unknown name; ConfigError for a task that cannot be evaluated through an engine, or
    files that do not fit it; InfrastructureError if the hub is away.
    """
    from lm_eval import evaluator  # takes seconds

    from distill.evaluate.lm import EngineLM

    names = [name.removeprefix(PREFIX) for name in names]
    if limit is not None and limit < 1:
        raise ConfigError(f"evaluation: limit: expected at least 1 item, found {limit}; leave it out for all items.")
    loaded = _loaded(names, dict(data or {}), num_fewshot, params)
    lm = EngineLM(engine, ledger, params, run_seed=run_seed, on_sample=on_sample)
    found: Any = evaluator.evaluate(lm, loaded, limit=limit, apply_chat_template=True, fewshot_as_multiturn=False)
    return OfficialResult(
        model=engine.model,
        model_fingerprint=engine.fingerprint,
        params=params.to_dict(),
        run_seed=run_seed,
        tokens={task: _tokens(records) for task, records in found["samples"].items()},
        samples_drawn=lm.engine.samples_drawn,
        samples_reused=lm.num_answered - lm.engine.samples_drawn,
        lm_eval=dict(found),
    )


# --- lm-eval's task objects ------------------------------------------------------------------------------------------


def _loaded(names: Sequence[str], data: dict[str, Files], num_fewshot: int | None, params: SamplingParams) -> Any:
    from lm_eval.tasks import TaskManager

    if not names:
        raise ConfigError("tasks: the list is empty; name at least one of lm-eval's, such as lm-eval/gsm8k.")
    for name in data:
        if name not in names:
            raise ConfigError(f"data: '{name}' is not evaluated here; tasks of this run: {', '.join(names)}.")
    files = {name: _file_of(name, params) for name in names}
    manager = TaskManager(include_defaults=None in files.values())  # its index of 13,000 files takes 15 seconds
    for name in names:
        if files[name] is None and name not in manager.all_tasks:
            raise CatalogError(f"lm-eval has no task '{name}'{did_you_mean(name, manager.all_tasks)}.")
    try:
        specs = [_spec(name, files[name], data.get(name), num_fewshot) for name in names]
        loaded = manager.load(specs)
    except DistillError:
        raise
    except (ConnectionError, TimeoutError) as error:
        hint = "give local files with `data`, by split."
        raise InfrastructureError(f"lm-eval tasks {', '.join(names)}: the hub is away ({error}); {hint}") from error
    except Exception as error:  # a task's own module, datasets and lm-eval raise what they like
        shown = f"{type(error).__name__}: {error}"
        raise ConfigError(f"lm-eval tasks {', '.join(names)}: lm-eval cannot load them: {shown}") from error
    for name, task in loaded["tasks"].items():
        _check(name, task.config.to_dict(), params)
        _set_fewshot(task, num_fewshot)
    return loaded


def _file_of(name: str, params: SamplingParams) -> Path | None:
    """The file of a task that is called like its file, as most are; refused if an engine cannot evaluate it."""
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    for path in Path(lm_eval.tasks.__file__).parent.rglob(f"{glob.escape(name)}.yaml"):
        config = load_yaml(path, resolve_func=False)
        if config.get("task") == name and "group" not in config:
            _check(name, config, params)
            return path
    return None


def _spec(name: str, path: Path | None, files: Files | None, num_fewshot: int | None) -> Any:
    """What `TaskManager.load` takes: a name, a file, or the file's content with other data."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if files is None:
        return str(path) if path is not None else name
    if path is None:
        raise ConfigError(f"data: '{name}' is no task with a file of its own name; name its tasks one by one.")
    config = load_yaml(path)
    return {**config, **_other_data(name, config, files, num_fewshot)}


def _other_data(name: str, config: Mapping[str, Any], files: Files, num_fewshot: int | None) -> dict[str, Any]:
    evaluated = config.get("test_split") or config.get("validation_split")
    by_split = dict(files) if isinstance(files, Mapping) else {evaluated: files}
    shown = next((split for key in SHOWN_SPLITS if (split := config.get(key))), evaluated)  # as lm-eval's fewshot_docs
    examples = _num_fewshot(config.get("num_fewshot"), num_fewshot)
    needed = dict.fromkeys([evaluated, *([shown] if examples and not config.get("fewshot_config") else [])])
    if missing := [str(split) for split in needed if split not in by_split]:
        raise ConfigError(
            f"data: {name}: no file for split {' and '.join(missing)} (its prompts show {examples} examples); give "
            f"{{{', '.join(f'{split}: FILE' for split in needed)}}}, or ask for num_fewshot 0."
        )
    paths = {split: Path(path).expanduser().resolve() for split, path in by_split.items()}
    for path in paths.values():
        if not path.is_file():
            raise ConfigError(f"data: {name}: {path} is not a file; expected JSONL with the task's own columns.")
    absent = {key: None for key in SHOWN_SPLITS if config.get(key) not in (None, *paths)}
    data_files = {split: str(path) for split, path in paths.items()}
    return {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": data_files}, **absent}


def _num_fewshot(of_task: int | None, asked: int | None) -> int:
    """As lm-eval's own `simple_evaluate`: a task that says 0 keeps 0."""
    return of_task or 0 if asked is None or of_task == 0 else asked


def _set_fewshot(task: Any, num_fewshot: int | None) -> None:
    task.set_config(key="num_fewshot", value=_num_fewshot(task.get_config("num_fewshot"), num_fewshot))
    task.set_fewshot_seed(seed=FEWSHOT_SEED)


def _check(name: str, config: Mapping[str, Any], params: SamplingParams) -> None:
    """Of a file before it is loaded: some tasks download or compile things when they are."""
    kind, repeats = config.get("output_type", "generate_until"), config.get("repeats") or 1
    if kind != "generate_until":
        raise ConfigError(
            f"lm-eval task {name}: output_type: found {kind}, which needs log-likelihoods; engines sample text. "
            "Use a task with output_type generate_until."
        )
    if config.get("unsafe_code"):
        raise ConfigError(
            f"lm-eval task {name}: runs model-written code without a sandbox; use this toolkit's task humaneval."
        )
    if repeats > 1 and params.temperature == 0:
        raise ConfigError(
            f"lm-eval task {name}: asks for {repeats} samples an item, which at temperature 0 are copies of one "
            "another; raise the temperature."
        )


# --- tokens ----------------------------------------------------------------------------------------------------------


def _tokens(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Figures of a task's completions; each record carries them, once a filter."""
    completions = {
        (record["doc_id"], place): completion
        for record in records
        for place, completion in enumerate(record["resps"][0])
    }.values()
    samples = [completion.sample for completion in completions if completion.sample is not None]
    total = sum(sample.completion_tokens for sample in samples)
    return {
        "requests": len(completions),
        "answered": len(samples),
        "prompt_tokens": sum(sample.prompt_tokens for sample in samples),
        "completion_tokens": total,
        "mean_completion_tokens": total / len(samples) if samples else 0.0,
        "cut_off_rate": _rate(sample.finish_reason == "length" for sample in samples),
        "unclosed_rate": _rate(sample.answer is None for sample in samples),
        "stopped_rate": _rate(completion.is_cut for completion in completions),
    }


def _rate(found: Any) -> float:
    each = list(found)
    return sum(each) / len(each) if each else 0.0
