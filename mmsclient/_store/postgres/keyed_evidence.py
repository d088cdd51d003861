"""Evidence about unknown keyed sends in PostgreSQL; `mmsclient._store.call_evidence` has the rules.

What was heard is the store's, as with campaigns (`evidence`), whose calls may have caused it, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from mmsclient._store.call_evidence import Evidence, calls_of, proof
from mmsclient._store.evidence import PROVEN
from mmsclient._store.postgres.database import Transaction, columns, storable

__all__ = ["name", "remember_recipients", "settle"]

_HEARD = f"""
SELECT extract(epoch FROM heard)::float8, phone, message_id FROM send_recipient JOIN evidence USING (phone)
WHERE claim = %s AND NOT EXISTS (SELECT 1 FROM send_message WHERE send_message.message_id = evidence.message_id)
AND NOT EXISTS (
    SELECT 1 FROM recipient AS named WHERE named.message_id = evidence.message_id AND named.state = 'accepted'
    AND named.reason IS DISTINCT FROM '{PROVEN}'
)
"""  # noqa: S608 - our own constant
_OTHERS = """
SELECT send.claim, send_recipient.phone, extract(epoch FROM claimed)::float8, state,
    CASE WHEN proven THEN result END, message_id
FROM send_recipient JOIN send ON send.claim = send_recipient.claim
LEFT JOIN send_message ON send_message.claim = send_recipient.claim AND send_message.phone = send_recipient.phone
WHERE send_recipient.phone = ANY(%s) AND send_recipient.claim <> %s
UNION ALL
SELECT format('%%s of campaign %%s', recipient.id, recipient.campaign), phone, extract(epoch FROM started)::float8,
    CASE WHEN resent THEN 'unknown' ELSE state END, NULL, message_id
FROM recipient JOIN batch ON batch.campaign = recipient.campaign AND batch.id = recipient.batch
WHERE phone = ANY(%s)
"""
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
    phones = list({each.phone for each in heard})
    others = calls_of(transaction.rows(_OTHERS, (phones, claim, phones)))
    result = proof(began, heard, others)
    if result is None:
        return False
    text = json.dumps(result)
    return bool(transaction.execute(_PROVE, (text, claim, text)))
