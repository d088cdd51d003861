"""Evidence about unknown orders in PostgreSQL; `mmsclient._store.outbox_evidence` has the rules.

What was heard is the store's, as with campaigns (`evidence`) and keyed sends, whose calls may have caused it, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from mmsclient._store.call_evidence import proven
from mmsclient._store.evidence import PROOF_WINDOW
from mmsclient._store.models import RecipientState
from mmsclient._store.outbox import Candidate, OrderEnd, OutboxState
from mmsclient._store.outbox_evidence import IS_OPEN, MAY_BE_PROVEN, doubted_orders, state_by_evidence
from mmsclient._store.postgres.answers import ANSWER_COUNTS, named_by, unnamed
from mmsclient._store.postgres.database import Transaction, columns, storable
from mmsclient._store.postgres.other_calls import NAMED, calls_to
from mmsclient._store.postgres.outbox_ends import end_orders

__all__ = ["lock", "note_answers", "settle", "settle_all"]

# A call that is ending at this moment is waited for: of the two, the later one sees what the other wrote.
_LOCK_HEARD = f"""
SELECT id FROM outbox WHERE (state = 'sending' OR {IS_OPEN})
AND id IN (SELECT outbox FROM outbox_recipient WHERE phone = ANY(%s)) ORDER BY id FOR UPDATE
"""  # noqa: S608 - our own constants
_LOCK = "SELECT id FROM outbox WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

_HEARD = f"""
SELECT o.id, extract(epoch FROM coalesce(doubted, claimed))::float8, extract(epoch FROM claimed)::float8,
    extract(epoch FROM heard)::float8, r.phone, evidence.message_id
FROM (SELECT * FROM outbox WHERE {{scope}}) AS o
JOIN outbox_recipient AS r ON r.outbox = o.id JOIN evidence ON evidence.phone = r.phone
WHERE CASE coalesce(r.state, o.state) WHEN 'refused' THEN heard = doubted
    ELSE r.state IS NULL OR r.state = 'unknown' END
AND evidence.kind IS DISTINCT FROM 'sms' AND NOT {NAMED}
AND heard BETWEEN coalesce(doubted, claimed) AND claimed + make_interval(secs => {PROOF_WINDOW})
ORDER BY o.id
"""  # noqa: S608
_HEARD_OF_ALL = _HEARD.format(scope=MAY_BE_PROVEN)
# A late answer to an earlier call also settles those whom the last one refused.
_HEARD_OF_SOME = _HEARD.format(
    scope=f"id = ANY(%s) AND ({IS_OPEN} OR state IN ('accepted', 'refused') AND doubted IS NOT NULL)"
)

# Of its first call that is in doubt.
_NOTE_ANSWERS = f"""
INSERT INTO evidence (phone, message_id, heard, kind)
SELECT phone, answered.message_id, doubted, 'mms'
FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) WITH ORDINALITY AS answered (id, phone, message_id, place)
JOIN outbox USING (id) JOIN outbox_recipient AS r USING (phone)
WHERE r.outbox = id AND doubted IS NOT NULL AND coalesce(r.state, outbox.state) <> 'accepted' ORDER BY place
{ANSWER_COUNTS}
"""  # noqa: S608

_PROVE = """
UPDATE outbox_recipient SET state = 'accepted', message_id = given.message_id, proven = true
FROM unnest(%s::bigint[], %s::text[]) AS given (phone, message_id)
WHERE outbox = %s AND outbox_recipient.phone = given.phone
"""
_LEAVE = "UPDATE outbox_recipient SET state = 'unknown' WHERE outbox = %s AND state IS NULL"
_STATE = """
SELECT state, result, (SELECT count(*) FROM outbox_recipient AS r WHERE r.outbox = o.id AND r.state = 'unknown')
FROM outbox AS o WHERE id = %s
"""


def note_answers(transaction: Transaction, ends: Iterable[tuple[Candidate, OrderEnd]]) -> None:
    """Remember which messages a late answer named to orders that were sent again before it came. All are locked."""
    named = [
        (order.id, phone, storable(message_id) or unnamed(f"order {order.id}"))
        for order, end in ends
        for phone, (state, message_id) in zip(order.phones, end.recipients, strict=True)
        if state is RecipientState.ACCEPTED
    ]
    if named:
        in_order = sorted(named, key=itemgetter(1, 2))  # of `evidence.note`
        transaction.execute(_NOTE_ANSWERS, columns(in_order, 3))


def lock(transaction: Transaction, phones: Sequence[int]) -> list[int]:
    """Keep others from writing the orders that evidence of these phones may change; their ids."""
    return [row[0] for row in transaction.rows(_LOCK_HEARD, (list(phones),))]


def settle_all(transaction: Transaction) -> int:
    """Settle all orders for which there is proof; how many that made accepted."""
    found = doubted_orders(transaction.rows(_HEARD_OF_ALL))
    ids = [row[0] for row in transaction.rows(_LOCK, ([order.id for order in found],))] if found else []
    return settle(transaction, ids)


def settle(transaction: Transaction, ids: Sequence[int]) -> int:
    """Settle those of these orders, all locked, for which there is proof; how many that made accepted."""
    if not ids:
        return 0
    settled = 0
    for order in doubted_orders(transaction.rows(_HEARD_OF_SOME, (list(ids),))):
        others = calls_to(transaction, {each.phone for each in order.heard}, but=order.id)
        answered = {each.phone: each.message_id for each in order.heard if each.at == order.began}
        if found := proven(order.began, order.heard, others, last=order.last) | answered:
            settled += _prove(transaction, order.id, found)
    return settled


def _prove(transaction: Transaction, id_: int, found: Mapping[int, str]) -> bool:
    """Whether the order is accepted by this."""
    rows = ((phone, named_by(message_id)) for phone, message_id in found.items())
    transaction.execute(_PROVE, (*columns(rows, 2), id_))
    transaction.execute(_LEAVE, (id_,))
    state, result, left = transaction.row(_STATE, (id_,))
    said = {} if state == OutboxState.REFUSED else json.loads(result or "{}")  # by the call in question
    told = state_by_evidence(OutboxState(state), said, left)
    if told is not None:
        end_orders(transaction, [(id_, told[0], json.dumps(dict(told[1])))], proven=told[2])
    return told is not None
