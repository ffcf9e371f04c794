r"""The second opinion on two answers in mathematics: read by another reader, compared by value.

    opinion = compare(r"1/2^{99}", r"1/2^{98}")        # Opinion("different", is_exact=True, reason="...")

Numbers compare exactly where both are fractions, else to 40 digits; formulas at points, equations up to a factor
(`math_points.py`); sets, lists, tuples, matrices and intervals compare part by part; a +- b is two values.

What a text leaves open (`math_tree.OPEN_QUESTIONS`) is answered every way, for both sides alike: "equal" if one way
makes them equal, "different" if every way does. "unknown" where either cannot be read or the points disagree, with the
reason.
Not covered: solving (x^2 = 4 is not read as x = 2 or -2).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

from distill.verify.math_points import EQUAL, EXACTLY_EQUAL, Opinion, compare_equations, compare_formulas
from distill.verify.math_reader import read
from distill.verify.math_sets import has_exact_ends, is_real_set, real_set, same_set
from distill.verify.math_tree import Node, UnreadableError
from distill.verify.math_values import UndefinedError

MOST_WAYS_TO_READ = 16
LONGEST_UNORDERED = 100
BOLD_READINGS = ("division", "log")
"""Questions whose less plain answer proves nothing alone: equality that hangs on it is not exact."""


def compare(gold: str, found: str) -> Opinion:
    """What this reader makes of two answers. Never raises for what a model wrote; may be slow only by `math_values`."""
    opinions: list[Opinion] = []
    try:
        for choices in _ways_to_read(gold, found):
            opinion = _compare(read(gold, choices)[0], read(found, choices)[0])
            if opinion.relation == "equal":
                return EQUAL if any(choices.get(question) for question in BOLD_READINGS) else opinion
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
    if gold.head == found.head == "unit" and not _same_unit(gold.value, found.value):
        return Opinion("different", False, f"the units {gold.value} and {found.value}")
    if _is_assignments(gold) and _is_assignments(found):
        return _unordered(gold.parts, found.parts)
    gold, found = _plain(gold), _plain(found)
    if gold == found and not gold.has("dots"):
        return EXACTLY_EQUAL
    if "relation" in (gold.head, found.head) and gold.head != found.head:
        solved = _solved(gold, found)
        if solved is not None:
            return _compare(*solved)
        if "=" in (gold.value, found.value):
            return Opinion("different", False, "an equation that is not solved for a name, and none")
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
        return items[0] if node.head == "list" and len(items) == 1 else Node(node.head, items, node.value)
    if node.has("call", "pm") or node.has("call", "mp"):
        return Node("list", tuple(_both_signs(_value_of_assignment(node))))
    return node


def _same_unit(one: str, other: str) -> bool:
    """Whether the words of one are all among the other's: dollars, and dollars per hour."""
    words, others = (frozenset(unit.split()) for unit in (one, other))
    return words <= others or others <= words


def _is_assignments(node: Node) -> bool:
    """Whether it is a list such as `x = 1, y = 2`, whose names tell the values apart."""
    return node.head == "list" and all(part.head == "relation" and part.value == "=" for part in node.parts)


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
        return compare_formulas(gold, found)
    if gold.head in several and found.head in several:
        if gold.head != found.head and not {gold.head, found.head} <= {"list", "set"}:
            return _of_two_kinds(gold, found)
        if gold.head in ("list", "set"):
            return _unordered(gold.parts, found.parts)
        return _ordered(gold, found)
    many, one = (gold, found) if gold.head in several else (found, gold)
    if many.head in ("set", "list") and len(_distinct(many.parts)) == 1:
        return _compare(many.parts[0], one) if many is gold else _compare(one, many.parts[0])
    return Opinion("different", False, f"a {many.head} of {len(many.parts)} and one value")


def _of_two_kinds(gold: Node, found: Node) -> Opinion:
    """A list may be meant as a tuple where its items are in the same order; a set or a matrix is no tuple."""
    kinds = f"a {gold.head} and a {found.head}"
    may_be = {gold.head, found.head} == {"list", "tuple"} and _ordered(gold, found).relation != "different"
    return Opinion("unknown" if may_be else "different", False, kinds)


def _in_bases(gold: Node, found: Node) -> Opinion:
    if gold.head == found.head == "based":
        opinion = compare_formulas(gold, found)
        if opinion.relation != "equal" or gold.value == found.value:
            return opinion
        return Opinion("unknown", reason=f"one number in the bases {gold.value} and {found.value}")
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
    if max(len(gold), len(found)) > LONGEST_UNORDERED:
        return Opinion("unknown", reason=f"more than {LONGEST_UNORDERED} items")
    exact, spelled = True, frozenset(found)
    for one in gold:
        if one in spelled:
            continue
        opinions = [_compare(one, other) for other in found]
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
    """The two without the `name =` (or `m + n =`, or `2 + 3 =`) that one of them has; None where it says more."""
    equation, other = (gold, found) if gold.head == "relation" else (found, gold)
    if set(equation.value.split()) != {"="}:
        return None
    left, value = equation.parts[0], equation.parts[-1]
    if not equation.names():
        if any(compare_formulas(part, value).relation != "equal" for part in equation.parts):
            return None
    elif not _is_label(left):
        left, value = value, left
        if not _is_label(left):
            return None
    return (value, other) if equation is gold else (other, value)


def _is_label(left: Node) -> bool:
    """Whether it only names what follows: `x`, `f(x)`, `AB`, `m + n`."""
    if left.head == "call" and left.value in ("+", "*"):
        return all(_is_label(part) for part in left.parts)
    return left.head == "name"


def _relations(gold: Node, found: Node) -> Opinion:
    signs, other_signs = gold.value.split(), found.value.split()
    if signs == other_signs == ["="]:
        return compare_equations(gold, found)
    if len(gold.parts) == len(found.parts) and signs == other_signs:
        return _all(_compare(one, other) for one, other in zip(gold.parts, found.parts, strict=True))
    if "=" in signs and "=" in other_signs:
        return _compare(
            Node("relation", (gold.parts[0], gold.parts[-1]), "="),
            Node("relation", (found.parts[0], found.parts[-1]), "="),
        )
    return Opinion("unknown", reason=f"relations {gold.value} and {found.value}")


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
        return EXACTLY_EQUAL if has_exact_ends(one) and has_exact_ends(other) else EQUAL
    return Opinion("different", False, "sets of numbers with different ends")
