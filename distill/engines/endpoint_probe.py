"""Pre-flight: what an endpoint can do, asked with a few short requests before anything is spent on it.

    report, dialect = await probe(client, url, dialect, settings, params, reasoning, question=problem.prompt, ...)
    print(report)

A streamed request shows the reasoning field, the closed tag, usage and log-probabilities; the same request again shows
whether the seed is honoured (an equal text proves it only in so far as the text is long); one with n=2 shows whether
that is supported; `/models` shows the context length. Settings that a server refuses are left out (`seed`,
`stream_options`) or renamed (`max_completion_tokens`). It refuses where reasoning would be lost: none came, tokens were
counted that never came, or nothing marks where the thought ends, in three samples of three. A harvest asks one of its
own problems, since a small model may think of nothing else.
Not covered: whether the server goes on from a prefix (`endpoint_probe_prefix.py`), and has the weights its name says.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, replace
from typing import Any

from distill.cards import ReasoningFormat
from distill.engines.endpoint_dialect import Call, Dialect
from distill.engines.endpoint_http import EndpointClient
from distill.engines.endpoint_retry import EndpointFailure
from distill.engines.endpoint_stream import REASONING_FIELDS, Completion, thought_and_answer
from distill.errors import InfrastructureError, TeacherError
from distill.recipes import Endpoint
from distill.records import SamplingParams

QUESTION = "What is 23 * 45? Think step by step, then give the final answer within \\boxed{}."
MOST_PROBE_TOKENS = 2048
SEED = 20261123
TRIES_FOR_REASONING = 3
HIDDEN_TOKENS = 64  # so many more tokens counted than pieces received cannot be several tokens in a piece
CONTEXT_FIELDS = ("max_model_len", "context_length", "max_context_length", "context_window")


@dataclass(frozen=True)
class ProbeReport:
    """What the probe saw; None is 'could not be told'."""

    url: str
    model: str
    reasoning: str | None  # "reasoning", "reasoning_content", "text", "text opened by the prompt", or none came
    closed: bool | None
    usage: bool
    seed_honoured: bool | None
    n: bool | None
    logprobs: bool
    context_tokens: int | None
    system_fingerprint: str | None
    completion_tokens: int
    tokens_per_piece: float = 1.0
    continues: str = "not asked"  # in which cases, and in which form (`endpoint_continue.py`)

    @property
    def splits_reasoning(self) -> bool:
        """Whether the thought comes in a field of its own."""
        return self.reasoning in REASONING_FIELDS

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        said = {None: "cannot tell", True: "yes", False: "no"}
        return (
            f"probe {self.url}: model {self.model}, reasoning: {self.reasoning or 'none came'}, "
            f"closed {said[self.closed]}, usage {said[self.usage]}, seed honoured {said[self.seed_honoured]}, "
            f"n {said[self.n]}, logprobs {said[self.logprobs]}, context {self.context_tokens or 'cannot tell'}, "
            f"continues: {self.continues}"
        )


async def served_model(client: EndpointClient, url: str, wanted: str | None, card_model: str) -> tuple[str, int | None]:
    """(name to ask for, context length or None). Raises: TeacherError, InfrastructureError."""
    try:
        listed = {str(entry.get("id")): entry for entry in await client.models(url)}
    except EndpointFailure as failure:
        raise refusal(url, failure) from None
    name = wanted or (card_model if card_model in listed else None)
    if name is None and len(listed) == 1:
        name = next(iter(listed))
    if name is None or (listed and name not in listed and wanted is None):
        shown = ", ".join(sorted(listed)[:8]) or "no list of models"
        raise TeacherError(f"{url}: serves {shown}; say which to sample with --model NAME.")
    entry = listed.get(name, {})
    found = next((entry[field] for field in CONTEXT_FIELDS if isinstance(entry.get(field), int)), None)
    return name, found


async def probe(
    client: EndpointClient,
    url: str,
    dialect: Dialect,
    settings: Endpoint,
    params: SamplingParams,
    reasoning: ReasoningFormat,
    *,
    question: str,
    context_tokens: int | None,
    require_reasoning: bool,
) -> tuple[ProbeReport, Dialect]:
    """The report, and the dialect that the server takes. Raises: TeacherError, InfrastructureError."""
    longest = min(MOST_PROBE_TOKENS, params.max_new_tokens, (context_tokens or 8192) // 2)
    short = replace(params, max_new_tokens=longest)
    asked = settings.model_copy(update={"top_logprobs": settings.top_logprobs or 1})
    seed = SEED
    first, dialect = await _first(client, url, dialect, asked, short, question, seed)
    while require_reasoning and (lost := _lost_reasoning(first, reasoning)):
        if seed == SEED + TRIES_FOR_REASONING - 1:
            raise TeacherError(f"{url}: reasoning would be lost: {lost}")
        seed += 1  # a model may skip its thought, or fail to close it, once
        first, dialect = await _first(client, url, dialect, asked, short, question, seed)
    tiny = dialect.call(url, question, replace(params, max_new_tokens=min(8, longest)), seed, settings)
    again, takes_two = await asyncio.gather(
        _try(client, dialect.call(url, question, short, seed, asked)), _takes_two(client, tiny)
    )
    is_same = None if again is None else _texts(first) == _texts(again)
    report = ProbeReport(
        url=url,
        model=dialect.model,
        reasoning=_where(first, reasoning),
        closed=_closed(first, reasoning),
        usage=first.completion_tokens is not None,
        seed_honoured=is_same if dialect.takes_seed else False,
        n=takes_two,
        logprobs=bool(first.logprobs),
        context_tokens=context_tokens,
        system_fingerprint=first.system_fingerprint,
        completion_tokens=first.completion_tokens or first.num_pieces,
        tokens_per_piece=max(1.0, (first.completion_tokens or 0) / max(1, first.num_pieces)),
    )
    return report, dialect


async def _first(
    client: EndpointClient,
    url: str,
    dialect: Dialect,
    settings: Endpoint,
    params: SamplingParams,
    question: str,
    seed: int,
) -> tuple[Completion, Dialect]:
    """A completion; what the server does not take is left out, what is broken is asked again."""
    tries = settings.max_attempts
    while True:
        try:
            return await client.complete(dialect.call(url, question, params, seed, settings)), dialect
        except EndpointFailure as failure:
            if (simpler := dialect.without(failure)) is not None:
                dialect = simpler
                continue
            tries -= 1
            if failure.action in ("give_up", "stop") or failure.kind == "unreachable" or tries <= 0:
                raise refusal(url, failure) from None
            await asyncio.sleep(min(failure.retry_after or 0.2, 5.0))


async def _try(client: EndpointClient, call: Call) -> Completion | None:
    try:
        return await client.complete(call)
    except EndpointFailure:
        return None


async def _takes_two(client: EndpointClient, call: Call) -> bool | None:
    """Whether two choices come when two are asked for; distill itself asks for one, each has its own seed."""
    try:
        await client.complete(replace(call, body={**call.body, "n": 2}))
    except EndpointFailure as failure:
        return {"wrong_n": True, "rejected": False}.get(failure.kind)
    return False


def _texts(completion: Completion) -> tuple[str, str]:
    return completion.reasoning, completion.content


def _where(completion: Completion, reasoning: ReasoningFormat) -> str | None:
    if completion.reasoning:
        return completion.reasoning_field
    if reasoning.open_marker in completion.content:
        return "text"
    if reasoning.close_marker in completion.content:
        return "text opened by the prompt"
    return None


def _closed(completion: Completion, reasoning: ReasoningFormat) -> bool | None:
    """Whether the thought ended; None where the completion was cut before it could."""
    _, thought, answer = thought_and_answer(completion, reasoning, field_expected=bool(completion.reasoning))
    if thought is not None and answer is None:
        return None if completion.finish_reason == "length" else False
    return thought is not None


def _lost_reasoning(completion: Completion, reasoning: ReasoningFormat) -> str | None:
    """How this completion's reasoning was lost, and what to do; None where it was not."""
    where, cut = _where(completion, reasoning), completion.finish_reason == "length"
    hidden = (completion.completion_tokens or 0) - completion.num_pieces
    counted = completion.reasoning_tokens or 0
    if where is None and (counted or (hidden > HIDDEN_TOKENS and hidden > 16 * completion.num_pieces)):
        return (
            f"the server counted {counted or hidden} tokens that it did not send. Allow it to send `reasoning` or "
            "`reasoning_content`, or serve the model without a filter."
        )
    if where is None and cut and reasoning.opened_by_prompt:
        return None  # a thought that the prompt opened and the limit cut
    if where is None:
        return (
            f"no `reasoning`, no `reasoning_content`, no {reasoning.close_marker} in the text of "
            f"{completion.num_pieces} pieces. Start the server with its reasoning parser, or switch thinking on with "
            "--set endpoint.extra_body."
        )
    if _closed(completion, reasoning) is False:
        return (
            f"{reasoning.open_marker} came and {reasoning.close_marker} did not, though the model stopped. The server "
            "may strip it (skip_special_tokens): start it with its reasoning parser."
        )
    return None


def refusal(url: str, failure: EndpointFailure) -> TeacherError | InfrastructureError:
    """The error that a failure before the start becomes."""
    if failure.kind == "unauthorised":
        return InfrastructureError(
            f"{url}: {failure.detail}. Set the key in DISTILL_API_KEY, or in what endpoint.api_key_env names."
        )
    if failure.kind in ("rejected", "not_found", "redirected"):
        return TeacherError(f"{url}: {failure.detail}. Check --base-url and --model.")
    return InfrastructureError(f"{url}: {failure}. Nothing was spent; start the server or wait, and run this again.")
