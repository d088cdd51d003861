"""The outbox in a SQLite file on a local disk: any number of processes put, one sends.

Every commit is flushed to the disk (`synchronous=FULL`).
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mmsclient._store.file_lock import DatabaseLock
from mmsclient._store.models import Owner, RecipientState
from mmsclient._store.outbox import (
    MOST_COUNTED,
    Candidate,
    HeldOrder,
    HeldRecipient,
    Order,
    OrderEnd,
    OutboxClaim,
    OutboxDue,
    OutboxFigures,
    OutboxState,
    chosen,
)
from mmsclient._store.outbox_evidence import replaces_proof
from mmsclient._store.outbox_resends import died, end_again, set_aside, taken_back, told_of_each
from mmsclient._store.sqlite_database import Database, translated_errors
from mmsclient._store.sqlite_outbox_ends import end_order, forget, next_number
from mmsclient._store.sqlite_outbox_evidence import SQLiteOutboxRecorder, settle, settle_all
from mmsclient._store.sqlite_outbox_files import OutboxFile, lock_worker, open_outbox
from mmsclient._store.sqlite_outbox_owner import belong_to
from mmsclient.errors import KeyReusedError

__all__ = ["SQLiteOutbox", "SQLiteOutboxWorker"]

T = TypeVar("T")

_SELECT = (
    "SELECT id, key, text, subject, picture, state, put, not_before, claimed, ended, attempts, number, result,"
    " (SELECT json_group_array(json_array(phone, state, message_id, proven))"
    " FROM (SELECT phone, state, message_id, proven FROM recipient WHERE recipient.outbox = outbox.id"
    " ORDER BY position))"
    " FROM outbox"
)
_PUT = (
    "INSERT INTO outbox (key, text, subject, picture, message, put, not_before, due)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, max(?, coalesce(?, 0)))"
)
_EQUAL = (
    "SELECT id, key, attempts, together, (SELECT json_group_array(phone) FROM (SELECT phone FROM recipient"
    " WHERE recipient.outbox = outbox.id AND (recipient.state IS NULL OR recipient.state = 'unknown')"
    " ORDER BY position)) FROM outbox WHERE state = 'waiting' AND message = ? AND due <= ? ORDER BY due, id LIMIT 1000"
)
_CLAIM = "UPDATE outbox SET state = 'sending', claim = ?, claimed = ?, attempts = attempts + 1 WHERE id = ?"
_WAIT = (
    "UPDATE outbox SET state = 'waiting', due = ?, together = ?, ended = NULL, number = NULL, result = ?, proven = 0"
    " WHERE id = ?"
)
_RESEND = (
    "UPDATE outbox SET state = 'waiting', due = ?, doubted = ifnull(doubted, claimed), claim = NULL, ended = NULL,"
    " number = NULL, result = ? WHERE id = ?"
)
_ACCEPTED = "SELECT EXISTS (SELECT 1 FROM recipient WHERE outbox = ? AND state = 'accepted')"
_DUE = (  # by these indexes, since the planner would take others, and sort
    "SELECT count(*), min(max(put, ifnull(not_before, put))), (SELECT count(*) FROM (SELECT 1 FROM outbox"
    " INDEXED BY outbox_unsettled WHERE state = 'unknown' LIMIT ?1)) FROM (SELECT put, not_before FROM outbox"
    " INDEXED BY outbox_waiting WHERE state = 'waiting' ORDER BY due, id LIMIT ?1)"
    " WHERE not_before IS NULL OR not_before <= ?2"
)
_COUNTS = "SELECT state, count(*) FROM outbox GROUP BY state"


class SQLiteOutbox:
    """An `OutboxStore` in the file `path`, which is made if it is not there, unless `make` is False.

    `keep`: asks for so many seconds that orders are kept.
    """

    def __init__(self, path: str | os.PathLike[str], *, make: bool = True, keep: float | None = None) -> None:
        self._path = Path(os.path.realpath(path))
        self._make = make
        self._open = partial(open_outbox, self._path, make=make, keep=keep)
        self._file: OutboxFile | None = None

    @property
    def shown(self) -> str:
        """The path."""
        return str(self._path)

    identity = shown

    def put(self, order: Order) -> HeldOrder:
        """See `OutboxStore.put`."""

        def work(database: Database) -> HeldOrder:
            held = _find(database, order.key)
            if held is None:
                _insert(database, order)
                held = _find(database, order.key)
            assert held is not None  # noqa: S101
            if differences := held.differences(order):
                raise KeyReusedError(order.key, differences)
            return held

        return self._write(work)

    def find(self, key: str) -> HeldOrder | None:
        """See `OutboxStore.find`."""
        return self._read(lambda database: _find(database, key))

    def cancel(self, key: str) -> bool:
        """See `OutboxStore.cancel`."""

        def work(database: Database) -> bool:
            waiting = database.rows("SELECT id, result FROM outbox WHERE key = ? AND state = 'waiting'", (key,))
            for id_, result in waiting:
                if (unknown := taken_back(result)) is not None:
                    database.execute("UPDATE outbox SET claim = NULL WHERE id = ?", (id_,))
                    end_order(database, id_, OutboxState.UNKNOWN, unknown)
                    continue
                sql = "UPDATE outbox SET state = 'cancelled', ended = ?, number = ? WHERE id = ?"
                database.execute(sql, (time.time(), next_number(database), id_))
            return bool(waiting)

        return self._write(work)

    def resend(self, key: str) -> bool:
        """See `OutboxStore.resend`."""

        def work(database: Database) -> bool:
            unknown = database.rows("SELECT id, result FROM outbox WHERE key = ? AND state = 'unknown'", (key,))
            for id_, result in unknown:
                database.execute(_RESEND, (time.time(), set_aside(result), id_))
            return bool(unknown)

        return self._write(work)

    def figures(self) -> OutboxFigures:
        """See `OutboxStore.figures`."""

        def work(database: Database) -> OutboxFigures:
            counts = dict.fromkeys(OutboxState, 0)
            counts |= {OutboxState(state): count for state, count in database.rows(_COUNTS)}
            ((due,),) = database.rows("SELECT min(due) FROM outbox WHERE state = 'waiting'")
            return OutboxFigures(counts, due if due is not None and due <= time.time() else None)

        return self._read(work)

    def listed(self, state: OutboxState | None, after: int, limit: int) -> list[HeldOrder]:
        """See `OutboxStore.listed`."""
        sql = f"{_SELECT} WHERE id > ? AND (? IS NULL OR state = ?) ORDER BY id LIMIT ?"
        return self._read(lambda database: [_held(row) for row in database.rows(sql, (after, state, state, limit))])

    def ended(self, after: int, limit: int) -> list[HeldOrder]:
        """See `OutboxStore.ended`."""
        sql = f"{_SELECT} WHERE number > ? ORDER BY number LIMIT ?"
        return self._read(lambda database: [_held(row) for row in database.rows(sql, (after, limit))])

    def last_number(self) -> int:
        """See `OutboxStore.last_number`."""
        return self._read(lambda database: int(database.meta("last_number") or 0))

    async def listen(self, on_news: Callable[[], object]) -> None:
        """Nothing tells of what other processes do: whoever waits for it looks."""

    def open_recorder(self) -> SQLiteOutboxRecorder:
        """See `OutboxStore.open_recorder`."""
        return SQLiteOutboxRecorder(self._path, make=self._make)

    def settle(self) -> int:
        """See `OutboxStore.settle`."""

        def work(database: Database) -> int:
            _lose(database)
            return settle_all(database)

        file = self._opened()
        lock = lock_worker(self._path)
        try:
            return _written(file, work)
        finally:
            lock.release()

    def open_worker(self, owner: Owner) -> SQLiteOutboxWorker:
        """See `OutboxStore.open_worker`."""
        lock = lock_worker(self._path)
        try:
            return SQLiteOutboxWorker(self._open(), lock, owner)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """See `OutboxStore.close`."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> OutboxFile:
        if self._file is None:
            self._file = self._open()
        return self._file

    def _write(self, work: Callable[[Database], T]) -> T:
        return _written(self._opened(), work)

    def _read(self, work: Callable[[Database], T]) -> T:
        return _read(self._opened(), work)


