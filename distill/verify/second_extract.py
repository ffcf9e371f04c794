r"""Reads the final answer a second time, by other rules, so that a gate sees where extraction decides the score.

    second_reading(problem, sample.answer)                          # "18", or None: nothing to say
    rereads = reread([(problem, sample, verdict)], pool.verify_many)  # .is_changed: right by one reading only

The verifiers take the last closed `\boxed{}` before anything else. Here the last *mark* wins whatever its kind (a box,
also one without braces or without its end, `<answer>`, `####`, "answer is"), and without a mark the last formula or
number of the whole text, as lm-eval's flexible filters do. No code is shared with `extract.py`. What it read is put in
a box and judged by the problem's own verifier, so only extraction differs.
Not covered: programs and reasoning-gym's puzzles; there it says nothing.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from distill.records import Outcome, Problem, Sample, Verdict

VERIFIERS = ("math", "exact", "choice")
"""Whose answers it can read."""

Verify = Callable[[Iterable[tuple[Problem, Sample]]], Iterable[Verdict]]

_MARKS = re.compile(
    r"(?P<box>\\f?box(?:ed)?\s*(?P<open>\{)?)|(?P<tag><answer>)|(?P<hashes>####)|(?P<stated>\banswer\b\s*(?:is|:|=)[:=\s]*)",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_LETTER = re.compile(r"(?<![A-Za-z'\\])([A-Z])(?![A-Za-z'])")
_ARTICLE = re.compile(r"(?<![(\[\w])[AI](?=\s+[a-z])")
_NEAR_CHARACTERS = 24
"""How far behind "answer is" its value may begin: "the answer is about 5", not "is consistent with 3 + 2"."""


def second_reading(problem: Problem, answer: str) -> str | None:
    """The final answer as these rules read it; None where they have nothing to say."""
    if problem.verifier not in VERIFIERS:
        return None
    for kind, text in reversed(_marked(answer)):
        found = _letter(problem, text) if problem.verifier == "choice" else _value(problem, text, kind == "stated")
        if found is not None or kind != "stated":
            return found
    return _last_letter(problem, answer) if problem.verifier == "choice" else _last_value(problem, answer)


def _marked(answer: str) -> list[tuple[str, str]]:
    """(kind of mark, what stands behind it), in the order of the text; empty ones are left out."""
    found = []
    for match in _MARKS.finditer(answer):
        kind, rest = match.lastgroup or "", answer[match.end() :]
        kind = "box" if kind == "open" else kind
        line = rest.partition("\n")[0]
        if kind == "box":
            text = _in_braces(rest) if match["open"] else line.strip().partition(" ")[0]
        else:
            text = rest.partition("</answer>")[0] if kind == "tag" else line
        if text.strip(" .$*~\n"):
            found.append((kind, text.strip()))
    return found


def _in_braces(text: str) -> str:
    """Up to the brace that closes, or the end of the line where none does."""
    depth = 1
    for place, character in enumerate(text):
        if character in "{}" and text[place - 1 : place] != "\\":
            depth += 1 if character == "{" else -1
        if depth == 0:
            return text[:place]
    return text.partition("\n")[0]


def _value(problem: Problem, text: str, is_stated: bool) -> str | None:
    """What a mark holds; behind "answer is" the first formula or number, where it stands near."""
    if not is_stated:
        return text
    sentence = re.split(r"[.!?](?:\s|$)", text, maxsplit=1)[0].strip().strip("*").strip()
    first = min((place for pattern in (_FORMULA, _NUMBER) for place in _places(pattern, sentence)), default=None)
    if first is not None:
        return first[2] if first[0] <= _NEAR_CHARACTERS else None
    return sentence if sentence and not _is_about_numbers(problem) else None


def _last_value(problem: Problem, answer: str) -> str | None:
    """A short text as it stands, else its last formula or number."""
    short = answer.strip().strip("*. ")
    if short and len(short.split()) <= 2 and not _MARKS.search(short):
        return short
    patterns = (_FORMULA, _NUMBER) if _is_about_numbers(problem) else (_FORMULA,)
    places = [(end, text) for pattern in patterns for _, end, text in _places(pattern, answer)]
    return max(places)[1] if places else None


def _places(pattern: re.Pattern[str], text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of every match."""
    return [
        (match.start(), match.end(), next((group for group in match.groups() if group), match[0]).strip(" ,"))
        for match in pattern.finditer(text)
    ]


def _is_about_numbers(problem: Problem) -> bool:
    return re.search(r"[\d\\]", problem.answer or "") is not None


def _letters(problem: Problem) -> str:
    choices = problem.meta.get("choices")
    return string.ascii_uppercase[: len(choices) if choices else 10]


def _letter(problem: Problem, text: str) -> str | None:
    """The first letter of an option in what a mark holds."""
    return next((letter for letter in _LETTER.findall(text) if letter in _letters(problem)), None)


def _last_letter(problem: Problem, answer: str) -> str | None:
    """The last letter of an option that stands alone; "A dog", "I think" hold none."""
    found = [letter for letter in _LETTER.findall(_ARTICLE.sub(" ", answer)) if letter in _letters(problem)]
    return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Reread:
    """One sample's verdict under each reading; `second` is None where the second extractor had nothing to say."""

    sample_key: str
    first: Outcome
    second: Outcome | None

    @property
    def is_changed(self) -> bool:
        """Whether the sample would be right instead of not right, or the other way round."""
        return self.second is not None and (self.first == "correct") != (self.second == "correct")


def reread(judged: Iterable[tuple[Problem, Sample, Verdict]], verify: Verify) -> list[Reread]:
    """Second verdicts on samples that have an answer to read; those of other verifiers are left out.

    Only readings that differ from the first are judged again, each text of a problem once. A second verdict of
    "error" (a time limit) is no disagreement.
    """
    readings = [
        (problem, sample, verdict, second_reading(problem, sample.answer or ""))
        for problem, sample, verdict in judged
        if problem.verifier in VERIFIERS and sample.answer is not None and verdict.outcome in _READ
    ]
    asked: dict[tuple[str, str], tuple[Problem, Sample]] = {}
    for problem, sample, verdict, text in readings:
        if text is not None and _same(text, verdict.extracted) is False:
            asked.setdefault((problem.id, text), (problem, _boxed(sample, text)))
    keys = {sample.key: place for place, (_, sample) in asked.items()}
    outcomes = {keys[verdict.sample_key]: verdict.outcome for verdict in verify(asked.values())}
    found = []
    for problem, sample, verdict, text in readings:
        second = None if text is None else outcomes.get((problem.id, text), verdict.outcome)
        found.append(Reread(sample.key, verdict.outcome, None if second == "error" else second))
    return found


_READ = ("correct", "wrong", "undecided", "no_answer")
"""Outcomes of samples that ended by themselves and were read."""


def _same(second: str, first: str | None) -> bool:
    return first is not None and re.sub(r"[\s,$]", "", second) == re.sub(r"[\s,$]", "", first)


def _boxed(sample: Sample, text: str) -> Sample:
    balanced = text if text.count("{") == text.count("}") else text.replace("{", "").replace("}", "")
    answer = f"\\boxed{{{balanced}}}"
    key = f"{sample.key}:second"
    return replace(sample, key=key, text=answer, reasoning=None, answer=answer, finish_reason="stop", logprobs=())
