"""A hot probe: does the server give one completion for every seed?

    message = repeats_itself(engine, ledger, problems, run_seed)          # None, or a reason for INVALID
    heeds_seed(engine, ledger, problems, run_seed)                        # True, False, or None: no evidence

Samples of a run show repeats only where an item has several (`validity_samples.py`), and a sure model at temperature
0.6 writes the same text twice: the embedded teacher does on 62 of 64 prompts. So a few prompts are asked with several
seeds at temperature 1.5; where all texts are still the same (its pairs: 45 of 64), again at temperature 2 (11 of 64, so
eight equal pairs come once in 10^6 runs). Costs at most 1,024 tokens a temperature. The probe's samples are in the
ledger under their own parameters and problem ids (`probe/...`), so a gate that goes on does not ask again; but where
they accuse the server, the next run asks with new seeds, since it may have been mended meanwhile.
Not covered: servers that repeat only some seeds; models that answer in a few tokens (no evidence, so no message).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, groupby
from math import ceil

from distill.engines.base import Engine, LedgerLike, sample_through_ledger
from distill.records import Problem, Sample, SampleRequest, SamplingParams, stable_hash
from distill.store.ledger import Ledger

PAIRS = 8
TEMPERATURES = (1.5, 2.0)
MAX_NEW_TOKENS = 64
FEWEST_TOKENS = 16
"""Equal completions that are shorter are no evidence: a sure model says "C" twice at any temperature."""
FEWEST_PAIRS = 4


def repeats_itself(engine: Engine, ledger: LedgerLike, problems: Sequence[Problem], run_seed: int) -> str | None:
    """A reason for INVALID if other seeds give the same text on every prompt that tells; else None.

    Raises: InfrastructureError if the endpoint cannot be reached.
    """
    return reason(engine.model) if heeds_seed(engine, ledger, problems, run_seed) is False else None


def reason(model: str) -> str:
    """Why a model that does not heed the seed may not be judged."""
    return (
        f"{model}: other seeds gave the same text on every prompt of a probe at temperature {TEMPERATURES[0]:g} "
        f"and {TEMPERATURES[-1]:g}; samples must differ by seed, or many are one. The server ignores the seed or the "
        "temperature, or a cache answers: mend that and draw again."
    )


def heeds_seed(engine: Engine, ledger: LedgerLike, problems: Sequence[Problem], run_seed: int) -> bool | None:
    """Whether some seed gives another text than the first; None where all are equal, but too short to tell.

    A server that refuses the higher temperature is judged by the lower one. Raises: InfrastructureError if the
    endpoint cannot be reached.
    """
    for attempt in count():
        found, is_new = _heeds_seed(engine, ledger, problems, run_seed, attempt)
        if found is not False or is_new:  # else an earlier run was told so, and asked for the server to be mended
            return found
    raise AssertionError("unreachable")


def was_cleared(ledger: Ledger, fingerprint: str) -> bool:
    """Whether a probe that the ledger holds has cleared this model; for recorded samples, whose engine is gone."""
    texts: dict[str, str] = {}
    for sample in ledger.samples(fingerprint):
        if sample.problem_id.startswith("probe/") and texts.setdefault(
            stable_hash(sample.prompt_hash, sample.params), sample.text
        ) not in ("", sample.text):
            return True
    return False


def _heeds_seed(
    engine: Engine, ledger: LedgerLike, problems: Sequence[Problem], run_seed: int, attempt: int
) -> tuple[bool | None, bool]:
    """What this attempt says, and whether any of it was drawn now."""
    found: bool | None = None
    is_new = False
    for temperature in TEMPERATURES:
        params = SamplingParams(temperature, 1.0, MAX_NEW_TOKENS)
        pairs, num_drawn = _pairs(engine, ledger, _requests(engine, problems, params, run_seed, attempt))
        is_new |= num_drawn > 0
        if any(one.text != other.text for one, other in pairs):
            return True, is_new
        telling = [one for one, _ in pairs if one.completion_tokens >= FEWEST_TOKENS and one.text.strip()]
        if len(telling) >= FEWEST_PAIRS:
            found = False
        elif found is None:
            return None, is_new
    return found, is_new


def _requests(
    engine: Engine, problems: Sequence[Problem], params: SamplingParams, run_seed: int, attempt: int
) -> list[SampleRequest]:
    """For about `PAIRS` pairs in all, over the whole of the task; every attempt (from 0) has its own seeds."""
    chosen = list(problems[:: max(1, len(problems) // PAIRS)])[:PAIRS]
    seeds = 1 + ceil(PAIRS / max(1, len(chosen)))
    return [
        SampleRequest(f"probe/{problem.id}", engine.render(problem.prompt), attempt * seeds + number, params, run_seed)
        for problem in chosen
        for number in range(seeds)
    ]


def _pairs(
    engine: Engine, ledger: LedgerLike, requests: Sequence[SampleRequest]
) -> tuple[list[tuple[Sample, Sample]], int]:
    """The first completion of a prompt beside each other one, and how many were not in the ledger."""
    keys = {request.key(engine.fingerprint) for request in requests}
    num_drawn = len(keys) - len(ledger.get_samples(keys))
    drawn = sorted(
        sample_through_ledger(engine, ledger, requests), key=lambda sample: (sample.problem_id, sample.index)
    )
    groups = [list(group) for _, group in groupby(drawn, key=lambda sample: sample.problem_id)]
    return [(first, other) for first, *others in groups for other in others], num_drawn
