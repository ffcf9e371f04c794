"""One request on its way to its sample, through as many attempts as it takes; what came of it is never lost.

    trace = Trace(request, key, continuation, settings)
    call, stream = await trace.begin(client, url, dialect)  # an attempt: anew, or from what is there
    pieces = trace.unsaved(tokens_per_piece)                # what the ledger has not yet
    trace.broke_off(tokens_per_piece)                       # the attempt failed; the next one goes on from its text
    drawn = trace.drawn(completion, tokens_per_piece)

Text of unfinished completions becomes `TracePiece`s, append-only; they say when a completion starts anew, since what
is on disk is void then. Tokens of an unfinished stream are its pieces, times the tokens that a piece has had at this
server.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

from distill.engines.degeneration import WINDOW, Watch
from distill.engines.endpoint_continue import Continuation
from distill.engines.endpoint_dialect import Call, Dialect
from distill.engines.endpoint_http import EndpointClient
from distill.engines.endpoint_stream import Completion, StreamedCompletion
from distill.recipes import Endpoint
from distill.records import PartialTrace, SampleRequest, TracePiece


@dataclass(frozen=True, slots=True)
class Drawn:
    """A whole completion, what it was continued from included; `seconds` from sending the first attempt that is in it.

    `splices` are positions in its reasoning + content. `prompt_tokens_paid` counts the prompt of every attempt in it.
    """

    request: SampleRequest
    completion: Completion
    num_tokens: int
    splices: tuple[int, ...]
    prompt_tokens_paid: int
    seconds: float


class Trace:
    """The state of one request; used in the event loop only."""

    def __init__(self, request: SampleRequest, key: str, continuation: Continuation, settings: Endpoint):
        self.request, self.key = request, key
        self._continuation, self._settings = continuation, settings
        self._on_disk = request.prefix if request.prefix and request.prefix.key == key else None
        self.prefix = continuation.usable(request.prefix)
        self._stream: StreamedCompletion | None = None
        self._start: Literal["fresh", "spliced", "more"] = "fresh"
        self._rewritten: list[TracePiece] = []
        self._started: float | None = None

    @property
    def num_tokens_left(self) -> int:
        have = self.prefix.num_tokens if self.prefix else 0
        return self.request.params.max_new_tokens - have

    async def begin(self, client: EndpointClient, base_url: str, dialect: Dialect) -> tuple[Call, StreamedCompletion]:
        """The next attempt's request, and the stream it will fill. Raises: EndpointFailure."""
        request, settings = self.request, self._settings
        if self.prefix is None:
            call = dialect.call(base_url, request.prompt, request.params, request.seed, settings)
        else:
            call = await self._continuation.call(client, base_url, dialect, settings, request, self.prefix)
        self._started = self._started or time.monotonic()
        self._stream = StreamedCompletion(
            call.channel, close_marker=self._continuation.reasoning.close_marker, watch=self._watch()
        )
        if self.prefix is None:
            self._start, self._rewritten = "fresh", []
        else:
            self._start = "spliced"
            self._rewritten = [] if self.prefix == self._on_disk else pieces_of(self.prefix, self.key)
        return call, self._stream

    def unsaved(self, tokens_per_piece: float) -> list[TracePiece]:
        """What came since the last call; [] where nothing did."""
        if self._stream is None:
            return []
        reasoning, content, num_pieces = self._stream.take()
        if not reasoning and not content:
            return []
        num_tokens = max(1, round(num_pieces * tokens_per_piece))
        pieces = [*self._rewritten, TracePiece(self.key, self._start, reasoning, content, num_tokens)]
        self._rewritten, self._start = [], "more"
        return pieces

    def broke_off(self, tokens_per_piece: float) -> int:
        """Keep what the failed attempt gave, if it can be gone on from; returns the tokens gained.

        `unsaved` comes first: what is on disk is then the same.
        """
        stream, self._stream = self._stream, None
        if stream is None or not stream.num_pieces:
            return 0
        self._on_disk = self._joined(*stream.so_far(), max(1, round(stream.num_pieces * tokens_per_piece)))
        kept = self._continuation.usable(self._on_disk)
        before = self.prefix.num_tokens if self.prefix else 0
        if kept is not None and kept.num_tokens > before:
            self.prefix = kept
            return kept.num_tokens - before
        if self.prefix is None:
            self._started = None
        return 0

    def forget_attempt(self) -> None:
        """What the attempt gave is no part of a completion."""
        self._stream = None

    def restart(self) -> None:
        """Forget what is there: a server that went on in the probe may refuse to, later."""
        self.prefix, self._stream, self._started = None, None, None

    def drawn(self, completion: Completion, tokens_per_piece: float) -> Drawn:
        """The whole of it, once the last attempt is done."""
        num_tokens = completion.completion_tokens
        if num_tokens is None:
            num_tokens = max(1, round(completion.num_pieces * tokens_per_piece))
        before = self.prefix.num_tokens if self.prefix else 0
        whole = self._joined(completion.reasoning, completion.content, num_tokens)
        prompt_tokens = max(0, (completion.prompt_tokens or 0) - before)
        completion = replace(completion, reasoning=whole.reasoning, content=whole.content, prompt_tokens=prompt_tokens)
        num_characters = max(1, len(whole.reasoning) + len(whole.content))
        read_again = sum(whole.num_tokens * position // num_characters for position in whole.splices)
        paid = prompt_tokens * (1 + len(whole.splices)) + read_again
        seconds = time.monotonic() - self._started if self._started is not None else 0.0
        self._stream = None
        return Drawn(self.request, completion, whole.num_tokens, whole.splices, paid, seconds)

    def full(self) -> Drawn:
        """For a prefix that has all the tokens that were asked for."""
        completion = Completion("", "", None, "length", None, 0, None, 0, (), None)
        return replace(self.drawn(completion, 1.0), splices=self.prefix.splices if self.prefix else ())

    def _joined(self, reasoning: str, content: str, num_tokens: int) -> PartialTrace:
        prefix = self.prefix
        if prefix is None:
            return PartialTrace(self.key, reasoning, content, num_tokens)
        return PartialTrace(
            self.key,
            prefix.reasoning + reasoning,
            prefix.content + content,
            prefix.num_tokens + num_tokens,
            (*prefix.splices, len(prefix.reasoning) + len(prefix.content)),
        )

    def _watch(self) -> Watch | None:
        loops, mixing = self._settings.abort_loops, self._settings.abort_language_mixing
        if loops is None and mixing is None:
            return None
        rule = None if loops is None else (loops.words, loops.times)
        watch = Watch(self.request.prompt, loops=rule, language_mixing=mixing)
        if self.prefix is not None:
            watch.feed((self.prefix.reasoning + self.prefix.content)[-WINDOW:])
        return watch


def pieces_of(partial: PartialTrace, key: str) -> list[TracePiece]:
    """A partial as pieces of a completion that starts anew with it; its splices stay."""
    whole = partial.reasoning + partial.content
    ends = [*partial.splices, len(whole)]
    pieces: list[TracePiece] = []
    start = 0
    for number, end in enumerate(ends):
        split = len(partial.reasoning)
        pieces.append(
            TracePiece(
                key,
                "spliced" if number else "fresh",
                whole[start : min(end, split)],
                whole[max(start, split) : end],
                0 if number else partial.num_tokens,
            )
        )
        start = end
    return pieces
