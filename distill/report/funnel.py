"""The funnel of a run directory: from problems to traces, by source, domain and family, with intervals and costs.

    funnel = read_funnel("runs/tiny-quickstart"); funnel.total.steps[-1].tokens_each
    section(run)        # HTML of a report
    lines(funnel)       # the table as text, for a terminal

Computed from the directory alone: rows and reasons from dataset/*.parquet, read a batch at a time and only in the
columns that count, the problems that were asked from run.json. Before curation the funnel ends at `verified`
and has no parts: it is that of the harvest's summary, or of the problems that are settled where a harvest is under way
or was killed. Not covered: counting (`distill/curate/funnel.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.curate.funnel import COLUMNS, GROUPINGS, STEPS, Funnel, FunnelCounter, Group, GroupCounts, table_rows
from distill.intervals import wilson_interval
from distill.provenance import RunFile
from distill.report import funnel_plots
from distill.report.page import details, figure, missing, paragraph, table
from distill.report.run_data import RunData
from distill.store.ledger import Ledger
from distill.store.parquet import stream_rows

MOST_GROUPS = 60
HARVEST_STEPS = STEPS[: STEPS.index("verified") + 1]


def read_funnel(directory: str | Path) -> Funnel | None:
    """The funnel of a curated run, or of a harvest as far as it goes; None where nothing is harvested.

    Raises: ConfigError (run.json is damaged), TraceError (the dataset is).
    """
    directory = Path(directory)
    run = RunFile(directory).data
    if (directory / "dataset").is_dir():
        asked = _asked(run.get("problems") or {})
        return FunnelCounter(asked).add_all(stream_rows(directory / "dataset", COLUMNS)).funnel()
    return _of_harvest(directory, run)


def _asked(problems: Mapping[str, Any]) -> dict[Group, int]:
    groups = problems.get("by_group") or []
    return {(each["source"], each["domain"], each["family"]): each["problems"] for each in groups}


def _of_harvest(directory: Path, run: Mapping[str, Any]) -> Funnel | None:
    """Totals up to `verified`: of the harvest's summary, or of the problems settled by one that is under way."""
    figures, ledger = run.get("harvest") or {}, directory / "ledger.db"
    is_over = (run.get("stages") or {}).get("harvest", {}).get("state") == "done"
    counter = _HarvestCounter()
    if is_over and "samples" in figures:
        counter.add(
            figures["outcomes"], figures["finish_reasons"], figures["completion_tokens"], figures.get("cost_usd")
        )
        return counter.funnel(figures["problems"], figures.get("problems_covered"))
    if "scope" not in figures or not ledger.exists():
        return None
    with Ledger.open(ledger) as opened:
        for found in opened.yields(figures["scope"]):
            counter.add(found.outcomes, found.finish_reasons, found.tokens, found.cost_usd)
    return counter.funnel((run.get("problems") or {}).get("train"), None)


