"""Notes delivery reports and replies in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from mmsclient._store.heard import ARRIVED_AFTER_ALL, Heard, gathered
from mmsclient._store.postgres import evidence, outbox_evidence
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database, Transaction, columns, storable
from mmsclient._store.postgres.migrations import migrate

__all__ = ["HeardInDatabase", "PostgresRecorder"]

_RECORD = f"""
INSERT INTO delivery
SELECT message_id, phone, status, final, clock_timestamp()
FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::boolean[]) WITH ORDINALITY
AS news (message_id, phone, status, final, place) ORDER BY place
ON CONFLICT (message_id, phone) DO UPDATE
SET status = excluded.status, final = excluded.final, reported = excluded.reported
WHERE NOT delivery.final OR {ARRIVED_AFTER_ALL}
"""  # noqa: S608 - our own constants


class PostgresRecorder:
    """Notes what was heard, for all that is in the store; any number may, also while senders write."""

    is_current = True

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, heard: Sequence[Heard]) -> None:
        """Note what was heard, and what it proves, in one transaction. See `ReportRecorder.record`."""
        found = gathered(heard, storable)
        deliveries = [(*delivery, *status) for delivery, status in found.deliveries.items()]

        def work(transaction: Transaction) -> None:
            news = evidence.news(transaction, found)
            phones = [phone for phone, *_ in news]
            may_prove, orders = False, list[int]()
            if news:
                may_prove = evidence.lock(transaction, phones)
                orders = outbox_evidence.lock(transaction, phones)
                evidence.note(transaction, news)
            if deliveries:
                transaction.execute(_RECORD, columns(deliveries, 4))
            if may_prove:
                evidence.settle_heard(transaction, phones)
            outbox_evidence.settle(transaction, orders)

        self._database.run(work)

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._database.close()


@frozen
class HeardInDatabase:
    """A `Recordable`: a database, whose tables are made if they are not there, whatever else is in it."""

    address: Address

    @property
    def shown(self) -> str:
        """Host and database."""
        return self.address.shown

    def open_recorder(self) -> PostgresRecorder:
        """Open a connection of its own."""
        database = Database(self.address)
        try:
            migrate(database)
        except BaseException:
            database.close()
            raise
        return PostgresRecorder(database)
