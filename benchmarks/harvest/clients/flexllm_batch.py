"""flexllm's `LLMClient.chat_batch` with `output_jsonl`, its way of batch work with resume."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interface import Row, Task, jsonl, main, messages


def path_of(task: Task) -> Path:
    return task.folder / "rows.jsonl"


def rows(task: Task, unreadable: Counter[str]) -> Iterable[Row]:
    numbers = [number for number, _ in task.prompts()]

    def read(row: dict[str, Any]) -> Row | None:
        if row["status"] != "success":
            return None
        return numbers[row["index"]], _reasoning(row), row["output"]

    return jsonl(path_of(task), read, unreadable)


def _reasoning(row: dict[str, Any]) -> str | None:
    result = row.get("result") or {}
    return row.get("reasoning_content") or (result.get("reasoning_content") if isinstance(result, dict) else None)


async def draw(task: Task) -> None:
    from flexllm import LLMClient

    async with LLMClient(
        model=task.model, base_url=task.base_url, api_key="none", concurrency_limit=task.in_flight, timeout=600
    ) as client:
        await client.chat_batch(
            [messages(prompt) for _, prompt in task.prompts()],
            output_jsonl=str(path_of(task)),
            show_progress=False,
            max_tokens=task.max_tokens,
        )


if __name__ == "__main__":
    main(lambda task: asyncio.run(draw(task)), rows, lambda task: [path_of(task)])
