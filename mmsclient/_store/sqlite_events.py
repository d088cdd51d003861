"""Which callbacks were handled, in a SQLite file that several processes of a machine may share."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mmsclient._store import handled_events
from mmsclient._store.handled_events import (
    KEPT,
    PURGE_EVERY,
    Confirm,
    EventResult,
    EventWrite,
    Extend,
    HandledEvents,
    Release,
    Reservation,
    Reserve,
)
from mmsclient._store.private_files import BUSY, check_mount, log_writes_ahead, make_private, transaction
from mmsclient._store.sqlite_rows import MOST_ROWS, in_parts
from mmsclient._store.sqlite_watch import WatchedFiles
from mmsclient.errors import ConfigurationError

__all__ = ["SQLiteEvents", "events_in_file"]


def events_in_file(path: str | os.PathLike[str], *, lease: float | None = None) -> HandledEvents:
    """Events in a file, about 50 bytes each; it is made if it is not there.

    Args:
        path: The file.
        lease: Seconds that a reservation outlives its process; `LEASE` if left out.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    seconds = handled_events.LEASE if lease is None else lease
    try:
        make_private(path)
        connect(Path(path)).close()
    except (sqlite3.Error, OSError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"seen: {problem}: {os.fspath(path)}") from None
    return HandledEvents(partial(SQLiteEvents, Path(path), seconds), lease=seconds)


class SQLiteEvents:
    """An `EventStore` in a file. No other machine shares it, so there is nothing to look for."""

    shared_failures = (sqlite3.OperationalError,)

    def __init__(self, path: Path, lease: float) -> None:
        self._owner = secrets.token_hex(8)
        self._lease = lease
        self._confirmed = 0
        self._file = connect(path)
        try:
            _clear(self._file)
            self._files = WatchedFiles(path)
            self._files.watch_log()
        except BaseException:
            self._file.close()
            raise

    def commit(self, writes: Sequence[EventWrite], /) -> list[EventResult]:
        """Commit all in one transaction."""
        if name := self._files.replaced():  # SQLite would go on with the old one
            problem = f"seen: {name} was removed or replaced while it was open; restore it, or make a new receiver"
            raise sqlite3.OperationalError(problem)
        now = time.time()
        reservations: dict[bytes, Reservation] = {}
        with self._transaction(writes):
            self._confirm([write.key for write in writes if isinstance(write, Confirm)], now)
            for write in writes:
                if isinstance(write, Release):
                    self._file.execute(_RELEASE, (write.key, self._owner))
                elif isinstance(write, Extend):
                    rows = [(now + self._lease, key, self._owner) for key in write.keys]
                    self._file.executemany(_EXTEND, rows)
            if reserved := [write.key for write in writes if isinstance(write, Reserve)]:
                reservations = self._reserve(reserved, now)
        if self._confirmed >= PURGE_EVERY:
            self._confirmed = 0
            _clear(self._file)
        return [reservations[write.key] if isinstance(write, Reserve) else None for write in writes]

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._file)

    @contextmanager
    def _transaction(self, writes: Sequence[EventWrite]) -> Iterator[None]:
        """A transaction, unless all of `writes` are one statement, which is one by itself."""
        if {type(write) for write in writes} in ({Confirm}, {Reserve}) and len(writes) <= MOST_ROWS:
            yield
            return
        with transaction(self._file):
            yield

    def _confirm(self, keys: list[bytes], now: float) -> None:
        for part in in_parts(_CONFIRM, [(key, self._owner, now, 1) for key in keys]):
            self._file.execute(*part)
        self._confirmed += len(keys)

    def _reserve(self, keys: list[bytes], now: float) -> dict[bytes, Reservation]:
        until = now + self._lease
        reserved = 0
        for sql, values in in_parts(_RESERVE, [(key, self._owner, until) for key in keys]):
            reserved += self._file.execute(sql, [*values, now, until + 60]).rowcount
        if reserved == len(keys):
            return dict.fromkeys(keys, Reservation.OURS)
        found: dict[bytes, Reservation] = {}
        for part in in_parts(_FIND, [(key,) for key in keys]):
            for key, owner, handled in self._file.execute(*part):
                ours = Reservation.OURS if owner == self._owner else Reservation.ELSEWHERE
                found[key] = Reservation.HANDLED if handled else ours
        return found


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file, with its table."""
    check_mount(path)
    file = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        log_writes_ahead(file, BUSY)
        file.executescript(_SCHEMA)
    except BaseException:
        file.close()
        raise
    return file


def _clear(file: sqlite3.Connection) -> None:
    """Forget what is older than `KEPT`."""
    file.execute("DELETE FROM event WHERE until < ?", (time.time() - KEPT,))


_SCHEMA = """
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS event (
    key BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    until REAL NOT NULL,
    handled INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""

# A reservation that lasts a minute longer than any can was made before the clock was set back.
_RESERVE = """
INSERT INTO event (key, owner, until) VALUES {rows}
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE NOT handled AND (owner = excluded.owner OR until < ? OR until > ?)
"""
_FIND = "SELECT key, owner, handled FROM event WHERE key IN (VALUES {rows})"
_CONFIRM = """
INSERT INTO event (key, owner, until, handled) VALUES {rows}
ON CONFLICT (key) DO UPDATE SET until = excluded.until, handled = 1
"""
_RELEASE = "DELETE FROM event WHERE key = ? AND owner = ? AND NOT handled"
_EXTEND = "UPDATE event SET until = ? WHERE key = ? AND owner = ? AND NOT handled"
