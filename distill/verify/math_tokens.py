r"""Cuts an answer in LaTeX or plain text into tokens: the first half of the second reader of mathematics.

    tokens(r"\dfrac{1}{2}") -> [Token("command", "frac"), Token("{"), Token("number", "1"), ...]

Layout (`\left`, `\,`, `$`, sizes) is dropped and spellings are made one (`\dfrac` is `\frac`, U+2264 is `\le`). Not
covered: text that is no formula.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from distill.verify.math_tree import UnreadableError


class Token(NamedTuple):
    """`kind` is number, name, command, text, or the sign itself; `space` says whether white space stood before it."""

    kind: str
    value: str = ""
    space: bool = False


LONGEST_TEXT_CHARACTERS = 2000


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNICODE = {
    "\u2212": "-", "\u2013": "-", "\u00d7": r"\cdot ", "\u00b7": r"\cdot ", "\u22c5": r"\cdot ", "\u00f7": "/",
    "\u2264": r"\le ", "\u2265": r"\ge ", "\u2260": r"\ne ", "\u03c0": r"\pi ", "\u221e": r"\infty ",
    "\u221a": r"\sqrt ", "\u00b0": r"^\circ ", "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2208": r"\in ",
    "\u00b1": r"\pm ", "\u2213": r"\mp ", "\u2026": r"\ldots ", "\u211d": r"\reals ", "\u00bd": r"\frac{1}{2}",
    "\u00b2": "^2", "\u00b3": "^3", "\u2205": r"\emptyset ", "\u00a0": " ",
}  # fmt: skip
_SPELLINGS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "geq": "ge", "geqslant": "ge", "leq": "le", "leqslant": "le",
    "neq": "ne", "gt": ">", "lt": "<", "times": "cdot", "ast": "cdot", "div": "/", "arcsin": "asin", "arccos": "acos",
    "arctan": "atan", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "lbrace": "lset", "rbrace": "rset",
    "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "varnothing": "emptyset", "dbinom": "binom",
    "tbinom": "binom", "degree": "circ", "land": "and", "lor": "or", "backslash": "setminus", "infin": "infty",
}  # fmt: skip
_DROPPED = words(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle quad qquad limits mathstrut hfill"
)
FUNCTIONS = words("sin cos tan cot sec csc asin acos atan sinh cosh tanh ln log exp")
GREEK = words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau phi varphi "
    "chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell"
)
_WORDS = {
    "sqrt": ("command", "sqrt"), "pi": ("command", "pi"), "oo": ("command", "infty"), "inf": ("command", "infty"),
    "infinity": ("command", "infty"), "or": ("or", ""), "and": ("and", ""), "abs": ("command", "abs"),
    "arcsin": ("command", "asin"), "arccos": ("command", "acos"), "arctan": ("command", "atan"),
    **{name: ("command", name) for name in FUNCTIONS},
    **{name: ("command", name) for name in GREEK if name.islower() and len(name) > 2},
}  # fmt: skip
_UNITS = {
    "cm": "centimeter", "mm": "millimeter", "km": "kilometer", "m": "meter", "kg": "kilogram", "g": "gram",
    "ft": "foot", "feet": "foot", "in": "inch", "inches": "inch", "yd": "yard", "mi": "mile", "hr": "hour",
    "hrs": "hour", "min": "minute", "sec": "second", "s": "second", "lb": "pound", "lbs": "pound", "mL": "milliliter",
    "squared": "^2", "square": "^2", "sq": "^2", "cubic": "^3", "cubed": "^3", "mph": "mile per hour",
}  # fmt: skip
_SHORT_UNITS = (frozenset(_UNITS) - words("m g s in")) | {"per"}
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathit|operatorname)\s*\*?\s*\{([^{}]*)\}")
_THOUSANDS = r"\d{1,3}(?:(?:\{,\}|,?\\[!,]\s*|[ ~])\d{3})+(?!\d)(?:\.\d+)?"
_COMMA_THOUSANDS = r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?"
_TOKEN = re.compile(
    rf"(?P<repeating>\d*\.\d*\\overline\s*\{{\d+\}})|"
    rf"(?P<space>\s+|\\[,;:! ]|~|\$|\\\$|\\hspace\{{[^{{}}]*\}})|(?P<thousands>{_THOUSANDS})|"
    rf"(?P<comma_thousands>{_COMMA_THOUSANDS})|(?P<scientific>\d+(?:\.\d+)?[eE][-+]?\d+)|(?P<number>\d+\.\d+|\d+(?!\.\d)|\.\d+)|(?P<row>\\\\)|"
    r"\\(?P<environment>begin|end)\s*\{(?P<name>[a-z]+)\*?\}|\\(?P<command>[A-Za-z]+)|\\(?P<escaped>[{}|%#&_])|"
    r"(?P<dots>\.\.\.+)|(?P<sign><=|>=|!=|\*\*|[-+*/^_()\[\]{}|!=<>,;%':&])|(?P<word>[A-Za-z]+)"
)
_ESCAPED = {"{": ("command", "lset"), "}": ("command", "rset"), "|": ("|", ""), "%": ("%", ""), "&": ("and", "")}
_SIGNS = {"<=": "le", ">=": "ge", "!=": "ne"}


def tokens(text: str) -> list[Token]:
    """All tokens of a formula. Raises: UnreadableError at the first sign that it does not know, or over-long text."""
    if len(text) > LONGEST_TEXT_CHARACTERS:
        raise UnreadableError(f"longer than {LONGEST_TEXT_CHARACTERS} characters")
    for sign, spelling in _UNICODE.items():
        text = text.replace(sign, spelling)
    text = re.sub(r"\\mathbb\s*\{?\s*R\s*\}?|\\Re\b", r"\\reals ", text).strip()
    text = re.sub(r"\\(?:left|right)\s*\.", " ", text)
    found: list[Token] = []
    position, space = 0, False
    while position < len(text):
        inline = _TEXT.match(text, position)
        if inline is not None:
            found.extend(_of_text(inline[1], space))
            position, space = inline.end(), False
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise UnreadableError(f"unknown sign {text[position]!r}")
        position = match.end()
        if match["space"] is not None:
            space = True
            continue
        found.extend(_of_match(match, space))
        space = False
    return found


def unit_in_full(found: list[str]) -> str:
    """A unit's words in one spelling each: `square cm` and `centimeters ^2` are both `^2 centimeter`."""
    singular = [word if len(word) < 4 or word.endswith("ss") else word.removesuffix("s") for word in found]
    return " ".join(sorted(_UNITS.get(word, _UNITS.get(one, one)) for word, one in zip(found, singular, strict=True)))