class SQLiteOutboxWorker:
    """The `OutboxWorkerStore` of the one worker that a file has; `lock` says that it is this one."""

    def __init__(self, file: OutboxFile, lock: DatabaseLock, owner: Owner) -> None:
        self._file = file
        self._lock = lock
        try:
            file.hold_log(lock)
            _written(file, lambda database: belong_to(database, str(file.path), owner))
            self._lost = _written(file, _lose_and_settle)
        except BaseException:
            file.database.close()
            raise

    may_send: bool = True
    """The lock is the operating system's: nobody takes over as long as the process lives."""

    def claim(self) -> OutboxClaim | None:
        """See `OutboxWorkerStore.claim`."""

        def work(database: Database) -> OutboxClaim | None:
            now = time.time()
            sql = "SELECT message FROM outbox WHERE state = 'waiting' AND due <= ? ORDER BY due, id LIMIT 1"
            first = database.rows(sql, (now,))
            if not first:
                return None
            found = database.rows(_EQUAL, (first[0][0], now))
            taken = chosen([Candidate(i, key, tuple(json.loads(phones)), a, t) for i, key, a, t, phones in found])
            claim = secrets.token_hex(12)
            database.execute_many(_CLAIM, [(claim, now, each.id) for each in taken])
            sql = (
                "SELECT text, subject, data FROM outbox JOIN picture ON picture.sha256 = outbox.picture"
                " WHERE outbox.id = ?"
            )
            ((text, subject, picture),) = database.rows(sql, (taken[0].id,))
            return OutboxClaim(claim, text, subject, bytes(picture), tuple(taken))

        return _written(self._file, work)

    def finish(self, claim: OutboxClaim, ends: Sequence[OrderEnd]) -> int:
        """See `OutboxWorkerStore.finish`."""

        def work(database: Database) -> int:
            return sum(_finish(database, claim.id, order, end) for order, end in zip(claim.orders, ends, strict=True))

        return _written(self._file, work)

    def due(self) -> OutboxDue:
        """See `OutboxWorkerStore.due`."""
        now = time.time()
        ((count, oldest, unknown),) = _read(self._file, lambda database: database.rows(_DUE, (MOST_COUNTED, now)))
        return OutboxDue(count, max(0.0, now - oldest) if count else 0.0, unknown)

    def lose_dead(self) -> int:
        """Those that the worker before this one had left; found when this one was opened, since it has the lock."""
        lost, self._lost = self._lost, 0
        return lost

    def settle(self) -> int:
        """See `OutboxWorkerStore.settle`."""
        return _written(self._file, settle_all)

    def purge(self, keep: float | None = None) -> None:
        """See `OutboxWorkerStore.purge`."""
        _written(self._file, lambda database: forget(database, keep))

    def close(self) -> None:
        """See `OutboxWorkerStore.close`."""
        self._file.close()
        self._lock.release()


