"""A hot probe: does the server give one completion for every seed?

    message = repeats_itself(engine, ledger, problems, run_seed)          # None, or a reason for INVALID

Samples of a run show repeats only where an item has several (`validity_samples.py`), and a sure model at temperature
0.6 may well write the same short text twice. So two seeds of a few prompts are asked at temperature 1.5 and top_p 1,
where no model is that sure for long. Costs at most 1,024 tokens; the probe's samples are in the ledger under their own
parameters, so a gate that goes on does not ask again.
Not covered: servers that repeat only some seeds; models that answer in a few tokens (no evidence, so no message).
"""

from __future__ import annotations

from collections.abc import Sequence

from distill.engines.base import Engine, LedgerLike, sample_through_ledger
from distill.records import Problem, Sample, SampleRequest, SamplingParams

PROMPTS = 8
HOT = SamplingParams(temperature=1.5, top_p=1.0, max_new_tokens=64)
FEWEST_TOKENS = 16
"""A shorter completion is no evidence: a sure model says "C" twice at any temperature."""
FEWEST_PAIRS = 2


def repeats_itself(engine: Engine, ledger: LedgerLike, problems: Sequence[Problem], run_seed: int) -> str | None:
    """A reason for INVALID if two seeds give the same text on every prompt that tells; else None.

    Raises: InfrastructureError if the endpoint cannot be reached. A server that refuses the temperature tells nothing.
    """
    requests = [
        SampleRequest(f"probe/{problem.id}", engine.render(problem.prompt), index, HOT, run_seed)
        for problem in _spread(problems)
        for index in (0, 1)
    ]
    drawn = {(sample.problem_id, sample.index): sample for sample in sample_through_ledger(engine, ledger, requests)}
    pairs = [
        (drawn[request.problem_id, 0], drawn[request.problem_id, 1])
        for request in requests
        if request.index == 0 and all((request.problem_id, index) in drawn for index in (0, 1))
    ]
    telling = [pair for pair in pairs if max(sample.completion_tokens for sample in pair) >= FEWEST_TOKENS]
    telling = [pair for pair in telling if any(sample.text.strip() for sample in pair)]
    if len(telling) < FEWEST_PAIRS or any(_differ(*pair) for pair in telling):
        return None
    return (
        f"{engine.model}: two seeds gave the same text on all {len(telling)} prompts of a probe at temperature "
        f"{HOT.temperature:g}; samples must differ by seed, or n samples are one. The server ignores the seed or the "
        "temperature, or a cache answers: mend that, or sample without it."
    )


def _differ(one: Sample, other: Sample) -> bool:
    return one.text != other.text


def _spread(problems: Sequence[Problem]) -> list[Problem]:
    """At most `PROMPTS` problems, over the whole of the task."""
    step = max(1, len(problems) // PROMPTS)
    return list(problems[::step])[:PROMPTS]
