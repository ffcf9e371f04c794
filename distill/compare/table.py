"""The tables of a comparison, as rows of text, for a terminal and for the page.

    heads, rows = teacher_rows(result); print(table_text(result))       # result as in compare.json

Not covered: computing the figures (`figures.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = list[tuple[str, ...]]


def teacher_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """A row a teacher; dollars only where one has a price."""
    has_price = any(each["cost_usd"] is not None for each in result["teachers"])
    heads: tuple[str, ...] = (
        "teacher", "samples", "accepted", "95% interval", "tokens per accepted", "median tokens", "p90 tokens",
        "cut off", "mixes languages", "median s", "p90 s",
    )  # fmt: skip
    rows: Rows = []
    for each in result["teachers"]:
        cells = (
            each["name"],
            f"{each['samples']:,}",
            f"{each['accept_rate']:.1%}",
            _span(each["accept_interval"]),
            _number(each["tokens_per_accepted"]),
            _number(each["tokens_median"]),
            _number(each["tokens_p90"]),
            f"{each['truncation_rate']:.1%}",
            f"{each['mixing_rate']:.1%}",
            f"{each['seconds_median']:.2f}",
            f"{each['seconds_p90']:.2f}",
        )
        dollars = "-" if each["usd_per_accepted"] is None else f"{each['usd_per_accepted']:.3g}"
        rows.append((*cells, dollars) if has_price else cells)
    return ((*heads, "dollars per accepted") if has_price else heads), rows


def pair_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """A row a pair, on the problems of which both gave every sample."""
    heads = (
        "pair", "problems", "accepted, difference", "95% interval", "McNemar p", "cost ratio", "95% interval",
        "same answer", "of both answered", "same and wrong",
    )  # fmt: skip
    rows: Rows = []
    for each in result["pairs"]:
        ratio = each["cost_interval"]
        rows.append(
            (
                f"{each['one']} - {each['other']}",
                f"{each['problems']:,}",
                "-" if each["accept_difference"] is None else f"{100 * each['accept_difference']:+.1f} points",
                "-" if each["accept_interval"] is None else "{:+.1f} to {:+.1f}".format(*_percent(each)),
                "-" if each["mcnemar_p"] is None else f"{each['mcnemar_p']:.2g}",
                "-" if each["cost_ratio"] is None else f"{each['cost_ratio']:.3g}",
                "-" if ratio is None else f"{ratio[0]:.3g} to {ratio[1]:.3g}",
                "-" if each["agreement"] is None else f"{each['agreement']:.1%}",
                f"{each['both_answered']:,}",
                f"{each['agreed_and_wrong']:,}",
            )
        )
    return heads, rows


def _percent(pair: Mapping[str, Any]) -> tuple[float, float]:
    low, high = pair["accept_interval"]
    return 100 * low, 100 * high


def _span(interval: Sequence[float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def turned(heads: Sequence[str], rows: Rows) -> tuple[tuple[str, ...], Rows]:
    """The same table with a column where there was a row: teachers side by side fit a page."""
    first, *others = zip(heads, *rows, strict=True)
    return first, others


def table_text(result: Mapping[str, Any]) -> str:
    """Both tables for a terminal, each figure on a line of its own and a column a teacher or pair."""
    k = result["samples_per_problem"]
    known, plural = result["problems_known"], "s" if k > 1 else ""
    first = f"{result['problems']:,} of {known:,} problems of {result['target']}, {k} sample{plural} of each"
    return "\n\n".join([first, _aligned(*turned(*teacher_rows(result))), _aligned(*turned(*pair_rows(result)))])


def _aligned(heads: Sequence[str], rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for cells in (tuple(heads), *rows):
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([cells[0].ljust(widths[0]), *padded[1:]]).rstrip())
    return "\n".join(lines)
