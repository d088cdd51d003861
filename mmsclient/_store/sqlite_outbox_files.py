"""The files of an outbox in SQLite: the database, and the lock of its one worker."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from mmsclient._store import private_files, sqlite_retention
from mmsclient._store.errors import JournalBusyError, JournalError
from mmsclient._store.file_lock import DatabaseLock, lock_within
from mmsclient._store.sqlite_database import Database, translated_errors
from mmsclient._store.sqlite_watch import WatchedFiles

__all__ = ["OutboxFile", "lock_worker", "open_outbox"]

APPLICATION_ID = 0x4D4D536F
"""What marks a SQLite file as an outbox: "MMSo"."""
VERSION = 1
"""Of the schema."""

MAKING = 10.0
"""Seconds that an outbox is waited for which another process is making."""

FOREIGN = "this is no outbox; it was left as it is. Choose another name"
REPLACED = "was removed or replaced while it was open; restore it, or make a new Outbox"


class OutboxFile:
    """An outbox that is there, open."""

    def __init__(self, path: Path, keep: float | None) -> None:
        self.path = path
        with translated_errors(str(path)):
            self._files = WatchedFiles(path)
            self.database = Database.writable(str(path))
            try:
                self.database.execute("PRAGMA foreign_keys = ON")
                with self.database.transaction():
                    self.database.set_meta("opened", time.time())  # makes the log
                    sqlite_retention.ask(self.database.connection, keep)
                self._files.watch_log()
            except BaseException:
                self.database.close()
                raise

    @property
    def is_current(self) -> bool:
        """Its files are those that were opened."""
        return not self._files.replaced()

    def check(self) -> None:
        """Raise `JournalError` where a file is no longer the one that was opened: another would be empty."""
        if name := self._files.replaced():
            raise JournalError(self.path, f"{name} {REPLACED}")

    def hold_log(self, lock: DatabaseLock) -> None:
        """Let the lock hold the log, if it has one. Raises `JournalBusyError` where another worker does."""
        if self._files.has_log:
            with translated_locks(self.path):
                lock.hold_log()

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._files.close(self.database.connection)


def open_outbox(path: Path, *, make: bool = True, keep: float | None = None) -> OutboxFile:
    """Open the outbox at `path`, or make it; `keep`: asks for so many seconds that orders are kept.

    Raises `JournalError` where it cannot be used.
    """
    try:
        if make:
            _make_if_missing(path)
        _check_header(path)
        private_files.make_private(path)
    except OSError as error:
        raise JournalError(path, f"it cannot be used ({error.strerror})") from None
    return OutboxFile(path, keep)


def lock_worker(path: Path) -> DatabaseLock:
    """The right to send from the outbox at `path`. Raises `JournalBusyError` where another worker has it."""
    with translated_locks(path):
        return DatabaseLock(path, "-worker")


@contextmanager
def translated_locks(path: Path) -> Iterator[None]:
    """Raise what is wrong with a lock as a `JournalError`."""
    try:
        yield
    except (BlockingIOError, PermissionError):
        problem = "another worker is sending from it; a file has room for one, a PostgreSQL database for any number"
        raise JournalBusyError(path, problem) from None
    except OSError as error:
        raise JournalError(path, f"it cannot be locked ({error.strerror})") from None


def _check_header(path: Path) -> None:
    """Raise `JournalError` unless the file is an outbox of this version; nothing is written before."""
    if flaw := private_files.flaw_of(path):
        raise JournalError(path, flaw)
    if problem := private_files.too_many_names(path, "so two workers could send from it"):
        raise JournalError(path, problem)
    with translated_errors(str(path)):
        try:
            application, version = private_files.header_of(path)
        except sqlite3.DatabaseError as error:
            if damage := private_files.damage_of(error, FOREIGN):
                raise JournalError(path, damage) from None
            raise
    if application != APPLICATION_ID:
        raise JournalError(path, FOREIGN)
    if version != VERSION:
        problem = f"it is of version {version}, and this package reads {VERSION}; use a newer mmsclient"
        raise JournalError(path, problem)


def _make_if_missing(path: Path) -> None:
    """Make an outbox in one step: it is there whole or not at all."""
    if path.exists():
        return
    try:
        lock = lock_within(Path(f"{path}-new-lock"), MAKING)
    except BlockingIOError:
        raise JournalError(path, "another process has been making it for long") from None
    try:
        if not path.exists():
            _make(path)
    finally:
        lock.release()


def _make(path: Path) -> None:
    if problem := private_files.stray_log_of(path):
        raise JournalError(path, problem)
    schema = resources.files("mmsclient._store").joinpath("schema", f"outbox-{VERSION}.sql")
    with (
        private_files.made_whole(path) as draft,
        translated_errors(str(path)),
        closing(private_files.connect(str(draft))) as database,
    ):
        database.executescript(schema.read_text(encoding="utf-8"))
