"""The nouns that stages hand to each other: problem, sampling parameters, request, sample, verdict.

All are frozen and JSON-clean. A sample's identity is its *key*: model fingerprint, prompt hash, parameters, seed and
index. The ledger stores by key, so asking again for the same sample is free, in harvest and in evaluation alike.
Not covered: traces, which are rows of the dataset (`distill/curate/`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["correct", "wrong", "undecided", "no_answer", "truncated", "error"]
OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong", "undecided", "no_answer", "truncated", "error")
"""undecided: the verifier cannot tell; error: it failed (time limit, crash), which says nothing of the sample."""
FinishReason = Literal["stop", "length", "aborted"]
"""aborted: the engine stopped a stream that had degenerated; the sample's `note` says how."""

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
"""Made once: `json.dumps` makes one a call, which a harvest of a million samples feels when it resumes."""


def stable_hash(*parts: Any, length: int = 32) -> str:
    """Hex digest of JSON-clean parts; the same on every machine and in every process."""
    return hashlib.sha256(_ENCODER.encode(parts).encode()).hexdigest()[:length]


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt with the means to check an answer.

    `verifier` names a file of `distill/verify/`; `meta` is what that verifier needs beyond the gold answer (for
    reasoning-gym: the family and the entry its scorer takes).
    """

    id: str
    prompt: str
    answer: str | None
    verifier: str
    family: str
    domain: str
    source: str
    licence: str
    meta: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(row: dict[str, Any]) -> Problem:
        return Problem(**row)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a completion is drawn; temperature 0 is greedy."""

    temperature: float
    top_p: float
    max_new_tokens: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TracePiece:
    """A stretch of a completion that is still being drawn, as the ledger appends it.

    `start` says what it follows: "fresh" voids all earlier pieces of its key, "spliced" continues what is on disk in a
    new request, "more" continues the same request. `num_tokens` is of this stretch. A completion that goes on from
    another one's text (a sample cut at a lower token limit) starts with a fresh piece that holds that text.
    """

    key: str
    start: Literal["fresh", "spliced", "more"]
    reasoning: str
    content: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class PartialTrace:
    """What is on disk of a completion that never finished.

    `splices` are the positions, in characters of `reasoning + content`, at which a new request continued it.
    """

    key: str
    reasoning: str
    content: str
    num_tokens: int
    splices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to draw: `index` counts completions of the same problem from 0.

    With `prefix` it goes on from there; `params.max_new_tokens` is of the whole completion, prefix included. Where a
    completion starts is no part of what it is asked for, so key and seed are the same with and without.
    """

    problem_id: str
    prompt: str  # rendered by the engine's chat template: exactly the text the model reads
    index: int
    params: SamplingParams
    run_seed: int = 0
    prefix: PartialTrace | None = field(default=None, compare=False)

    @property
    def prompt_hash(self) -> str:
        return stable_hash(self.prompt, length=16)

    @property
    def seed(self) -> int:
        """31-bit seed of this (run seed, prompt, index): the same in every rerun."""
        return int(stable_hash("seed", self.run_seed, self.prompt, self.index, length=8), 16) & 0x7FFFFFFF

    def key(self, model_fingerprint: str) -> str:
        return stable_hash(model_fingerprint, self.prompt, self.params.to_dict(), self.seed, self.index)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion as it came back. `text` is raw; `reasoning` and `answer` are its parts.

    `reasoning` is None where the model did not think; `answer` is None where a thought was opened and never closed.
    `seconds` is from admission to the batch (or sending the request) to the last token. `splices` are the positions,
    in characters of `text`, at which another request continued it; `note` is why an aborted one was stopped.
    """

    key: str
    model: str
    model_fingerprint: str
    problem_id: str
    prompt_hash: str
    index: int
    seed: int
    params: dict[str, Any]
    text: str
    reasoning: str | None
    answer: str | None
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason
    seconds: float
    cost_usd: float | None
    created_at: str  # ISO 8601, UTC
    splices: tuple[int, ...] = ()
    note: str | None = None
    logprobs: tuple[dict[str, Any], ...] = field(default=(), compare=False, repr=False)
    """token, logprob, top_logprobs of each position, as the server gave them; a ledger keeps them apart."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "splices": list(self.splices), "logprobs": list(self.logprobs)}


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that an engine gave up: the server refuses it (`is_refused`), or its answers stayed broken."""

    key: str
    problem_id: str
    index: int
    reason: str
    is_refused: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier said of a sample. `score` is in [0, 1]; only an outcome of "correct" makes a trace."""

    sample_key: str
    verifier: str
    version: str
    outcome: Outcome
    score: float
    extracted: str | None  # the final answer as the verifier read it
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ProblemYield:
    """What one settled problem of a harvest gave: why nothing more is drawn of it, and the counts of what was.

    `problem` is a hash of the problem as asked and verified. Superseded samples (continued with a higher token limit)
    are counted in `tokens` only by what they became.
    """

    problem: str
    reason: str
    outcomes: dict[str, int]
    finish_reasons: dict[str, int]
    tokens: int
    cost_usd: float | None = None

    @property
    def samples(self) -> int:
        return sum(self.finish_reasons.values())

    @property
    def accepted(self) -> int:
        return self.outcomes.get("correct", 0)

    def figures_json(self) -> str:
        """Counts in a compact form: a ledger may hold a million of them."""
        return json.dumps([self.outcomes, self.finish_reasons, self.tokens, self.cost_usd], separators=(",", ":"))

    @staticmethod
    def from_json(problem: str, reason: str, figures: str) -> ProblemYield:
        return ProblemYield(problem, reason, *json.loads(figures))
