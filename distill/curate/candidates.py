"""Trace candidates: the samples that a harvest asked for, each joined with its problem and its latest verdict.

    rows = candidates(ledger, {request.key(fingerprint): problem_of(request) for request in requests})

Rows come in the order of the requests, whatever the order in which samples finished, so that curation of a resumed
harvest equals that of an uninterrupted one. A problem that got another id since is still the problem that was asked.
Not covered: choosing among them (`pipeline.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from distill.curate.step import Row
from distill.engines.reasoning import join_reasoning
from distill.records import Problem, Sample, Verdict
from distill.store.ledger import Ledger

ROWS_PER_BATCH = 500


def candidates(ledger: Ledger, asked: Mapping[str, Problem]) -> Iterator[Row]:
    """A row for every sample key of `asked` that the ledger has."""
    keys = list(asked)
    for start in range(0, len(keys), ROWS_PER_BATCH):
        batch = keys[start : start + ROWS_PER_BATCH]
        samples, verdicts = ledger.get_samples(batch), ledger.get_verdicts(batch)
        for key in batch:
            if key in samples:
                yield candidate(asked[key], samples[key], verdicts.get(key))


def candidate(problem: Problem, sample: Sample, verdict: Verdict | None) -> Row:
    """One row; the verdict's columns are None where there is none."""
    completion = sample.text if sample.answer is None else join_reasoning(sample.reasoning, sample.answer)
    return {
        "id": sample.key,
        "problem_id": problem.id,
        "family": problem.family,
        "domain": problem.domain,
        "source": problem.source,
        "licence": problem.licence,
        "prompt": problem.prompt,
        "messages": [{"role": "user", "content": problem.prompt}, {"role": "assistant", "content": completion}],
        "reasoning": sample.reasoning,
        "answer": sample.answer,
        "final_answer": verdict.extracted if verdict else None,
        "completion": sample.text,
        "outcome": verdict.outcome if verdict else None,
        "score": verdict.score if verdict else None,
        "verifier": verdict.verifier if verdict else None,
        "verifier_version": verdict.version if verdict else None,
        "finish_reason": sample.finish_reason,
        "completion_tokens": sample.completion_tokens,
        "prompt_tokens": sample.prompt_tokens,
        "cost_usd": sample.cost_usd,
        "teacher": sample.model,
        "teacher_fingerprint": sample.model_fingerprint,
        "temperature": sample.params.get("temperature"),
        "top_p": sample.params.get("top_p"),
        "seed": sample.seed,
        "sample_index": sample.index,
    }
