"""The outbox in PostgreSQL: any number of machines put, and any number of workers send."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from mmsclient._store.errors import JournalError
from mmsclient._store.models import Owner
from mmsclient._store.outbox import HeldOrder, Order, OutboxFigures, OutboxState
from mmsclient._store.outbox_resends import set_aside, taken_back
from mmsclient._store.postgres import retention
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.migrations import check_version, migrate
from mmsclient._store.postgres.outbox_ends import end_orders
from mmsclient._store.postgres.outbox_evidence import settle_all
from mmsclient._store.postgres.outbox_rows import CHANNEL, Placeholders, Statement, held, put_statement, select
from mmsclient._store.postgres.outbox_worker import PostgresOutboxWorker, lose_dead
from mmsclient._store.postgres.recorder import PostgresRecorder
from mmsclient._threads import Threads
from mmsclient.errors import KeyReusedError

__all__ = ["Connection", "PostgresOutbox"]

Connection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
"""A connection of the caller's, in whose transaction an order is put."""

_CANCEL = """
UPDATE outbox SET state = 'cancelled', ended = clock_timestamp(), number = %s WHERE key = %s AND state = 'waiting'
"""
_RESEND = """
UPDATE outbox SET state = 'waiting', due = clock_timestamp(), doubted = coalesce(doubted, claimed),
    sender = NULL, ended = NULL, number = NULL, result = %s
WHERE id = %s
"""
_DUE = "SELECT extract(epoch FROM min(due)) FROM outbox WHERE state = 'waiting' AND due <= clock_timestamp()"

LISTEN_AGAIN = 1.0
"""Seconds between the attempts to listen for notifications."""

_CALLERS = Threads(math.inf)
"""For connections of the caller's: one may wait for the transaction of another, which goes on with its next order."""

NO_TABLES = "there are no tables of the outbox; `mmsclient store migrate` makes them, and so does the first worker"


