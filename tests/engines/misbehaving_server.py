"""An OpenAI-compatible server, a real process on the standard library alone, that misbehaves on demand.

    python tests/engines/misbehaving_server.py '{"cap": 50}'       # prints its port

A prompt with `[[KIND*TIMES]]` makes the first TIMES attempts of each (prompt, seed) go wrong in that way; then it is
answered. Settings (below) hold for all requests and change with POST /control; GET /stats says what was served.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from typing import Any

SETTINGS: dict[str, Any] = {
    "cap": None,  # more requests than this at a time are refused with 429
    "noise": 0.0,  # share of requests refused with 429 whatever the load
    "retry_after": None,
    "seconds": 0.0,
    "tail_share": 0.0,
    "tail_seconds": 0.0,
    "style": "reasoning",
    "pieces": 4,
    "wrong": 0.0,  # share of completions, by seed, whose answer is wrong
    "cut": 0.0,  # share cut off in their thought by the token limit
    "foreign": 0.0,  # share that thinks in Chinese
    "ignore_seed": False,
    "refuse_n": False,
    "refuse_fields": [],
    "usage": True,
    "context": 4096,
    "key": None,
    "echo": False,  # error messages and completions repeat the Authorization header
    "models": ["tiny-served"],
    "broken": False,  # every connection is closed without an answer
    "continues": None,  # goes on from an assistant message at the end: "continue_final_message", "prefix" or "trailing"
    "strips_thought": False,  # the template drops what an assistant message has up to </think>, as DeepSeek-R1's does
    "piece_seconds": 0.0,
    "loops": False,  # the thought goes round in circles
    "same": None,  # one completion for every "seed" of a prompt, or for every "prompt" too
    "after": "",  # follows the answer; {more} is its result and one
}
STATS: dict[str, Any] = {"requests": 0, "served": 0, "refused": 0, "in_flight": 0, "most": 0, "area": 0.0, "at": 0.0,
    "pieces": 0, "left": 0,
}  # fmt: skip
ATTEMPTS: Counter[str] = Counter()
SERVED: Counter[str] = Counter()
RANDOM = random.Random(0)


class Reply:
    """Writes one HTTP response by hand, so that it can be broken anywhere."""

    def __init__(self, writer: asyncio.StreamWriter):
        self.writer = writer

    async def whole(self, status: int, data: Any, headers: dict[str, Any] | None = None) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        await self.writer.drain()

    def start(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def event(self, data: Any) -> None:
        await self.raw(b"data: " + json.dumps(data).encode() + b"\n\n")

    async def end(self, done: bool = True) -> None:
        if done:
            await self.raw(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def reset(self) -> None:
        self.writer.transport.abort()


def tick(change: int) -> None:
    now = time.monotonic()
    STATS["area"] += STATS["in_flight"] * (now - (STATS["at"] or now))
    STATS["at"] = now
    STATS["in_flight"] += change
    STATS["most"] = max(STATS["most"], STATS["in_flight"])


def deltas(body: dict[str, Any], seed: int, key: str) -> list[dict[str, str]]:
    """The pieces of an answer in the style of the settings."""
    prompt = body["messages"][-1]["content"]
    found = re.search(r"(-?\d+)\s*\+\s*(-?\d+)", prompt)
    result = int(found[1]) + int(found[2]) if found else 1035
    mark = RANDOM.random() if SETTINGS["ignore_seed"] else seed
    thought = [f"step {at} of {mark}. " for at in range(SETTINGS["pieces"])]
    if SETTINGS["loops"]:
        thought = ["wait let me think about that sum once more and then again from the very start of it all . "] * 4000
    if SETTINGS["same"]:
        thought = [f"step {at} of them all. " for at in range(SETTINGS["pieces"])]
        result = 1035 if SETTINGS["same"] == "prompt" else result
    style, quality = SETTINGS["style"], random.Random(seed).random()
    if quality < SETTINGS["wrong"]:
        result += 1
    if random.Random(-seed - 1).random() < SETTINGS["foreign"]:
        thought = ["\u6211\u4eec\u4e00\u6b65\u4e00\u6b65\u7b97\u3002" for _ in thought]
    if is_cut(seed):
        return [{"reasoning": piece} for piece in thought]
    answer = f"\\boxed{{{result}}}" + SETTINGS["after"].format(more=result + 1) + (key if SETTINGS["echo"] else "")
    if style in ("reasoning", "reasoning_content"):
        return [{style: piece} for piece in thought] + [{"content": answer}]
    if style == "both":
        return [{"reasoning": piece, "reasoning_content": piece} for piece in thought] + [{"content": answer}]
    opening, closing = {
        "text": ("<think>\n", "\n</think>\n\n"), "opened": ("", "\n</think>\n\n"), "unclosed": ("<think>\n", "\n"),
    }.get(style, ("", ""))  # fmt: skip
    if style in ("plain", "hidden"):
        return [{"content": answer}]
    return [{"content": piece} for piece in (opening, *thought, closing, answer) if piece]


def is_cut(seed: int) -> bool:
    return random.Random(seed).random() > 1 - SETTINGS["cut"]


async def chat(reply: Reply, body: dict[str, Any], key: str) -> None:
    STATS["requests"] += 1
    if SETTINGS["key"] and key != SETTINGS["key"]:
        await reply.whole(401, {"error": {"message": f"Incorrect API key provided: {key}"}})
        return
    for field in SETTINGS["refuse_fields"]:
        if field in body:
            message = f"Unsupported parameter: '{field}'. Use {field_instead(field)}"
            await reply.whole(400, {"error": {"message": message}})

            return
    headers = {} if SETTINGS["retry_after"] is None else {"Retry-After": SETTINGS["retry_after"]}
    is_full = SETTINGS["cap"] is not None and STATS["in_flight"] >= SETTINGS["cap"]
    if is_full or RANDOM.random() < SETTINGS["noise"]:
        STATS["refused"] += 1
        await reply.whole(429, {"error": {"message": f"Rate limit {key if SETTINGS['echo'] else ''}"}}, headers)
        return
    tick(1)
    try:
        await answer(reply, body, key)
    finally:
        tick(-1)


def field_instead(field: str) -> str:
    return "max_completion_tokens" if field == "max_tokens" else "nothing"


def rest_of(body: dict[str, Any], key: str) -> list[dict[str, str]] | None:
    """What follows the assistant message at the end of a chat; None where there is none, or no such service."""
    *asked, last = body["messages"]
    form = SETTINGS["continues"]
    is_asked = bool(body.get(form) or last.get(form)) if form != "trailing" else True
    if form is None or last["role"] != "assistant" or not is_asked:
        return None
    pieces = deltas({**body, "messages": asked}, body.get("seed", 0), key)
    thought = "".join(piece.get("reasoning", "") for piece in pieces)
    whole = f"<think>\n{thought}\n</think>\n\n{pieces[-1].get('content', '')}"
    given = last["content"]
    if last.get("reasoning_content"):
        given = f"<think>\n{last['reasoning_content']}" + (f"\n</think>\n\n{given}" if given else "")
    if SETTINGS["strips_thought"]:
        given = given.split("</think>")[-1]
    whole, given = (re.sub(r"\s*</think>\s*", "\n</think>\n\n", text) for text in (whole, given))
    if not whole.startswith(given):
        is_closed_early = given.startswith("<think>\n") and given.endswith("\n</think>\n\nFinal Answer:")
        return [pieces[-1]] if is_closed_early else pieces
    rest = whole[len(given) :]
    before, marker, after = rest.partition("\n</think>\n\n")
    if not marker and "</think>" not in given:
        return [{"reasoning": word} for word in words(before)]
    return [{"reasoning": word} for word in words(before)] * bool(marker) + [{"content": after if marker else rest}]


def words(text: str) -> list[str]:
    return re.findall(r"step \d+ of -?\d+\. |.+?(?:\. |$)", text)


async def answer(reply: Reply, body: dict[str, Any], key: str) -> None:
    asked = [message for message in body["messages"] if message["role"] == "user"]
    prompt, seed, n = asked[-1]["content"], body.get("seed", 0), body.get("n", 1)
    identity = f"{prompt}|{seed}"
    ATTEMPTS[identity] += 1
    found = re.search(r"\[\[(\w+)\*(\d+)\]\]", prompt)
    if found and ATTEMPTS[identity] <= int(found[2]) and await misbehave(reply, found[1], body):
        return
    if n > 1 and SETTINGS["refuse_n"]:
        await reply.whole(400, {"error": {"message": "n must be 1"}})
        return
    await asyncio.sleep(SETTINGS["tail_seconds"] if RANDOM.random() < SETTINGS["tail_share"] else SETTINGS["seconds"])
    pieces = rest_of(body, key)
    pieces = deltas(body, seed, key) if pieces is None else pieces
    usage = {"prompt_tokens": 7, "completion_tokens": len(pieces) + 500 * (SETTINGS["style"] == "hidden")}
    if found and found[1] == "whole":
        message = {name: "".join(p.get(name, "") for p in pieces) for name in ("reasoning", "content")}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await reply.whole(200, {"choices": [choice], "usage": usage})
    else:
        reply.start()
        await stream(reply, body, pieces, usage, slow=bool(found and found[1] == "slow"), n=n)
        await reply.end()
    SERVED[identity] += 1
    STATS["served"] += 1


async def stream(
    reply: Reply, body: dict[str, Any], pieces: list[dict[str, str]], usage: dict[str, int], *, slow: bool, n: int = 1
) -> None:
    await reply.raw(b": keep-alive\n\n")
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or len(pieces)
    if usage and len(pieces) > limit:
        usage = {**usage, "completion_tokens": limit}
    for piece in pieces[:limit]:
        await asyncio.sleep(0.3 if slow else SETTINGS["piece_seconds"])
        STATS["pieces"] += 1
        for index in range(n):
            choice: dict[str, Any] = {"index": index, "delta": piece, "finish_reason": None}
            if body.get("logprobs"):
                entry = {"token": "x", "logprob": -0.5, "top_logprobs": [{"token": "x", "logprob": -0.5}]}
                choice["logprobs"] = {"content": [entry]}
            await reply.event({"choices": [choice], "system_fingerprint": "fp"})
    for index in range(n):
        reason = "length" if is_cut(body.get("seed") or 0) or len(pieces) > limit else "stop"
        await reply.event({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]})
    if SETTINGS["usage"] and body.get("stream_options", {}).get("include_usage"):
        await reply.event({"choices": [], "usage": usage})


async def misbehave(reply: Reply, kind: str, body: dict[str, Any]) -> bool:
    """True where the request is over."""
    piece = {"choices": [{"index": 0, "delta": {"reasoning": "half a thou"}}]}
    match kind:
        case "slow" | "whole":
            return False
        case "after":
            await reply.whole(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.2"})
        case "reset":
            reply.reset()
        case "filter":
            reply.start()
            await reply.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]})
            await reply.end()
        case "error":
            reply.start()
            await reply.event({"error": {"message": "engine died", "code": 500}})
            await reply.end()
        case "none":
            reply.start()
            await reply.end()
        case "half":
            reply.start()
            await reply.raw(b": keep-alive\n\n")
            pieces = deltas(body, body.get("seed", 0), "")
            for half in pieces[: len(pieces) // 2]:
                STATS["pieces"] += 1
                await reply.event({"choices": [{"index": 0, "delta": half, "finish_reason": None}]})
            await asyncio.sleep(0.05)
            reply.reset()
        case "two":
            reply.start()
            await stream(reply, body, [{"content": "x"}], {}, slow=False, n=2)
            await reply.end()
        case _ if kind.isdigit():
            await reply.whole(int(kind), {"error": {"message": f"status {kind}"}})
        case _:
            reply.start()
            await reply.event(piece)
            await break_off(reply, kind)
    return True


async def break_off(reply: Reply, kind: str) -> None:
    """After a first good event."""
    match kind:
        case "midreset":
            await asyncio.sleep(0.02)
            reply.reset()
        case "stall":
            for _ in range(40):
                await asyncio.sleep(0.25)
                await reply.raw(b": keep-alive\n\n")
        case "malformed":
            await reply.raw(b'data: {"choices": [{"index": 0, "delta"\n\n')
            await reply.end()
        case "cut":
            await reply.raw(b'data: {"choices": [{"index": 0, "delta": {"con')
            await reply.end(done=False)
        case "truncated":
            await reply.end()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reply = Reply(writer)
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            body = json.loads(await reader.readexactly(int(length[1]))) if length else {}
            key = re.search(r"authorization: Bearer (\S+)", head, re.IGNORECASE)
            path = head.split(" ", 2)[1]
            if path == "/control":
                SETTINGS.update(body)
                await reply.whole(200, SETTINGS)
            elif path == "/stats":
                tick(0)
                await reply.whole(200, {**STATS, "by_request": SERVED})
            elif SETTINGS["broken"]:
                reply.reset()
            elif path == "/health":
                await reply.whole(200, {})
            elif path == "/v1/models":
                listed = [{"id": name, "max_model_len": SETTINGS["context"]} for name in SETTINGS["models"]]
                await reply.whole(200, {"data": listed})
            elif path == "/v1/chat/completions":
                await chat(reply, body, key[1] if key else "")
            else:
                await reply.whole(404, {"error": {"message": "no such page"}})
    except asyncio.IncompleteReadError:
        pass
    except ConnectionError:
        STATS["left"] += 1
    finally:
        writer.close()


async def main() -> None:
    SETTINGS.update(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    server = await asyncio.start_server(serve, "127.0.0.1", SETTINGS.get("port", 0), backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
