"""The tree that `math_reader.py` makes of an answer, and what a text may leave open about it.

Heads: number (value: a fraction), name, constant, call (value: the function), list (value: its words "and", "or"),
tuple (value: its brackets), set, matrix of rows, relation (value: its signs), union, intersection, without, reals,
dots, unit (value: the unit's words), based (value: the base it is written in).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

OPEN_QUESTIONS = {
    "division": "`1/2x` is (1/2)x, or 1/(2x)",
    "thousands": "`1,234` is a number, or a list",
    "percent": "`5%` is 5, or 0.05",
    "degrees": "`90^\\circ` is 90, or a quarter of a turn in radians",
    "log": "`\\log x` is natural, or to base ten",
}
"""Each with its plainer answer first, which is what False stands for."""


class UnreadableError(Exception):
    """The text, or what it stands for, is beyond this reader; never a statement about right and wrong."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of what was read."""

    head: str
    parts: tuple[Node, ...] = ()
    value: str = ""

    def names(self) -> set[str]:
        """Names of its free variables."""
        own = {self.value} if self.head == "name" else set()
        return own.union(*(part.names() for part in self.parts))

    def has(self, head: str, value: str | None = None) -> bool:
        is_it = self.head == head and value in (None, self.value)
        return is_it or any(part.has(head, value) for part in self.parts)


def number(value: Fraction | int) -> Node:
    return Node("number", (), str(value))


def call(function: str, *parts: Node) -> Node:
    return Node("call", parts, function)
