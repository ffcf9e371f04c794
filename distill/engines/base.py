"""The one protocol for everything that samples, and the one path from a request to a sample in the ledger.

    engine.sample(requests) -> samples, in the order they finish
    draw(engine, ledger, requests) -> samples, each committed before it is handed on
    sample_through_ledger(engine, ledger, requests) -> the same, after what the ledger has

Harvest, evaluation and on-policy sampling all call one of the two; no other code samples.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from distill.records import (
    FinishReason,
    PartialTrace,
    ProblemYield,
    Sample,
    SampleRequest,
    TracePiece,
    Unanswered,
    Verdict,
)

Drawing = Sample | TracePiece | Unanswered | None
"""What an engine yields."""


class Engine(Protocol):
    """Turns requests into samples."""

    model: str
    """Name for people: a card name or a path."""

    fingerprint: str
    """Changes when weights, tokenizer or template change; part of every sample's key."""

    can_continue: bool
    """Whether a request with a `prefix` goes on from there; else it is drawn from the start."""

    def render(self, user_message: str) -> str:
        """The text the model reads for a single user message, generation prompt included."""

    def sample(self, requests: Iterable[SampleRequest | None]) -> Iterator[Drawing]:
        """Draw every request; yields each sample as it finishes, in any order, and pieces of those that have not.

        None among the requests: nothing to draw for now, ask again soon. None yielded: nothing finished for a moment,
        time to commit what is held. A request that gives no sample is yielded as Unanswered. Requests are taken in
        the thread that iterates.
        """

    def close(self) -> None:
        """Free what the engine holds."""


@runtime_checkable
class KeepsRest(Protocol):
    """An engine that still has something when `sample` was left early: a Ctrl-C may come anywhere."""

    def rest(self) -> list[Sample | TracePiece]:
        """What came and was not yielded; empty from then on."""


class LedgerLike(Protocol):
    """What sampling and harvesting need of a ledger; another process may hold the file (`harvest/ray_ledger.py`)."""

    def add_samples(self, samples: Iterable[Sample]) -> int: ...

    def add_pieces(self, pieces: Iterable[TracePiece]) -> int: ...

    def add_verdicts(self, verdicts: Iterable[Verdict]) -> int: ...

    def add_yields(self, scope: str, yields: Iterable[ProblemYield]) -> int: ...

    def get_samples(self, keys: Iterable[str]) -> dict[str, Sample]: ...

    def get_partials(self, keys: Iterable[str]) -> dict[str, PartialTrace]: ...

    def get_verdicts(self, keys: Iterable[str]) -> dict[str, Verdict]: ...

    def get_all_verdicts(self, keys: Iterable[str]) -> dict[str, tuple[Verdict, ...]]: ...

    def get_yields(self, scope: str, problems: Iterable[str]) -> dict[str, ProblemYield]: ...


def sample_through_ledger(
    engine: Engine,
    ledger: LedgerLike,
    requests: Iterable[SampleRequest],
    *,
    commit_every: int = 256,
    commit_every_seconds: float = 0.1,
) -> Iterator[Sample]:
    """Samples for all requests: first what the ledger has, then what the engine draws. Duplicates are drawn once."""
    wanted: dict[str, SampleRequest] = {}
    for request in requests:
        wanted.setdefault(request.key(engine.fingerprint), request)
    known = ledger.get_samples(wanted)
    yield from known.values()
    missing = [request for key, request in wanted.items() if key not in known]
    if missing:
        drawn = draw(engine, ledger, missing, commit_every=commit_every, commit_every_seconds=commit_every_seconds)
        yield from (item for item in drawn if isinstance(item, Sample))


def draw(
    engine: Engine,
    ledger: LedgerLike,
    requests: Iterable[SampleRequest | None],
    *,
    commit_every: int = 256,
    commit_every_seconds: float = 0.1,
) -> Iterator[Sample | Unanswered | None]:
    """Samples of requests that the ledger does not have; None where nothing finished for a moment.

    A sample is committed before it is yielded, in groups of at most `commit_every`, as soon as the last commit is
    `commit_every_seconds` old, and whenever the engine says that nothing finished for a moment. Pieces of unfinished
    completions are committed with them, so that a kill at any instant loses only what was never reported; what is on
    disk of a completion is where its request starts.
    """
    pending: list[Sample] = []
    pieces: list[TracePiece] = []
    last_commit = time.monotonic()
    drawing = engine.sample(_from_where_they_stopped(engine, ledger, requests))
    try:
        for item in drawing:
            if isinstance(item, TracePiece):
                pieces.append(item)
            elif isinstance(item, Sample):
                pending.append(item)
            is_due = time.monotonic() - last_commit >= commit_every_seconds
            if item is None or is_due or len(pending) >= commit_every:
                ledger.add_pieces(pieces)
                ledger.add_samples(pending)
                committed, pending, pieces = pending, [], []
                last_commit = time.monotonic()
                yield from committed
            if item is None or isinstance(item, Unanswered):
                yield item
    finally:  # also on Ctrl-C: what is there is kept
        if isinstance(drawing, Generator):
            drawing.close()
        for item in engine.rest() if isinstance(engine, KeepsRest) else ():
            if isinstance(item, TracePiece):
                pieces.append(item)
            else:
                pending.append(item)
        ledger.add_pieces(pieces)
        ledger.add_samples(pending)
    yield from pending


def _from_where_they_stopped(
    engine: Engine, ledger: LedgerLike, requests: Iterable[SampleRequest | None]
) -> Iterator[SampleRequest | None]:
    """The requests, each with what is on disk of it as its prefix where the engine can go on from there."""
    if not engine.can_continue:
        yield from requests
        return
    for request in requests:
        if request is None:
            yield None
            continue
        key = request.key(engine.fingerprint)
        partial = ledger.get_partials([key]).get(key)
        is_longer = partial is not None and partial.num_tokens > (request.prefix.num_tokens if request.prefix else 0)
        yield replace(request, prefix=partial) if is_longer else request


def sample_of(
    engine: Engine,
    request: SampleRequest,
    *,
    text: str,
    reasoning: str | None,
    answer: str | None,
    prompt_tokens: int,
    completion_tokens: int,
    finish_reason: FinishReason,
    seconds: float,
    cost_usd: float | None = None,
    **more: Any,
) -> Sample:
    """The sample that answers a request; `more` are further fields of `Sample`."""
    return Sample(
        key=request.key(engine.fingerprint),
        model=engine.model,
        model_fingerprint=engine.fingerprint,
        problem_id=request.problem_id,
        prompt_hash=request.prompt_hash,
        index=request.index,
        seed=request.seed,
        params=request.params.to_dict(),
        text=text,
        reasoning=reasoning,
        answer=answer,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        finish_reason=finish_reason,
        seconds=round(seconds, 3),
        cost_usd=cost_usd,
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        **more,
    )
