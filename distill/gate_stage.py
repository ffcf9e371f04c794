"""The gate stage: a gate's models opened or found, its rounds drawn and judged, and what came of it written.

    GateStage(load_gate("o1-mini"), out, GateModels(model="runs/mine/student")).run()
    GateStage(load_gate("quickstart"), out).run()                              # models that OUT/eval has measured
    GateStage(load_gate("teacher-gap"), out, GateModels(model="mine", others={"teacher": "runs/r1/ledger.db"})).run()

A model is written as a card's name, a checkpoint folder, an address (`http://host:8000/v1`, `URL#NAME`) or a ledger
(`runs/x/ledger.db`, `LEDGER.db#MODEL`): the samples it holds are judged, nothing is drawn, and no torch is needed. A
role that is not named is what OUT/eval has measured of it.
Not covered: judging (`distill/gate/`), and gates over a finished evaluation (method bootstrap or exact, `commands.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.cards import load_baseline
from distill.config import apply_overrides, parse
from distill.errors import ConfigError, GateError
from distill.evaluate.curves import curves_command
from distill.evaluate.result import EvalResult
from distill.evaluate.tasks import TaskData, read_tasks
from distill.gate.bars import bars
from distill.gate.contestant import Contestant, EngineOpener, evaluated, recorded
from distill.gate.decide import baselines_of
from distill.gate.question import check_bars
from distill.gate.report import write_verdict
from distill.gate.sequential_gate import SequentialGate
from distill.gate.spec import MODELS, Gate
from distill.gate.validity import before_sampling
from distill.gate.verdict import GateVerdict
from distill.models import local_template, longest_completion, open_engine
from distill.recipes import Endpoint
from distill.records import Problem, SamplingParams
from distill.store.ledger import Ledger
from distill.verify.pool import VerifierPool

if TYPE_CHECKING:
    from distill.engines.base import Engine

Opener = Callable[[], "Engine"]
LEDGER_SUFFIX = ".db"
ADDRESS = ("http://", "https://")


@dataclass(frozen=True)
class GateModels:
    """What stands for each role, as a user writes it; a role that is absent is what OUT/eval has measured."""

    model: str | None = None
    base_url: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    """base, teacher or checkpoint -> model."""
    anchors: Mapping[str, str] = field(default_factory=dict)
    """Baseline's name -> model."""
    trained_on: Path | None = None
    """The student's training data, to be searched for the tasks' items."""

    @property
    def student(self) -> str | None:
        if self.base_url is None:
            return self.model
        return self.base_url if self.model is None else f"{self.base_url}#{self.model}"


def models_of(
    model: str | None, base_url: str | None, others: Sequence[str], anchors: Sequence[str], trained_on: Path | None
) -> GateModels:
    """From the command line's `ROLE=MODEL` and `BASELINE=MODEL`. Raises: ConfigError for what is written otherwise."""
    roles = dict(_pair("--other", each) for each in others)
    for role in roles:
        if role not in MODELS:
            raise ConfigError(f"--other {role}=...: expected one of {', '.join(MODELS)}.")
    if base_url is not None and not base_url.startswith(ADDRESS):
        raise ConfigError(f"--base-url: expected http://HOST:PORT/v1, found '{base_url}'; a model here is --model.")
    return GateModels(model, base_url, roles, dict(_pair("--anchor", each) for each in anchors), trained_on)


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"{option} {text}: expected NAME=MODEL, such as checkpoint=runs/last/student.")
    return name, value


