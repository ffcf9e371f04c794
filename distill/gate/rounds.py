"""Complete rounds of a model's scores, drawn while they are judged: the source of the sequential test.

    rounds = complete_rounds(engine, ledger, problems, params, run_seed=0, verify=pool.verify_many,
                             first_round=test.rounds, max_rounds=64)
    spent = feed(test, rounds, max_tokens=2_000_000)

Round r asks for the completion of index r of every item. While the last answers of round r come in, those of round
r + 1 are already asked for, so the engine stays full; round r + 2 is not asked for before r is complete and judged, so
what is drawn in vain is at most one round (and it is in the ledger: a later run uses it). Only complete rounds are
handed on: answers that finish first are shorter and more often right. A request that the engine gave up over its
content (a timeout, a refusal) is an observed failure: it scores 0 and is counted. One that broke on the way (a reset, a
server error, after every attempt) is no observation: drawing ends with exit code 6, and the rounds so far are kept.
Not covered: whether the answers may be judged (`validity.py`), and lm-eval tasks that are not made of problems.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from distill.engines.base import Engine, LedgerLike, draw
from distill.errors import InfrastructureError
from distill.gate.sequential import SequentialTest
from distill.records import Problem, Sample, SampleRequest, SamplingParams, Unanswered, Verdict

Verify = Callable[[Iterable[tuple[Problem, Sample]]], Iterable[Verdict]]
ROUNDS_AHEAD = 1
TIMEOUT_KINDS = ("stalled", "timeout")
"""How the reason of an unanswered request begins where the model was still answering when time was up."""


@dataclass(frozen=True, slots=True)
class CompleteRound:
    """One score of every item; `unanswered` gives the engine's reason for items that it gave up."""

    number: int
    scores: dict[str, float]
    samples: dict[str, Sample]
    unanswered: dict[str, str]

    @property
    def completion_tokens(self) -> int:
        return sum(sample.completion_tokens for sample in self.samples.values())


@dataclass(slots=True)
class _Open:
    """A round that is being drawn."""

    missing: set[str]
    samples: dict[str, Sample] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)


class _Window:
    """The rounds that may be drawn now: the first that is not complete, and the next one."""

    def __init__(self, engine: Engine, ledger: LedgerLike, first: int, stop: int) -> None:
        self.engine, self.ledger = engine, ledger
        self.current, self.stop = first, stop
        self.open: dict[int, _Open] = {}

    def requests(
        self, problems: Mapping[str, Problem], params: SamplingParams, run_seed: int
    ) -> Iterator[SampleRequest | None]:
        """What the ledger does not have, round after round; None while the next round has to wait."""
        prompts = {item: self.engine.render(problem.prompt) for item, problem in problems.items()}
        at = self.current
        while at < self.stop:
            if at > self.current + ROUNDS_AHEAD:
                yield None
                continue
            asked = {item: SampleRequest(item, prompts[item], at, params, run_seed) for item in problems}
            keys = {item: request.key(self.engine.fingerprint) for item, request in asked.items()}
            known = self.ledger.get_samples(keys.values())
            samples = {item: known[key] for item, key in keys.items() if key in known}
            self.open[at] = _Open(set(asked) - set(samples), samples)
            missing = [asked[item] for item in problems if item not in samples]
            at += 1
            yield from missing

    def note(self, item: Sample | Unanswered) -> None:
        found = self.open.get(item.index)
        if found is None or item.problem_id not in found.missing:
            return
        found.missing.discard(item.problem_id)
        if isinstance(item, Sample):
            found.samples[item.problem_id] = item
        elif item.is_refused or item.reason.startswith(TIMEOUT_KINDS):
            found.unanswered[item.problem_id] = item.reason
        else:
            raise InfrastructureError(
                f"{self.engine.model}: round {item.index + 1}: item {item.problem_id} had no whole answer "
                f"({item.reason}). The rounds before are counted, and samples are saved; run the same command again."
            )

    def take_complete(self) -> tuple[int, _Open] | None:
        """The current round where it is complete; the window moves on."""
        found = self.open.get(self.current)
        if found is None or found.missing:
            return None
        del self.open[self.current]
        self.current += 1
        return self.current - 1, found


