"""Evaluation tasks as files: lm-eval YAML whose metadata says where the problems come from.

    task: gsm8k
    class: !function distill.evaluate.problem_task.ProblemTask
    metadata:
      version: 1.0
      problems: [{dataset: {name: openai/gsm8k, ...}}]     # as in a recipe: gym, jsonl or dataset

    held_out_problems(["tiny"])                                       # what training may not contain
    held_out_problems(["gsm8k"], task_data={"gsm8k": "test.jsonl"})   # from a local file, see `local_file.py`

Reading a task here comes before lm-eval reads it: lm-eval leaves out a file that does not parse without saying so.
Not covered: sampling and scoring (`runner.py`, `problem_task.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from distill import catalog
from distill.config import Strict, load_yaml, parse
from distill.errors import ConfigError, InfrastructureError, ProblemError, did_you_mean
from distill.evaluate.local_file import columns_in
from distill.problems import COLUMNS, load_problems
from distill.records import Problem, stable_hash

TASK_CLASS = "!function distill.evaluate.problem_task.ProblemTask"
TaskData = Mapping[str, str | Path]
"""Task name -> a JSONL file that stands in for the task's dataset."""


class TaskMetadata(Strict):
    """The `metadata` of a task file."""

    version: float
    """Raise it with any change that can change a score."""
    problems: list[dict[str, Any]] = Field(min_length=1)
    """Sources as in a recipe; questions that come twice are asked once."""
    answer_after: str | None = None
    """The gold answer is what follows this marker in the answer column (GSM8K: `####`)."""


class GenerationKwargs(Strict):
    """What a task may say of sampling, for stock lm-eval only: an evaluation of this toolkit has its own settings."""

    max_gen_toks: int = Field(ge=1)
    """For tasks whose models have a short context; R1's 32,768 otherwise."""


class TaskFile(Strict):
    """A task file of this toolkit: what lm-eval reads, and nothing that would change sampling behind its back."""

    task: str
    task_class: str = Field(alias="class", pattern=f"^{TASK_CLASS}$")
    task_alias: str | None = None
    tag: str | list[str] | None = None
    generation_kwargs: GenerationKwargs | None = None
    metadata: TaskMetadata


@dataclass(frozen=True, slots=True)
class Task:
    """A task file that was read."""

    name: str
    path: Path
    metadata: TaskMetadata

    def problems(self, data_path: str | Path | None = None) -> list[Problem]:
        """The items, one family after another in turn, so that the first n of them cover all families.

        Raises: ProblemError, InfrastructureError as `load_problems`; ConfigError if `data_path` cannot be used.
        """
        problems = self._load(data_path)
        if (marker := self.metadata.answer_after) is not None:
            problems = [replace(problem, answer=_after(marker, problem.answer)) for problem in problems]
        return _in_turn(problems)

    def _load(self, data_path: str | Path | None) -> list[Problem]:
        if data_path is not None:
            return load_problems([self._local_source(Path(data_path))], base_dir=self.path.parent)
        try:
            return load_problems(self.metadata.problems, base_dir=self.path.parent)
        except (ProblemError, InfrastructureError) as error:
            if self._kinds() != ["dataset"]:
                raise
            hint = f"a local file stands in for the hub: `--set data.{self.name}=FILE.jsonl`"
            raise type(error)(f"task {self.name}: {error} {_gated(error)}Or {hint}.") from error

    def _kinds(self) -> list[str]:
        return [kind for source in self.metadata.problems for kind in source]

    def _local_source(self, data_path: Path) -> dict[str, Any]:
        kinds = self._kinds()
        if kinds not in (["dataset"], ["jsonl"]):
            raise ConfigError(
                f"task_data: task '{self.name}' is made of {', '.join(kinds)}; only a task with a single dataset or "
                "jsonl source can be read from a file of your own."
            )
        source = dict(self.metadata.problems[0][kinds[0]])
        columns = source.pop("columns", None) or {key: source.pop(key) for key in COLUMNS if key in source}
        for key in ("name", "config", "split", "revision", "data_files", "path", "limit"):
            source.pop(key, None)
        path = data_path.expanduser().resolve()
        found = columns_in(path, columns, task=self.name)
        return {"jsonl": {"family": self.name, **source, **found, "path": str(path)}}


def read_task(name_or_path: str | Path, extra_task_dirs: Iterable[str | Path] = ()) -> Task:
    """The task of a name or path; `extra_task_dirs` hold task files and are looked in first.

    Raises: CatalogError if there is none; ConfigError, with the line, if the file is wrong.
    """
    path = _find(name_or_path, extra_task_dirs)
    file = parse(TaskFile, load_yaml(path, function_tags=True), where=str(path))
    if file.task != path.stem:
        raise ConfigError(f"{path}: task: expected the file's own name '{path.stem}', found '{file.task}'.")
    return Task(file.task, path, file.metadata)


def _find(name_or_path: str | Path, extra_task_dirs: Iterable[str | Path]) -> Path:
    for directory in extra_task_dirs:
        candidate = Path(directory) / f"{name_or_path}.yaml"
        if candidate.is_file():
            return candidate.resolve()
    return catalog.find("tasks", name_or_path)


def read_tasks(names: Sequence[str], extra_task_dirs: Iterable[str | Path], task_data: TaskData | None) -> list[Task]:
    """Each task once. Raises: ConfigError if none is named or `task_data` names a task that is not among them."""
    tasks = {task.name: task for task in (read_task(name, tuple(extra_task_dirs)) for name in names)}
    if not tasks:
        raise ConfigError("tasks: the list is empty; name at least one, `distill list tasks` shows them.")
    for name in task_data or {}:
        if name not in tasks:
            hint = did_you_mean(name, tasks) or f"; tasks of this run: {', '.join(tasks)}."
            raise ConfigError(f"task_data: '{name}' is not evaluated here{hint}")
    return list(tasks.values())


def items_hash(problems: Sequence[Problem]) -> str:
    """Hash of a task's items whatever their order: ids, prompts with their instruction, golds, tests, options."""
    rows = [
        [problem.id, problem.prompt, problem.answer, problem.meta.get("tests"), problem.meta.get("choices")]
        for problem in problems
    ]
    return stable_hash(sorted(rows, key=lambda row: stable_hash(*row)), length=16)


def held_out_problems(
    tasks: Sequence[str], *, extra_task_dirs: Iterable[str | Path] = (), task_data: TaskData | None = None
) -> list[Problem]:
    """All items of the tasks, which no training set may contain (`problems.remove_overlap`, `decontaminate`)."""
    data = task_data or {}
    return [
        problem
        for task in read_tasks(tasks, extra_task_dirs, task_data)
        for problem in task.problems(data.get(task.name))
    ]


def _after(marker: str, answer: str | None) -> str | None:
    return answer.rpartition(marker)[2].strip() if answer is not None else None


def _gated(error: Exception) -> str:
    is_gated = "gated" in str(error).lower()
    return "Accept the dataset's terms on its page and log in with `hf auth login`. " if is_gated else ""


def _in_turn(problems: list[Problem]) -> list[Problem]:
    families: dict[str, list[Problem]] = {}
    for problem in problems:
        families.setdefault(problem.family, []).append(problem)
    longest = max(map(len, families.values()))
    return [family[place] for place in range(longest) for family in families.values() if place < len(family)]
