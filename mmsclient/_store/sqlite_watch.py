"""Whether the files of a SQLite database that is open are still the ones that were opened."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from urllib.parse import quote

__all__ = ["WatchedFiles"]


class WatchedFiles:
    """The database at `path`, its log, and the index of that, which all who open it share.

    SQLite itself goes on with what it has opened. Whoever opens the path after that writes to other files, or to the
    same log by another index, and neither sees what the other has written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.path.abspath(path)
        self._real = os.path.realpath(path)
        self._files: dict[str, os.stat_result | None] = {self._path: _found(self._path)}

    def watch_log(self) -> None:
        """Watch the log and its index, too, now that they are there. Not every file system has them."""
        for path in (f"{self._real}-wal", self._index):
            if (file := _found(path)) is not None:
                self._files[path] = file

    @property
    def has_log(self) -> bool:
        """It has one: it writes to that, and not into the file."""
        return f"{self._real}-wal" in self._files

    def replaced(self) -> str:
        """The name of the first that is no longer the file it was; "" where all are."""
        return next((os.path.basename(path) for path in self._files if not self._is_same(path)), "")

    def is_alone(self) -> bool:
        """Others may write to the log by another index: what is written here may be lost, or undo what they wrote."""
        return self._index in self._files and not self._is_same(self._index)

    def close(self, database: sqlite3.Connection) -> None:
        """Close the connection, the last of this process. What others have committed by another index stays."""
        if not (self.is_alone() and os.path.exists(self._index)):
            database.close()
            return
        uri = f"file:{quote(os.fsencode(self._real))}?mode=ro"
        try:  # SQLite clears a log away only with the last connection, and not with one that only reads
            with closing(sqlite3.connect(uri, uri=True)) as other:
                with suppress(sqlite3.Error):
                    other.execute("SELECT count(*) FROM sqlite_master")
                database.close()
        except sqlite3.Error:
            database.close()

    @property
    def _index(self) -> str:
        return f"{self._real}-shm"

    def _is_same(self, path: str) -> bool:
        before, now = self._files[path], _found(path)
        return before is not None and now is not None and os.path.samestat(before, now)


def _found(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
