"""The live view of a harvest: slots, speed, accept rate, cost per accepted trace, time left, errors, budgets.

    with live_progress("harvest") as show:
        show(HarvestView(problems=3000, settled=1200, started=1456, ...))      # as often as you like

On a terminal it is a panel that redraws itself; elsewhere (CI, a log file, TERM=dumb) one plain line every ten seconds
and one at the end. All of it goes to stderr, so that `--json` keeps stdout to itself. What the runner does not know it
leaves at its default, and is not shown. Not covered: deciding what to sample (`policy.py`), figures after the end
(`summary.py`), and what an engine can say (`distill/engines/figures.py`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from distill.engines.figures import EngineFigures
from distill.harvest.time_left import TimeLeft
from distill.intervals import wilson_interval

if TYPE_CHECKING:
    from rich.console import Console
    from rich.panel import Panel

SECONDS_BETWEEN_LINES = 10.0
REDRAWS_PER_SECOND = 4.0


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How much of a budget is used."""

    name: str
    """What is counted: "tokens", "dollars", "hours"."""
    used: float
    limit: float

    @property
    def share(self) -> float:
        return self.used / self.limit if self.limit > 0 else 1.0


@dataclass(frozen=True, slots=True)
class HarvestView:
    """A harvest at a moment; counts include what the ledger had, unless they say else."""

    problems: int = 0
    started: int | None = None
    """Problems with at least one sample or request, settled ones included; None where nobody counts."""
    settled: int = 0
    """Problems for which nothing more will be asked."""
    settled_from_ledger: int = 0
    """Of the settled, those for which nothing had to be sampled now."""
    samples: int = 0
    samples_wanted: int | None = None
    """Where their number is fixed from the start."""
    samples_from_ledger: int = 0
    tokens: int = 0
    """Completion tokens of all samples."""
    new_tokens: int = 0
    """Of these, the tokens drawn by this process."""
    verified: int = 0
    accepted: int = 0
    verifier_errors: int = 0
    cost_usd: float | None = None
    """Of all samples, at the teacher card's price; None where it has none."""
    seconds: float = 0.0
    """Since this process began to sample."""
    budgets: tuple[BudgetUse, ...] = ()
    engine: EngineFigures | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    """Further errors by kind, such as requests given up."""

    @property
    def tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def all_errors(self) -> dict[str, int]:
        """Failed attempts of the engine, the verifier's faults and the rest, by kind; only kinds that occurred."""
        found = dict(self.engine.failures) if self.engine else {}
        for kind, count in [*self.errors.items(), ("verifier", self.verifier_errors)]:
            found[kind] = found.get(kind, 0) + count
        return {kind: count for kind, count in sorted(found.items()) if count}


Progress = Callable[[HarvestView], None]


def no_progress(view: HarvestView) -> None:
    """Shows nothing."""


class Outlook:
    """When a harvest will end, problems and budgets considered; fed with every view."""

    def __init__(self) -> None:
        self._problems = TimeLeft()
        self._first: HarvestView | None = None

    def observe(self, view: HarvestView) -> None:
        """Of open problems as many are under way as there are slots; of an engine that has none to tell, one."""
        at_once = max(1, view.engine.slots if view.engine else 1)
        started = min(view.problems if view.started is None else view.started, view.settled + at_once)
        self._first = self._first or view
        self._problems.observe(
            view.seconds,
            problems=view.problems,
            started=started,
            settled=view.settled,
            from_ledger=view.settled_from_ledger,
        )

    def seconds_left(self, view: HarvestView) -> tuple[float, str] | None:
        """(seconds, what ends it: "problems" or a budget's name); None while nothing tells."""
        found = self._problems.seconds(view.seconds)
        ends = [] if found is None else [(found, "problems")]
        for budget in view.budgets:
            seconds = self._seconds_of(budget, view)
            if seconds is not None:
                ends.append((seconds, budget.name))
        return min(ends, default=None)

    def _seconds_of(self, budget: BudgetUse, view: HarvestView) -> float | None:
        """Until a budget is used up, at the rate since the first view."""
        assert self._first is not None, "observe() comes before seconds_left()"
        before = next((each.used for each in self._first.budgets if each.name == budget.name), 0.0)
        spent, elapsed = budget.used - before, view.seconds - self._first.seconds
        if budget.used >= budget.limit:
            return 0.0
        return (budget.limit - budget.used) * elapsed / spent if spent > 0 and elapsed > 0 else None


