r"""The second reading of an answer, and where it changes a verdict.

pytest tests/verify/test_second_extract.py
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.records import Problem, Sample
from distill.verify.base import verify
from distill.verify.second_extract import reread, second_reading


def problem_of(verifier: str = "math", answer: str = "18", **meta: object) -> Problem:
    return Problem("p", "How many?", answer, verifier, "f", "math", "test", "none", dict(meta))


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (r"So \boxed{18}.", "18"),
        (r"first \boxed{1}, then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{18} dollars, 3 a day.", "18"),
        (r"\boxed 18", "18"),
        (r"cut off \boxed{18", "18"),
        (r"\boxed{5}. Wait, the answer is 18.", "18"),
        (r"The answer is \boxed{18}", "18"),
        (r"\boxed{18}. This answer is consistent with the figures 3 and 2.", "18"),
        ("<answer> 18 </answer>", "18"),
        ("He sells 9 at 2.\n#### 18", "18"),
        ("The answer is 18 dollars (3 per day).", "18"),
        ("The answer is $x^2$.", "x^2"),
        ("so 18 dollars (3 per day).", "3"),
        ("He has $2x$ and then $18$ left.", "18"),
        ("1,024", "1,024"),
        (r"\boxed{}", None),
        ("I do not know what it is.", None),
        ("", None),
    ],
)
def test_values(answer: str, read: str | None) -> None:
    assert second_reading(problem_of(), answer) == read


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        ("Answer: (B). Unlike (A), it floats.", "B"),
        (r"Vitamin C, \boxed{mitochondria}", None),
        ("I think (A) is wrong.\nSo B", "B"),
        ("A dog. I see it", None),
    ],
)
def test_letters(answer: str, read: str | None) -> None:
    problem = problem_of("choice", "B", choices=["w", "x", "y", "z"])
    assert second_reading(problem, answer) == read


def test_words_are_not_mistaken_for_numbers() -> None:
    paris = problem_of("exact", "New York City")
    assert second_reading(paris, "There are 5 towns. The answer is New York City.") == "New York City"
    assert second_reading(paris, "There are 5 towns, and it is the big one of them all.") is None


def test_programs_and_puzzles_are_not_read() -> None:
    assert second_reading(problem_of("gym"), r"\boxed{18}") is None
    assert second_reading(problem_of("code"), "print(18)") is None


def sample_of(answer: str | None, key: str = "s", **changes: object) -> Sample:
    fields: dict[str, object] = {
        "key": key, "model": "m", "model_fingerprint": "m", "problem_id": "p", "prompt_hash": "", "index": 0, "seed": 0,
        "params": {}, "text": answer or "<think>", "reasoning": None, "answer": answer, "prompt_tokens": 1,
        "completion_tokens": 1, "finish_reason": "stop", "seconds": 0.0, "cost_usd": None, "created_at": "",
    }  # fmt: skip
    return Sample(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_changed_verdict_is_seen_and_only_differing_texts_are_judged_again() -> None:
    answers = [r"\boxed{18}", r"\boxed{5}. Wait, the answer is 18.", r"\boxed{18} or rather, the answer is 5.",
               r"\boxed{7} or: the answer is 8.", None]  # fmt: skip
    samples = [sample_of(answer, f"s{at}") for at, answer in enumerate(answers)]
    judged = [(problem_of(), sample, verify(problem_of(), sample)) for sample in samples]
    asked: list[str] = []

    def verify_all(pairs):
        for problem, sample in pairs:
            asked.append(sample.text)
            yield verify(problem, sample)

    found = reread(judged, verify_all)
    assert [(each.first, each.second, each.is_changed) for each in found] == [
        ("correct", "correct", False), ("wrong", "correct", True),
        ("correct", "wrong", True), ("wrong", "wrong", False),
    ]  # fmt: skip
    assert asked == [r"\boxed{18}", r"\boxed{5}", r"\boxed{8}"]
    assert reread([(problem_of("gym"), samples[0], judged[0][2])], verify_all) == []


def test_a_second_verdict_of_error_is_no_disagreement() -> None:
    problem, sample = problem_of(), sample_of(r"\boxed{18}. The answer is 5.")
    failed = verify(problem, sample)
    found = reread(
        [(problem, sample, failed)],
        lambda pairs: [replace(failed, sample_key=s.key, outcome="error") for _, s in pairs],
    )
    assert [(each.second, each.is_changed) for each in found] == [(None, False)]
