"""Samples from any OpenAI-compatible server: vLLM, SGLang, llama.cpp, TGI, OpenAI, DeepSeek, OpenRouter.

    engine = EndpointEngine.open(["http://a:8000/v1", "http://b:8000/v1"], name="deepseek-r1", ...)
    for sample in engine.sample(requests): ...

The server applies its own chat template, so `render` gives the message as it is, and the fingerprint is of the served
name and `extra_body`, not of the address: a run goes on at another port. Thousands of streams run in one event loop in
a thread of their own, so that a slow consumer (verifying, committing) stalls none of them; requests are taken from the
iterable in the consumer's thread, a few ahead of the free slots. Every request gives a sample, or is recorded in
`report()` with its reason; requests whose answers stay broken end the run with exit code 6 after all others are done.
What came of unfinished completions is yielded in pieces, and a request with a prefix goes on from there.
Not covered: noticing that a server changed its weights under the same name.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from distill.cards import ReasoningFormat, TokenPrice
from distill.engines.base import Drawing, sample_of
from distill.engines.endpoint_continue import Continuation
from distill.engines.endpoint_dialect import RESERVED, Dialect
from distill.engines.endpoint_drive import Driver, NotDrawn, Outcome
from distill.engines.endpoint_http import EndpointClient, normal_url
from distill.engines.endpoint_probe import QUESTION, ProbeReport, probe, served_model
from distill.engines.endpoint_probe_prefix import describe, probe_prefix
from distill.engines.endpoint_stream import position_in_text, thought_and_answer
from distill.engines.endpoint_trace import Drawn
from distill.engines.figures import EngineFigures
from distill.errors import ConfigError, InfrastructureError, TeacherError
from distill.recipes import Endpoint
from distill.records import Sample, SampleRequest, SamplingParams, TracePiece, Unanswered, stable_hash

PAUSE_SECONDS = 0.05
"""Nothing finished for so long: the consumer is told, so that it commits what it holds."""
STARVED_SECONDS = 0.01
"""The same while slots are free and the iterable had nothing to ask for: it is asked again afterwards."""
ROOM_FOR_PROMPT = 16


class EndpointEngine:
    """An engine over one model at one or several addresses; `open` probes them first."""

    def __init__(
        self,
        probes: Sequence[ProbeReport],
        dialect: Dialect,
        continuation: Continuation,
        settings: Endpoint,
        *,
        name: str,
        price: TokenPrice | None = None,
    ):
        self.model, self.probes = name, tuple(probes)
        self.can_continue = continuation.works
        self.fingerprint = stable_hash("endpoint", dialect.model, settings.extra_body, length=16)
        self._dialect, self._continuation, self._settings, self._price = dialect, continuation, settings, price
        self._not_drawn: list[NotDrawn] = []
        self._rest: list[Sample | TracePiece] = []
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
        reports, dialect, continuation = asyncio.run(probing)
        engine = cls(reports, dialect, continuation, settings, name=name or dialect.model, price=price)
        if params is not None:
            engine._check_context(params)
        return engine

    @property
    def context_tokens(self) -> int:
        """The shortest context of the replicas; 32,768 where none says."""
        return min((p.context_tokens for p in self.probes if p.context_tokens), default=32768)

    @property
    def continues_answers(self) -> bool:
        """Whether the server goes on from a closed thought, too."""
        return self._continuation.in_answer is not None

    def render(self, user_message: str) -> str:
        """The message itself: the server renders it."""
        return user_message

    def sample(self, requests: Iterable[SampleRequest | None]) -> Iterator[Drawing]:
        """Samples as they finish, pieces of unfinished ones; None where nothing finished for a moment.

        Raises: InfrastructureError when the run cannot go on, and at the end for requests that stayed unanswered.
        """
        failed_before = len(self._not_drawn)
        with self._driver() as driver:
            try:
                yield from self._outcomes(driver, iter(requests))
            except GeneratorExit:
                self._rest += self._left(driver)
                raise
            except BaseException:
                yield from self._left(driver)
                raise
        self._raise_for_broken(self._not_drawn[failed_before:])

    def rest(self) -> list[Sample | TracePiece]:
        """What came before `sample` was left early; empty from then on."""
        rest, self._rest = self._rest, []
        return rest

    def _outcomes(self, driver: Driver, requests: Iterator[SampleRequest | None]) -> Iterator[Drawing]:
        unfinished, is_quiet, is_exhausted = 0, True, False
        while True:
            is_starved = False
            while unfinished < driver.room and not is_exhausted and not is_starved:
                try:
                    request = next(requests)
                except StopIteration:
                    is_exhausted = True
                    break
                if request is None:
                    is_starved = True
                else:
                    driver.submit(request)
                    unfinished += 1
            if not unfinished and is_exhausted:
                return
            if not unfinished:  # nothing can come: the consumer has work to do, or waits
                yield None
                continue
            try:
                outcome = driver.outcomes.get(timeout=STARVED_SECONDS if is_starved else PAUSE_SECONDS)
            except queue.Empty:
                if is_starved or not is_quiet:
                    yield None
                is_quiet = True
                continue
            unfinished -= not isinstance(outcome, list)
            is_quiet = False
            yield from self._items(outcome, driver)

    def _items(self, outcome: Outcome, driver: Driver) -> Iterator[Sample | TracePiece | Unanswered]:
        """What an outcome means to the consumer. Raises: what ends the run."""
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, NotDrawn):
            self._not_drawn.append(outcome)
            yield outcome.unanswered(self.fingerprint)
        elif isinstance(outcome, list):
            yield from (_without_key(piece, driver.without_key) for piece in outcome)
        else:
            yield self._sample_of(outcome, driver.without_key)

    def _left(self, driver: Driver) -> list[Sample | TracePiece]:
        """Stop, and take what had come."""
        driver.stop()
        left: list[Sample | TracePiece] = []
        with contextlib.suppress(queue.Empty):
            while True:
                outcome = driver.outcomes.get_nowait()
                if not isinstance(outcome, BaseException):
                    left += [item for item in self._items(outcome, driver) if not isinstance(item, Unanswered)]
        return left

    def _driver(self) -> Driver:
        self._last_driver = Driver(
            [p.url for p in self.probes],
            self._dialect,
            self._continuation,
            self._settings,
            self.fingerprint,
            tokens_per_piece=max(p.tokens_per_piece for p in self.probes),
        )
        return self._last_driver

    def live(self) -> EngineFigures | None:
        """Slots and failures at this moment; None while nothing is drawn."""
        return self._last_driver.live() if self._last_driver else None

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
        completion, continuation = drawn.completion, self._continuation
        text, reasoning, answer = thought_and_answer(
            completion, continuation.reasoning, field_expected=continuation.splits_reasoning
        )
        return sample_of(
            self,
            drawn.request,
            text=without_key(text),
            reasoning=None if reasoning is None else without_key(reasoning),
            answer=None if answer is None else without_key(answer),
            prompt_tokens=completion.prompt_tokens or 0,
            completion_tokens=drawn.num_tokens,
            finish_reason=completion.finish_reason,
            seconds=drawn.seconds,
            cost_usd=self._cost(drawn.prompt_tokens_paid, drawn.num_tokens),
            splices=tuple(position_in_text(each, completion, continuation.reasoning) for each in drawn.splices),
            note=completion.note,
            logprobs=completion.logprobs,
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
) -> tuple[list[ProbeReport], Dialect, Continuation]:
    """All reports, one dialect that every replica takes, and how all of them go on from a completion."""
    reports: list[ProbeReport] = []
    dialect: Dialect | None = None
    continuation: Continuation | None = None
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
            continuation = await probe_prefix(
                client, report, dialect, settings, params, reasoning, question, continuation
            )
            reports.append(replace(report, continues=describe(continuation, settings)))
    assert dialect is not None and continuation is not None, "at least one --base-url"
    return reports, dialect, continuation


def _without_key(piece: TracePiece, without_key: Callable[[str], str]) -> TracePiece:
    """A key that a server repeats must not reach the disk; one that is cut in two by pieces is not seen."""
    return replace(piece, reasoning=without_key(piece.reasoning), content=without_key(piece.content))
