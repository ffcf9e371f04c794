"""The ledger: one SQLite file that holds every sample drawn and every verdict on it, append-only.

    with Ledger.open(run_directory / "ledger.db", create=True) as ledger:
        ledger.add_samples(samples)            # on disk when it returns
        known = ledger.get_samples(keys)       # what need not be drawn again

What is promised: when `add_*` returns, its rows are on disk (write-ahead log, synchronous=FULL), all of them or none;
after a kill at any instant the file opens again with exactly the transactions that returned, or one more. A key is
stored once: the first sample of a key stays. A verdict is stored once per (sample, verifier, version), except that a
verdict of "error" (time limit, crashed worker) gives way to a later one. Pieces of a completion that is still being
drawn are appended, and go in the transaction that stores the finished sample.

Not covered: use from several threads or across a fork (open one ledger in each process; several processes may), and
network file systems without shared-memory locks (SQLite's write-ahead log needs them).
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distill.errors import LedgerError
from distill.records import PartialTrace, ProblemYield, Sample, TracePiece, Verdict
from distill.store.schema import APPLICATION_ID, VERSION, bring_up_to_date
from distill.store.sqlite import BUSY_TIMEOUT_SECONDS, corrupt, errors_of, transaction

CHECKED_AT_OPEN_MIB = 64  # larger files are checked page by page as they are read: a full check would read gigabytes
KEYS_PER_QUERY = 500
ROWS_PER_PAGE = 500
JUDGE = "judge"
"""Verifier name of a judge model's verdicts; where they count is the rule of `distill/verify/standing.py`."""

_SAMPLE_COLUMNS = tuple(field.name for field in fields(Sample) if field.name != "logprobs")
_PIECE_COLUMNS = tuple(field.name for field in fields(TracePiece))
_VERDICT_COLUMNS = tuple(field.name for field in fields(Verdict))


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _marks(number: int) -> str:
    return ", ".join("?" * number)


