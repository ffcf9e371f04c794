"""What a harvest asks for, counts, keeps when interrupted, and makes up for when run again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.engines.base import sample_through_ledger
from distill.errors import ProblemError
from distill.harvest.policy import Ask
from distill.harvest.runner import harvest
from distill.records import Verdict
from distill.verify.base import current_version


def test_counts(engine, ledger, problems, settings):
    summary = harvest(engine(), ledger, problems(5), **settings)
    assert (summary.problems, summary.samples, summary.samples_from_ledger) == (5, 20, 0)
    assert summary.outcomes == {"correct": 5, "no_answer": 5, "truncated": 5, "wrong": 5}
    assert summary.finish_reasons == {"length": 5, "stop": 15}
    assert (summary.accepted, summary.accept_rate) == (5, 0.25)
    assert summary.completion_tokens == 5 * (1 + 2 + 3 + 4)
    assert summary.tokens_per_accepted_trace == 10.0
    even, odd = summary.families["even"], summary.families["odd"]
    assert (even.samples, even.accepted, even.tokens) == (12, 3, 30)
    assert (odd.samples, odd.accepted, odd.tokens) == (8, 2, 20)
    assert (ledger.count(), ledger.count_verdicts()) == (20, 20)


def test_a_second_harvest_draws_nothing_and_counts_the_same(engine, ledger, problems, settings):
    first, again = harvest(engine(), ledger, problems(4), **settings), engine()
    second = harvest(again, ledger, problems(4), **settings)
    assert again.drawn == []
    assert second.samples_from_ledger == second.samples == 16
    for name in ("outcomes", "finish_reasons", "families", "accepted", "completion_tokens"):
        assert getattr(second, name) == getattr(first, name), name


def test_an_interrupt_keeps_what_was_finished(engine, ledger, problems, settings):
    with pytest.raises(KeyboardInterrupt):
        harvest(engine(stop_after=7), ledger, problems(4), **settings)
    assert ledger.count() == 7
    rest = engine()
    summary = harvest(rest, ledger, problems(4), **settings)
    assert len(rest.drawn) == 9
    assert (summary.samples, summary.samples_from_ledger, summary.accepted) == (16, 7, 4)
    assert (ledger.count(), ledger.count_verdicts()) == (16, 16)


def requests_of(asking, problems):
    entries = [asking.entry(problem) for problem in problems]
    return [asking.request(entry, Ask(index, 0)) for entry in entries for index in range(4)]


def test_a_new_gold_answer_under_the_same_prompt_is_verified_again(engine, ledger, problems, settings):
    before = harvest(engine(), ledger, problems(2), **settings)
    mended = [replace(problem, answer="no such answer") for problem in problems(2)]
    again = engine()
    summary = harvest(again, ledger, mended, **settings)
    assert again.drawn == [] and before.accepted > 0
    assert summary.accepted == 0
    assert harvest(engine(), ledger, problems(2), **settings).accepted == before.accepted


def test_missing_and_failed_verdicts_are_made_up_for(engine, ledger, problems, settings):
    samples = list(sample_through_ledger(engine(), ledger, requests_of(settings["asking"], problems(3))))
    version = {problem.id: current_version(problem) for problem in problems(3)}
    broken = [
        Verdict(sample.key, "exact", version[sample.problem_id], "error", 0.0, None, "time limit")
        for sample in samples[:2]
    ]
    kept = Verdict(samples[3].key, "exact", version[samples[3].problem_id], "no_answer", 0.0, None, "said before")
    outdated = Verdict(samples[5].key, "exact", "0-old", "correct", 1.0, "5")
    ledger.add_verdicts([*broken, kept, outdated])
    again = engine()
    summary = harvest(again, ledger, problems(3), **settings)
    assert again.drawn == []
    assert summary.outcomes == {"correct": 3, "no_answer": 3, "truncated": 3, "wrong": 3}
    found = ledger.get_verdicts([sample.key for sample in samples])
    assert found[samples[0].key].outcome == "correct"
    assert found[samples[1].key].outcome == "wrong"
    assert found[samples[3].key] == kept
    assert found[samples[5].key].outcome == "wrong"


def test_a_prompt_that_had_another_id(engine, ledger, problems, settings):
    """The ledger knows a completion by its prompt: renamed problems find it, and are counted as theirs."""
    harvest(engine(), ledger, problems(3, "old"), **settings)
    again = engine()
    summary = harvest(again, ledger, problems(3, "new"), **settings)
    assert again.drawn == []
    assert (summary.problems, summary.samples, summary.accepted) == (3, 12, 3)


def test_repeated_problems_are_drawn_once(engine, ledger, problems, settings):
    twice = [*problems(2), *(replace(problem, id=f"{problem.id}.2") for problem in problems(2))]
    summary = harvest(engine(), ledger, twice, **settings)
    assert (summary.problems, summary.problems_settled, summary.samples, ledger.count()) == (2, 2, 8, 8)


def test_nothing_accepted_has_no_cost_per_trace(engine, ledger, problems, asking_of):
    wrong = [replace(problem, answer="999") for problem in problems(2)]
    summary = harvest(engine(), ledger, wrong, asking_of(most=1), verify_workers=1)
    assert (summary.accepted, summary.tokens_per_accepted_trace) == (0, None)
    assert "no teacher tokens per accepted trace" in str(summary)


def test_no_problems(engine, ledger, settings):
    with pytest.raises(ProblemError, match=r"problems\.train"):
        harvest(engine(), ledger, [], **settings)


def test_a_sample_is_committed_before_it_is_handed_on(engine, ledger, problems, asking_of):
    requests = requests_of(asking_of(), problems(5))
    for sample in sample_through_ledger(engine(), ledger, requests, commit_every=6):
        assert sample.key in ledger.get_samples([sample.key])


def test_slow_samples_are_committed_by_time(engine, ledger, problems, asking_of):
    requests = requests_of(asking_of(), problems(5))
    samples = sample_through_ledger(engine(), ledger, requests, commit_every=1000, commit_every_seconds=0.0)
    next(samples)
    assert ledger.count() == 1