class _HarvestCounter:
    """Adds up what problems gave; an aborted sample is one without an answer, its verdict says no more."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()
        self.counts = GroupCounts()
        self.covered = 0

    def add(
        self, outcomes: Mapping[str, int], finish_reasons: Mapping[str, int], tokens: int, usd: float | None
    ) -> None:
        self.outcomes.update(outcomes)
        self.finish_reasons.update(finish_reasons)
        self.counts.tokens += tokens
        self.counts.cost_usd += usd or 0.0
        self.counts.unpriced += usd is None and tokens > 0
        self.covered += bool(outcomes.get("correct"))

    def funnel(self, asked: int | None, covered: int | None) -> Funnel:
        samples, outcomes, aborted = self.finish_reasons.total(), self.outcomes, self.finish_reasons["aborted"]
        finished = samples - outcomes["truncated"] - aborted
        parsed = finished - max(0, outcomes["no_answer"] - aborted)
        self.counts.asked = asked
        self.counts.samples[: len(HARVEST_STEPS)] = [samples, finished, parsed, outcomes["correct"]]
        self.counts.problems[len(HARVEST_STEPS) - 1] = self.covered if covered is None else covered
        rejects = {
            "finished": {"truncated": outcomes["truncated"], "aborted": aborted},
            "parsed": {"no_answer": finished - parsed},
            "verified": {name: outcomes[name] for name in ("wrong", "undecided", "error")},
        }
        found = {step: {reason: count for reason, count in by.items() if count} for step, by in rejects.items()}
        return Funnel(self.counts, {name: {} for name in GROUPINGS}, {step: by for step, by in found.items() if by})


def is_curated(funnel: Funnel) -> bool:
    """Whether the funnel goes on after `verified`."""
    return bool(funnel.by["source"])


def lines(funnel: Funnel) -> str:
    """The table of all problems as text, and why samples were rejected."""
    heads, *rows = _rows(funnel)
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(len(heads))]
    shown = [
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in (heads, *rows))
    ]
    rejects = [
        f"rejected before {step}: " + ", ".join(f"{reason} {count}" for reason, count in by.items())
        for step, by in funnel.rejects.items()
    ]
    return "\n".join([*(line.rstrip() for line in shown), *rejects])


def _rows(funnel: Funnel) -> list[tuple[str, ...]]:
    rows = table_rows(funnel.total)
    if is_curated(funnel):
        return rows
    known = [row for row in rows if row[0] in ("step", "problems", *HARVEST_STEPS)]
    covered = len(known) - 1  # problems with a sample left are counted at the last of these steps only
    return [row if place in (0, 1, covered) else (row[0], row[1], "-", *row[3:]) for place, row in enumerate(known)]


def section(run: RunData) -> str:
    """Table, plot, rejects and parts; or the command that fills it."""
    funnel = read_funnel(run.directory)
    if funnel is None:
        return missing("Nothing has been harvested yet.", run.command("harvest"))
    curated = is_curated(funnel)
    command = run.command("curate" if curated else "harvest")
    names = STEPS if curated else HARVEST_STEPS
    text = (
        "What is left of the samples at each step, and what the teacher's tokens come to by item left. Intervals are "
        "95% (Wilson) and count samples of one problem as independent; problems: those with a sample left."
    )
    heads, *rows = _rows(funnel)
    svg = funnel_plots.steps([step for step in funnel.total.steps if step.name in names])
    caption = "Samples left at each step, and what was rejected before it for which reason."
    parts = [
        paragraph(text, "muted"),
        figure(svg, caption, command),
        table(heads, rows, total_rows=0),
        _rejects(funnel),
    ]
    if not curated:
        return "".join(parts) + missing("Not curated yet: the funnel goes on from there.", run.command("curate"))
    parts += [_stale(run, funnel), *(_parts(name, funnel.by[name]) for name in GROUPINGS)]
    return "".join(parts) + _difficulty(funnel, command)


def _rejects(funnel: Funnel) -> str:
    rows = [
        (step, reason, f"{count:,}", f"{count / funnel.total.samples[0]:.1%}")
        for step, by in funnel.rejects.items()
        for reason, count in by.items()
    ]
    heads = ("rejected before", "reason", "samples", "of all")
    return details("Rejects by step and reason", table(heads, rows, words=(1,))) if rows else ""


def _stale(run: RunData, funnel: Funnel) -> str:
    """A note where the harvest went on after the curation."""
    harvested, curated = run.section("harvest").get("samples"), funnel.total.samples[0]
    if not isinstance(harvested, int) or harvested <= curated:
        return ""
    text = f"The harvest has {harvested:,} samples, {curated:,} of them are curated. To curate the others:"
    return missing(text, run.command("curate"))


def _parts(name: str, groups: Mapping[str, GroupCounts]) -> str:
    """Samples left at each step by group, and the cost of a kept trace."""
    if len(groups) < 2:
        return ""
    most = sorted(groups.items(), key=lambda item: -item[1].samples[0])[:MOST_GROUPS]
    has_price = any(counts.dollars is not None for _, counts in most)
    rows = [(key, *_cells(counts, has_price)) for key, counts in most]
    costs = ("tokens each kept", "dollars each kept")[: 1 + has_price]
    heads = (name, "problems", "kept of samples", "95% interval", *costs, *STEPS)
    note = "" if len(groups) <= MOST_GROUPS else paragraph(f"The {MOST_GROUPS} largest of {len(groups)}.", "small")
    return details(f"By {name}", table(heads, rows) + note)


def _cells(counts: GroupCounts, has_price: bool) -> tuple[str, ...]:
    kept, drawn = counts.samples[-1], counts.samples[0]
    low, high = wilson_interval(kept, drawn)
    dollars = f"{counts.dollars / kept:.3g}" if kept and counts.dollars is not None else "-"
    return (
        f"{counts.num_problems:,}",
        f"{kept / drawn:.1%}" if drawn else "-",
        f"{low:.1%} to {high:.1%}" if drawn else "-",
        f"{counts.tokens / kept:,.0f}" if kept else "-",
        *([dollars] if has_price else []),
        *(f"{number:,}" for number in counts.samples),
    )


def _difficulty(funnel: Funnel, command: str) -> str:
    """Problems by estimated pass rate, where the harvest estimated them."""
    found = funnel.pass_rates
    if found is None:
        return ""
    width = "" if found.mean_width is None else f" Their intervals are {found.mean_width:.2f} wide on average."
    text = f"The teacher's estimated pass rate on {found.problems:,} problems: how hard they are for it.{width}"
    return "<h3>Difficulty</h3>" + figure(funnel_plots.pass_rates(found.bins), text, command)