class PostgresOutbox:
    """An `OutboxStore` in a database, whose tables are made where they are missing, unless `make` is False.

    `keep`: asks for so many seconds that orders are kept.
    """

    def __init__(self, address: Address, *, make: bool = True, keep: float | None = None) -> None:
        self.address = address
        self._make = make
        self._keep = keep
        self._database = Database(address)
        self._is_ready = False

    @property
    def shown(self) -> str:
        """Host and database."""
        return self.address.shown

    @property
    def identity(self) -> str:
        """Host, database, port and schema."""
        return f"{self.shown} {self.address.conninfo.get('port')} {self.address.schema}"

    def put(self, order: Order) -> HeldOrder:
        """See `OutboxStore.put`."""
        statement = put_statement(order, self.address.schema, "pyformat", strict=False)

        def work(transaction: Transaction) -> HeldOrder:
            (differences,) = transaction.row(statement.sql, statement.parameters)
            if differences:
                raise KeyReusedError(order.key, tuple(differences))
            return held(transaction.row(select("key = %s"), (order.key,)))

        return self._ready().run(work)

    async def put_within(self, connection: Connection, order: Order) -> HeldOrder:
        """Put an order in the transaction of `connection`, whose own errors are raised as they are.

        Raises:
            KeyReusedError: There is another order with the key; the transaction may go on.
            JournalError: There are no tables.
        """
        statement = put_statement(order, self.address.schema, "pyformat", strict=False)
        find = select("key = %s", self.address.schema)
        try:
            if isinstance(connection, psycopg.AsyncConnection):
                async with connection.cursor(row_factory=tuple_row) as cursor:
                    await cursor.execute(statement.sql.encode(), statement.parameters)
                    put = await cursor.fetchone()
                    await cursor.execute(find.encode(), (order.key,))
                    found = await cursor.fetchone()
            else:
                put, found = await _CALLERS.run(_put_within, connection, statement, find, order.key)
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
            raise JournalError(self.shown, NO_TABLES) from None
        assert put is not None  # noqa: S101
        assert found is not None  # noqa: S101
        if put[0]:
            raise KeyReusedError(order.key, tuple(put[0]))
        return held(found)

    def statement(self, order: Order, placeholders: Placeholders) -> Statement:
        """What puts an order in a transaction of any driver."""
        return put_statement(order, self.address.schema, placeholders, strict=True)

    def find(self, key: str) -> HeldOrder | None:
        """See `OutboxStore.find`."""
        found = self._ready().run(lambda transaction: transaction.row(select("key = %s"), (key,)), reads=True)
        return None if found is None else held(found)

    def cancel(self, key: str) -> bool:
        """See `OutboxStore.cancel`."""

        def work(transaction: Transaction) -> bool:
            sql = "SELECT state, id, result FROM outbox WHERE key = %s FOR UPDATE"
            row = transaction.row(sql, (key,))
            if row is None or row[0] != OutboxState.WAITING:
                return transaction.is_repeated and row is not None and row[0] == OutboxState.CANCELLED
            _, id_, result = row
            if (unknown := taken_back(result)) is not None:
                transaction.execute("UPDATE outbox SET claim = NULL WHERE id = %s", (id_,))
                end_orders(transaction, [(id_, OutboxState.UNKNOWN, unknown)])
                return True
            (number,) = transaction.row("UPDATE outbox_fact SET last_number = last_number + 1 RETURNING last_number")
            transaction.execute(_CANCEL, (number, key))
            transaction.execute("SELECT pg_notify(%s, current_schema)", (CHANNEL,))
            return True

        return self._ready().run(work)

    def resend(self, key: str) -> bool:
        """See `OutboxStore.resend`."""

        def work(transaction: Transaction) -> bool:
            sql = "SELECT id, result FROM outbox WHERE key = %s AND state = 'unknown' FOR UPDATE"
            if (unknown := transaction.row(sql, (key,))) is None:
                return False
            id_, result = unknown
            transaction.execute(_RESEND, (set_aside(result), id_))
            transaction.execute("SELECT pg_notify(%s, current_schema)", (CHANNEL,))
            return True

        return self._ready().run(work)

    def figures(self) -> OutboxFigures:
        """See `OutboxStore.figures`."""

        def work(transaction: Transaction) -> OutboxFigures:
            counts = dict.fromkeys(OutboxState, 0)
            rows = transaction.rows("SELECT state, count(*) FROM outbox GROUP BY state")
            counts |= {OutboxState(state): count for state, count in rows}
            (due,) = transaction.row(_DUE)
            return OutboxFigures(counts, None if due is None else float(due))

        return self._ready().run(work, reads=True)

    def listed(self, state: OutboxState | None, after: int, limit: int) -> list[HeldOrder]:
        """See `OutboxStore.listed`."""
        sql = select("id > %s AND (%s::text IS NULL OR state = %s) ORDER BY id LIMIT %s")
        return self._held(sql, (after, state, state, limit))

    def ended(self, after: int, limit: int) -> list[HeldOrder]:
        """See `OutboxStore.ended`."""
        return self._held(select("number > %s ORDER BY number LIMIT %s"), (after, limit))

    def last_number(self) -> int:
        """See `OutboxStore.last_number`."""
        sql = "SELECT last_number FROM outbox_fact"
        return int(self._ready().run(lambda transaction: transaction.row(sql), reads=True)[0])

    async def listen(self, on_news: Callable[[], object]) -> None:
        """See `OutboxStore.listen`."""
        while True:
            with suppress(psycopg.Error):  # also an event loop that cannot watch a connection: others look each second
                await self._listen(on_news)
            await asyncio.sleep(LISTEN_AGAIN)

    async def _listen(self, on_news: Callable[[], object]) -> None:
        conninfo = self.address.conninfo
        async with await psycopg.AsyncConnection.connect(
            **conninfo, autocommit=True, prepare_threshold=None
        ) as listener:
            await listener.execute(f"LISTEN {CHANNEL}".encode())
            on_news()
            async for notice in listener.notifies():
                if notice.payload == self.address.schema:
                    on_news()

    def open_recorder(self) -> PostgresRecorder:
        """See `OutboxStore.open_recorder`. What it proves of campaigns and keyed sends counts, too."""
        database = Database(self.address)
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return PostgresRecorder(database)

    def settle(self) -> int:
        """See `OutboxStore.settle`."""

        def work(transaction: Transaction) -> int:
            lose_dead(transaction)
            return settle_all(transaction)

        return self._ready().run(work)

    def open_worker(self, owner: Owner) -> PostgresOutboxWorker:
        """See `OutboxStore.open_worker`."""
        self._ready()
        return PostgresOutboxWorker(self.address, owner)

    def close(self) -> None:
        """See `OutboxStore.close`."""
        self._database.close()

    def _held(self, sql: str, values: tuple[object, ...]) -> list[HeldOrder]:
        return [held(row) for row in self._ready().run(lambda transaction: transaction.rows(sql, values), reads=True)]

    def _ready(self) -> Database:
        """The database, with its tables."""
        if not self._is_ready:
            self._prepare(self._database)
            if self._keep is not None:
                self._database.run(lambda transaction: retention.ask(transaction, "outbox", self._keep))
            self._is_ready = True
        return self._database

    def _prepare(self, database: Database) -> None:
        if self._make:
            migrate(database)
        elif not check_version(database):
            raise JournalError(self.shown, NO_TABLES)


def _put_within(
    connection: psycopg.Connection[Any], statement: Statement, find: str, key: str
) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        put = cursor.execute(statement.sql.encode(), statement.parameters).fetchone()
        return put, cursor.execute(find.encode(), (key,)).fetchone()
