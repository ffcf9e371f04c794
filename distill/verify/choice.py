r"""Multiple choice: the letter of the option that the answer names.

    problem.answer             the gold letter
    problem.meta["choices"]    the options' texts in order, where the source has them

Read, in this order: the last `\boxed{}`, what follows the last "answer is" or "Answer:", the last line. In each: a
letter (`C`, `(C)`, `C.`, `C: text`), or the whole text of one option. Two letters, a letter with another option's text,
or a text that two options share are ambiguous, and ambiguous is no answer.
Not covered: questions with several right options; more than 26 options.
"""

from __future__ import annotations

import re
import string

from distill.errors import ProblemError
from distill.problems import normalise
from distill.records import Problem
from distill.verify.extract import last_boxed, plain_text, without_closing_marks

VERSION = "1"
LETTERS_WITHOUT_CHOICES = 10

_STATED = re.compile(
    r"\b(?:answer|option|choice)(?:\s+(?:is|should be|must be)|\s*[:=])\s*[:=]?\s*(?P<answer>[^\n]+)", re.IGNORECASE
)
_LEADING = re.compile(
    r"(?:(?:option|choice|answer)\s+)?[(\[]?(?P<letter>[A-Z])(?P<after>[)\].:,;]|\b)(?P<rest>.*)", re.S
)
_IN_PARENTHESES = re.compile(r"[(\[]([A-Z])[)\]]")
_ALTERNATIVE = re.compile(r"(?:\b(?:or|and)\b|[,/&])\s*(?:option\s+|choice\s+)?[(\[]?([A-Z])(?![\w'])[)\]]?")


def version() -> str:
    return VERSION


def prepare(problem: Problem) -> None:
    letters = _letters(problem)
    if problem.answer is None or problem.answer not in letters:
        raise ProblemError(
            f"problem {problem.id}: verifier choice needs a gold letter of {letters[0]}-{letters[-1]}, "
            f"found {problem.answer!r}; mend the answer or choices column."
        )


def extract(problem: Problem, answer: str) -> str | None:
    boxed = last_boxed(answer)
    if boxed is not None:
        return _letter(problem, boxed)
    stated = list(_STATED.finditer(answer))
    if stated:
        return _letter(problem, stated[-1]["answer"])
    lines = [line for line in answer.splitlines() if line.strip()]
    if not lines:
        return None
    found = _letter(problem, lines[-1]) if len(lines) == 1 or _is_short(lines[-1]) else None
    named = set(_IN_PARENTHESES.findall(lines[-1])) & set(_letters(problem))
    return found if found is not None or len(named) != 1 else named.pop()


def score(problem: Problem, extracted: str) -> float:
    return float(extracted == problem.answer)


def _letters(problem: Problem) -> str:
    choices = problem.meta.get("choices")
    return string.ascii_uppercase[: len(choices) if choices else LETTERS_WITHOUT_CHOICES]


def _is_short(line: str) -> bool:
    return len(line.split()) <= 3


def _letter(problem: Problem, text: str) -> str | None:
    """The letter that a text names, or None where it names none or more than one."""
    text = plain_text(text.strip().lstrip("*").strip())
    by_text = _options_that_read(problem, text)
    if by_text:
        return by_text[0] if len(by_text) == 1 else None
    if len(text) == 1 and text.upper() in _letters(problem):
        return text.upper()
    found = _LEADING.match(text)
    if found is None or found["letter"] not in _letters(problem):
        return None
    letter, rest = found["letter"], found["rest"].strip(" *)].:-")
    is_article = letter in "AI" and not found["after"] and rest[:1].islower() and text[0] == letter
    others = {other for other in _ALTERNATIVE.findall(found["after"] + found["rest"].partition(". ")[0])}
    if is_article or (others & set(_letters(problem))) - {letter}:
        return None
    by_text = _options_that_read(problem, rest)
    return None if by_text and letter not in by_text else letter


def _options_that_read(problem: Problem, text: str) -> list[str]:
    choices = problem.meta.get("choices") or []
    wanted = normalise(without_closing_marks(text))
    texts = [normalise(without_closing_marks(plain_text(choice))) for choice in choices]
    return [letter for letter, choice in zip(_letters(problem), texts, strict=False) if choice and choice == wanted]
