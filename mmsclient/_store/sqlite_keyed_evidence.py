"""Evidence about unknown keyed sends in a ledger in SQLite; `call_evidence` has the rules."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from mmsclient._store.call_evidence import Evidence, calls_of, proof
from mmsclient._store.heard import Heard
from mmsclient._store.ledger import SMS
from mmsclient._store.sqlite_database import storable

__all__ = ["NAMED", "forget_unneeded", "name", "note_kind", "remember_recipients", "settle"]

NAMED = "EXISTS (SELECT 1 FROM message WHERE message.message_id = {of})"
"""An answer named the id `{of}`."""

_HEARD = f"""
SELECT at, phone, heard.message_id FROM recipient JOIN heard USING (phone) JOIN send ON send.claim = recipient.claim
WHERE recipient.claim = ? AND NOT {NAMED.format(of="heard.message_id")}
AND NOT EXISTS (
    SELECT 1 FROM heard_kind AS told WHERE told.phone = heard.phone AND told.message_id = heard.message_id
    AND told.kind <> CASE WHEN send.image LIKE '{SMS}%' THEN 'sms' ELSE 'mms' END
)
"""  # noqa: S608 - our own constants
_OTHERS = """
SELECT send.claim, recipient.phone, claimed, state, CASE WHEN proven THEN result END, message_id,
    claimed FROM recipient
JOIN send ON send.claim = recipient.claim
LEFT JOIN message ON message.claim = recipient.claim AND message.phone = recipient.phone
WHERE recipient.phone = ? AND recipient.claim <> ?
"""
_PROVE = """
UPDATE send SET state = 'accepted', proven = 1, result = :result
WHERE claim = :claim AND (state = 'unknown' OR proven AND result <> :result)
"""


def remember_recipients(database: sqlite3.Connection, claim: str, phones: Iterable[int]) -> None:
    """A key was claimed to send to `phones`."""
    database.executemany("INSERT OR IGNORE INTO recipient VALUES (?, ?)", ((phone, claim) for phone in phones))


def name(database: sqlite3.Connection, claim: str, messages: Iterable[tuple[str, int]]) -> None:
    """An answer named `messages`."""
    rows = ((message_id, phone, claim) for message_id, phone in messages)
    database.executemany("INSERT OR IGNORE INTO message VALUES (?, ?, ?)", rows)


def note_kind(database: sqlite3.Connection, heard: Heard) -> None:
    """Note of which kind the message is, where that is told."""
    if heard.kind:
        sql = (
            "INSERT OR IGNORE INTO heard_kind SELECT phone, message_id, ? FROM heard WHERE phone = ? AND message_id = ?"
        )
        database.execute(sql, (heard.kind, heard.phone, storable(heard.message_id)))


def settle(database: sqlite3.Connection, claim: str, began: float) -> None:
    """Make an unknown send accepted where there is proof, or say more of one that is."""
    heard = [Evidence(*row) for row in database.execute(_HEARD, (claim,))]
    if not heard:
        return
    phones = {each.phone for each in heard}
    others = [row for phone in phones for row in database.execute(_OTHERS, (phone, claim))]
    if (result := proof(began, heard, calls_of(others))) is not None:
        database.execute(_PROVE, {"claim": claim, "result": json.dumps(result)})


def forget_unneeded(database: sqlite3.Connection) -> None:
    """Forget what stands for sends that were forgotten."""
    database.execute("DELETE FROM recipient WHERE claim NOT IN (SELECT claim FROM send)")
    database.execute("DELETE FROM message WHERE claim NOT IN (SELECT claim FROM send)")
    database.execute("DELETE FROM heard WHERE phone NOT IN (SELECT phone FROM recipient)")
    database.execute("DELETE FROM heard_kind WHERE phone NOT IN (SELECT phone FROM recipient)")
