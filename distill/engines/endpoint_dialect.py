"""How requests to one server are worded: servers differ in what they take.

    dialect = Dialect("deepseek-r1"); call = dialect.call(base_url, prompt, params, seed, settings)
    dialect = dialect.without(failure) or dialect

The probe finds the dialect; every request then speaks it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from distill.engines.endpoint_retry import EndpointFailure
from distill.engines.endpoint_stream import Channel
from distill.recipes import Endpoint
from distill.records import SamplingParams

RESERVED = ("model", "messages", "stream", "seed", "n", "max_tokens", "max_completion_tokens", "temperature", "top_p")
"""Fields that `extra_body` may not set: they are in every sample's key, or decide what comes back."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it goes out, and where the text of its answer belongs."""

    url: str
    body: dict[str, Any]
    channel: Channel = "as_sent"


@dataclass(frozen=True)
class Dialect:
    """How requests to this server are worded."""

    model: str
    token_limit: str = "max_tokens"
    takes_seed: bool = True
    takes_stream_options: bool = True
    takes_logprobs: bool = True

    def call(self, base_url: str, prompt: str, params: SamplingParams, seed: int, settings: Endpoint) -> Call:
        """The whole of a request for one completion from its start."""
        return Call(f"{base_url}/chat/completions", self.body(prompt, params, seed, settings))

    def body(self, prompt: str, params: SamplingParams, seed: int, settings: Endpoint) -> dict[str, Any]:
        """A streamed chat request for one completion."""
        body: dict[str, Any] = {
            **settings.extra_body,
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "temperature": params.temperature,
            "top_p": params.top_p,
            self.token_limit: params.max_new_tokens,
        }
        if self.takes_seed:
            body["seed"] = seed
        if self.takes_stream_options:
            body["stream_options"] = {"include_usage": True}
        if settings.top_logprobs and self.takes_logprobs:
            body |= {"logprobs": True, "top_logprobs": settings.top_logprobs}
        return body

    def without(self, failure: EndpointFailure) -> Dialect | None:
        """The dialect without what the server complains of; None where it complains of something else."""
        if failure.kind != "rejected":
            return None
        text = failure.detail
        if "max_completion_tokens" in text and self.token_limit == "max_tokens":
            return replace(self, token_limit="max_completion_tokens")
        if "logprobs" in text and self.takes_logprobs:
            return replace(self, takes_logprobs=False)
        if "stream_options" in text and self.takes_stream_options:
            return replace(self, takes_stream_options=False)
        return replace(self, takes_seed=False) if "seed" in text and self.takes_seed else None
