"""What a tree of `math_reader.py` is worth at a point: an exact fraction where that can be, else 60 digits of mpmath.

    evaluate(node, {"x": Fraction(3, 2)})       # Fraction, mpf, mpc, or +-infinity (mpf)
    agree(one, other)                           # True, False, or None where 60 digits cannot tell

Powers, roots and factorials of fractions stay exact where their result is a fraction. Roots take the principal value,
but a root of odd degree of a negative number is real. Not covered: numbers of more than `MOST_BITS` bits that must be
exact, and exponents over `LARGEST_EXPONENT`: both are TooLargeError, so that 10^{10^{10^{10}}} ends at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from distill.verify.math_tree import Node, UnreadableError

DIGITS = 60
AGREEING_DIGITS = 40
MOST_BITS = 400_000
LARGEST_EXPONENT = 10**12
LARGEST_EXACT_FACTORIAL = 20_000

Value = Any  # Fraction, mpf or mpc: mpmath has no types
Point = Mapping[str, Fraction]


class UndefinedError(Exception):
    """No value at this point: division by zero, or a function outside its domain."""


class TooLargeError(UnreadableError):
    """A value that is not worked out for its size."""


@cache
def _mp() -> Any:
    """A context of our own: sympy shares mpmath's global one."""
    import mpmath  # type: ignore[import-untyped]

    context = mpmath.MPContext()
    context.dps = DIGITS
    return context


def evaluate(node: Node, point: Point) -> Value:
    """The value of a tree of arithmetic. Raises: UndefinedError; UnreadableError for anything but arithmetic."""
    match node.head:
        case "number":
            return Fraction(node.value)
        case "name":
            return point[node.value]
        case "constant":
            return _constant(node.value)
        case "unit":
            return evaluate(node.parts[0], point)
        case "call":
            return _apply(node, point)
        case "based":
            return _in_base(node)
    raise UnreadableError(f"a {node.head} inside a formula")