def describe(view: HarvestView, left: tuple[float, str] | None = None) -> str:
    """The plain line."""
    parts = [f"{view.settled}/{view.problems} problems settled", _samples(view)]
    if view.started is not None:
        parts.insert(1, f"{max(0, view.started - view.settled)} open")
    if view.engine is not None:
        parts.append(f"{view.engine.slots_busy}/{view.engine.slots} slots")
    parts += [f"{view.tokens_per_second:.0f} tokens/s", _accepted(view)]
    if view.accepted:
        parts.append(_cost(view))
    if view.budgets:
        parts.append("budget " + _budgets(view))
    if view.all_errors:
        parts.append("errors " + _errors(view))
    if left is not None:
        parts.append(_left(left))
    return ", ".join(parts)


def panel(label: str, view: HarvestView, left: tuple[float, str] | None = None) -> Panel:
    """The figures as a rich panel; it fits any width."""
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    open_now = "" if view.started is None else f"{max(0, view.started - view.settled):,} open, "
    table.add_row("problems", f"{view.settled:,} settled, {open_now}{view.problems:,} in all")
    table.add_row("", ProgressBar(total=max(1, view.problems), completed=view.settled))
    table.add_row("time left", "not known yet" if left is None else _left(left).replace(" left", "", 1))
    if view.engine is not None:
        table.add_row("slots", f"{view.engine.slots_busy:,} busy of {view.engine.slots:,}")
    table.add_row("speed", f"{view.tokens_per_second:,.0f} tokens/s, {_samples(view)}")
    table.add_row("accepted", f"{view.accepted:,} of {view.verified:,} verified: {_accepted(view)}")
    table.add_row("cost", _cost(view) if view.accepted else "nothing accepted yet")
    if view.budgets:
        table.add_row("budget used", _budgets(view))
    table.add_row("errors", _errors(view) or "none")
    return Panel(table, title=label, title_align="left", subtitle=short_time(view.seconds), subtitle_align="right")


def _samples(view: HarvestView) -> str:
    wanted = "" if view.samples_wanted is None else f"/{view.samples_wanted}"
    known = f" ({view.samples_from_ledger} from the ledger)" if view.samples_from_ledger else ""
    return f"{view.samples}{wanted} samples{known}"


def _accepted(view: HarvestView) -> str:
    if not view.verified:
        return "none verified yet"
    low, high = wilson_interval(view.accepted, view.verified)
    return f"{view.accepted / view.verified:.1%} accepted ({low:.1%} to {high:.1%})"


def _cost(view: HarvestView) -> str:
    dollars = "" if view.cost_usd is None else f" (${view.cost_usd / view.accepted:.3g})"
    return f"{view.tokens / view.accepted:.0f} tokens{dollars} per accepted trace"


def _budgets(view: HarvestView) -> str:
    return ", ".join(f"{each.share:.0%} of {each.limit:g} {each.name}" for each in view.budgets)


def _errors(view: HarvestView) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in view.all_errors.items())


def _left(left: tuple[float, str]) -> str:
    seconds, end = left
    return f"about {short_time(seconds)} left{'' if end == 'problems' else f' until the {end} are used up'}"


def short_time(seconds: float) -> str:
    """42 -> "42 s"; 402 -> "7 min"; 9000 -> "2 h 30 min"; 200000 -> "2 days 8 h"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} days {hours % 24} h"


@contextmanager
def live_progress(label: str) -> Iterator[Progress]:
    """A progress callback for `harvest`; closes its display on leaving, with the last figures left standing."""
    from rich.console import Console

    console = Console(stderr=True)
    live = console.is_terminal and not console.is_dumb_terminal
    with _panels(label, console) if live else _plain_lines(label) as show:
        yield show


@contextmanager
def _panels(label: str, console: Console) -> Iterator[Progress]:
    from rich.live import Live

    outlook, view, seen_at = Outlook(), HarvestView(), time.monotonic()

    def drawn() -> Panel:
        """Called by rich's own thread: time goes on, and is seen to, while the harvest waits for its next sample."""
        now = replace(view, seconds=view.seconds + time.monotonic() - seen_at)
        return panel(label, now, outlook.seconds_left(now) if view.problems else None)

    def show(new: HarvestView) -> None:
        nonlocal view, seen_at
        outlook.observe(new)
        view, seen_at = new, time.monotonic()

    with Live(console=console, get_renderable=drawn, refresh_per_second=REDRAWS_PER_SECOND, redirect_stdout=False):
        yield show


@contextmanager
def _plain_lines(label: str) -> Iterator[Progress]:
    outlook, last_at, shown, view = Outlook(), time.monotonic(), HarvestView(), HarvestView()

    def line() -> None:
        nonlocal last_at, shown
        last_at, shown = time.monotonic(), view
        print(f"{label}: {describe(view, outlook.seconds_left(view))}", file=sys.stderr, flush=True)

    def show(new: HarvestView) -> None:
        nonlocal view
        view = new
        outlook.observe(view)
        if time.monotonic() - last_at >= SECONDS_BETWEEN_LINES:
            line()

    try:
        yield show
    finally:
        if view is not shown:
            line()
