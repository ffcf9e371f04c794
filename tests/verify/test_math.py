"""Mathematical equality (`distill/verify/math.py`): the forms that other scorers are known to get wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distill.errors import ProblemError
from distill.records import Problem, Sample
from distill.verify.base import verify

EQUAL = [
    ("73", r"\boxed{073}"),
    ("073", r"\boxed{73}"),
    ("73", r"\boxed{73.}"),
    ("73", r"\boxed{\text{73}}"),
    ("1024", r"\boxed{1,024}"),
    ("1024", r"\boxed{1{,}024}"),
    ("73", r"\boxed{m+n=73}"),
    ("73", "The answer is 73"),
    ("73", r"\boxed{73} and write it as \boxed 9 later"),
    ("18", r"\boxed{\$18}"),
    ("18", r"\boxed{18 dollars}"),
    ("18", r"\boxed{18\text{ dollars}}"),
    ("18", "She makes 6 + 12.\nShe makes $18$ a day"),
    (r"\frac{1}{2}", r"\boxed{0.5}"),
    (r"\frac13", r"\boxed{1/3}"),
    ("60", r"\boxed{60\%}"),
    ("60", "She got 60% of them"),
    (r"50\%", r"\boxed{0.5}"),
    ("0", r"\boxed{\sqrt{2} - \sqrt{2}}"),
    ("0", r"\boxed{\sin(\pi)}"),
    ("2+3i", r"\boxed{3i + 2}"),
    ("5x - 7y + 11z + 4 = 0", r"\boxed{5x - 7y + 11z + 4 = 0}"),
    ("8n^2 + 4n + 1", r"\boxed{1 + 4n + 8n^2}"),
    (r"3\sqrt{13}", r"\boxed{\sqrt{117}}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
    ("x^2+1", r"\boxed{1 + x^2}"),
    (r"[0,\infty)", r"\boxed{x \ge 0}"),
    (r"\text{Evelyn}", r"\boxed{Evelyn}"),
    (r"1-1/\mathrm{e}", r"\boxed{1 - \frac{1}{e}}"),
]

UNEQUAL = [
    ("73", r"\boxed{37}"),
    (r"\frac13", r"\boxed{0.333}"),
    ("1/2004!", r"\boxed{1/2006!}"),
    ("1/2^{99}", r"\boxed{1/2^{98}}"),
    (r"1-1/\mathrm{e}", r"\boxed{1+1/\mathrm{e}}"),
    (r"1,2,\ldots,n", r"\boxed{1,3,5,\ldots,2n-1}"),
    ("12", r"\boxed{1,2}"),
    ("0", r"\boxed{10^{-9}}"),
    ("8n^2 + 4n + 1", r"\boxed{4n + 1 + 8n}"),
    ("(1,2)", r"\boxed{(2,1)}"),
    ("5", r"\boxed{5 or 7}"),
    ("18", r"\boxed{18 thousand}"),
    (r"\text{Evelyn}", r"\boxed{nylEve}"),
    ("10000000000000001", r"\boxed{10000000000000000}"),
    ("73", r"\boxed{}}{"),
]


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal(
    gold: str, answer: str, make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]
) -> None:
    verdict = verify(make_problem(gold), make_sample(answer))
    assert (verdict.outcome, verdict.score) == ("correct", 1.0), verdict


# What each check says, and what that comes to: outcome and words of the detail.
TOGETHER = [
    ("x+1", r"\boxed{1+x}", "correct", "exact arithmetic"),
    (r"3\sqrt{13}", r"\boxed{\sqrt{117}}", "correct", "both checks agree"),
    (r"\int_0^1 x\,dx", r"\boxed{\int_{0}^{1} x\,dx}", "correct", "only Math-Verify could check"),
    (r"\frac13", r"\boxed{0.33333333}", "undecided", "Math-Verify says equal, the second check different: 1/3 and"),
    ("52_8", r"\boxed{52_9}", "undecided", "Math-Verify says equal, the second check different: 42 and 47"),
    (r"\sin 15^\circ", r"\boxed{\frac{\sqrt6-\sqrt2}{4}}", "undecided", "Math-Verify says different, the second"),
    (r"[0,\infty)", r"\boxed{x \ge 0}", "correct", "exact arithmetic"),
    ("(3,4]", r"\boxed{3 < x \le 4}", "correct", "exact arithmetic"),
    ("5.4 cents", r"\boxed{5.4 \text{ dollars}}", "undecided", "the units"),
    ("3R^2", r"\boxed{3r^2}", "undecided", "Math-Verify says equal"),
    ("x^2", r"\boxed{x^3}", "wrong", "both checks agree"),
    ("73", r"\boxed{37}", "wrong", "different in exact arithmetic: 73 and 37"),
    (r"\text{even}", r"\boxed{odd}", "wrong", "compared as words"),
]


@pytest.mark.parametrize(("gold", "answer", "outcome", "detail"), TOGETHER)
def test_two_checks_together(
    gold: str,
    answer: str,
    outcome: str,
    detail: str,
    make_problem: Callable[..., Problem],
    make_sample: Callable[..., Sample],
) -> None:
    verdict = verify(make_problem(gold), make_sample(answer))
    assert verdict.outcome == outcome and detail in verdict.detail, verdict
    assert verdict.score == (1.0 if outcome == "correct" else 0.0)


@pytest.mark.parametrize(("gold", "answer"), UNEQUAL)
def test_unequal(
    gold: str, answer: str, make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]
) -> None:
    verdict = verify(make_problem(gold), make_sample(answer))
    assert verdict.outcome in ("wrong", "no_answer"), verdict


def test_model_text_is_not_run(
    tmp_path: object, make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]
) -> None:
    marker = f"{tmp_path}/ran"
    for call in (f"open('{marker}', 'w')", f'__import__("os").system("touch {marker}")'):
        assert verify(make_problem("73"), make_sample(rf"\boxed{{{call}}}")).outcome == "wrong"
        verify(make_problem("73"), make_sample(f"The answer is {call}"))
    import os

    assert not os.path.exists(marker)


def test_gold_is_needed(make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]) -> None:
    with pytest.raises(ProblemError, match="needs a gold answer"):
        verify(make_problem(None), make_sample(r"\boxed{1}"))


def test_works_off_the_main_thread(make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        verdict = threads.submit(verify, make_problem(r"\frac{3}{4}"), make_sample(r"\boxed{0.75}")).result()
    assert verdict.outcome == "correct"
    assert "math-verify" in verdict.version
