"""Evidence about unknown keyed sends in PostgreSQL; `mmsclient._store.call_evidence` has the rules.

What was heard is the store's, as with campaigns (`evidence`) and orders, whose calls may have caused it, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from mmsclient._store.call_evidence import Evidence, proof
from mmsclient._store.ledger import SMS
from mmsclient._store.postgres.database import Transaction, columns, storable
from mmsclient._store.postgres.other_calls import NAMED, calls_to

__all__ = ["name", "remember_recipients", "settle"]

_HEARD = f"""
SELECT extract(epoch FROM heard)::float8, phone, message_id FROM send_recipient JOIN evidence USING (phone)
JOIN send ON send.claim = send_recipient.claim
WHERE send_recipient.claim = %s AND NOT {NAMED}
AND (evidence.kind IS NULL OR evidence.kind = CASE WHEN starts_with(send.image, '{SMS}') THEN 'sms' ELSE 'mms' END)
"""  # noqa: S608 - our own constants
_PROVE = """
UPDATE send SET state = 'accepted', proven = true, result = %s
WHERE claim = %s AND (state = 'unknown' OR proven AND result <> %s)
"""


def remember_recipients(transaction: Transaction, claim: str, phones: Iterable[int]) -> None:
    """A key was claimed to send to `phones`."""
    sql = "INSERT INTO send_recipient SELECT unnest(%s::bigint[]), %s ON CONFLICT DO NOTHING"
    transaction.execute(sql, (list(phones), claim))


def name(transaction: Transaction, claim: str, messages: Iterable[tuple[str, int]]) -> None:
    """An answer named `messages`."""
    rows = [(storable(message_id), phone) for message_id, phone in messages]
    if rows:
        sql = "INSERT INTO send_message SELECT *, %s FROM unnest(%s::text[], %s::bigint[]) ON CONFLICT DO NOTHING"
        transaction.execute(sql, (claim, *columns(rows, 2)))


def settle(transaction: Transaction, claim: str, began: float) -> bool:
    """Make an unknown send accepted where there is proof, or say more of one that is; whether that changed anything."""
    heard = [Evidence(*row) for row in transaction.rows(_HEARD, (claim,))]
    if not heard:
        return False
    result = proof(began, heard, calls_to(transaction, {each.phone for each in heard}, but=claim))
    if result is None:
        return False
    text = json.dumps(result)
    return bool(transaction.execute(_PROVE, (text, claim, text)))
