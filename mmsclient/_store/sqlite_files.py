"""The files of a journal that a campaign has open: its lock, and whether they are still the ones that were opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmsclient._store import private_files
from mmsclient._store.errors import JournalBusyError, JournalError, JournalUnavailableError
from mmsclient._store.file_lock import DatabaseLock
from mmsclient._store.sqlite_database import Database
from mmsclient._store.sqlite_watch import WatchedFiles

__all__ = ["LOCK", "OpenFiles", "lock_journal"]

LOCK = "-lock"
"""What the name of a journal's lock file ends with."""


class OpenFiles:
    """Holds a journal's lock, and notices when the file or its log is removed or replaced."""

    def __init__(self, path: Path, lock: DatabaseLock) -> None:
        self._path = str(path)
        self._lock = lock
        _check_names(path)
        self._files = WatchedFiles(path)

    def begin_log(self, database: Database) -> None:
        """Write to a log beside the file from now on, which others may read meanwhile."""
        try:
            mode = private_files.log_writes_ahead(database.connection, private_files.BUSY)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise JournalUnavailableError(self._path, "another program has locked it for long") from None
            raise
        if mode == "wal":  # not every file system can
            with database.transaction():  # makes the log
                database.set_meta("runs", database.meta("runs"))
            self._files.watch_log()
            database.check = self._check_index
            with _translated_locks(self._path):
                self._lock.hold_log()

    def check(self) -> None:
        """Raise `JournalError` where a file is no longer the one that was opened."""
        if name := self._files.replaced():
            raise JournalError(self._path, f"{name} was removed or replaced during the campaign; nothing more is sent")

    def _check_index(self) -> None:
        """Raise `JournalError` where what is written may undo what others have written."""
        if self._files.is_alone():
            self.check()

    def close(self, database: Database) -> None:
        """Close the connection, and make one file of it again, unless others have it open."""
        if not self._files.is_alone():
            with suppress(sqlite3.Error):  # others may be reading
                database.execute("PRAGMA busy_timeout = 0")
                database.execute("PRAGMA journal_mode = DELETE")
        with suppress(sqlite3.Error):
            self._files.close(database.connection)

    def release(self) -> None:
        """Let others send with the journal."""
        self._lock.release()


def lock_journal(path: Path) -> DatabaseLock:
    """Take the lock of the journal at `path`. Raises `JournalBusyError`, or `JournalError` where it cannot be made."""
    with _translated_locks(path):
        return DatabaseLock(path, LOCK)


@contextmanager
def _translated_locks(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (BlockingIOError, PermissionError) as error:
        if isinstance(error, BlockingIOError) or not error.filename:
            problem = "a campaign is being sent with it; wait for that one to end, or stop it"
            raise JournalBusyError(path, problem) from None
        reason = error.strerror
    except OSError as error:
        reason = error.strerror
    else:
        return
    raise JournalError(path, f"its lock file cannot be made ({reason}); choose a folder that can be written")


def _check_names(path: Path) -> None:
    """Raise `JournalError` where the file has several names: each has its own lock."""
    if problem := private_files.too_many_names(path, "so two campaigns could send with it"):
        raise JournalError(path, problem)
