"""Samples from any OpenAI-compatible server: vLLM, SGLang, llama.cpp, TGI, OpenAI, DeepSeek, OpenRouter.

    engine = EndpointEngine.open(["http://a:8000/v1", "http://b:8000/v1"], name="deepseek-r1", ...)
    for sample in engine.sample(requests): ...

The server applies its own chat template, so `render` gives the message as it is, and the fingerprint is of the served
name and `extra_body`, not of the address: a run goes on at another port. Thousands of streams run in one event loop in
a thread of their own, so that a slow consumer (verifying, committing) stalls none of them; requests are taken from the
iterable in the consumer's thread, a few ahead of the free slots. Every request gives a sample, or is recorded in
`report()` with its reason; requests whose answers stay broken end the run with exit code 6 after all others are done.
Not covered: persisting half a trace; noticing that a server changed its weights under the same name.
"""

from __future__ import annotations

import asyncio
import queue
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from distill.cards import ReasoningFormat, TokenPrice
from distill.engines.base import Drawing
from distill.engines.endpoint_dialect import RESERVED, Dialect
from distill.engines.endpoint_drive import Drawn, Driver, NotDrawn
from distill.engines.endpoint_http import EndpointClient, normal_url
from distill.engines.endpoint_probe import QUESTION, ProbeReport, probe, served_model
from distill.engines.endpoint_stream import thought_and_answer
from distill.errors import ConfigError, InfrastructureError, TeacherError
from distill.recipes import Endpoint
from distill.records import Sample, SampleRequest, SamplingParams, stable_hash

PAUSE_SECONDS = 0.05
"""Nothing finished for so long: the consumer is told, so that it commits what it holds, and may ask for more."""
END = object()
ROOM_FOR_PROMPT = 16
Logprobs = Callable[[str, Sequence[dict[str, Any]]], None]


