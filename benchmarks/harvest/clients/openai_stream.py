"""AsyncOpenAI with the aiohttp transport, streaming: the pieces of each row joined; else as openai_httpx."""

from __future__ import annotations

import asyncio
import json

from interface import Task, main, messages
from openai import AsyncOpenAI, DefaultAioHttpClient
from openai_httpx import MAX_RETRIES, path_of, rows


async def draw(task: Task) -> None:
    free = asyncio.Semaphore(task.in_flight)
    transport = DefaultAioHttpClient(timeout=600)
    client = AsyncOpenAI(
        base_url=task.base_url, api_key="none", max_retries=MAX_RETRIES, timeout=600, http_client=transport
    )

    async def one(number: int, prompt: str) -> None:
        thought, content = [], []
        async with free:
            stream = await client.chat.completions.create(
                model=task.model, messages=messages(prompt), max_tokens=task.max_tokens, stream=True
            )
            async for piece in stream:
                delta = piece.choices[0].delta
                thought.append(getattr(delta, "reasoning_content", None) or "")
                content.append(delta.content or "")
        message = {"reasoning_content": "".join(thought), "content": "".join(content)}
        file.write(json.dumps({"number": number, "message": message}) + "\n")
        file.flush()

    async with client:
        with open(path_of(task), "a") as file:
            await asyncio.gather(*(one(number, prompt) for number, prompt in task.prompts()))


if __name__ == "__main__":
    main(lambda task: asyncio.run(draw(task)), rows, lambda task: [path_of(task)])