def _read(file: OutboxFile, work: Callable[[Database], T]) -> T:
    file.check()
    with translated_errors(str(file.path)), file.database.snapshot():
        return work(file.database)


def _written(file: OutboxFile, work: Callable[[Database], T]) -> T:
    file.check()
    with translated_errors(str(file.path)), file.database.transaction():
        return work(file.database)


def _insert(database: Database, order: Order) -> None:
    sha256, now = order.picture_sha256, time.time()
    database.execute("INSERT OR IGNORE INTO picture VALUES (?, ?)", (sha256, order.picture))
    message = (order.key, order.text, order.subject, sha256, order.message)
    added = database.execute(_PUT, (*message, now, order.not_before, now, order.not_before)).lastrowid
    sql = "INSERT INTO recipient (outbox, phone, position) VALUES (?, ?, ?)"
    database.execute_many(sql, [(added, phone, position) for position, phone in enumerate(order.phones)])


def _find(database: Database, key: str) -> HeldOrder | None:
    rows = database.rows(f"{_SELECT} WHERE key = ?", (key,))
    return _held(rows[0]) if rows else None


def _held(row: Sequence[Any]) -> HeldOrder:
    id_, key, text, subject, picture, state, put, not_before, claimed, ended, attempts, number, result, phones = row
    recipients = tuple(
        HeldRecipient(phone, None if of_it is None else RecipientState(of_it), message_id, bool(proven))
        for phone, of_it, message_id, proven in json.loads(phones)
    )
    return HeldOrder(
        id=id_,
        key=key,
        text=text,
        subject=subject,
        picture_sha256=picture,
        recipients=recipients,
        state=OutboxState(state),
        put_at=put,
        not_before=not_before,
        claimed_at=claimed,
        ended_at=ended,
        attempts=attempts,
        number=number,
        result={} if result is None else json.loads(result),
    )


def _finish(database: Database, claim: str, order: Candidate, end: OrderEnd) -> bool:
    sql = "SELECT state, proven, doubted IS NOT NULL, result FROM outbox WHERE id = ? AND claim = ?"
    if not (found := database.rows(sql, (order.id, claim))):
        return False
    state, is_proven, is_doubted, former = found[0]
    if is_proven:
        if not replaces_proof(end, is_doubted=is_doubted):
            return True
    elif state not in (OutboxState.SENDING, OutboxState.UNKNOWN) or state == end.state:
        return True  # it was recorded before
    sql = "UPDATE recipient SET state = ?, message_id = ?, proven = 0 WHERE outbox = ? AND phone = ?"
    told = zip(order.phones, told_of_each(end, is_doubted=is_doubted), strict=True)
    rows = [(state, message_id, order.id, phone, keeps) for phone, (state, message_id, keeps) in told]
    database.execute_many(f"{sql} AND NOT (proven AND ?)", rows)
    if is_doubted:
        ((is_accepted,),) = database.rows(_ACCEPTED, (order.id,))
        end = end_again(former, end, is_accepted=is_accepted)
    result = json.dumps(dict(end.result))
    if end.state is OutboxState.WAITING:
        database.execute(_WAIT, (time.time() + end.delay, end.together, result, order.id))
    else:
        end_order(database, order.id, end.state, result)
    settle(database, order.id)
    return True


def _lose(database: Database) -> int:
    """What the worker before was sending is unknown."""
    lost = database.rows("SELECT id, result FROM outbox WHERE state = 'sending' ORDER BY id")
    for id_, result in lost:
        end_order(database, id_, OutboxState.UNKNOWN, died(result))
    return len(lost)


def _lose_and_settle(database: Database) -> int:
    lost = _lose(database)
    settle_all(database)
    return lost
