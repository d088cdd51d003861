"""A suppression list in a SQLite file on a local disk, which several processes may share.

Every commit is flushed to the disk (`synchronous=FULL`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from mmsclient._store import private_files
from mmsclient._store.errors import SuppressionListError, SuppressionListUnavailableError
from mmsclient._store.private_files import transaction
from mmsclient._store.sqlite_database import passes_by_itself, storable
from mmsclient._store.sqlite_rows import in_parts
from mmsclient._store.sqlite_watch import WatchedFiles
from mmsclient._store.suppression import MISSING, Entry, Request, SuppressionStore, Unread

__all__ = ["SQLiteSuppression", "suppression_in_file"]

APPLICATION_ID = 0x4D4D5378
"""What marks a SQLite file as a suppression list: "MMSx"."""
VERSION = 1
"""Of the schema."""

BUSY = 10.0
"""Seconds that another program may lock the list until it counts as unavailable."""

FOREIGN = "this is no suppression list; it was left as it is. Choose another name"


def suppression_in_file(path: str | os.PathLike[str]) -> SuppressionStore:
    """A list in a file, which the first that is added makes."""
    real = Path(os.path.realpath(path))
    return SuppressionStore(path, partial(SQLiteSuppression, real))


class SQLiteSuppression:
    """A `SuppressionCommitter`."""

    shared_failures = (SuppressionListUnavailableError,)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._files: WatchedFiles | None = None

    def commit(self, requests: Sequence[Request[Any]], /) -> list[Any]:
        """Run them in one transaction."""
        reads = all(request.reads for request in requests)
        with translated(self._path):
            if self._files is not None and (name := self._files.replaced()):  # SQLite would go on with the old one
                problem = f"{name} was removed or replaced while it was open; put it back, or open the list again"
                raise SuppressionListError(self._path, problem)
            if self._database is None:
                self._database = _opened(self._path, makes=not reads)
                self._files = WatchedFiles(self._path)
                self._files.watch_log()
            with transaction(self._database, "DEFERRED" if reads else "IMMEDIATE"):
                tables = _Tables(self._database)
                return [request.run(tables) for request in requests]

    def close(self) -> None:
        """Close the file."""
        database, self._database = self._database, None
        if database is not None and self._files is not None:
            self._files.close(database)


class _Tables:
    """The list, within a transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, entries: Sequence[Entry]) -> int:
        rows = [(entry.phone, storable(entry.reason), entry.added) for entry in entries]
        return self._change("INSERT OR IGNORE INTO suppressed VALUES {rows}", rows)

    def remove(self, phones: Sequence[int]) -> int:
        return self._change("DELETE FROM suppressed WHERE phone IN (VALUES {rows})", [(phone,) for phone in phones])

    def among(self, phones: Sequence[int]) -> list[Entry]:
        sql = "SELECT phone, reason, added FROM suppressed WHERE phone IN (VALUES {rows})"
        parts = in_parts(sql, [(phone,) for phone in phones])
        return [Entry(*row) for part in parts for row in self._database.execute(*part)]

    def page(self, after: int, limit: int) -> list[Entry]:
        sql = "SELECT phone, reason, added FROM suppressed WHERE phone > ? ORDER BY phone LIMIT ?"
        return [Entry(*row) for row in self._database.execute(sql, (after, limit))]

    def reasons(self) -> Mapping[str, int]:
        return dict(self._database.execute("SELECT reason, count(*) FROM suppressed GROUP BY reason ORDER BY reason"))

    def note_unread(self, numbers: Sequence[Unread]) -> int:
        rows = [(storable(number.given), storable(number.reason), number.added) for number in numbers]
        return self._change("INSERT OR IGNORE INTO unreadable VALUES {rows}", rows)

    def forget_unread(self, given: Sequence[str]) -> int:
        rows = [(storable(each),) for each in given]
        return self._change("DELETE FROM unreadable WHERE given IN (VALUES {rows})", rows)

    def unread(self) -> list[Unread]:
        sql = "SELECT given, reason, added FROM unreadable ORDER BY added, given"
        return [Unread(*row) for row in self._database.execute(sql)]

    def _change(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        return sum(self._database.execute(*part).rowcount for part in in_parts(sql, rows))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite and the system find wrong within as a `SuppressionListError`."""
    try:
        yield
    except sqlite3.Error as error:
        damage = private_files.damage_of(error, FOREIGN) if isinstance(error, sqlite3.DatabaseError) else ""
        passes = not damage and passes_by_itself(error)
        cls = SuppressionListUnavailableError if passes else SuppressionListError
        raise cls(path, damage or str(error)) from None
    except OSError as error:
        raise SuppressionListError(path, f"it cannot be used ({error.strerror})") from None


def _opened(path: Path, *, makes: bool) -> sqlite3.Connection:
    """A connection to the list. Raises `SuppressionListError` where there is none, and none is to be made."""
    if not path.exists():
        if not makes:
            raise SuppressionListError(path, MISSING)
        if stray := private_files.stray_log_of(path):
            raise SuppressionListError(path, stray)
    private_files.make_private(path)
    file = path.stat()
    if file.st_size and (flaw := private_files.flaw_of(path)):
        raise SuppressionListError(path, flaw)
    if problem := private_files.too_many_names(path, "and each would have its own log"):
        raise SuppressionListError(path, problem)
    database = private_files.connect(str(path))
    try:
        database.execute(f"PRAGMA busy_timeout = {BUSY * 1000:.0f}")
        is_list = _is_list(database, path)
        if makes and not is_list:
            _make(database, path)
    except BaseException:
        database.close()
        raise
    if not makes and not is_list:
        database.close()
        raise SuppressionListError(path, MISSING)
    return database


def _is_list(database: sqlite3.Connection, path: Path) -> bool:
    """False where the file is empty. Raises `SuppressionListError` for a file that is something else."""
    sql = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
    sql += " FROM pragma_application_id, pragma_user_version"
    application, version, tables = database.execute(sql).fetchone()
    if application == 0 and version == 0 and tables == 0:
        return False
    if application != APPLICATION_ID:
        raise SuppressionListError(path, FOREIGN)
    if version != VERSION:
        problem = f"it is of version {version}, and this package reads {VERSION}; use a newer mmsclient"
        raise SuppressionListError(path, problem)
    return True


def _make(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables, whole or not at all; of several processes one does."""
    private_files.log_writes_ahead(database, BUSY)  # stays with the file
    schema = resources.files("mmsclient._store").joinpath("schema", f"suppression-{VERSION}.sql")
    with transaction(database):
        if not _is_list(database, path):
            for statement in schema.read_text(encoding="utf-8").split(";\n"):
                database.execute(statement)
    private_files.flush_folder(path.parent)
