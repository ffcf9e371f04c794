r"""Gold answers that no sample can match, and questions that stand twice, in real problem files.

pytest tests/gate/test_gold_format.py
"""

import json
from dataclasses import replace

import pytest

from distill.gate.gold_format import duplicate_reasons, gold_reasons
from distill.problems import load_problems


def load(tmp_path, rows, verifier="math", **more):
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"id": "id"} if "id" in rows[0] else {}
    source = {"path": "data.jsonl", "prompt": "question", "domain": "math", "licence": "none", "verifier": verifier}
    gold = {} if verifier in ("code", "majority") else {"answer": "answer"}
    return load_problems([{"jsonl": {**source, **gold, **columns, **more}}], base_dir=tmp_path, deduplicate=False)


def rows_of(answers, **more):
    return [
        {"id": f"q{at}", "question": f"What is number {at}?", "answer": gold, **more} for at, gold in enumerate(answers)
    ]


@pytest.mark.parametrize("gold", ["0", "73", "073", "007", "999", 25])
def test_aime_answers_are_whole_numbers_padded_or_not(tmp_path, gold):
    assert gold_reasons("aime24", load(tmp_path, rows_of([gold]))) == []


@pytest.mark.parametrize("gold", ["1000", "-5", r"\frac{1}{2}", "73.5", r"\boxed{73}", "m+n=73"])
def test_an_aime_answer_that_is_none(tmp_path, gold):
    (found,) = gold_reasons("aime24", load(tmp_path, rows_of(["025", gold])))
    assert found.startswith("aime24: gold format: 1 of 2 gold answers are no whole number from 0 to 999")
    assert "e.g. item q1: " in found and "Mend the answer column" in found


@pytest.mark.parametrize(
    "gold",
    [
        "18",
        r"\frac{14}{3}",
        "p - q",
        r"\text{Evelyn}",
        r"90^\circ",
        "Paris",
        "[0, 1)",
        r"\{1, 2\}",
        "3 apples",
        "1,024",
    ],
)
def test_answers_that_math_can_compare_with(tmp_path, gold):
    assert gold_reasons("t", load(tmp_path, rows_of([gold]))) == []


@pytest.mark.parametrize(
    ("gold", "fault"),
    [
        ("He sold 48/2 = <<48/2=24>>24 clips.\n#### 72", "are worked solutions, not bare answers"),
        (r"\boxed{72}", "are worked solutions"),
        ("The answer is 72", "are worked solutions"),
        ("nan", "are placeholders of a missing value"),
        (float("nan"), "are placeholders"),
        (r"\frac{1}{", "cannot be read as mathematics"),
        ("(1, 2", "cannot be read as mathematics"),
    ],
)
def test_answers_that_math_cannot_compare_with(tmp_path, gold, fault):
    (found,) = gold_reasons("t", load(tmp_path, rows_of(["1", "2", gold])))
    assert f"1 of 3 gold answers {fault}" in found and "item q2" in found


def test_each_kind_of_fault_is_one_sentence_with_three_examples(tmp_path):
    found = gold_reasons("t", load(tmp_path, rows_of(["nan"] * 9 + ["#### 5"] * 2)))
    assert len(found) == 2 and "9 of 11" in found[0] and found[0].count("item q") == 3 and "2 of 11" in found[1]


def test_an_empty_answer(tmp_path):
    """A marker with nothing before it, as GSM8K's answer column without `answer_after`."""
    problems = load(tmp_path, rows_of(["#### 5"]))
    assert "worked solutions" in gold_reasons("t", problems)[0]
    assert "1 of 1 gold answers are empty" in gold_reasons("t", [replace(problems[0], answer=" ")])[0]


def test_letters_that_are_no_option(tmp_path):
    """Without a column of options any letter loads; the question itself shows which there are."""
    asked = "Which?\nA. one\nB. two\nC. three\nD. four"
    rows = [{"id": f"q{at}", "question": f"{at} {asked}", "answer": letter} for at, letter in enumerate("ABDEZ")]
    found = gold_reasons("gpqa", load(tmp_path, rows, "choice"))
    assert "1 of 5 gold answers are no letter of the options that the question shows, e.g. item q3" in found[0]
    assert "1 of 5 gold answers are no letter of the question's options, e.g. item q4: 'Z'" in found[1]


def test_options_that_were_never_shuffled(tmp_path):
    rows = [{"id": f"q{at}", "question": f"Which is {at}?", "answer": "A", "options": ["w", "x", "y", "z"]}
            for at in range(20)]  # fmt: skip
    (found,) = gold_reasons("gpqa", load(tmp_path, rows, "choice", choices="options"))
    assert "the gold letter is A for all 20 questions" in found and "Shuffle the options once" in found
    rows[3]["answer"] = "B"
    assert gold_reasons("gpqa", load(tmp_path, rows, "choice", choices="options")) == []


def test_code_without_tests_and_votes_without_gold(tmp_path):
    rows = [{"id": "q0", "question": "Add.", "tests": ["assert add(1, 2) == 3"]}]
    problems = load(tmp_path, rows, "code", tests="tests")
    assert gold_reasons("t", problems) == []
    problems[0].meta["tests"]["code"] = []
    assert "are missing: the problem has no tests" in gold_reasons("t", problems)[0]
    assert "a vote is no benchmark" in gold_reasons("t", load(tmp_path, rows_of(["5"]), "majority"))[0]


def test_a_puzzle_whose_gold_its_own_scorer_refuses():
    problems = load_problems([{"gym": {"family": "gcd", "size": 5, "seed": 1}}])
    assert gold_reasons("tiny", problems) == []
    spoiled = [replace(problems[0], answer="no such number"), *problems[1:]]
    assert "1 of 5 gold answers are not right by their own verifier" in gold_reasons("tiny", spoiled)[0]


def test_questions_that_stand_twice(tmp_path):
    """In another typesetting, or with another answer; other sums with the same words are no duplicates."""
    rows = [
        {"id": "a", "question": r"Find $3\times 4$ eggs.", "answer": "12"},
        {"id": "b", "question": "Find 3 * 4 eggs", "answer": "12"},
        {"id": "c", "question": "Find (1 + 2) * 3", "answer": "9"},
        {"id": "d", "question": "Find 1 + 2 * 3", "answer": "7"},
    ]
    (found,) = duplicate_reasons("t", load(tmp_path, rows))
    assert found.startswith("t: duplicates: 1 questions stand more than once, e.g. items a, b: ")
    rows[1] = {"id": "b", "question": rows[0]["question"], "answer": "7"}
    (found,) = duplicate_reasons("t", load(tmp_path, rows))
    assert "1 of them with different gold answers, e.g. items a, b" in found
    assert duplicate_reasons("t", load(tmp_path, rows[1:])) == []
