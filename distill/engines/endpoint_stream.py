"""Puts one completion together from what an OpenAI-compatible server streams.

    stream = StreamedCompletion()
    for chunk in chunks: stream.feed(chunk)
    completion = stream.finish()

Understood: `reasoning` (vLLM, OpenRouter) and `reasoning_content` (SGLang, DeepSeek, llama.cpp, older vLLM), the same
text sent under both names, usage in the last or any event, comments and keep-alives, errors sent as events, a whole
completion in one JSON body from servers that do not stream. Reasoning inside the text is left in `content`:
`thought_and_answer` takes it apart with the card's markers.
Not covered: tool calls, several choices (each sample has its own seed, so one choice is asked for).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from distill.cards import ReasoningFormat
from distill.engines.endpoint_retry import EndpointFailure, of_error_event
from distill.engines.reasoning import split_reasoning
from distill.records import FinishReason

REASONING_FIELDS = ("reasoning", "reasoning_content")
FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "end_turn": "stop",
    "length": "length", "max_tokens": "length", "model_length": "length",
}  # fmt: skip


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


class StreamedCompletion:
    """Grows with every chunk. Raises: EndpointFailure (malformed, truncated, wrong_n, what an error event says)."""

    def __init__(self) -> None:
        self.num_pieces = 0
        self._rest = b""
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._reasoning_field: str | None = None
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
        details = self._usage.get("completion_tokens_details")
        return Completion(
            content="".join(self._content),
            reasoning="".join(self._reasoning),
            reasoning_field=self._reasoning_field,
            finish_reason=FINISH_REASONS[self._finish],
            prompt_tokens=_count(self._usage, "prompt_tokens"),
            completion_tokens=_count(self._usage, "completion_tokens"),
            reasoning_tokens=_count(details, "reasoning_tokens") if isinstance(details, dict) else None,
            num_pieces=self.num_pieces,
            logprobs=tuple(self._logprobs),
            system_fingerprint=self._system_fingerprint,
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
        if not isinstance(event, dict):
            raise EndpointFailure("malformed", f"an event is a {type(event).__name__}; expected an object")
        if event.get("error"):
            raise of_error_event(event["error"])
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        if isinstance(event.get("system_fingerprint"), str):
            self._system_fingerprint = event["system_fingerprint"]
        choices = event.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise EndpointFailure("malformed", "`choices` is not a list of objects")
        if len(choices) > 1 or any(choice.get("index") for choice in choices):
            found = max(len(choices), *(int(choice.get("index") or 0) + 1 for choice in choices))
            raise EndpointFailure("wrong_n", f"found {found} choices; asked for 1")
        for choice in choices:
            self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        self._saw_choice = True
        delta = choice.get("delta") or choice.get("message") or {}
        if not isinstance(delta, dict):
            raise EndpointFailure("malformed", f"`delta` is a {type(delta).__name__}; expected an object")
        thought = next(((name, delta[name]) for name in REASONING_FIELDS if delta.get(name)), None)
        if thought is not None:
            self._reasoning_field = thought[0]
            self._add(self._reasoning, thought[1])
        if delta.get("content"):
            self._add(self._content, delta["content"])
        if choice.get("finish_reason"):
            self._finish = str(choice["finish_reason"])
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self._logprobs += [entry for entry in logprobs["content"] if isinstance(entry, dict)]

    def _add(self, pieces: list[str], text: Any) -> None:
        if not isinstance(text, str):
            raise EndpointFailure("malformed", f"a piece of text is a {type(text).__name__}")
        pieces.append(text)
        self.num_pieces += 1


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
        if not content.strip() and completion.finish_reason == "length":
            return text, completion.reasoning.strip(), None
        return f"{text}\n{markers[1]}\n\n{content.strip()}", completion.reasoning.strip(), content.strip()
    cut_thought = field_expected and completion.finish_reason == "length" and reasoning.opened_by_prompt
    opened = cut_thought or (reasoning.opened_by_prompt and not field_expected)
    thought, answer = split_reasoning(content, open_marker=markers[0], close_marker=markers[1], opened_by_prompt=opened)
    return content, thought, answer


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError
        raise EndpointFailure("malformed", f"an event of {len(data)} bytes is not JSON ({error})") from None


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else None
