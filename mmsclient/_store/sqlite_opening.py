"""Opens and makes journals in SQLite."""

from __future__ import annotations

import os
from pathlib import Path

from mmsclient._store import private_files
from mmsclient._store.errors import JournalError, JournalMismatchError
from mmsclient._store.evidence import Silent
from mmsclient._store.models import Message, Owner
from mmsclient._store.ownership import objection_of, tell_of_another_key
from mmsclient._store.sqlite_database import MEMORY, Database, translated_errors
from mmsclient._store.sqlite_files import OpenFiles, lock_journal
from mmsclient._store.sqlite_journal import SQLiteJournal, end_dead_run
from mmsclient._store.sqlite_migration import migrate
from mmsclient._store.sqlite_reader import SQLiteReader, check_kind

__all__ = ["open_copy", "open_journal", "settle_journal"]


def open_journal(
    path: str | os.PathLike[str] | None,
    message: Message,
    owner: Owner | None = None,
    *,
    resend_unknown: bool | Silent = False,
) -> SQLiteJournal:
    """Open the journal at `path` to send with, or make it; None for one in memory.

    Raises:
        JournalBusyError: Another campaign is sending with it.
        JournalMismatchError: It belongs to another message or owner.
        JournalError: The file is no journal, damaged, or cannot be used.
    """
    if path is None:
        database = Database.writable(":memory:", MEMORY)
        database.create(message)
        journal = SQLiteJournal(database, resend_unknown=resend_unknown)
    else:
        journal = _open_file(Path(os.path.realpath(path)), message, owner, resend_unknown=resend_unknown)
    try:
        if owner is not None:
            with translated_errors(journal.path):
                tell_of_another_key(journal.reader, owner)
                journal.belong_to(owner)
        return journal
    except BaseException:
        journal.close()
        raise


def open_copy(
    path: str | os.PathLike[str] | None, message: Message, owner: Owner | None = None, *, resend_unknown: bool | Silent
) -> SQLiteJournal:
    """What `open_journal` would open, as a temporary copy: the journal itself is only read."""
    database = Database.writable("", MEMORY if path is None else os.fspath(path))
    try:
        if path is not None and os.path.lexists(path):
            reader = SQLiteReader.open(path)
            try:
                _check_same(reader, message, owner)
                with translated_errors(reader.path):
                    reader.copy_into(database)
                    migrate(database)
            finally:
                reader.close()
        else:
            database.create(message)
        return SQLiteJournal(database, resend_unknown=resend_unknown, is_copy=True)
    except BaseException:
        database.close()
        raise


def settle_journal(path: str | os.PathLike[str]) -> int:
    """Act on what is known of those whose call a dead process left; how many recipients that settled. Sends nothing.

    Raises:
        JournalBusyError: A campaign is sending with it, and acts on evidence as it comes.
        JournalError: The file is not there, no journal, or damaged.
    """
    real = Path(os.path.realpath(path))
    SQLiteReader.open(path).close()
    lock = lock_journal(real)
    try:
        _check_header(real)
        with translated_errors(str(path)):
            database = Database.writable(str(real), str(path))
            try:
                migrate(database)
                with database.transaction():
                    return end_dead_run(database)
            finally:
                database.close()
    finally:
        lock.release()


def _open_file(path: Path, message: Message, owner: Owner | None, *, resend_unknown: bool | Silent) -> SQLiteJournal:
    lock = lock_journal(path)
    try:
        if path.exists():
            _check_file(path, message, owner)
        else:
            _make_file(path, message)
        files = OpenFiles(path, lock)
        with translated_errors(str(path)):
            database = Database.writable(str(path))
            try:
                migrate(database)
                files.begin_log(database)
                if message.opt_out_line:
                    database.set_meta("opt_out_line", message.opt_out_line)
                return SQLiteJournal(database, files, resend_unknown=resend_unknown)
            except BaseException:
                database.close()
                raise
    except BaseException:
        lock.release()
        raise


def _check_file(path: Path, message: Message, owner: Owner | None) -> None:
    """Raise `JournalError` unless the file is the whole journal of `message` and `owner`."""
    _check_header(path)
    reader = SQLiteReader.open(path)
    try:
        reader.verify()
        _check_same(reader, message, owner)
    finally:
        reader.close()
    private_files.make_private(path)


def _check_header(path: Path) -> None:
    """Raise `JournalError` unless the file says in its first bytes that it is a journal of this version.

    Before SQLite opens it for good, which may put files of its own beside it.
    """
    try:
        flaw = private_files.flaw_of(path)
    except OSError as error:
        raise JournalError(path, f"it cannot be read ({error.strerror})") from None
    if flaw:
        raise JournalError(path, flaw)
    with translated_errors(str(path)):
        application, version = private_files.header_of(path)
    check_kind(str(path), application, version)


def _check_same(reader: SQLiteReader, message: Message, owner: Owner | None) -> None:
    with translated_errors(reader.path):
        objection = message.objection(reader.message().parts, another="a new file")
        if not objection and owner is not None:
            objection = objection_of(reader, owner)
    if objection:
        raise JournalMismatchError(reader.path, objection)


def _make_file(path: Path, message: Message) -> None:
    """Make a journal in one step: it is there whole or not at all. The lock is held."""
    if problem := private_files.stray_log_of(path):
        raise JournalError(path, problem)
    try:
        with private_files.made_whole(path) as draft, translated_errors(str(path)):
            database = Database.writable(str(draft), str(path))
            try:
                database.create(message)
            finally:
                database.close()
    except OSError as error:
        raise JournalError(path, f"it cannot be made ({error.strerror})") from None
