"""The dataset of a run: traces as Parquet shards, drops in a side file, a dataset card; `datasets.load_dataset(dir)`.

    write_dataset(dir, kept, drops, card_markdown)     # whole or not at all: written beside, then renamed
    rows = read_traces(dir)
    datasets.load_dataset(str(dir))                    # split train: traces only
    datasets.load_dataset(str(dir), "drops")           # split dropped: every drop with its reason

Not covered: which rows are kept (`distill/curate/`) and what the card says (`distill/curate/card.py`).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import DistillError, InfrastructureError, TraceError

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
ROWS_PER_SHARD = 50_000
DROPS_FILE = "drops.parquet"
CARD_FILE = "README.md"

DATA_FILES = [
    {"config_name": "default", "default": True, "data_files": [{"split": "train", "path": "train-*.parquet"}]},
    {"config_name": "drops", "data_files": [{"split": "dropped", "path": DROPS_FILE}]},
]
"""`configs` of the card's YAML header: without it `datasets` would load the drops as traces."""

TRACE_COLUMNS: dict[str, str] = {
    "id": "string", "problem_id": "string", "family": "string", "domain": "string", "source": "string",
    "licence": "string", "prompt": "string", "messages": "messages", "reasoning": "string", "answer": "string",
    "final_answer": "string", "completion": "string", "outcome": "string", "score": "double", "verifier": "string",
    "verifier_version": "string", "finish_reason": "string", "completion_tokens": "int64", "prompt_tokens": "int64",
    "cost_usd": "double", "teacher": "string", "teacher_fingerprint": "string", "temperature": "double",
    "top_p": "double", "seed": "int64", "sample_index": "int64", "splices": "splices", "attempts": "int64",
    "pass_rate": "double", "pass_rate_low": "double", "pass_rate_high": "double",
}  # fmt: skip
DROP_COLUMNS = {**TRACE_COLUMNS, "dropped_by": "string", "reason": "string", "detail": "string"}


