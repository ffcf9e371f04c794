"""What a program printed against what was expected, and what its ending says.

Lines are compared without trailing blanks; where they differ, word by word, with a tolerance for words that were
expected as decimals. As many words as expected, on the same lines: no more, no less.
Not covered: several right outputs.
"""

from __future__ import annotations

import math
import re
import signal

from distill.records import Outcome
from distill.verify.sandbox_watch import SandboxRun

TOLERANCE = 1e-6
LONGEST_SHOWN = 80

_DECIMAL = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?")
_LIMITS = {
    "cpu": "over the limit of CPU time",
    "wall": "over the time limit",
    "memory": "over the memory limit",
    "output": "over the output limit",
    "disk": "over the limit of its folder",
}


def difference(expected: str, found: str) -> str:
    """The first line that differs, or "" if none does."""
    wanted, given = _lines(expected), _lines(found)
    for number, line in enumerate(wanted):
        if number >= len(given):
            return f"line {number + 1}: expected '{_shown(line)}', found no more lines"
        if not _same(line, given[number]):
            return f"line {number + 1}: expected '{_shown(line)}', found '{_shown(given[number])}'"
    if len(given) > len(wanted):
        return f"line {len(wanted) + 1}: expected no more lines, found '{_shown(given[len(wanted)])}'"
    return ""


def failure(run: SandboxRun, where: str) -> tuple[Outcome, str] | None:
    """The outcome that a run's ending alone decides, and why; None if it ended well."""
    if run.limit == "wall" and not run.was_waiting:
        return "error", f"{where}: the machine was too busy: {run.cpu_seconds:g} CPU seconds in {run.wall_seconds:g}"
    if run.limit:
        return "wrong", f"{where}: {_LIMITS[run.limit]} ({run.cpu_seconds:g} CPU seconds)"
    if run.signal is not None:
        name = signal.Signals(run.signal).name if run.signal in set(signal.Signals) else str(run.signal)
        return "wrong", f"{where}: ended by {name}"
    if run.exit_code != 0:
        lines = run.standard_error.decode("utf-8", "replace").strip().splitlines()
        return "wrong", f"{where}: exit code {run.exit_code}: {_shown(lines[-1] if lines else '')}"
    return None


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")] if text.strip() else []


def _same(expected: str, found: str) -> bool:
    if expected == found:
        return True
    wanted, given = expected.split(), found.split()
    return len(wanted) == len(given) and all(map(_same_word, wanted, given))


def _same_word(expected: str, found: str) -> bool:
    if expected == found:
        return True
    if not _DECIMAL.fullmatch(expected):
        return False
    try:
        return math.isclose(float(expected), float(found), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except ValueError:
        return False


def _shown(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
