"""A sequential gate at work: rounds of student and others until every question has an answer, or the budget is spent.

    verdict, results = SequentialGate(gate, tasks, problems, contestants, ...).judge()

Order: what makes the run invalid without a sample; then rounds; then what makes the samples invalid; then the verdict.
Every round is followed by `save`, so that a kill loses no evidence. The run ends when every comparison is decided, when
one has failed under all its published values, at the cap of rounds, or at the token budget.
Not covered: opening models (`distill/models.py`), files (`report.py`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

from distill.cards import Baseline
from distill.errors import GateError
from distill.evaluate.metrics import RESAMPLING_SEED
from distill.evaluate.result import EvalResult, TaskResult, with_unanswered
from distill.evaluate.runner import score_recorded
from distill.evaluate.tasks import Task, TaskData, items_hash
from distill.gate import repeats
from distill.gate.anchor import anchor_rows
from distill.gate.contestant import Contestant
from distill.gate.decide import overall
from distill.gate.question import questions
from distill.gate.rounds import CompleteRound
from distill.gate.spec import Gate
from distill.gate.validity import invalid_reasons, prompt_hashes, recorded_prompts
from distill.gate.verdict import GateOutcome, GateVerdict
from distill.records import Problem
from distill.verify.second_extract import Verify

EVIDENCE_VERSION = 1
Progress = Callable[[str], None]


@dataclass
class SequentialGate:
    """A gate bound to its models, items and earlier evidence."""

    gate: Gate
    tasks: Sequence[Task]
    problems: Mapping[str, Sequence[Problem]]
    """Items by task."""
    contestants: Mapping[str, Contestant]
    baselines: Mapping[str, Baseline]
    verify: Verify
    saved: Mapping[str, Any] = field(default_factory=dict)
    """`GateVerdict.evidence` of an earlier run."""
    task_data: TaskData | None = None
    invalid_before: Sequence[str] = ()
    """What makes the run invalid before a sample is drawn."""
    notes: Sequence[str] = ()
    anchors: Mapping[str, Contestant] = field(default_factory=dict)
    """Models with a published row, by the baseline's name; drawn last, as many rounds as the student."""
    save: Callable[[GateVerdict], None] = lambda verdict: None
    tell: Progress = lambda line: None

    def __post_init__(self) -> None:
        self._items = {problem.id: problem for found in self.problems.values() for problem in found}
        if len(self._items) < sum(map(len, self.problems.values())):
            raise GateError(
                f"gate {self.gate.name}: its tasks share items, which would count twice; choose tasks without overlap."
            )
        saved = self.saved if self.saved.get("version") == EVIDENCE_VERSION else {}
        self._questions = questions(
            self.gate, self.problems, self.contestants, self.baselines, saved.get("questions", {})
        )
        self._given_up = {
            who: {(item, int(index)): reason for item, index, reason in saved.get("unanswered", {}).get(who, [])}
            for who, each in self.contestants.items()
            if saved.get("identities", {}).get(who) == each.evidence_identity
        }
        self._history: dict[str, list[CompleteRound]] = {who: [] for who in self.contestants}
        self._heeds_seed: dict[str, bool | None] = {}
        self._drawn_tokens = 0
        self._seconds = 0.0

    def judge(self) -> tuple[GateVerdict, dict[str, EvalResult]]:
        """The verdict, and what the samples make of each model.

        Raises: InfrastructureError where a model cannot be sampled (what was drawn is saved), GateError.
        """
        if reasons := [*self.invalid_before, *self._repeats()]:
            return self._verdict("INVALID", reasons, "invalid"), {}
        self.save(self._verdict("INCONCLUSIVE", (), None))  # an older verdict must not be taken for this run's
        started = time.monotonic()
        stopped_by = self._draw()
        self._seconds = time.monotonic() - started
        results = {who: self._result(who) for who in self.contestants if self._history[who]}
        repeats = self._repeats()
        reasons = self._invalid(results) + repeats
        outcome: GateOutcome = "INVALID" if reasons else overall([each.test.outcome for each in self._questions])
        anchors = [row for name in self.anchors for row in self._anchor(name)]
        return self._verdict(outcome, reasons, stopped_by, results, anchors), results

    def _anchor(self, baseline: str) -> list[dict[str, Any]]:
        """What this harness makes of a model with a published row, over as many rounds as the student had."""
        stream = self.anchors[baseline].rounds(
            self._items, verify=self.verify, max_rounds=len(self._history["student"]), given_up={}
        )
        with closing(stream):
            rounds = list(stream)
        return anchor_rows(self.gate, self.baselines[baseline], self.anchors[baseline].model, self.problems, rounds)

    def _invalid(self, results: Mapping[str, EvalResult]) -> list[str]:
        items = [problem for found in self.problems.values() for problem in found]
        prompts = {who: self._prompts(who, result, items) for who, result in results.items()}
        today = {task: items_hash(found) for task, found in self.problems.items()}
        cleared = [who for who, heeds in self._heeds_seed.items() if heeds]
        cleared += [
            who
            for who, each in self.contestants.items()
            if who not in self._heeds_seed and repeats.was_cleared(each.ledger, each.identity)
        ]
        return invalid_reasons(self.gate, results, prompts=prompts, items=today, heed_seeds=cleared)

    def _prompts(self, who: str, result: EvalResult, items: Sequence[Problem]) -> dict[str, str]:
        """By item, the prompt that recorded samples must have been asked with; empty where that is not known."""
        each = self.contestants[who]
        if not each.keys or each.items_hashes:
            return {}
        served = recorded_prompts([item for task in result.tasks.values() for item in task.items], items)
        return served or ({} if each.render is None else prompt_hashes(each.render, items))

    def _repeats(self) -> list[str]:
        """Models that give one completion for every seed, by a probe of every engine that was opened since the last."""
        reasons = []
        for who, each in self.contestants.items():
            if each.engine is None or who in self._heeds_seed or each.params.temperature == 0:
                continue
            heeds = repeats.heeds_seed(each.engine, each.ledger, list(self._items.values()), each.run_seed)
            self._heeds_seed[who] = heeds
            reasons += [f"{who}: {repeats.reason(each.engine.model)}"] if heeds is False else []
        return reasons

    def _draw(self) -> str:
        """Rounds, until there is a reason to stop; gives that reason."""
        with ExitStack() as stack:
            streams = {who: stack.enter_context(closing(self._stream(who))) for who in self.contestants}
            number = 0
            while (reason := self._why_stop(number)) is None:
                found = {who: next(streams[who], None) for who in self._needed(number)}
                complete = {who: each for who, each in found.items() if each is not None}
                if len(complete) < len(found):
                    self._check_first(number, [who for who, each in found.items() if each is None])
                    return "samples"
                self._take(number, complete)
                number += 1
        return reason

    def _check_first(self, number: int, empty: Sequence[str]) -> None:
        if number == 0:
            raise GateError(
                f"gate {self.gate.name}: no complete round of the {' and the '.join(empty)}: some of the "
                f"{len(self._items)} items have no sample at index 0. Sample them, or name a model that can be sampled."
            )

    def _stream(self, who: str) -> Generator[CompleteRound]:
        return self.contestants[who].rounds(
            self._items,
            verify=self.verify,
            max_rounds=self.gate.budget.max_rounds,
            given_up=self._given_up.get(who, {}),
        )

    def _needed(self, number: int) -> list[str]:
        """Who has to play this round: the student, and others of questions that are open or have this round already."""
        others = {
            question.other
            for question in self._questions
            if question.other is not None and (not question.is_decided or number < question.test.rounds)
        }
        return ["student", *sorted(others)]

    def _take(self, number: int, found: Mapping[str, CompleteRound]) -> None:
        for who, each in found.items():
            self._history[who].append(each)
            self._drawn_tokens += each.drawn_tokens
        for question in self._questions:
            if question.other is None or question.other in found:
                question.add(number, found)
        is_new = any(question.test.rounds == number + 1 for question in self._questions)
        if is_new:
            self.save(self._verdict("INCONCLUSIVE", (), None))
            self.tell(self._progress(number))

    def _progress(self, number: int) -> str:
        rows = [f"{each.label}: {each.test.outcome.lower()}" for each in self._questions]
        drawn = f"{self._drawn_tokens} tokens drawn"
        return f"gate: round {number + 1} of at most {self.gate.budget.max_rounds}, {drawn}; {'; '.join(rows)}"

    def _why_stop(self, number: int) -> str | None:
        if number < max(question.test.rounds for question in self._questions):
            return None  # rounds that the evidence already has: from the ledger, for the figures
        if self._is_settled():
            return "verdict"
        if number >= self.gate.budget.max_rounds or all(each.test.is_over for each in self._questions):
            return "cap"
        most = self.gate.budget.max_completion_tokens
        return "budget" if most is not None and self._drawn_tokens >= most else None

    def _is_settled(self) -> bool:
        """Every question is decided, or a comparison has failed that is decided under all its published values."""
        if all(question.is_decided for question in self._questions):
            return True
        for row in self.gate.comparisons:
            mine = [question for question in self._questions if question.row is row]
            if all(each.is_decided for each in mine) and any(each.test.outcome == "FAIL" for each in mine):
                return True
        return False

    def _result(self, who: str) -> EvalResult:
        """The evaluation that the rounds amount to, scored by lm-eval."""
        contestant, rounds = self.contestants[who], self._history[who]
        seen = {
            (task, problem.id): [each.seen.get(problem.id) for each in rounds]
            for task, found in self.problems.items()
            for problem in found
        }
        num_drawn = sum(each.num_drawn for each in rounds)
        result = EvalResult(
            model=contestant.model,
            model_fingerprint=contestant.identity,
            params=contestant.params.to_dict(),
            run_seed=contestant.run_seed,
            samples_drawn=num_drawn,
            samples_reused=sum(len(each.seen) for each in rounds) - num_drawn,
            seconds=self._seconds,
            **score_recorded(self.tasks, seen, task_data=self.task_data),
        )
        result = replace(result, tasks={name: self._as_recorded(who, task) for name, task in result.tasks.items()})
        lost = Counter(item for item, _, _ in self._unanswered(who))
        return with_unanswered(
            result, {task: {problem.id: lost[problem.id] for problem in found} for task, found in self.problems.items()}
        )

    def _as_recorded(self, who: str, task: TaskResult) -> TaskResult:
        """Recorded samples answer the items of their time."""
        return replace(task, items_hash=self.contestants[who].items_hashes.get(task.task) or task.items_hash)

    def _verdict(
        self,
        outcome: GateOutcome,
        reasons: Sequence[str],
        stopped_by: str | None,
        results: Mapping[str, EvalResult] | None = None,
        anchors: Sequence[dict[str, Any]] = (),
    ) -> GateVerdict:
        student = self.contestants["student"]
        rows = (
            tuple(question.verdict(self._history) for question in self._questions) if self._history["student"] else ()
        )
        return GateVerdict(
            gate=self.gate.name,
            outcome=outcome,
            estimand=self.gate.estimand,
            tasks=tuple(self.gate.tasks),
            student_model=student.model,
            comparisons=rows,
            reasons=tuple(reasons or [*(row.sentence for row in rows), *self._why_undecided(outcome, stopped_by)]),
            n_items=len(self._items),
            samples_per_item=len(self._history["student"]),
            resampling_seed=RESAMPLING_SEED,
            notes=(*self.notes, *self._anew(), *self._sampled_differently()),
            models={who: self._figures(who, (results or {}).get(who)) for who in self.contestants},
            anchors=tuple(anchors),
            stopped_by=stopped_by,
            evidence=self._evidence(),
        )

    def _why_undecided(self, outcome: GateOutcome, stopped_by: str | None) -> list[str]:
        if outcome != "INCONCLUSIVE" or stopped_by is None:
            return []
        rounds, budget = len(self._history["student"]), self.gate.budget
        return [
            {
                "cap": f"no verdict within gate.budget.max_rounds={budget.max_rounds}; raise it, and the same command "
                "adds rounds to this evidence.",
                "budget": f"out of budget: {self._drawn_tokens} completion tokens were drawn, "
                f"gate.budget.max_completion_tokens={budget.max_completion_tokens}; the same command goes on from "
                "here with as many more.",
                "samples": f"the recorded samples end after {rounds} complete rounds, at most {budget.max_rounds} were "
                "asked for; name a model that can be sampled, or record more.",
            }[stopped_by]
        ]

    def _anew(self) -> list[str]:
        return [
            f"{question.label}: the evidence of an earlier run was not continued: {question.anew}"
            for question in self._questions
            if question.anew
        ]

    def _sampled_differently(self) -> list[str]:
        student = self.contestants["student"].params
        return [
            f"the {who} was sampled with {each.params.to_dict()}, the student with {student.to_dict()}."
            for who, each in self.contestants.items()
            if each.params != student
        ]

    def _figures(self, who: str, result: EvalResult | None) -> dict[str, Any]:
        contestant, rounds = self.contestants[who], self._history[who]
        return {
            "model": contestant.model,
            "identity": contestant.identity,
            "params": contestant.params.to_dict(),
            "rounds": len(rounds),
            "completion_tokens": sum(each.completion_tokens for each in rounds),
            "completion_tokens_drawn": sum(each.drawn_tokens for each in rounds),
            "unanswered": sum(len(each.unanswered) for each in rounds),
            "scores": {} if result is None else {name: task.scores for name, task in result.tasks.items()},
        }

    def _evidence(self) -> dict[str, Any]:
        return {
            "version": EVIDENCE_VERSION,
            "identities": {who: each.evidence_identity for who, each in self.contestants.items()},
            "questions": {question.label: question.test.state() for question in self._questions},
            "unanswered": {who: self._unanswered(who) for who in self.contestants},
        }

    def _unanswered(self, who: str) -> list[tuple[str, int, str]]:
        """(item, index, reason) of every request that was given up, in this run or before."""
        found = dict(self._given_up.get(who, {}))
        for each in self._history[who]:
            found.update({(item, each.number): reason for item, reason in each.unanswered.items()})
        return [(item, index, reason) for (item, index), reason in sorted(found.items())]
