"""Which callbacks were handled, in PostgreSQL, for any number of machines."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import psycopg

from mmsclient._store import handled_events
from mmsclient._store.errors import JournalUnavailableError
from mmsclient._store.handled_events import (
    KEPT,
    PURGE_EVERY,
    Confirm,
    EventResult,
    EventWrite,
    Extend,
    HandledEvents,
    Release,
    Reservation,
    Reserve,
)
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import LOCKED, Database, Transaction, columns, storable
from mmsclient._store.postgres.migrations import migrate
from mmsclient._store.shared_reports import Look, Looked, digests
from mmsclient.models import DeliveryReport, DeliveryStatus

__all__ = ["PostgresEvents", "events_in_database", "listen"]

AWAITED = 5.0
"""Seconds that a look says that something is awaited."""


def events_in_database(address: Address, *, lease: float | None = None) -> HandledEvents:
    """Events in a database, which is opened when it is needed. `lease`: `LEASE` if left out."""
    seconds = handled_events.LEASE if lease is None else lease
    connect = partial(PostgresEvents, address, seconds)
    return HandledEvents(connect, lease=seconds, listen=partial(listen, address))


class PostgresEvents:
    """An `EventStore`, whose leases run on the database's clock. Makes the tables where they are missing.

    Each kind of write has a transaction of its own, which locks its events in the order of their keys: else two
    machines could wait for each other.
    """

    shared_failures = (JournalUnavailableError,)

    def __init__(self, address: Address, lease: float) -> None:
        self._database = Database(address)
        self._owner = secrets.token_hex(8)
        self._lease = lease
        self._confirmed = 0
        self._channel = _channel(address)
        try:
            migrate(self._database)
            self._clear()
            self._database.lock_timeout = LOCKED
        except BaseException:
            self._database.close()
            raise

    def commit(self, writes: Sequence[EventWrite], /) -> list[EventResult]:
        """Commit all."""
        self._confirm({write.key: write.report for write in writes if isinstance(write, Confirm)})
        self._change(_RELEASE, {write.key for write in writes if isinstance(write, Release)}, self._owner)
        extended = {key for write in writes if isinstance(write, Extend) for key in write.keys}
        self._change(_EXTEND, extended, self._owner, self._lease)
        reservations = self._reserve({write.key for write in writes if isinstance(write, Reserve)})
        return [
            reservations[write.key]
            if isinstance(write, Reserve)
            else self._look(write)
            if isinstance(write, Look)
            else None
            for write in writes
        ]

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _change(self, sql: str, keys: Iterable[bytes], *values: object) -> None:
        if found := sorted(keys):
            self._database.run(lambda transaction: transaction.execute(sql, (found, *values)))

    def _confirm(self, reports: dict[bytes, DeliveryReport | None]) -> None:
        if not reports:
            return
        rows = [(key, self._owner, *_kept(report)) for key, report in sorted(reports.items(), key=lambda item: item[0])]
        awaited = [report.message_id for report in reports.values() if report is not None]

        def work(transaction: Transaction) -> None:
            transaction.execute(_CONFIRM, columns(rows, 7))
            if awaited:
                transaction.execute("SELECT pg_notify(%s, %s)", (self._channel, digests(awaited)))

        self._database.run(work)
        self._confirmed += len(rows)
        if self._confirmed >= PURGE_EVERY:
            self._confirmed = 0
            self._clear()

    def _reserve(self, keys: set[bytes]) -> dict[bytes, Reservation]:
        wanted = sorted(keys)

        def work(transaction: Transaction) -> dict[bytes, Reservation]:
            ours = transaction.rows(_RESERVE, (self._owner, self._lease, wanted))
            found = dict.fromkeys((key for (key,) in ours), Reservation.OURS)
            if len(found) < len(wanted):
                sql = "SELECT key, handled FROM event WHERE key = ANY(%s)"
                for key, handled in transaction.rows(sql, ([key for key in wanted if key not in found],)):
                    found[key] = Reservation.HANDLED if handled else Reservation.ELSEWHERE
            return {key: found.get(key, Reservation.ELSEWHERE) for key in wanted}

        return self._database.run(work) if wanted else {}

    def _look(self, look: Look) -> Looked:
        awaited = sorted((str(storable(message_id)), phone) for message_id, phone in look.awaited)
        offered = [storable(message_id) for message_id in look.offered]

        def work(transaction: Transaction) -> Looked:
            if awaited:
                rows = transaction.rows(_AWAIT, (self._owner, AWAITED, *columns(awaited, 2)))
                if new := [message_id for message_id, is_new in rows if is_new]:
                    transaction.execute("SELECT pg_notify(%s, %s)", (self._channel, digests(new)))
            reports = transaction.rows(_REPORTS, ([message_id for message_id, _ in awaited],)) if awaited else []
            waiting = transaction.rows(_AWAITED, (offered, self._owner)) if offered else []
            return Looked(tuple(map(_report, reports)), tuple((row[0], row[1]) for row in waiting))

        return self._database.run(work)

    def _clear(self) -> None:
        """Forget what is older than `KEPT`."""

        def work(transaction: Transaction) -> None:
            sql = "DELETE FROM event WHERE until < clock_timestamp() - make_interval(secs => %s)"
            transaction.execute(sql, (KEPT,))
            transaction.execute("DELETE FROM awaited WHERE until < clock_timestamp()")

        self._database.run(work)


async def listen(address: Address, heard: Callable[[str], None]) -> None:
    """Call `heard` with "" once notifications come, and with each; a connection of its own. Behind a pooler none come.

    Raises:
        psycopg.Error: The connection was lost, or cannot be opened.
    """
    connection = await psycopg.AsyncConnection.connect(**address.conninfo, autocommit=True, prepare_threshold=None)
    async with connection:
        await connection.execute(f'LISTEN "{_channel(address)}"'.encode())
        heard("")
        async for notice in connection.notifies():
            heard(notice.payload)


def _channel(address: Address) -> str:
    """Of the schema; a name may be too long for it."""
    return f"mmsclient_{hashlib.blake2b(address.schema.encode(), digest_size=8).hexdigest()}"


def _kept(report: DeliveryReport | None) -> tuple[str | None, ...]:
    if report is None:
        return (None,) * 5
    texts = (report.message_id, report.status.value, report.recipient, report.custom_string, report.source)
    return tuple(map(storable, texts))


def _report(row: Sequence[str]) -> DeliveryReport:
    message_id, status, recipient, custom_string, source = row
    return DeliveryReport(
        message_id=message_id,
        status=DeliveryStatus(status),
        recipient=recipient,
        custom_string=custom_string,
        source=source,
    )


_RESERVE = """
INSERT INTO event (key, owner, until)
SELECT key, %s, clock_timestamp() + make_interval(secs => %s) FROM unnest(%s::bytea[]) AS wanted (key)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE NOT event.handled AND (event.owner = excluded.owner OR event.until < clock_timestamp()) RETURNING event.key
"""
_CONFIRM = """
INSERT INTO event (key, owner, until, handled, message_id, status, recipient, custom_string, source)
SELECT key, owner, clock_timestamp(), true, message_id, status, recipient, custom_string, source
FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
AS news (key, owner, message_id, status, recipient, custom_string, source)
ON CONFLICT (key) DO UPDATE SET handled = true, until = excluded.until, message_id = excluded.message_id,
    status = excluded.status, recipient = excluded.recipient, custom_string = excluded.custom_string,
    source = excluded.source
