"""curator's `LLM` over an OpenAI-compatible backend, its rate limits lifted, its cache in the task's folder.

It fetches a tiktoken vocabulary when it starts; the stand-in counts four characters a token. Rows are what a reader of
its response files gets, and at the end of a run the dataset holds the same.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interface import Row, Task, jsonl, main, reasoning_in


class FourCharactersAToken:
    """In the place of tiktoken's encoding."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [0] * (len(text) // 4 + 1)


def response_files(task: Task) -> list[Path]:
    return sorted((task.folder / "cache").rglob("responses_*.jsonl"))


def rows(task: Task, unreadable: Counter[str]) -> Iterable[Row]:
    def read(row: dict[str, Any]) -> Row | None:
        if row.get("response_errors") or not row.get("raw_response"):
            return None
        message = row["raw_response"]["choices"][0]["message"]
        return row["generic_request"]["original_row"]["number"], reasoning_in(message), message["content"]

    for path in response_files(task):
        yield from jsonl(path, read, unreadable)


def draw(task: Task) -> None:
    os.environ["TELEMETRY_ENABLED"] = "false"
    os.environ["OPENAI_API_KEY"] = "none"
    os.environ["HF_DATASETS_CACHE"] = str(task.folder / "datasets")
    os.environ["CURATOR_CACHE_DIR"] = str(task.folder / "metadata")
    if task.stubs:
        import tiktoken

        tiktoken.get_encoding = lambda name: FourCharactersAToken()
    from bespokelabs import curator
    from datasets import Dataset

    class Traces(curator.LLM):
        return_completions_object = True

        def prompt(self, row: dict[str, Any]) -> str:
            return row["problem"]

        def parse(self, row: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
            message = response["choices"][0]["message"]
            return {"number": row["number"], "reasoning": reasoning_in(message), "content": message["content"]}

    teacher = Traces(
        model_name=task.model,
        backend="openai",
        backend_params={
            "base_url": task.base_url,
            "max_requests_per_minute": 10**7,
            "max_tokens_per_minute": 10**10,
            "max_concurrent_requests": task.in_flight,
            "seconds_to_pause_on_rate_limit": 1,
            "max_retries": 10,
            "require_all_responses": False,
        },
        generation_params={"max_tokens": task.max_tokens},
    )
    dataset = Dataset.from_list([{"number": number, "problem": prompt} for number, prompt in task.prompts()])
    teacher(dataset, working_dir=str(task.folder / "cache"))


if __name__ == "__main__":
    main(draw, rows, response_files)