def agree(one: Value, other: Value) -> bool | None:
    """Whether two values are equal: exactly if both are fractions, else to `AGREEING_DIGITS` digits."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    mp = _mp()
    one, other = _inexact(one), _inexact(other)
    if mp.isnan(one) or mp.isnan(other):
        return None
    if mp.isinf(one) or mp.isinf(other):
        return bool(one == other)
    larger = max(abs(one), abs(other))
    difference = abs(one - other)
    if difference <= larger * mp.mpf(10) ** -AGREEING_DIGITS or larger < mp.mpf(10) ** -(DIGITS - 10):
        return True
    # a zero that rounding left as 1e-58 differs from 0 by all its digits
    return None if larger < mp.mpf(10) ** -AGREEING_DIGITS else False


def divide(one: Value, other: Value) -> Value:
    """Raises: ZeroDivisionError."""
    return _EXACT["/"](one, other)


def gap(one: Value, other: Value) -> float:
    """By how much two values differ, relative to the larger."""
    one, other = (
        value if isinstance(one, Fraction) and isinstance(other, Fraction) else _inexact(value)
        for value in (one, other)
    )
    larger = max(abs(one), abs(other))
    return float(abs(one - other) / larger) if larger else 0.0


def is_real(value: Value) -> bool:
    return isinstance(value, Fraction) or not _mp().im(value)


def is_infinite(value: Value) -> bool:
    return not isinstance(value, Fraction) and bool(_mp().isinf(value))


def as_float(value: Value) -> Any:
    """A real value as a number that compares: the fraction itself, or mpf."""
    if not is_real(value):
        raise UnreadableError("a complex number as the end of an interval")
    return value if isinstance(value, Fraction) else _mp().re(value)


def less(one: Value, other: Value) -> bool:
    """one < other, both real; equal to `AGREEING_DIGITS` is not less."""
    return not agree(one, other) and bool(_inexact(as_float(one)) < _inexact(as_float(other)))


def shown(value: Value, digits: int) -> str:
    """A value in so many digits, however large or small: 1/2006! has no float."""
    return str(_mp().nstr(_inexact(value), digits))


def _inexact(value: Value) -> Any:
    if not isinstance(value, Fraction):
        return value
    return _mp().mpf(value.numerator) / value.denominator


def _constant(name: str) -> Value:
    mp = _mp()
    return {"pi": lambda: +mp.pi, "e": lambda: +mp.e, "i": lambda: mp.mpc(0, 1), "infty": lambda: mp.inf}[name]()


def _in_base(node: Node) -> Fraction:
    digits, base = node.parts[0].value, node.value
    if not digits.isdigit() or not base.isdigit() or not 2 <= int(base) <= 36:
        raise UnreadableError(f"{digits} with the index {base}")
    try:
        return Fraction(int(digits, int(base)))
    except ValueError:
        raise UnreadableError(f"{digits} is no number in base {base}") from None


def _apply(node: Node, point: Point) -> Value:
    name = node.value
    if name in _TRIGONOMETRIC and node.parts[0].head == "call" and node.parts[0].value.endswith("degrees"):
        return _function(name, (_EXACT["degrees"](evaluate(node.parts[0].parts[0], point)),))
    values = tuple(evaluate(part, point) for part in node.parts)
    try:
        return _function(name, values)
    except (ZeroDivisionError, ValueError, OverflowError) as error:
        raise UndefinedError(f"{name}: {error}") from None


def _function(name: str, values: tuple[Value, ...]) -> Value:
    exact = _EXACT.get(name)
    if exact is not None:
        return _kept_small(exact(*values))
    mp = _mp()
    if name not in _NUMERIC:
        raise UnreadableError(f"the function {name}")
    found = _NUMERIC[name](mp, *(_inexact(value) for value in values))
    return found.real if isinstance(found, mp.mpc) and found.imag == 0 else found


def _kept_small(value: Value) -> Value:
    if isinstance(value, Fraction) and value.numerator.bit_length() + value.denominator.bit_length() > MOST_BITS:
        raise TooLargeError(f"a number of more than {MOST_BITS} bits")
    return value


def _mixed(operate: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    """An operation on two values, exact for two fractions: mpmath does not take a Fraction."""

    def apply(one: Value, other: Value) -> Value:
        if isinstance(one, Fraction) and isinstance(other, Fraction):
            return operate(one, other)
        return operate(_inexact(one), _inexact(other))

    return apply


def _divide(one: Any, other: Any) -> Any:
    if not other:
        raise ZeroDivisionError("division by zero")
    return one / other


def _power(base: Value, exponent: Value) -> Value:
    mp = _mp()
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        whole = exponent.numerator
        if not base and whole <= 0:
            if whole < 0:
                raise ZeroDivisionError("zero to a negative power")
            return Fraction(1)
        if isinstance(base, Fraction):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(whole)
            if bits <= MOST_BITS or abs(base) in (0, 1):
                return base ** (whole if abs(base) != 1 else whole % 2)
        if abs(whole) > LARGEST_EXPONENT:
            raise TooLargeError(f"an exponent over {LARGEST_EXPONENT}")
        return mp.power(_inexact(base), whole)
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator < 64:
        if base < 0 and exponent.denominator % 2:
            raise UndefinedError("an odd root of a negative number, written as a power: real or principal")
        return _power(_root(base, Fraction(exponent.denominator)), Fraction(exponent.numerator))
    if not base:
        raise UndefinedError("zero to a power that is not whole")
    if mp.isinf(_inexact(base)) or mp.isinf(_inexact(exponent)) or abs(_inexact(exponent)) > LARGEST_EXPONENT:
        raise TooLargeError(f"an exponent over {LARGEST_EXPONENT}, or infinity in a power")
    return mp.power(_inexact(base), _inexact(exponent))


def _root(value: Value, degree: Value) -> Value:
    mp = _mp()
    if not isinstance(degree, Fraction) or degree.denominator != 1 or not 0 < degree < 1000:
        return _power(value, _divide(Fraction(1), degree) if isinstance(degree, Fraction) else 1 / degree)
    whole = degree.numerator
    if isinstance(value, Fraction):
        if value < 0 and whole % 2:
            return -_root(-value, degree)
        above, below = _whole_root(value.numerator, whole), _whole_root(value.denominator, whole)
        if above is not None and below is not None:
            return Fraction(above, below)
    value = _inexact(value)
    if whole % 2 and whole > 1 and is_real(value) and mp.re(value) < 0:
        return -mp.root(-mp.re(value), whole)
    return mp.root(value, whole)


def _whole_root(value: int, degree: int) -> int | None:
    """The whole root of a whole number, or None."""
    if value < 0:
        return None
    if degree == 2:
        root = math.isqrt(value)
    else:
        if value.bit_length() > 4096:
            return None
        with _mp().workdps(1300 // degree + 30):
            root = int(_mp().nint(_mp().root(value, degree)))
    return root if root**degree == value else None


def _factorial(value: Value) -> Value:
    if isinstance(value, Fraction) and value.denominator == 1:
        if value < 0:
            raise UndefinedError("the factorial of a negative number")
        if value <= LARGEST_EXACT_FACTORIAL:
            return Fraction(math.factorial(value.numerator))
    if abs(_inexact(value)) > LARGEST_EXPONENT:
        raise TooLargeError(f"the factorial of a number over {LARGEST_EXPONENT}")
    return _mp().factorial(_inexact(value))


def _binomial(above: Value, below: Value) -> Value:
    whole = all(isinstance(value, Fraction) and value.denominator == 1 for value in (above, below))
    if whole and 0 <= below <= above <= LARGEST_EXACT_FACTORIAL:
        return Fraction(math.comb(above.numerator, below.numerator))
    return _mp().binomial(_inexact(above), _inexact(below))


def _floor(value: Value) -> Value:
    return Fraction(math.floor(value)) if isinstance(value, Fraction) else _mp().floor(as_float(value))


def _ceil(value: Value) -> Value:
    return Fraction(math.ceil(value)) if isinstance(value, Fraction) else _mp().ceil(as_float(value))


def _log(value: Value, base: Value) -> Value:
    """Exact where value is a whole power of base: `\\log_2 8` is 3."""
    mp = _mp()
    if not value or not base or base == 1:
        raise UndefinedError("a logarithm of zero, or to base zero or one")
    found = mp.log(_inexact(value)) / mp.log(_inexact(base))
    if isinstance(value, Fraction) and isinstance(base, Fraction) and is_real(found) and abs(found) < 5000:
        whole = int(mp.nint(mp.re(found)))
        if base**whole == value:
            return Fraction(whole)
    return found


_TRIGONOMETRIC = frozenset(("sin", "cos", "tan", "cot", "sec", "csc"))
_EXACT: dict[str, Callable[..., Value]] = {
    "+": _mixed(lambda one, other: one + other),
    "-": _mixed(lambda one, other: one - other),
    "*": _mixed(lambda one, other: one * other),
    "/": _mixed(_divide),
    "^": _power,
    "root": _root,
    "negative": lambda value: -value,
    "abs": lambda value: abs(value),
    "factorial": _factorial,
    "binomial": _binomial,
    "floor": _floor,
    "ceil": _ceil,
    "log": _log,
    "as degrees": lambda value: value,
    "degrees": lambda value: _inexact(value) * (+_mp().pi) / 180,
}  # fmt: skip
_NUMERIC: dict[str, Callable[..., Value]] = {
    "ln": lambda mp, value: mp.log(value),
    "exp": lambda mp, value: mp.exp(value),
    **{name: (lambda mp, value, name=name: getattr(mp, name)(value)) for name in _TRIGONOMETRIC},
    **{name: (lambda mp, value, name=name: getattr(mp, name)(value)) for name in ("asin", "acos", "atan")},
    **{name: (lambda mp, value, name=name: getattr(mp, name)(value)) for name in ("sinh", "cosh", "tanh")},
}
