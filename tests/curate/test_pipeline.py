"""Steps run in order, each drop is counted once and kept; a recipe's mistakes are named."""

from __future__ import annotations

import pytest

from distill.curate.pipeline import build_steps, curate, step_names
from distill.curate.step import CurationContext
from distill.errors import ConfigError


def test_the_steps_are_the_files():
    assert step_names() == [
        "closed_reasoning",
        "decontaminate",
        "exact_duplicates",
        "max_per_problem",
        "repetition",
        "truncation",
        "verified",
    ]


def test_the_first_step_that_drops_gives_the_reason_and_later_steps_do_not_see_the_row(row):
    spec = [{"verified": {}}, {"truncation": None}, {"exact_duplicates": {}}, {"max_per_problem": {"max_traces": 2}}]
    rows = [
        row(0, 0, outcome="wrong", finish_reason="length"),
        row(0, 1, finish_reason="length"),
        row(0, 2),
        row(0, 3, reasoning="try 2"),
        row(0, 4),
        row(0, 5),
        row(1, 0),
    ]
    result = curate(iter(rows), build_steps(spec))
    assert [kept["id"] for kept in result.kept] == ["key-0-2", "key-0-4", "key-1-0"]
    assert [(drop["id"], drop["dropped_by"], drop["reason"]) for drop in result.drops] == [
        ("key-0-0", "verified", "wrong"),
        ("key-0-1", "truncation", "truncated"),
        ("key-0-3", "exact_duplicates", "duplicate"),
        ("key-0-5", "max_per_problem", "over_per_problem"),
    ]
    assert result.counts == {
        "verified": {"wrong": 1},
        "truncation": {"truncated": 1},
        "exact_duplicates": {"duplicate": 1},
        "max_per_problem": {"over_per_problem": 1},
    }
    assert result.counts_by_reason == {"wrong": 1, "truncated": 1, "duplicate": 1, "over_per_problem": 1}
    assert result.to_dict() == {"kept": 3, "dropped": 4, "counts": result.counts}
    assert "dropped_by" not in rows[0] and result.drops[0]["detail"] == "exact 1 read '2'"


def test_no_steps_keep_everything_and_no_rows_make_nothing(row):
    assert curate([row()], []).kept == [row()]
    assert curate([], build_steps([{"verified": {}}])).counts == {"verified": {}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"verifed": {}},
            r"curation\[0\]: step 'verifed' is unknown; did you mean 'verified'\? Steps: closed_reasoning,",
        ),
        ({"verified": {}, "truncation": {}}, r"curation\[0\]: expected one step as \{name: parameters\}"),
        ("verified", r"curation\[0\]: expected one step as \{name: parameters\}, found 'verified'"),
        ({"verified": 3}, r"curation\[0\]\.verified: expected parameters as \{name: value\}, found 3"),
        ({"exact_duplicates": {"a": 1}}, r"exact_duplicates\.a: unknown parameter\. Allowed: none\."),
        (
            {"repetition": {"ngram_word": 3}},
            r"curation\[0\]\.repetition\.ngram_word: unknown parameter; did you mean 'ngram_words'\? "
            r"Allowed: ngram_words, min_occurrences\.",
        ),
        ({"repetition": {"ngram_words": "3"}}, r"repetition\.ngram_words: expected int, found '3'\."),
        ({"max_per_problem": {"max_traces": True}}, r"max_per_problem\.max_traces: expected int, found True\."),
        ({"truncation": {"max_completion_tokens": 1.5}}, r"max_completion_tokens: expected int \| None, found 1\.5"),
        ({"max_per_problem": {"max_traces": 0}}, r"max_per_problem\.max_traces: expected 1 or more, found 0\."),
        ({"decontaminate": {}}, r"decontaminate\.context: expected the evaluation's problems, found none"),
        ({"decontaminate": {"context": 1}}, r"decontaminate\.context: unknown parameter"),
    ],
)
def test_a_recipes_mistakes_are_named(entry, message):
    with pytest.raises(ConfigError, match=message):
        build_steps([entry], CurationContext())
