"""Samples, verdicts and rows to store, and small disks that fill up for real."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.records import Sample, Verdict


@pytest.fixture
def sample() -> Callable[..., Sample]:
    def make(number: int, **changes: Any) -> Sample:
        values: dict[str, Any] = {
            "key": f"key-{number}", "model": "tiny", "model_fingerprint": "f0", "problem_id": f"p{number // 4}",
            "prompt_hash": "h", "index": number % 4, "seed": 7, "params": {"temperature": 0.6, "top_p": 0.95},
            "text": "<think>\n2+2\n</think>\n\n\\boxed{4}", "reasoning": "2+2", "answer": "\\boxed{4}",
            "prompt_tokens": 9, "completion_tokens": 12, "finish_reason": "stop", "seconds": 0.25, "cost_usd": None,
            "created_at": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        return Sample(**values | changes)

    return make


@pytest.fixture
def verdict() -> Callable[..., Verdict]:
    def make(number: int, outcome: Any = "correct", version: str = "1", **changes: Any) -> Verdict:
        values: dict[str, Any] = {"verifier": "exact", "score": float(outcome == "correct"), "extracted": "4"}
        return Verdict(sample_key=f"key-{number}", version=version, outcome=outcome, **values | changes)

    return make


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    def make(number: int, **changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "id": f"key-{number}", "problem_id": f"p{number}", "family": "sums", "domain": "mathematics",
            "source": "gym", "licence": "Apache-2.0", "prompt": f"What is {number} + 2?",
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "reasoning": "r", "answer": "\\boxed{4}", "final_answer": "4", "completion": "c", "outcome": "correct",
            "score": 1.0, "verifier": "exact", "verifier_version": "1", "finish_reason": "stop",
            "completion_tokens": 12, "prompt_tokens": 9, "cost_usd": 0.25, "teacher": "tiny",
            "teacher_fingerprint": "f0", "temperature": 0.6, "top_p": 0.95, "seed": 7, "sample_index": 0,
            "splices": [], "attempts": 1, "pass_rate": 0.75, "pass_rate_low": 0.3, "pass_rate_high": 0.99,
        }  # fmt: skip
        return values | changes

    return make


class SmallDisk:
    """A mounted tmpfs of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounting.returncode:
        warnings.warn(f"no disk to fill: mount refused ({mounting.stderr.strip()})", stacklevel=1)
        pytest.skip("mounting a 1 MiB tmpfs was refused: run as root to test a disk that is really full")
    yield SmallDisk(path)
    subprocess.run(["umount", str(path)], check=True, capture_output=True)
