"""How keyed sends are read and written in PostgreSQL, within a transaction."""

from __future__ import annotations

import json
from collections.abc import Collection

from mmsclient._store.ledger import (
    DIED,
    Fingerprint,
    KeyClaim,
    KeyedSend,
    SendEnd,
    SendState,
    may_claim,
    objection_to,
)
from mmsclient._store.models import Owner
from mmsclient._store.postgres import keyed_evidence
from mmsclient._store.postgres.database import Transaction
from mmsclient._store.postgres.senders import dead_among

__all__ = ["claim_key", "finish", "forget_old", "held_for_good", "lose_dead", "not_of_owner", "undo"]

_FIND = """
SELECT claim, text, subject, image, recipients, state, sender, extract(epoch FROM claimed)::float8, result, proven
FROM send WHERE key = %s
"""
_INSERT = """
INSERT INTO send (key, claim, text, subject, image, recipients, state, sender, claimed)
VALUES (%s, %s, %s, %s, %s, %s, 'sending', %s, clock_timestamp()) ON CONFLICT (key) DO NOTHING
"""
_CLAIM_AGAIN = """
UPDATE send SET claim = %s, text = %s, subject = %s, image = %s, recipients = %s, state = 'sending', sender = %s,
    claimed = clock_timestamp(), ended = NULL, result = NULL, proven = false
WHERE key = %s
"""
_LOSE = """
UPDATE send SET state = 'unknown', ended = clock_timestamp(), result = %s WHERE state = 'sending' AND key = ANY(%s)
"""
_UNDER_WAY_OF = "SELECT key FROM send WHERE state = 'sending' AND sender = ANY(%s) ORDER BY key FOR UPDATE"
_FINISH = """
UPDATE send SET state = %s, ended = clock_timestamp(), result = %s, proven = false
WHERE claim = %s AND (state IN ('sending', 'unknown') OR proven AND %s <> 'unknown')
"""
_UNDO = """
UPDATE send SET state = 'failed', ended = clock_timestamp(), result = '{}'
WHERE claim = ANY(%s) AND state IN ('sending', 'unknown')
"""
_FORGET = """
DELETE FROM send WHERE key IN (
    SELECT key FROM send WHERE ended < clock_timestamp() - make_interval(secs => %s) ORDER BY key FOR UPDATE SKIP LOCKED
)
"""


def not_of_owner(transaction: Transaction, owner: Owner) -> str:
    """Why the ledger is not `owner`'s; "" where it is, from now on if it was nobody's or of an older key."""
    sql = "INSERT INTO ledger (base_url, key_salt, key_fingerprint) VALUES (%s, %s, %s) ON CONFLICT (id) DO NOTHING"
    mine = tuple(owner.facts().values())
    transaction.execute(sql, mine)
    facts = transaction.row("SELECT base_url, key_salt, key_fingerprint FROM ledger")
    objection = objection_to(owner, *facts, another="another schema (?schema=)")
    if not objection and owner.fingerprint(facts[1]) != facts[2]:
        transaction.execute("UPDATE ledger SET base_url = %s, key_salt = %s, key_fingerprint = %s", mine)
    return objection


def held_for_good(
    transaction: Transaction, sender: str, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool
) -> KeyedSend | None:
    """What is held for a key that `claim` cannot claim; None where `claim_key` has to tell.

    Writes nothing unless evidence settles it.
    """
    found = transaction.row(_FIND, (claim.key,))
    if found is None or found[0] == claim.id:
        return None
    held, holder = _settled(transaction, claim.key, found)
    if held.state is SendState.SENDING:
        sql = "SELECT 1 FROM sender WHERE id = %s AND until >= clock_timestamp()"
        return held if holder != sender and transaction.rows(sql, (holder,)) else None
    return None if may_claim(held, fingerprint, retry_refused=retry_refused) else held


def claim_key(
    transaction: Transaction, sender: str, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool
) -> KeyedSend | None:
    """Claim a key for `sender`, who has passed its fence; else what is held for it.

    What is held under the same claim was left by an attempt before this one, and nothing was sent under it.
    """
    digests = (fingerprint.text, fingerprint.subject, fingerprint.image, fingerprint.recipients)
    while not transaction.execute(_INSERT, (claim.key, claim.id, *digests, sender)):
        found = transaction.row(f"{_FIND} FOR UPDATE", (claim.key,))
        if found is None:  # it was forgotten at this moment
            continue
        held, holder = _held(found)
        if held.state is SendState.SENDING and (holder == sender or dead_among(transaction, [holder])):
            _lose(transaction, [claim.key])
        held, _ = _settled(transaction, claim.key, transaction.row(_FIND, (claim.key,)))
        if found[0] != claim.id and not may_claim(held, fingerprint, retry_refused=retry_refused):
            return held
        transaction.execute("DELETE FROM send_recipient WHERE claim = %s", (found[0],))
        transaction.execute(_CLAIM_AGAIN, (claim.id, *digests, sender, claim.key))
        break
    keyed_evidence.remember_recipients(transaction, claim.id, claim.phones)
    return None


def finish(transaction: Transaction, claim: KeyClaim, end: SendEnd) -> bool:
    """Record how a claim ended, also where its sender was taken for dead. False where there is no such claim."""
    if transaction.execute(_FINISH, (end.state, json.dumps(dict(end.result)), claim.id, end.state)):
        keyed_evidence.name(transaction, claim.id, end.messages)
        return True
    return bool(transaction.rows("SELECT 1 FROM send WHERE claim = %s", (claim.id,)))


def undo(transaction: Transaction, claims: Collection[str]) -> None:
    """Nothing was sent under these claims, which nobody heard of."""
    transaction.execute(_UNDO, (list(claims),))


def lose_dead(transaction: Transaction) -> None:
    """What dead senders were sending is unknown."""
    senders = [row[0] for row in transaction.rows("SELECT DISTINCT sender FROM send WHERE state = 'sending'")]
    if dead := dead_among(transaction, senders):
        _lose(transaction, [row[0] for row in transaction.rows(_UNDER_WAY_OF, (dead,))])


def forget_old(transaction: Transaction, seconds: float) -> int:
    """Forget the keys whose send ended longer ago than that; how many."""
    return transaction.execute(_FORGET, (seconds,))


def _lose(transaction: Transaction, keys: Collection[str]) -> None:
    transaction.execute(_LOSE, (json.dumps(DIED), list(keys)))


Row = tuple[str, str, str, str, str, str, str, float, str | None, bool]


def _settled(transaction: Transaction, key: str, row: Row) -> tuple[KeyedSend, str]:
    """As `_held`, after acting on evidence."""
    claim, state, claimed, proven = row[0], row[5], row[7], row[9]
    if (proven or state == SendState.UNKNOWN) and keyed_evidence.settle(transaction, claim, claimed):
        row = transaction.row(_FIND, (key,))
    return _held(row)


def _held(row: Row) -> tuple[KeyedSend, str]:
    """What is held for a key, and its sender."""
    _, text, subject, image, recipients, state, sender, claimed, result, _ = row
    fingerprint = Fingerprint(text, subject, image, recipients)
    return KeyedSend(fingerprint, SendState(state), claimed, json.loads(result) if result else {}), sender
