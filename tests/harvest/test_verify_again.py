"""Verifying what the ledger holds again (`distill/harvest/verify_again.py`)."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from distill.harvest import verify_again as module
from distill.harvest.verify_again import verify_again
from distill.records import Sample, Verdict
from distill.verify.base import verify


def make_sample(problem, index: int, answer: str | None) -> Sample:
    return Sample(
        key=f"{problem.id}-{index}", model="m", model_fingerprint="f", problem_id=problem.id, prompt_hash="h",
        index=index, seed=1, params={}, text=answer or "", reasoning="t", answer=answer, prompt_tokens=1,
        completion_tokens=1, finish_reason="stop", seconds=0.0, cost_usd=None, created_at="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.fixture
def harvested(ledger, problems):
    """Three problems of the answers 1, 2, 3 with two samples each: right, and one too many; all verified."""
    found = problems(3)
    samples = [
        make_sample(each, index, f"\\boxed{{{n + 1 + index}}}") for n, each in enumerate(found) for index in (0, 1)
    ]
    ledger.add_samples(samples)
    ledger.add_verdicts(verify(found[at // 2], sample) for at, sample in enumerate(samples))
    return {sample.key: found[at // 2] for at, sample in enumerate(samples)}


def outcomes(ledger, asked) -> dict[str, str]:
    return {key: verdict.outcome for key, verdict in ledger.get_verdicts(asked).items()}


def test_what_is_current_is_left_alone(ledger, harvested):
    result = verify_again(ledger, harvested, verify_workers=1)
    assert (result.samples, result.verified, result.changes) == (6, 0, {})
    assert result.outcomes == {"correct": 3, "wrong": 3}
    assert ledger.count_verdicts() == 6


def test_a_new_gold_answer_turns_verdicts_and_the_old_ones_stay(ledger, harvested):
    asked = {
        key: replace(problem, answer="2") if key.startswith("p0") else problem for key, problem in harvested.items()
    }
    result = verify_again(ledger, asked, verify_workers=1)
    assert result.to_dict()["changes"] == {"correct": {"wrong": 1}, "wrong": {"correct": 1}}
    assert (result.verified, result.changed, result.num_unstable) == (2, 2, 0)
    assert outcomes(ledger, ["p0-0", "p0-1"]) == {"p0-0": "wrong", "p0-1": "correct"}
    assert [v.outcome for v in ledger.get_all_verdicts(["p0-0"])["p0-0"]] == ["correct", "wrong"]
    assert "correct -> wrong" in str(result) and "<td>wrong</td><td>correct</td><td>1</td>" in result._repr_html_()
    back = verify_again(ledger, harvested, verify_workers=1)  # the first gold answer again: its verdicts are there
    assert back.verified == 0 and back.outcomes == {"correct": 3, "wrong": 3}


def test_all_of_them_when_asked_for_and_those_without_a_verdict_or_with_an_error(ledger, harvested, problems):
    extra = problems(5)[3:]
    ledger.add_samples([make_sample(extra[0], 0, "\\boxed{4}"), make_sample(extra[1], 0, None)])
    ledger.add_verdicts([replace(verify(extra[0], make_sample(extra[0], 0, "\\boxed{4}")), outcome="error")])
    asked = [*harvested.items(), ("p3-0", extra[0]), ("p4-0", extra[1]), ("never sampled", extra[1])]
    result = verify_again(ledger, iter(asked), verify_workers=1)
    assert result.changes == {("error", "correct"): 1, ("unverified", "no_answer"): 1}
    assert (result.wanted, result.samples) == (9, 8)
    again = verify_again(ledger, iter(asked), everything=True, verify_workers=1)
    assert (again.verified, again.changed, again.num_unstable) == (8, 0, 0)
    assert again.changes["correct", "correct"] == 4


def test_a_version_that_contradicts_itself_is_named(ledger, harvested):
    key = next(iter(harvested))
    right = ledger.get_verdicts([key])[key]
    other = make_sample(harvested[key], 7, "\\boxed{1}")
    ledger.add_samples([other])
    ledger.add_verdicts([replace(right, sample_key=other.key, outcome="wrong")])
    result = verify_again(ledger, {other.key: harvested[key]}, everything=True, verify_workers=1)
    assert (result.num_unstable, result.unstable) == (1, ["p0-7"])
    assert "1 samples got another outcome from the same version" in str(result)


def test_a_judges_verdict_is_no_verdict_of_the_verifier(ledger, problems):
    problem = problems(1)[0]
    ledger.add_samples([make_sample(problem, 0, "\\boxed{1}")])
    ledger.add_verdicts([Verdict("p0-0", "judge", "1", "wrong", 0.0, None)])
    assert verify_again(ledger, {"p0-0": problem}, verify_workers=1).changes == {("unverified", "correct"): 1}


def test_an_interruption_keeps_what_was_verified(ledger, harvested, monkeypatch):
    monkeypatch.setattr(module, "VERDICTS_PER_COMMIT", 2)
    asked = {key: replace(problem, meta={"v": 2}) for key, problem in harvested.items()}

    def stop(result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_again(ledger, asked, verify_workers=1, progress=stop)
    left = verify_again(ledger, asked, verify_workers=1)
    assert (left.verified, left.samples) == (4, 6)


def test_memory_does_not_grow_with_the_ledger(ledger, problems):
    """20,000 samples of 10 kB each, all of them current: 200 MB are read, and a few are held."""
    problem = problems(1)[0]
    template = verify(problem, make_sample(problem, 0, "\\boxed{1}"))
    for start in range(0, 20_000, 1000):
        samples = [make_sample(problem, start + at, "x" * 5000 + "\\boxed{1}") for at in range(1000)]
        ledger.add_samples(samples)
        ledger.add_verdicts(replace(template, sample_key=sample.key) for sample in samples)
    tracemalloc.start()
    try:
        result = verify_again(ledger, ((f"p0-{at}", problem) for at in range(20_000)), verify_workers=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (result.samples, result.verified) == (20_000, 0)
    assert peak < 40 * 2**20, peak
