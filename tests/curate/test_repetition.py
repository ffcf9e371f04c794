"""Loops are dropped, worked solutions are not."""

from __future__ import annotations

import importlib

import pytest

from distill.curate.steps.repetition import Repetition
from distill.embedded.families import FAMILIES, entries

TINY = {"ngram_words": 8, "min_occurrences": 6}


def test_the_reason_and_the_evidence(row):
    loop = "so let me check that once more " * 60
    assert Repetition().filter(row(completion=loop)) == (
        False,
        "loop",
        "58 times 'so let me check that once more so let me check that once more so let me check that once'",
    )


@pytest.mark.parametrize("period_words", [1, 3, 10, 25])
def test_a_block_is_found_from_the_length_the_docstring_gives(row, period_words):
    for settings in ({"ngram_words": 20, "min_occurrences": 20}, TINY):
        block = [f"word{number}" for number in range(period_words)]
        needed = settings["ngram_words"] + (settings["min_occurrences"] - 1) * period_words
        text = (block * needed)[:needed]
        step = Repetition(**settings)
        assert step.filter(row(completion=" ".join(text[:-1]))) is True
        assert step.filter(row(completion=" ".join(text)))[1] == "loop"


def test_loops_hide_behind_neither_punctuation_case_nor_script(row):
    step = Repetition(**TINY)
    assert step.filter(row(completion="Wait, 3*4=12. wait! 3 * 4 = 12\n" * 20))[1] == "loop"
    assert step.filter(row(completion="等等，再算一遍。" * 20))[1] == "loop"


@pytest.mark.parametrize("family", FAMILIES)
def test_no_worked_solution_of_the_embedded_teacher_is_dropped(row, family):
    write = importlib.import_module(f"distill.embedded.steps.{family}").write
    step = Repetition(**TINY)
    for entry in entries(family, 200, 3):
        reasoning, answer = write(entry["metadata"])
        completion = f"<think>\n{reasoning}\n</think>\n\n\\boxed{{{answer}}}"
        assert step.filter(row(completion=completion)) is True