def _of_match(match: re.Match[str], space: bool) -> list[Token]:
    kind, value = match.lastgroup, match[0]
    if kind in ("thousands", "comma_thousands", "number"):
        return [Token(kind, value, space)]
    if kind == "scientific":
        return [Token("number", _scientific(value), space)]
    if kind == "repeating":
        return [Token("number", _repeating(value), space)]
    if kind == "row":
        return [Token("row")]
    if kind == "name":
        return [Token(str(match["environment"]), match["name"])]
    if kind == "dots":
        return [Token("command", "ldots", space)]
    if kind == "escaped":
        return [Token(*_ESCAPED[match["escaped"]], space)] if match["escaped"] in _ESCAPED else []
    if kind == "word":
        return _of_word(value, space)
    if kind == "command":
        return _of_command(match["command"], space)
    if value == "**":
        return [Token("^")]
    return [Token("command", _SIGNS[value])] if value in _SIGNS else [Token(value, "", space)]


def _repeating(text: str) -> str:
    r"""`0.1\overline{6}` as the fraction it is: 1/6."""
    whole, _, rest = text.partition(".")
    fixed, _, period = rest.replace(" ", "").removesuffix("}").partition(r"\overline{")
    cycle = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return str(Fraction(f"{whole or 0}.{fixed or 0}") + cycle)


def _scientific(text: str) -> str:
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent.lstrip("+-")) > 3:
        raise UnreadableError(f"the exponent {exponent}")
    return str(Fraction(mantissa) * Fraction(10) ** int(exponent))


def _of_command(name: str, space: bool) -> list[Token]:
    if name in _DROPPED:
        return []
    name = _SPELLINGS.get(name, name)
    if name in ("or", "and", "|", "/", "<", ">"):
        return [Token(name, "", space)]
    return [Token("command", name, space)]


def _of_word(word: str, space: bool) -> list[Token]:
    if word.casefold() in _WORDS and (word.islower() or len(word) > 3):
        return [Token(*_WORDS[word.casefold()], space)]
    if len(word) == 1:
        return [Token("name", word, space)]
    if word in _SHORT_UNITS or len(word) > 3:
        return [Token("text", word, space)]
    return [Token("name", letter, space and at == 0) for at, letter in enumerate(word)]


def _of_text(content: str, space: bool) -> list[Token]:
    r"""`\text{or}` joins, `\mathrm{e}` is a letter, `\text{73}` a number, everything else is a word."""
    content = content.strip(" ,.\\")
    if not content:
        return []
    if len(content) == 1 and content.isalpha():
        return [Token("name", content, space)]
    if content in ("or", "and"):
        return [Token(content)]
    if re.fullmatch(r"[\d.,+\-*/^() ]+", content):
        return tokens(content)
    return _of_word(content, space) if content.casefold() in _WORDS else [Token("text", content, space)]
