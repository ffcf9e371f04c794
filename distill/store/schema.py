"""The tables of a ledger file, and how a file of an older version becomes one of today's.

Version 2 added trace pieces (completions that never finished), log-probabilities, what each problem of a harvest gave,
and of samples their splices and note. A file of version 1 is changed in place, in one transaction, when it is opened.
Not covered: reading and writing rows (`ledger.py`).
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x44_4C_45_44  # "DLED", in the SQLite header at byte 68
VERSION = 2

_VERSION_1 = (
    """CREATE TABLE samples (
        row_id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, model_fingerprint TEXT NOT NULL,
        problem_id TEXT NOT NULL, prompt_hash TEXT NOT NULL, "index" INTEGER NOT NULL, seed INTEGER NOT NULL,
        params TEXT NOT NULL, text TEXT NOT NULL, reasoning TEXT, answer TEXT, prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL, finish_reason TEXT NOT NULL, seconds REAL NOT NULL, cost_usd REAL,
        created_at TEXT NOT NULL)""",
    "CREATE INDEX samples_by_model ON samples (model_fingerprint)",
    """CREATE TABLE verdicts (
        row_id INTEGER PRIMARY KEY, sample_key TEXT NOT NULL, verifier TEXT NOT NULL, version TEXT NOT NULL,
        outcome TEXT NOT NULL, score REAL NOT NULL, extracted TEXT, detail TEXT NOT NULL,
        UNIQUE (sample_key, verifier, version))""",
)
_SINCE_VERSION_2 = (
    "ALTER TABLE samples ADD COLUMN splices TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE samples ADD COLUMN note TEXT",
    """CREATE TABLE pieces (
        row_id INTEGER PRIMARY KEY, key TEXT NOT NULL, start TEXT NOT NULL, reasoning TEXT NOT NULL,
        content TEXT NOT NULL, num_tokens INTEGER NOT NULL)""",
    "CREATE INDEX pieces_by_key ON pieces (key)",
    "CREATE TABLE logprobs (sample_key TEXT PRIMARY KEY, compressed BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE yields (
        scope TEXT NOT NULL, problem TEXT NOT NULL, reason TEXT NOT NULL, figures TEXT NOT NULL,
        PRIMARY KEY (scope, problem)) WITHOUT ROWID""",
)
_CHANGES = (_VERSION_1, _SINCE_VERSION_2)


def bring_up_to_date(connection: sqlite3.Connection, version: int) -> None:
    """Make the tables that a file of `version` lacks (0: all of them) and mark it; call it in a transaction."""
    for statements in _CHANGES[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
