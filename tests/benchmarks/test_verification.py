"""The verification benchmark: its labels are true, and its record follows from them (`benchmarks/verification.py`)."""

from __future__ import annotations

import json
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks import verification
from benchmarks.verification_expressions import expression_pairs
from benchmarks.verification_pairs import ROUNDED, Pair, crossed_pairs, made_pairs, pairs_from

ROOT = Path(__file__).resolve().parents[2]
GOLDS = [
    "73", "-5", "1024", "0.15", ".5", r"\frac{14}{3}", r"-\frac{35}{9}", r"3\sqrt{13}", r"\sqrt{5}", r"90^\circ",
    r"3 \pm 2\sqrt{2}", "6 - 5i", r"(5,\infty)", "(3,4]", "(1,-16,-4,43)", "1,-2", "x^3+3x-6", r"\text{east}", "58,500",
]  # fmt: skip


def arithmetic(text: str) -> Fraction | None:
    """The value of plain arithmetic by Python alone, None for anything else: an oracle of its own."""
    text = re.sub(r"\\text\{[^}]*\}|\\\$|\{,\}", "", text).replace(r"\cdot", "*").replace(r"\times", "*")
    text = re.sub(r"(?<=\d)\\d?frac\{(-?\d+)\}\{(-?\d+)\}", r"+(\1)/(\2)", text)
    text = re.sub(r"\\d?frac\{(-?\d+)\}\{(-?\d+)\}", r"((\1)/(\2))", text).replace("^{", "**{").replace("^", "**")
    text = text.replace("****", "**").replace("{", "(").replace("}", ")").strip()
    if text.endswith(".") or not re.fullmatch(r"[-+*/(). \d]+", text):
        return None
    text = re.sub(r"\d*\.\d+|\d+\.?", lambda number: f"F('{number[0]}')", text)
    return Fraction(eval(text, {"__builtins__": {}, "F": Fraction}))  # digits and signs of our own making


def test_labels_are_true_by_plain_arithmetic():
    pairs = pairs_from(GOLDS[:7], seed=3)
    checked = [
        (arithmetic(pair.gold) == arithmetic(pair.answer), pair)
        for pair in pairs
        if None not in (arithmetic(pair.gold), arithmetic(pair.answer))
    ]
    assert len(checked) > 60
    assert [pair for is_equal, pair in checked if is_equal != pair.is_equal] == []


def test_every_shape_gives_pairs_of_both_labels():
    pairs = pairs_from(GOLDS, seed=3)
    labels = {gold: {pair.is_equal for pair in pairs if pair.gold == gold} for gold in GOLDS[:17]}
    assert all(found == {True, False} for found in labels.values()), labels
    assert not {pair.gold for pair in pairs} & {r"\text{east}", "58,500"}  # a word; a number or a list
    assert len({(pair.gold, pair.answer) for pair in pairs}) == len(pairs)


def test_the_same_seed_gives_the_same_pairs():
    assert pairs_from(GOLDS, 1) == pairs_from(GOLDS, 1) != pairs_from(GOLDS, 2)
    assert made_pairs(2, 1) == made_pairs(2, 1)
    crossed = crossed_pairs([str(number) for number in range(40)], 30, 1)
    assert len(crossed) == 30 and not any(pair.is_equal or pair.gold == pair.answer for pair in crossed)


def test_formulas_are_labelled_by_sympy():
    pairs = expression_pairs(10, seed=2)
    assert pairs == expression_pairs(10, seed=2)
    assert [pair.is_equal for pair in pairs] == [True, False] * 10
    opposite = {True: "wrong", False: "correct"}
    said = [(verification.ours(pair.gold, f"\\boxed{{{pair.answer}}}"), pair) for pair in pairs]
    assert [(outcome, pair) for outcome, pair in said if outcome == opposite[pair.is_equal]] == []


def test_hand_written_pairs_are_distinct_and_have_one_label():
    seen = Counter((pair.gold, pair.answer) for pair in verification.hard_pairs())
    assert max(seen.values()) == 1 and len(seen) > 120


def test_no_pair_is_judged_against_its_label():
    """The claim of the record, on a small set: nothing wrong is called correct, nothing right is called wrong."""
    pairs = [*pairs_from(GOLDS, seed=5), *made_pairs(1, seed=5), *verification.hard_pairs()]
    said = [(verification.ours(pair.gold, f"It is \\boxed{{{pair.answer}}}."), pair) for pair in pairs]
    opposite = {True: "wrong", False: "correct"}
    assert [(outcome, pair) for outcome, pair in said if outcome == opposite[pair.is_equal]] == []
    unsure = [pair for outcome, pair in said if outcome == "undecided" and pair.kind != ROUNDED]
    assert len(unsure) <= 8, unsure
    assert not [outcome for outcome, _ in said if outcome.startswith("error")]


def test_figures_of_a_small_measurement():
    pairs = [Pair("1/2", "0.5", True, "a"), Pair("1/2004!", "1/2006!", False, "b"), Pair("7", "8", False, "b")]
    found = verification.measure(pairs)
    assert found["distill"]["false_right"]["count"] == 0 and found["math-verify"]["false_right"]["count"] == 1
    assert found["distill"]["false_wrong"]["of"] == 1
    assert found["distill"]["by_kind"] == {"different: b": {"wrong": 2}, "equal: a": {"correct": 1}}
    assert found["distill"]["median_ms"] > 0


@pytest.fixture(scope="module")
def record():
    return json.loads((ROOT / "benchmarks" / "verification.json").read_text())


def test_the_record_is_consistent_and_holds_no_answers(record):
    assert {"date", "machine", "versions", "code", "pairs", "sets"} <= record.keys()
    for name, sides in record["sets"].items():
        for side in verification.SIDES:
            figures = sides[side]
            counted = sum(sum(outcomes.values()) for outcomes in figures["by_kind"].values())
            assert counted == record["pairs"][name], (name, side)
            right = sum(
                outcomes.get("correct", 0)
                for kind, outcomes in figures["by_kind"].items()
                if kind.startswith("different")
            )
            assert right == figures["false_right"]["count"]
    assert "\\\\" not in json.dumps(record["sets"])
    assert verification.table(record).count("\n") == 1 + 2 * len(record["sets"])


def test_the_page_shows_the_record():
    shown = verification.PAGE.read_text().split(verification.BEGIN)[1].split(verification.END)[0]
    assert shown.strip() == verification.table(json.loads(verification.RESULT.read_text()))
