"""Forms in which datasets keep options (`distill/choices.py`), and the sources that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.choices import gold_letter, read_choices, shuffled_choices, with_choices
from distill.errors import ProblemError
from distill.problems import load_problems, question

ARC = {"text": ["red", "blue", "green"], "label": ["1", "2", "3"]}


@pytest.mark.parametrize(
    ("value", "gold", "letter"),
    [
        (["red", "blue"], 1, "B"),
        (["red", "blue"], "1", "B"),
        (["red", "blue"], "B", "B"),
        (["red", "blue"], "blue", "B"),
        (json.dumps(["red", "blue"]), "A", "A"),
        (["1", "0"], "0", "B"),
        (ARC, "3", "C"),
        (ARC, 1, "A"),
        ({"A": "red", "B": "blue"}, "B", "B"),
    ],
)
def test_gold(value: Any, gold: Any, letter: str) -> None:
    assert gold_letter(gold, read_choices(value, where="here"), where="here") == letter


@pytest.mark.parametrize("value", [["one"], [], "text", None, {"text": ["a", "b"], "label": ["A"]}])
def test_wrong_options_are_said(value: Any) -> None:
    with pytest.raises(ProblemError, match=r"here: choices: found .*; expected a list of 2 to 26 options"):
        read_choices(value, where="here")


@pytest.mark.parametrize("gold", ["E", "pink", 7])
def test_a_gold_that_is_no_option_is_said(gold: Any) -> None:
    with pytest.raises(ProblemError, match="expected one of A, B, or an option's text"):
        gold_letter(gold, read_choices(["red", "blue"], where="here"), where="here")


def test_options_follow_the_question_unless_it_shows_them() -> None:
    assert with_choices("Which?", ["red", "blue"]) == "Which?\n\nA. red\nB. blue"
    assert with_choices("Which: A) red B) blue", ["red", "blue"]) == "Which: A) red B) blue"


def test_a_source_of_multiple_choice_problems(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(json.dumps({"q": "Which?", "options": ARC, "key": "2"}))
    spec = {"path": "c.jsonl", "prompt": "q", "answer": "key", "choices": "options", "instruction": "Name a letter."}
    spec |= {"domain": "science", "licence": "MIT", "verifier": "choice"}
    (problem,) = load_problems([{"jsonl": spec}], base_dir=tmp_path)
    assert problem.prompt == "Which?\n\nA. red\nB. blue\nC. green\n\nName a letter."
    assert (problem.answer, problem.meta["choices"]) == ("B", ["red", "blue", "green"])
    assert question(problem) == "Which?\n\nA. red\nB. blue\nC. green"


def test_options_are_ordered_by_key_and_text_alone() -> None:
    order, letter = shuffled_choices("red", ["blue", "green", "red"], key="q1", where="x")
    assert order["ABCD".index(letter)] == "red" and sorted(order) == ["blue", "green", "red", "red"]
    assert shuffled_choices(" red\n", ["green", "blue", "red"], key="q1", where="x")[0] == order
    assert len({tuple(shuffled_choices("a", ["b", "c"], key=str(n), where="x")[0]) for n in range(40)}) == 6
    with pytest.raises(ProblemError, match="row 3: choices"):
        shuffled_choices("red", ["blue", None], key="q1", where="row 3")


def test_options_are_shown_even_where_the_question_holds_their_texts() -> None:
    assert with_choices("Is it 1 or 2?", ["1", "2"]) == "Is it 1 or 2?"
    assert with_choices("Is it 1 or 2?", ["1", "2"], always=True).endswith("\nA. 1\nB. 2")
