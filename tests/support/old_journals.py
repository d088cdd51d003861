"""Journals in SQLite as earlier versions of this package left them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from mmsclient._store.sqlite_database import VERSION

_UNDONE = {
    2: "DROP TABLE evidence; DROP TABLE run;",
    3: "DROP INDEX recipient_by_text; ALTER TABLE recipient DROP COLUMN message; DROP TABLE message;",
    4: "DROP TABLE former_call;",
    5: "ALTER TABLE recipient DROP COLUMN fields; ALTER TABLE message DROP COLUMN picture;",
    6: "DROP TABLE evidence_kind;",
}
"""How what each version of the schema added is taken away."""


def make_old(path: Path, version: int) -> None:
    """Let the journal at `path` be of that version."""
    with closing(sqlite3.connect(path)) as database:
        for number in range(VERSION, version, -1):
            database.executescript(_UNDONE[number])
        database.execute(f"PRAGMA user_version = {version}")
