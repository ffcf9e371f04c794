"""`report.html` of a run directory: one self-contained file, every figure with the command that computes it again.

    write_report(Path("runs/tiny-quickstart"))      # distill report runs/tiny-quickstart

Everything on it is computed from the run directory as it stands; a stage that has not run is a section that names the
command which runs it. Not covered: reports over several runs (`benchmarks/`).
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from distill import __version__
from distill.errors import ConfigError
from distill.provenance import write_text_atomically
from distill.report import curves, examples, funnel, sections, verdict
from distill.report.page import page, paragraph, tiles
from distill.report.plots import duration
from distill.report.run_data import RunData, load_run

REPORT_FILE = "report.html"
SECTIONS: tuple[tuple[str, str, Callable[[RunData], str]], ...] = (
    ("accuracy", "Accuracy", sections.accuracy),
    ("curves", "Test-time compute", curves.section),
    ("read", "Read side by side", examples.side_by_side),
    ("gate", "Gate", verdict.comparisons),
    ("harvest", "Harvest", sections.harvest),
    ("funnel", "Funnel", funnel.section),
    ("curation", "Curation", sections.curation),
    ("traces", "Traces", examples.traces),
    ("training", "Training", sections.training),
    ("provenance", "How it was made", sections.provenance),
)


def write_report(directory: str | Path) -> Path:
    """Write the report of a run directory into it; returns its path.

    Raises: ConfigError, LedgerError or TraceError for a damaged file, InfrastructureError on a full disk.
    """
    run = load_run(directory)
    path = run.directory / REPORT_FILE
    write_text_atomically(path, render(run))
    return path


def render(run: RunData) -> str:
    """The report as one HTML document."""
    rendered = [(anchor, heading, _rendered(run, anchor, content)) for anchor, heading, content in SECTIONS]
    footer = paragraph(f"distill {__version__}. All figures are computed from {run.directory.resolve().name}/ by:")
    return page(
        f"{run.name}: distillation report",
        _rendered(run, "header", _header),
        [(anchor, heading, body) for anchor, heading, body in rendered if body],
        footer + sections.report_command(run),
    )


def _rendered(run: RunData, where: str, content: Callable[[RunData], str]) -> str:
    """A section; a figure that is missing or of another type is the file's fault, and the message says which."""
    try:
        return content(run)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        kind = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"{run.directory}: report section '{where}' cannot be made, a figure is missing or malformed ({kind}). "
            "Was run.json or gate/verdict.json edited, or written by another version? Run the stage again."
        ) from error


def _header(run: RunData) -> str:
    recipe = run.section("recipe")
    teacher, student = (str(recipe.get(role) or "unknown") for role in ("teacher", "student"))
    description = str(recipe.get("description") or "")
    facts = f"teacher <b>{escape(teacher)}</b>, student <b>{escape(student)}</b>, recipe <b>{escape(run.name)}</b>"
    started = escape(str(run.run.get("created_at", "")).replace("T", " ").replace("+00:00", " UTC"))
    return (
        f"<h1>{escape(run.name)}</h1>{paragraph(description)}<p class='muted'>{facts}, begun {started}</p>"
        f"{verdict.banner(run)}{_headline_figures(run)}"
    )


def _headline_figures(run: RunData) -> str:
    entries = []
    for role, result in run.results.items():
        task, found = next(iter(result.tasks.items()))
        low, high = found.scores["pass@1_interval"]
        words = {"base": "base student", "student": "student, distilled", "teacher": "teacher"}[role]
        entries.append((f"{found.scores['pass@1']:.1%}", f"{words}: pass@1 on {task}, {low:.0%} to {high:.0%}", role))
    seconds = sum(float(stage.get("seconds") or 0.0) for stage in run.section("stages").values())
    if seconds:
        entries.append((duration(seconds), "all stages, wall clock", ""))
    return tiles(entries) if entries else ""
