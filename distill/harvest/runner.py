"""Harvest: n samples of every problem from the teacher, each committed, verified and counted as it finishes.

    summary = harvest(engine, ledger, problems, samples_per_problem=2, params=params, run_seed=17)

The ledger answers what was sampled before, so the same call after a Ctrl-C or a kill -9 continues; verdicts that are
missing are made up for. Decoding and verification overlap: samples stream into worker processes.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from distill.engines.base import Engine, sample_through_ledger
from distill.errors import ProblemError
from distill.harvest.progress import HarvestView, Progress, no_progress
from distill.harvest.summary import FamilyYield, HarvestSummary
from distill.records import Problem, Sample, SampleRequest, SamplingParams, Verdict
from distill.store.ledger import Ledger
from distill.verify.base import verifier
from distill.verify.pool import VerifierPool

if TYPE_CHECKING:
    from collections.abc import Iterable

VERDICTS_PER_COMMIT = 64


def requests_for(
    render: Callable[[str], str],
    problems: Sequence[Problem],
    samples_per_problem: int,
    params: SamplingParams,
    run_seed: int,
) -> list[SampleRequest]:
    """Every completion the harvest asks for; problem by problem, so that an interrupted harvest is useful."""
    return [
        SampleRequest(problem.id, prompt, index, params, run_seed)
        for problem in problems
        for prompt in [render(problem.prompt)]
        for index in range(samples_per_problem)
    ]


def harvest(
    engine: Engine,
    ledger: Ledger,
    problems: Sequence[Problem],
    *,
    samples_per_problem: int,
    params: SamplingParams,
    run_seed: int,
    verify_workers: int = 2,
    verify_timeout_seconds: float = 10.0,
    progress: Progress = no_progress,
) -> HarvestSummary:
    """Sample and verify everything that is not in the ledger yet; the summary covers new and known alike.

    Raises: ProblemError for no problems. Whatever else interrupts it, finished samples are in the ledger.
    """
    if not problems:
        raise ProblemError("harvest: there is no problem to sample; check problems.train of the recipe.")
    requests = requests_for(engine.render, problems, samples_per_problem, params, run_seed)
    by_id = {problem.id: problem for problem in problems}
    by_key: dict[str, Problem] = {}
    for request in requests:  # by key: a sample of the ledger may name another id that the same prompt once had
        by_key.setdefault(request.key(engine.fingerprint), by_id[request.problem_id])
    known = ledger.get_samples(by_key)
    tally = _Tally(by_key, len(by_id), samples_per_problem, len(known))
    verdicts_known = _current_verdicts(ledger, by_key, known)
    with VerifierPool(verify_workers, verify_timeout_seconds) as pool:
        pairs = _pairs(engine, ledger, requests, by_key, verdicts_known, tally, progress)
        waiting: list[Verdict] = []
        try:
            with closing(pairs):
                for verdict in pool.verify_many(pairs):
                    waiting.append(verdict)
                    tally.count_verdict(verdict)
                    if len(waiting) >= VERDICTS_PER_COMMIT:
                        ledger.add_verdicts(waiting)
                        waiting = []
        finally:
            ledger.add_verdicts(waiting)
    progress(tally.view())
    return tally.summary(engine, samples_per_problem)


def _current_verdicts(ledger: Ledger, by_key: dict[str, Problem], known: Iterable[str]) -> dict[str, Verdict]:
    """Verdicts of known samples by the verifier version of today, errors left out: those are verified again."""
    keys = list(known)
    versions = {name: verifier(name).version() for name in {by_key[key].verifier for key in keys}}
    found = ledger.get_verdicts(keys)
    return {
        key: verdict
        for key, verdict in found.items()
        if verdict.outcome != "error"
        and verdict.verifier == by_key[key].verifier
        and versions[verdict.verifier] == verdict.version
    }


def _pairs(
    engine: Engine,
    ledger: Ledger,
    requests: Sequence[SampleRequest],
    by_key: dict[str, Problem],
    verdicts_known: dict[str, Verdict],
    tally: _Tally,
    progress: Progress,
) -> Generator[tuple[Problem, Sample]]:
    for sample in sample_through_ledger(engine, ledger, requests):
        tally.count_sample(sample)
        progress(tally.view())
        if sample.key in verdicts_known:
            tally.count_verdict(verdicts_known[sample.key])
        else:
            yield by_key[sample.key], sample


class _Tally:
    """Running counts of a harvest; what the progress line shows and the summary is made from."""

    def __init__(self, by_key: dict[str, Problem], num_problems: int, samples_per_problem: int, known: int):
        self.by_key, self.wanted, self.known = by_key, len(by_key), known
        self.num_problems, self.samples_per_problem = num_problems, samples_per_problem
        self.samples_of: Counter[str] = Counter()
        self.settled = self.settled_from_ledger = 0
        self.started = time.monotonic()
        self.samples = self.tokens = self.verified = self.accepted = 0
        self.new_tokens = 0
        self.finish_reasons: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.families: dict[str, FamilyYield] = defaultdict(FamilyYield)

    def count_sample(self, sample: Sample) -> None:
        self.samples += 1
        self.tokens += sample.completion_tokens
        if self.samples > self.known:
            self.new_tokens += sample.completion_tokens
        self.finish_reasons[sample.finish_reason] += 1
        problem = self.by_key[sample.key]
        self.samples_of[problem.id] += 1
        if self.samples_of[problem.id] == self.samples_per_problem:
            self.settled += 1
            self.settled_from_ledger += self.samples <= self.known
        family = problem.family
        self.families[family].samples += 1
        self.families[family].tokens += sample.completion_tokens

    def count_verdict(self, verdict: Verdict) -> None:
        self.verified += 1
        self.outcomes[verdict.outcome] += 1
        if verdict.outcome == "correct":
            self.accepted += 1
            self.families[self.by_key[verdict.sample_key].family].accepted += 1

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0

    def view(self) -> HarvestView:
        return HarvestView(
            problems=self.num_problems,
            settled=self.settled,
            settled_from_ledger=self.settled_from_ledger,
            samples=self.samples,
            samples_wanted=self.wanted,
            samples_from_ledger=min(self.known, self.samples),
            tokens=self.tokens,
            new_tokens=self.new_tokens,
            verified=self.verified,
            accepted=self.accepted,
            verifier_errors=self.outcomes["error"],
            seconds=self.seconds,
        )

    def summary(self, engine: Engine, samples_per_problem: int) -> HarvestSummary:
        return HarvestSummary(
            teacher=engine.model,
            teacher_fingerprint=engine.fingerprint,
            problems=self.num_problems,
            samples_per_problem=samples_per_problem,
            samples=self.samples,
            samples_from_ledger=min(self.known, self.samples),
            completion_tokens=self.tokens,
            accepted=self.accepted,
            outcomes=dict(sorted(self.outcomes.items())),
            finish_reasons=dict(sorted(self.finish_reasons.items())),
            families=dict(sorted(self.families.items())),
            seconds=round(self.seconds, 2),
            tokens_per_second=round(self.tokens_per_second, 1),
        )
