"""compare.html: the tables of a comparison and what its figures mean, as one page that stands alone.

    page_of(result)      # result as in compare.json

Not covered: the figures (`figures.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from distill.compare.table import pair_rows, teacher_rows, turned
from distill.report.page import details, page, paragraph, table
from distill.report.plots import WIDTH
from distill.report.svg import CHARACTER_WIDTH, Drawing, ticks

LANE = 30.0


def page_of(result: Mapping[str, Any]) -> str:
    """The whole document."""
    k, number = result["samples_per_problem"], result["problems"]
    known, plural = result["problems_known"], "s" if k > 1 else ""
    text = f"{number:,} of {known:,} problems, {k} sample{plural} of each by each teacher."
    header = f"<h1>Teachers on {escape(str(result['target']))}</h1>{paragraph(text)}"
    heads, rows = turned(*teacher_rows(result))
    teachers = (
        f'<figure><div class="plot" tabindex="0">{accept_rates(result)}</div></figure>'
        + table(heads, rows)
        + paragraph(
            "Accepted: the verifier says correct. Intervals are 95% and hold for new problems like these. Tokens are "
            "counted by each server with its own tokenizer. Seconds are of one sample.",
            "small",
        )
        + _outcomes(result)
    )
    heads, rows = turned(*pair_rows(result))
    pairs = table(heads, rows) + paragraph(
        "On the problems of which both gave every sample. Cost is tokens per accepted trace, the first's to the "
        "second's. Same answer: by the verifier's own comparison; same and wrong counts those accepted of neither.",
        "small",
    )
    sections = [("teachers", "Teachers", teachers), ("pairs", "Paired differences", pairs)]
    return page(f"Teachers on {result['target']}", header, sections, "")


def accept_rates(result: Mapping[str, Any]) -> str:
    """Accept rates with their intervals, as SVG."""
    found = result["teachers"]
    left = 24 + CHARACTER_WIDTH * max(len(each["name"]) for each in found)
    right, bottom = WIDTH - 80, 12 + LANE * len(found)
    words = "; ".join(f"{each['name']}: {each['accept_rate']:.1%}" for each in found)
    drawing = Drawing(WIDTH, bottom + 26, "Accept rate by teacher", words)
    for value in ticks(0.0, 1.0):
        x = left + (right - left) * value
        drawing.line(x, 8, x, bottom, "grid")
        drawing.text(x, bottom + 18, f"{value:.0%}", "muted", "middle")
    for place, each in enumerate(found):
        y = 8 + LANE * (place + 0.5)
        low, high = (left + (right - left) * bound for bound in each["accept_interval"])
        drawing.text(12, y + 4, each["name"])
        drawing.line(low, y, high, y, "whisker stroke-teacher")
        drawing.mark(left + (right - left) * each["accept_rate"], y, "teacher", each["name"])
        drawing.text(WIDTH - 12, y + 4, f"{each['accept_rate']:.1%}", "strong", "end")
    return drawing.render()


def _outcomes(result: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(name for each in result["teachers"] for name in each["outcomes"]))
    rows = [
        (each["name"], *(f"{each['outcomes'].get(name, 0):,}" for name in names), f"{each['unanswered']:,}")
        for each in result["teachers"]
    ]
    return details("Verdicts", table(("teacher", *names, "no sample"), rows))
