"""A finished completion as a task with stop strings reads it.

    finished_text(sample, ["Question:"])    # the text after the thought, up to the first "Question:"

lm-eval's hf model, given `think_end_token`, does the same to what it generated (`postprocess_generated_text` in
lm_eval/models/utils.py, 0.4.13), so scores agree. Two differences, both where lm-eval is wrong: stop strings never end
a thought here, and a thought that was never closed is no text at all instead of the answer.
Not covered: saving the tokens after a stop string; the sample in the ledger is whole, so that any task can read it.
"""

from __future__ import annotations

from collections.abc import Sequence

from distill.records import Sample


def finished_text(sample: Sample, until: str | Sequence[str]) -> str:
    """What follows the thought, or the whole text where there is none, cut at the first of each stop string."""
    if sample.answer is None or sample.finish_reason == "aborted":
        return ""
    text = sample.text
    if sample.reasoning is not None:
        text = sample.answer + text[len(text.rstrip()) :]  # an answer is stripped; what follows it belongs to it
    for stop in [until] if isinstance(until, str) else until:
        if stop:
            text = text.split(stop)[0]
    return text
