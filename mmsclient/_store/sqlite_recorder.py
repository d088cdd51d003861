"""Notes delivery reports and replies in a journal in SQLite."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

from attrs import evolve

from mmsclient._store import sqlite_evidence
from mmsclient._store.heard import ARRIVED_AFTER_ALL, Heard, Replied, gathered
from mmsclient._store.sqlite_database import Database, storable
from mmsclient._store.sqlite_reader import open_migrated
from mmsclient._store.sqlite_turns import Turns
from mmsclient._store.sqlite_watch import WatchedFiles

__all__ = ["SQLiteRecorder"]

_RECORD = f"""
INSERT INTO delivery VALUES {{rows}}
ON CONFLICT DO UPDATE SET status = excluded.status, final = excluded.final, reported = excluded.reported
WHERE NOT final OR {ARRIVED_AFTER_ALL}
"""  # noqa: S608 - our own constants

_TEXT = """
SELECT ifnull(
    (SELECT text FROM message WHERE message.id = recipient.message), (SELECT value FROM meta WHERE key = 'text')
) FROM recipient WHERE phone = ?
"""


class SQLiteRecorder:
    """Notes what was heard; several may, also while a campaign writes the journal.

    Args:
        database: A connection.
        files: Where it is a connection of its own, beside that of a campaign: its files, as they were opened.
    """

    def __init__(self, database: Database, files: WatchedFiles | None = None) -> None:
        self._database = database
        self._files = files
        self._turns: AbstractContextManager[None] = Turns() if files else nullcontext()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the journal at `path`. Raises `JournalError` where there is none."""
        return cls(*open_migrated(os.fspath(path)))

    @property
    def is_current(self) -> bool:
        """The file is the one that was opened; else what is recorded may be lost."""
        return self._files is None or not self._files.replaced()

    def record(self, heard: Sequence[Heard]) -> None:
        """Note what was heard, and what it proves, in one transaction. See `ReportRecorder.record`."""
        with self._turns:
            self._record(heard)

    def _record(self, heard: Sequence[Heard]) -> None:
        now = time.time()
        found = gathered(map(self._without_others, heard), storable)
        notes = [
            (*note, now if heard_at is None else min(now, heard_at), found.kinds.get(note))
            for note, heard_at in found.notes.items()
        ]
        deliveries = [(*delivery, *status, now) for delivery, status in found.deliveries.items()]
        with self._database.transaction():
            is_news = sqlite_evidence.note(self._database, notes)
            self._database.execute_rows(_RECORD, deliveries)
            if is_news:
                sqlite_evidence.settle(self._database, {phone: None for phone, _ in found.notes})

    def _without_others(self, heard: Heard) -> Heard:
        """A reply to another text than its phone gets here breaks its silence, and proves nothing."""
        if isinstance(heard, Replied) and heard.original:
            texts = [str(text) for (text,) in self._database.rows(_TEXT, (heard.phone,))]
            if heard.quotes_another(texts):
                return evolve(heard, message_id=f"another text: {heard.message_id}", kind="other")
        return heard

    def of_others(self, heard: Sequence[Heard]) -> list[Heard]:
        """Of what was heard, what does not name a message of this journal.

        What may be of an unnamed one is told to be of its kind, so that it proves nothing of another kind.
        """
        sql = "SELECT 1 FROM recipient WHERE message_id = ? LIMIT 1"
        others = [each for each in heard if not self._database.rows(sql, (storable(each.message_id),))]
        return [evolve(each, kind=self._kind_of_unnamed(each)) for each in others]

    def _kind_of_unnamed(self, heard: Heard) -> str:
        if heard.kind:
            return heard.kind
        found = self._database.rows(sqlite_evidence.KIND_OF_UNNAMED, (heard.phone, time.time()))
        return str(found[0][0]) if found else ""

    def close(self) -> None:
        """Close the connection. May be called again."""
        if self._files is None:
            self._database.close()
        else:
            self._files.close(self._database.connection)
