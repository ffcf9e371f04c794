"""An engine whose completions are known, so that every count of a harvest is known too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.engines.reasoning import split_reasoning
from distill.harvest.asking import Asking
from distill.harvest.policy import Plan
from distill.records import Problem, Sample, SampleRequest, SamplingParams
from distill.store.ledger import Ledger

PARAMS = SamplingParams(0.6, 0.95, 64)


class Arithmetic:
    """Answers 'a+b': index 0 right, 1 wrong, 2 cut off in its thought, 3 without an answer; i+1 tokens each."""

    model, fingerprint, can_continue = "arithmetic", "a0", False

    def __init__(self, stop_after: int | None = None):
        self.drawn: list[SampleRequest] = []
        self.stop_after = stop_after

    def render(self, user_message: str) -> str:
        return f"<user>{user_message}<assistant>"

    def sample(self, requests: Iterable[SampleRequest | None]) -> Iterator[Sample | None]:
        for request in requests:
            if request is None:
                yield None
                continue
            if self.stop_after is not None and len(self.drawn) >= self.stop_after:
                raise KeyboardInterrupt
            self.drawn.append(request)
            yield self._sample(request)

    def _sample(self, request: SampleRequest) -> Sample:
        left, right = request.prompt.removeprefix("<user>").removesuffix("<assistant>").split("+")
        answer = f"<think>\nsum\n</think>\n\n\\boxed{{{int(left) + int(right) + request.index}}}"
        text = [answer, answer, "<think>\nlet me", "<think>\nsum\n</think>\n\n"][request.index]
        reasoning, answered = split_reasoning(text)
        return Sample(
            key=request.key(self.fingerprint), model=self.model, model_fingerprint=self.fingerprint,
            problem_id=request.problem_id, prompt_hash=request.prompt_hash, index=request.index, seed=request.seed,
            params=request.params.to_dict(), text=text, reasoning=reasoning, answer=answered, prompt_tokens=3,
            completion_tokens=request.index + 1, finish_reason="length" if request.index == 2 else "stop",
            seconds=0.1, cost_usd=None, created_at="2026-01-01T00:00:00+00:00",
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is held."""


def make_problems(count: int, prefix: str = "p") -> list[Problem]:
    return [
        Problem(
            id=f"{prefix}{number}", prompt=f"{number}+1", answer=str(number + 1), verifier="exact",
            family="even" if number % 2 == 0 else "odd", domain="sums", source="test", licence="mit",
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture
def engine():
    return Arithmetic


@pytest.fixture
def problems():
    return make_problems


@pytest.fixture
def asking_of():
    """What is asked of the arithmetic engine's problems: four samples each, unless the plan is changed."""

    def make(fingerprint: str = Arithmetic.fingerprint, **plan: Any) -> Asking:
        values = {"most": 4, "rungs": (PARAMS.max_new_tokens,)} | plan
        return Asking(Plan(**values), PARAMS, 5, fingerprint, Arithmetic().render)

    return make


@pytest.fixture
def settings(asking_of):
    return {"asking": asking_of(), "verify_workers": 1}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db", create=True) as opened:
        yield opened
