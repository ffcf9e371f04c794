"""AsyncOpenAI with the aiohttp transport that its README recommends for concurrency; else as openai_httpx."""

from __future__ import annotations

import asyncio

from interface import Task, main
from openai import AsyncOpenAI, DefaultAioHttpClient
from openai_httpx import MAX_RETRIES, draw, path_of, rows


async def with_aiohttp(task: Task) -> None:
    async with AsyncOpenAI(
        base_url=task.base_url,
        api_key="none",
        max_retries=MAX_RETRIES,
        timeout=600,
        http_client=DefaultAioHttpClient(timeout=600),
    ) as client:
        await draw(task, client)


if __name__ == "__main__":
    main(lambda task: asyncio.run(with_aiohttp(task)), rows, lambda task: [path_of(task)])
