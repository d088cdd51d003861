"""How orders come into a state that lasts, in SQLite."""

from __future__ import annotations

import time

from mmsclient._store.outbox import OutboxState
from mmsclient._store.sqlite_database import Database

__all__ = ["end_order", "next_number"]

_END = "UPDATE outbox SET state = ?, ended = ?, number = ?, result = ?, proven = ? WHERE id = ?"


def end_order(database: Database, id_: int, state: OutboxState, result: str, *, proven: bool = False) -> None:
    """Record the state and the result of an order. `proven`: evidence told, and no answer."""
    database.execute(_END, (state, time.time(), next_number(database), result, proven, id_))


def next_number(database: Database) -> int:
    """The place of the next one among the ends."""
    number = int(database.meta("last_number") or 0) + 1
    database.set_meta("last_number", number)
    return number
