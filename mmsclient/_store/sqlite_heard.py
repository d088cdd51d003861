"""What was heard of the messages of a store in SQLite, in its table `heard`; its recipients are in `recipient`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from mmsclient._store.heard import Heard, gathered
from mmsclient._store.sqlite_database import storable

__all__ = ["note"]

_NOTE = """
INSERT INTO heard (phone, message_id, at) SELECT :phone, :message_id, min(ifnull(:at, :now), :now)
WHERE EXISTS (SELECT 1 FROM recipient WHERE phone = :phone) AND NOT {named}
ON CONFLICT DO UPDATE SET at = min(at, excluded.at)
"""


def note(database: sqlite3.Connection, heard: Sequence[Heard], named: str, *, but: str = "") -> list[int]:
    """Remember that something was heard of messages to phones; the phones of which that may say anything.

    Args:
        database: Where to.
        heard: What was heard.
        named: The condition that an answer named the id `{of}`.
        but: A kind of messages; what tells that it is of that says nothing here.
    """
    now, sql = time.time(), _NOTE.format(named=named.format(of=":message_id"))
    found = gathered(heard, storable)
    return [
        phone
        for (phone, message_id), at in found.notes.items()
        if not (but and found.kinds.get((phone, message_id)) == but)
        and database.execute(sql, {"phone": phone, "message_id": message_id, "at": at, "now": now}).rowcount
    ]
