"""What operators ask of a campaign's sender, in a journal in SQLite: facts beside those that it has had ever since."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from mmsclient._store.file_lock import LOOKED_AT, FileLock, is_database_held, is_held, lock_within
from mmsclient._store.models import RecipientState
from mmsclient._store.sqlite_database import Database, translated_errors
from mmsclient._store.sqlite_files import LOCK
from mmsclient._store.sqlite_messages import without_picture
from mmsclient._store.steering import (
    FEW_FAILURES,
    LATELY,
    THROTTLED,
    Activity,
    FailedCall,
    Order,
    Orders,
    Standing,
    Waiter,
    sender_name,
    with_rejected,
)

__all__ = ["SQLiteSteering", "SQLiteWaitNotice", "give_order", "orders_in", "standing"]

_PAUSED, _PAUSED_BY, _STOPS, _STOPPED_BY = "paused", "paused_by", "stops", "stopped_by"
_SENDER, _SINCE, _ACTIVITY, _WHY = "sender", "sender_since", "activity", "activity_why"
_WAITER, _WAITER_SINCE = "waiter", "waiter_since"

_ORDERS = f"SELECT key, value FROM meta WHERE key IN ('{_PAUSED}', '{_PAUSED_BY}', '{_STOPS}', '{_STOPPED_BY}')"  # noqa: S608
_SAID = f"""
SELECT key, value FROM meta
WHERE key IN ('{_SENDER}', '{_SINCE}', '{_ACTIVITY}', '{_WHY}', '{_WAITER}', '{_WAITER_SINCE}', 'list_read')
"""  # noqa: S608
_COUNTS = f"SELECT {', '.join(f'''total(state = '{state}')''' for state in RecipientState)} FROM recipient"  # noqa: S608
_CALLS = f"SELECT count(*), min(started), max(ended), count(*) FILTER (WHERE error LIKE '{THROTTLED}%') FROM batch"  # noqa: S608
_FAILURES = f"""
SELECT id, recipients, accepted, error FROM batch
WHERE ended IS NOT NULL AND (error IS NOT NULL OR accepted < recipients) ORDER BY id DESC LIMIT {FEW_FAILURES}
"""  # noqa: S608
_ENDS = f"""
SELECT ended, CASE WHEN error IS NULL THEN recipients ELSE 0 END FROM batch
WHERE ended IS NOT NULL ORDER BY id DESC LIMIT {LATELY}
"""  # noqa: S608
_ERROR = "SELECT error, ended FROM batch WHERE error IS NOT NULL ORDER BY id DESC LIMIT 1"


class SQLiteSteering:
    """The sender's side. See `SenderSteering`."""

    look_every = 0.5
    """A read of four rows each time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def orders(self) -> Orders:
        """What was asked for so far."""
        return orders_in(self._database)

    def begin(self) -> None:
        """Note who sends from now on."""
        _note(self._database, {_SENDER: sender_name(), _SINCE: time.time(), _ACTIVITY: Activity.SENDING, _WHY: ""})

    def note(self, activity: Activity, why: str) -> None:
        """Note what the sender is doing."""
        _note(self._database, {_ACTIVITY: activity, _WHY: why})

    def end(self) -> None:
        """Note that the sender has ended."""
        _note(self._database, {_SENDER: None})

    async def listen(self, on_news: Callable[[], object]) -> None:
        """SQLite tells nobody."""


def _note(database: Database, facts: Mapping[str, Any]) -> None:
    with database.transaction():
        for fact in facts.items():
            database.set_meta(*fact)


class SQLiteWaitNotice:
    """In a file: who waits lives as long as it holds a lock. Of several, one is shown. See `WaitNotice`.

    Args:
        path: Of the journal, which is there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: FileLock | None = None

    def renew(self) -> None:
        """Take the lock, unless it is held already, by this run or another."""
        if self._lock is not None:
            return
        facts = {_WAITER: sender_name(), _WAITER_SINCE: time.time()}
        try:
            self._lock = lock_within(_wait_lock(self._path), LOOKED_AT)
        except OSError:
            return
        try:
            with translated_errors(self._path), closing(Database.writable(self._path)) as database:
                _note(database, facts)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _wait_lock(path: str) -> Path:
    return Path(f"{os.path.realpath(path)}-wait-lock")


def orders_in(database: Database) -> Orders:
    """What was asked for so far."""
    found = dict(database.rows(_ORDERS))
    return Orders(found.get(_PAUSED), found.get(_PAUSED_BY) or "", found.get(_STOPS) or 0, found.get(_STOPPED_BY) or "")


def give_order(database: Database, order: Order) -> None:
    """Note an order. Needs no more of the file than any transaction: its sender goes on with its own."""
    by = sender_name()
    with database.transaction():
        match order:
            case Order.PAUSE if database.meta(_PAUSED) is None:
                database.set_meta(_PAUSED, time.time())
                database.set_meta(_PAUSED_BY, by)
            case Order.UNPAUSE:
                database.set_meta(_PAUSED, None)
            case Order.STOP:
                database.set_meta(_STOPS, (database.meta(_STOPS) or 0) + 1)
                database.set_meta(_STOPPED_BY, by)
            case _:
                pass


def standing(database: Database) -> Standing:
    """How the campaign of a journal stands. Walks through all recipients."""
    is_alive = is_database_held(os.path.realpath(database.path), LOCK)
    is_awaited = is_held(_wait_lock(database.path))
    with database.snapshot():
        said = dict(database.rows(_SAID))
        (counts,) = database.rows(_COUNTS)
        ((rejected,),) = database.rows("SELECT count(*) FROM aside")
        ((calls, started, ended, throttled),) = database.rows(_CALLS)
        credit_texts = database.rows("SELECT credits FROM batch WHERE credits <> ''")
        error, error_at = next(iter(database.rows(_ERROR)), (None, None))
        return Standing(
            now=time.time(),
            orders=orders_in(database),
            sender=said.get(_SENDER),
            is_alive=is_alive,
            since=said.get(_SINCE),
            activity=Activity(said.get(_ACTIVITY) or Activity.SENDING),
            why=said.get(_WHY) or "",
            waiter=Waiter(said[_WAITER], said[_WAITER_SINCE]) if is_awaited and _WAITER in said else None,
            counts=with_rejected(zip(RecipientState, map(int, counts), strict=True), rejected),
            without_picture=without_picture(database),
            list_read=said.get("list_read") == 1,
            calls=calls,
            credits_used=sum((Decimal(text) for (text,) in credit_texts), Decimal(0)),
            started=started,
            ended=ended,
            ends=database.rows(_ENDS),
            error=error,
            error_at=error_at,
            throttled=throttled,
            failures=[FailedCall(*row) for row in database.rows(_FAILURES)],
        )
