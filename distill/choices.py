"""The options of a multiple-choice problem, and the letter of the right one, read from the forms datasets keep them in.

Options: a list of texts (MMLU), {"text": [...], "label": [...]} (ARC), {"A": "...", "B": "..."}, or any of them as
JSON text; or the right option and the wrong ones apart (GPQA). Right: a letter, a label, the index from 0 of a list
without labels, or an option's text.
Not covered: several right options.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from distill.errors import ProblemError
from distill.records import stable_hash


def read_choices(value: Any, *, where: str) -> tuple[list[str], list[str]]:
    """(the options' texts, their labels). Raises: ProblemError if there are not at least two."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise _wrong(where, value) from None
    labels = None
    if isinstance(value, Mapping) and "text" in value and "label" in value:
        labels, value = value["label"], value["text"]
    elif isinstance(value, Mapping):
        labels, value = list(value), list(value.values())
    if not isinstance(value, list) or not 2 <= len(value) <= len(string.ascii_uppercase):
        raise _wrong(where, value)
    if labels is not None and len(labels) != len(value):
        raise _wrong(where, labels)
    texts = [str(text).strip() for text in value]
    return texts, [str(label).strip() for label in labels or string.ascii_uppercase[: len(texts)]]


def gold_letter(gold: Any, choices: tuple[list[str], list[str]] | None, *, where: str) -> str:
    """The letter A, B, ... of the right option, whatever the dataset calls it."""
    text = str(gold).strip()
    if choices is None:
        letter = text.strip("().").upper()
        if len(letter) == 1 and letter in string.ascii_uppercase:
            return letter
        raise ProblemError(f"{where}: answer: found {text[:40]!r}; expected a letter, or set choices to a column.")
    texts, labels = choices
    if isinstance(gold, int) and labels[0] == "A" and 0 <= gold < len(texts):
        return string.ascii_uppercase[gold]
    for known in (labels, texts):
        if known.count(text) == 1:
            return string.ascii_uppercase[known.index(text)]
    if labels[0] == "A" and text.isdecimal() and int(text) < len(texts):
        return string.ascii_uppercase[int(text)]
    raise ProblemError(
        f"{where}: answer: found {text[:40]!r}; expected one of {', '.join(labels)}, or an option's text."
    )


def shuffled_choices(right: Any, wrong: Sequence[Any], *, key: str, where: str) -> tuple[list[str], str]:
    """(the options in an order that depends on `key` and their texts only, the letter of the right one).

    A random generator would give another order to every run, and with it another prompt: lm-eval's gpqa tasks shuffle
    with Python's global one. Raises: ProblemError if an option is empty.
    """
    texts = [str(text).strip() if text is not None else "" for text in (right, *wrong)]
    if not all(texts) or not 2 <= len(texts) <= len(string.ascii_uppercase):
        raise _wrong(where, texts)
    order = sorted(range(len(texts)), key=lambda place: (stable_hash("options", key, texts[place]), place))
    return [texts[place] for place in order], string.ascii_uppercase[order.index(0)]


def with_choices(asked: str, texts: list[str], *, always: bool = False) -> str:
    """The question with its options under it, a letter each, unless it shows them all already."""
    if not always and all(text in asked for text in texts):
        return asked
    lines = [f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, texts, strict=False)]
    return "\n".join([asked.rstrip(), "", *lines])


def _wrong(where: str, found: Any) -> ProblemError:
    return ProblemError(
        f"{where}: choices: found {found!r:.60}; expected a list of 2 to 26 options, or text and label."
    )