def complete_rounds(
    engine: Engine,
    ledger: LedgerLike,
    problems: Mapping[str, Problem],
    params: SamplingParams,
    *,
    run_seed: int,
    verify: Verify,
    first_round: int = 0,
    max_rounds: int,
) -> Generator[CompleteRound]:
    """Rounds `first_round` up to `max_rounds`, in order; close it to stop drawing.

    `problems` by item id, which must be the problem's own id. Samples and verdicts are in the ledger before a round is
    handed on. Raises: InfrastructureError when the engine cannot go on, or a request broke on the way.
    """
    window = _Window(engine, ledger, first_round, max_rounds)
    with closing(_drawn(engine, ledger, window.requests(problems, params, run_seed))) as items:
        while window.current < max_rounds:
            found = window.take_complete()
            if found is not None:
                yield _scored(*found, problems, ledger, verify)
                continue
            item = next(items, _END)
            if item is _END:
                return
            if isinstance(item, Sample | Unanswered):
                window.note(item)


_END = object()


def _drawn(
    engine: Engine, ledger: LedgerLike, requests: Iterator[SampleRequest | None]
) -> Generator[Sample | Unanswered | None]:
    """`draw`, without opening the engine where the ledger has the rounds that are open."""
    first = next(requests, _END)
    while first is None:
        yield None
        first = next(requests, _END)
    if isinstance(first, SampleRequest):
        yield from draw(engine, ledger, _chain(first, requests))
    yield None  # the last rounds may be complete without a draw


def _chain(first: SampleRequest, rest: Iterator[SampleRequest | None]) -> Iterator[SampleRequest | None]:
    yield first
    yield from rest


def _scored(
    number: int, found: _Open, problems: Mapping[str, Problem], ledger: LedgerLike, verify: Verify
) -> CompleteRound:
    pairs = [(problems[item], sample) for item, sample in found.samples.items()]
    verdicts = list(verify(pairs))
    ledger.add_verdicts(verdicts)
    correct = {verdict.sample_key for verdict in verdicts if verdict.outcome == "correct"}
    scores = {item: float(item in found.samples and found.samples[item].key in correct) for item in problems}
    return CompleteRound(number, scores, found.samples, found.unanswered)


@dataclass(slots=True)
class Spent:
    """What a run of `feed` used."""

    rounds: int = 0
    completion_tokens: int = 0
    num_unanswered: int = 0
    stopped_by: str = "verdict"
    """`verdict`, `cap` (of rounds), `budget` (of tokens), or `samples` (no more rounds to be had)."""


def feed(
    test: SequentialTest,
    student: Generator[CompleteRound],
    other: Generator[CompleteRound] | None = None,
    *,
    ratio: float = 1.0,
    max_tokens: int | None = None,
    on_round: Callable[[SequentialTest], None] | None = None,
) -> Spent:
    """Add rounds to the test until it is over or the budget is spent; then drawing stops.

    With `other`, a round's values are student - ratio * other. `max_tokens` counts completion tokens of both models in
    this run; it is looked at after a round, and any such stop is allowed (`eprocess.py`, point 4). `on_round` is called
    after every round: save `test.state()` there, so that a kill loses no evidence.
    """
    spent = Spent()
    with closing(student), closing(other or _no_rounds()) as others:
        while not test.is_over:
            if max_tokens is not None and spent.completion_tokens >= max_tokens:
                spent.stopped_by = "budget"
                return spent
            rounds = [next(student, None)] + ([next(others, None)] if other is not None else [])
            found = [each for each in rounds if each is not None]
            if len(found) < len(rounds):
                spent.stopped_by = "samples"
                return spent
            test.add_round(_values(found, ratio))
            spent.rounds += 1
            spent.completion_tokens += sum(each.completion_tokens for each in found)
            spent.num_unanswered += sum(len(each.unanswered) for each in found)
            if on_round is not None:
                on_round(test)
    spent.stopped_by = "verdict" if test.outcome != "INCONCLUSIVE" else "cap"
    return spent


def _no_rounds() -> Generator[CompleteRound]:
    yield from ()


def _values(found: list[CompleteRound], ratio: float) -> dict[str, float]:
    if len(found) == 1:
        return found[0].scores
    student, other = found
    assert student.number == other.number, "both models are at the same round"
    return {item: score - ratio * other.scores[item] for item, score in student.scores.items()}
