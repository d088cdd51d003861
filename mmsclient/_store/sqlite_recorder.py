"""Notes delivery reports in a journal in SQLite."""

from __future__ import annotations

import os
import time
from typing import Self

from mmsclient._store import sqlite_evidence
from mmsclient._store.sqlite_database import Database, storable, translated_errors
from mmsclient._store.sqlite_migration import migrate
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient.models import DeliveryStatus

__all__ = ["SQLiteRecorder"]


class SQLiteRecorder:
    """Notes what delivery reports said; several may, also while a campaign writes the journal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the journal at `path`. Raises `JournalError` where there is none."""
        shown = os.fspath(path)
        SQLiteReader.open(shown).close()
        with translated_errors(shown):
            database = Database.writable(shown)
            try:
                migrate(database)
                return cls(database)
            except BaseException:
                database.close()
                raise

    def record(self, message_id: str, phone: int, status: DeliveryStatus) -> None:
        """Note what a delivery report said, and what it proves. A final status stays; the same may come again.

        Args:
            message_id: Of the message that it is about.
            phone: The digits of its recipient, 0 where it names none.
            status: What became of the message.
        """
        now = time.time()
        with self._database.transaction():
            sqlite_evidence.note(self._database, str(storable(message_id)), phone, now)
            self._database.execute(
                "INSERT INTO delivery VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status,"
                " final = excluded.final, reported = excluded.reported WHERE NOT final",
                (storable(message_id), phone, storable(status.value), status.is_final, now),
            )
            sqlite_evidence.settle(self._database, [phone])

    def record_reply(self, message_id: str, phone: int, received: float | None) -> None:
        """Note that a phone replied to a message. The same reply may come again.

        Args:
            message_id: Of the message that it replies to.
            phone: The digits of the sender.
            received: Unix seconds at which the reply came, None where that is not known.
        """
        now = time.time()
        with self._database.transaction():
            heard = now if received is None else min(now, received)
            sqlite_evidence.note(self._database, str(storable(message_id)), phone, heard)
            sqlite_evidence.settle(self._database, [phone])

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._database.close()
