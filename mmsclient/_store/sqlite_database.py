"""A connection to a journal in SQLite: transactions, and what SQLite finds wrong in this package's words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self
from urllib.parse import quote

from mmsclient._store import private_files
from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.models import Message
from mmsclient._store.sqlite_rows import in_parts
from mmsclient._store.sqlite_schema import run_script

__all__ = [
    "APPLICATION_ID",
    "FOREIGN",
    "MEMORY",
    "VERSION",
    "Database",
    "passes_by_itself",
    "storable",
    "translated_errors",
]

APPLICATION_ID = 0x4D4D5363
"""What marks a SQLite file as a journal: "MMSc"."""
VERSION = 6
"""Of the schema: the number of the last of its files."""
MEMORY = ""
"""The path of a journal in memory."""

FOREIGN = "this is no journal of a campaign; it was left as it is. Choose another name"

_TRANSIENT = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""What SQLite says of a lock, and of a disk that is full, over its quota or away."""


class Database:
    """One connection. What it raises is SQLite's, to be wrapped in `translated_errors`."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        """As errors show it; `MEMORY` for one in memory."""
        self.connection = connection
        self.check: Callable[[], object] | None = None
        """Is called before each transaction that writes."""

    @property
    def file(self) -> str:
        """The real path of its file, "" where it has none of its own."""
        return str(next(file for _, name, file in self.rows("PRAGMA database_list") if name == "main"))

    @classmethod
    def writable(cls, file: str, path: str | None = None) -> Self:
        """Open the database in `file`, which SQLite may make, for the journal at `path`."""
        return cls(file if path is None else path, private_files.connect(file))

    @classmethod
    def read_only(cls, path: str) -> Self:
        """Open the database at `path`, which is there, for reading. Raises `JournalError` where that cannot be."""
        uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
        try:
            connection = sqlite3.connect(
                uri, timeout=private_files.BUSY, uri=True, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise JournalError(path, f"it cannot be read ({error})") from None
        return cls(path, connection)

    def create(self, message: Message) -> None:
        """Fill an empty database: the journal of `message`."""
        for number in range(1, VERSION + 1):
            self.run_schema(number)
        facts = {
            "text": message.text,
            "subject": message.subject,
            "image": message.image,
            "image_sha256": message.image_sha256,
            "runs": 0,
            "list_read": 0,
            **({"template": message.template} if message.template else {}),
            **({} if message.kind == "mms" else {"kind": message.kind, "sms": message.sms}),
        }
        self.execute_many("INSERT INTO meta VALUES (?, ?)", facts.items())

    @property
    def version(self) -> int:
        """Of the schema that it has."""
        ((version,),) = self.rows("PRAGMA user_version")
        return int(version)

    def run_schema(self, number: int) -> None:
        """Run a file of the schema: make the tables of version 1, or migrate from the version before it."""
        run_script(self.connection, f"{number}.sql")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        return self.connection.execute(sql, values).fetchall()

    def execute(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self.connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one statement for each of `rows`; how many rows of the table it changed."""
        return self.connection.executemany(sql, rows).rowcount

    def execute_rows(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement that takes all of `rows` (`in_parts`); how many rows of the table it changed."""
        return sum(self.execute(*part).rowcount for part in in_parts(sql, rows))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Within, this connection alone writes; at the end all of it is committed, or nothing."""
        if self.check is not None:
            self.check()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself where the disk is full
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read within was so at one moment."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def meta(self, key: str) -> Any:
        """A fact about the journal; None where there is none."""
        return next((value for (value,) in self.rows("SELECT value FROM meta WHERE key = ?", (key,))), None)

    def set_meta(self, key: str, value: Any) -> None:
        """Note a fact about the journal."""
        self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def copy_from(self, other: Database) -> None:
        """Become a copy of `other`."""
        other.connection.backup(self.connection)

    def close(self) -> None:
        """Close the connection. May be called again."""
        self.connection.close()


def storable(text: str | None) -> str | None:
    """`text` as SQLite takes it: without lone surrogates."""
    return None if text is None else text.encode(errors="replace").decode()


def passes_by_itself(error: sqlite3.Error) -> bool:
    """What went wrong may go well later: it says nothing against the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _TRANSIENT


@contextmanager
def translated_errors(path: str) -> Iterator[None]:
    """Raise what SQLite finds wrong within as a `JournalError`."""
    try:
        yield
    except (OverflowError, UnicodeError, sqlite3.InterfaceError) as error:
        raise JournalError(path, f"it cannot hold what is to be recorded ({error})") from None
    except sqlite3.DatabaseError as error:
        if damage := private_files.damage_of(error, FOREIGN):
            raise JournalError(path, damage) from None
        cls = JournalUnavailableError if passes_by_itself(error) else JournalError
        raise cls(path, f"{error}; what was recorded before stays") from None