@dataclass
class GateStage:
    """A sequential gate bound to a run directory."""

    gate: Gate
    out: Path
    models: GateModels = field(default_factory=GateModels)
    task_data: TaskData | None = None
    endpoint: Endpoint | None = None
    task_dirs: Sequence[Path] = ()
    """Folders of task files to look in before the catalogue."""
    openers: Mapping[str, Opener] = field(default_factory=dict)
    """By role: how a model is opened that OUT/eval has measured, once its samples there are used up."""
    quiet: bool = False

    def run(self) -> GateVerdict:
        """Draw, judge, and write OUT/gate and OUT/eval. Raises: what models, ledgers and tasks raise."""
        self._check_roles()
        tasks = read_tasks(self.gate.tasks, self.task_dirs, self.task_data)
        gate = self.gate.model_copy(update={"tasks": [task.name for task in tasks]})  # a path stands for its task
        data = self.task_data or {}
        problems = {task.name: task.problems(data.get(task.name)) for task in tasks}
        baselines = baselines_of(self.gate) | {name: load_baseline(name) for name in self.models.anchors}
        check_bars(gate, baselines)
        for name in self.models.anchors:
            bars(gate.name, baselines[name], gate.tasks, "pass@1")
        saved = saved_evidence(self.out / "gate" / "verdict.json")
        today = datetime.now(UTC).date()
        reasons = before_sampling(gate, problems, baselines=baselines, training=self.models.trained_on, today=today)
        items = [problem for found in problems.values() for problem in found]
        with ExitStack() as stack:
            ledger = stack.enter_context(Ledger.open(self.out / "ledger.db", create=True))
            pool = stack.enter_context(VerifierPool())
            contestants = {who: self._contestant(who, ledger, items, stack) for who in ("student", *self.gate.needs)}
            anchors = {
                name: self._opened(f"anchor {name}", what, ledger, items, stack, self._like())
                for name, what in self.models.anchors.items()
            }
            verdict, results = SequentialGate(
                gate=gate,
                tasks=tasks,
                problems=problems,
                contestants=contestants,
                baselines=baselines,
                verify=pool.verify_many,
                saved=saved,
                task_data=self.task_data,
                invalid_before=reasons,
                notes=self._notes(),
                anchors=anchors,
                save=partial(write_verdict, directory=self.out / "gate", is_final=False),
                tell=self._tell,
            ).judge()
        write_verdict(verdict, self.out / "gate")
        self._save(results)
        return verdict

    def _tell(self, line: str) -> None:
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def _contestant(self, who: str, ledger: Ledger, items: Sequence[Problem], stack: ExitStack) -> Contestant:
        what = self._named(who)
        if what is not None:
            return self._opened(who, what, ledger, items, stack, self._like())
        opener = self._opener(self.openers[who], stack) if who in self.openers else None
        return evaluated(who, EvalResult.load(self._measured(who)), ledger, opener)

    def _opener(self, open_engine: Opener, stack: ExitStack) -> EngineOpener:
        return stack.enter_context(closing(EngineOpener(open_engine)))

    def _notes(self) -> list[str]:
        if self.models.trained_on is not None:
            return []
        return ["contamination was not checked: name the student's training data with --trained-on."]

    def _measured(self, who: str) -> Path:
        return self.out / "eval" / f"{who}.json"

    def _named(self, who: str) -> str | None:
        return self.models.student if who == "student" else self.models.others.get(who)

    def _check_roles(self) -> None:
        """Before a model is loaded. Raises: ConfigError for a role that is missing, or not asked for."""
        for who in ("student", *self.gate.needs):
            path = self._measured(who)
            if self._named(who) is None and not path.exists():
                option = "--model or --base-url" if who == "student" else f"--other {who}=MODEL"
                raise ConfigError(
                    f"gate {self.gate.name}: there is no {who}: {path} does not exist. Name it with {option}, or run "
                    f"`distill eval RECIPE --out {self.out}` first."
                )
        for who in self.models.others:
            if who not in self.gate.needs:
                needs = ", ".join(self.gate.needs) or "no other model"
                raise ConfigError(
                    f"--other {who}=...: gate {self.gate.name} compares with {needs}; leave it out, or add a "
                    f"comparison {{against: {who}, ...}} to the gate."
                )

    def _opened(
        self, who: str, what: str, ledger: Ledger, items: Sequence[Problem], stack: ExitStack, like: EvalResult | None
    ) -> Contestant:
        location, _, name = what.partition("#")
        if location.endswith(LEDGER_SUFFIX):
            source = ledger if _is_same(Path(location), ledger.path) else stack.enter_context(Ledger.open(location))
            return recorded(who, source, [problem.id for problem in items], name or None, local_template)
        settings = self.gate.sampling
        if location.startswith(ADDRESS):
            engine = open_engine(name or None, base_url=location, endpoint=self.endpoint)
        else:
            engine = open_engine(what, batch_size=settings.batch_size)
        params, seed = self._params(longest_completion(engine), like), settings.seed if like is None else like.run_seed
        opener = self._opener(lambda: engine, stack)
        opener()
        return Contestant(who, engine.model, engine.fingerprint, params, seed, ledger, opener=opener)

    def _params(self, longest: int, like: EvalResult | None) -> SamplingParams:
        if like is not None:
            return SamplingParams(**like.params)
        settings = self.gate.sampling
        return SamplingParams(settings.temperature, settings.top_p, settings.max_new_tokens or longest)

    def _like(self) -> EvalResult | None:
        """An evaluation of this directory that the gate compares with: models are sampled alike."""
        for who in ("teacher", "checkpoint", "base"):  # the base may have had a lower token limit
            if who in self.gate.needs and who not in self.models.others and self._measured(who).exists():
                return EvalResult.load(self._measured(who))
        return None

    def _save(self, results: Mapping[str, EvalResult]) -> None:
        """OUT/eval as the rounds left it; an evaluation of the same model there that is as large is kept."""
        for who, result in results.items():
            if not _is_as_large(self._measured(who), result):
                result.save(self._measured(who))
        if results:
            curves_command(self.out)


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and one.resolve() == other.resolve()


