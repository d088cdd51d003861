"""Journals of earlier versions: read as they are, and migrated before the first write."""

from __future__ import annotations

import errno

from mmsclient._store import sqlite_schema
from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.sqlite_database import VERSION, Database

__all__ = ["migrate", "read_as_present"]

_VERSION_1_AS_2 = """
CREATE TEMP TABLE run (id INTEGER PRIMARY KEY, first_batch INTEGER, balance_before TEXT, balance_after TEXT);
CREATE TEMP VIEW evidence AS
SELECT delivery.phone, delivery.message_id, reported AS heard
FROM delivery JOIN recipient ON recipient.phone = delivery.phone
WHERE NOT (state = 'accepted' AND recipient.message_id IS delivery.message_id);
"""
"""What version 2 added, for those who only read."""
_VERSION_3_AS_4 = "CREATE TEMP TABLE former_call (recipient INTEGER, batch INTEGER)"
_VERSION_5_AS_6 = "CREATE TEMP TABLE evidence_kind (phone INTEGER, message_id TEXT, kind TEXT)"

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


def read_as_present(database: Database) -> None:
    """Let queries of the present version read a database of an earlier one, which is not written to."""
    if database.version == 1:
        database.connection.executescript(_VERSION_1_AS_2)
    if database.version <= 3:
        database.execute(_VERSION_3_AS_4)
    if database.version <= 5:
        database.execute(_VERSION_5_AS_6)


def migrate(database: Database) -> None:
    """Bring a journal to the present version, in one transaction; a copy of an earlier one is kept beside its file.

    Others may have it open: migrations only add tables, and columns of those that no version fills but by their names.
    One in memory or without a name is not copied. Raises `JournalError` where that copy cannot be kept.
    """
    if database.version == VERSION:
        return
    try:
        sqlite_schema.migrate(database.connection, database.file, VERSION)
    except OSError as error:
        cls = JournalUnavailableError if error.errno in _FULL else JournalError
        problem = f"it is of an earlier version, and no copy of it can be kept ({error.strerror}); it was left as it is"
        raise cls(database.path, problem) from None
