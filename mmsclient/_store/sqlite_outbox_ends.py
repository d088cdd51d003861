"""How orders come into a state that lasts, in SQLite, and are forgotten."""

from __future__ import annotations

import time

from mmsclient._store import sqlite_retention
from mmsclient._store.outbox import OutboxState
from mmsclient._store.outbox_evidence import MAY_BE_PROVEN
from mmsclient._store.sqlite_database import Database

__all__ = ["end_order", "forget", "next_number"]

_END = "UPDATE outbox SET state = ?, ended = ?, number = ?, result = ?, proven = ? WHERE id = ?"
_UNUSED = (
    "DELETE FROM picture WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.picture = picture.sha256"  # noqa: S608
    " AND state IN ('waiting', 'sending', 'unknown'))"
    f" AND sha256 NOT IN (SELECT picture FROM outbox WHERE {MAY_BE_PROVEN})"
)


def end_order(database: Database, id_: int, state: OutboxState, result: str, *, proven: bool = False) -> None:
    """Record the state and the result of an order. `proven`: evidence told, and no answer."""
    database.execute(_END, (state, time.time(), next_number(database), result, proven, id_))


def next_number(database: Database) -> int:
    """The place of the next one among the ends."""
    number = int(database.meta("last_number") or 0) + 1
    database.set_meta("last_number", number)
    return number


def forget(database: Database, keep: float | None) -> None:
    """See `OutboxWorkerStore.purge`; and what was heard of phones that stand in no order any more."""
    if keep is None:
        keep = sqlite_retention.kept_for(database.connection)
    if keep is not None:
        database.execute("DELETE FROM outbox WHERE ended < ?", (time.time() - keep,))
    database.execute(_UNUSED)
    database.execute("DELETE FROM heard WHERE phone NOT IN (SELECT phone FROM recipient)")
