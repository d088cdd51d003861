"""Which calls of a store named a message, or may have caused what was heard: campaigns, keyed sends, and orders.

Conditions speak of a row of `evidence`. The rules stand in `mmsclient._store.call_evidence` and `.evidence`.
"""

from __future__ import annotations

from collections.abc import Collection

from mmsclient._store.call_evidence import OtherCall, calls_of
from mmsclient._store.evidence import NAMED_BY_ANSWER, PROOF_WINDOW
from mmsclient._store.postgres.database import Transaction

__all__ = [
    "LAST_CALL",
    "MAY_BE_OF_NO_CAMPAIGN",
    "NAMED",
    "NAMED_OUTSIDE_CAMPAIGNS",
    "STANDS_OUTSIDE_CAMPAIGNS",
    "calls_to",
]

NAMED_OUTSIDE_CAMPAIGNS = """
((SELECT true FROM send_message WHERE send_message.message_id = {of}.message_id LIMIT 1) IS NOT NULL
OR (
    SELECT true FROM outbox_recipient AS ordered
    WHERE ordered.message_id = {of}.message_id AND NOT ordered.proven LIMIT 1
) IS NOT NULL)
"""
"""The answer to a keyed send or to orders named the message of a row `{of}`."""
NAMED = f"""
({NAMED_OUTSIDE_CAMPAIGNS.format(of="evidence")} OR (
    SELECT true FROM recipient AS named WHERE named.message_id = evidence.message_id AND named.state = 'accepted'
    AND {NAMED_BY_ANSWER} LIMIT 1
) IS NOT NULL)
"""  # noqa: S608 - our own constants
"""An answer named the message."""
STANDS_OUTSIDE_CAMPAIGNS = """
((SELECT true FROM send_recipient WHERE send_recipient.phone = {of}.phone LIMIT 1) IS NOT NULL
OR (SELECT true FROM outbox_recipient AS ordered WHERE ordered.phone = {of}.phone LIMIT 1) IS NOT NULL)
"""
"""The phone of a row `{of}` is that of a keyed send or of an order."""

_MAY_BE_A_SENDS = f"""
EXISTS (
    SELECT 1 FROM send_recipient JOIN send ON send.claim = send_recipient.claim
    WHERE send_recipient.phone = evidence.phone
    AND heard BETWEEN claimed AND claimed + make_interval(secs => {PROOF_WINDOW}) AND (
        send.state IN ('sending', 'unknown') OR send.state = 'accepted' AND NOT EXISTS (
            SELECT 1 FROM send_message WHERE send_message.claim = send.claim AND send_message.phone = evidence.phone
        )
    )
)
"""  # noqa: S608
_STATE = "CASE WHEN o.doubted IS NOT NULL THEN 'unknown' ELSE coalesce(ordered.state, o.state) END"
_MAY_BE_AN_ORDERS = f"""
EXISTS (
    SELECT 1 FROM outbox_recipient AS ordered JOIN outbox AS o ON o.id = ordered.outbox
    WHERE ordered.phone = evidence.phone
    AND heard BETWEEN coalesce(o.doubted, o.claimed) AND o.claimed + make_interval(secs => {PROOF_WINDOW}) AND (
        {_STATE} IN ('sending', 'unknown') OR {_STATE} = 'accepted'
        AND (ordered.message_id IS NULL OR ordered.message_id = evidence.message_id)
    )
)
"""  # noqa: S608
MAY_BE_OF_NO_CAMPAIGN = f"({_MAY_BE_A_SENDS} OR {_MAY_BE_AN_ORDERS})"
"""A keyed send or an order to the phone may have caused what was heard."""

LAST_CALL = """
greatest({of}.batch, (
    SELECT max(former_call.batch) FROM former_call
    WHERE former_call.campaign = {of}.campaign AND former_call.recipient = {of}.id
))
"""
"""The last call of a campaign to a recipient `{of}`, which stands in an earlier one where that is proven."""

_CALLS = f"""
SELECT 'send ' || send.claim, send_recipient.phone, extract(epoch FROM claimed)::float8, state,
    CASE WHEN proven THEN result END, message_id, extract(epoch FROM claimed)::float8
FROM send_recipient JOIN send ON send.claim = send_recipient.claim
LEFT JOIN send_message ON send_message.claim = send_recipient.claim AND send_message.phone = send_recipient.phone
WHERE send_recipient.phone = ANY(%s) AND send_recipient.claim <> %s
UNION ALL
SELECT 'order ' || o.id, ordered.phone, extract(epoch FROM coalesce(o.doubted, o.claimed))::float8, {_STATE},
    NULL, ordered.message_id, extract(epoch FROM o.claimed)::float8
FROM outbox_recipient AS ordered JOIN outbox AS o ON o.id = ordered.outbox
WHERE ordered.phone = ANY(%s) AND o.id <> %s AND o.claimed IS NOT NULL
UNION ALL
SELECT format('%%s of campaign %%s', recipient.id, recipient.campaign), phone,
    CASE WHEN resent THEN '-infinity' ELSE extract(epoch FROM started)::float8 END,
    CASE WHEN resent THEN 'unknown' ELSE state END, NULL, message_id, extract(epoch FROM started)::float8
FROM recipient JOIN batch ON batch.campaign = recipient.campaign AND batch.id = {LAST_CALL.format(of="recipient")}
WHERE phone = ANY(%s)
"""  # noqa: S608


def calls_to(transaction: Transaction, phones: Collection[int], *, but: str | int) -> list[OtherCall]:
    """All calls to these phones, but for the keyed send of a claim, or the order with an id."""
    given = list(phones)
    claim, order = (but, 0) if isinstance(but, str) else ("", but)
    return calls_of(transaction.rows(_CALLS, (given, claim, given, order, given)))
