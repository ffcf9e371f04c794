"""Complete rounds of a model's samples, scored: the source of the sequential test.

    rounds = complete_rounds(engine, ledger, problems, params, run_seed=0, verify=pool.verify_many, max_rounds=64)
    rounds = recorded_rounds(keys, ledger, problems, verify=pool.verify_many)      # drawn before, by key; no engine
    for each in rounds: each.number, each.seen["item"], each.unanswered

Round r asks for the completion of index r of every item. While the last answers of round r come in, those of round
r + 1 are already asked for, so the engine stays full; round r + 2 is not asked for before r is complete and judged, so
what is drawn in vain is at most one round (and it is in the ledger: a later run uses it). Only complete rounds are
handed on: answers that finish first are shorter and more often right.

A request that the engine gave up over its content (a timeout, a refusal) is an observed failure, with its reason; it is
not asked again. One that broke on the way (a reset, a server error, after every attempt) is no observation: drawing
ends with exit code 6, and the rounds so far stand. So it ends where many items of one round gave nothing at once.
Not covered: whether the answers may be judged (`validity.py`), and lm-eval tasks that are not made of problems.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from distill.engines.base import Engine, LedgerLike, draw
from distill.errors import GateError, InfrastructureError
from distill.evaluate.observation import Observation, observe_all
from distill.records import Problem, Sample, SampleRequest, SamplingParams, Unanswered, Verdict
from distill.verify.base import current_version
from distill.verify.second_extract import Verify

GivenUp = Mapping[tuple[str, int], str]
"""(item, index) -> why the engine gave that request up, in an earlier run."""
ROUNDS_AHEAD = 1
TIMEOUT_KINDS = ("stalled", "timeout")
"""How the reason of an unanswered request begins where the model was still answering when time was up."""
MOST_UNANSWERED_SHARE = 0.2
"""Of a round's items; one is always allowed. More at once is a broken server, not a slow model."""


@dataclass(frozen=True, slots=True)
class CompleteRound:
    """One sample of every item, scored; `unanswered` gives the engine's reason for items that it gave up."""

    number: int
    seen: dict[str, Observation]
    unanswered: dict[str, str]
    num_drawn: int = 0
    """Samples that were drawn now; the rest was in the ledger."""
    drawn_tokens: int = 0

    @property
    def completion_tokens(self) -> int:
        return sum(each.completion_tokens for each in self.seen.values())


def recorded_rounds(
    keys: Mapping[str, Mapping[int, str]],
    ledger: LedgerLike,
    problems: Mapping[str, Problem],
    *,
    verify: Verify,
    given_up: GivenUp | None = None,
) -> Generator[CompleteRound]:
    """Rounds of samples that the ledger has; `keys` by item and index. They end at the first that is not complete."""
    given_up, number = given_up or {}, 0
    while True:
        place = {item: keys.get(item, {}).get(number) for item in problems}
        known = ledger.get_samples(key for key in place.values() if key is not None)
        samples = {item: known[key] for item, key in place.items() if key is not None and key in known}
        lost = {item: given_up[item, number] for item in problems if item not in samples and (item, number) in given_up}
        if len(samples) + len(lost) < len(problems):
            return
        yield _scored(number, _Open(set(), samples, lost), problems, ledger, verify)
        number += 1


@dataclass(slots=True)
class _Open:
    """A round that is being drawn."""

    missing: set[str]
    samples: dict[str, Sample] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)
    num_drawn: int = 0
    drawn_tokens: int = 0


