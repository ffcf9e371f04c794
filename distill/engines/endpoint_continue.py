"""How a server goes on from a completion that is already there: prefix completion, in the dialects servers have.

    continuation = Continuation(reasoning, splits_reasoning=True, in_thought=FORMS[0], in_answer=FORMS[0])
    kept = continuation.usable(partial)                       # what of it can be gone on from; None: start anew
    call = await continuation.call(client, url, dialect, settings, request, kept)

    form                     the request                                                        servers
    completions              /tokenize the chat, append the text, /v1/completions with tokens   vLLM
    continue_final_message   assistant message, add_generation_prompt false                     vLLM, SGLang, TGI
    continue_field           the same, naming reasoning_content or content                      llama.cpp since 2026-05
    prefix                   assistant message, `prefix: true`, reasoning_content apart        DeepSeek (/beta), Mistral
    trailing                 an assistant message at the end, nothing else                      llama.cpp, LMDeploy

Sources: vllm/entrypoints/openai/chat_completion/protocol.py and serve/tokenize/protocol.py (0.32.0); sglang#4226 (the
text follows the generation prompt, so a thought that the prompt opened is not opened again: `with_marker` false);
TGI#2733; ggml-org/llama.cpp#13174 and #23089; api-docs.deepseek.com/guides/chat_prefix_completion; lmdeploy#2798.
Which form works, inside a thought and after it, is probed (`endpoint_probe_prefix.py`): templates like DeepSeek-R1's
strip everything up to </think> from assistant messages, so that often only the inside survives. Then a completion past
its thought is cut back to the thought.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from distill.cards import ReasoningFormat
from distill.engines.endpoint_dialect import Call, Dialect
from distill.recipes import Endpoint
from distill.records import PartialTrace, SampleRequest

if TYPE_CHECKING:
    from distill.engines.endpoint_http import EndpointClient

CHAT_ONLY = ("chat_template_kwargs", "reasoning_effort", "include_reasoning", "separate_reasoning", "response_format")
DEEPSEEK_HOST = "api.deepseek.com"


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask a server to go on. `with_marker`: the text opens the thought itself."""

    name: Literal["completions", "continue_final_message", "continue_field", "prefix", "trailing"]
    with_marker: bool = True

    def __str__(self) -> str:
        return self.name if self.with_marker else f"{self.name} without the open marker"


FORMS = (
    Form("completions"),
    Form("continue_final_message"),
    Form("continue_final_message", with_marker=False),
    Form("continue_field"),
    Form("prefix"),
    Form("trailing"),
    Form("trailing", with_marker=False),
)


Case = Literal["in_thought", "in_answer"]


