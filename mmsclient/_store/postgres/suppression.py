"""A suppression list in PostgreSQL, for any number of machines: one in each schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mmsclient._store.errors import JournalUnavailableError
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database, Transaction, columns, storable
from mmsclient._store.postgres.migrations import migrate
from mmsclient._store.suppression import Entry, Request, SuppressionStore, Unread

__all__ = ["PostgresSuppression", "suppression_in_database"]


def suppression_in_database(address: Address) -> SuppressionStore:
    """A list in a database. The tables are made by the first that is added, if they are missing."""
    return SuppressionStore(address.shown, partial(PostgresSuppression, address))


class PostgresSuppression:
    """A `SuppressionCommitter`."""

    shared_failures = (JournalUnavailableError,)

    def __init__(self, address: Address) -> None:
        self._database = Database(address)
        self._has_tables = False

    def commit(self, requests: Sequence[Request[Any]], /) -> list[Any]:
        """Run them in one transaction."""
        reads = all(request.reads for request in requests)
        if not reads and not self._has_tables:
            migrate(self._database)
            self._has_tables = True

        def work(transaction: Transaction) -> list[Any]:
            tables = _Tables(transaction)
            return [request.run(tables) for request in requests]

        return self._database.run(work, reads=reads)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


class _Tables:
    """The list, within a transaction. Rows are written in the order of their keys, so that two writers never lock each
    other out."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, entries: Sequence[Entry]) -> int:
        rows = sorted((entry.phone, storable(entry.reason), entry.added) for entry in entries)
        return self._transaction.execute(_ADD, columns(rows, 3))

    def remove(self, phones: Sequence[int]) -> int:
        return self._transaction.execute(_REMOVE, (list(phones),))

    def among(self, phones: Sequence[int]) -> list[Entry]:
        sql = f"{_ENTRIES} WHERE phone = ANY(%s)"
        return [Entry(*row) for row in self._transaction.rows(sql, (list(phones),))]

    def page(self, after: int, limit: int) -> list[Entry]:
        sql = f"{_ENTRIES} WHERE phone > %s ORDER BY phone LIMIT %s"
        return [Entry(*row) for row in self._transaction.rows(sql, (after, limit))]

    def reasons(self) -> Mapping[str, int]:
        sql = "SELECT reason, count(*) FROM suppressed GROUP BY reason ORDER BY reason"
        return dict(self._transaction.rows(sql))

    def note_unread(self, numbers: Sequence[Unread]) -> int:
        rows = sorted((storable(number.given), storable(number.reason), number.added) for number in numbers)
        return self._transaction.execute(_NOTE, columns(rows, 3))

    def forget_unread(self, given: Sequence[str]) -> int:
        return self._transaction.execute(_FORGET, ([storable(each) for each in given],))

    def unread(self) -> list[Unread]:
        sql = "SELECT given, reason, extract(epoch FROM added)::float8 FROM unreadable ORDER BY added, given"
        return [Unread(*row) for row in self._transaction.rows(sql)]


_ENTRIES = "SELECT phone, reason, extract(epoch FROM added)::float8 FROM suppressed"
_ADD = """
INSERT INTO suppressed (phone, reason, added)
SELECT phone, reason, to_timestamp(added) FROM unnest(%s::bigint[], %s::text[], %s::float8[])
AS new (phone, reason, added) ON CONFLICT DO NOTHING
"""
_REMOVE = """
WITH gone AS (SELECT phone FROM suppressed WHERE phone = ANY(%s) ORDER BY phone FOR UPDATE)
DELETE FROM suppressed USING gone WHERE suppressed.phone = gone.phone
"""
_NOTE = """
INSERT INTO unreadable (given, reason, added)
SELECT given, reason, to_timestamp(added) FROM unnest(%s::text[], %s::text[], %s::float8[])
AS new (given, reason, added) ON CONFLICT DO NOTHING
"""
_FORGET = """
WITH gone AS (SELECT given FROM unreadable WHERE given = ANY(%s) ORDER BY given FOR UPDATE)
DELETE FROM unreadable USING gone WHERE unreadable.given = gone.given
"""