class _Window:
    """The rounds that may be drawn now: the first that is not complete, and the next one."""

    def __init__(self, engine: Engine, ledger: LedgerLike, first: int, stop: int, given_up: GivenUp) -> None:
        self.engine, self.ledger, self.given_up = engine, ledger, given_up
        self.current, self.stop = first, stop
        self.open: dict[int, _Open] = {}

    def requests(
        self, problems: Mapping[str, Problem], params: SamplingParams, run_seed: int
    ) -> Iterator[SampleRequest | None]:
        """What the ledger does not have, round after round; None while the next round has to wait."""
        prompts = {item: self.engine.render(problem.prompt) for item, problem in problems.items()}
        _check_distinct(prompts)
        at = self.current
        while at < self.stop:
            if at > self.current + ROUNDS_AHEAD:
                yield None
                continue
            asked = {item: SampleRequest(item, prompts[item], at, params, run_seed) for item in problems}
            keys = {item: request.key(self.engine.fingerprint) for item, request in asked.items()}
            known = self.ledger.get_samples(keys.values())
            samples = {item: known[key] for item, key in keys.items() if key in known}
            lost = {item: self.given_up[item, at] for item in asked if (item, at) in self.given_up}
            self.open[at] = _Open(set(asked) - set(samples) - set(lost), samples, lost)
            missing = [asked[item] for item in problems if item in self.open[at].missing]
            at += 1
            if missing:
                yield from missing
            else:
                yield None  # hand the round on before the next is asked for: it may be the last that is needed

    def note(self, item: Sample | Unanswered) -> None:
        found = self.open.get(item.index)
        if found is None or item.problem_id not in found.missing:
            return
        found.missing.discard(item.problem_id)
        if isinstance(item, Sample):
            found.samples[item.problem_id] = item
            found.num_drawn += 1
            found.drawn_tokens += item.completion_tokens
        elif item.is_refused or item.reason.startswith(TIMEOUT_KINDS):
            self._failed(found, item)
        else:
            raise self._broken(item, f"item {item.problem_id} had no whole answer ({item.reason})")

    def _failed(self, found: _Open, item: Unanswered) -> None:
        found.unanswered[item.problem_id] = item.reason
        size = len(found.missing) + len(found.samples) + len(found.unanswered)
        if len(found.unanswered) > max(1, MOST_UNANSWERED_SHARE * size):
            raise self._broken(
                item, f"{len(found.unanswered)} of {size} items gave no answer (the last: {item.reason})"
            )

    def _broken(self, item: Unanswered, what: str) -> InfrastructureError:
        return InfrastructureError(
            f"{self.engine.model}: round {item.index + 1}: {what}. This says nothing of the model. The rounds before "
            "are counted, and samples are saved; see to the server, then run the same command again."
        )

    def take_complete(self) -> tuple[int, _Open] | None:
        """The current round where it is complete; the window moves on."""
        found = self.open.get(self.current)
        if found is None or found.missing:
            return None
        del self.open[self.current]
        self.current += 1
        return self.current - 1, found


def _check_distinct(prompts: Mapping[str, str]) -> None:
    """Two items with one prompt would share their samples, which are then not independent."""
    seen: dict[str, str] = {}
    for item, prompt in prompts.items():
        if prompt in seen:
            raise GateError(
                f"gate: items {seen[prompt]} and {item} ask the same question, so one sample would count twice; "
                "remove one of them from the task."
            )
        seen[prompt] = item


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
    given_up: GivenUp | None = None,
) -> Generator[CompleteRound]:
    """Rounds `first_round` up to `max_rounds`, in order; close it to stop drawing.

    `problems` by item id, which must be the problem's own id. Samples and verdicts are in the ledger before a round is
    handed on. Raises: InfrastructureError when the engine cannot go on, or requests broke on the way; GateError if two
    items ask the same question.
    """
    window = _Window(engine, ledger, first_round, max_rounds, given_up or {})
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
    verdicts = _verdicts(found.samples, problems, ledger, verify)
    items = [item for item in problems if item in found.samples]
    judged = [(problems[item], found.samples[item], verdicts[found.samples[item].key]) for item in items]
    seen = dict(zip(items, observe_all(judged, verify), strict=True))
    return CompleteRound(number, seen, found.unanswered, found.num_drawn, found.drawn_tokens)


def _verdicts(
    samples: Mapping[str, Sample], problems: Mapping[str, Problem], ledger: LedgerLike, verify: Verify
) -> dict[str, Verdict]:
    """By sample key: what the ledger has of today's verifiers, and new ones for the rest."""
    found = {}
    known = ledger.get_verdicts(sample.key for sample in samples.values())
    unverified = []
    for item, sample in samples.items():
        verdict, problem = known.get(sample.key), problems[item]
        is_current = verdict is not None and verdict.verifier == problem.verifier
        if verdict is not None and is_current and verdict.version == current_version(problem):
            found[sample.key] = verdict
        if sample.key not in found or found[sample.key].outcome == "error":
            unverified.append((problem, sample))
    new = list(verify(unverified))
    ledger.add_verdicts(new)
    return found | {verdict.sample_key: verdict for verdict in new}
