"""Candidates join samples, problems and the latest verdicts, in an order that does not depend on who finished first."""

from __future__ import annotations

import random

from distill.curate.candidates import candidates
from distill.harvest.asking import Entry
from distill.harvest.policy import Ask, Plan, ProblemState
from distill.store.ledger import Ledger
from distill.store.parquet import TRACE_COLUMNS


def entries(asked):
    """What a replay gives for these sample keys and their problems."""
    found = {}
    for key, problem in asked.items():
        entry = found.setdefault(problem.id, Entry(problem, "d", problem.prompt, ProblemState(Plan(4, (64,)))))
        entry.keys[Ask(int(key[-1]), 0)] = key
    return list(found.values())


def test_rows_have_the_columns_of_the_dataset(row):
    assert list(row()) == list(TRACE_COLUMNS)


def test_order_is_that_of_the_requests_whatever_finished_first(tmp_path, problem, sample, verdict):
    asked = {f"key-{number}-{index}": problem(number) for number in (2, 0, 1) for index in range(4)}
    samples = [sample(number, index) for number in range(3) for index in range(4)]
    expected = [(f"p{number}", index) for number in (2, 0, 1) for index in range(4)]
    runs = []
    for seed in range(3):
        random.Random(seed).shuffle(samples)
        with Ledger.open(tmp_path / f"{seed}.db", create=True) as ledger:
            ledger.add_samples(samples)
            ledger.add_verdicts([verdict(0, 1, "wrong"), verdict(0, 1, "correct", version="2"), verdict(2, 0)])
            runs.append(list(candidates(ledger, entries(asked))))
    assert [(row["problem_id"], row["sample_index"]) for row in runs[0]] == expected
    assert runs[0] == runs[1] == runs[2]
    by_id = {row["id"]: row for row in runs[0]}
    assert (by_id["key-0-1"]["outcome"], by_id["key-0-1"]["verifier_version"]) == ("correct", "2")
    assert by_id["key-1-0"]["outcome"] is None and by_id["key-1-0"]["score"] is None


def test_other_models_problems_and_harvests_stay_out(tmp_path, problem, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples([sample(0), sample(1), sample(0, 1), sample(0, 2, model_fingerprint="student")])
        asked = {"key-0-1": problem(0), "key-0-0": problem(0)}
        assert [row["id"] for row in candidates(ledger, entries(asked))] == ["key-0-0", "key-0-1"]


def test_a_problem_renamed_since_is_still_the_one_asked(tmp_path, problem, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples([sample(0)])
        assert [row["problem_id"] for row in candidates(ledger, entries({"key-0-0": problem(7)}))] == ["p7"]


def test_the_assistant_message_is_the_whole_completion(tmp_path, problem, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        opened_by_prompt = sample(0, 1, text="try\n</think>\n\n4", reasoning="try", answer="4")
        ledger.add_samples([sample(0), opened_by_prompt, sample(0, 2, text="<think>\nno end", answer=None)])
        asked = {f"key-0-{index}": problem(0) for index in range(3)}
        contents = [row["messages"][1]["content"] for row in candidates(ledger, entries(asked))]
    assert contents == [sample(0).text, "<think>\ntry\n</think>\n\n4", "<think>\nno end"]
