r"""Whether a task's gold answers are what its verifier compares with, before a token is paid for.

    gold_reasons("aime24", problems)          # [] or one sentence a kind of fault, with how many items and examples

Each fault here has made a benchmark score too low (or the same for every model) with exit code 0: a worked solution
where the answer belongs, `nan` from an empty cell, an AIME answer that is no whole number, options that were never
shuffled, a question that stands twice. A zero-padded answer ("073") is no fault: our verifiers read it as 73, and
AIME's own answer sheet writes it so; where it tells one copy of a dataset from another, the pinned hash says so.
Not covered: whether a gold answer is right. AIME 2024, MATH-500 and GSM8K's test set have none of these faults.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from distill.curate.words import words
from distill.errors import ProblemError
from distill.problems import normalise, question
from distill.records import Problem
from distill.verify import choice, gym
from distill.verify.extract import without_closing_marks
from distill.verify.math import can_read

AIME_ANSWERS = range(1000)
"""Every answer of the AIME is a whole number from 0 to 999."""
LONGEST_GOLD_CHARACTERS = 200
FEWEST_CHOICES_TO_SEE_ONE_LETTER = 20
"""With four shuffled options, 20 questions have the same letter once in 10^11."""
EXAMPLES = 3

_PLACEHOLDERS = frozenset({"nan", "n/a", "null", "?", "-", "todo"})
_WORKED = re.compile(r"\\boxed|####|\n|\b(?:the )?answer\s+is\b|<<.*>>", re.IGNORECASE)
_SHOWN_OPTION = re.compile(r"^\s*\(?([A-Z])[).:]\s", re.MULTILINE)


def gold_reasons(task: str, problems: Sequence[Problem]) -> list[str]:
    """One sentence a kind of fault; none where every gold answer can be compared with."""
    faults: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        fault = gold_fault(problem, is_aime=_is_aime(task, problem))
        if fault is not None:
            faults[fault].append(problem)
    reasons = [
        f"{task}: gold format: {len(found)} of {len(problems)} gold answers {fault}, e.g. {_examples(found)}. "
        "Mend the answer column of the task's data, or name the right column in the task file."
        for fault, found in faults.items()
    ]
    return reasons + one_letter_reasons(task, problems)


def gold_fault(problem: Problem, *, is_aime: bool = False) -> str | None:
    """What is wrong with a problem's gold answer, as a predicate ("are empty"), or None."""
    if problem.verifier == "majority":
        return "are missing (verifier majority lets the samples vote, and a vote is no benchmark)"
    check = _CHECKS.get(problem.verifier)
    if problem.verifier != "code":
        text = (problem.answer or "").strip()
        if not text:
            return "are empty"
        if text.casefold() in _PLACEHOLDERS:
            return "are placeholders of a missing value"
    if is_aime and problem.verifier in ("math", "exact"):
        return _aime_fault(problem)
    return check(problem) if check is not None else None


def one_letter_reasons(task: str, problems: Sequence[Problem]) -> list[str]:
    """Says so where the right option is the same letter in every question: the options were not shuffled."""
    letters = [problem.answer for problem in problems if problem.verifier == "choice"]
    if len(letters) < FEWEST_CHOICES_TO_SEE_ONE_LETTER or len(set(letters)) > 1:
        return []
    return [
        f"{task}: gold format: the gold letter is {letters[0]} for all {len(letters)} questions, so a model that "
        "always says it scores 100%. Shuffle the options once, in the dataset, with a fixed seed."
    ]


def duplicate_reasons(task: str, problems: Sequence[Problem]) -> list[str]:
    """Questions that stand twice: they count double, and twice with different answers one of them is wrong."""
    by_text: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_text[normalise(question(problem))].append(problem)
    groups: dict[str, list[Problem]] = defaultdict(list)
    for text, same in by_text.items():
        groups[_in_any_typesetting(same[0]) or text] += same
    twice = [group for group in groups.values() if len(group) > 1]
    if not twice:
        return []
    several = [group for group in twice if len({problem.answer for problem in group}) > 1]
    conflict = f", {len(several)} of them with different gold answers" if several else ""
    first = (several or twice)[0]
    return [
        f"{task}: duplicates: {len(twice)} questions stand more than once{conflict}, e.g. items "
        f"{', '.join(problem.id for problem in first[:EXAMPLES])}: {_short(question(first[0]))}. "
        "Keep one row of each in the task's data."
    ]


def _in_any_typesetting(problem: Problem) -> str:
    """The words of a question with its gold, or nothing for puzzles and programs, whose very signs are the question.

    With the gold, since words have no brackets: (1 + 2) * 3 is no copy of 1 + 2 * 3.
    """
    plain = " ".join(words(question(problem))) if problem.verifier in ("math", "exact", "choice") else ""
    return f"{plain}\n{without_closing_marks(problem.answer or '')}" if plain else ""


def _is_aime(task: str, problem: Problem) -> bool:
    return task.casefold().startswith("aime") or problem.family.casefold().startswith("aime")


def _aime_fault(problem: Problem) -> str | None:
    text = without_closing_marks(problem.answer or "")
    is_right = re.fullmatch(r"\d{1,3}", text) is not None and int(text) in AIME_ANSWERS
    return None if is_right else "are no whole number from 0 to 999, as every answer of the AIME is"


def _math_fault(problem: Problem) -> str | None:
    text = problem.answer or ""
    if _WORKED.search(text) or len(text) > LONGEST_GOLD_CHARACTERS:
        return "are worked solutions, not bare answers"
    plain = text.replace(r"\{", "").replace(r"\}", "")
    has_all_brackets = len(re.findall(r"[(\[{]", plain)) == len(re.findall(r"[)\]}]", plain))
    return None if has_all_brackets and can_read(text) else "cannot be read as mathematics"


def _exact_fault(problem: Problem) -> str | None:
    text = problem.answer or ""
    is_worked = _WORKED.search(text) or len(text) > LONGEST_GOLD_CHARACTERS
    return "are worked solutions, not bare answers" if is_worked else None


def _choice_fault(problem: Problem) -> str | None:
    try:
        choice.prepare(problem)
    except ProblemError:
        return "are no letter of the question's options"
    shown = set(_SHOWN_OPTION.findall(question(problem)))
    is_missing = len(shown) > 1 and problem.answer not in shown
    return "are no letter of the options that the question shows" if is_missing else None


def _code_fault(problem: Problem) -> str | None:
    tests = problem.meta.get("tests") or {}
    return None if tests.get("cases") or tests.get("code") else "are missing: the problem has no tests"


def _gym_fault(problem: Problem) -> str | None:
    """The verifier's own word on the gold answer: a scorer that does not take it takes no sample either."""
    gym.prepare(problem)
    is_right = gym.score(problem, problem.answer or "") == 1.0
    return None if is_right else "are not right by their own verifier, so that no sample can be"


_CHECKS: Mapping[str, Callable[[Problem], str | None]] = {
    "math": _math_fault,
    "exact": _exact_fault,
    "choice": _choice_fault,
    "code": _code_fault,
    "gym": _gym_fault,
}


def _examples(problems: Sequence[Problem]) -> str:
    return "; ".join(f"item {problem.id}: {_short(problem.answer or '')}" for problem in problems[:EXAMPLES])


def _short(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")
