"""The funnel's counts, by hand; and that every step of curation has its place in it."""

from __future__ import annotations

import pytest

from distill.curate.funnel import STEPS, FunnelCounter, rejected_at, table_rows
from distill.curate.pipeline import build_steps, curate, step_names

SPEC = [
    "verified", "closed_reasoning", "truncation", {"repetition": {"ngram_words": 2, "min_occurrences": 3}},
    "exact_duplicates", {"max_per_problem": {"max_traces": 1}},
]  # fmt: skip


@pytest.fixture
def curated(row):
    """Problems 0 and 1 of one source, 2 of another; a sample of every fate, 12 tokens and 0.1 dollars each."""
    good = "<think>\ntry 0\n</think>\n\n\\boxed{2}"
    loop = "go on " * 9
    rows = [
        row(0),
        row(0, 1),  # one too many
        row(0, 2, completion=good, reasoning="try 0", prompt="What is 0 plus two?"),  # says what the first says
        row(0, 3, outcome="wrong"),
        row(1, 0, outcome="truncated", finish_reason="length", answer=None),
        row(1, 1, outcome="no_answer", finish_reason="aborted", answer=None),
        row(1, 2, outcome="no_answer"),
        row(2, 0, reasoning=loop, completion=f"<think>\n{loop}\n</think>\n\n\\boxed{{4}}", source="b"),
        row(2, 1, outcome="undecided", source="b"),
        row(2, 2, reasoning=None, source="b"),  # no thought
    ]
    for each in rows:
        each["cost_usd"] = 0.1
    return curate(rows, build_steps([step if isinstance(step, dict) else {step: {}} for step in SPEC]))


def test_counts(curated):
    funnel = FunnelCounter().add_all(curated.kept).add_all(curated.drops).funnel()
    left = {step.name: (step.samples, step.problems) for step in funnel.total.steps}
    assert left == {
        "samples": (10, 3),
        "finished": (8, 3),
        "parsed": (6, 2),
        "verified": (4, 2),
        "unique": (3, 2),
        "clean": (2, 1),
        "kept": (1, 1),
    }
    assert len(curated.kept) == 1
    assert funnel.rejects == {
        "finished": {"truncated": 1, "aborted": 1},
        "parsed": {"no_answer": 1, "no_reasoning": 1},
        "verified": {"wrong": 1, "undecided": 1},
        "unique": {"duplicate": 1},
        "clean": {"loop": 1},
        "kept": {"over_per_problem": 1},
    }
    finished = funnel.total.steps[1]
    assert finished.share == 0.8
    assert finished.interval == pytest.approx((0.490, 0.943), abs=1e-3)  # Wilson, 8 of 10
    assert finished.tokens_each == 120 / 8
    assert finished.usd_each == pytest.approx(1.0 / 8)


def test_parts_add_up(curated):
    funnel = FunnelCounter().add_all([*curated.drops, *curated.kept]).funnel()
    sources = funnel.by["source"]
    assert {name: counts.samples[0] for name, counts in sources.items()} == {"b": 3, "written here": 7}
    assert sources["b"].samples == [3, 3, 2, 1, 1, 0, 0]
    assert sources["b"].problems == [1, 1, 1, 1, 1, 0, 0]
    for groups in funnel.by.values():
        for place in range(len(STEPS)):
            assert sum(counts.samples[place] for counts in groups.values()) == funnel.total.samples[place]
        assert sum(counts.tokens for counts in groups.values()) == funnel.total.tokens == 120


def test_problems_that_gave_nothing_count_where_they_are_known(curated):
    asked = {("b", "mathematics", "sums"): 5, ("written here", "mathematics", "sums"): 2}
    funnel = FunnelCounter(asked).add_all(curated.kept).add_all(curated.drops).funnel()
    assert (funnel.total.num_problems, funnel.by["source"]["b"].num_problems) == (7, 5)
    assert table_rows(funnel.total)[1][:2] == ("problems", "7")


def test_no_dollars_where_a_price_is_missing(curated):
    curated.drops[0]["cost_usd"] = None
    funnel = FunnelCounter().add_all(curated.kept).add_all(curated.drops).funnel()
    assert funnel.total.dollars is None
    assert "dollars each" not in table_rows(funnel.total)[0]
    assert funnel.by["source"]["b"].dollars == pytest.approx(0.3)


def test_nothing_at_all():
    funnel = FunnelCounter().funnel()
    assert [step.samples for step in funnel.total.steps] == [0] * len(STEPS)
    assert funnel.total.steps[1].share is None
    assert funnel.pass_rates is None


def test_pass_rates_of_problems(curated):
    for each, rate in zip([*curated.kept, *curated.drops], [1.0] * 4 + [0.05] * 3 + [0.55] * 3, strict=True):
        each |= {"pass_rate": rate, "pass_rate_low": rate - 0.05, "pass_rate_high": rate + 0.05, "attempts": 4}
        each["problem_id"] = f"{rate}"
    found = FunnelCounter().add_all(curated.kept).add_all(curated.drops).funnel().pass_rates
    assert found.bins == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert (found.problems, found.mean_width) == (3, pytest.approx(0.1))


@pytest.mark.parametrize("name", step_names())
def test_every_step_of_curation_has_a_place(name):
    row = {"dropped_by": name, "reason": "any", "outcome": "correct", "finish_reason": "stop"}
    step, _ = rejected_at(row)
    assert step in STEPS[1:]
    assert step == {
        "verified": "verified",
        "closed_reasoning": "parsed",
        "max_per_problem": "kept",
        "exact_duplicates": "unique",
    }.get(name, "clean")
