r"""The second opinion on two answers in mathematics: read by another reader, compared by value.

    opinion = compare(r"1/2^{99}", r"1/2^{98}")        # Opinion("different", is_exact=True, reason="...")

Numbers compare exactly where both are fractions, else to 40 digits. Formulas compare at points: positive and mixed-sign
fractions and whole numbers, all of them exact where the formula is a quotient of polynomials. Equations compare up to a
factor. Sets, lists, tuples, matrices and intervals compare part by part; a +- b is two values.

What a text leaves open (`math_tree.OPEN_QUESTIONS`) is answered every way, for both sides alike: "equal" if one way
makes them equal, "different" if every way does. "unknown" where either cannot be read or the points disagree, with the
reason. Source of the test at points: Schwartz, J. ACM 27 (1980), https://doi.org/10.1145/322217.322225, corollary 1.
Not covered: solving (x^2 = 4 is not read as x = 2 or -2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Literal

from distill.verify.math_reader import read
from distill.verify.math_sets import is_real_set, real_set, same_set
from distill.verify.math_tree import Node, UnreadableError, call
from distill.verify.math_values import UndefinedError, Value, agree, divide, evaluate, shown

Relation = Literal["equal", "different", "unknown"]

POINTS_PER_KIND = 3
FEWEST_POINTS = 2
MOST_WAYS_TO_READ = 16


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


def compare(gold: str, found: str) -> Opinion:
    """What this reader makes of two answers. Never raises for what a model wrote; may be slow only by `math_values`."""
    opinions: list[Opinion] = []
    try:
        for choices in _ways_to_read(gold, found):
            opinion = _compare(read(gold, choices)[0], read(found, choices)[0])
            if opinion.relation == "equal":
                return opinion
            opinions.append(opinion)
    except UnreadableError as error:
        return Opinion("unknown", reason=f"not read: {error}")
    except UndefinedError as error:
        return Opinion("unknown", reason=f"no value: {error}")
    except RecursionError:
        return Opinion("unknown", reason="not read: nested too deeply")
    unknown = [opinion for opinion in opinions if opinion.relation == "unknown"]
    if unknown:
        return unknown[0]
    exact, gap = all(opinion.is_exact for opinion in opinions), min(opinion.gap for opinion in opinions)
    return Opinion("different", exact, opinions[0].reason, gap)


def _ways_to_read(gold: str, found: str) -> Iterator[dict[str, bool]]:
    """Every answer to the questions that the two texts leave open, the plain one first."""
    questions = sorted(_questions(gold) | _questions(found))
    for number_of_way, answers in enumerate(product((False, True), repeat=len(questions))):
        if number_of_way < MOST_WAYS_TO_READ:
            yield dict(zip(questions, answers, strict=True))


@lru_cache(maxsize=4096)
def _questions(text: str) -> frozenset[str]:
    return frozenset(read(text, {})[1])


# --- by form ---------------------------------------------------------------------------------------------------------


def _compare(gold: Node, found: Node) -> Opinion:
    gold, found = _plain(gold), _plain(found)
    if gold == found and not gold.has("dots"):
        return EXACTLY_EQUAL
    if "relation" in (gold.head, found.head) and gold.head != found.head:
        solved = _solved(gold, found)
        if solved is not None:
            return _compare(*solved)
    if gold.head == found.head == "relation" and not (is_real_set(gold) and is_real_set(found)):
        return _relations(gold, found)
    if is_real_set(gold) or is_real_set(found):
        return _sets_of_numbers(gold, found)
    if gold.has("dots") or found.has("dots"):
        return _with_dots(gold, found)
    return _by_parts(gold, found)


def _plain(node: Node) -> Node:
    """A list or set of +- values spread out; a list of one as its item; an assignment in a list as its value."""
    if node.head == "unit":
        return _plain(node.parts[0])
    if node.head in ("list", "set"):
        items = tuple(item for part in node.parts for item in _both_signs(_value_of_assignment(part)))
        return items[0] if node.head == "list" and len(items) == 1 else Node(node.head, items)
    if node.has("call", "pm") or node.has("call", "mp"):
        return Node("list", tuple(_both_signs(_value_of_assignment(node))))
    return node


def _value_of_assignment(node: Node) -> Node:
    is_it = node.head == "relation" and node.value == "=" and node.parts[0].head == "name"
    return node.parts[1] if is_it and node.parts[0].value not in node.parts[1].names() else node


def _both_signs(node: Node) -> list[Node]:
    if not (node.has("call", "pm") or node.has("call", "mp")):
        return [node]
    return [_with_sign(node, "+", "-"), _with_sign(node, "-", "+")]


def _with_sign(node: Node, upper: str, lower: str) -> Node:
    value = {"pm": upper, "mp": lower}.get(node.value, node.value) if node.head == "call" else node.value
    return Node(node.head, tuple(_with_sign(part, upper, lower) for part in node.parts), value)


def _by_parts(gold: Node, found: Node) -> Opinion:
    several = ("list", "set", "tuple", "matrix")
    if gold.head not in several and found.head not in several:
        if gold.head == "based" or found.head == "based":
            return _in_bases(gold, found)
        return _formulas(gold, found)
    if gold.head in several and found.head in several:
        if gold.head != found.head and not {gold.head, found.head} <= {"list", "set"}:
            return Opinion("unknown", reason=f"a {gold.head} and a {found.head}")
        if gold.head in ("list", "set"):
            return _unordered(gold.parts, found.parts)
        return _ordered(gold, found)
    many, one = (gold, found) if gold.head in several else (found, gold)
    if many.head in ("set", "list") and len(_distinct(many.parts)) == 1:
        return _compare(many.parts[0], one) if many is gold else _compare(one, many.parts[0])
    return Opinion("different", False, f"a {many.head} of {len(many.parts)} and one value")


def _in_bases(gold: Node, found: Node) -> Opinion:
    if gold.head == found.head == "based":
        opinion = _formulas(gold, found)
        same_base = gold.value == found.value
        return opinion if same_base else Opinion("unknown", reason=f"bases {gold.value} and {found.value}")
    return Opinion("unknown", reason="one side names the base it is written in")


def _ordered(gold: Node, found: Node) -> Opinion:
    if len(gold.parts) != len(found.parts):
        return Opinion("different", False, f"{len(gold.parts)} and {len(found.parts)} {gold.head} parts")
    rows = zip(gold.parts, found.parts, strict=True)
    if gold.head == "matrix":
        if any(len(one.parts) != len(other.parts) for one, other in rows):
            return Opinion("different", False, "rows of different lengths")
        pairs = [
            pair
            for one, other in zip(gold.parts, found.parts, strict=True)
            for pair in zip(one.parts, other.parts, strict=True)
        ]
    else:
        pairs = list(rows)
    return _all(_compare(one, other) for one, other in pairs)


def _all(opinions: Iterator[Opinion]) -> Opinion:
    """Equal if all are, different at the first that is."""
    seen: list[Opinion] = []
    for opinion in opinions:
        if opinion.relation == "different":
            return opinion
        seen.append(opinion)
    unknown = [opinion for opinion in seen if opinion.relation == "unknown"]
    return unknown[0] if unknown else Opinion("equal", all(opinion.is_exact for opinion in seen))


def _unordered(gold: tuple[Node, ...], found: tuple[Node, ...]) -> Opinion:
    """As sets: every item of each has an equal one in the other."""
    exact = True
    for one, others in ((item, found) for item in gold):
        opinions = [_compare(one, other) for other in others]
        equal = [opinion for opinion in opinions if opinion.relation == "equal"]
        if not equal:
            unknown = [opinion for opinion in opinions if opinion.relation == "unknown"]
            return unknown[0] if unknown else Opinion("different", False, "an item of one is not in the other")
        exact = exact and any(opinion.is_exact for opinion in equal)
    if len(_distinct(gold)) < len(_distinct(found)):
        return Opinion("different", False, f"{len(gold)} and {len(found)} items")
    return Opinion("equal", exact)


def _distinct(items: tuple[Node, ...]) -> list[Node]:
    kept: list[Node] = []
    for item in items:
        if all(_compare(item, other).relation != "equal" for other in kept):
            kept.append(item)
    return kept


def _with_dots(gold: Node, found: Node) -> Opinion:
    """`1, 2, \\ldots, n`: what stands before and after the dots, place by place."""
    if {gold.head, found.head} - {"list", "set", "tuple"}:
        return Opinion("unknown", reason="dots that one side does not have")
    heads_and_tails = [_around_dots(gold.parts), _around_dots(found.parts)]
    if None in heads_and_tails:
        return Opinion("unknown", reason="dots that one side does not have")
    (head, tail), (other_head, other_tail) = (parts for parts in heads_and_tails if parts is not None)
    pairs = [*zip(head, other_head, strict=False), *zip(reversed(tail), reversed(other_tail), strict=False)]
    opinion = _all(_compare(one, other) for one, other in pairs)
    if opinion.relation == "equal" and (len(head), len(tail)) != (len(other_head), len(other_tail)):
        return Opinion("unknown", reason="dots that stand for different numbers of items")
    return opinion


def _around_dots(parts: tuple[Node, ...]) -> tuple[tuple[Node, ...], tuple[Node, ...]] | None:
    at = [number_of_part for number_of_part, part in enumerate(parts) if part.head == "dots"]
    return (parts[: at[0]], parts[at[0] + 1 :]) if len(at) == 1 else None


# --- relations and sets ----------------------------------------------------------------------------------------------


def _solved(gold: Node, found: Node) -> tuple[Node, Node] | None:
    """The two without a `name =` (or `m + n =`) that only one of them has; None where the equation says more."""
    equation, other = (gold, found) if gold.head == "relation" else (found, gold)
    if set(equation.value.split()) != {"="}:
        return None
    left, right = equation.parts[0], equation.parts[-1]
    if not left.names() or left.has("number") or left.has("relation"):
        left, right = right, left
    if not left.names() or left.has("number") or (left.head != "name" and right.names() - _argument(left)):
        return None
    return (right, other) if equation is gold else (other, right)


def _argument(left: Node) -> set[str]:
    """Names of x in `f(x)`."""
    is_call = left.head == "call" and left.value == "*" and all(part.head == "name" for part in left.parts)
    return left.parts[1].names() if is_call else set()


def _relations(gold: Node, found: Node) -> Opinion:
    signs, other_signs = gold.value.split(), found.value.split()
    if signs == other_signs == ["="]:
        return _equations(gold, found)
    if len(gold.parts) == len(found.parts) and signs == other_signs:
        return _all(_compare(one, other) for one, other in zip(gold.parts, found.parts, strict=True))
    if "=" in signs and "=" in other_signs:
        return _compare(
            Node("relation", (gold.parts[0], gold.parts[-1]), "="),
            Node("relation", (found.parts[0], found.parts[-1]), "="),
        )
    return Opinion("unknown", reason=f"relations {gold.value} and {found.value}")


def _equations(gold: Node, found: Node) -> Opinion:
    """Equal if left minus right is, up to one factor that is not zero."""
    one, other = (call("-", *node.parts) for node in (gold, found))
    names = one.names() | other.names()
    if not names:
        return Opinion("unknown", reason="equations without a name")
    ratios: list[Value] = []
    for point in _points(frozenset(names), "mixed"):
        try:
            above, below = evaluate(one, point), evaluate(other, point)
        except UndefinedError:
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
    return Opinion("different", exact, "equations that are no multiples of each other") if False in same else _UNSURE


_UNSURE = Opinion("unknown", reason="too close for the digits kept")


def _sets_of_numbers(gold: Node, found: Node) -> Opinion:
    try:
        one, other = real_set(gold), real_set(found)
    except UnreadableError as error:
        if gold.head == found.head == "tuple" and gold.value == found.value:
            return _ordered(gold, found)
        if gold.head == found.head == "relation" and gold.value == found.value:
            return _all(_compare(a, b) for a, b in zip(gold.parts, found.parts, strict=True))
        return Opinion("unknown", reason=f"not read: {error}")
    if same_set(one, other):
        return EXACTLY_EQUAL if _ends_are_exact(gold) and _ends_are_exact(found) else EQUAL
    return Opinion("different", False, "sets of numbers with different ends")


def _ends_are_exact(node: Node) -> bool:
    return node.head not in ("name", "call") and (
        node.head == "number" or all(_ends_are_exact(part) for part in node.parts)
    )


# --- formulas --------------------------------------------------------------------------------------------------------


def _formulas(gold: Node, found: Node) -> Opinion:
    names = frozenset(gold.names() | found.names())
    if not names:
        return _values(evaluate(gold, {}), evaluate(found, {}))
    by_kind = {kind: _at_points(gold, found, names, kind) for kind in ("positive", "mixed", "whole")}
    opinions = [opinion for opinion in by_kind.values() if opinion is not None]
    if by_kind["positive"] is None and by_kind["whole"] is None:
        return Opinion("unknown", reason="no point at which both have a value")
    relations = {opinion.relation for opinion in opinions}
    if relations == {"equal"}:
        return Opinion("equal", all(opinion.is_exact for opinion in opinions))
    if relations == {"different"}:
        return Opinion("different", all(opinion.is_exact for opinion in opinions), opinions[0].reason)
    agreeing = [kind for kind, opinion in by_kind.items() if opinion is not None and opinion.relation == "equal"]
    return Opinion("unknown", reason=f"equal only where names stand for {' and '.join(agreeing)} numbers")


def _at_points(gold: Node, found: Node, names: frozenset[str], kind: str) -> Opinion | None:
    """Equal if both agree wherever they have a value, different at the first point where not; None without any."""
    exact, defined = True, 0
    for point in _points(names, kind):
        try:
            opinion = _values(evaluate(gold, point), evaluate(found, point))
        except UndefinedError:
            continue
        if opinion.relation != "equal":
            where = ", ".join(f"{name} = {value}" for name, value in sorted(point.items()))
            return Opinion(opinion.relation, opinion.is_exact, f"at {where}: {opinion.reason}")
        exact, defined = exact and opinion.is_exact, defined + 1
    return Opinion("equal", exact) if defined >= FEWEST_POINTS else None


@lru_cache(maxsize=256)
def _points(names: frozenset[str], kind: str) -> tuple[dict[str, Fraction], ...]:
    """The same points in every process: fractions between 1/4 and 4, of either sign if mixed, or whole numbers."""
    draw = random.Random(f"{kind}: {','.join(sorted(names))}")
    make: dict[str, Callable[[], Fraction]] = {
        "positive": lambda: Fraction(draw.randrange(1000, 4000), 1009),
        "mixed": lambda: Fraction(draw.choice((-1, 1)) * draw.randrange(300, 4000), 1013),
        "whole": lambda: Fraction(draw.randrange(3, 40)),
    }
    points = [{name: make[kind]() for name in sorted(names)} for _ in range(POINTS_PER_KIND)]
    if kind == "mixed":
        points[0] = {name: -abs(value) for name, value in points[0].items()}
    return tuple(points)


def _values(one: Value, other: Value) -> Opinion:
    same = agree(one, other)
    exact = isinstance(one, Fraction) and isinstance(other, Fraction)
    if same is None:
        return _UNSURE
    if same:
        return Opinion("equal", exact)
    return Opinion("different", exact, f"{_shown(one)} and {_shown(other)}", _gap(one, other))


def _gap(one: Value, other: Value) -> float:
    larger, difference = max(abs(one), abs(other)), abs(one - other)
    return float(difference / larger)


def _shown(value: Value) -> str:
    """A value in few digits, however large: 1/2006! has no float."""
    if isinstance(value, Fraction) and value.numerator.bit_length() + value.denominator.bit_length() < 100:
        return str(value)
    return shown(value, 10)
