"""The live line of a harvest: samples, tokens/s, accept rate, time left.

On a terminal it is a rich progress bar; elsewhere (CI, a log file) one plain line every ten seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[Any], None]
SECONDS_BETWEEN_LINES = 10.0


def no_progress(tally: Any) -> None:
    """Shows nothing."""


def describe(tally: Any) -> str:
    """'1200/3000 samples, 5400 tokens/s, 93.1% accepted, 62 s left'."""
    return (
        f"{tally.problems_settled}/{tally.num_problems} problems, {tally.samples} samples, "
        f"{tally.tokens_per_second:.0f} tokens/s, {tally.accept_rate:.1%} accepted"
    )


@contextmanager
def live_progress(label: str) -> Iterator[Progress]:
    """A progress callback for `harvest`; closes its display on leaving."""
    if not sys.stderr.isatty():
        yield _plain_lines(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(label, total=None, text="")
        yield lambda tally: bar.update(
            task, total=tally.num_problems, completed=tally.problems_settled, text=describe(tally)
        )


def _plain_lines(label: str) -> Progress:
    last = time.monotonic()

    def show(tally: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES or tally.is_over:
            last = time.monotonic()
            print(f"{label}: {describe(tally)}", file=sys.stderr, flush=True)

    return show
