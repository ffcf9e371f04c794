r"""Pairs of a gold answer and a model's answer whose label is known because of how they were made.

    for pair in pairs_from(golds, seed=1): pair.gold, pair.answer, pair.is_equal, pair.kind

Each maker takes golds of one shape (a whole number, a fraction, a root, a tuple, ...), read by a regular expression and
worked with in Python's own integers and fractions: no reader of mathematics decides a label. `made_pairs` needs none.
Not covered: answers that only a person could label; verification_hard.py has those.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

_WHOLE = re.compile(r"-?\d+")
_DECIMAL = re.compile(r"-?\d*\.\d+")
_FRACTION = re.compile(r"(?P<sign>-?)\\[dt]?frac\{(?P<above>\d+)\}\{(?P<below>\d+)\}")
_ROOT = re.compile(r"(?P<factor>-?\d*) ?\\sqrt\{(?P<inside>\d+)\}")
_DEGREES = re.compile(r"(?P<number>\d+)\^\\circ")
_TUPLE = re.compile(r"\((?P<inside>-?\d+(?:, ?-?\d+)+)\)")
_LIST = re.compile(r"(?!\d{1,3}(?:,\d{3})+$)-?\d+(?:, ?-?\d+)+")
_INTERVAL = re.compile(r"(?P<opens>[(\[])(?P<low>-?\d+), ?(?P<high>-?\d+)(?P<closes>[)\]])")
_RAY = re.compile(r"\((?P<low>-?\d+), ?\\infty\)")
_TERMS = re.compile(r"[-+]?[^-+(){}=,]+(?:[-+][^-+(){}=,]+)+")
_PLUS_MINUS = re.compile(r"(?P<middle>\d+) \\pm (?P<off>[^,]+)")
_COMPLEX = re.compile(r"(?P<real>-?\d+) ?(?P<sign>[-+]) ?(?P<imaginary>\d+)i")


@dataclass(frozen=True, slots=True)
class Pair:
    """`kind` names the maker; `is_equal` is the label."""

    gold: str
    answer: str
    is_equal: bool
    kind: str


ROUNDED = "rounded to eight places"
Made = Iterator[tuple[str, str]]  # (kind, answer)


def pairs_from(golds: list[str], seed: int) -> list[Pair]:
    """Equal and different answers for every gold, without repeats; the same for the same seed."""
    draw = random.Random(seed)
    found: dict[tuple[str, str], Pair] = {}
    for gold in golds:
        for pattern, equal, different in _SHAPES:
            match = pattern.fullmatch(gold.strip())
            if match is None:
                continue
            for is_equal, make in ((True, equal), (False, different)):
                for kind, answer in make(match, draw):
                    found.setdefault((gold, answer), Pair(gold, answer, is_equal, kind))
            break
    return [pair for pair in found.values() if pair.is_equal or pair.gold.strip() != pair.answer.strip()]


def crossed_pairs(golds: list[str], count: int, seed: int) -> list[Pair]:
    """Gold answers of two problems, taken to be different; those that share digits or value are left out."""
    draw = random.Random(seed)
    found: dict[tuple[str, str], Pair] = {}
    while len(golds) > 20 and len(found) < count:
        gold, answer = draw.sample(golds, 2)
        if _signature(gold) != _signature(answer) and (_value(gold) is None or _value(gold) != _value(answer)):
            found.setdefault((gold, answer), Pair(gold, answer, False, "another problem's answer"))
    return list(found.values())


def _signature(text: str) -> str:
    return "".join(sorted(character for character in text if character.isdigit())) or text


def _value(text: str) -> Fraction | None:
    match = _FRACTION.fullmatch(text)
    if match is not None:
        return _fraction(match)
    return Fraction(text) if _WHOLE.fullmatch(text) or _DECIMAL.fullmatch(text) else None


def _equal_whole(match: re.Match[str], draw: random.Random) -> Made:
    value = int(match[0])
    part, times = draw.randrange(1, 50), draw.randrange(2, 9)
    yield "decimal zeros", f"{value}.00"
    yield "fraction of whole", rf"\frac{{{value * times}}}{{{times}}}"
    yield "unit", rf"{value}\text{{ units}}"
    yield "trailing mark", f"{value}."
    yield "assignment", f"x = {value}"
    yield "sum", f"{value - part} + {part}"
    yield "text wrapper", rf"\text{{{value}}}"
    yield "brackets", f"({value})"
    if value >= 0:
        yield "leading zero", f"0{value}"
        yield "root of square", rf"\sqrt{{{value * value}}}"
        yield "dollars", rf"\${value}"
    if abs(value) >= 1000:
        yield "thousands separator", f"{value:,}"
        yield "thousands separator", f"{value:,}".replace(",", "{,}")
    if value % 10 == 0 and value:
        yield "power of ten", rf"{value // 10} \times 10^{{1}}"


def _different_whole(match: re.Match[str], draw: random.Random) -> Made:
    value = int(match[0])
    place = 10 ** draw.randrange(len(str(abs(value))))
    yield "off by one", str(value + draw.choice((-1, 1)))
    yield "perturbed digit", str(value + place * draw.choice((-3, 2, 4)))
    yield "ten times", f"{value or 1}0"
    yield "list with it", f"{value}, {value + 2}"
    yield "tuple with it", f"({value}, {value + 1})"
    yield "nearly", f"{value}.{draw.randrange(1, 10)}"
    yield "with a name", f"{value or 1}x"
    yield "plus a small one", rf"{value} + \frac{{1}}{{10^{{9}}}}"
    if value:
        yield "sign", str(-value)
        yield "exponent", f"{value}^{{2}}" if abs(value) != 1 else f"{value} + 1"


def _equal_decimal(match: re.Match[str], draw: random.Random) -> Made:
    value = Fraction(match[0])
    yield "decimal as fraction", rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    yield "decimal zeros", match[0] + "00"
    yield "leading zero", match[0].replace(".", "0.", 1) if match[0].startswith(".") else match[0]
    yield "sum", f"{match[0]} + 1 - 1"


def _different_decimal(match: re.Match[str], draw: random.Random) -> Made:
    yield "perturbed digit", match[0][:-1] + str((int(match[0][-1]) + draw.randrange(1, 9)) % 10)
    yield "extra digit", match[0] + str(draw.randrange(1, 10))
    yield "ten times", str(float(match[0]) * 10)
    yield "sign", match[0].removeprefix("-") if match[0].startswith("-") else "-" + match[0]


def _fraction(match: re.Match[str]) -> Fraction:
    value = Fraction(int(match["above"]), int(match["below"]))
    return -value if match["sign"] else value


def _equal_fraction(match: re.Match[str], draw: random.Random) -> Made:
    value, sign, times = _fraction(match), match["sign"], draw.randrange(2, 9)
    above, below = abs(value.numerator), value.denominator
    yield "fraction form", rf"{sign}\dfrac{{{above}}}{{{below}}}"
    yield "fraction form", f"{sign}{above}/{below}"
    yield "fraction not reduced", rf"{sign}\frac{{{above * times}}}{{{below * times}}}"
    yield (
        "sum",
        rf"{value.numerator - below}/{below} + 1"
        if value.numerator > below
        else rf"1 - {below - value.numerator}/{below}",
    )
    yield "product", rf"{value.numerator} \cdot \frac{{1}}{{{below}}}"
    yield "assignment", rf"P = {sign}\frac{{{above}}}{{{below}}}"
    if _terminates(below):
        yield "fraction as decimal", _as_decimal(value)
        yield "percent", _as_decimal(value * 100) + r"\%"
    if above > below and not sign:
        yield "mixed number", rf"{above // below}\frac{{{above % below}}}{{{below}}}"
    if sign:
        yield "sign inside", rf"\frac{{-{above}}}{{{below}}}"
        yield "sign inside", rf"\frac{{{above}}}{{-{below}}}"


def _different_fraction(match: re.Match[str], draw: random.Random) -> Made:
    value = _fraction(match)
    above, below = value.numerator, value.denominator
    yield "numerator", rf"\frac{{{above + 1}}}{{{below}}}"
    yield "denominator", rf"\frac{{{above}}}{{{below + 1}}}" if above else "1"
    yield "sign", rf"{'' if above < 0 else '-'}\frac{{{abs(above)}}}{{{below}}}" if above else "-1"
    yield "squared", rf"\left(\frac{{{above}}}{{{below}}}\right)^2" if value not in (0, 1) else "2"
    if above > 0 and above != below:
        yield "upside down", rf"\frac{{{below}}}{{{above}}}"
    if not _terminates(below):
        yield "rounded", f"{float(value):.4f}"
        yield ROUNDED, f"{float(value):.8f}"


def _equal_root(match: re.Match[str], draw: random.Random) -> Made:
    factor, inside = _factor(match), int(match["inside"])
    sign, size = ("-", -factor) if factor < 0 else ("", factor)
    yield "root as one", rf"{sign}\sqrt{{{size * size * inside}}}"
    yield "root as a power", rf"{factor} \cdot {inside}^{{1/2}}"
    yield "root below", rf"\frac{{{factor * inside}}}{{\sqrt{{{inside}}}}}"
    yield "reordered product", rf"\sqrt{{{inside}}} \cdot ({factor})"


def _different_root(match: re.Match[str], draw: random.Random) -> Made:
    factor, inside = _factor(match), int(match["inside"])
    yield "coefficient", rf"{factor + 1 or 2}\sqrt{{{inside}}}"
    yield "inside", rf"{factor}\sqrt{{{inside + 1}}}"
    yield "sign", rf"{-factor}\sqrt{{{inside}}}"
    yield ROUNDED, f"{factor * inside**0.5:.8f}"


def _factor(match: re.Match[str]) -> int:
    return int(match["factor"] + "1") if match["factor"] in ("", "-") else int(match["factor"])


def _equal_degrees(match: re.Match[str], draw: random.Random) -> Made:
    yield "degrees dropped", match["number"]
    yield "degrees as a word", rf"{match['number']}\text{{ degrees}}"
    yield "degrees grouped", rf"{match['number']}^{{\circ}}"


def _different_degrees(match: re.Match[str], draw: random.Random) -> Made:
    yield "off by one", rf"{int(match['number']) + 1}^\circ"
    yield "complement", rf"{180 - int(match['number'])}^\circ" if match["number"] != "90" else "45"


def _equal_tuple(match: re.Match[str], draw: random.Random) -> Made:
    items = _items(match["inside"])
    yield "tuple spacing", rf"\left( {' , '.join(items)} \right)"
    yield "tuple parts", "(" + ", ".join(rf"\frac{{{int(item) * 3}}}{{3}}" for item in items) + ")"


def _different_tuple(match: re.Match[str], draw: random.Random) -> Made:
    items = _items(match["inside"])
    if items != items[::-1]:
        yield "tuple reversed", f"({', '.join(items[::-1])})"
    yield "tuple entry", f"({', '.join([str(int(items[0]) + 1), *items[1:]])})"
    yield "tuple entry sign", f"({', '.join([*items[:-1], str(-int(items[-1]) or 1)])})"
    yield "tuple entry more", f"({', '.join([*items, '0'])})"


def _equal_list(match: re.Match[str], draw: random.Random) -> Made:
    items = _items(match[0])
    yield "list reversed", ", ".join(items[::-1])
    yield "list as a set", rf"\{{{', '.join(items)}\}}"
    yield "list with and", ", ".join(items[:-1]) + rf" \text{{ and }} {items[-1]}"


def _different_list(match: re.Match[str], draw: random.Random) -> Made:
    items = _items(match[0])
    yield "list item dropped", ", ".join(items[:-1])
    yield "list item more", ", ".join([*items, str(max(map(int, items)) + 1)])
    yield "list item", ", ".join([*items[:-1], str(max(map(int, items)) + 2)])


def _equal_interval(match: re.Match[str], draw: random.Random) -> Made:
    low, high = match["low"], match["high"]
    signs = ["<" if match["opens"] == "(" else r"\le", "<" if match["closes"] == ")" else r"\le"]
    if match["opens"] + match["closes"] != "()":  # (a, b) may be a point
        yield "interval as inequality", f"{low} {signs[0]} x {signs[1]} {high}"
        yield "interval of x", rf"x \in {match[0]}"
    yield "interval ends", rf"\left{match['opens']}\frac{{{2 * int(low)}}}{{2}}, {high}.0\right{match['closes']}"


def _different_interval(match: re.Match[str], draw: random.Random) -> Made:
    low, high = match["low"], match["high"]
    other = {"(": "[", "[": "(", ")": "]", "]": ")"}
    yield "interval end", f"{other[match['opens']]}{low}, {high}{match['closes']}"
    yield "interval end", f"{match['opens']}{low}, {high}{other[match['closes']]}"
    yield "interval bound", f"{match['opens']}{low}, {int(high) + 1}{match['closes']}"


def _equal_ray(match: re.Match[str], draw: random.Random) -> Made:
    yield "interval as inequality", f"x > {match['low']}"
    yield "interval as inequality", f"{match['low']} < x"
    yield "interval of x", rf"x \in ({match['low']}, +\infty)"


def _different_ray(match: re.Match[str], draw: random.Random) -> Made:
    yield "interval end", rf"[{match['low']}, \infty)"
    yield "interval as inequality", rf"x \ge {match['low']}"
    yield "interval turned", rf"(-\infty, {match['low']})"


def _equal_terms(match: re.Match[str], draw: random.Random) -> Made:
    terms = _terms(match[0])
    yield "reordered sum", _joined(terms[::-1])
    yield "sum twice over two", rf"\frac{{2({match[0]})}}{{2}}"
    yield "sum in brackets", rf"-1 \cdot (-1)({match[0]})"


def _different_terms(match: re.Match[str], draw: random.Random) -> Made:
    terms = _terms(match[0])
    yield "sign of a term", _joined([*terms[:-1], ("-" if terms[-1][0] == "+" else "+", terms[-1][1])])
    yield "sum more", f"{match[0]} + 1"
    yield "sum doubled", f"2({match[0]})"


def _equal_plus_minus(match: re.Match[str], draw: random.Random) -> Made:
    yield "plus-minus written out", f"{match['middle']} + {match['off']}, {match['middle']} - {match['off']}"
    yield "plus-minus written out", f"{match['middle']} - {match['off']}, {match['middle']} + {match['off']}"


def _different_plus_minus(match: re.Match[str], draw: random.Random) -> Made:
    yield "plus-minus one only", f"{match['middle']} + {match['off']}"
    yield "plus-minus moved", rf"{int(match['middle']) + 1} \pm {match['off']}"


def _different_complex(match: re.Match[str], draw: random.Random) -> Made:
    turned = "-" if match["sign"] == "+" else "+"
    yield "conjugate", f"{match['real']} {turned} {match['imaginary']}i"
    yield (
        "parts swapped",
        f"{match['imaginary']} {match['sign']} {match['real'].removeprefix('-')}i"
        if abs(int(match["real"])) != int(match["imaginary"])
        else "0",
    )


def _equal_complex(match: re.Match[str], draw: random.Random) -> Made:
    sign = "" if match["sign"] == "+" else "-"
    real = match["real"] if match["real"].startswith("-") else f"+ {match['real']}"
    yield "reordered sum", f"{sign}{match['imaginary']}i {real}"


_SHAPES: list[tuple[re.Pattern[str], Callable[..., Made], Callable[..., Made]]] = [
    (_WHOLE, _equal_whole, _different_whole),
    (_DECIMAL, _equal_decimal, _different_decimal),
    (_FRACTION, _equal_fraction, _different_fraction),
    (_ROOT, _equal_root, _different_root),
    (_DEGREES, _equal_degrees, _different_degrees),
    (_PLUS_MINUS, _equal_plus_minus, _different_plus_minus),
    (_COMPLEX, _equal_complex, _different_complex),
    (_RAY, _equal_ray, _different_ray),
    (_INTERVAL, _equal_interval, _different_interval),
    (_TUPLE, _equal_tuple, _different_tuple),
    (_LIST, _equal_list, _different_list),
    (_TERMS, _equal_terms, _different_terms),
]


def made_pairs(count: int, seed: int) -> list[Pair]:
    """Polynomials, large and tiny numbers, sequences, equations and matrices, drawn from a seed; `count` of each."""
    draw = random.Random(seed)
    return [pair for _ in range(count) for make in _DRAWN for pair in make(draw)]


def _polynomials(draw: random.Random) -> Iterator[Pair]:
    one, other = draw.randrange(1, 12), draw.randrange(1, 12)
    product = f"(x+{one})(x-{other})"
    middle, last = one - other, -one * other
    yield Pair(_polynomial(1, middle, last), product, True, "factored")
    yield Pair(product, _polynomial(1, middle, last), True, "expanded")
    yield Pair(_polynomial(1, middle, last), f"(x-{one})(x+{other})", one == other, "factored")
    yield Pair(product, _polynomial(1, middle, last + 1), False, "expanded")
    yield Pair(product, _polynomial(1, middle, last).replace("x^2", "x^3"), False, "exponent")


def _tiny_numbers(draw: random.Random) -> Iterator[Pair]:
    power, size = draw.randrange(30, 200), draw.randrange(50, 2000)
    yield Pair(rf"\frac{{1}}{{2^{{{power}}}}}", f"2^{{-{power}}}", True, "tiny number")
    yield Pair(rf"\frac{{1}}{{2^{{{power}}}}}", rf"\frac{{1}}{{2^{{{power + 1}}}}}", False, "tiny number")
    yield Pair(rf"\frac{{1}}{{{size}!}}", rf"\frac{{1}}{{{size + 2}!}}", False, "tiny number")
    yield Pair(f"1 - 3^{{-{power}}}", "1", False, "tiny difference")
    yield Pair(f"{10**20 + size}", f"{10**20 + size + 1}", False, "large number")
    yield Pair(f"{10**20 + size}", f"10^{{20}} + {size}", True, "large number")


def _sequences(draw: random.Random) -> Iterator[Pair]:
    step = draw.randrange(2, 9)
    yield Pair(r"1, 2, \ldots, n", rf"1, {1 + step}, \ldots, {step}n - {step - 1}", False, "sequence")
    yield Pair(rf"{step}, {2 * step}, \ldots, {step}n", rf"{step}, {2 * step}, \dots, n \cdot {step}", True, "sequence")


def _equations(draw: random.Random) -> Iterator[Pair]:
    slope, at, times = draw.randrange(2, 12), draw.randrange(1, 12), draw.randrange(2, 6)
    gold = f"y = {slope}x + {at}"
    yield Pair(gold, f"{slope}x - y + {at} = 0", True, "equation rearranged")
    yield Pair(gold, f"{times}y = {times * slope}x + {times * at}", True, "equation times a factor")
    yield Pair(gold, f"{slope}x + {at} = y", True, "equation turned")
    yield Pair(gold, f"y = {slope}x - {at}", False, "equation sign")
    yield Pair(gold, f"{slope}x + y + {at} = 0", False, "equation sign")
    yield Pair(gold, f"y = {slope + 1}x + {at}", False, "equation coefficient")


def _matrices(draw: random.Random) -> Iterator[Pair]:
    a, b, c, d = (draw.randrange(-9, 10) for _ in range(4))
    gold = rf"\begin{{pmatrix}} {a} & {b} \\ {c} & {d} \end{{pmatrix}}"
    yield Pair(gold, gold.replace("pmatrix", "bmatrix"), True, "matrix brackets")
    yield Pair(
        gold, rf"\begin{{pmatrix}} {a}.0 & \frac{{{2 * b}}}{{2}} \\ {c} & {d} \end{{pmatrix}}", True, "matrix entries"
    )
    yield Pair(gold, rf"\begin{{pmatrix}} {a} & {c} \\ {b} & {d} \end{{pmatrix}}", b == c, "matrix transposed")
    yield Pair(gold, rf"\begin{{pmatrix}} {a} & {b} \\ {c} & {d + 1} \end{{pmatrix}}", False, "matrix entry")


def _constants(draw: random.Random) -> Iterator[Pair]:
    top, bottom = draw.randrange(1, 9), draw.randrange(2, 9)
    yield Pair(rf"{top} - \frac{{1}}{{\mathrm{{e}}}}", rf"{top} - \mathrm{{e}}^{{-1}}", True, "constant e")
    yield Pair(rf"{top} - \frac{{1}}{{\mathrm{{e}}}}", rf"{top} + \frac{{1}}{{\mathrm{{e}}}}", False, "constant e")
    yield Pair(rf"\frac{{{top}\pi}}{{{bottom}}}", rf"\frac{{{top}}}{{{bottom}}}\pi", True, "constant pi")
    yield Pair(rf"\frac{{{top}\pi}}{{{bottom}}}", rf"\frac{{{top}}}{{{bottom}\pi}}", False, "constant pi")
    yield Pair(rf"\frac{{{top}\pi}}{{{bottom}}}", f"{top * math.pi / bottom:.8f}", False, ROUNDED)


_DRAWN = (_polynomials, _tiny_numbers, _sequences, _equations, _matrices, _constants)


def _polynomial(*coefficients: int) -> str:
    degree, terms = len(coefficients) - 1, []
    for power, coefficient in zip(range(degree, -1, -1), coefficients, strict=True):
        if coefficient:
            size = "" if abs(coefficient) == 1 and power else str(abs(coefficient))
            terms.append(("-" if coefficient < 0 else "+", size + {0: "", 1: "x"}.get(power, f"x^{power}")))
    return _joined(terms)


def _terms(text: str) -> list[tuple[str, str]]:
    return [(sign or "+", term.strip()) for sign, term in re.findall(r"([-+]?)\s*([^-+]+)", text)]


def _joined(terms: list[tuple[str, str]]) -> str:
    first, *rest = terms
    return ("-" if first[0] == "-" else "") + first[1] + "".join(f" {sign} {term}" for sign, term in rest)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _terminates(denominator: int) -> bool:
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _as_decimal(value: Fraction) -> str:
    """A fraction whose decimals end, written out in full."""
    places = next(count for count in range(400) if (value * 10**count).denominator == 1)
    digits = str(abs(int(value * 10**places))).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
