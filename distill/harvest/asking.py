"""From a plan to requests and keys, and from the ledger back to where a harvest stands.

    asking = Asking(plan_of(recipe.harvest, can_continue=False), params, run_seed, fingerprint, render)
    for entry in asking.replay(ledger, problems): entry.keys, entry.state.pass_rate()

A problem is replayed by asking its state what to draw and answering from the ledger until something is missing there.
Harvest uses this to resume, curation to know which samples are of this harvest, in the order in which they were asked.
Not covered: drawing what is missing (`runner.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple, Protocol

from distill.engines.base import LedgerLike
from distill.harvest.policy import Ask, Plan, ProblemState, Result
from distill.recipes import Harvest, Voting
from distill.records import (
    PartialTrace,
    Problem,
    ProblemYield,
    Sample,
    SampleRequest,
    SamplingParams,
    Verdict,
    stable_hash,
)
from distill.verify.base import current_version
from distill.verify.standing import is_current, verifier_verdict

PROBLEMS_PER_GROUP = 64


class Paid(NamedTuple):
    """What a completion cost, or the part of it that was new."""

    tokens: int
    usd: float


@dataclass(slots=True)
class Entry:
    """A problem of the harvest: its state, and the keys of its finished samples as they were asked."""

    problem: Problem
    digest: str
    prompt: str
    state: ProblemState
    keys: dict[Ask, str] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    cost_usd: float | None = None
    _cut: dict[int, Paid] = field(default_factory=dict)

    def paid(self, ask: Ask, sample: Sample) -> Paid:
        """What a sample, not observed yet, cost beyond the part that it continues."""
        below = self._cut.get(ask.index) if ask.continues else None
        tokens, usd = sample.completion_tokens, sample.cost_usd or 0.0
        return Paid(tokens, usd) if below is None else Paid(tokens - below.tokens, usd - below.usd)

    def observe(self, ask: Ask, sample: Sample, verdict: Verdict) -> bool:
        """Take a verified sample; False if it is only a part of one drawn with a higher limit."""
        if not self.state.observe(ask, Result(verdict.outcome, sample.finish_reason)):
            self._cut[ask.index] = Paid(sample.completion_tokens, sample.cost_usd or 0.0)
            return False
        self.keys[ask] = sample.key
        self.outcomes[verdict.outcome] += 1
        self.finish_reasons[sample.finish_reason] += 1
        self.tokens += sample.completion_tokens
        if sample.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + sample.cost_usd
        return True

    def verdicts_changed(self, verdicts: Sequence[Verdict]) -> None:
        """A vote said something else of samples that were observed; what it says of the others stays."""
        self.outcomes = Counter(verdict.outcome for verdict in verdicts)
        self.state.correct = self.outcomes["correct"]
        self.state.failed = self.outcomes.total() - self.state.correct - self.outcomes["error"]

    @property
    def is_done(self) -> bool:
        return self.state.reason is not None and not self.state.outstanding

    def gave(self) -> ProblemYield:
        """What the problem gave, once it is done."""
        assert self.state.reason is not None
        outcomes, finish_reasons = dict(self.outcomes), dict(self.finish_reasons)
        return ProblemYield(self.digest, self.state.reason, outcomes, finish_reasons, self.tokens, self.cost_usd)


class Answered(Protocol):
    """Told of each sample that the ledger answered with, after it was observed; `is_whole` is what `observe` said."""

    def __call__(self, entry: Entry, sample: Sample, verdict: Verdict, paid: Paid, *, is_whole: bool) -> None: ...


def nobody(entry: Entry, sample: Sample, verdict: Verdict, paid: Paid, *, is_whole: bool) -> None:
    """Tells nobody."""


def plan_of(settings: Harvest, *, can_continue: bool) -> Plan:
    """The plan of a recipe's harvest section."""
    assert settings.max_new_tokens is not None, "a loaded recipe has it, from the teacher card if not its own"
    adaptive, rungs = settings.adaptive, (*settings.token_ladder, settings.max_new_tokens)
    if adaptive is None:
        return Plan(settings.samples_per_problem, rungs, can_continue=can_continue)
    return Plan(
        settings.samples_per_problem,
        rungs,
        enough=adaptive.enough,
        most_if_rare=adaptive.most_if_rare or 0,
        hopeless_below=adaptive.hopeless_below,
        prior=adaptive.prior,
        can_continue=can_continue,
    )


