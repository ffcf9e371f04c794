"""An engine that answers from a script: real requests in, real samples out, no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from distill.engines.base import sample_of
from distill.engines.reasoning import split_reasoning
from distill.records import Sample, SampleRequest

Script = Callable[[str, int], str]
"""(user message, index) -> text; a text that ends in "..." was cut off by the token limit."""


class ScriptedEngine:
    """Renders like a chat template and returns what the script says, last request first."""

    model, can_continue = "scripted", False

    def __init__(self, script: Script, *, fingerprint: str = "scripted-1", lose: int = 0) -> None:
        self.script, self.fingerprint, self.lose = script, fingerprint, lose
        self.requests: list[SampleRequest] = []

    def render(self, user_message: str) -> str:
        return f"<user>{user_message}<assistant>"

    def sample(self, requests: Iterable[SampleRequest]) -> Iterator[Sample]:
        asked = list(requests)
        self.requests.extend(asked)
        for request in reversed(asked[self.lose :]):
            message = request.prompt.removeprefix("<user>").removesuffix("<assistant>")
            text = self.script(message, request.index)
            reasoning, answer = split_reasoning(text)
            yield sample_of(
                self,
                request,
                text=text,
                reasoning=reasoning,
                answer=answer,
                prompt_tokens=len(request.prompt.split()),
                completion_tokens=len(text.split()),
                finish_reason="length" if text.endswith("...") else "stop",
                seconds=0.0,
            )

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def scripted_engine():
    """The class: tests make engines of it with their own scripts."""
    return ScriptedEngine
