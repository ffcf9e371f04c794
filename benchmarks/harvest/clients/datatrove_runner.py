"""datatrove's `InferenceRunner` with an endpoint, chunks of 100 rows and checkpoints, as its documentation resumes.

At 127.0.0.1 datatrove sends requests over a bare socket; at any other address it uses the openai package, which is what
`datatrove_remote.py` measures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interface import Row, Task, jsonl, main, messages

RECORDS_PER_CHUNK = 100


def chunks(task: Task) -> list[Path]:
    return sorted((task.folder / "rows").glob("*.jsonl"))


def read(row: dict[str, Any]) -> Row | None:
    results = row["metadata"]["rollout_results"]
    if not results or "text" not in results[0]:
        return None
    return int(row["id"]), results[0].get("reasoning"), results[0]["text"]


def rows(task: Task, unreadable: Counter[str]) -> Iterable[Row]:
    for path in chunks(task):
        yield from jsonl(path, read, unreadable)


def torn(task: Task) -> list[Path]:
    return [*chunks(task), *sorted((task.folder / "checkpoints").rglob("*.jsonl"))]


def draw(task: Task) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.writers import JsonlWriter

    async def rollout(document: Any, generate: Any) -> dict[str, Any]:
        result = await generate({"messages": messages(document.text), "max_tokens": task.max_tokens})
        return {"text": result.text, "reasoning": getattr(result, "reasoning", None), "finish": result.finish_reason}

    url = task.base_url.removesuffix("/v1") if "//127.0.0.1:" in task.base_url else task.base_url
    config = InferenceConfig(
        server_type="endpoint",
        model_name_or_path=task.model,
        endpoint_url=url,
        api_key="none",
        max_concurrent_generations=task.in_flight,
        rollouts_per_document=1,
        request_timeout=600,
    )
    runner = InferenceRunner(
        rollout_fn=rollout,
        config=config,
        output_writer=JsonlWriter(
            str(task.folder / "rows"), output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None
        ),
        checkpoints_local_dir=str(task.folder / "checkpoints"),
        records_per_chunk=RECORDS_PER_CHUNK,
    )
    runner.run(Document(text=prompt, id=str(number)) for number, prompt in task.prompts())


if __name__ == "__main__":
    main(draw, rows, torn)
