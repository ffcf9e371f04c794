"""The dataset card: README.md of a dataset, with the YAML header that `datasets` reads and counts people can check.

    card = dataset_card(result, title="tiny/quickstart", steps=recipe.curation, teacher_licence=teacher.licence)
    write_dataset(dir / "dataset", result.kept, result.drops, card)

Every count is of the rows handed in; nothing is read from elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from distill.curate.funnel import FunnelCounter, table_rows
from distill.curate.pipeline import CurationResult
from distill.curate.step import Row
from distill.store.parquet import DATA_FILES, TRACE_COLUMNS


def dataset_card(
    result: CurationResult,
    *,
    title: str,
    steps: Sequence[Mapping[str, Mapping[str, Any] | None]],
    teacher_licence: str | None = None,
    command: str | None = None,
) -> str:
    """The whole card; `steps` is the recipe's curation list, `command` the one that makes the dataset again."""
    parts = [
        _header(result.kept),
        f"# Reasoning traces: {title}",
        _summary(result),
        f"Made by `{command}`." if command else "",
        "## Funnel\n\n" + _funnel(result),
        "## Traces by family\n\n" + _families(result),
        "## Teacher\n\n" + _teachers(result, teacher_licence),
        "## Licences of the problems\n\n" + _licences(result.kept),
        "## Curation, in order\n\n" + _steps(result, steps),
        "## Columns\n\n" + ", ".join(f"`{name}`" for name in TRACE_COLUMNS) + ".\n\n"
        "Dropped rows have `dropped_by`, `reason` and `detail` besides: `load_dataset(DIR, 'drops')`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def licence_union(rows: Iterable[Row]) -> list[str]:
    """Licences of the problems behind the rows: whoever passes the dataset on must heed all of them."""
    return sorted({row["licence"] for row in rows})


def _header(kept: Sequence[Row]) -> str:
    header = {
        "license": "other",
        "license_name": " and ".join(licence_union(kept)) or "none",
        "task_categories": ["text-generation"],
        "tags": ["reasoning", "distillation"],
        "configs": DATA_FILES,
    }
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---"


def _summary(result: CurationResult) -> str:
    seen = len(result.kept) + len(result.drops)
    share = f" ({len(result.kept) / seen:.1%})" if seen else ""
    tokens = sum(row["completion_tokens"] for row in result.kept)
    problems = len({row["problem_id"] for row in result.kept})
    return (
        f"{len(result.kept)} traces of {problems} problems, {tokens} completion tokens by the teacher's tokenizer, "
        f"kept out of {seen} samples{share}. Every dropped sample is in `drops.parquet` with its reason."
    )


def _funnel(result: CurationResult) -> str:
    """From problems to traces; by source and domain it is in the report."""
    funnel = FunnelCounter().add_all(result.kept).add_all(result.drops).funnel()
    heads, *rows = table_rows(funnel.total)
    return (
        f"{_table(heads, rows)}\n\nTokens are the teacher's, of all samples, by what is left at the step. Intervals "
        "(Wilson) count samples of one problem as independent. Problems that were never sampled are not counted."
    )


def _families(result: CurationResult) -> str:
    kept = Counter((row["domain"], row["family"]) for row in result.kept)
    dropped = Counter((row["domain"], row["family"]) for row in result.drops)
    tokens: Counter[tuple[str, str]] = Counter()
    for row in result.kept:
        tokens[row["domain"], row["family"]] += row["completion_tokens"]
    return _table(
        ("domain", "family", "traces", "dropped", "mean completion tokens"),
        [
            (*key, kept[key], dropped[key], f"{tokens[key] / kept[key]:.0f}" if kept[key] else "-")
            for key in sorted(kept | dropped)
        ],
    )


def _teachers(result: CurationResult, licence: str | None) -> str:
    settings = Counter(
        (row["teacher"], row["teacher_fingerprint"], row["temperature"], row["top_p"]) for row in result.kept
    )
    table = _table(
        ("teacher", "fingerprint", "temperature", "top_p", "traces"),
        [(*key, settings[key]) for key in sorted(settings, key=str)],
    )
    return f"{table}\n\nLicence of the teacher: {licence}." if licence else table


def _licences(kept: Sequence[Row]) -> str:
    counts = Counter((row["licence"], row["source"]) for row in kept)
    return _table(("licence", "source", "traces"), [(*key, counts[key]) for key in sorted(counts)])


def _steps(result: CurationResult, steps: Sequence[Mapping[str, Mapping[str, Any] | None]]) -> str:
    rows = []
    for entry in steps:
        ((name, parameters),) = entry.items()
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(result.counts.get(name, {}).items()))
        settings = ", ".join(f"{key}={value}" for key, value in (parameters or {}).items())
        rows.append((name, settings or "defaults", sum(result.counts.get(name, {}).values()), reasons or "-"))
    return _table(("step", "parameters", "dropped", "reasons"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