class EndpointEngine:
    """An engine over one model at one or several addresses; `open` probes them first."""

    def __init__(
        self,
        probes: Sequence[ProbeReport],
        dialect: Dialect,
        settings: Endpoint,
        *,
        name: str,
        reasoning: ReasoningFormat,
        price: TokenPrice | None = None,
        on_logprobs: Logprobs | None = None,
    ):
        self.model, self.probes, self.can_continue = name, tuple(probes), False
        self.fingerprint = stable_hash("endpoint", dialect.model, settings.extra_body, length=16)
        self._dialect, self._settings = dialect, settings
        self._reasoning, self._price, self._on_logprobs = reasoning, price, on_logprobs
        self._field_expected = any(p.reasoning in ("reasoning", "reasoning_content") for p in probes)
        self._not_drawn: list[NotDrawn] = []
        self._last_driver: Driver | None = None

    @classmethod
    def open(
        cls,
        base_urls: Sequence[str],
        *,
        name: str | None,
        served: str | None,
        card_model: str = "",
        reasoning: ReasoningFormat,
        settings: Endpoint,
        params: SamplingParams | None,
        price: TokenPrice | None = None,
        require_reasoning: bool = True,
        question: str = QUESTION,
    ) -> EndpointEngine:
        """Probe every address and make the engine.

        `served` is the name to ask the servers for; None takes `card_model` where it is served, or the only one. The
        probes ask `question` with `params`. Raises: ConfigError, TeacherError (exit 2), InfrastructureError (exit 6).
        """
        urls = list(dict.fromkeys(normal_url(url) for url in base_urls))
        if clash := sorted(set(settings.extra_body) & set(RESERVED)):
            raise ConfigError(f"endpoint.extra_body: {', '.join(clash)}: distill sets this itself; remove it.")
        drawn_as = params or SamplingParams(0.6, 0.95, 1024)
        probing = _probe_all(urls, served, card_model, settings, drawn_as, reasoning, require_reasoning, question)
        reports, dialect = asyncio.run(probing)
        engine = cls(reports, dialect, settings, name=name or dialect.model, reasoning=reasoning, price=price)
        if params is not None:
            engine._check_context(params)
        return engine

    @property
    def context_tokens(self) -> int:
        """The shortest context of the replicas; 32,768 where none says."""
        return min((p.context_tokens for p in self.probes if p.context_tokens), default=32768)

    def render(self, user_message: str) -> str:
        """The message itself: the server renders it."""
        return user_message

    def sample(self, requests: Iterable[SampleRequest | None]) -> Iterator[Drawing]:
        """Samples as they finish; None where nothing finished for a moment.

        Raises: InfrastructureError when the run cannot go on, and at the end for requests that stayed unanswered.
        """
        failed_before = len(self._not_drawn)
        waiting, unfinished, is_ended = iter(requests), 0, False
        with Driver([p.url for p in self.probes], self._dialect, self._settings) as driver:
            self._last_driver = driver
            while True:
                while not is_ended and unfinished < driver.room:
                    request = next(waiting, END)
                    if request is None:
                        break
                    if isinstance(request, SampleRequest):
                        driver.submit(request)
                        unfinished += 1
                    else:
                        is_ended = True
                if is_ended and not unfinished:
                    break
                try:
                    outcome = driver.outcomes.get(timeout=PAUSE_SECONDS)
                except queue.Empty:
                    yield None
                    continue
                if isinstance(outcome, BaseException):
                    raise outcome
                unfinished -= 1
                if isinstance(outcome, NotDrawn):
                    self._not_drawn.append(outcome)
                    yield outcome.unanswered(self.fingerprint)
                    continue
                yield self._sample_of(outcome, driver.without_key)
        self._raise_for_broken(self._not_drawn[failed_before:])

    def report(self) -> dict[str, Any]:
        """Probes, failures by kind, requests that gave no sample (the first 100), occupancy; JSON-clean."""
        driver = self._last_driver
        return {
            "probes": [p.to_dict() for p in self.probes],
            **(driver.figures() if driver else {}),
            "not_drawn": dict(Counter(each.failure.kind for each in self._not_drawn)),
            "not_drawn_first": [
                {"problem_id": each.request.problem_id, "index": each.request.index, "reason": str(each.failure)}
                for each in self._not_drawn[:100]
            ],
        }

    def close(self) -> None:
        """Nothing is held between calls of `sample`."""

    def _sample_of(self, drawn: Drawn, without_key: Callable[[str], str]) -> Sample:
        request, completion = drawn.request, drawn.completion
        text, reasoning, answer = thought_and_answer(completion, self._reasoning, field_expected=self._field_expected)
        prompt_tokens = completion.prompt_tokens or 0
        num_tokens = completion.num_pieces if completion.completion_tokens is None else completion.completion_tokens
        key = request.key(self.fingerprint)
        if self._on_logprobs is not None and completion.logprobs:
            self._on_logprobs(key, completion.logprobs)
        return Sample(
            key=key,
            model=self.model,
            model_fingerprint=self.fingerprint,
            problem_id=request.problem_id,
            prompt_hash=request.prompt_hash,
            index=request.index,
            seed=request.seed,
            params=request.params.to_dict(),
            text=without_key(text),
            reasoning=None if reasoning is None else without_key(reasoning),
            answer=None if answer is None else without_key(answer),
            prompt_tokens=prompt_tokens,
            completion_tokens=num_tokens,
            finish_reason=completion.finish_reason,
            seconds=round(drawn.seconds, 3),
            cost_usd=self._cost(prompt_tokens, num_tokens),
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    def _cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        if self._price is None:
            return None
        price = self._price
        paid = prompt_tokens * price.usd_per_million_input_tokens
        return (paid + completion_tokens * price.usd_per_million_output_tokens) / 1e6

    def _check_context(self, params: SamplingParams) -> None:
        known = [p.context_tokens for p in self.probes if p.context_tokens]
        if known and params.max_new_tokens + ROOM_FOR_PROMPT > min(known):
            raise TeacherError(
                f"{self.probes[0].url}: max_new_tokens={params.max_new_tokens} leaves no room for a prompt in the "
                f"server's context of {min(known)}; lower max_new_tokens, or serve a longer context."
            )

    def _raise_for_broken(self, not_drawn: Sequence[NotDrawn]) -> None:
        """Rejected requests are only recorded: asking again would change nothing."""
        broken = [each for each in not_drawn if each.failure.action != "give_up"]
        if broken:
            kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(each.failure.kind for each in broken).items())
            raise InfrastructureError(
                f"{self.model}: {len(broken)} requests had no whole answer in {self._settings.max_attempts} attempts "
                f"({kinds}; the last: {broken[-1].failure.detail}). All others are saved; run the same command again."
            )


async def _probe_all(
    urls: Sequence[str],
    served: str | None,
    card_model: str,
    settings: Endpoint,
    params: SamplingParams,
    reasoning: ReasoningFormat,
    require_reasoning: bool,
    question: str,
) -> tuple[list[ProbeReport], Dialect]:
    """All reports, and one dialect that every replica takes."""
    reports: list[ProbeReport] = []
    dialect: Dialect | None = None
    async with EndpointClient(settings, max_connections=len(urls)) as client:
        for url in urls:
            name, context = await served_model(client, url, served or (dialect.model if dialect else None), card_model)
            report, dialect = await probe(
                client,
                url,
                dialect or Dialect(name),
                settings,
                params,
                reasoning,
                question=question,
                context_tokens=context,
                require_reasoning=require_reasoning,
            )
            reports.append(report)
    assert dialect is not None, "at least one --base-url"
    return reports, dialect