@dataclass(frozen=True, slots=True)
class Continuation:
    """What was seen to work at one model's servers; None where nothing did."""

    reasoning: ReasoningFormat
    splits_reasoning: bool
    """The server sends a thought apart, so `reasoning` and `content` of a partial are what they say."""
    in_thought: Form | None = None
    in_answer: Form | None = None

    def form_in(self, case: Case) -> Form | None:
        return self.in_thought if case == "in_thought" else self.in_answer

    def with_form(self, case: Case, form: Form | None) -> Continuation:
        return replace(self, in_thought=form) if case == "in_thought" else replace(self, in_answer=form)

    @property
    def works(self) -> bool:
        return self.in_thought is not None or self.in_answer is not None

    def is_in_thought(self, partial: PartialTrace) -> bool:
        """Whether the text ends inside a thought."""
        if self.splits_reasoning and partial.reasoning:
            return not partial.content.strip()
        text = partial.content
        if self.reasoning.close_marker in text:
            return False
        return self.reasoning.open_marker in text or self.reasoning.opened_by_prompt

    def usable(self, partial: PartialTrace | None) -> PartialTrace | None:
        """The longest beginning of a partial that a server can go on from."""
        if partial is None or not self.works or not (partial.reasoning + partial.content).strip():
            return None
        partial = self._as_sent(partial)
        if self.splits_reasoning and not partial.reasoning and self.is_in_thought(partial):
            return None  # content without its thought: the server lost the border between them
        if self.is_in_thought(partial):
            kept = partial if self.in_thought is not None else None
        elif self.in_answer is not None:
            kept = partial
        else:
            kept = self._thought_of(partial) if self.in_thought is not None else None
        if kept is None:
            return None
        form = self.form_of(kept)
        if form is None or form.name == "completions":
            return kept
        return _stripped(kept)  # templates strip messages: the model must see what is kept

    def _as_sent(self, partial: PartialTrace) -> PartialTrace:
        """A finished sample's thought and answer are apart; a server that does not split sends one text."""
        if self.splits_reasoning or not partial.reasoning:
            return partial
        text = self.text_of(partial, opened=self.reasoning.opened_by_prompt)
        opening = 0 if self.reasoning.opened_by_prompt else len(self.reasoning.open_marker) + 1
        splices = tuple(position + opening for position in partial.splices)
        return PartialTrace(partial.key, "", text, partial.num_tokens, splices)

    def form_of(self, partial: PartialTrace) -> Form | None:
        return self.form_in("in_thought" if self.is_in_thought(partial) else "in_answer")

    async def call(
        self,
        client: EndpointClient,
        base_url: str,
        dialect: Dialect,
        settings: Endpoint,
        request: SampleRequest,
        prefix: PartialTrace,
    ) -> Call:
        """The request that goes on from `prefix`, for the tokens that are left. Raises: EndpointFailure."""
        form = self.form_of(prefix)
        assert form is not None, "a usable prefix"
        params = replace(request.params, max_new_tokens=request.params.max_new_tokens - prefix.num_tokens)
        body = dialect.body(request.prompt, params, request.seed, settings)
        if form.name == "completions":
            body = await self._completions_body(client, base_url, dialect, settings, body, prefix)
            is_apart = self.splits_reasoning and self.is_in_thought(prefix)
            return Call(f"{base_url}/completions", body, "split" if is_apart else "content")
        body |= self._extras(form, prefix)
        body["messages"] = [*body["messages"], self._message(form, prefix)]
        url = f"{_deepseek_beta(base_url) if form.name == 'prefix' else base_url}/chat/completions"
        return Call(url, body, "as_sent" if self.is_in_thought(prefix) else "content")

    async def _completions_body(
        self,
        client: EndpointClient,
        base_url: str,
        dialect: Dialect,
        settings: Endpoint,
        chat: dict[str, Any],
        prefix: PartialTrace,
    ) -> dict[str, Any]:
        asked = {"model": dialect.model, "messages": chat["messages"], "add_generation_prompt": True}
        if "chat_template_kwargs" in settings.extra_body:
            asked["chat_template_kwargs"] = settings.extra_body["chat_template_kwargs"]
        prompt = await client.tokenize(base_url, {**asked, "return_token_strs": True})
        end = "".join(prompt.strings[-8:]).replace("\u0120", " ").replace("\u010a", "\n")
        is_open = end.rfind(self.reasoning.open_marker) > end.rfind(self.reasoning.close_marker)
        text = self.text_of(prefix, opened=is_open)
        added = await client.tokenize(
            base_url, {"model": dialect.model, "prompt": text, "add_special_tokens": False, "return_token_strs": False}
        )
        body = {key: value for key, value in chat.items() if key != "messages" and key not in CHAT_ONLY}
        if "max_completion_tokens" in body:
            body["max_tokens"] = body.pop("max_completion_tokens")
        if body.pop("logprobs", False):
            body["logprobs"] = body.pop("top_logprobs")
        return {**body, "prompt": [*prompt.tokens, *added.tokens], "skip_special_tokens": False}

    def _extras(self, form: Form, prefix: PartialTrace) -> dict[str, Any]:
        if form.name == "continue_final_message":
            return {"continue_final_message": True, "add_generation_prompt": False}
        if form.name == "continue_field":
            field = "reasoning_content" if self._parts(prefix)[1] == "" else "content"
            return {"continue_final_message": field, "add_generation_prompt": False}
        return {}

    def _message(self, form: Form, prefix: PartialTrace) -> dict[str, Any]:
        if form.name in ("continue_field", "prefix"):
            thought, answer = self._parts(prefix)
            message = {"role": "assistant", "content": answer, "reasoning_content": thought}
            return message | {"prefix": True} if form.name == "prefix" else message
        return {"role": "assistant", "content": self.text_of(prefix, opened=not form.with_marker)}

    def _parts(self, prefix: PartialTrace) -> tuple[str, str]:
        """(thought, answer) without markers, as far as they go."""
        if prefix.reasoning:
            return prefix.reasoning, prefix.content
        text = prefix.content.lstrip().removeprefix(self.reasoning.open_marker)
        thought, marker, answer = text.partition(self.reasoning.close_marker)
        return (thought, answer.lstrip()) if marker or self.is_in_thought(prefix) else ("", prefix.content)

    def text_of(self, partial: PartialTrace, *, opened: bool) -> str:
        """The completion as the model wrote it; `opened`: what stands before it has opened the thought."""
        marks = self.reasoning
        if not partial.reasoning:
            text = partial.content
            if opened or not marks.opened_by_prompt or text.lstrip().startswith(marks.open_marker):
                return text.lstrip().removeprefix(marks.open_marker) if opened and marks.open_marker in text else text
            return f"{marks.open_marker}\n{text}"
        text = partial.reasoning
        if not opened:
            text = f"{marks.open_marker}{'' if text[0].isspace() else chr(10)}{text}"
        if not partial.content:
            return text
        text += f"{'' if text[-1].isspace() else chr(10)}{marks.close_marker}"
        return f"{text}{'' if partial.content[0].isspace() else chr(10) * 2}{partial.content}"

    def _thought_of(self, partial: PartialTrace) -> PartialTrace | None:
        """The partial without its answer, and without the close marker."""
        if partial.reasoning:
            return cut(partial, len(partial.reasoning))
        end = partial.content.find(self.reasoning.close_marker)
        return cut(partial, end) if end > 0 else None


def cut(partial: PartialTrace, length: int) -> PartialTrace:
    """The first `length` characters of reasoning and content, with their share of the tokens (at least one is left)."""
    whole = partial.reasoning + partial.content
    num_tokens = min(partial.num_tokens, -(-partial.num_tokens * length // max(1, len(whole))))
    return PartialTrace(
        partial.key,
        partial.reasoning[:length],
        partial.content[: max(0, length - len(partial.reasoning))],
        num_tokens,
        tuple(position for position in partial.splices if position < length),
    )


def _stripped(partial: PartialTrace) -> PartialTrace:
    whole = partial.reasoning + partial.content
    return partial if not whole[-1].isspace() else cut(partial, len(whole.rstrip()))


def _deepseek_beta(base_url: str) -> str:
    """DeepSeek serves prefix completion under another path than the rest."""
    parts = urlsplit(base_url)
    return urlunsplit((*parts[:2], "/beta", "", "")) if parts.hostname == DEEPSEEK_HOST else base_url
