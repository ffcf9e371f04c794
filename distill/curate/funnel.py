"""The funnel of a harvest: problems -> samples -> finished -> parsed -> verified -> unique -> clean -> kept, counted.

    counter = FunnelCounter()
    for row in rows: counter.add(row)            # kept rows and drops, in any order
    funnel = counter.funnel(); funnel.total.steps; funnel.by["source"]; funnel.rejects

Every sample is rejected at one step, for the reason that curation recorded, or kept; curation records the first of its
own steps that drops a row, whatever the order here. Steps:
  finished  the completion ended by itself: not cut off, not aborted by us
  parsed    it has one closed thought and one final answer
  verified  the verifier says correct (or the recipe does not ask for that)
  unique    no other trace says the same
  clean     it passes every other step: loops, contamination, length
  kept      it is not one too many of its problem
Memory grows with problems and groups, not with samples. Costs are of everything that was sampled, by what is left.
Not covered: where rows come from (`distill/report/funnel.py` streams them from a run directory), and how it looks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from distill.intervals import wilson_interval

STEPS = ("samples", "finished", "parsed", "verified", "unique", "clean", "kept")
GROUPINGS = ("source", "domain", "family")
COLUMNS = (
    "problem_id", "source", "domain", "family", "outcome", "finish_reason", "completion_tokens", "cost_usd",
    "dropped_by", "reason", "pass_rate", "pass_rate_low", "pass_rate_high", "attempts",
)  # fmt: skip
"""What is read of a row; from `cost_usd` on a row may lack it."""
PASS_RATE_BINS = 10

_STEP_OF_CURATION = {"verified": "verified", "closed_reasoning": "parsed", "max_per_problem": "kept"}
Group = tuple[str, str, str]


def rejected_at(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(step, reason) of a dropped row; None of a kept one."""
    by = row.get("dropped_by")
    if by is None:
        return None
    outcome, reason = row["outcome"], str(row["reason"])
    if row["finish_reason"] == "aborted":
        return "finished", "aborted"
    if outcome == "truncated" or (by == "truncation" and reason == "truncated"):
        return "finished", "truncated"
    if outcome == "no_answer":
        return "parsed", "no_answer"
    if "duplicate" in by:
        return "unique", reason
    return _STEP_OF_CURATION.get(by, "clean"), reason


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a funnel: what reached it."""

    name: str
    samples: int
    problems: int
    """Problems of which at least one sample is left."""
    previous: int
    tokens_each: float | None
    """Teacher completion tokens of the whole group by samples left here; None where nothing is left."""
    usd_each: float | None

    @property
    def share(self) -> float | None:
        """Of the previous step's samples; None for the first step and after nothing."""
        return self.samples / self.previous if self.previous else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% (Wilson). Samples of one problem are counted as independent, so it is on the narrow side."""
        return wilson_interval(self.samples, self.previous) if self.previous else None

    def to_dict(self) -> dict[str, Any]:
        figures = {"step": self.name, "samples": self.samples, "problems": self.problems}
        interval = None if self.interval is None else [round(bound, 4) for bound in self.interval]
        share = None if self.share is None else round(self.share, 4)
        return {
            **figures,
            "share_of_previous": share,
            "interval": interval,
            "tokens_each": None if self.tokens_each is None else round(self.tokens_each, 1),
            "usd_each": None if self.usd_each is None else round(self.usd_each, 6),
        }


@dataclass(slots=True)
class GroupCounts:
    """Counts of the samples of one group; index by step."""

    asked: int | None = None
    """Problems that the harvest was given; None where only those are known of which there are samples."""
    samples: list[int] = field(default_factory=lambda: [0] * len(STEPS))
    problems: list[int] = field(default_factory=lambda: [0] * len(STEPS))
    tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    @property
    def num_problems(self) -> int:
        return self.problems[0] if self.asked is None else self.asked

    @property
    def dollars(self) -> float | None:
        """None where a sample has no price: half a sum would mislead."""
        return None if self.unpriced or not self.samples[0] else self.cost_usd

    @property
    def steps(self) -> list[Step]:
        found = []
        for place, name in enumerate(STEPS):
            left = self.samples[place]
            found.append(
                Step(
                    name=name,
                    samples=left,
                    problems=self.problems[place],
                    previous=self.samples[place - 1] if place else 0,
                    tokens_each=self.tokens / left if left else None,
                    usd_each=self.dollars / left if left and self.dollars is not None else None,
                )
            )
        return found

    def add(self, other: GroupCounts) -> None:
        self.samples = [a + b for a, b in zip(self.samples, other.samples, strict=True)]
        self.problems = [a + b for a, b in zip(self.problems, other.problems, strict=True)]
        self.tokens += other.tokens
        self.cost_usd += other.cost_usd
        self.unpriced += other.unpriced
        if other.asked is not None:
            self.asked = (self.asked or 0) + other.asked

    def to_dict(self) -> dict[str, Any]:
        return {
            "problems": self.num_problems,
            "tokens": self.tokens,
            "cost_usd": None if self.dollars is None else round(self.dollars, 4),
            "steps": [step.to_dict() for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class PassRates:
    """Estimated pass rates of the problems: how hard they are for the teacher."""

    bins: list[int]
    """Problems by pass rate, in equal bins over [0, 1]; the last holds 1 too."""
    problems: int
    mean_width: float | None
    """Of the intervals of the estimates; None where there are none."""

    def to_dict(self) -> dict[str, Any]:
        return {"bins": self.bins, "problems": self.problems, "mean_interval_width": self.mean_width}


@dataclass(frozen=True, slots=True)
class Funnel:
    """A whole funnel, and its parts by source, domain and family."""

    total: GroupCounts
    by: dict[str, dict[str, GroupCounts]]
    rejects: dict[str, dict[str, int]]
    """Samples rejected, by step and reason, most frequent first."""
    pass_rates: PassRates | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.total.to_dict(),
            **{
                f"by_{name}": {key: counts.to_dict() for key, counts in groups.items()}
                for name, groups in self.by.items()
            },
            "rejects": self.rejects,
            "pass_rates": None if self.pass_rates is None else self.pass_rates.to_dict(),
        }


class FunnelCounter:
    """Counts rows; `asked` has the problems that were given to the harvest by (source, domain, family)."""

    def __init__(self, asked: Mapping[Group, int] | None = None) -> None:
        self._groups: dict[Group, GroupCounts] = defaultdict(GroupCounts)
        for group, number in (asked or {}).items():
            self._groups[group].asked = number
        self._reached: dict[str, tuple[Group, int]] = {}  # problem -> its group and the last step a sample passed
        self._rejects: Counter[tuple[str, str]] = Counter()
        self._pass_rates: dict[str, tuple[float, float | None]] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one kept or dropped row."""
        group = (row["source"], row["domain"], row["family"])
        rejected = rejected_at(row)
        last = len(STEPS) - 1 if rejected is None else STEPS.index(rejected[0]) - 1
        if rejected is not None:
            self._rejects[rejected] += 1
        counts = self._groups[group]
        for place in range(last + 1):
            counts.samples[place] += 1
        counts.tokens += row["completion_tokens"]
        cost = row.get("cost_usd")
        counts.cost_usd += cost or 0.0
        counts.unpriced += cost is None
        _, before = self._reached.get(row["problem_id"], (group, -1))
        self._reached[row["problem_id"]] = (group, max(before, last))
        if row.get("pass_rate") is not None:
            low, high = row.get("pass_rate_low"), row.get("pass_rate_high")
            width = None if low is None or high is None else high - low
            self._pass_rates[row["problem_id"]] = (row["pass_rate"], width)

    def add_all(self, rows: Iterable[Mapping[str, Any]]) -> FunnelCounter:
        for row in rows:
            self.add(row)
        return self

    def funnel(self) -> Funnel:
        """The counts so far."""
        for counts in self._groups.values():
            counts.problems = [0] * len(STEPS)
        for group, last in self._reached.values():
            for place in range(last + 1):
                self._groups[group].problems[place] += 1
        total = GroupCounts()
        by: dict[str, dict[str, GroupCounts]] = {name: defaultdict(GroupCounts) for name in GROUPINGS}
        for group, counts in sorted(self._groups.items()):
            total.add(counts)
            for name, key in zip(GROUPINGS, group, strict=True):
                by[name][key].add(counts)
        rejects: dict[str, dict[str, int]] = {}
        for (step, reason), number in self._rejects.most_common():
            rejects.setdefault(step, {})[reason] = number
        ordered = {step: rejects[step] for step in STEPS if step in rejects}
        return Funnel(total, {name: dict(groups) for name, groups in by.items()}, ordered, self._rates())

    def _rates(self) -> PassRates | None:
        if not self._pass_rates:
            return None
        bins = [0] * PASS_RATE_BINS
        for rate, _ in self._pass_rates.values():
            bins[min(int(rate * PASS_RATE_BINS), PASS_RATE_BINS - 1)] += 1
        widths = [width for _, width in self._pass_rates.values() if width is not None]
        return PassRates(bins, len(self._pass_rates), round(sum(widths) / len(widths), 4) if widths else None)


def table_rows(counts: GroupCounts) -> list[tuple[str, ...]]:
    """(step, left, problems, share of the previous, 95% interval, tokens each, dollars each), as text, with a header.

    Dollars are left out where the teacher has no price.
    """
    has_price = counts.dollars is not None
    heads = ("step", "left", "problems", "of the previous", "95% interval", "tokens each", "dollars each")
    asked = counts.num_problems
    spent = "-" if not asked else f"{counts.tokens / asked:,.0f}"
    paid = "-" if not asked or counts.dollars is None else f"{counts.dollars / asked:.3g}"
    rows: list[tuple[str, ...]] = [heads, ("problems", f"{asked:,}", f"{asked:,}", "-", "-", spent, paid)]
    for step in counts.steps:
        interval = "-" if step.interval is None else "{:.1%} to {:.1%}".format(*step.interval)
        rows.append(
            (
                step.name,
                f"{step.samples:,}",
                f"{step.problems:,}",
                "-" if step.share is None else f"{step.share:.1%}",
                interval,
                "-" if step.tokens_each is None else f"{step.tokens_each:,.0f}",
                "-" if step.usd_each is None else f"{step.usd_each:.3g}",
            )
        )
    return rows if has_price else [row[:-1] for row in rows]
