"""For problems without a gold answer: the answer that most samples agree on stands in for it.

    verdicts = vote(problem, samples, min_votes=8, min_share=0.6, compare=compare_in(pool))

A single sample cannot be decided: `verify` says "undecided" and names the answer it read. `vote` needs all samples of
the problem and gives each its verdict: correct in the winning class, wrong in another, undecided without a winner.
Which answers are the same is said by the verifier that `meta["equivalence"]` names (math by default; `classes.py`).
A majority can be wrong together: it measures agreement, not truth.
Source: self-consistency, https://arxiv.org/abs/2203.11171, section 2.
Not covered: weighting votes; problems whose answers are programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distill.errors import ProblemError
from distill.records import Outcome, Problem, Sample, Verdict, stable_hash
from distill.verify.base import Judgement, verifier, verify
from distill.verify.classes import Compare, Majority, answer_classes, checker_of, compare_here, majority

REVISION = 1
UNVOTED = "no gold: decided by vote"


def version() -> str:
    return f"{REVISION}+" + "+".join(f"{name}-{verifier(name).version()}" for name in ("math", "exact", "choice"))


def prepare(problem: Problem) -> None:
    """Load what the comparing verifier needs."""
    name = checker_of(problem)
    if problem.answer is not None:
        raise ProblemError(f"problem {problem.id}: it has a gold answer; verify it with {name}, not by majority.")
    verifier(name).prepare(replace(problem, answer="A" if name == "choice" else "1", verifier=name))


def extract(problem: Problem, answer: str) -> str | None:
    return verifier(checker_of(problem)).extract(problem, answer)


def score(problem: Problem, extracted: str) -> Judgement:
    return Judgement("undecided", 0.0, UNVOTED)


def vote(
    problem: Problem,
    samples: Sequence[Sample],
    min_votes: int,
    min_share: float,
    *,
    compare: Compare = compare_here,
) -> list[Verdict]:
    """A verdict for each sample of the problem, in their order; those without an answer keep the one they have.

    The version names the votes, so a vote of more samples is another verdict: `current_version(problem)`, then `+`, how
    many voted, and a hash of who voted for what under which thresholds. Raises: ProblemError, ValueError.
    """
    if min_votes < 1 or not 0.0 < min_share <= 1.0:
        raise ValueError(f"vote: expected min_votes >= 1 and 0 < min_share <= 1, found {min_votes} and {min_share}")
    if problem.verifier != "majority":
        raise ProblemError(f"problem {problem.id}: verifier {problem.verifier} decides it; only majority takes votes.")
    alone = [verify(problem, sample) for sample in samples]
    answers = [verdict.extracted if verdict.detail == UNVOTED else None for verdict in alone]
    leading = majority(answer_classes(problem, answers, compare=compare))
    cast = sorted((verdict.sample_key, answer) for verdict, answer in zip(alone, answers, strict=True) if answer)
    ballot = f"{leading.votes}votes-{stable_hash(cast, min_votes, min_share, length=8)}"
    lack = _lack(leading, min_votes, min_share)
    against: dict[str, Outcome] = {}
    verdicts = []
    for position, (verdict, answer) in enumerate(zip(alone, answers, strict=True)):
        if answer is not None:
            outcome, detail = _outcome(problem, answer, position in leading.members, leading, lack, compare, against)
            score = float(outcome == "correct")
            verdict = replace(
                verdict, version=f"{verdict.version}+{ballot}", outcome=outcome, score=score, detail=detail
            )
        verdicts.append(verdict)
    return verdicts


def _lack(leading: Majority, min_votes: int, min_share: float) -> str:
    """What keeps the leading class from winning; empty if nothing does."""
    if leading.votes < min_votes:
        return f"{leading.votes} votes, at least {min_votes} are needed"
    if leading.label is None:
        return "a tie"
    return "" if leading.share >= min_share else f"at least {min_share:.2f} must agree"


def _outcome(
    problem: Problem,
    answer: str,
    is_leading: bool,
    leading: Majority,
    lack: str,
    compare: Compare,
    against: dict[str, Outcome],
) -> tuple[Outcome, str]:
    if lack or leading.label is None:
        return "undecided", f"{leading}: {lack}"
    if is_leading:
        return "correct", str(leading)
    if answer not in against:
        against[answer] = compare(problem, leading.label, answer)
    if against[answer] == "wrong":
        return "wrong", f"not the majority's answer: {leading}"
    return "undecided", f"not surely another answer ({against[answer]}): {leading}"
