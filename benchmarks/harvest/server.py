"""The server that every client is measured against: OpenAI's chat protocol, one process, latencies by problem.

    python -m benchmarks.harvest.server --port 0          # prints the port it listens on, at 127.0.0.1 and 127.0.0.2
    POST /settings {"seconds": [...], ...}                # a new scenario; the log starts empty
    GET /log                                              # every request since then

It streams where the client asks for it, sends the reasoning as `reasoning` and as `reasoning_content`, continues an
assistant message (`continue_final_message`) from where it stops, stops at `max_tokens` (a hundredth of a trace takes a
hundredth of its time), and gives every problem the same latency and the same refusals whoever asks. It does as little
as it can for each request (no web framework, answers put together from prepared bytes), because it shares two cores
with its clients; what it was late by is in the log.
Not covered: sampling parameters, log-probabilities, TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.harvest.traces import PROMPT_TOKENS, TOKENS, content_of, number_of, reasoning_of

MODEL = "mock-teacher"
CONTEXT_TOKENS = 40960


@dataclass
class Settings:
    """A scenario as the server plays it; `seconds` and `refusals` are by problem, and go round."""

    seconds: list[float] = field(default_factory=lambda: [0.05])
    refusals: list[int] = field(default_factory=lambda: [0])
    """So many attempts of the problem get a 429 before one gets in."""
    capacity: int | None = None
    """More than these at a time get a 429."""
    retry_after_seconds: float = 1.0
    tokens: int = TOKENS
    tokens_per_event: int = 100
    """Of a stream: vLLM's --stream-interval, whose default is 1."""


@dataclass(slots=True)
class Entry:
    """One request in the log; times on the system's monotonic clock, in seconds."""

    problem: int
    attempt: int
    arrived: float
    due: float
    streamed: bool
    n: int
    from_token: int
    """Where a continued trace starts; 0 for a whole one."""
    to_token: int
    """Where it ends: at the trace's own length, or before, at the limit that the client set."""
    max_tokens: int | None
    ended: float | None = None
    outcome: str = "running"  # finished, aborted (the client went away), refused
    tokens: int = 0  # what was generated, whether or not anybody read it


class State:
    """What the connections share."""

    def __init__(self) -> None:
        self.reset(Settings())

    def reset(self, settings: Settings) -> None:
        self.settings, self.entries, self.in_flight, self.attempts = settings, [], 0, {}
        self.bad_requests: list[str] = []

    entries: list[Entry]
    attempts: dict[int, int]


def chat_response(number: int, n: int, tokens: int, to_token: int) -> bytes:
    """A completion, or n of them; one that stops before all its tokens has no content."""
    whole = reasoning_of(number, tokens)
    is_cut = to_token < tokens
    thought = json.dumps(" ".join(whole.split(" ")[:to_token]) if is_cut else whole).encode()
    message = b'{"role":"assistant","content":%s,"reasoning":%s,"reasoning_content":%s}' % (
        b"null" if is_cut else json.dumps(content_of(number)).encode(), thought, thought,
    )  # fmt: skip
    finish = b"length" if is_cut else b"stop"
    choices = b",".join(
        b'{"index":%d,"message":%s,"logprobs":null,"finish_reason":"%s"}' % (at, message, finish) for at in range(n)
    )
    return b'{"id":"chatcmpl-%d","object":"chat.completion","created":1,"model":"%s","choices":[%s],"usage":%s}' % (
        number, MODEL.encode(), choices, usage(n * to_token),
    )  # fmt: skip


def usage(tokens: int) -> bytes:
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
        PROMPT_TOKENS, tokens, PROMPT_TOKENS + tokens,
    )  # fmt: skip


