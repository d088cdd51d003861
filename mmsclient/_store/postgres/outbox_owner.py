"""Whose an outbox in PostgreSQL is: one account's, from its first message on."""

from __future__ import annotations

from attrs import frozen

from mmsclient._store.errors import JournalMismatchError
from mmsclient._store.models import Owner
from mmsclient._store.ownership import BegunBy, objection_of, tell_of_another_key
from mmsclient._store.postgres.database import Transaction
from mmsclient._store.postgres.senders import dead_among

__all__ = ["belong_to"]

# Of other workers. The ids of who sends something else, or waits for reports, begin with a mark.
_OTHERS = "SELECT id FROM sender WHERE id <> %s AND position(':' IN id) = 0"
_HAS_SENT = """
SELECT last_number <> (SELECT count(*) FROM outbox WHERE state = 'cancelled')
    OR EXISTS (SELECT FROM outbox WHERE state = 'sending')
FROM outbox_fact
"""


@frozen
class _Outbox:
    path: str
    _transaction: Transaction
    _sender: str
    """Who asks."""

    def begun_by(self) -> BegunBy | None:
        sql = "SELECT base_url, key_salt, key_fingerprint FROM outbox_fact FOR UPDATE"
        base_url, salt, fingerprint = self._transaction.row(sql)
        return None if base_url is None else (base_url, bytes(salt), fingerprint)

    def has_sent(self) -> bool:
        """Or another worker may be about to."""
        others = {row[0] for row in self._transaction.rows(_OTHERS, (self._sender,))}
        return bool(others.difference(dead_among(self._transaction, others)) or self._transaction.row(_HAS_SENT)[0])


def belong_to(transaction: Transaction, shown: str, owner: Owner, sender: str) -> None:
    """From now on the outbox is for `owner` alone, for whom `sender` is about to send.

    Raises:
        JournalMismatchError: It is another owner's.
    """
    outbox = _Outbox(shown, transaction, sender)
    if objection := objection_of(outbox, owner, "orders"):
        raise JournalMismatchError(shown, objection)
    tell_of_another_key(outbox, owner, "outbox")
    sql = "UPDATE outbox_fact SET base_url = %s, key_salt = %s, key_fingerprint = %s"
    transaction.execute(sql, tuple(owner.facts().values()))
