"""distilabel's pipeline with `TextGeneration` over `OpenAILLM`, a batch as large as the slots, its cache on.

It keeps `content` only. Rows are what the finished pipeline wrote.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from interface import Row, Task, main


def saved(task: Task) -> Path:
    return task.folder / "distiset"


def rows(task: Task, unreadable: Counter[str]) -> Iterable[Row]:
    if not saved(task).exists():
        return
    from distilabel.distiset import Distiset

    for row in Distiset.load_from_disk(saved(task))["default"]["train"]:
        if row["generation"] is not None:
            yield row["number"], None, row["generation"]


def draw(task: Task) -> None:
    os.environ["HF_HOME"] = str(task.folder / "hub")
    os.environ["HF_DATASETS_CACHE"] = str(task.folder / "datasets")
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    data = [{"number": number, "instruction": prompt} for number, prompt in task.prompts()]
    with Pipeline(name="traces", cache_dir=task.folder / "cache") as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=task.in_flight)
        teacher = OpenAILLM(
            model=task.model,
            base_url=task.base_url,
            api_key="none",
            timeout=600,
            max_retries=10,
            generation_kwargs={"max_new_tokens": task.max_tokens},
        )
        load >> TextGeneration(llm=teacher, input_batch_size=task.in_flight)
    pipeline.run(use_cache=True).save_to_disk(saved(task))


if __name__ == "__main__":
    main(draw, rows)
