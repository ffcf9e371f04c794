"""The one protocol for everything that samples, and the one path from a request to a sample in the ledger.

    engine.sample(requests) -> samples, in the order they finish
    sample_through_ledger(engine, ledger, requests) -> samples, each committed before it is handed on

Harvest, evaluation and on-policy sampling all call `sample_through_ledger`; no other code samples.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from distill.records import Sample, SampleRequest
from distill.store.ledger import Ledger


class Engine(Protocol):
    """Turns requests into samples."""

    model: str
    """Name for people: a card name or a path."""

    fingerprint: str
    """Changes when weights, tokenizer or template change; part of every sample's key."""

    def render(self, user_message: str) -> str:
        """The text the model reads for a single user message, generation prompt included."""

    def sample(self, requests: Iterable[SampleRequest]) -> Iterator[Sample | None]:
        """Draw every request; yields each sample as it finishes, in any order.

        None says that nothing finished for a moment: time to commit what is held. Engines need not say it.
        """

    def close(self) -> None:
        """Free what the engine holds."""


def sample_through_ledger(
    engine: Engine,
    ledger: Ledger,
    requests: Iterable[SampleRequest],
    *,
    commit_every: int = 32,
    commit_every_seconds: float = 2.0,
) -> Iterator[Sample]:
    """Samples for all requests: first what the ledger has, then what the engine draws.

    A sample is committed before it is yielded, in groups of at most `commit_every`, as soon as the last commit is
    `commit_every_seconds` old, and whenever the engine says that nothing finished for a
    moment; a kill at any instant loses only what was never reported. Duplicate requests are drawn once.
    """
    wanted: dict[str, SampleRequest] = {}
    for request in requests:
        wanted.setdefault(request.key(engine.fingerprint), request)
    known = ledger.get_samples(wanted)
    yield from known.values()
    missing = [request for key, request in wanted.items() if key not in known]
    if not missing:
        return
    pending: list[Sample] = []
    last_commit = time.monotonic()
    try:
        for sample in engine.sample(missing):
            if sample is not None:
                pending.append(sample)
            if pending and (
                sample is None or len(pending) >= commit_every or time.monotonic() - last_commit >= commit_every_seconds
            ):
                ledger.add_samples(pending)
                committed, pending = pending, []
                last_commit = time.monotonic()
                yield from committed
    finally:
        ledger.add_samples(pending)  # also on Ctrl-C: what is finished is kept
    yield from pending
