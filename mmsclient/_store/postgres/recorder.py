"""Notes delivery reports and replies in PostgreSQL."""

from __future__ import annotations

from mmsclient._store.postgres import evidence
from mmsclient._store.postgres.database import Database, Transaction, storable
from mmsclient.models import DeliveryStatus

__all__ = ["PostgresRecorder"]

_RECORD = """
INSERT INTO delivery VALUES (%s, %s, %s, %s, clock_timestamp())
ON CONFLICT (message_id, phone) DO UPDATE
SET status = excluded.status, final = excluded.final, reported = excluded.reported WHERE NOT delivery.final
"""


class PostgresRecorder:
    """Notes what was heard, for all campaigns of the store; any number may, also while senders write."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, message_id: str, phone: int, status: DeliveryStatus) -> None:
        """Note what a delivery report said, and what it proves. A final status stays; the same may come again.

        Args:
            message_id: Of the message that it is about.
            phone: The digits of its recipient, 0 where it names none.
            status: What became of the message.
        """

        def work(transaction: Transaction) -> None:
            is_news = evidence.note(transaction, message_id, phone)
            transaction.execute(_RECORD, (storable(message_id), phone, storable(status.value), status.is_final))
            if is_news:
                evidence.settle_heard(transaction, phone)

        self._database.run(work)

    def record_reply(self, message_id: str, phone: int, received: float | None) -> None:
        """Note that a phone replied to a message. The same reply may come again.

        Args:
            message_id: Of the message that it replies to.
            phone: The digits of the sender.
            received: Unix seconds at which the reply came, None where that is not known.
        """

        def work(transaction: Transaction) -> None:
            if evidence.note(transaction, message_id, phone, received):
                evidence.settle_heard(transaction, phone)

        self._database.run(work)

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._database.close()
