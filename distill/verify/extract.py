r"""Finds the final answer in the text after the reasoning, and strips what LaTeX puts around it.

In order: the last closed `\boxed{...}` that holds something; what follows the last "answer is" or "Answer:"; the whole
text where it is one line (a model that answers directly). A box without braces, or an empty one ("put it in \boxed{}"),
is no answer and hides none. Not covered: `<answer>` tags, multiple-choice letters (`choice.py`).
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_DIRECT_ANSWER_CHARACTERS = 200

_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_PLACEHOLDER = re.compile(r"(?:\s|\.|\\[cl]?dots|\u2026|~)*")
_STATED = re.compile(r"\banswer\s*(?:is|=|:)\s*[:=]?\s*(?P<answer>[^\n]+)", re.IGNORECASE)
_WRAPPERS = re.compile(r"\\(?:text|textbf|textit|texttt|mathrm|mathbf|mathit|mathtt|mbox|operatorname)\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{}` whose braces balance and that holds more than dots; None if there is none."""
    for match in reversed(list(_BOX.finditer(text))):
        content = _to_closing_brace(text, match.end())
        if content is not None and not _PLACEHOLDER.fullmatch(content):
            return content.strip()
    return None


def _to_closing_brace(text: str, start: int) -> str | None:
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2  # an escaped brace is content
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[start:position]
        position += 1
    return None


def final_answer(text: str) -> str | None:
    """The final answer as the text states it, or None."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    stated = list(_STATED.finditer(text))
    if stated and stated[-1]["answer"].strip(" *$."):
        return without_closing_marks(stated[-1]["answer"])
    line = text.strip()
    if line and "\n" not in line and len(line) <= LONGEST_DIRECT_ANSWER_CHARACTERS and not _BOX.search(line):
        return line
    return None


def without_closing_marks(text: str) -> str:
    """Emphasis, dollar signs and one full stop around an answer taken off."""
    text = text.strip().strip("*").strip()
    text = text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text
    return text.strip("*").strip().strip("$").strip()


def plain_text(answer: str) -> str:
    r"""LaTeX dressing taken off: `\text{73}` and `$73.$` -> 73, `1{,}024` and `1,024` -> 1024, `\times` -> its sign."""
    text = without_closing_marks(answer)
    previous = None
    while previous != text:
        previous, text = text, _WRAPPERS.sub(r"\1", text)
    text = re.sub(r"\\[,;:!]|\\ ", " " if re.search(r"[A-Za-z]\\[ ,;:]", text) else "", text)
    text = text.replace("{,}", ",").replace(r"\times", "\u00d7").replace(r"\cdot", "\u00b7")
    text = re.sub(r"\\([#$%&_{}])", r"\1", text)
    text = without_closing_marks(text)
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def one_spelling(answer: str) -> str:
    """Plain text in Unicode NFKC with runs of white space as one blank; letter case counts (R is not r)."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", plain_text(answer))).strip()


def is_integer(text: str) -> bool:
    """Whether the text is a whole number in ASCII digits, signed or with leading zeros or not."""
    return re.fullmatch(r"[-+]?[0-9]+", text) is not None
