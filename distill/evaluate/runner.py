"""Evaluates an engine on tasks through lm-eval, k samples an item, the ledger answering what was sampled before.

    params = SamplingParams(temperature=0.6, top_p=0.95, max_new_tokens=512)
    with Ledger.open("out/ledger.db", create=True) as ledger:
        result = evaluate(["tiny"], engine, ledger, samples_per_item=4, params=params, run_seed=0)

Interrupt it anywhere: samples are in the ledger as they finish, and the next call goes on from there.
Not covered: few-shot prompts, log-likelihood tasks, and judging the result (`distill/gate/`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.engines.base import Engine
from distill.errors import ConfigError, DistillError
from distill.evaluate.documents import problem_of
from distill.evaluate.observation import Observation, item_of, observe_all
from distill.evaluate.result import EvalResult, Item, TaskResult
from distill.evaluate.tasks import Task, TaskData, items_hash, read_tasks
from distill.records import Problem, Sample, SamplingParams
from distill.store.ledger import Ledger
from distill.verify.classes import compare_in
from distill.verify.pool import VerifierPool


def evaluate(
    tasks: Sequence[str],
    engine: Engine,
    ledger: Ledger,
    *,
    samples_per_item: int,
    limit: int | None = None,
    params: SamplingParams,
    run_seed: int,
    extra_task_dirs: Iterable[str | Path] = (),
    task_data: TaskData | None = None,
    verify_workers: int = 2,
    verify_timeout_seconds: float = 10.0,
    on_sample: Callable[[Sample], None] | None = None,
) -> EvalResult:
    """Sample and score every item of `tasks`, or the first `limit` of each (families in turn).

    `task_data` gives a local JSONL file for a task whose data is on the hub. `on_sample` is called with every sample,
    drawn or known. Raises: ConfigError, CatalogError, ProblemError for what is wrong with the tasks or settings.
    """
    _check(samples_per_item, limit, params)
    files = read_tasks(tasks, extra_task_dirs, task_data)
    started = time.monotonic()
    from distill.evaluate.lm import EngineLM  # lm-eval takes seconds to import

    with _quiet_lm_eval(), VerifierPool(verify_workers, verify_timeout_seconds) as pool:
        lm = EngineLM(engine, ledger, params, run_seed=run_seed, verify=pool.verify_many, on_sample=on_sample)
        scored = _score(lm, files, samples_per_item, task_data, limit, pool)
    return EvalResult(
        model=engine.model,
        model_fingerprint=engine.fingerprint,
        params=params.to_dict(),
        run_seed=run_seed,
        samples_drawn=lm.engine.samples_drawn,
        samples_reused=lm.num_answered - lm.engine.samples_drawn,
        seconds=time.monotonic() - started,
        **scored,
    )


def score_recorded(
    files: Sequence[Task],
    seen: Mapping[tuple[str, str], Sequence[Observation | None]],
    *,
    task_data: TaskData | None = None,
) -> dict[str, Any]:
    """`tasks` and `lm_eval` of an EvalResult from samples that were scored before, by (task, problem id).

    Every item has the same number of samples; None where the engine gave none. Nothing is drawn or verified.
    """
    from distill.evaluate.lm import RecordedLM

    samples_per_item = len(next(iter(seen.values())))
    with _quiet_lm_eval(), VerifierPool(1) as pool:  # a worker starts with the first answers to compare
        return _score(RecordedLM(seen), files, samples_per_item, task_data, None, pool)


def _score(
    lm: Any,
    files: Sequence[Task],
    samples_per_item: int,
    task_data: TaskData | None,
    limit: int | None,
    pool: VerifierPool,
) -> dict[str, Any]:
    loaded = _load(files, samples_per_item, task_data)
    found = _run(lm, loaded, limit)
    tasks = {
        file.name: TaskResult(
            task=file.name,
            version=file.metadata.version,
            samples_per_item=samples_per_item,
            n_items_in_task=len(loaded["tasks"][file.name].eval_docs),
            items=tuple(_item(record, pool) for record in found["samples"][file.name]),
            items_hash=items_hash(_problems(loaded["tasks"][file.name])),
        )
        for file in files
    }
    return {"tasks": tasks, "lm_eval": {"version": _lm_eval_version(), "results": _plain(found["results"])}}


def _check(samples_per_item: int, limit: int | None, params: SamplingParams) -> None:
    if samples_per_item < 1:
        raise ConfigError(f"evaluation: samples_per_item: expected at least 1, found {samples_per_item}.")
    if limit is not None and limit < 1:
        raise ConfigError(f"evaluation: limit: expected at least 1 item, found {limit}; leave it out for all items.")
    if samples_per_item > 1 and params.temperature == 0:
        raise ConfigError(
            f"evaluation: temperature: found 0 with samples_per_item {samples_per_item}; greedy samples are copies of "
            "one another. Raise the temperature, or ask for 1 sample."
        )


def _load(files: Sequence[Task], samples_per_item: int, task_data: TaskData | None) -> Any:
    """lm-eval's own task objects, with k repeats."""
    from lm_eval.tasks import TaskManager

    data = {name: str(path) for name, path in (task_data or {}).items()}
    manager = TaskManager(include_defaults=False, metadata={"task_data": data})
    loaded = manager.load([str(file.path) for file in files])
    for task in loaded["tasks"].values():
        task.set_config("repeats", samples_per_item)
    return loaded


def _run(lm: Any, loaded: Any, limit: int | None) -> Any:
    from lm_eval import evaluator

    try:
        return evaluator.evaluate(
            lm, loaded, limit=limit, bootstrap_iters=0, log_samples=True, apply_chat_template=True
        )
    except DistillError:
        raise
    except ValueError as error:
        if "did not find any docs" in str(error):
            raise ConfigError(f"evaluation: a task has no items: {error}") from error
        raise


def _problems(task: Any) -> list[Problem]:
    """All items of a loaded task, whatever the limit."""
    found = (problem_of(document) for document in task.eval_docs)
    return [problem for problem in found if problem is not None]


def _item(record: dict[str, Any], pool: VerifierPool) -> Item:
    """An item from lm-eval's record of it: the completions carry what was seen of them, or samples and verdicts."""
    problem = problem_of(record["doc"])
    assert problem is not None, "a document of ProblemTask holds its problem"
    completions = record["resps"][0]
    seen = [completion.seen for completion in completions if completion.seen is not None]
    judged = [(problem, each.sample, each.verdict) for each in completions if each.sample is not None]
    return item_of(problem, seen or observe_all(judged, pool.verify_many), compare_in(pool))


@contextlib.contextmanager
def _quiet_lm_eval() -> Iterator[None]:
    """lm-eval warns about custom datasets and metrics on every load; errors still show."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _lm_eval_version() -> str:
    from importlib.metadata import version

    return version("lm-eval")


def _plain(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """lm-eval's figures without its aliases and N/A marks: a second opinion on ours."""
    return {
        task: {key: float(value) for key, value in figures.items() if isinstance(value, int | float)}
        for task, figures in results.items()
    }