class Ledger:
    """An open ledger; make one with `Ledger.open`. It is a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._process_id = os.getpid()

    @staticmethod
    def open(path: str | Path, *, create: bool = False) -> Ledger:
        """Open the ledger at `path`; with `create`, make it and its folders where there is none.

        Raises: LedgerError (missing, foreign, corrupt, other version, not writable), InfrastructureError (disk full).
        """
        path = Path(path)
        _check_place(path, create)
        with errors_of(path):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}",
                uri=True,
                timeout=BUSY_TIMEOUT_SECONDS,
                isolation_level=None,
            )
            try:
                _check_or_create(connection, path, create)
            except BaseException:
                connection.close()
                raise
        return Ledger(path, connection)

    def add_samples(self, samples: Iterable[Sample]) -> int:
        """Store samples in one transaction; returns how many keys were new. Known keys are left as they are.

        Their log-probabilities are stored too; pieces of the same completions are removed.
        """
        samples = list(samples)
        has_logprobs = [sample for sample in samples if sample.logprobs]
        return self._write(
            f"INSERT INTO samples ({_names(_SAMPLE_COLUMNS)}) VALUES ({_marks(len(_SAMPLE_COLUMNS))}) "
            "ON CONFLICT (key) DO NOTHING",  # INSERT OR IGNORE would also skip a sample that lacks a value
            [_row(sample, _SAMPLE_COLUMNS) for sample in samples],
            ("DELETE FROM pieces WHERE key = ?", [(sample.key,) for sample in samples]),
            (
                "INSERT INTO logprobs (sample_key, compressed) VALUES (?, ?) ON CONFLICT (sample_key) DO NOTHING",
                [(sample.key, _compressed(sample.logprobs)) for sample in has_logprobs],
            ),
        )

    def add_pieces(self, pieces: Iterable[TracePiece]) -> int:
        """Append stretches of completions that are being drawn, in one transaction; returns how many."""
        return self._write(
            f"INSERT INTO pieces ({_names(_PIECE_COLUMNS)}) VALUES ({_marks(len(_PIECE_COLUMNS))})",
            [_row(piece, _PIECE_COLUMNS) for piece in pieces],
        )

    def add_yields(self, scope: str, yields: Iterable[ProblemYield]) -> int:
        """Store what settled problems of a harvest gave, in one transaction; the last of a problem counts."""
        return self._write(
            "INSERT INTO yields (scope, problem, reason, figures) VALUES (?, ?, ?, ?) ON CONFLICT (scope, problem) "
            "DO UPDATE SET reason = excluded.reason, figures = excluded.figures",
            [(scope, each.problem, each.reason, each.figures_json()) for each in yields],
        )

    def add_verdicts(self, verdicts: Iterable[Verdict]) -> int:
        """Store verdicts in one transaction; returns how many were new or took the place of an "error"."""
        return self._write(
            f"INSERT INTO verdicts ({_names(_VERDICT_COLUMNS)}) VALUES ({_marks(len(_VERDICT_COLUMNS))}) "
            "ON CONFLICT (sample_key, verifier, version) DO UPDATE SET outcome = excluded.outcome, "
            "score = excluded.score, extracted = excluded.extracted, detail = excluded.detail "
            "WHERE verdicts.outcome = 'error' AND excluded.outcome <> 'error'",
            [_row(verdict, _VERDICT_COLUMNS) for verdict in verdicts],
        )

    def get_samples(self, keys: Iterable[str]) -> dict[str, Sample]:
        """The samples known under these keys, in the order of `keys`; unknown keys are absent."""
        keys = list(keys)
        found = {row[0]: _sample(row) for row in self._by_keys("samples", "key", _SAMPLE_COLUMNS, keys)}
        return {key: found[key] for key in keys if key in found}

    def get_verdicts(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """For each sample key, the verdict that was written last; a judge's do not count (`get_all_verdicts`)."""
        found = {
            key: [verdict for verdict in verdicts if verdict.verifier != JUDGE]
            for key, verdicts in self.get_all_verdicts(keys).items()
        }
        return {key: verdicts[-1] for key, verdicts in found.items() if verdicts}

    def get_all_verdicts(self, keys: Iterable[str]) -> dict[str, tuple[Verdict, ...]]:
        """For each sample key, all its verdicts, of every verifier and version, in the order they were written."""
        keys = list(keys)
        found: dict[str, list[Verdict]] = {}
        for row in self._by_keys("verdicts", "sample_key", _VERDICT_COLUMNS, keys):
            found.setdefault(row[0], []).append(Verdict(*row))
        return {key: tuple(found[key]) for key in keys if key in found}

    def get_partials(self, keys: Iterable[str]) -> dict[str, PartialTrace]:
        """What is on disk of these completions, none of which finished; keys without any text are absent."""
        pieces: dict[str, list[TracePiece]] = {}
        for row in self._by_keys("pieces", "key", _PIECE_COLUMNS, list(keys)):
            piece = TracePiece(*row)
            pieces.setdefault(piece.key, []).append(piece)
        found = {key: _joined(key, stretches) for key, stretches in pieces.items()}
        return {key: partial for key, partial in found.items() if partial.reasoning or partial.content}

    def get_logprobs(self, keys: Iterable[str]) -> dict[str, tuple[dict[str, Any], ...]]:
        """Log-probabilities as the server gave them, of those samples that have any."""
        rows = self._by_keys("logprobs", "sample_key", ("sample_key", "compressed"), list(keys), order="sample_key")
        return {key: tuple(json.loads(zlib.decompress(data))) for key, data in rows}

    def get_yields(self, scope: str, problems: Iterable[str]) -> dict[str, ProblemYield]:
        """What these problems gave, of those that are settled in this scope."""
        columns = ("problem", "reason", "figures")
        rows = self._by_keys("yields", "problem", columns, list(problems), order="problem", scope=scope)
        return {row[0]: ProblemYield.from_json(*row) for row in rows}

    def yields(self, scope: str) -> Iterator[ProblemYield]:
        """What every settled problem of this scope gave, a page at a time."""
        query = (
            "SELECT problem, reason, figures FROM yields WHERE scope = ? AND problem > ? "
            f"ORDER BY problem LIMIT {ROWS_PER_PAGE}"
        )
        last = ""
        while rows := self._read(query, [scope, last]):
            yield from (ProblemYield.from_json(*row) for row in rows)
            last = rows[-1][0]

    def samples(self, model_fingerprint: str | None = None) -> Iterator[Sample]:
        """All samples, or one model's, in the order they were stored. Writing meanwhile is allowed."""
        where, values = ("", []) if model_fingerprint is None else ("AND model_fingerprint = ? ", [model_fingerprint])
        query = (
            f"SELECT {_names(_SAMPLE_COLUMNS)}, row_id FROM samples WHERE row_id > ? {where}"
            f"ORDER BY row_id LIMIT {ROWS_PER_PAGE}"
        )
        last_row_id = 0
        while rows := self._read(query, [last_row_id, *values]):
            yield from (_sample(row[:-1]) for row in rows)
            last_row_id = rows[-1][-1]

    def count(self, model_fingerprint: str | None = None) -> int:
        """Number of samples, of all models or of one."""
        if model_fingerprint is None:
            return int(self._read("SELECT count(*) FROM samples")[0][0])
        return int(self._read("SELECT count(*) FROM samples WHERE model_fingerprint = ?", [model_fingerprint])[0][0])

    def count_verdicts(self) -> int:
        """Number of verdicts, older verifier versions included."""
        return int(self._read("SELECT count(*) FROM verdicts")[0][0])

    def check(self) -> None:
        """Read every page. Raises: LedgerError if one is damaged."""
        with errors_of(self.path):
            _check_pages(self._connection, self.path)

    def close(self) -> None:
        """Close the file; what was added is on disk already. Closing twice is allowed."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _by_keys(
        self,
        table: str,
        key: str,
        columns: tuple[str, ...],
        keys: list[str],
        *,
        order: str = "row_id",
        scope: str | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        where, values = ("", []) if scope is None else ("scope = ? AND ", [scope])
        for start in range(0, len(keys), KEYS_PER_QUERY):
            part = keys[start : start + KEYS_PER_QUERY]
            query = (
                f"SELECT {_names(columns)} FROM {table} WHERE {where}{key} IN ({_marks(len(part))}) ORDER BY {order}"
            )
            yield from self._read(query, [*values, *part])

    def _read(self, query: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        assert os.getpid() == self._process_id, "a ledger does not cross a fork: open it again in the new process"
        with errors_of(self.path):
            return self._connection.execute(query, tuple(values)).fetchall()

    def _write(self, statement: str, rows: list[tuple[Any, ...]], *more: tuple[str, list[tuple[Any, ...]]]) -> int:
        """One transaction; the number of rows that `statement` changed."""
        assert os.getpid() == self._process_id, "a ledger does not cross a fork: open it again in the new process"
        if not rows:
            return 0
        with errors_of(self.path), transaction(self._connection):
            before = self._connection.total_changes
            self._connection.executemany(statement, rows)
            changed = self._connection.total_changes - before
            for further, further_rows in more:
                self._connection.executemany(further, further_rows)
            return changed


def _row(record: Sample | Verdict | TracePiece, columns: tuple[str, ...]) -> tuple[Any, ...]:
    """Column values of a record: parameters and splices as JSON, lone surrogates (not valid UTF-8) as '?'."""
    values = []
    for value in (getattr(record, column) for column in columns):
        if isinstance(value, dict | tuple):
            value = json.dumps(value, sort_keys=True)
        elif isinstance(value, str) and not value.isascii():
            value = value.encode("utf-8", "replace").decode("utf-8")
        values.append(value)
    return tuple(values)


def _sample(row: tuple[Any, ...]) -> Sample:
    values = dict(zip(_SAMPLE_COLUMNS, row, strict=True))
    splices = tuple(json.loads(values["splices"]))
    return Sample(**values | {"params": json.loads(values["params"]), "splices": splices})


def _compressed(logprobs: Sequence[dict[str, Any]]) -> bytes:
    return zlib.compress(json.dumps(logprobs, separators=(",", ":")).encode())


def _joined(key: str, pieces: Sequence[TracePiece]) -> PartialTrace:
    """The last start of a completion and all that follows it, joined."""
    first = max((number for number, piece in enumerate(pieces) if piece.start == "fresh"), default=0)
    reasoning = content = ""
    num_tokens, splices = 0, []
    for piece in pieces[first:]:
        if piece.start == "spliced":
            splices.append(len(reasoning) + len(content))
        reasoning, content = reasoning + piece.reasoning, content + piece.content
        num_tokens += piece.num_tokens
    return PartialTrace(key, reasoning, content, num_tokens, tuple(splices))


def _check_place(path: Path, create: bool) -> None:
    """What the file system alone can tell, said in better words than SQLite's 'unable to open database file'."""
    if path.is_dir():
        raise LedgerError(f"ledger {path}: found a folder. Name a file, usually DIR/ledger.db.")
    if not create and not path.exists():
        raise LedgerError(f"ledger {path}: no such file. A harvest or an evaluation makes it: run one of them first.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"ledger {path}: its folder cannot be made ({error.strerror}). Give an output folder that you can write to."
        ) from error