def event(number: int, at: int, delta: dict[str, str], finish: str | None = None) -> bytes:
    text = json.dumps(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": at, "delta": delta, "logprobs": None, "finish_reason": finish}],
        },
        separators=(",", ":"),
    )
    return chunk(f"data: {text}\n\n".encode())


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def already_said(messages: list[dict[str, Any]], number: int, tokens: int) -> int:
    """Where a continued trace goes on, in words of the reasoning. Raises: ValueError if that is not its start."""
    last = messages[-1]
    text = str(last.get("reasoning") or last.get("reasoning_content") or last.get("content") or "")
    said = text.removeprefix("<think>").lstrip().partition("</think>")[0].rstrip()
    whole = reasoning_of(number, tokens)
    if not whole.startswith(said):
        raise ValueError(f"problem {number}: the prefix {said[-40:]!r} is not how its trace starts")
    return len(said.split()) if said else 0


def pieces(number: int, from_token: int, to_token: int, tokens: int, tokens_per_event: int) -> list[str]:
    """The reasoning between two words, cut into what one event holds."""
    words = reasoning_of(number, tokens).split(" ")[from_token:to_token]
    cut = [" ".join(words[at : at + tokens_per_event]) for at in range(0, len(words), tokens_per_event)]
    return [(" " if at or from_token else "") + piece for at, piece in enumerate(cut)]


