"""This toolkit as a library: the endpoint engine and the ledger in one process, nothing verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from interface import Row, Task, main

FORMAT = {"open_marker": "<think>", "close_marker": "</think>", "opened_by_prompt": False}


def ledger_path(task: Task) -> Path:
    return task.folder / "ledger.db"


def ledger_rows(path: Path) -> Iterable[Row]:
    from distill.store.ledger import Ledger

    if not path.exists():
        return
    with Ledger.open(path) as ledger:
        for sample in ledger.samples():
            yield int(sample.problem_id), sample.reasoning, sample.answer


def rows(task: Task, unreadable: Counter[str]) -> Iterable[Row]:
    return ledger_rows(ledger_path(task))


def torn(task: Task) -> list[Path]:
    return [Path(f"{ledger_path(task)}-wal")]


def draw(task: Task) -> None:
    from distill.cards import ReasoningFormat
    from distill.engines.base import sample_through_ledger
    from distill.engines.endpoint import EndpointEngine
    from distill.recipes import Endpoint
    from distill.records import SampleRequest, SamplingParams
    from distill.store.ledger import Ledger

    params = SamplingParams(0.6, 0.95, task.max_tokens)
    engine = EndpointEngine.open(
        [task.base_url],
        name=None,
        served=None,
        reasoning=ReasoningFormat(**FORMAT),
        settings=Endpoint(max_in_flight=task.in_flight, save_partial_seconds=task.save_partial_seconds),
        params=params,
        question=task.prompts()[0][1],
    )
    requests = [SampleRequest(str(number), prompt, 0, params, 1) for number, prompt in task.prompts()]
    with Ledger.open(ledger_path(task), create=True) as ledger:
        for _ in sample_through_ledger(engine, ledger, requests):
            pass


if __name__ == "__main__":
    main(draw, rows, torn)
