"""Makes an engine whose prompts are plain text go on from a text: the text is put behind the prompt.

    engine = TextContinuation(local_engine, reasoning)
    for sample in engine.sample([replace(request, prefix=partial)]): ...      # whole: prefix and what followed

The request that the engine below gets has another prompt, so another seed and key; the sample that comes out has those
of the request that came in. Not covered: endpoints, which render the prompt themselves and have forms of their own
(`engines/endpoint_continue.py`), and pieces of unfinished completions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

from distill.cards import ReasoningFormat
from distill.engines.base import Drawing, Engine, sample_of
from distill.engines.reasoning import split_reasoning
from distill.records import PartialTrace, Sample, SampleRequest, SamplingParams, Unanswered


@runtime_checkable
class ReadsText(Protocol):
    """An engine that reads `request.prompt` as it stands, and knows the model's tokens."""

    def first_tokens(self, text: str, num_tokens: int) -> str:
        """The beginning of a text that its first `num_tokens` tokens make."""


class TextContinuation:
    """An engine over one that reads text; requests with a prefix go on from there."""

    can_continue = True

    def __init__(self, engine: Engine, reasoning: ReasoningFormat) -> None:
        self.model, self.fingerprint = engine.model, engine.fingerprint
        self._engine, self._reasoning = engine, reasoning

    def render(self, user_message: str) -> str:
        return self._engine.render(user_message)

    def sample(self, requests: Iterable[SampleRequest | None]) -> Iterator[Drawing]:
        """Samples as they finish. Tokens count those of the prefix, seconds do not."""
        asked: dict[str, SampleRequest] = {}

        def below() -> Iterator[SampleRequest | None]:
            for request in requests:
                if request is None or request.prefix is None:
                    yield request
                    continue
                inner = self._below(request, request.prefix)
                asked[inner.key(self.fingerprint)] = request
                yield inner

        for item in self._engine.sample(below()):
            request = asked.get(item.key) if isinstance(item, Sample | Unanswered) else None
            if request is None:
                yield item
            elif isinstance(item, Sample):
                yield self._whole(request, item)
            elif isinstance(item, Unanswered):
                yield replace(item, key=request.key(self.fingerprint))

    def close(self) -> None:
        self._engine.close()

    def _below(self, request: SampleRequest, prefix: PartialTrace) -> SampleRequest:
        asked = request.params
        params = SamplingParams(asked.temperature, asked.top_p, asked.max_new_tokens - prefix.num_tokens)
        return replace(request, prompt=request.prompt + self.text_of(prefix), params=params, prefix=None)

    def text_of(self, prefix: PartialTrace) -> str:
        """A closed thought and the beginning of an answer, as the model would have written them."""
        marks = self._reasoning
        opened = "" if marks.opened_by_prompt else f"{marks.open_marker}\n"
        return f"{opened}{prefix.reasoning.strip()}\n{marks.close_marker}\n\n{prefix.content}"

    def _whole(self, request: SampleRequest, drawn: Sample) -> Sample:
        assert request.prefix is not None
        before = self.text_of(request.prefix)
        marks = self._reasoning
        reasoning, answer = split_reasoning(
            before + drawn.text,
            open_marker=marks.open_marker,
            close_marker=marks.close_marker,
            opened_by_prompt=marks.opened_by_prompt,
        )
        return sample_of(
            self,
            request,
            text=before + drawn.text,
            reasoning=reasoning,
            answer=answer,
            prompt_tokens=drawn.prompt_tokens,
            completion_tokens=request.prefix.num_tokens + drawn.completion_tokens,
            finish_reason=drawn.finish_reason,
            seconds=drawn.seconds,
            cost_usd=drawn.cost_usd,
            splices=(len(before),),
        )
