"""Groups the final answers to one problem by what they mean: 0.5 and 1/2 are one class.

    classes = answer_classes(problem, ["0.5", "1/2", None, "2"])      # largest first: (0, 1), (3)
    leading = majority(classes)                                       # label "0.5", 2 of 3 votes, their interval

Equal text is one class at once; the problem's verifier then compares the first of a class with the first of another,
and only "correct" joins them. So n answers in c classes cost at most c (c - 1) / 2 checks.
Not covered: time limits, unless `compare_in(pool)` does the comparing: Math-Verify may hang on what a model wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from distill.errors import ProblemError
from distill.intervals import wilson_interval
from distill.records import Outcome, Problem, Sample
from distill.verify.base import FULL_SCORE, Judgement, verifier
from distill.verify.extract import one_spelling
from distill.verify.pool import VerifierPool

CHECKERS = ("math", "exact", "choice")
"""Verifiers that can say whether two answers are the same."""

Compare = Callable[[Problem, str, str], Outcome]
"""(problem, one answer, another): "correct" if they are the same answer to it."""


@dataclass(frozen=True, slots=True)
class AnswerClass:
    """Answers that mean the same. `label` is the spelling most of them have; `members` are positions among all."""

    label: str
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Majority:
    """The class that most votes are for; `label` is None without votes, and where two classes share the first place."""

    label: str | None
    agreed: int
    votes: int
    members: tuple[int, ...] = ()

    @property
    def share(self) -> float:
        return self.agreed / self.votes if self.votes else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the share."""
        return wilson_interval(self.agreed, self.votes)

    def __str__(self) -> str:
        low, high = self.interval
        named = "the same answer, and as many on another" if self.label is None else self.label
        return (
            f"{self.agreed} of {self.votes} agreed on {named} (share {self.share:.2f}, interval {low:.2f}-{high:.2f})"
        )


def checker_of(problem: Problem) -> str:
    """Which verifier says whether two answers to this problem are the same. Raises: ProblemError where none can."""
    name = problem.meta.get("equivalence", "math") if problem.verifier == "majority" else problem.verifier
    if name not in CHECKERS:
        raise ProblemError(
            f"problem {problem.id}: answers cannot be compared by verifier '{name}'; known: {', '.join(CHECKERS)}."
        )
    return str(name)


def answer_classes(
    problem: Problem, answers: Sequence[str | None], *, compare: Compare | None = None
) -> list[AnswerClass]:
    """Classes of the answers that are not None, largest first, then by first member.

    Raises: ProblemError if the problem's verifier cannot compare answers.
    """
    checker_of(problem)
    compare = compare or compare_here
    by_text: dict[str, list[int]] = {}
    for position, answer in enumerate(answers):
        if answer is not None:
            by_text.setdefault(one_spelling(answer), []).append(position)
    classes: list[list[list[int]]] = []  # a class is its spellings, the most frequent first
    for spelling in sorted(by_text.values(), key=lambda members: (-len(members), members[0])):
        for known in classes:
            if compare(problem, _text(answers, known[0]), _text(answers, spelling)) == "correct":
                known.append(spelling)
                break
        else:
            classes.append([spelling])
    found = [AnswerClass(_text(answers, same[0]), tuple(sorted(chain.from_iterable(same)))) for same in classes]
    return sorted(found, key=lambda each: (-len(each.members), each.members[0]))


def majority(classes: Sequence[AnswerClass]) -> Majority:
    """The leading class among classes of `answer_classes`; a tie has no label and no members."""
    votes = sum(len(each.members) for each in classes)
    if not classes:
        return Majority(None, 0, 0)
    first = classes[0]
    if len(classes) > 1 and len(classes[1].members) == len(first.members):
        return Majority(None, len(first.members), votes)
    return Majority(first.label, len(first.members), votes, first.members)


def compare_here(problem: Problem, one: str, other: str) -> Outcome:
    """Compare two answers in this process, without limits of time and memory."""
    name = checker_of(problem)
    checker, gold = verifier(name), replace(problem, answer=one, verifier=name)
    checker.prepare(gold)
    found = checker.score(gold, other)
    if isinstance(found, Judgement):
        return found.outcome
    return "correct" if found == FULL_SCORE else "wrong"


def compare_in(pool: VerifierPool) -> Compare:
    """Compare in the workers of a pool, under its limits; a comparison that fails is outcome "error", so no match.

    Raises (when comparing): ValueError if the pool has other work under way, which would be lost.
    """

    def compare(problem: Problem, one: str, other: str) -> Outcome:
        if pool.pending:
            raise ValueError(f"compare_in: the pool has {pool.pending} items under way; compare when it has none")
        gold = replace(problem, answer=one, verifier=checker_of(problem))
        return next(iter(pool.verify_many([(gold, _sample_of(problem, other))]))).outcome

    return compare


def _text(answers: Sequence[str | None], members: list[int]) -> str:
    return str(answers[members[0]])


def _sample_of(problem: Problem, answer: str) -> Sample:
    """A sample that gives this final answer, for a verifier to read."""
    text = f"\\boxed{{{answer}}}"
    return Sample(
        key="", model="", model_fingerprint="", prompt_hash="", created_at="", problem_id=problem.id,
        index=0, seed=0, params={}, text=text, reasoning=None, answer=text, prompt_tokens=0,
        completion_tokens=0, finish_reason="stop", seconds=0.0, cost_usd=None,
    )  # fmt: skip
