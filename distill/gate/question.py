"""One question of a sequential gate: a comparison under one published value, with the evidence on it.

    for question in questions(gate, problems, contestants, baselines, saved):
        question.add(number, {"student": round, "teacher": round})
        question.verdict(history)

A baseline whose sources conflict makes a question of each value. Evidence saved by an earlier run is continued where it
is on this very question: same models, sampling, items and demand; else it starts anew, and the question says why.
Not covered: drawing rounds, and when to stop (`sequential_gate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.cards import R1_MAX_NEW_TOKENS, Baseline
from distill.errors import GateError
from distill.gate.bars import Bar, bars
from distill.gate.contestant import Contestant
from distill.gate.metric import Metric
from distill.gate.rounds import CompleteRound
from distill.gate.sequential import SequentialTest, continue_or_begin
from distill.gate.spec import MODELS, Comparison, Gate
from distill.gate.verdict import ComparisonVerdict
from distill.records import Problem, SamplingParams, stable_hash

METHOD = {
    "benchmark": "stratified e-processes, valid whenever one stops",
    "population": "e-processes over items, valid whenever one stops",
}
History = Mapping[str, Sequence[CompleteRound]]
"""Rounds by role, from the first on."""


@dataclass(slots=True)
class Question:
    """A comparison, the published value it is under (None: none), and its test."""

    row: Comparison
    under: Bar | None
    metric: Metric
    test: SequentialTest
    anew: str | None
    """Why evidence of an earlier run was not continued; None where it was, or there was none."""
    params: SamplingParams
    """The student's."""
    max_new_tokens: Mapping[str, int]
    task_of: Mapping[str, str]

    @property
    def label(self) -> str:
        return self.row.label if self.under is None else f"{self.row.label} [{self.under.label}]"

    @property
    def other(self) -> str | None:
        """The role of the model that the student is compared with item by item."""
        return self.row.against if self.row.against in MODELS else None

    @property
    def is_decided(self) -> bool:
        return self.test.outcome != "INCONCLUSIVE"

    def add(self, number: int, found: Mapping[str, CompleteRound]) -> None:
        """Take in round `number` where the evidence does not have it."""
        if number == self.test.rounds and not self.test.is_over:
            self.test.add_round(self._values(found))

    def _values(self, found: Mapping[str, CompleteRound]) -> dict[str, float]:
        student = self._scores("student", found["student"])
        if self.other is None:
            return student
        others, ratio = self._scores(self.other, found[self.other]), self.row.ratio or 1.0
        return {item: score - ratio * others[item] for item, score in student.items()}

    def _scores(self, who: str, each: CompleteRound) -> dict[str, float]:
        most = self.max_new_tokens[who]
        return {item: self.metric.score(each.seen.get(item), most) for item in self.task_of}

    def mean(self, who: str, rounds: Sequence[CompleteRound]) -> float:
        """Mean score over rounds and items; tasks count the same."""
        by_task: dict[str, list[float]] = {}
        for each in rounds:
            for item, score in self._scores(who, each).items():
                by_task.setdefault(self.task_of[item], []).append(score)
        return float(np.mean([np.mean(scores) for scores in by_task.values()]))

    def verdict(self, history: History) -> ComparisonVerdict:
        """What the evidence says, with the scores of the rounds that it is made of."""
        found, demand = self.test.verdict(), self.test.demand
        student = self.mean("student", history["student"][: found.rounds])
        mean = student if found.mean is None else found.mean
        lead = mean - demand.pass_bar if demand.direction == "higher" else demand.pass_bar - mean
        return ComparisonVerdict(
            label=self.label,
            against=self.row.against,
            outcome=found.outcome,
            student=student,
            other=self._other_score(history, found.rounds),
            needed=student - lead if demand.direction == "higher" else student + lead,
            estimate=lead,
            p_value=found.p_pass,
            p_value_fail=found.p_fail,
            alpha=found.alpha_pass,
            alpha_fail=found.alpha_fail,
            method=METHOD[demand.estimand],
            note=self._note(found.rounds),
            metric=self.metric.name,
            rounds=found.rounds,
            cap_rounds=found.cap_rounds,
            decided_at_round=found.decided_at_round,
            rounds_to_decision=found.rounds_to_decision,
            log_e_pass=found.log_e_pass,
            log_e_fail=found.log_e_fail,
            final_test=found.final_test,
        )

    def _note(self, rounds: int) -> str:
        """Of the published numbers: what is known of them, and how this run's settings differ."""
        if self.under is None:
            return ""
        return ". ".join(filter(None, (self.under.note, self.under.settings_note(self.params.to_dict(), rounds))))

    def _other_score(self, history: History, rounds: int) -> float | None:
        if self.under is not None:
            return self.under.value
        return None if self.other is None else self.mean(self.other, history[self.other][:rounds])


def questions(
    gate: Gate,
    problems: Mapping[str, Sequence[Problem]],
    contestants: Mapping[str, Contestant],
    baselines: Mapping[str, Baseline],
    saved: Mapping[str, Any],
) -> list[Question]:
    """Every comparison under every published value; `saved` are the states of an earlier run, by label.

    Raises: GateError where a baseline lacks a task, a bar is out of range, or saved evidence is damaged.
    """
    asked = [(row, under) for row in gate.comparisons for under in _values(gate, row, baselines)]
    found = [_question(gate, row, under, problems, contestants, saved, len(asked)) for row, under in asked]
    labels = [each.label for each in found]
    for label in labels:
        if labels.count(label) > 1:
            raise GateError(f"gate {gate.name}: asks the same twice: {label}; remove one of the comparisons.")
    return found


def check_bars(gate: Gate, baselines: Mapping[str, Baseline]) -> None:
    """Every bar lies where a score can be, or the verdict would be known without a sample.

    Before a model is loaded; bars in tokens need its limit, so R1's stands for it. Raises: GateError.
    """
    for row in gate.comparisons:
        for under in _values(gate, row, baselines):
            gate.demand(row, R1_MAX_NEW_TOKENS, published=None if under is None else under.value, num_questions=1)


def _values(gate: Gate, row: Comparison, baselines: Mapping[str, Baseline]) -> Sequence[Bar | None]:
    if row.baseline is None:
        return [None]
    return bars(gate.name, baselines[row.baseline], gate.tasks, row.metric)


def _question(
    gate: Gate,
    row: Comparison,
    under: Bar | None,
    problems: Mapping[str, Sequence[Problem]],
    contestants: Mapping[str, Contestant],
    saved: Mapping[str, Any],
    num_questions: int,
) -> Question:
    metric = Metric.of(row.metric)
    who = ["student", *([row.against] if row.against in MODELS else [])]
    most = {name: contestants[name].params.max_new_tokens for name in who}
    demand = gate.demand(
        row, max(most.values()), published=None if under is None else under.value, num_questions=num_questions
    )
    task_of = {problem.id: task for task, found in problems.items() for problem in found}
    content = sorted((task, each.id, each.prompt, each.answer) for task, found in problems.items() for each in found)
    identity = stable_hash([contestants[name].evidence_identity for name in who], metric.name, content)
    label = row.label if under is None else f"{row.label} [{under.label}]"
    test, anew = continue_or_begin(demand, task_of, identity=identity, saved=saved.get(label))
    return Question(row, under, metric, test, anew, contestants["student"].params, most, task_of)
