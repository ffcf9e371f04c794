"""Trace candidates: the samples that a harvest asked for, each joined with its problem and the verdict that counts.

    rows = candidates(ledger, asking.replay(ledger, problems))

Rows come in the order in which samples were asked for, whatever the order in which they finished, so that curation of a
resumed harvest equals that of an uninterrupted one. A problem that got another id since is still the problem that was
asked. Not covered: choosing among them (`pipeline.py`), and which verdict counts (`distill/verify/standing.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from distill.curate.step import Row
from distill.engines.reasoning import join_reasoning
from distill.harvest.asking import Entry
from distill.harvest.policy import PassRate
from distill.records import Problem, Sample, Verdict
from distill.store.ledger import Ledger
from distill.verify.standing import JudgeRule, standing

PROBLEMS_PER_BATCH = 64


def candidates(
    ledger: Ledger,
    entries: Iterable[Entry],
    *,
    judge: JudgeRule | None = None,
    verifiers: Collection[str] | None = None,
) -> Iterator[Row]:
    """A row for every finished sample of these problems.

    `judge` says where a judge's verdict counts (None: nowhere), `verifiers` whose verdicts do (None: anyone's).
    """
    remaining = iter(entries)
    while group := list(islice(remaining, PROBLEMS_PER_BATCH)):
        keys = [key for entry in group for key in entry.keys.values()]
        samples, verdicts = ledger.get_samples(keys), ledger.get_all_verdicts(keys)
        for entry in group:
            rate = entry.state.pass_rate()
            for _, key in sorted(entry.keys.items()):
                given = standing(entry.problem, verdicts.get(key, ()), judge=judge, verifiers=verifiers)
                yield candidate(entry.problem, samples[key], given, rate)


def candidate(problem: Problem, sample: Sample, verdict: Verdict | None, rate: PassRate) -> Row:
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
        "splices": list(sample.splices),
        "attempts": rate.attempts,
        "pass_rate": rate.mean,
        "pass_rate_low": rate.low,
        "pass_rate_high": rate.high,
    }
