"""Which verdict of a sample counts: the one rule, for harvest, curation and reports alike.

    verdict = standing(problem, ledger.get_all_verdicts([key])[key], judge=JudgeRule(frozenset({"undecided"})))

1. The verifier's verdict is the one of today's version of verifier and problem; where there is none, the last written.
2. A judge's verdict takes its place if the verifier's outcome is one that the recipe asks the judge about
   (`harvest.judge.outcomes`), the judge decided (correct or wrong), and the gold answer is still the one it was shown.
3. `verifiers` narrows both to the names given; a judge named without the verifier stands alone.
All verdicts stay in the ledger, so another rule is another reading of the same harvest.
Not covered: which outcomes are accepted (`distill/curate/steps/verified.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from distill.records import Outcome, Problem, Verdict, stable_hash
from distill.store.ledger import JUDGE
from distill.verify.base import current_version
from distill.verify.sandbox import SandboxUnavailable


@dataclass(frozen=True, slots=True)
class JudgeRule:
    """Outcomes for which a judge's verdict stands; `identity` is the judge that is meant (None: the last that was)."""

    on: frozenset[Outcome]
    identity: str | None = None


def standing(
    problem: Problem,
    verdicts: Sequence[Verdict],
    *,
    judge: JudgeRule | None = None,
    verifiers: Collection[str] | None = None,
) -> Verdict | None:
    """The verdict that counts, or None. `verdicts` are all of one sample, in the order they were written."""
    given = [verdict for verdict in verdicts if verifiers is None or verdict.verifier in verifiers]
    own, judged = verifier_verdict(problem, given), None
    if judge is not None:
        judged = judge_verdict(problem, given, judge.identity)
    if own is None:
        return judged if verifiers is not None else None
    if judge is None or judged is None or own.outcome not in judge.on or judged.outcome not in ("correct", "wrong"):
        return own
    return judged


def verifier_verdict(problem: Problem, verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict by rule: the last of today's version where there is one, else the last written; never a judge's."""
    own = [verdict for verdict in verdicts if verdict.verifier != JUDGE]
    current = [verdict for verdict in own if is_current(problem, verdict)] if len(own) > 1 else []
    found = current or own
    return found[-1] if found else None


def is_current(problem: Problem, verdict: Verdict) -> bool:
    """Whether today's verifier, on today's problem, gave this verdict; a verdict of "error" never stays current."""
    if verdict.verifier != problem.verifier or verdict.outcome == "error":
        return False
    try:
        version = current_version(problem)
        return verdict.version == version or verdict.version.startswith(f"{version}+")  # a vote names its ballot
    except SandboxUnavailable:  # code was run on another machine, and this one only reads what it said
        return False


def judge_verdict(problem: Problem, verdicts: Sequence[Verdict], identity: str | None = None) -> Verdict | None:
    """The last verdict of the judge that was shown today's question and gold answer."""
    ending, start = f"+{problem_mark(problem)}", "" if identity is None else f"{identity}+"
    found = [
        verdict
        for verdict in verdicts
        if verdict.verifier == JUDGE and verdict.version.startswith(start) and verdict.version.endswith(ending)
    ]
    return found[-1] if found else None


def problem_mark(problem: Problem) -> str:
    """Last part of a judge's version: changes with the question and the gold answer."""
    return f"problem-{stable_hash(problem.prompt, problem.answer, length=12)}"
