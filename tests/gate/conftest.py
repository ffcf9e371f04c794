"""Evaluation results made from counts, without sampling; and a real server with an engine on it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.cards import ReasoningFormat
from distill.engines.endpoint import EndpointEngine
from distill.evaluate.result import EvalResult, Item, TaskResult
from distill.recipes import Endpoint
from distill.records import Problem, SamplingParams
from distill.store.ledger import Ledger


def make_result(
    num_correct: Sequence[int], *, k: int = 4, model: str = "student", task: str = "tiny", **changes: Any
) -> EvalResult:
    """`changes` are fields of every item."""
    items = []
    for number, count in enumerate(num_correct):
        item = Item(
            problem_id=f"p{number}",
            family="sums",
            outcomes=("correct",) * count + ("wrong",) * (k - count),
            answers=("1",) * count + ("2",) * (k - count),
            completion_tokens=(10,) * k,
            sample_keys=tuple(f"{model}-{number}-{index}" for index in range(k)),
            num_distinct_texts=k,
            num_distinct_seeds=k,
        )
        items.append(replace(item, **changes))
    return EvalResult(
        model=model,
        model_fingerprint=model,
        params={"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 64},
        run_seed=0,
        tasks={task: TaskResult(task, 1.0, k, len(items), tuple(items))},
        samples_drawn=0,
        samples_reused=0,
        seconds=0.0,
    )


@pytest.fixture(scope="session")
def result_of():
    return make_result


SERVER = Path(__file__).resolve().parents[1] / "engines" / "misbehaving_server.py"
PARAMS = SamplingParams(0.6, 0.95, 64)


class Server:
    def __init__(self, **settings):
        command = [sys.executable, str(SERVER), json.dumps({"seconds": 0.01, **settings})]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data=data, timeout=30) as reply:
            return json.load(reply)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_server():
    started = []

    def start(**settings):
        started.append(Server(**settings))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def open_at(monkeypatch):
    monkeypatch.setattr("distill.engines.endpoint_retry.FIRST_BACKOFF_SECONDS", 0.05)

    def open_engine(server, **settings):
        given = {"idle_seconds": 0.6, "first_token_seconds": 3.0, "give_up_seconds": 4.0, "max_attempts": 1, **settings}
        return EndpointEngine.open(
            [f"http://127.0.0.1:{server.port}/v1"], name="t", served=None, settings=Endpoint(**given), params=PARAMS,
            reasoning=ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False),
        )  # fmt: skip

    return open_engine


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db", create=True) as opened:
        yield opened


def make_problems(number, num_wrong=0, prompt="What is {at} + 4?"):
    """Sums; the first `num_wrong` have a gold answer that the server does not give."""
    return {
        f"p{at:02d}": Problem(
            id=f"p{at:02d}", prompt=prompt.format(at=at), answer=str(at + 4 + (at < num_wrong)), verifier="math",
            family="sums", domain="math", source="test", licence="none",
        )
        for at in range(number)
    }  # fmt: skip


@pytest.fixture(scope="session")
def problems_of():
    return make_problems
