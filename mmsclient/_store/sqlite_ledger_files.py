"""The files of a ledger in SQLite: the database, and a lock for each process that sends with it."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mmsclient._store import private_files, sqlite_retention
from mmsclient._store.file_lock import FileLock, lock_within
from mmsclient._store.ledger import objection_to
from mmsclient._store.models import Owner
from mmsclient._store.private_files import transaction
from mmsclient._store.sqlite_schema import migrate, run_script
from mmsclient._store.sqlite_watch import WatchedFiles
from mmsclient.errors import LedgerUnavailableError

__all__ = ["OpenLedger", "check_ledger", "translated"]

APPLICATION_ID = 0x4D4D536C
"""What marks a SQLite file as a ledger: "MMSl"."""
VERSION = 3
"""Of the schema: the number of the last of its files."""

BUSY = 5.0
"""Seconds that another program may lock the ledger until it counts as unavailable."""

FOREIGN = "this is no ledger of keyed sends; it was left as it is. Choose another name"


def check_ledger(path: Path, owner: Owner) -> None:
    """Make the ledger at `path` where there is none. Raises `LedgerUnavailableError` where it cannot be used."""
    with translated(path):
        _make_if_missing(path, owner)
        _check_header(path)
        with closing(_connect(path)) as database:
            _is_owned(database, path, owner)


class OpenLedger:
    """A ledger that is there, open: its connection, and the lock by which others know that this process lives.

    The lock is the operating system's, on a file of its own, so it ends with the process however that ends. Who holds
    none is dead, also where somebody has removed the file: a living sender may be taken for a dead one, and its sends
    are unknown until it records their ends; a dead one is never taken for a living one.
    """

    def __init__(self, path: Path, owner: Owner, keep: float | None) -> None:
        self._path = path
        with translated(path):
            _check_header(path)
            private_files.make_private(path)
            self._files = WatchedFiles(path)
            self.database = _connect(path)
            try:
                migrate(self.database, str(path), VERSION, "ledger-{}.sql")
                with transaction(self.database):
                    if not _is_owned(self.database, path, owner):
                        _set_owner(self.database, owner)
                    sqlite_retention.ask(self.database, keep)
                    self.database.execute("UPDATE meta SET value = value + 1 WHERE key = 'openings'")  # makes the log
                self._files.watch_log()
                self.sender, self._lock = _new_sender(path)
            except BaseException:
                self.database.close()
                raise
        self._process = os.getpid()

    def check_files(self) -> None:
        """Raise `LedgerUnavailableError` where a file is no longer the one that was opened: another would be empty."""
        if name := self._files.replaced():
            problem = f"{name} was removed or replaced while it was open; restore it, or make a new client"
            raise LedgerUnavailableError(problem, self._path)

    def check_index(self) -> None:
        """Raise `LedgerUnavailableError` where what is written may undo what others have written."""
        if self._files.is_alone():
            self.check_files()

    def is_dead(self, sender: str) -> bool:
        """The process that `sender` stands for has ended, or has closed its ledger."""
        if sender == self.sender:
            return False
        try:
            FileLock(_lock_of(self._path, sender)).release()
        except OSError:  # it is held, or nobody can tell
            return False
        return True

    def senders(self) -> set[str]:
        """The other senders whose lock files are there, held or left behind."""
        beginning = _lock_of(self._path, "").name
        names = (each.name for each in self._path.parent.iterdir())
        return {name.removeprefix(beginning) for name in names if name.startswith(beginning)} - {self.sender}

    def close(self) -> None:
        """Close it; what is still sending is that of a dead sender now. A parent's, in a fork, is left alone."""
        if self._process == os.getpid():
            self._files.close(self.database)
            self._lock.release()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite and the system find wrong within as a `LedgerUnavailableError`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        problem = private_files.damage_of(error, FOREIGN) or str(error)
    except sqlite3.Error as error:
        problem = str(error)
    except OSError as error:
        problem = f"it cannot be used ({error.strerror})"
    else:
        return
    raise LedgerUnavailableError(problem, path) from None


def _connect(path: Path) -> sqlite3.Connection:
    database = private_files.connect(str(path))
    database.execute(f"PRAGMA busy_timeout = {BUSY * 1000:.0f}")
    return database


def _lock_of(path: Path, sender: str) -> Path:
    return Path(f"{path}-sender-{sender}")


def _new_sender(path: Path) -> tuple[str, FileLock]:
    while True:
        sender = secrets.token_hex(8)
        try:
            return sender, FileLock(_lock_of(path, sender))
        except BlockingIOError:  # another process looked whether it is held, just when the file was made
            continue


def _check_header(path: Path) -> None:
    """Raise `LedgerUnavailableError` unless the file is a ledger of this version; nothing is written before."""
    if flaw := private_files.flaw_of(path):
        raise LedgerUnavailableError(flaw, path)
    if problem := private_files.too_many_names(path, "and each would have its own log"):
        raise LedgerUnavailableError(problem, path)
    application, version = private_files.header_of(path)
    if application != APPLICATION_ID:
        raise LedgerUnavailableError(FOREIGN, path)
    if not 1 <= version <= VERSION:
        problem = f"it is of version {version}, and this package reads {VERSION}; use a newer mmsclient"
        raise LedgerUnavailableError(problem, path)


def _is_owned(database: sqlite3.Connection, path: Path, owner: Owner) -> bool:
    """False where it is to be `owner`'s with a new key. Raises `LedgerUnavailableError` where it is another's."""
    facts = dict(database.execute("SELECT key, value FROM meta"))
    salt, fingerprint = facts.get("key_salt", b""), facts.get("key_fingerprint")
    if problem := objection_to(owner, facts.get("base_url"), salt, fingerprint, another="a new file"):
        raise LedgerUnavailableError(problem, path)
    return bool(owner.fingerprint(salt) == fingerprint)


def _set_owner(database: sqlite3.Connection, owner: Owner) -> None:
    database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", owner.facts().items())


def _make_if_missing(path: Path, owner: Owner) -> None:
    """Make a ledger in one step: it is there whole or not at all."""
    if path.exists():
        return
    try:
        lock = lock_within(Path(f"{path}-new-lock"), BUSY)
    except BlockingIOError:
        raise LedgerUnavailableError("another process has been making it for long", path) from None
    try:
        if not path.exists():
            _make(path, owner)
    finally:
        lock.release()


def _make(path: Path, owner: Owner) -> None:
    if problem := private_files.stray_log_of(path):
        raise LedgerUnavailableError(problem, path)
    with private_files.made_whole(path) as draft, closing(private_files.connect(str(draft))) as database:
        database.execute("PRAGMA journal_mode = WAL")  # stays with the file
        with transaction(database):
            for number in range(1, VERSION + 1):
                run_script(database, f"ledger-{number}.sql")
            _set_owner(database, owner)
            database.execute("INSERT INTO meta VALUES ('openings', 0)")