def write_dataset(
    directory: str | Path,
    kept: Sequence[Row],
    drops: Sequence[Row],
    card_markdown: str,
    *,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> None:
    """Write the dataset, in place of what an earlier write left there.

    `card_markdown` may open with a YAML header that holds `DATA_FILES`; where it does not, one is put before it.
    Raises: InfrastructureError (disk full), TraceError (cannot be written, or a row lacks a column).
    """
    directory = Path(directory)
    fresh = directory.with_name(f".{directory.name}.writing")
    with _errors_of(directory, "written"):
        _remove(fresh)
        fresh.mkdir(parents=True)
        try:
            number_of_shards = max(1, -(-len(kept) // rows_per_shard))
            for shard in range(number_of_shards):
                rows = kept[shard * rows_per_shard : (shard + 1) * rows_per_shard]
                _write_table(fresh / f"train-{shard:05d}-of-{number_of_shards:05d}.parquet", rows, TRACE_COLUMNS)
            _write_table(fresh / DROPS_FILE, drops, DROP_COLUMNS)
            _write_text(fresh / CARD_FILE, _with_header(card_markdown))
            _put_in_place(fresh, directory)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


def read_traces(directory: str | Path) -> list[Row]:
    """The kept rows, in the order they were written. Raises: TraceError (missing, incomplete or damaged)."""
    return [row for shard in _shards(Path(directory)) for row in _read_table(shard, TRACE_COLUMNS)]


def read_drops(directory: str | Path) -> list[Row]:
    """The dropped rows with `dropped_by`, `reason` and `detail`. Raises: TraceError (missing or damaged)."""
    return _read_table(_drops_path(Path(directory)), DROP_COLUMNS)


def _shards(directory: Path) -> list[Path]:
    """The files of the traces, in order, all of them there."""
    shards = sorted(directory.glob("train-*.parquet"))
    if not shards:
        raise TraceError(f"dataset {directory}: no train-*.parquet here. Curate the harvest first: `distill curate`.")
    sizes = {match.group(1) for shard in shards if (match := re.search(r"-of-(\d{5})\.parquet$", shard.name))}
    if sizes != {f"{len(shards):05d}"}:
        raise TraceError(
            f"dataset {directory}: found {len(shards)} shards, names say {', '.join(sorted(sizes)) or 'nothing'}. "
            "Copy it again in full, or curate again."
        )
    return shards


def _drops_path(directory: Path) -> Path:
    path = directory / DROPS_FILE
    if not path.is_file():
        raise TraceError(f"dataset {directory}: no {DROPS_FILE} here. Curate the harvest first: `distill curate`.")
    return path


def stream_rows(directory: str | Path, columns: Sequence[str]) -> Iterator[Row]:
    """These columns of all rows, traces first and then drops; what a file has no column for is None.

    A batch of rows is in memory at a time. Raises: TraceError (missing, incomplete or damaged).
    """
    import pyarrow
    import pyarrow.parquet

    directory = Path(directory)
    for path in [*_shards(directory), _drops_path(directory)]:
        with _errors_of(path, "read"):
            try:
                file = pyarrow.parquet.ParquetFile(path)
                known = [name for name in columns if name in file.schema_arrow.names]
                absent = dict.fromkeys(name for name in columns if name not in known)
                for batch in file.iter_batches(columns=known):
                    yield from (absent | row for row in batch.to_pylist())
            except (pyarrow.ArrowException, OSError) as error:
                raise TraceError(f"dataset {path}: damaged or no Parquet file ({error}). Curate again.") from error


def _schema(columns: dict[str, str]) -> pyarrow.Schema:
    import pyarrow

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    types = {
        "string": pyarrow.string(),
        "double": pyarrow.float64(),
        "int64": pyarrow.int64(),
        "messages": pyarrow.list_(message),
        "splices": pyarrow.list_(pyarrow.int64()),
    }
    return pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])


def _write_table(path: Path, rows: Sequence[Row], columns: dict[str, str]) -> None:
    import pyarrow
    import pyarrow.parquet

    for row in rows:
        if missing := columns.keys() - row.keys():
            raise TraceError(f"dataset {path.name}: row {row.get('id')} lacks {', '.join(sorted(missing))}.")
    clean = [{name: _clean(row[name]) for name in columns} for row in rows]
    try:
        table = pyarrow.Table.from_pylist(clean, schema=_schema(columns))
    except pyarrow.ArrowException as error:
        raise TraceError(f"dataset {path.name}: a value does not fit its column ({error}).") from error
    with path.open("wb") as file:
        pyarrow.parquet.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def _clean(value: Any) -> Any:
    """Lone surrogates are not valid UTF-8: '?' stands for them, as in the ledger."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_clean(part) for part in value]
    if isinstance(value, dict):
        return {name: _clean(part) for name, part in value.items()}
    return value


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _with_header(card_markdown: str) -> str:
    import yaml

    if card_markdown.startswith("---\n"):
        return card_markdown
    return f"---\n{yaml.safe_dump({'configs': DATA_FILES}, sort_keys=False)}---\n\n{card_markdown}"


def _read_table(path: Path, columns: dict[str, str]) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    with _errors_of(path, "read"):
        try:
            table = pyarrow.parquet.ParquetFile(path).read()
        except (pyarrow.ArrowException, OSError) as error:
            raise TraceError(f"dataset {path}: damaged or no Parquet file ({error}). Curate again.") from error
        if missing := columns.keys() - set(table.column_names):
            raise TraceError(f"dataset {path}: lacks the columns {', '.join(sorted(missing))}. Curate again.")
        rows: list[Row] = table.select(list(columns)).to_pylist()
        return rows


def _put_in_place(fresh: Path, directory: Path) -> None:
    """Swap folders: a kill in between leaves no dataset, never half of one, and the next write cleans up."""
    stale = directory.with_name(f".{directory.name}.replaced")
    _remove(stale)
    if directory.is_dir():
        directory.rename(stale)
    fresh.rename(directory)
    _remove(stale)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


@contextmanager
def _errors_of(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except DistillError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InfrastructureError(
                f"dataset {path}: the disk is full. Free space and run again: the ledger holds all samples."
            ) from error
        raise TraceError(
            f"dataset {path}: cannot be {done} ({error.strerror or error}). Give an output folder you can write to."
        ) from error
