"""Samples one teacher on the picked problems, through the ledger, and says what became of each sample.

    answers = ask_teacher(teacher, ledger, problems, samples=1, seed=0)

It is a harvest with a fixed number of samples: what the ledger has is not drawn again, a kill loses nothing that was
finished. Not covered: adaptive sampling, which would ask teachers for different numbers of samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distill.compare.teachers import Teacher
from distill.engines.degeneration import foreign_share
from distill.harvest.asking import Asking, Entry
from distill.harvest.policy import Plan
from distill.harvest.progress import live_progress
from distill.harvest.runner import harvest
from distill.recipes import sampling_params
from distill.records import Problem
from distill.store.ledger import Ledger
from distill.verify.standing import standing

MIXED_SHARE = 0.01
"""A sample mixes languages if more of its letters are in scripts that its prompt has not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One sample of a comparison."""

    problem_id: str
    outcome: str
    extracted: str | None
    tokens: int
    is_truncated: bool
    is_mixed: bool
    seconds: float
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class TeacherAnswers:
    """All samples of one teacher; `seconds` and `drawn` are of this call, what the ledger had not counted."""

    name: str
    model: str
    params: dict[str, float]
    answers: list[Answer]
    drawn: int
    seconds: float


def ask_teacher(
    teacher: Teacher, ledger: Ledger, problems: Sequence[Problem], *, samples: int, seed: int
) -> TeacherAnswers:
    """Draw what is missing and read all back. Raises: what a harvest raises; finished samples stay."""
    engine, settings = teacher.opened(), teacher.settings
    params = sampling_params(settings)
    asking = Asking(Plan(samples, (params.max_new_tokens,)), params, seed, engine.fingerprint, engine.render)
    with live_progress(f"compare {teacher.name}") as progress:
        summary = harvest(
            engine,
            ledger,
            problems,
            asking,
            voting=settings.voting,
            verify_workers=settings.verify_workers,
            verify_timeout_seconds=settings.verify_timeout_seconds,
            progress=progress,
        )
    answers = _read(ledger, asking.replay(ledger, problems))
    drawn = summary.samples - summary.samples_from_ledger
    return TeacherAnswers(teacher.name, engine.model, params.to_dict(), answers, drawn, summary.seconds)


def _read(ledger: Ledger, entries: Iterable[Entry]) -> list[Answer]:
    found = []
    for entry in entries:
        keys = [key for _, key in sorted(entry.keys.items())]
        samples, verdicts = ledger.get_samples(keys), ledger.get_all_verdicts(keys)
        for key in keys:
            sample, verdict = samples[key], standing(entry.problem, verdicts.get(key, ()))
            found.append(
                Answer(
                    problem_id=entry.problem.id,
                    outcome=verdict.outcome if verdict else "error",
                    extracted=verdict.extracted if verdict else None,
                    tokens=sample.completion_tokens,
                    is_truncated=sample.finish_reason == "length",
                    is_mixed=foreign_share(entry.problem.prompt, sample.text) > MIXED_SHARE,
                    seconds=sample.seconds,
                    cost_usd=sample.cost_usd,
                )
            )
    return found
