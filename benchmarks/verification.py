"""Measures the math verifier against Math-Verify alone: false "right", false "wrong", undecided, checks a second.

    python benchmarks/verification.py --data FOLDER             # math500.jsonl and gsm8k-test.jsonl in it
    python benchmarks/verification.py --data FOLDER --show      # and every pair that either side gets wrong

Both sides judge the same pairs in one process on one core, turn about, with our caches emptied before each check.
Math-Verify runs as its README shows it: `verify(parse(gold), parse(answer))`, its own time limits on. Labels come from
how the pairs are made (verification_pairs.py, verification_expressions.py) or are by hand (verification_hard.py); no
gold answer is recorded.
Not covered: how often models write each form, so shares here are of forms, not of traffic.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.verification_expressions import expression_pairs
from benchmarks.verification_hard import DIFFERENT, EQUAL
from benchmarks.verification_pairs import ROUNDED, Pair, crossed_pairs, made_pairs, pairs_from
from distill import provenance
from distill.intervals import wilson_interval
from distill.records import Problem
from distill.verify import math as math_verifier
from distill.verify import math_second
from distill.verify.base import Judgement

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "verification.json"
PAGE = RESULT.parents[1] / "docs" / "verification.md"
BEGIN, END = "<!-- verification: begin -->", "<!-- verification: end -->"
SEED = 20261124
SIDES = ("distill", "math-verify")
Side = Callable[[str, str], str]


def load_golds(folder: Path, gsm8k: int) -> dict[str, list[str]]:
    """Distinct gold answers of MATH-500, and so many of GSM8K's."""
    found = {}
    for name, limit in (("math500", None), ("gsm8k-test", gsm8k)):
        rows = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        golds = list(dict.fromkeys(str(json.loads(row)["answer"]).replace(",", "") if name != "math500" else
                                   json.loads(row)["answer"] for row in rows if row.strip()))  # fmt: skip
        random.Random(SEED).shuffle(golds)
        found[name] = golds[:limit]
    return found


def hard_pairs() -> list[Pair]:
    return [Pair(*pair, True, "by hand") for pair in EQUAL] + [Pair(*pair, False, "by hand") for pair in DIFFERENT]


def ours(gold: str, answer: str) -> str:
    """The outcome of verifier math, cold."""
    math_verifier._parse.cache_clear()
    math_second._questions.cache_clear()
    problem = Problem("p", "", gold, "math", "", "", "", "")
    extracted = math_verifier.extract(problem, answer)
    if extracted is None:
        return "wrong"
    try:
        judged = math_verifier.score(problem, extracted)
    except Exception as error:
        return f"error: {type(error).__name__}"
    assert isinstance(judged, Judgement)
    return judged.outcome


def theirs(gold: str, answer: str) -> str:
    """What Math-Verify says with its defaults; its own timeouts and failures are "wrong", as its users see them."""
    import math_verify

    right = math_verify.verify(math_verify.parse(f"\\boxed{{{gold}}}"), math_verify.parse(answer))
    return "correct" if right else "wrong"