def harvest_scope(asking: Asking, voting: Voting) -> str:
    """Under what name the ledger keeps what settled problems of a harvest gave."""
    return stable_hash(asking.scope(), repr(voting), length=16)


@dataclass(frozen=True)
class Asking:
    """What is asked for each problem: a plan with its sampling parameters. `render` makes the text the model reads."""

    plan: Plan
    params: SamplingParams
    run_seed: int
    fingerprint: str
    render: Callable[[str], str]

    def scope(self) -> str:
        """Names this harvest: another model, plan, parameters or seed is another one."""
        parts = [repr(self.plan), self.params.to_dict(), self.run_seed, self.fingerprint]
        return stable_hash(*parts, length=16)

    def entry(self, problem: Problem) -> Entry:
        plan = self.plan
        if problem.verifier == "majority":  # a vote wants all its samples
            plan = replace(plan, enough=None, hopeless_below=0.0)
        return Entry(problem, digest(problem), self.render(problem.prompt), ProblemState(plan))

    def request(self, entry: Entry, ask: Ask, prefix: PartialTrace | None = None) -> SampleRequest:
        params = replace(self.params, max_new_tokens=self.plan.rungs[ask.rung])
        return SampleRequest(entry.problem.id, entry.prompt, ask.index, params, self.run_seed, prefix)

    def replay(self, ledger: LedgerLike, problems: Iterable[Problem]) -> Iterator[Entry]:
        """Every problem with the samples that the ledger has of it, in order, whatever version verified them."""
        remaining = iter(problems)
        while group := [self.entry(problem) for problem in islice(remaining, PROBLEMS_PER_GROUP)]:
            moving: Sequence[Entry] = group
            while moving:
                missing = self.advance(ledger, moving, choose=verifier_verdict)
                unverified = [(entry, ask, sample) for entry, ask, sample in missing if sample is not None]
                for entry, ask, sample in unverified:
                    entry.keys[ask] = sample.key
                    entry.state.observe(ask, Result(None, None))
                moving = [entry for entry, _, _ in unverified]
            yield from group

    def advance(
        self,
        ledger: LedgerLike,
        entries: Sequence[Entry],
        tell: Answered = nobody,
        choose: Callable[[Problem, Sequence[Verdict]], Verdict | None] | None = None,
    ) -> list[tuple[Entry, Ask, Sample | None]]:
        """Answer what the states ask from the ledger, wave by wave; returns what it cannot answer.

        Of these the sample is None where it has to be drawn, and there where only its verdict is missing. `choose`
        says which verdict of a sample counts; default `current_verdict`.
        """
        choose = choose or current_verdict
        missing: list[tuple[Entry, Ask, Sample | None]] = []
        wave = [(entry, ask) for entry in entries for ask in entry.state.asks()]
        while wave:
            keys = [self.request(entry, ask).key(self.fingerprint) for entry, ask in wave]
            samples, verdicts = ledger.get_samples(keys), ledger.get_all_verdicts(keys)
            advanced: dict[int, Entry] = {}
            for (entry, ask), key in zip(wave, keys, strict=True):
                sample = samples.get(key)
                verdict = choose(entry.problem, verdicts.get(key, ()))
                if sample is None or verdict is None:
                    missing.append((entry, ask, sample))
                else:
                    paid = entry.paid(ask, sample)
                    tell(entry, sample, verdict, paid, is_whole=entry.observe(ask, sample, verdict))
                    advanced[id(entry)] = entry
            wave = [(entry, ask) for entry in advanced.values() for ask in entry.state.asks()]
        return missing


def digest(problem: Problem) -> str:
    """Names a problem as it is asked and verified."""
    return stable_hash(problem.prompt, current_version(problem), length=16)


def current_verdict(problem: Problem, verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict of today's verifier on today's problem; None where there is none, or only an error."""
    return next((verdict for verdict in reversed(verdicts) if is_current(problem, verdict)), None)