class Connection(asyncio.Protocol):
    """One keep-alive connection; a request at a time, as HTTP/1.1 clients send them."""

    def __init__(self, state: State) -> None:
        self.state, self.loop = state, asyncio.get_running_loop()
        self.buffer = bytearray()
        self.entry: Entry | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.events: list[bytes] = []
        self.closes = False  # what the client asked of this request
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.entry is not None:
            now = time.monotonic()
            lasts = max(self.entry.due - self.entry.arrived, 1e-9)
            share = min(1.0, (now - self.entry.arrived) / lasts)
            self._over("aborted", int(share * (self.entry.to_token - self.entry.from_token)))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (head_end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:head_end]).decode("latin-1")
            first, _, rest = head.partition("\r\n")
            lines = (line.partition(":") for line in rest.split("\r\n"))
            headers = {name.lower(): value.strip() for name, _, value in lines}
            if "100-continue" in headers.get("expect", ""):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = int(headers.get("content-length", 0))
            if len(self.buffer) < head_end + 4 + length:
                return
            body = bytes(self.buffer[head_end + 4 : head_end + 4 + length])
            del self.buffer[: head_end + 4 + length]
            self.closes = headers.get("connection", "").lower() == "close"
            method, path, _ = first.split(" ", 2)
            self._request(method, path.split("?")[0], body)

    def _request(self, method: str, path: str, body: bytes) -> None:
        if method == "POST" and path.endswith("/chat/completions"):
            try:
                self._chat(json.loads(body))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                self.state.bad_requests.append(str(error))
                self._send(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
        elif method == "POST" and path == "/settings":
            self.state.reset(Settings(**json.loads(body)))
            self._send(200, {"ok": True})
        elif path == "/log":
            self._send(200, log(self.state))
        elif path == "/stats":
            outcomes = [entry.outcome for entry in self.state.entries]
            counts = {name: outcomes.count(name) for name in ("finished", "aborted", "refused")}
            self._send(200, {**counts, "in_flight": self.state.in_flight})
        elif path.endswith("/models"):
            listed = [{"id": MODEL, "object": "model", "owned_by": "local", "max_model_len": CONTEXT_TOKENS}]
            self._send(200, {"object": "list", "data": listed})
        elif path in ("/health", "/v1/health"):
            self._send(200, {})
        else:
            self._send(404, {"error": {"message": f"no such page: {method} {path}"}})

    def _chat(self, body: dict[str, Any]) -> None:
        state, settings, now = self.state, self.state.settings, time.monotonic()
        messages = body["messages"]
        if not messages:  # curator asks for nothing to see the headers of the answer
            self._send(400, {"error": {"message": "messages is empty", "type": "invalid_request_error"}})
            return
        number = number_of(str(next(m["content"] for m in messages if m["role"] == "user")))
        is_continued = messages[-1]["role"] == "assistant"
        from_token = already_said(messages, number, settings.tokens) if is_continued else 0
        attempt = state.attempts[number] = state.attempts.get(number, 0) + 1
        n, streamed = int(body.get("n") or 1), bool(body.get("stream"))
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        to_token = min(settings.tokens, from_token + (limit or settings.tokens))
        seconds = settings.seconds[number % len(settings.seconds)] * (to_token - from_token) / settings.tokens
        entry = Entry(number, attempt, now, now + seconds, streamed, n, from_token, to_token, limit)
        state.entries.append(entry)
        is_full = settings.capacity is not None and state.in_flight >= settings.capacity
        if is_full or attempt <= settings.refusals[number % len(settings.refusals)]:
            entry.ended, entry.outcome = now, "refused"
            message = {"error": {"message": "Rate limit exceeded", "type": "rate_limit_error", "code": 429}}
            self._send(429, message, f"Retry-After: {settings.retry_after_seconds:g}\r\n")
            return
        self.entry = entry
        state.in_flight += 1
        if streamed:
            self._start_stream(entry, bool((body.get("stream_options") or {}).get("include_usage")))
        else:
            self.timer = self.loop.call_later(seconds, self._answer, entry)

    def _answer(self, entry: Entry) -> None:
        body = chat_response(entry.problem, entry.n, self.state.settings.tokens, entry.to_token)
        self._over("finished", entry.n * entry.to_token)
        self._head(200, len(body))
        self._last(body)

    def _start_stream(self, entry: Entry, include_usage: bool) -> None:
        settings, number = self.state.settings, entry.problem
        cut = pieces(number, entry.from_token, entry.to_token, settings.tokens, settings.tokens_per_event)
        self.events = [
            b"".join(event(number, at, {"reasoning": piece, "reasoning_content": piece}) for at in range(entry.n))
            for piece in cut
        ]
        is_cut = entry.to_token < settings.tokens
        end, finish = ({}, "length") if is_cut else ({"content": content_of(number)}, "stop")
        last = b"".join(event(number, at, end, finish) for at in range(entry.n))
        if include_usage:
            counted = usage(entry.n * (entry.to_token - entry.from_token))
            last += chunk(b'data: {"id":"chatcmpl-%d","choices":[],"usage":%s}\n\n' % (number, counted))
        self.events.append(last + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self._schedule(entry, 0)

    def _schedule(self, entry: Entry, at: int) -> None:
        gap = (entry.due - entry.arrived) / len(self.events)
        when = entry.arrived + gap * (at + 1)
        self.timer = self.loop.call_later(max(0.0, when - time.monotonic()), self._stream_on, entry, at)

    def _stream_on(self, entry: Entry, at: int) -> None:
        is_last = at == len(self.events) - 1
        if is_last:
            self._over("finished", entry.n * (entry.to_token - entry.from_token))
            self._last(self.events[at])
        else:
            self.transport.write(self.events[at])
            self._schedule(entry, at + 1)

    def _over(self, outcome: str, tokens: int) -> None:
        assert self.entry is not None, "a request is over once"
        self.entry.ended, self.entry.outcome, self.entry.tokens = time.monotonic(), outcome, tokens
        self.entry, self.timer = None, None
        self.state.in_flight -= 1

    def _head(self, status: int, length: int, extra: str = "") -> None:
        phrase = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"}[status]
        head = (
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{extra}\r\n"
        )
        self.transport.write(head.encode())

    def _send(self, status: int, data: Any, extra: str = "") -> None:
        body = json.dumps(data).encode()
        self._head(status, len(body), extra)
        self._last(body)

    def _last(self, data: bytes) -> None:
        """The end of a response, and of the connection where the client asked for it."""
        self.transport.write(data)
        if self.closes:
            self.transport.close()


def log(state: State) -> dict[str, Any]:
    return {"entries": [asdict(entry) for entry in state.entries], "bad_requests": state.bad_requests}


async def serve(port: int) -> None:
    loop, state = asyncio.get_running_loop(), State()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", port, backlog=8192)
    port = server.sockets[0].getsockname()[1]
    other = await loop.create_server(lambda: Connection(state), "127.0.0.2", port, backlog=8192)
    print(port, flush=True)
    gc.freeze()
    async with server, other:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    try:
        asyncio.run(serve(parser.parse_args().port))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
