"""One recipe, one run directory: the stages from problems to report, each resumable and usable alone.

    run = Run.open("tiny/quickstart", "runs/quickstart")
    run.harvest(); run.curate(); run.train(); run.evaluate(); run.gate(); run.report()

Stages hand over files (see the run directory in the README); a stage whose input is missing says which command makes
it. The command line's verbs are the `*_command` functions of `distill/commands.py`. Not covered: what a stage does,
which is its package's matter.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distill import provenance
from distill.cards import load_student, load_teacher
from distill.errors import ConfigError
from distill.recipes import Recipe, load_recipe, sampling_params
from distill.records import Problem, SamplingParams, stable_hash
from distill.train.parallel import is_main_process, is_worker, launch, leave_processes
from distill.train.precision import check_student

if TYPE_CHECKING:
    from distill.cards import StudentCard, TeacherCard
    from distill.curate.pipeline import CurationResult
    from distill.engines.base import Engine
    from distill.evaluate.result import EvalResult
    from distill.gate.spec import Gate
    from distill.gate.verdict import GateVerdict
    from distill.gate_stage import GateModels
    from distill.harvest.summary import HarvestSummary
    from distill.harvest.verify_again import VerifiedAgain
    from distill.harvest_stage import Executor, HarvestStage
    from distill.store.ledger import Ledger
    from distill.train.sft import TrainingResult
    from distill.verify.judge import JudgeSummary

Role = Literal["base", "student", "teacher"]
ROLES: tuple[Role, ...] = ("base", "student", "teacher")


class Run:
    """A recipe bound to a run directory."""

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        directory: Path,
        overrides: Sequence[str] = (),
        base_urls: Sequence[str] = (),
        served_model: str | None = None,
    ):
        self.recipe, self.name, self.directory = recipe, name, directory
        self.overrides = tuple(overrides)
        self.base_urls, self.served_model = tuple(base_urls), served_model
        self.teacher_card: TeacherCard = load_teacher(recipe.teacher)
        self.student_card: StudentCard = load_student(recipe.student)
        self.file = _open_run_file(directory)

    @classmethod
    def open(
        cls,
        recipe: str | Path,
        out: str | Path,
        overrides: Sequence[str] = (),
        *,
        base_urls: Sequence[str] = (),
        served_model: str | None = None,
    ) -> Run:
        """Load the recipe and make the run directory; with `base_urls` the teacher is sampled there.

        Raises: ConfigError, CatalogError.
        """
        run = cls(load_recipe(recipe, overrides), str(recipe), Path(out), overrides, base_urls, served_model)
        check_student(run.student_card, run.recipe.training)
        if is_main_process():
            run._record_inputs()
        return run

    def _record_inputs(self) -> None:
        resolved = self.recipe.model_dump(mode="json")
        cards = (self.teacher_card, self.student_card)
        self.file.record_provenance()
        self.file.data["recipe_name"] = self.name
        self.file.data["recipe"] = resolved
        self.file.data["overrides"] = list(self.overrides)
        self.file.data["recipe_hash"] = stable_hash(resolved, length=16)
        self.file.data["card_hashes"] = {card.name: provenance.file_hash(card.path) for card in cards if card.path}
        self.file.save()

    @property
    def ledger_path(self) -> Path:
        return self.directory / "ledger.db"

    def open_ledger(self) -> Ledger:
        from distill.store.ledger import Ledger

        return Ledger.open(self.ledger_path, create=True)

    @property
    def task_data(self) -> dict[str, Path]:
        """Local files in the place of the tasks' datasets, as the recipe names them."""
        return self.recipe.evaluation.local_data(self.recipe.base_dir)

    @cached_property
    def held_out(self) -> list[Problem]:
        """Problems of the evaluation tasks: never trained on."""
        from distill.evaluate.tasks import held_out_problems

        return held_out_problems(self.recipe.evaluation.tasks, task_data=self.task_data)

    @cached_property
    def train_problems(self) -> list[Problem]:
        """Problems to harvest, distinct and disjoint from the held-out ones; counts go to run.json."""
        from distill.problems import training_problems

        kept, num_overlap, num_duplicates = training_problems(self.recipe, self.held_out, self.name)
        self.file.update(
            "problems",
            train=len(kept),
            held_out=len(self.held_out),
            removed_overlap=num_overlap,
            removed_duplicates=num_duplicates,
            by_family=dict(Counter(problem.family for problem in kept)),
            by_group=_groups(kept),
        )
        return kept

    def problems(self) -> ProblemCounts:
        """Load the training problems and say how many were removed."""
        self.train_problems  # noqa: B018 (loads, and counts into run.json)
        return ProblemCounts(self.file.data["problems"])

    def engine(self, role: Role, batch_size: int) -> Engine:
        """The engine of a role: the teacher's endpoint where there is one, else local; the student is the run's own."""
        from distill.engines.local import LocalEngine

        if role == "teacher":
            return self._harvest_stage().open_teacher(batch_size)
        card, location = self.student_card, self.student_card.model_location
        if role == "student":
            location = str(self.directory / "student")
        if role == "student" and not (self.directory / "student" / "training.json").exists():
            raise ConfigError(
                f"{location}: there is no trained student yet; run `distill train {self.name} --out {self.directory}`."
            )
        return LocalEngine.open(
            location,
            name=f"{card.name}-distilled" if role == "student" else card.name,
            reasoning=self.teacher_card.reasoning,
            revision=None if role == "student" else card.revision,
            batch_size=batch_size,
        )

    def harvest(self, executor: Executor = "local") -> HarvestSummary:
        """Sample the teacher on every training problem and verify what it says; in this process or on a Ray cluster."""
        with self.file.stage("harvest"), self.open_ledger() as ledger:
            return self._harvest_stage().run(ledger, executor)

    def verify(self, *, everything: bool = False) -> VerifiedAgain:
        """Verify what the harvest left in the ledger by today's verifiers and gold answers; draws nothing."""
        with self.open_ledger() as ledger:
            return self._harvest_stage().verify_again(ledger, everything=everything)

    def judge(self) -> JudgeSummary:
        """Ask the recipe's judge about what the harvest left undecided; the teacher draws nothing.

        Raises: ConfigError where the recipe has no judge, or nothing is harvested; what the judge's engine raises.
        """
        if self.recipe.harvest.judge is None:
            raise ConfigError(f"{self.name}: harvest.judge is not set; name a judge there (docs/verification.md).")
        with self.open_ledger() as ledger:
            summary = self._harvest_stage().judge(ledger)
        assert summary is not None
        return summary

    def _harvest_stage(self) -> HarvestStage:
        from distill.harvest_stage import HarvestStage

        return HarvestStage(
            recipe=self.recipe,
            name=self.name,
            directory=self.directory,
            file=self.file,
            teacher_card=self.teacher_card,
            problems=self.train_problems,
            base_urls=self.base_urls,
            served_model=self.served_model,
        )

    def curate(self) -> CurationResult:
        """Keep or drop every candidate with a reason, and write the dataset."""
        from distill.curate.card import dataset_card
        from distill.curate.pipeline import build_steps, curate, verifiers_of
        from distill.curate.step import CurationContext
        from distill.store.parquet import write_dataset

        with self.file.stage("curate"), self.open_ledger() as ledger:
            markers = self.teacher_card.reasoning
            context = CurationContext(self.held_out, self.train_problems, markers.open_marker, markers.close_marker)
            steps = build_steps(self.recipe.curation, context)
            result = curate(self._candidates(ledger, verifiers_of(steps)), steps)
            card = dataset_card(
                result,
                title=f"{self.teacher_card.title}, {self.name}",
                steps=self.recipe.curation,
                teacher_licence=self.teacher_card.licence,
                command=f"distill curate {self.name} --out {self.directory}",
            )
            write_dataset(self.directory / "dataset", result.kept, result.drops, card)
            self.file.update("curation", **result.to_dict(), drops_by_reason=result.counts_by_reason)
        return result

    def _candidates(self, ledger: Ledger, verifiers: frozenset[str] | None) -> Iterator[dict[str, Any]]:
        from distill.curate.candidates import candidates
        from distill.harvest.judging import judge_rule
        from distill.store.ledger import JUDGE

        if verifiers is not None and JUDGE in verifiers and self.recipe.harvest.judge is None:
            raise ConfigError(
                f"{self.name}: curation.verified.verifiers names judge, but harvest.judge is not set, so none of its "
                "verdicts can count; set harvest.judge as it was, or take judge out of the list."
            )
        identity = self.file.data.get("harvest", {}).get("judge", {}).get("identity")
        asked = self._harvest_stage().asked(ledger)
        return candidates(ledger, asked, judge=judge_rule(self.recipe.harvest.judge, identity), verifiers=verifiers)

    def train(self) -> TrainingResult:
        """Fine-tune the student on the dataset; under torchrun where the recipe asks for several processes."""
        if is_worker():
            result = self._train_here()
            leave_processes()
            return result
        settings = self.recipe.training
        with self.file.stage("train"):
            if settings.num_processes > 1 or settings.zero_stage:
                overrides = [part for override in self.overrides for part in ("--set", override)]
                launch(["train", self.name, "--out", str(self.directory), *overrides], settings.num_processes)
            result = self._train_here()
            self.file.update("training", **result.to_dict())
        return result

    def _train_here(self) -> TrainingResult:
        from distill.store.parquet import read_traces
        from distill.train.student import train_student

        return train_student(
            self.student_card,
            read_traces(self.directory / "dataset"),
            self.recipe.training,
            self.directory / "student",
            seed=self.recipe.seed,
            teacher=self.teacher_card.title,
            quiet=not sys.stderr.isatty(),
        )

    def evaluate(self, roles: Sequence[Role] = ROLES, *, student: Engine | None = None) -> dict[str, EvalResult]:
        """Measure base, student and teacher on the recipe's tasks, through lm-eval.

        `student` is measured in the place of the run's own checkpoint.
        """
        from distill.evaluate.curves import curves_command

        results: dict[str, EvalResult] = {}
        with self.file.stage("eval"), self.open_ledger() as ledger:
            for role in roles:
                results[role] = self._evaluate_role(role, ledger, student if role == "student" else None)
                results[role].save(self.directory / "eval" / f"{role}.json")
                tasks = {name: _figures(task) for name, task in results[role].tasks.items()}
                self.file.update("evaluation", **{role: tasks})
            curves_command(self.directory)
        self._write_results()
        return results

    def _evaluate_role(self, role: Role, ledger: Ledger, engine: Engine | None) -> EvalResult:
        from distill.evaluate.runner import evaluate

        settings = self.recipe.evaluation
        params = sampling_params(self.recipe.evaluation)
        if role == "base" and settings.base_max_new_tokens:
            params = SamplingParams(params.temperature, params.top_p, settings.base_max_new_tokens)
        return evaluate(
            settings.tasks,
            engine or self.engine(role, settings.batch_size),
            ledger,
            samples_per_item=settings.samples_per_item,
            params=params,
            run_seed=self.recipe.seed,
            verify_workers=self.recipe.harvest.verify_workers,
            verify_timeout_seconds=self.recipe.harvest.verify_timeout_seconds,
            task_data=self.task_data,
        )

    def _write_results(self) -> None:
        import json

        text = json.dumps(self.file.data["evaluation"], indent=1)
        provenance.write_text_atomically(self.directory / "eval" / "results.json", text + "\n")

    def gate(self, *, student: Engine | None = None, models: GateModels | None = None) -> GateVerdict:
        """Judge the evaluation by the recipe's gate; writes verdict.json, junit.xml and summary.md.

        A sequential gate begins with the samples that the evaluation drew, and draws more where they do not decide it;
        `student` is then asked in the place of the run's own checkpoint. `models` names what else the gate needs.
        """
        from distill.gate.spec import load_gate

        results = self.evaluation_results()
        with self.file.stage("gate"):
            gate = load_gate(self.recipe.gate)
            verdict = self._draw_and_judge(gate, student, models) if gate.is_sequential else self._judge(gate, results)
            self.file.update("gate", **{key: value for key, value in verdict.to_dict().items() if key != "evidence"})
        return verdict

    def _judge(self, gate: Gate, results: dict[str, EvalResult]) -> GateVerdict:
        from distill.gate.decide import judge
        from distill.gate.report import write_verdict

        others = {role: result for role, result in results.items() if role != "student"}
        verdict = judge(gate, results["student"], others)
        write_verdict(verdict, self.directory / "gate")
        return verdict

    def _draw_and_judge(self, gate: Gate, student: Engine | None, models: GateModels | None) -> GateVerdict:
        from distill.gate_stage import GateModels, GateStage

        settings = self.recipe.evaluation
        dataset = self.directory / "dataset"
        models = models or GateModels()
        if models.trained_on is None and dataset.exists():
            models = replace(models, trained_on=dataset)
        openers: dict[str, Callable[[], Engine]] = {
            role: partial(self.engine, role, settings.batch_size) for role in ROLES
        }
        if student is not None:
            openers["student"] = lambda: student
        task_dirs = [Path(task).parent for task in self.recipe.evaluation.tasks if Path(task).is_file()]
        stage = GateStage(gate, self.directory, models, self.task_data, self.recipe.endpoint, task_dirs, openers)
        return stage.run()

    def evaluation_results(self) -> dict[str, EvalResult]:
        """What `evaluate` saved. Raises: ConfigError where a role is missing."""
        from distill.evaluate.result import EvalResult

        found = {role: self.directory / "eval" / f"{role}.json" for role in ROLES}
        missing = [role for role, path in found.items() if not path.exists()]
        if missing:
            command = f"distill eval {self.name} --out {self.directory}"
            raise ConfigError(f"{self.directory}: no evaluation of {', '.join(missing)} yet; run `{command}`.")
        return {role: EvalResult.load(path) for role, path in found.items()}

    def report(self) -> Path:
        """Write report.html."""
        from distill.report.html import write_report

        return write_report(self.directory)


class ProblemCounts:
    """How many problems are trained on, held out and removed."""

    def __init__(self, counts: dict[str, Any]):
        self.counts = counts

    def __str__(self) -> str:
        return (
            f"problems: {self.counts['train']} to harvest, {self.counts['held_out']} held out; removed "
            f"{self.counts['removed_duplicates']} duplicates and {self.counts['removed_overlap']} that are held out"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>"


def _groups(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Numbers of problems by source, domain and family: what a funnel starts from."""
    counts = Counter((problem.source, problem.domain, problem.family) for problem in problems)
    return [
        {"source": source, "domain": domain, "family": family, "problems": count}
        for (source, domain, family), count in sorted(counts.items())
    ]


def _figures(task: Any) -> dict[str, Any]:
    return {"scores": task.scores, "families": task.families}


def _open_run_file(directory: Path) -> provenance.RunFile:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be made: {error.strerror}; choose another --out.") from None
    return provenance.RunFile(directory)
