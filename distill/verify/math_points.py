"""Compares two formulas by what they are worth at the same points, and equations by the ratio of theirs.

    compare_formulas(read("(x+1)^2", {})[0], read("x^2+2x+1", {})[0])       # Opinion("equal", is_exact=True)

Points are positive and mixed-sign fractions and whole numbers, the same in every process. Equal means at every point
that has a value; where the kinds of points disagree (sqrt(x^2) and x) the opinion is "unknown". Values at a point are
exact where the formula is a quotient of polynomials.
Source: Schwartz, J. ACM 27 (1980), https://doi.org/10.1145/322217.322225, corollary 1: two different polynomials of
degree d agree at a random point of S^n with probability at most d / |S|; here |S| is 3000 for each point.
Not covered: the form of lists, sets and relations (`math_second.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from distill.verify.math_tree import Node, call
from distill.verify.math_values import TooLargeError, UndefinedError, Value, agree, divide, evaluate, gap, shown

Relation = Literal["equal", "different", "unknown"]

POINTS_PER_KIND = 4
FEWEST_POINTS = 2
FAR = 250
"""The last point of each kind is so many times as far out, where |x - 100| is not 100 - x; it counts if exact."""
IN_PIECES = ("abs", "floor", "ceil")
"""Functions of which points prove nothing: they may agree here and differ elsewhere."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """`is_exact`: found by arithmetic on fractions alone, so no rounding is behind it.

    `gap`: by how much two values differ, relative to the larger; 0 where they do not, or are no single values.
    """

    relation: Relation
    is_exact: bool = False
    reason: str = ""
    gap: float = 0.0


EQUAL, EXACTLY_EQUAL = Opinion("equal"), Opinion("equal", True)
UNSURE = Opinion("unknown", reason="too close for the digits kept")


def compare_formulas(gold: Node, found: Node) -> Opinion:
    names = frozenset(gold.names() | found.names())
    if not names:
        return _values(evaluate(gold, {}), evaluate(found, {}))
    by_kind = {kind: _at_points(gold, found, names, kind) for kind in ("positive", "mixed", "whole")}
    opinions = [opinion for opinion in by_kind.values() if opinion is not None]
    if by_kind["positive"] is None and by_kind["whole"] is None:
        return Opinion("unknown", reason="no point at which both have a value")
    relations = {opinion.relation for opinion in opinions}
    if relations == {"equal"}:
        is_proof = not any(side.has("call", name) for side in (gold, found) for name in IN_PIECES)
        return Opinion("equal", is_proof and all(opinion.is_exact for opinion in opinions))
    if relations == {"different"}:
        return Opinion("different", all(opinion.is_exact for opinion in opinions), opinions[0].reason)
    agreeing = [kind for kind, opinion in by_kind.items() if opinion is not None and opinion.relation == "equal"]
    return Opinion("unknown", reason=f"equal only where names stand for {' and '.join(agreeing)} numbers")


def _at_points(gold: Node, found: Node, names: frozenset[str], kind: str) -> Opinion | None:
    """Equal if both agree wherever they have a value, different at the first point where not; None without any."""
    exact, defined = True, 0
    points = _points(names, kind)
    for point in points:
        try:
            opinion = _values(evaluate(gold, point), evaluate(found, point))
        except (UndefinedError, TooLargeError):
            continue
        if point is points[-1] and not opinion.is_exact:
            continue  # sixty digits say nothing about the sine of a number of a hundred
        if opinion.relation != "equal":
            where = ", ".join(f"{name} = {value}" for name, value in sorted(point.items()))
            return Opinion(opinion.relation, opinion.is_exact, f"at {where}: {opinion.reason}")
        exact, defined = exact and opinion.is_exact, defined + 1
    return Opinion("equal", exact) if defined >= FEWEST_POINTS else None


@lru_cache(maxsize=256)
def _points(names: frozenset[str], kind: str) -> tuple[dict[str, Fraction], ...]:
    """The same points in every process: fractions between 1/4 and 4 (of either sign if mixed), or whole numbers."""
    draw = random.Random(f"{kind}: {','.join(sorted(names))}")
    make: dict[str, Callable[[], Fraction]] = {
        "positive": lambda: Fraction(draw.randrange(1000, 4000), 1009),
        "mixed": lambda: Fraction(draw.choice((-1, 1)) * draw.randrange(300, 4000), 1013),
        "whole": lambda: Fraction(draw.randrange(2, 12)),
    }
    points = [{name: make[kind]() for name in sorted(names)} for _ in range(POINTS_PER_KIND)]
    points[-1] = {name: value * FAR for name, value in points[-1].items()}
    if kind == "mixed":
        points[0] = {name: -abs(value) for name, value in points[0].items()}
    return tuple(points)


def _values(one: Value, other: Value) -> Opinion:
    same = agree(one, other)
    exact = isinstance(one, Fraction) and isinstance(other, Fraction)
    if same is None:
        return UNSURE
    if same:
        return Opinion("equal", exact)
    return Opinion("different", exact, f"{_shown(one)} and {_shown(other)}", gap(one, other))


def _shown(value: Value) -> str:
    """A value in few digits, however large: 1/2006! has no float."""
    if isinstance(value, Fraction) and value.numerator.bit_length() + value.denominator.bit_length() < 100:
        return str(value)
    return shown(value, 10)


def compare_equations(gold: Node, found: Node) -> Opinion:
    """Equal if left minus right is, up to one factor that is not zero."""
    one, other = (call("-", *node.parts) for node in (gold, found))
    names = one.names() | other.names()
    if not names:
        return Opinion("unknown", reason="equations without a name")
    ratios: list[Value] = []
    for point in _points(frozenset(names), "mixed"):
        try:
            above, below = evaluate(one, point), evaluate(other, point)
        except (UndefinedError, TooLargeError):
            continue
        if agree(above, Fraction(0)) is not False or agree(below, Fraction(0)) is not False:
            continue
        ratios.append(divide(above, below))
    if len(ratios) < FEWEST_POINTS:
        return Opinion("unknown", reason="equations that no point tells apart")
    same = [agree(ratios[0], ratio) for ratio in ratios[1:]]
    exact = all(isinstance(ratio, Fraction) for ratio in ratios)
    if all(same):
        return Opinion("equal", exact)
    return Opinion("different", exact, "equations that are no multiples of each other") if False in same else UNSURE
