"""Says of a sample whether it answers its problem: the one verification path of harvest and evaluation.

    verdict = verify(problem, sample)

A verifier is a file of this folder that has the functions of `Verifier` below; `problem.verifier` names it. Only the
text after the reasoning is ever read: a thought that was cut off can hold a right-looking answer.
Not covered: time limits; a verifier may hang on what a model wrote (`pool.py`).
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from distill.errors import DistillError, ProblemError, did_you_mean
from distill.records import Outcome, Problem, Sample, Verdict, stable_hash

FULL_SCORE = 1.0
"""Only this is correct. Not "nearly 1": reasoning-gym's partial credit comes as near as 0.9999999999999999."""

_MECHANISMS = (
    "code_functions",
    "code_output",
    "base",
    "classes",
    "extract",
    "functions",
    "jail",
    "judge",
    "judge_agreement",
    "judge_prompt",
    "math_points",
    "math_reader",
    "math_second",
    "math_sets",
    "math_tokens",
    "math_tree",
    "math_values",
    "pool",
    "sandbox",
    "sandbox_capabilities",
    "sandbox_watch",
    "second_extract",
    "standing",
    "worker",
)
_NOT_VERIFIERS = frozenset(_MECHANISMS)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a verifier may say instead of a bare score, where it can name the reason."""

    outcome: Outcome
    score: float
    detail: str = ""


class Verifier(Protocol):
    """What a verifier file offers, as plain functions. Importing the file is light."""

    def version(self) -> str:
        """Changes when verdicts may; names the library's version."""

    def prepare(self, problem: Problem) -> None:
        """Load what this problem needs; quick when called again. Raises ProblemError if it can never be verified."""

    def extract(self, problem: Problem, answer: str) -> str | None:
        """The final answer in the text after the reasoning, or None."""

    def score(self, problem: Problem, extracted: str) -> float | Judgement:
        """How right it is, in [0, 1], or a whole judgement. May raise, or hang, on what a model wrote.

        A file may also have `is_closed(answer, extracted)`, as below, where its answers do not stand in a box.
        """


def verifier_names() -> list[str]:
    """Files of this folder that verify."""
    found = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    return sorted(found - _NOT_VERIFIERS)


@cache
def verifier(name: str) -> Verifier:
    """The verifier called `name`; its library is not loaded yet."""
    if name not in verifier_names():
        known = verifier_names()
        raise ProblemError(f"verifier '{name}' does not exist{did_you_mean(name, known)}; known: {', '.join(known)}.")
    return cast(Verifier, import_module(f"distill.verify.{name}"))


def verify(problem: Problem, sample: Sample) -> Verdict:
    """The verdict on one sample. A fault inside the verifier is outcome "error" with its reason, never an exception.

    Raises: ProblemError if the problem cannot be verified at all (unknown verifier, no gold answer, no library).
    """
    checker = verifier(problem.verifier)
    if sample.finish_reason == "aborted":  # whatever stands in it was written by a model that had come off the rails
        return verdict(problem, sample, "no_answer", detail=f"aborted: {sample.note or 'the stream degenerated'}")
    if sample.answer is None:
        cut = sample.finish_reason == "length"
        detail = "no token left to close the reasoning" if cut else "the reasoning was opened and never closed"
        return verdict(problem, sample, "truncated" if cut else "no_answer", detail=detail)
    try:
        checker.prepare(problem)
        extracted = checker.extract(problem, sample.answer)
        closed = getattr(checker, "is_closed", is_closed)
        if sample.finish_reason == "length" and not closed(sample.answer, extracted):
            detail = "no token left to finish the answer"
            return verdict(problem, sample, "truncated", extracted=extracted, detail=detail)
        if extracted is None:
            return verdict(problem, sample, "no_answer", detail="no final answer found")
        score = checker.score(problem, extracted)
    except DistillError:
        raise
    except ImportError as error:
        raise ProblemError(
            f"verifier {problem.verifier}: {error}; install what it needs with `pip install`."
        ) from error
    except Exception as error:
        return verdict(problem, sample, "error", detail=f"{type(error).__name__}: {error}"[:500])
    if isinstance(score, Judgement):
        return verdict(problem, sample, score.outcome, score=score.score, extracted=extracted, detail=score.detail)
    outcome: Outcome = "correct" if score == FULL_SCORE else "wrong"
    return verdict(problem, sample, outcome, score=score, extracted=extracted)


def current_version(problem: Problem) -> str:
    """The version a verdict on this problem has today: the verifier's, and a hash of gold answer, tests and meta.

    A stored verdict counts only while it has this version. Costs a hash of `meta`, so compute it once a problem.
    """
    content = stable_hash(problem.answer, problem.meta, length=8)
    return f"{verifier(problem.verifier).version()}@{content}"


def is_closed(answer: str, extracted: str | None) -> bool:
    """Whether an answer of a completion that ran out of tokens is whole: it is if it stands in a closed box."""
    from distill.verify.extract import last_boxed

    return extracted is not None and last_boxed(answer) is not None


def verdict(
    problem: Problem,
    sample: Sample,
    outcome: Outcome,
    *,
    score: float = 0.0,
    extracted: str | None = None,
    detail: str = "",
) -> Verdict:
    """A verdict under the name of the problem's verifier and its version for this problem."""
    return Verdict(
        sample_key=sample.key,
        verifier=problem.verifier,
        version=current_version(problem),
        outcome=outcome,
        score=min(max(float(score), 0.0), 1.0),
        extracted=extracted,
        detail=detail,
    )
