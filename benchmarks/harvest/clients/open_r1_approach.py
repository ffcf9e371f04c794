"""open-r1's approach, written anew from its description: its script is not a package.

One aiohttp task a row under a semaphore, on uvloop; the samples of a row are gathered and the row is lost if one fails;
append and flush under one lock; ten tries with ten seconds between them on exceptions of the connection, while the
HTTP status is not looked at, so a 429's body is taken for an answer; rows whose id is in the file are not asked again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiofiles
import aiohttp
import uvloop
from interface import Row, Task, jsonl, main, messages, reasoning_in

SAMPLES_PER_ROW = 1
TRIES, PAUSE_SECONDS = 10, 10.0


def path_of(task: Task) -> Path:
    return task.folder / "rows.jsonl"


def read(row: dict[str, Any]) -> Row:
    message = row["generations"][0]
    return row["number"], reasoning_in(message), message["content"]


def rows(task: Task, unreadable: Counter[str]) -> Iterable[Row]:
    return jsonl(path_of(task), read, unreadable)


async def ask(session: aiohttp.ClientSession, task: Task, prompt: str) -> dict[str, Any]:
    body = {"model": task.model, "messages": messages(prompt), "max_tokens": task.max_tokens}
    for attempt in range(TRIES):
        try:
            async with session.post(f"{task.base_url}/chat/completions", json=body) as response:
                return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError):
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("unreachable")


async def draw(task: Task) -> None:
    done = {number for number, _, _ in rows(task, Counter())}
    free, writing = asyncio.Semaphore(task.in_flight), asyncio.Lock()
    connector = aiohttp.TCPConnector(limit=task.in_flight, ttl_dns_cache=300, keepalive_timeout=3600)
    timeout = aiohttp.ClientTimeout(total=3600)

    async def row(number: int, prompt: str) -> None:
        async with free:
            try:
                drawn = await asyncio.gather(*(ask(session, task, prompt) for _ in range(SAMPLES_PER_ROW)))
                generations = [each["choices"][0]["message"] for each in drawn]
            except (KeyError, IndexError, aiohttp.ClientError, TimeoutError) as error:
                print(f"row {number} dropped: {type(error).__name__}: {error}")
                return
        line = json.dumps({"number": number, "generations": generations}) + "\n"
        async with writing, aiofiles.open(path_of(task), "a") as file:
            await file.write(line)
            await file.flush()

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(row(number, prompt) for number, prompt in task.prompts() if number not in done))


if __name__ == "__main__":
    main(lambda task: uvloop.run(draw(task)), rows, lambda task: [path_of(task)])