def measure(pairs: Iterable[Pair], show: bool = False) -> dict[str, Any]:
    """Counts, rates and times of both sides over the pairs."""
    checks: dict[str, Side] = {"distill": ours, "math-verify": theirs}
    for check in checks.values():  # libraries load before the clock starts
        check("1", r"\boxed{x+1}")
    outcomes: dict[str, Counter[tuple[bool, str, str]]] = {side: Counter() for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for number, pair in enumerate(pairs):
        said = {}
        for side in SIDES if number % 2 else SIDES[::-1]:
            started = time.perf_counter()
            said[side] = checks[side](pair.gold, f"The final answer is \\boxed{{{pair.answer}}}.")
            seconds[side].append(time.perf_counter() - started)
            outcomes[side][pair.is_equal, pair.kind, said[side]] += 1
        if show and any(outcome != ("correct" if pair.is_equal else "wrong") for outcome in said.values()):
            print(f"{'equal' if pair.is_equal else 'different':9} {pair.kind:24} {said} {pair.gold!r} {pair.answer!r}")
    return {side: _figures(outcomes[side], seconds[side]) for side in SIDES}


def _figures(outcomes: Counter[tuple[bool, str, str]], seconds: list[float]) -> dict[str, Any]:
    total: Counter[tuple[bool, str]] = Counter()
    for (is_equal, _, outcome), count in outcomes.items():
        total[is_equal, outcome] += count
    equal, different = (sum(count for (label, _), count in total.items() if label is want) for want in (True, False))
    return {
        "false_right": _rate(total[False, "correct"], different),
        "false_wrong": _rate(total[True, "wrong"], equal),
        "undecided_of_equal": _rate(total[True, "undecided"], equal),
        "undecided_of_different": _rate(total[False, "undecided"], different),
        "errors": sum(count for (_, outcome), count in total.items() if outcome.startswith("error")),
        "checks_per_second_per_core": round(len(seconds) / sum(seconds), 1),
        "median_ms": round(statistics.median(seconds) * 1000, 3),
        "mean_ms": round(statistics.mean(seconds) * 1000, 3),
        "slowest_ms": round(max(seconds) * 1000, 1),
        "by_kind": _by_kind(outcomes),
    }


def _rate(count: int, of: int) -> dict[str, Any]:
    low, high = wilson_interval(count, of)
    return {
        "count": count,
        "of": of,
        "rate": round(count / of, 5) if of else None,
        "interval": [round(low, 5), round(high, 5)],
    }


def _by_kind(outcomes: Counter[tuple[bool, str, str]]) -> dict[str, dict[str, int]]:
    """{"equal: leading zero": {"correct": 12, "wrong": 1}, ...}"""
    found: dict[str, dict[str, int]] = {}
    for (is_equal, kind, outcome), count in sorted(outcomes.items()):
        found.setdefault(f"{'equal' if is_equal else 'different'}: {kind}", {})[outcome] = count
    return found


def table(result: dict[str, Any]) -> str:
    """Figures side by side, as Markdown."""
    lines = [
        "| pairs | side | false right | false wrong | undecided | checks/s/core | median ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, sides in result["sets"].items():
        for side, found in sides.items():
            wrong = [found[key] for key in ("false_right", "false_wrong")]
            cells = [
                f"{rate['count']} of {rate['of']} [{rate['interval'][0]:.2%}, {rate['interval'][1]:.2%}]"
                for rate in wrong
            ]
            undecided = found["undecided_of_equal"]["count"] + found["undecided_of_different"]["count"]
            speed = f"{found['checks_per_second_per_core']:.0f} | {found['median_ms']:.2f}"
            lines.append(f"| {name} | {side} | {' | '.join(cells)} | {undecided} | {speed} |")
    return "\n".join(lines)


def write_page(result: dict[str, Any]) -> None:
    """Put the table into docs/verification.md."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{rest.split(END)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with math500.jsonl and gsm8k-test.jsonl.")
    parser.add_argument("--gsm8k", type=int, default=150, help="How many distinct GSM8K answers.")
    parser.add_argument("--made", type=int, default=40, help="How many of each drawn kind.")
    parser.add_argument("--formulas", type=int, default=150, help="How many formulas that sympy rewrites.")
    parser.add_argument("--crossed", type=int, default=1000, help="How many pairs of two problems' golds.")
    parser.add_argument("--show", action="store_true", help="Print every pair that a side does not get right.")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    golds = load_golds(arguments.data, arguments.gsm8k)
    sets = {name: pairs_from(found, SEED) for name, found in golds.items()}
    sets |= {"drawn": made_pairs(arguments.made, SEED), "by hand": hard_pairs()}
    sets["formulas"] = expression_pairs(arguments.formulas, SEED)
    sets["crossed"] = crossed_pairs(golds["math500"], arguments.crossed, SEED)
    rounded = [pair for pairs in sets.values() for pair in pairs if pair.kind == ROUNDED]
    sets = {name: [pair for pair in pairs if pair.kind != ROUNDED] for name, pairs in sets.items()}
    sets["rounded"] = rounded  # apart: Math-Verify takes six equal decimals for equal on purpose
    where = {"machine": provenance.machine(), "versions": provenance.versions(), "code": provenance.commit()}
    result: dict[str, Any] = {"date": provenance.utc_now(), "seed": SEED, **where}
    result["pairs"] = {name: len(pairs) for name, pairs in sets.items()}
    result["sets"] = {name: measure(pairs, arguments.show) for name, pairs in sets.items()}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.out == RESULT:
        write_page(result)
    print(table(result))


if __name__ == "__main__":
    main()
