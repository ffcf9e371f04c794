"""The problems that every client is given and the traces that the server answers with.

A trace is `TOKENS` words: a few that name the problem, then a body that all share, drawn at random so that no detector
of loops or of mixed languages sees anything in it. A token is a word with its space, as the server counts.
"""

from __future__ import annotations

import hashlib
import random
import re
from functools import cache

TOKENS = 2000
PROMPT_TOKENS = 40
_TEXT = (
    "so let us take the first term and check what is left of it when both sides are divided by two then a sum over "
    "all even numbers gives one more than before which cannot hold unless n is odd now suppose that k is prime wait "
    "this case was missed go back to the second line there we used that every factor appears once but nine has it "
    "twice hence add the missing part again and compare with our bound from above good they agree for small values"
)
_WORDS = _TEXT.split()
_NUMBER = re.compile(r"number (\d+)\b")


@cache
def _body(tokens: int) -> str:
    draw = random.Random(20261124)
    return " ".join(draw.choice(_WORDS) for _ in range(tokens))


def prompt_of(number: int) -> str:
    return f"This is problem number {number}. What is {number} + 7? Put the final answer within \\boxed{{}}."


def number_of(prompt: str) -> int:
    """The problem that a prompt asks. Raises: ValueError."""
    found = _NUMBER.search(prompt)
    if found is None:
        raise ValueError(f"no problem number in the prompt {prompt[:80]!r}")
    return int(found[1])


def gold_of(number: int) -> str:
    return str(number + 7)


def reasoning_of(number: int, tokens: int = TOKENS) -> str:
    return f"problem number {number} asks for {number} plus seven {_body(tokens - 18)}"


def content_of(number: int) -> str:
    return f"The sum is {number} plus 7, so the answer is \\boxed{{{gold_of(number)}}}."


def digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:16]
