"""AsyncOpenAI with its default transport (httpx): a semaphore, gather, and a line a row appended to a file.

The SDK has no store of its own; this is the short script that its users write around it, which goes on where the file
ends, on a line of its own where the last one was torn. The SDK's retries follow Retry-After; ten instead of two.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interface import Row, Task, jsonl, main, messages, reasoning_in
from openai import AsyncOpenAI, OpenAIError

MAX_RETRIES = 10


def path_of(task: Task) -> Path:
    return task.folder / "rows.jsonl"


def read(row: dict[str, Any]) -> Row:
    return row["number"], reasoning_in(row["message"]), row["message"]["content"]


def rows(task: Task, unreadable: Counter[str]) -> Iterable[Row]:
    return jsonl(path_of(task), read, unreadable)


async def draw(task: Task, client: AsyncOpenAI) -> None:
    done = {number for number, _, _ in rows(task, Counter())}
    free = asyncio.Semaphore(task.in_flight)

    async def one(number: int, prompt: str) -> None:
        async with free:
            try:
                answer = await client.chat.completions.create(
                    model=task.model, messages=messages(prompt), max_tokens=task.max_tokens
                )
            except OpenAIError as error:
                print(f"row {number} given up: {error}")
                return
        file.write(json.dumps({"number": number, "message": answer.choices[0].message.model_dump()}) + "\n")
        file.flush()

    with open(path_of(task), "a") as file:
        if file.tell() and not path_of(task).read_bytes().endswith(b"\n"):
            file.write("\n")
        await asyncio.gather(*(one(number, prompt) for number, prompt in task.prompts() if number not in done))


async def with_httpx(task: Task) -> None:
    async with AsyncOpenAI(base_url=task.base_url, api_key="none", max_retries=MAX_RETRIES, timeout=600) as client:
        await draw(task, client)


if __name__ == "__main__":
    main(lambda task: asyncio.run(with_httpx(task)), rows, lambda task: [path_of(task)])