def _is_as_large(path: Path, now: EvalResult) -> bool:
    """Whether the file is an evaluation of the same model with as many samples of these tasks."""
    try:
        before = EvalResult.load(path)
    except ConfigError:  # none, or of another version
        return False
    return before.model_fingerprint == now.model_fingerprint and all(
        name in before.tasks and before.tasks[name].samples_per_item >= task.samples_per_item
        for name, task in now.tasks.items()
    )


def saved_evidence(path: Path) -> dict[str, Any]:
    """The evidence of an earlier verdict; empty where there is none.

    Raises: GateError if the file cannot be read: evidence is not thrown away unasked.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found.get("evidence") or {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise GateError(
            f"{path}: the evidence of earlier runs cannot be read ({error}); restore the file, or remove it to begin "
            "anew (the samples are in the ledger)."
        ) from None


def task_data_of(overrides: Sequence[str]) -> dict[str, Path]:
    """Local files in the place of tasks' datasets: `--set data.gsm8k=FILE`. Raises: ConfigError if one is missing."""
    given = _data(overrides)
    for name, value in given.items():
        if isinstance(value, dict):
            raise ConfigError(f"--set data.{name}.{next(iter(value))}=...: splits are of lm-eval's own tasks.")
    return {name: _file(f"--set data.{name}", value) for name, value in given.items()}


def official_data_of(overrides: Sequence[str]) -> dict[str, Path | dict[str, Path]]:
    """The same for lm-eval's own tasks, which may have several splits: `--set data.gsm8k.train=FILE`."""
    return {
        name: {split: _file(f"--set data.{name}.{split}", each) for split, each in value.items()}
        if isinstance(value, dict)
        else _file(f"--set data.{name}", value)
        for name, value in _data(overrides).items()
    }


def _data(overrides: Sequence[str]) -> dict[str, Any]:
    return dict(apply_overrides({"data": {}}, [each for each in overrides if each.startswith("data.")])["data"])


def _file(where: str, value: Any) -> Path:
    path = Path(str(value)).expanduser()
    if not path.is_file():
        raise ConfigError(f"{where}={path}: there is no such file; name a JSONL file of the items.")
    return path


def endpoint_of(overrides: Sequence[str]) -> Endpoint:
    """`--set endpoint.X=Y`. Raises: ConfigError."""
    given = apply_overrides({"endpoint": {}}, [each for each in overrides if each.startswith("endpoint.")])
    return parse(Endpoint, given["endpoint"], where="--set endpoint")
