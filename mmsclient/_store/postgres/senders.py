"""Leases of senders that belong to no campaign: any number live side by side, each with claims of its own.

A sender claims under its lease's `id`, in a transaction that has passed `fence`. What it has left behind is found out
by `dead_among`, in the transaction that makes it unknown: from then on the sender can claim nothing more.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Self

from mmsclient._store.postgres import lease as leases
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.lease import Lease
from mmsclient._store.steering import sender_name

__all__ = ["SenderLease", "dead_among"]

_WRITE = """
INSERT INTO sender (id, name, until) VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (id) DO UPDATE SET until = excluded.until
"""
_RENEW = "UPDATE sender SET until = clock_timestamp() + make_interval(secs => %s) WHERE id = %s"
# One that is locked is being renewed, or found dead, at this moment; in order, so that two who do this never wait for
# each other.
_END_DEAD = """
DELETE FROM sender WHERE id IN (
    SELECT id FROM sender WHERE id = ANY(%s) AND until < clock_timestamp() ORDER BY id FOR UPDATE SKIP LOCKED
)
"""
_GONE = "SELECT id FROM unnest(%s::text[]) AS asked (id) WHERE NOT EXISTS (SELECT FROM sender WHERE id = asked.id)"
_END_FORGOTTEN = """
DELETE FROM sender WHERE id IN (
    SELECT id FROM sender WHERE until < clock_timestamp() - interval '1 day' ORDER BY id FOR UPDATE SKIP LOCKED
)
"""


class SenderLease(Lease):
    """The lease of one sender; see `acquire`."""

    def __init__(self, database: Database, sender: str, *, asked_at: float, seconds: float) -> None:
        self.id = sender
        super().__init__(database, asked_at=asked_at, seconds=seconds)

    @classmethod
    def acquire(cls, database: Database, mark: str = "") -> Self:
        """Begin a lease of a new sender, and keep it until it is given back or lost.

        Args:
            database: A connection for this alone; the tables are there.
            mark: What its id begins with, before a colon: workers of the outbox have none.

        Raises:
            JournalError: The database cannot be used.
        """
        random = secrets.token_hex(12)
        sender, seconds, asked_at = f"{mark}:{random}" if mark else random, leases.LEASE, leases.now()

        def work(transaction: Transaction) -> None:
            transaction.execute(_END_FORGOTTEN)
            transaction.execute(_WRITE, (sender, sender_name(), seconds))

        database.run(work)
        return cls(database, sender, asked_at=asked_at, seconds=seconds)

    def _renew(self, transaction: Transaction, seconds: float) -> bool:
        return transaction.execute(_RENEW, (seconds, self.id)) == 1

    def _release(self, transaction: Transaction) -> None:
        transaction.execute("DELETE FROM sender WHERE id = %s", (self.id,))


def dead_among(transaction: Transaction, senders: Collection[str]) -> list[str]:
    """Those of `senders` who are dead; none of them passes `fence` from then on.

    One who is renewing its lease at this moment is not among them, and one that has given it back is.
    """
    ids = list(senders)
    transaction.execute(_END_DEAD, (ids,))
    return [row[0] for row in transaction.rows(_GONE, (ids,))]
