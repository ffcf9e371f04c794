"""The harvest stage of a run: opens the teacher, samples it here or on a Ray cluster, and asks the judge.

    stage = HarvestStage(recipe, name, directory, file, teacher_card, problems, base_urls=("http://a:8000/v1",))
    summary = stage.run(ledger, "local")
    for entry in stage.asked(ledger): ...       # what this run's harvest has of each problem: curation's input

What decides which samples are this run's (fingerprint, who rendered the prompts, whether the server can continue) is
kept in run.json before anything is sampled. Not covered: what to draw and when to stop (`distill/harvest/`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distill.errors import ConfigError, InfrastructureError
from distill.harvest.asking import Asking, Entry, harvest_scope, plan_of
from distill.recipes import sampling_params

if TYPE_CHECKING:
    from distill.cards import TeacherCard
    from distill.engines.base import Engine
    from distill.harvest.progress import Progress
    from distill.harvest.summary import HarvestSummary
    from distill.harvest.verify_again import VerifiedAgain
    from distill.provenance import RunFile
    from distill.recipes import Recipe
    from distill.records import Problem
    from distill.store.ledger import Ledger
    from distill.verify.judge import JudgeSummary

VOTED = "majority"
Executor = Literal["local", "ray"]


@dataclass(frozen=True)
class HarvestStage:
    """A recipe's teacher and problems, bound to a run directory."""

    recipe: Recipe
    name: str
    directory: Path
    file: RunFile
    teacher_card: TeacherCard
    problems: Sequence[Problem]
    base_urls: tuple[str, ...] = ()
    served_model: str | None = None

    def run(self, ledger: Ledger, executor: Executor) -> HarvestSummary:
        """Sample and verify; then the judge has its turn.

        Raises: InfrastructureError where a budget ran out, after everything is saved; what engines and ledgers raise.
        """
        from distill.harvest.progress import live_progress

        with live_progress("harvest") as progress:
            summary = self._on_ray(progress) if executor == "ray" else self._here(ledger, progress)
        self.file.update("harvest", **kept_speed(summary, self.file.data["harvest"]))
        self.judge(ledger)
        if summary.stopped_by is not None:
            raise InfrastructureError(self._out_of_budget(summary))
        return summary

    def asked(self, ledger: Ledger) -> Iterator[Entry]:
        """Every training problem with what this run's harvest has of it. Raises: ConfigError before a harvest."""
        from distill.engines.local import template_renderer

        harvested = self.file.data.get("harvest", {})
        if "teacher_fingerprint" not in harvested:
            command = f"distill harvest {self.name} --out {self.directory}"
            raise ConfigError(f"{self.directory}: nothing is harvested yet; run `{command}`.")
        if harvested.get("rendered_by") == "server":
            render: Callable[[str], str] = str  # the server's template; the ledger's prompts are the messages
        else:
            render = template_renderer(self.teacher_card.model_location, revision=self.teacher_card.revision)
        can_continue = bool(harvested.get("can_continue"))
        return self._asking(harvested["teacher_fingerprint"], render, can_continue).replay(ledger, self.problems)

    def verify_again(self, ledger: Ledger, *, everything: bool) -> VerifiedAgain:
        """Verify the samples of this harvest that lack a current verdict, or all of them, and let the rest vote anew.

        Figures go to run.json, a line to stderr at most every ten seconds.
        """
        from distill.harvest.verify_again import lines_on_stderr, verify_again
        from distill.harvest.voting import vote_again

        settings = self.recipe.harvest
        voting = (entry for entry in self.asked(ledger) if entry.problem.verifier == VOTED)
        decided = ((key, problem) for key, problem in self.asked_keys(ledger) if problem.verifier != VOTED)
        result = verify_again(
            ledger,
            decided,
            everything=everything,
            verify_workers=settings.verify_workers,
            verify_timeout_seconds=settings.verify_timeout_seconds,
            progress=lines_on_stderr(),
        )
        vote_again(
            ledger,
            voting,
            settings.voting,
            result,
            everything=everything,
            verify_timeout_seconds=settings.verify_timeout_seconds,
        )
        self.file.update("verification", **result.to_dict())
        return result

    def open_teacher(self, batch_size: int) -> Engine:
        """The teacher at its addresses, probed, or loaded here; what the probes saw goes to stderr.

        Raises: TeacherError where reasoning would be lost, InfrastructureError where nothing answers.
        """
        if not self.base_urls:
            return self._local_opener(batch_size)()
        return self._endpoint_opener()(settings=self.recipe.endpoint)

    def _here(self, ledger: Ledger, progress: Progress) -> HarvestSummary:
        from distill.harvest.runner import harvest

        settings = self.recipe.harvest
        engine = self.open_teacher(settings.batch_size)
        self._record_teacher(engine.fingerprint, engine.can_continue)
        try:
            return harvest(
                engine,
                ledger,
                self.problems,
                self._asking(engine.fingerprint, engine.render, engine.can_continue),
                budget=settings.budget,
                voting=settings.voting,
                verify_workers=settings.verify_workers,
                verify_timeout_seconds=settings.verify_timeout_seconds,
                progress=progress,
            )
        finally:
            self._record_endpoint(engine)

    def _on_ray(self, progress: Progress) -> HarvestSummary:
        from distill.harvest.ray_executor import harvest_on_ray
        from distill.harvest.ray_worker import Work

        settings, endpoint = self.recipe.harvest, self.recipe.endpoint if self.base_urls else None
        opener = self._endpoint_opener() if endpoint else self._local_opener(settings.batch_size)
        summary, reports = harvest_on_ray(
            Work(opener, endpoint, settings, sampling_params(self.recipe.harvest), self.recipe.seed),
            self.directory / "ledger.db",
            self.problems,
            settings=self.recipe.executor,
            on_teacher=self._record_teacher,
            progress=progress,
        )
        if endpoint:
            self.file.update("harvest", endpoint={"blocks": reports})
        return summary

    def _local_opener(self, batch_size: int) -> Callable[[], Engine]:
        from distill.engines.local import LocalEngine

        card = self.teacher_card
        return partial(
            LocalEngine.open,
            card.model_location,
            name=card.name,
            reasoning=card.reasoning,
            revision=card.revision,
            batch_size=batch_size,
        )

    def _endpoint_opener(self) -> Callable[..., Engine]:
        """All but the settings."""
        from distill.engines.served import served_teacher

        question = self.problems[0].prompt
        card, urls = self.teacher_card, self.base_urls
        return partial(
            served_teacher,
            card,
            urls,
            self.served_model,
            params=sampling_params(self.recipe.harvest),
            question=question,
        )

    def _asking(self, fingerprint: str, render: Callable[[str], str], can_continue: bool) -> Asking:
        plan = plan_of(self.recipe.harvest, can_continue=can_continue)
        return Asking(plan, sampling_params(self.recipe.harvest), self.recipe.seed, fingerprint, render)

    def asked_keys(self, ledger: Ledger) -> Iterator[tuple[str, Problem]]:
        """(key, problem) of every finished sample of this run's harvest, as a stream."""
        return ((key, entry.problem) for entry in self.asked(ledger) for key in entry.keys.values())

    def judge(self, ledger: Ledger) -> JudgeSummary | None:
        """Ask the recipe's judge, if it has one, about what the verifier could not tell; figures go to run.json."""
        from distill.harvest.judging import judge_harvest

        settings, seed = self.recipe.harvest.judge, self.recipe.seed
        if settings is None:
            return None
        asked = self.asked_keys(ledger)
        base_dir = self.recipe.base_dir
        found = judge_harvest(settings, self.recipe.endpoint, ledger, asked, run_seed=seed, base_dir=base_dir)
        print(found, file=sys.stderr, flush=True)
        self.file.update("harvest", judge=found.to_dict())
        return found

    def _record_teacher(self, fingerprint: str, can_continue: bool) -> None:
        rendered_by = "server" if self.base_urls else "tokenizer"
        scope = harvest_scope(self._asking(fingerprint, str, can_continue), self.recipe.harvest.voting)
        known = {"teacher_fingerprint": fingerprint, "rendered_by": rendered_by, "can_continue": can_continue}
        self.file.update("harvest", **known, scope=scope)

    def _record_endpoint(self, engine: Engine) -> None:
        """What the servers did goes to run.json, and a line to stderr where a request gave no sample."""
        from distill.engines.endpoint import EndpointEngine

        if not isinstance(engine, EndpointEngine):
            return
        report = engine.report()
        self.file.update("harvest", endpoint=report)
        if report["not_drawn"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in report["not_drawn"].items())
            first = report["not_drawn_first"][0]
            print(
                f"harvest: requests without a sample: {kinds}; the first: problem {first['problem_id']}: "
                f"{first['reason']} (run.json has the others)",
                file=sys.stderr,
            )

    def _out_of_budget(self, summary: HarvestSummary) -> str:
        assert summary.stopped_by is not None
        setting, still_open = summary.stopped_by.split(":")[0], summary.problems - summary.problems_settled
        return (
            f"{summary}\nharvest: out of budget, {summary.stopped_by}; {still_open} of {summary.problems} problems are "
            f"open. Everything is saved: raise harvest.{setting} and run this again, or go on with "
            f"`distill curate {self.name} --out {self.directory}`."
        )


def kept_speed(summary: HarvestSummary, before: dict[str, Any]) -> dict[str, Any]:
    """Figures of a harvest; one that drew nothing has no speed of its own, the one that drew keeps its speed."""
    figures = summary.to_dict()
    if summary.samples_from_ledger == summary.samples and before.get("tokens_per_second"):
        figures |= {name: before[name] for name in ("seconds", "tokens_per_second") if name in before}
    return figures