"""
_RELEASE = """
WITH mine AS (
    SELECT key FROM event WHERE key = ANY(%s) AND owner = %s AND NOT handled ORDER BY key FOR UPDATE
)
DELETE FROM event USING mine WHERE event.key = mine.key
"""
_EXTEND = """
WITH mine AS (
    SELECT key FROM event WHERE key = ANY(%s) AND owner = %s AND NOT handled ORDER BY key FOR UPDATE
)
UPDATE event SET until = clock_timestamp() + make_interval(secs => %s) FROM mine WHERE event.key = mine.key
"""
_AWAIT = """
INSERT INTO awaited (message_id, phone, waiter, until)
SELECT message_id, phone, %s, clock_timestamp() + make_interval(secs => %s)
FROM unnest(%s::text[], %s::text[]) AS wanted (message_id, phone)
ON CONFLICT (message_id, phone, waiter) DO UPDATE SET until = excluded.until RETURNING message_id, xmax = 0
"""
_REPORTS = """
SELECT message_id, status, recipient, custom_string, source FROM event
WHERE message_id = ANY(%s) AND handled ORDER BY until
"""
_AWAITED = """
SELECT message_id, phone FROM awaited WHERE message_id = ANY(%s) AND waiter <> %s AND until > clock_timestamp()
"""
