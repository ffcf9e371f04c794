r"""Reads an answer in LaTeX or plain text as a tree, with what it may mean left open: the second reader of mathematics.

    node, open_questions = read(r"1/2x", {})            # open_questions == {"division"}: (1/2)x or 1/(2x)?
    read(r"1/2x", {"division": True})                   # 1/(2x)

Independent of Math-Verify, latex2sympy2 and sympy (whose own LaTeX readers need an antlr that Math-Verify excludes, or
lark). Not covered, and said so by UnreadableError: integrals, limits, sums over an index, words, modular congruence.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from distill.verify.math_tokens import FUNCTIONS, GREEK, Token, tokens, unit_in_full, words
from distill.verify.math_tree import Node, UnreadableError, call, number

_RELATIONS = frozenset(("le", "ge", "ne", "in"))
_STARTS_A_FACTOR = frozenset(("number", "name", "command", "(", "{", "["))
_JOINTS = frozenset((",", ";", "or", "and"))
_NO_FACTOR = _RELATIONS | words(
    "cdot pm mp cup cap setminus rset rfloor rceil ldots mod pmod equiv to approx colon circ rangle implies"
)
_SIZES = words("hundred thousand million billion trillion dozen half third quarter mod")
_DEEPEST = 60


def read(text: str, choices: Mapping[str, bool]) -> tuple[Node, set[str]]:
    """The tree of `text` under these choices, and the questions that it leaves open.

    Raises: UnreadableError with the reason, for a person to read.
    """
    reader = _Reader(tokens(text), choices)
    try:
        node = reader.statement()
    except RecursionError:
        raise UnreadableError("nested too deeply") from None
    if reader.peek().kind != "end of text":
        raise UnreadableError(f"does not know what to do with {reader.shown()}")
    return node, reader.open_questions


class _Reader:
    """Recursive descent over the tokens; one method a level of binding, loosest first."""

    def __init__(self, found: list[Token], choices: Mapping[str, bool]) -> None:
        self.choices, self.open_questions = choices, set[str]()
        self.at, self.depth, self.bars = 0, 0, 0
        self.tokens = [part for token in found for part in self._without_thousands(token)]

    # --- tokens

    def _without_thousands(self, token: Token) -> list[Token]:
        if token.kind == "thousands" or (token.kind == "comma_thousands" and not self.choose("thousands")):
            return [
                Token("number", "".join(sign for sign in token.value if sign.isdigit() or sign == "."), token.space)
            ]
        if token.kind != "comma_thousands":
            return [token]
        first, *rest = token.value.split(",")
        return [Token("number", first, token.space), *(t for part in rest for t in (Token(","), Token("number", part)))]

    def choose(self, question: str) -> bool:
        self.open_questions.add(question)
        return self.choices.get(question, False)

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else Token("end of text")

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def shown(self) -> str:
        token = self.peek()
        return repr(token.value or token.kind)

    def takes(self, kind: str, value: str = "") -> bool:
        if self.peek()[:2] != (kind, value):
            return False
        self.at += 1
        return True

    def expect(self, kind: str, value: str = "") -> None:
        if not self.takes(kind, value):
            raise UnreadableError(f"expected {value or kind!r}, found {self.shown()}")

    def is_command(self, *names: str) -> bool:
        return self.peek().kind == "command" and self.peek().value in names

    # --- lists, relations, sets

    def statement(self) -> Node:
        """Items between commas, `or` and `and`; one item is itself. The list's value names the words between."""
        items, joints = [self.relation()], set()
        while self.peek().kind in _JOINTS:
            while self.peek().kind in _JOINTS:
                joints.add(self.next().kind)
            items.append(self.relation())
        return items[0] if len(items) == 1 else Node("list", tuple(items), " ".join(sorted(joints & {"or", "and"})))

    def relation(self) -> Node:
        sides, signs = [self.union()], []
        while self.peek().kind in ("=", "<", ">") or self.is_command(*_RELATIONS):
            token = self.next()
            signs.append(token.value or token.kind)
            sides.append(self.union())
        return Node("relation", tuple(sides), " ".join(signs)) if signs else sides[0]

    def union(self) -> Node:
        node = self.sum()
        while self.is_command("cup", "cap", "setminus"):
            head = {"cup": "union", "cap": "intersection", "setminus": "without"}[self.next().value]
            node = Node(head, (node, self.sum()))
        return node

    # --- arithmetic

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UnreadableError("nested too deeply")
        node = self.signed()
        while self.peek().kind in ("+", "-") or self.is_command("pm", "mp"):
            sign = self.next()
            node = call(sign.value or sign.kind, node, self.term())
        self.depth -= 1
        return node

    def signed(self) -> Node:
        if self.takes("+"):
            return self.signed()
        if self.takes("-"):
            return call("negative", self.signed())
        if self.is_command("pm", "mp"):
            return call(self.next().value, number(0), self.signed())
        return self.term()

    def term(self) -> Node:
        node = self.factors()
        while True:
            if self.takes("*") or self.takes("command", "cdot"):
                node = call("*", node, self.divisor())
            elif self.takes("/"):
                node = call("/", node, self.divisor(after_slash=True))
            elif self.starts_a_factor():
                node = call("*", node, self.power())
            elif self.peek().kind == "text":
                node = self.with_unit(node)
            else:
                return node

    def divisor(self, *, after_slash: bool = False) -> Node:
        if self.takes("-"):
            return call("negative", self.divisor(after_slash=after_slash))
        node = self.power()
        if after_slash and self.starts_a_factor() and self.choose("division"):
            while self.starts_a_factor():
                node = call("*", node, self.power())
        return node

    def factors(self) -> Node:
        """A first factor; a whole number before a fraction of whole numbers is a mixed number."""
        first = self.peek()
        node = self.power()
        if node.head != "number" or first.kind != "number":
            return node
        start = self.at
        if self.peek().kind == "number" and self.peek(1).kind == "/" and self.peek(2).kind == "number":
            above, _, below = self.next(), self.next(), self.next()
            return call("+", node, call("/", number(Fraction(above.value)), number(Fraction(below.value))))
        if self.is_command("frac") and first.value.isdigit():
            part = self.power()
            if part.value == "/" and all(side.head == "number" for side in part.parts):
                return call("+", node, part)
            self.at = start
        return node

    def starts_a_factor(self) -> bool:
        token = self.peek()
        if token.kind == "command":
            return token.value not in _NO_FACTOR
        if token.kind == "number" and self.at and self.tokens[self.at - 1].kind == "number":
            raise UnreadableError(f"two numbers side by side: {self.tokens[self.at - 1].value} {token.value}")
        return token.kind in _STARTS_A_FACTOR or (token.kind == "|" and not self.bars)

    def with_unit(self, node: Node) -> Node:
        r"""A value and the words after it, with their power: `5\text{ cm}^2`, `3 dollars per hour`."""
        found: list[str] = []
        while self.peek().kind == "text":
            found += self.next().value.casefold().split()
            if self.takes("^"):
                found.append("^" + self.argument().value)
        if size := [word for word in found if word.rstrip("s") in _SIZES]:
            raise UnreadableError(f"the word {size[0]!r}")
        if found == ["percent"]:
            return call("/", node, number(100)) if self.choose("percent") else node
        if found in (["degree"], ["degrees"]):
            return call("degrees" if self.choose("degrees") else "as degrees", node)
        return Node("unit", (node,), unit_in_full(found))

    def power(self) -> Node:
        node = self.postfix(self.primary())
        while self.takes("^"):
            if self.takes("command", "circ") or self._takes_group_of("circ"):
                node = call("degrees" if self.choose("degrees") else "as degrees", node)
            elif self.takes("'"):
                raise UnreadableError("a prime")
            else:
                node = call("^", node, self.exponent())
            node = self.postfix(node)
        return node

    def _takes_group_of(self, command: str) -> bool:
        is_it = [self.peek(at)[:2] for at in range(3)] == [("{", ""), ("command", command), ("}", "")]
        self.at += 3 * is_it
        return is_it

    def exponent(self) -> Node:
        if self.takes("-"):
            return call("negative", self.exponent())
        base = self.group("{", "}") if self.peek().kind == "{" else self.postfix(self.primary())
        return call("^", base, self.exponent()) if self.takes("^") else base

    def postfix(self, node: Node) -> Node:
        while True:
            if self.takes("!"):
                node = call("factorial", node)
            elif self.takes("%"):
                node = call("/", node, number(100)) if self.choose("percent") else node
            elif self.peek().kind == "_" and node.head in ("number", "name"):
                node = self.with_index(node)
            elif self.takes("command", "circ"):
                node = call("degrees" if self.choose("degrees") else "as degrees", node)
            else:
                return node

    def with_index(self, node: Node) -> Node:
        self.next()
        index = self.argument()
        if index.head not in ("number", "name", "call"):
            raise UnreadableError("an index that is no number or name")
        if node.head == "name":
            return Node("name", (), f"{node.value}_{_flat(index)}")
        return Node("based", (node,), index.value)

    # --- things

    def primary(self) -> Node:
        token = self.next()
        match token.kind:
            case "number":
                return number(Fraction(token.value))
            case "name":
                return Node("constant", (), token.value) if token.value in ("e", "i") else Node("name", (), token.value)
            case "(" | "[":
                return self.brackets(token.kind)
            case "{":
                self.at -= 1
                return self.group("{", "}")
            case "|":
                return self.absolute("|")
            case "text":
                raise UnreadableError(f"the word {token.value!r}")
            case "begin":
                return self.matrix(token.value)
            case "command":
                return self.command(token.value)
        self.at -= 1
        raise UnreadableError(f"expected a value, found {self.shown()}")

    def group(self, opens: str, closes: str) -> Node:
        self.expect(opens)
        bars, self.bars = self.bars, 0
        node = self.statement()
        self.bars = bars
        self.expect(closes)
        return node

    def brackets(self, opens: str) -> Node:
        bars, self.bars = self.bars, 0
        inner = self.statement()
        self.bars = bars
        closes = self.next().kind
        if closes not in (")", "]"):
            self.at -= 1
            raise UnreadableError(f"expected a closing bracket, found {self.shown()}")
        if inner.head == "list":
            return Node("tuple", inner.parts, opens + closes)
        if opens + closes not in ("()", "[]"):
            raise UnreadableError("an interval with one end")
        return inner

    def absolute(self, closes: str) -> Node:
        bars, self.bars = self.bars, 1
        node = self.sum()
        self.bars = bars
        self.expect(closes)
        return call("abs", node)

    def argument(self) -> Node:
        r"""What follows `\frac`, `\sqrt` or `_`: a group, a command, or one sign (of `\frac13` the 1)."""
        if self.peek().kind == "{":
            return self.group("{", "}")
        token = self.peek()
        if token.kind != "number" or not token.value.isdigit() or len(token.value) == 1:
            return self.primary()
        self.tokens[self.at] = Token("number", token.value[1:])
        return number(int(token.value[0]))

    def command(self, name: str) -> Node:
        if name in ("pi", "infty"):
            return Node("constant", (), name)
        if name in GREEK:
            return Node("name", (), name)
        if name in FUNCTIONS:
            return self.function(name)
        match name:
            case "frac":
                return call("/", self.argument(), self.argument())
            case "binom":
                return call("binomial", self.argument(), self.argument())
            case "sqrt":
                return self.root()
            case "abs":
                return call("abs", self.argument() if self.peek().kind == "{" else self.primary())
            case "lfloor" | "lceil":
                node = self.sum()
                self.expect("command", "r" + name[1:])
                return call(name[1:], node)
            case "lset":
                node = Node("set") if self.is_command("rset") else self.statement()
                self.expect("command", "rset")
                return Node("set", node.parts if node.head in ("list", "set") else (node,))
            case "langle":
                node = self.statement()
                self.expect("command", "rangle")
                return Node("tuple", node.parts if node.head == "list" else (node,), "()")
            case "emptyset" | "reals":
                return Node("set") if name == "emptyset" else Node("reals")
            case "ldots":
                return Node("dots")
            case "overline" | "bar":
                raise UnreadableError("an overline")
        raise UnreadableError(f"the command \\{name}")

    def root(self) -> Node:
        degree = self.group("[", "]") if self.peek().kind == "[" else number(2)
        token = self.peek()
        if token.kind == "number" and len(token.value) > 1:
            self.next()
            return call(
                "root", number(Fraction(token.value)), degree
            )  # LaTeX reads \sqrt13 as 3 sqrt(1), people do not
        return call("root", self.argument(), degree)

    def function(self, name: str) -> Node:
        base = None
        if name == "log" and self.takes("_"):
            base = self.argument()
        power = self.exponent() if self.takes("^") else None
        inside = self.function_argument()
        if power == call("negative", number(1)):
            name, power = "a" + name, None
        if name == "log":
            base = base or (number(10) if self.choose("log") else Node("constant", (), "e"))
            node = call("log", inside, base)
        elif name in ("asinh", "acosh", "atanh", "aexp", "aln", "acot", "asec", "acsc", "aasin", "aacos", "aatan"):
            raise UnreadableError(f"the function {name}")
        else:
            node = call(name, inside)
        return node if power is None else call("^", node, power)

    def function_argument(self) -> Node:
        r"""A bracket alone, or the factors that follow: `\sin 2x \cos x` is sin(2x) times cos(x)."""
        if self.peek().kind in ("(", "{", "|", "["):
            return self.postfix(self.primary())
        if self.takes("-"):
            return call("negative", self.function_argument())
        node = self.power()
        while self.starts_a_factor() and not self.is_command(*FUNCTIONS) and self.peek().kind != "(":
            node = call("*", node, self.power())
        return call("/", node, self.power()) if node.head == "constant" and self.takes("/") else node

    def matrix(self, environment: str) -> Node:
        if environment not in ("pmatrix", "bmatrix", "matrix", "array", "Bmatrix"):
            raise UnreadableError(f"the environment {environment}")
        if environment == "array" and self.peek().kind == "{":
            while self.next().kind not in ("}", "end of text"):
                pass
        rows: list[Node] = []
        cells: list[Node] = []
        while self.peek().kind != "end":
            cells.append(self.relation())
            if self.takes("&"):
                continue
            rows.append(Node("row", tuple(cells)))
            cells = []
            if not self.takes("row") and self.peek().kind != "end":
                raise UnreadableError(f"expected a row's end, found {self.shown()}")
        self.expect("end", environment)
        return Node("matrix", tuple(rows))


def _flat(node: Node) -> str:
    return node.value + "".join(_flat(part) for part in node.parts)
