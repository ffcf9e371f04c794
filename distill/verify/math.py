r"""Mathematical equality of the final answer and the gold answer, by two checks that share no code.

The first is Math-Verify, the second `math_second.py`. Both say equal: correct. Both say different: wrong. They
disagree: undecided, with both opinions in the detail. One cannot read the answers: the other decides, and the detail
says so, but the second alone never makes "correct" unless exact arithmetic on fractions proves it. Such a proof, and
the difference of two plain numbers, needs no Math-Verify at all.

Only the last `\boxed{}` is read, or without a box what the text states as its answer, or its last expression. Equal
text is correct without parsing; answers that are words must be the same words (Math-Verify reads `Evelyn` as a product
of letters). Two numbers that Math-Verify calls equal must also agree to `RELATIVE_TOLERANCE`, since it rounds at 6
decimals and so takes 1/2004! for 1/2006!.

Math-Verify's own limits need SIGALRM in a main thread, so they are off here. Not covered: time limits (`pool.py`),
without which 10^{10^{10}} hangs; proofs; multiple choice (`choice.py`).
"""

from __future__ import annotations

import logging
import re
from functools import cache, lru_cache
from importlib import metadata
from typing import Any

from distill.errors import ProblemError
from distill.problems import normalise
from distill.records import Outcome, Problem
from distill.verify.base import Judgement
from distill.verify.extract import final_answer, last_boxed, one_spelling, plain_text, without_closing_marks
from distill.verify.math_points import Opinion
from distill.verify.math_reader import read
from distill.verify.math_second import compare
from distill.verify.math_tree import UnreadableError

REVISION = 2

RELATIVE_TOLERANCE = 1e-5

_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?|-?\d+/\d+|-?\\[dt]?frac\{\d+\}\{\d+\}")
_LAST_EXPRESSION = re.compile(
    r"\$(?P<dollars>[^$\n]+)\$|\\\((?P<inline>.+?)\\\)|(?P<number>-?\$?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?%?)"
)
_UNIT = re.compile(r"(?P<number>-?\$?[\d.,]*\d)\s*(?:[A-Za-z]{3,}|per|of|in)(?:\s+[A-Za-z]{2,})*")
_MAGNITUDE = re.compile(
    r"\b(?:hundred|thousand|million|billion|trillion|dozen|half|mod|pi|sqrt|times|percent)s?\b", re.I
)


@cache
def version() -> str:
    try:
        return f"{REVISION}+math-verify-{metadata.version('math-verify')}"
    except metadata.PackageNotFoundError:
        return f"{REVISION}+math-verify-missing"


def prepare(problem: Problem) -> None:
    """Load Math-Verify and sympy (half a second, once a process)."""
    if problem.answer is None:
        raise ProblemError(f"problem {problem.id}: verifier math needs a gold answer, found none.")
    _parse("1")


def extract(problem: Problem, answer: str) -> str | None:
    boxed = last_boxed(answer)
    if boxed is not None:
        return boxed
    found = final_answer(answer)
    if found is not None and (len(found.split()) <= 3 or "\\" in found):
        return found
    lines = [line for line in answer.splitlines() if line.strip()]
    expressions = list(_LAST_EXPRESSION.finditer(found or (lines[-1] if lines else "")))
    if not expressions:
        return found
    return next(group for group in expressions[-1].groups() if group is not None).strip()


def can_read(gold: str) -> bool:
    """Whether a gold answer can be compared with anything but its own text: as words, or by one of the checks."""
    plain = without_closing_marks(gold)
    if _is_words(plain):
        return True
    try:
        read(plain, {})
    except UnreadableError:
        return bool(_parse(_tidy(plain)))
    return True


def score(problem: Problem, extracted: str) -> Judgement:
    gold, found = without_closing_marks(problem.answer or ""), without_closing_marks(extracted)
    if _is_words(gold):
        same = normalise(plain_text(gold)) == normalise(plain_text(found))
        return _judgement("correct" if same else "wrong", "compared as words")
    if one_spelling(gold) == one_spelling(found):
        return _judgement("correct", "the same text")
    second = compare(gold, found)
    if second.relation == "equal" and second.is_exact:
        return _judgement("correct", "equal in exact arithmetic")
    are_plain = _PLAIN_NUMBER.fullmatch(gold) and _PLAIN_NUMBER.fullmatch(found)
    if are_plain and second.relation == "different" and second.gap > RELATIVE_TOLERANCE:
        return _judgement("wrong", f"different in exact arithmetic: {second.reason}")
    return _together(_equal(_tidy(gold), _tidy(found)), second)