def _check_or_create(connection: sqlite3.Connection, path: Path, create: bool) -> None:
    """Refuse what is not ours before changing a byte of it, then set the modes of this connection."""
    application_id = _pragma(connection, "application_id")
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    is_new = application_id == 0 and is_empty
    if is_new and not create:
        raise LedgerError(f"ledger {path}: the file is empty. Delete it and run the harvest again.")
    if not is_new and application_id != APPLICATION_ID:
        raise LedgerError(
            f"ledger {path}: an SQLite file of another program (application_id {application_id:#x}, a ledger has "
            f"{APPLICATION_ID:#x}). It was left unchanged. Choose another output folder."
        )
    version = 0 if is_new else _pragma(connection, "user_version")
    if not is_new and not 1 <= version <= VERSION:
        raise LedgerError(
            f"ledger {path}: found version {version}, this distill reads and writes version {VERSION}. It was left "
            "unchanged. Use the distill that wrote it, or choose another output folder."
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if version < VERSION:
        _bring_up_to_date(connection)
    elif path.stat().st_size <= CHECKED_AT_OPEN_MIB * 2**20:
        _check_pages(connection, path)


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Tables and marks in one transaction: a kill leaves the file as it was, empty or of the version before."""
    with transaction(connection):
        is_marked = _pragma(connection, "application_id") == APPLICATION_ID
        version = _pragma(connection, "user_version") if is_marked else 0
        if version < VERSION:  # else another process was first
            bring_up_to_date(connection, version)


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise corrupt(path, str(found).splitlines()[-1])


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0]) & 0xFFFFFFFF
