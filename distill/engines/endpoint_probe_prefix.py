"""Pre-flight: whether a server goes on from a completion that is already there, and in which form.

    continuation = await probe_prefix(client, report, dialect, settings, params, reasoning, question)

One completion is drawn without randomness, cut in the middle of its thought, and the server is asked to go on, form by
form (`endpoint_continue.py`): the form that gives the very text that followed is taken. A template that drops the
thought, a server that starts again or answers a new turn gives another text. The same is done in the middle of the
answer.
Where several replicas serve, what works at the first must work at all. A completion whose thought does not end within
`MOST_TOKENS` says nothing of answers: then only thoughts are gone on from.
Not covered: that the model's own randomness continues; the tail of a continued completion has a stream of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from distill.cards import ReasoningFormat
from distill.engines.endpoint_continue import FORMS, Case, Continuation, Form, cut
from distill.engines.endpoint_dialect import Dialect
from distill.engines.endpoint_http import EndpointClient
from distill.engines.endpoint_probe import ProbeReport
from distill.engines.endpoint_retry import EndpointFailure
from distill.engines.endpoint_stream import Completion, StreamedCompletion
from distill.recipes import Endpoint
from distill.records import PartialTrace, SampleRequest, SamplingParams

MOST_TOKENS = 1024
TAIL_TOKENS = 24
SAME_CHARACTERS = 24
"""So many characters after the cut must be the same; fewer only where the text ends before."""
LEAST_CHARACTERS = 8


async def probe_prefix(
    client: EndpointClient,
    report: ProbeReport,
    dialect: Dialect,
    settings: Endpoint,
    params: SamplingParams,
    reasoning: ReasoningFormat,
    question: str,
    before: Continuation | None = None,
) -> Continuation:
    """How this server goes on; `before` is what the other replicas do, of which nothing else is tried."""
    found = Continuation(reasoning, report.splits_reasoning)
    if settings.continue_partial == "never" or (before is not None and not before.works):
        return found
    longest = min(MOST_TOKENS, params.max_new_tokens)
    request = SampleRequest("probe", question, 0, replace(params, temperature=0.0, max_new_tokens=longest))
    plain = settings.model_copy(update={"top_logprobs": 0})
    try:
        whole = await client.complete(dialect.call(report.url, question, request.params, request.seed, plain))
    except EndpointFailure:
        return found
    tried = _Trial(client, report.url, dialect, plain, request, found)
    last: Form | None = None
    for number, (case, prefix, rest) in enumerate(_cuts(whole, found)):
        if number and last is None:
            break  # a server that cannot go on from a thought is not asked in seven ways about answers
        known = last if before is None else before.form_in(case)
        forms = [known] if known is not None else []
        if before is None:
            forms += [form for form in FORMS if form != known]
        last = await tried.first_that_goes_on(case, forms, prefix, rest)
        found = found.with_form(case, last)
    return found


def describe(continuation: Continuation, settings: Endpoint) -> str:
    """For people: "thoughts (completions), answers (completions)"."""
    if settings.continue_partial == "never":
        return "switched off"
    named = (("thoughts", continuation.in_thought), ("answers", continuation.in_answer))
    return ", ".join(f"{case} ({form})" for case, form in named if form is not None) or "no"


class _Trial:
    """One server asked to go on in one form after the other."""

    def __init__(
        self,
        client: EndpointClient,
        url: str,
        dialect: Dialect,
        settings: Endpoint,
        request: SampleRequest,
        continuation: Continuation,
    ):
        self._client, self._url, self._dialect, self._settings = client, url, dialect, settings
        self._request, self._continuation = request, continuation

    async def first_that_goes_on(
        self, case: Case, forms: Sequence[Form], prefix: PartialTrace, rest: str
    ) -> Form | None:
        """The first of the forms, all asked at the same time, that gives what follows."""
        asked = [self._goes_on(self._continuation.with_form(case, form), prefix, rest) for form in forms]
        found = await asyncio.gather(*asked)
        return next((form for form, goes_on in zip(forms, found, strict=True) if goes_on), None)

    async def _goes_on(self, continuation: Continuation, prefix: PartialTrace, rest: str) -> bool:
        params = replace(self._request.params, max_new_tokens=prefix.num_tokens + TAIL_TOKENS)
        request = replace(self._request, params=params)
        marker = continuation.reasoning.close_marker
        try:
            call = await continuation.call(self._client, self._url, self._dialect, self._settings, request, prefix)
            tail = await self._client.complete(call, StreamedCompletion(call.channel, close_marker=marker))
        except EndpointFailure:
            return False
        said = (tail.reasoning + tail.content).strip()
        expected = rest.strip()[:SAME_CHARACTERS]
        same = min(len(said), len(expected))
        return same >= min(LEAST_CHARACTERS, len(expected)) and said[:same] == expected[:same]


def _cuts(whole: Completion, continuation: Continuation) -> list[tuple[Case, PartialTrace, str]]:
    """(case, what is there, what follows) for the middle of the thought and of the answer, where there is one."""
    num_tokens = whole.completion_tokens or whole.num_pieces
    partial = PartialTrace("probe", whole.reasoning, whole.content, max(2, num_tokens))
    if partial.reasoning:
        first_of_answer = len(partial.reasoning) + len(partial.content) - len(partial.content.lstrip())
        end_of_thought = len(partial.reasoning)
    else:
        marker = continuation.reasoning.close_marker
        at = partial.content.find(marker)
        end_of_thought = at if at >= 0 else len(partial.content)
        after = partial.content[at + len(marker) :] if at >= 0 else ""
        first_of_answer = len(partial.content) - len(after.lstrip())
    text = partial.reasoning + partial.content
    middles: tuple[tuple[Case, int, int], ...] = (
        ("in_thought", _border(text, 0, end_of_thought), end_of_thought),
        ("in_answer", _border(text, first_of_answer, len(text)), len(text)),
    )
    found: list[tuple[Case, PartialTrace, str]] = []
    for case, middle, end in middles:
        prefix = cut(partial, middle)
        is_case = continuation.is_in_thought(prefix) == (case == "in_thought")
        if middle and is_case and len(text[middle:end].strip()) >= 2:
            found.append((case, prefix, text[middle:end]))
    return found


def _border(text: str, start: int, end: int) -> int:
    """The end of a word near the middle of a stretch (tokens rarely cross it); 0 where the stretch is too short."""
    if end - start < 4:
        return 0
    middle = (start + end) // 2
    at = next((at for at in range(middle, end - 1) if text[at].isspace() and not text[at - 1].isspace()), middle)
    return at if at > start else middle
