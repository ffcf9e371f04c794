"""Puts one completion together from what an OpenAI-compatible server streams.

    stream = StreamedCompletion()
    for chunk in chunks: stream.feed(chunk)
    reasoning, content, num_pieces = stream.take()      # what is new since the last time
    completion = stream.finish()

Understood: `reasoning` (vLLM, OpenRouter) and `reasoning_content` (SGLang, DeepSeek, llama.cpp, older vLLM), the same
text sent under both names, usage in the last or any event, comments and keep-alives, errors sent as events, a whole
completion in one JSON body from servers that do not stream, and the raw text of `/v1/completions`. Reasoning inside
the text is left in `content`: `thought_and_answer` takes it apart with the card's markers. A stream that degenerates
says so in `degenerate`. Pieces are joined every `PIECES_A_BLOCK`: a list of a long trace's tokens takes megabytes.
Not covered: tool calls, several choices (each sample has its own seed, so one choice is asked for).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from distill.cards import ReasoningFormat
from distill.engines.degeneration import Watch
from distill.engines.endpoint_retry import EndpointFailure, of_error_event
from distill.engines.reasoning import split_reasoning
from distill.records import FinishReason

REASONING_FIELDS = ("reasoning", "reasoning_content")
FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "end_turn": "stop",
    "length": "length", "max_tokens": "length", "model_length": "length",
}  # fmt: skip

PIECES_A_BLOCK = 64
Channel = Literal["as_sent", "content", "split"]
"""Where text goes: as the server says; to `content`, all of it; to `reasoning` until the close marker comes."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion as a server gave it; token counts are None where it did not say."""

    content: str
    reasoning: str
    reasoning_field: str | None
    finish_reason: FinishReason
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    num_pieces: int  # events with text: nearly the number of tokens where the server does not count
    logprobs: tuple[dict[str, Any], ...]  # as the server sent them: token, logprob, top_logprobs
    system_fingerprint: str | None
    note: str | None = None  # why it was aborted


