"""Sets of real numbers as unions of intervals, so that ways to write the same set become one.

    real_set(node) -> ((low, is_low_open, high, is_high_open), ...) sorted and merged; None where it is no such set

Reads intervals, unions, differences, finite sets inside them, the reals, and inequalities of one name with numbers:
`x < 2` is (-oo, 2), `2 < x \\le 3` is (2, 3]. Not covered: ends that hold names, sets of pairs.
"""

from __future__ import annotations

from fractions import Fraction

from distill.verify.math_tree import Node, UnreadableError
from distill.verify.math_values import Value, agree, as_float, evaluate, is_infinite, less

Part = tuple[Value, bool, Value, bool]
RealSet = tuple[Part, ...]

INFINITY = Node("constant", (), "infty")
MINUS_INFINITY = Node("call", (INFINITY,), "negative")
_FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "=": "=", "ne": "ne", "in": "in"}


def same_set(one: RealSet, other: RealSet) -> bool:
    return len(one) == len(other) and all(
        bool(agree(a[0], b[0])) and bool(agree(a[2], b[2])) and a[1] == b[1] and a[3] == b[3]
        for a, b in zip(one, other, strict=True)
    )


def has_exact_ends(parts: RealSet) -> bool:
    """Whether every end is a fraction or infinite."""
    ends = [end for part in parts for end in (part[0], part[2])]
    return all(isinstance(end, Fraction) or is_infinite(end) for end in ends)


def is_real_set(node: Node) -> bool:
    """Whether a tree is meant as a set of real numbers, by its form alone."""
    if node.head in ("union", "intersection", "without", "reals"):
        return True
    if node.head == "relation":
        return any(sign in ("<", ">", "le", "ge", "ne", "in") for sign in node.value.split())
    if node.head == "list":
        return all(part.head in ("relation",) and is_real_set(part) for part in node.parts)
    return node.head == "tuple" and len(node.parts) == 2 and (node.value != "()" or node.has("constant", "infty"))


def real_set(node: Node) -> RealSet:
    """Raises: UnreadableError where the tree is no set of numbers; UndefinedError of an end."""
    return _merged(_parts(node))


def _parts(node: Node) -> list[Part]:
    match node.head:
        case "reals":
            return [_interval(MINUS_INFINITY, True, INFINITY, True)]
        case "tuple" if len(node.parts) == 2:
            low, high = node.parts
            return [_interval(low, node.value[0] == "(", high, node.value[1] == ")")]
        case "set":
            return [_interval(part, False, part, False) for part in node.parts]
        case "union":
            return [part for side in node.parts for part in _parts(side)]
        case "list" if node.value == "or":
            return [part for side in node.parts for part in _parts(side)]
        case "list" if node.value != "and":
            raise UnreadableError("inequalities with neither `or` nor `and` between them")
        case "intersection" | "list":
            first, *others = (real_set(side) for side in node.parts)
            for other in others:
                first = _intersection(first, other)
            return list(first)
        case "without":
            return _difference(real_set(node.parts[0]), real_set(node.parts[1]))
        case "relation":
            return _of_relation(node)
    raise UnreadableError(f"a {node.head} as a set of numbers")


def _interval(low: Node, low_open: bool, high: Node, high_open: bool) -> Part:
    if low.names() or high.names():
        raise UnreadableError("an interval whose ends hold names")
    low_value, high_value = as_float(evaluate(low, {})), as_float(evaluate(high, {}))
    if less(high_value, low_value):
        raise UnreadableError("an interval that ends before it begins")
    return (low_value, low_open or low == MINUS_INFINITY, high_value, high_open or high == INFINITY)


def _of_relation(node: Node) -> list[Part]:
    """The numbers that a chain such as `2 < x \\le 3` leaves to its one name."""
    signs = node.value.split()
    named = [at for at, side in enumerate(node.parts) if side.head == "name"]
    if len(named) != 1 or any(side.names() for at, side in enumerate(node.parts) if at != named[0]):
        raise UnreadableError("an inequality that is not solved for one name")
    if signs == ["in"] and named == [0]:
        return _parts(node.parts[1])
    at = named[0]
    bounds = [(_FLIPPED[signs[at - 1]], node.parts[at - 1])] if at else []
    if at < len(signs):
        bounds.append((signs[at], node.parts[at + 1]))
    if len(node.parts) != len(bounds) + 1:
        raise UnreadableError("a chain of more than two inequalities")
    if [sign for sign, _ in bounds] == ["ne"]:
        bound = bounds[0][1]
        return [_interval(MINUS_INFINITY, True, bound, True), _interval(bound, True, INFINITY, True)]
    low, low_open, high, high_open = MINUS_INFINITY, True, INFINITY, True
    for sign, bound in bounds:
        if sign in (">", "ge"):
            low, low_open = bound, sign == ">"
        elif sign in ("<", "le"):
            high, high_open = bound, sign == "<"
        else:
            raise UnreadableError(f"the relation {sign} in a chain")
    return [_interval(low, low_open, high, high_open)]


def _intersection(one: RealSet, other: RealSet) -> RealSet:
    found: list[Part] = []
    for low, low_open, high, high_open in one:
        for start, start_open, end, end_open in other:
            if less(low, start) or (agree(low, start) and start_open):
                first, first_open = start, start_open
            else:
                first, first_open = low, low_open
            if less(end, high) or (agree(high, end) and end_open):
                last, last_open = end, end_open
            else:
                last, last_open = high, high_open
            if not less(last, first):
                found.append((first, first_open, last, last_open))
    return _merged(found)


def _difference(whole: RealSet, taken: RealSet) -> list[Part]:
    if any(less(low, high) for low, _, high, _ in taken):
        raise UnreadableError("a difference with a set that is not finite")
    parts = list(whole)
    for point, _, _, _ in taken:
        cut: list[Part] = []
        for low, low_open, high, high_open in parts:
            if less(point, low) or less(high, point):
                cut.append((low, low_open, high, high_open))
                continue
            cut += [(low, low_open, point, True)] if less(low, point) else []
            cut += [(point, True, high, high_open)] if less(point, high) else []
        parts = cut
    return parts


def _merged(parts: list[Part]) -> RealSet:
    """Sorted by their lower end; parts that overlap or touch at a point that one of them holds become one."""
    rest = [part for part in parts if less(part[0], part[2]) or not (part[1] or part[3])]
    merged: list[Part] = []
    while rest:
        first = rest[0]
        for part in rest[1:]:
            if less(part[0], first[0]) or (agree(part[0], first[0]) and first[1] and not part[1]):
                first = part
        rest.remove(first)
        low, low_open, high, high_open = first
        if merged and not less(merged[-1][2], low) and not (agree(merged[-1][2], low) and merged[-1][3] and low_open):
            before = merged.pop()
            if less(high, before[2]):
                high, high_open = before[2], before[3]
            elif agree(high, before[2]):
                high_open = high_open and before[3]
            low, low_open = before[0], before[1]
        merged.append((low, low_open, high, high_open))
    return tuple(merged)
