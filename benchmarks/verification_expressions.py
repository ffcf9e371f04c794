"""Formulas drawn and rewritten by sympy: beside the same one expanded or factored, and beside one with a part changed.

    pairs = expression_pairs(150, seed=1)

Equal by construction: sympy's own rewriting. Different by construction: one number or name is increased by one, and the
two differ at a point in floating point. Both are printed by sympy, in LaTeX or as plain text.
Not covered: what sympy cannot print in a form that a model would write.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from benchmarks.verification_pairs import Pair

LARGEST_OPERATIONS = 25
AT = {"x": 1.3, "y": 0.7, "n": 2.2}


def expression_pairs(count: int, seed: int) -> list[Pair]:
    """About `count` of each label; expressions that sympy makes long are left out."""
    import sympy  # type: ignore[import-untyped]

    draw = random.Random(seed)
    rewrites: list[Callable[[Any], Any]] = [sympy.expand, sympy.factor, sympy.together, sympy.expand_trig]
    pairs: list[Pair] = []
    while len(pairs) < 2 * count:
        expression = _drawn(draw, draw.randrange(1, 4))
        other = draw.choice(rewrites)(expression)
        changed = _changed(draw, expression)
        if (
            changed is None
            or not expression.free_symbols
            or max(map(sympy.count_ops, (expression, other))) > LARGEST_OPERATIONS
        ):
            continue
        gold = sympy.latex(expression)
        pairs.append(Pair(gold, _written(draw, other), True, "rewritten formula"))
        pairs.append(Pair(gold, _written(draw, changed), False, "changed formula"))
    return pairs


def _drawn(draw: random.Random, depth: int) -> Any:
    import sympy

    x, y, n = sympy.symbols("x y n")
    if depth == 0:
        whole, part = sympy.Integer(draw.randrange(1, 12)), sympy.Rational(draw.randrange(1, 9), draw.randrange(2, 9))
        return draw.choice([x, x, y, n, whole, whole, part, sympy.pi, sympy.sqrt(draw.randrange(2, 8))])
    one, other = _drawn(draw, depth - 1), _drawn(draw, depth - 1)
    function = draw.choice([sympy.sin, sympy.cos, sympy.exp])
    made = [one + other, one - other, one * other, one * other, one**2, sympy.sqrt(one**2 + 1), function(one)]
    return draw.choice([*made, one / other] if other != 0 else made)


def _changed(draw: random.Random, expression: Any) -> Any:
    import sympy

    places = [part for part in sympy.preorder_traversal(expression) if part.is_Integer or part.is_Symbol]
    if not places:
        return None
    place = draw.choice(places)
    changed = expression.xreplace({place: place + 1})
    gap = (expression - changed).subs(AT).evalf()
    return changed if gap.is_number and not gap.has(sympy.nan, sympy.zoo) and abs(complex(gap)) > 1e-6 else None


def _written(draw: random.Random, expression: Any) -> str:
    import sympy

    if draw.random() < 0.25:
        return str(expression)
    styles: list[dict[str, Any]] = [{}, {}, {"mul_symbol": "dot"}, {"fold_short_frac": True}, {"root_notation": False}]
    return str(sympy.latex(expression, **draw.choice(styles)))