class StreamedCompletion:
    """Grows with every chunk. Raises: EndpointFailure (malformed, truncated, wrong_n, what an error event says)."""

    def __init__(self, channel: Channel = "as_sent", *, close_marker: str = "", watch: Watch | None = None) -> None:
        self.num_pieces = 0
        self.degenerate: str | None = None
        self._rest = b""
        self._reasoning, self._content = _Text(), _Text()
        self._reasoning_field: str | None = None
        self._channel, self._close_marker, self._watch = channel, close_marker, watch
        self._held = ""  # may be the beginning of the close marker
        self._num_taken = 0
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._logprobs: list[dict[str, Any]] = []
        self._system_fingerprint: str | None = None
        self._saw_choice = self._saw_end = False

    def feed(self, chunk: bytes) -> None:
        """Take bytes of the event stream, cut anywhere."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line)

    def feed_whole(self, body: bytes) -> None:
        """Take a completion that came as one JSON body."""
        self._event(_parse(body))
        self._saw_end = True

    def take(self) -> tuple[str, str, int]:
        """Reasoning, content and number of pieces that came since the last call."""
        self._settle()
        num_new, self._num_taken = self.num_pieces - self._num_taken, self.num_pieces
        return self._reasoning.take(), self._content.take(), num_new

    def so_far(self) -> tuple[str, str]:
        """Reasoning and content, unfinished; without what may be half a close marker."""
        return self._reasoning.whole(), self._content.whole()

    def aborted(self) -> Completion:
        """The completion as far as it came, of a stream that is given up because it degenerated."""
        return self._completion("aborted", self.degenerate)

    def finish(self) -> Completion:
        """The completion, once the stream has ended."""
        if self._rest.strip():  # a last line without its newline
            try:
                self._line(self._rest)
            except EndpointFailure as failure:
                if failure.kind != "malformed":
                    raise
                raise EndpointFailure("truncated", "the stream ends inside an event") from None
        if not self._saw_choice:
            kind = "wrong_n" if self._saw_end else "truncated"
            raise EndpointFailure(kind, "the stream ended with 0 choices; expected 1")
        if self._finish is None:
            raise EndpointFailure("truncated", f"the stream ended after {self.num_pieces} pieces, no finish reason")
        if self._finish == "content_filter":
            raise EndpointFailure("content_filter", "the server withheld the completion")
        if self._finish not in FINISH_REASONS:  # abort, error, insufficient_system_resource, tool_calls
            raise EndpointFailure("server_error", f"finish reason {self._finish[:40]!r}")
        (self._reasoning if self._channel == "split" else self._content).new.append(self._held)
        self._held = ""
        return self._completion(FINISH_REASONS[self._finish], None)

    def _completion(self, finish_reason: FinishReason, note: str | None) -> Completion:
        details = self._usage.get("completion_tokens_details")
        return Completion(
            content=self._content.whole(),
            reasoning=self._reasoning.whole(),
            reasoning_field=self._reasoning_field,
            finish_reason=finish_reason,
            prompt_tokens=_count(self._usage, "prompt_tokens"),
            completion_tokens=_count(self._usage, "completion_tokens"),
            reasoning_tokens=_count(details, "reasoning_tokens") if isinstance(details, dict) else None,
            num_pieces=self.num_pieces,
            logprobs=tuple(self._logprobs),
            system_fingerprint=self._system_fingerprint,
            note=note,
        )

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return  # comments (keep-alives), event names, blank lines
        data = line[5:].strip()
        if data == b"[DONE]":
            self._saw_end = True
        elif data:
            self._event(_parse(data))

    def _event(self, event: Any) -> None:
        """Nearly all events are one token of one choice; they take the short way through."""
        if not isinstance(event, dict):
            raise EndpointFailure("malformed", f"an event is a {type(event).__name__}; expected an object")
        if event.get("error"):
            raise of_error_event(event["error"])
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        if isinstance(event.get("system_fingerprint"), str):
            self._system_fingerprint = event["system_fingerprint"]
        choices = event.get("choices") or []
        if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict and not choices[0].get("index"):
            self._choice(choices[0])
            return
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise EndpointFailure("malformed", "`choices` is not a list of objects")
        if len(choices) > 1 or any(choice.get("index") for choice in choices):
            found = max(len(choices), *(int(choice.get("index") or 0) + 1 for choice in choices))
            raise EndpointFailure("wrong_n", f"found {found} choices; asked for 1")
        for choice in choices:
            self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        self._saw_choice = True
        raw = choice.get("text")  # of /v1/completions
        delta = {"content": raw} if raw is not None else choice.get("delta") or choice.get("message") or {}
        if not isinstance(delta, dict):
            raise EndpointFailure("malformed", f"`delta` is a {type(delta).__name__}; expected an object")
        for name in REASONING_FIELDS:
            if thought := delta.get(name):
                self._reasoning_field = name
                self._add(thought, is_reasoning=True)
                break
        if delta.get("content"):
            self._add(delta["content"], is_reasoning=False)
        if choice.get("finish_reason"):
            self._finish = str(choice["finish_reason"])
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict):
            self._logprobs += _entries(logprobs)

    def _add(self, text: Any, *, is_reasoning: bool) -> None:
        if not isinstance(text, str):
            raise EndpointFailure("malformed", f"a piece of text is a {type(text).__name__}")
        self.num_pieces += 1
        if self._channel == "split":
            self._split(text)
        else:
            (self._reasoning if is_reasoning and self._channel == "as_sent" else self._content).new.append(text)
        if self.num_pieces % PIECES_A_BLOCK == 0:
            self._settle()

    def _split(self, text: str) -> None:
        """Raw text that began inside a thought: up to the close marker it is reasoning."""
        text = self._held + text
        before, marker, after = text.partition(self._close_marker)
        if marker:
            self._reasoning.new.append(before)
            self._content.new.append(after)
            self._held, self._channel = "", "content"
            return
        longest = min(len(self._close_marker) - 1, len(text))
        num_held = next((n for n in range(longest, 0, -1) if self._close_marker.startswith(text[-n:])), 0)
        self._held = text[len(text) - num_held :]
        self._reasoning.new.append(text[: len(text) - num_held])

    def _settle(self) -> None:
        """Join what is new, and look whether it still makes sense."""
        for text in (self._reasoning, self._content):
            block = text.settle()
            if block and self._watch is not None and self.degenerate is None:
                self.degenerate = self._watch.feed(block)


class _Text:
    """A text that grows by tokens and is kept in blocks."""

    __slots__ = ("_blocks", "_num_taken", "new")

    def __init__(self) -> None:
        self.new: list[str] = []
        self._blocks: list[str] = []
        self._num_taken = 0

    def settle(self) -> str:
        """Make a block of what is new; gives it."""
        block = "".join(self.new)
        self.new.clear()
        if block:
            self._blocks.append(block)
        return block

    def take(self) -> str:
        taken = "".join(self._blocks[self._num_taken :])
        self._num_taken = len(self._blocks)
        return taken

    def whole(self) -> str:
        self.settle()
        return "".join(self._blocks)


def _entries(logprobs: dict[str, Any]) -> list[dict[str, Any]]:
    """Log-probabilities in the chat form: token, logprob, top_logprobs; completions have four lists instead."""
    if isinstance(logprobs.get("content"), list):
        return [entry for entry in logprobs["content"] if isinstance(entry, dict)]
    tokens, chosen, tops = (logprobs.get(name) or [] for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not len(tokens) == len(chosen) == len(tops):
        return []
    return [
        {
            "token": token,
            "logprob": logprob,
            "top_logprobs": [{"token": name, "logprob": value} for name, value in (top or {}).items()],
        }
        for token, logprob, top in zip(tokens, chosen, tops, strict=True)
    ]


def thought_and_answer(
    completion: Completion, reasoning: ReasoningFormat, *, field_expected: bool
) -> tuple[str, str | None, str | None]:
    """(text, reasoning, answer) of a completion, as the local engine would have given them.

    `field_expected` says that this server splits reasoning off. Then a prompt that opens the thought says nothing of
    `content`, and a completion cut at the token limit that has only `content` is a thought (vllm#35221) if this
    model's prompt opens one.
    """
    markers = (reasoning.open_marker, reasoning.close_marker)
    content = completion.content
    if completion.reasoning:
        text = f"{markers[0]}\n{completion.reasoning.strip()}"
        if not content.strip() and completion.finish_reason != "stop":
            return text, completion.reasoning.strip(), None
        return f"{text}\n{markers[1]}\n\n{content.strip()}", completion.reasoning.strip(), content.strip()
    cut_thought = field_expected and completion.finish_reason != "stop" and reasoning.opened_by_prompt
    opened = cut_thought or (reasoning.opened_by_prompt and not field_expected)
    thought, answer = split_reasoning(content, open_marker=markers[0], close_marker=markers[1], opened_by_prompt=opened)
    return content, thought, answer


def position_in_text(position: int, completion: Completion, reasoning: ReasoningFormat) -> int:
    """Where a position in `completion.reasoning + completion.content` is in the text of `thought_and_answer`."""
    thought, content = completion.reasoning, completion.content
    if not thought:
        return position
    before = len(reasoning.open_marker) + 1
    if position <= len(thought):
        return before + _in_stripped(position, thought)
    before += len(thought.strip()) + 1 + len(reasoning.close_marker) + 2
    return before + _in_stripped(position - len(thought), content)


def _in_stripped(position: int, text: str) -> int:
    leading = len(text) - len(text.lstrip())
    return min(max(position - leading, 0), len(text.strip()))


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data.decode())
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError
        raise EndpointFailure("malformed", f"an event of {len(data)} bytes is not JSON ({error})") from None


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else None
