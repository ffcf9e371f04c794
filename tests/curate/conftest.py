"""Trace candidates that every step keeps, to be spoilt one column at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distill.curate.candidates import candidate
from distill.harvest.policy import PassRate
from distill.records import Problem, Sample, Verdict


@pytest.fixture
def problem() -> Callable[..., Problem]:
    def make(number: int = 0, prompt: str | None = None, **changes: Any) -> Problem:
        values: dict[str, Any] = {
            "id": f"p{number}", "prompt": prompt or f"What is {number} plus two?", "answer": str(number + 2),
            "verifier": "exact", "family": "sums", "domain": "mathematics", "source": "written here",
            "licence": "Apache-2.0",
        }  # fmt: skip
        return Problem(**values | changes)

    return make


@pytest.fixture
def sample() -> Callable[..., Sample]:
    def make(number: int = 0, index: int = 0, **changes: Any) -> Sample:
        values: dict[str, Any] = {
            "key": f"key-{number}-{index}", "model": "tiny", "model_fingerprint": "f0", "problem_id": f"p{number}",
            "prompt_hash": "h", "index": index, "seed": index, "params": {"temperature": 0.6, "top_p": 0.95},
            "text": f"<think>\ntry {index}\n</think>\n\n\\boxed{{{number + 2}}}", "reasoning": f"try {index}",
            "answer": f"\\boxed{{{number + 2}}}", "prompt_tokens": 9, "completion_tokens": 12,
            "finish_reason": "stop", "seconds": 0.25, "cost_usd": None, "created_at": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        return Sample(**values | changes)

    return make


@pytest.fixture
def verdict() -> Callable[..., Verdict]:
    def make(number: int = 0, index: int = 0, outcome: Any = "correct", version: str = "1") -> Verdict:
        return Verdict(f"key-{number}-{index}", "exact", version, outcome, float(outcome == "correct"), str(number + 2))

    return make


@pytest.fixture
def row(problem, sample, verdict) -> Callable[..., dict[str, Any]]:
    def make(number: int = 0, index: int = 0, **changes: Any) -> dict[str, Any]:
        row = candidate(problem(number), sample(number, index), verdict(number, index), PassRate(1, 0.75, 0.3, 0.99))
        assert changes.keys() <= row.keys()
        return row | changes

    return make