def _together(first: bool | None, second: Opinion) -> Judgement:
    """What Math-Verify (None: it cannot read one of them) and the second check come to."""
    if first is None:
        return _judgement(*_ALONE[second.relation])
    if second.relation == "unknown":
        detail = f"only Math-Verify could check; second check: {second.reason}"
        return _judgement("correct" if first else "wrong", detail)
    if first == (second.relation == "equal"):
        return _judgement("correct" if first else "wrong", "both checks agree")
    if first:
        return _judgement("undecided", f"Math-Verify says equal, the second check different: {second.reason}")
    return _judgement("undecided", "Math-Verify says different, the second check equal")


_ALONE: dict[str, tuple[Outcome, str]] = {
    "equal": ("undecided", "Math-Verify cannot read it, the second check says equal"),
    "different": ("wrong", "Math-Verify cannot read it, the second check says different"),
    "unknown": ("wrong", "neither check can read it"),
}


def _judgement(outcome: Outcome, detail: str) -> Judgement:
    return Judgement(outcome, float(outcome == "correct"), detail)


def _tidy(text: str) -> str:
    r"""LaTeX that Math-Verify does not read, rewritten: `\mathrm{e}`, `18 dollars`."""
    text = re.sub(r"\\mathrm\s*\{\s*([A-Za-z])\s*\}", r"\1", text)
    unit = _UNIT.fullmatch(text)
    return unit["number"] if unit and not _MAGNITUDE.search(text) else text


def _is_words(gold: str) -> bool:
    """Whether gold is text: a letter run of four or more outside commands, or wholly inside `\\text{}`."""
    wrapped = re.fullmatch(r"\\(?:text|textbf|mbox|mathrm)\s*\{[^{}]*[A-Za-z][^{}]*\}", gold) is not None
    return wrapped or re.fullmatch(r"(?=.*[A-Za-z]{4})[A-Za-z][A-Za-z '\-]*", gold) is not None


def _equal(gold: str, found: str) -> bool | None:
    """What Math-Verify says; None where it cannot read one of the two."""
    import math_verify

    parsed_gold, parsed_found = _parse(gold), _parse(found)
    if not parsed_gold or not parsed_found:
        return None
    if not math_verify.verify(
        list(parsed_gold), list(parsed_found), timeout_seconds=None, allow_set_relation_comp=True
    ):
        return False
    reads_percent_both_ways = "%" in gold + found  # Math-Verify takes 50% for 50 and for 0.5
    return reads_percent_both_ways or _agree_as_numbers(parsed_gold[0], parsed_found[0])


@lru_cache(maxsize=4096)
def _parse(answer: str) -> tuple[Any, ...]:
    import math_verify

    for name in ("math_verify.parser", "math_verify.grader"):  # they warn that their limits are off, once a process
        logging.getLogger(name).setLevel(logging.ERROR)
    config = [math_verify.LatexExtractionConfig(boxed_match_priority=0), math_verify.ExprExtractionConfig()]
    boxed = f"\\boxed{{{answer}}}"
    return tuple(math_verify.parse(boxed, config, fallback_mode="no_fallback", parsing_timeout=None))


def _agree_as_numbers(gold: Any, found: Any) -> bool:
    """False only if both are plain numbers and differ by more than the tolerance, relative to the larger."""
    import sympy  # type: ignore[import-untyped]

    if not (isinstance(gold, sympy.Expr) and isinstance(found, sympy.Expr) and gold.is_number and found.is_number):
        return True
    gold, found = gold.doit(), found.doit()  # as parsed, sums and products are not yet worked out
    larger = max(sympy.Abs(gold.evalf(30)), sympy.Abs(found.evalf(30)))
    if larger < 1e-20:
        return bool(sympy.simplify(gold - found) == 0)
    return bool(sympy.Abs((gold - found).evalf(30)) <= RELATIVE_TOLERANCE * larger)
