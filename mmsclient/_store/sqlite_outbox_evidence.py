"""Evidence about unknown orders in SQLite; `outbox_evidence` has the rules."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mmsclient._store.call_evidence import calls_of, proven
from mmsclient._store.evidence import PROOF_WINDOW
from mmsclient._store.heard import Heard, Replied
from mmsclient._store.outbox import OutboxState
from mmsclient._store.outbox_evidence import IS_OPEN, MAY_BE_PROVEN, DoubtedOrder, doubted_orders, state_by_evidence
from mmsclient._store.sqlite_database import Database, translated_errors
from mmsclient._store.sqlite_heard import note
from mmsclient._store.sqlite_outbox_ends import end_order
from mmsclient._store.sqlite_outbox_files import OutboxFile, open_outbox
from mmsclient._store.sqlite_turns import Turns

__all__ = ["SQLiteOutboxRecorder", "settle", "settle_all"]

_NAMED = "EXISTS (SELECT 1 FROM recipient AS named WHERE named.message_id = {of} AND NOT named.proven)"


def _heard(tables: str, condition: str) -> str:
    return f"""
        SELECT outbox.id, ifnull(doubted, claimed), claimed, heard.at, heard.phone, heard.message_id FROM {tables}
        WHERE {condition.replace("state", "outbox.state").replace("proven", "outbox.proven")}
        AND (recipient.state IS NULL OR recipient.state = 'unknown') AND NOT {_NAMED.format(of="heard.message_id")}
        AND at BETWEEN ifnull(doubted, claimed) AND claimed + {PROOF_WINDOW}
    """  # noqa: S608 - our own constants


# The planner keeps the order of these tables.
_BY_ORDER = _heard(
    "outbox CROSS JOIN recipient ON recipient.outbox = outbox.id CROSS JOIN heard ON heard.phone = recipient.phone",
    MAY_BE_PROVEN,
)
_BY_PHONE = _heard(
    "heard CROSS JOIN recipient ON recipient.phone = heard.phone CROSS JOIN outbox ON outbox.id = recipient.outbox",
    IS_OPEN,
)
_OTHERS = """
SELECT outbox.id, phone, ifnull(doubted, claimed),
    CASE WHEN doubted IS NOT NULL THEN 'unknown' ELSE ifnull(recipient.state, outbox.state) END,
    NULL, message_id, claimed
FROM recipient JOIN outbox ON outbox.id = recipient.outbox WHERE phone = ? AND outbox.id <> ? AND claimed IS NOT NULL
"""
_TEXTS = "SELECT text FROM recipient JOIN outbox ON outbox.id = recipient.outbox WHERE phone = ?"
_STATE = "SELECT state, result, (SELECT count(*) FROM recipient WHERE outbox = ? AND state = 'unknown') FROM outbox"


class SQLiteOutboxRecorder:
    """Notes what was heard in an outbox, and settles what it proves; several may, also while a worker sends."""

    def __init__(self, path: Path, *, make: bool) -> None:
        self._file: OutboxFile = open_outbox(path, make=make)
        self._turns = Turns()

    @property
    def is_current(self) -> bool:
        """The file is the one that was opened; else what is recorded may be lost."""
        return self._file.is_current

    def record(self, heard: Sequence[Heard]) -> None:
        """Note what was heard, and what it proves, in one transaction."""
        database = self._file.database
        with translated_errors(str(self._file.path)), self._turns, database.transaction():
            told = [each for each in heard if not _is_of_another(database, each)]
            settle_heard(database, note(database.connection, told, _NAMED, but="sms"))

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._file.close()


def _is_of_another(database: Database, heard: Heard) -> bool:
    """It is a reply to a text that no order to its phone has."""
    if not isinstance(heard, Replied) or not heard.original:
        return False
    return heard.quotes_another([text for (text,) in database.rows(_TEXTS, (heard.phone,))])


def settle_heard(database: Database, phones: Collection[int]) -> None:
    """Settle the orders to these phones for which there is proof."""
    for phone in phones:
        _settle(database, doubted_orders(database.rows(f"{_BY_PHONE} AND heard.phone = ?", (phone,))))


def settle(database: Database, id_: int) -> None:
    """Settle an order if there is proof for it."""
    _settle(database, doubted_orders(database.rows(f"{_BY_ORDER} AND outbox.id = ?", (id_,))))


def settle_all(database: Database) -> int:
    """Settle all orders for which there is proof; how many that made accepted."""
    return _settle(database, doubted_orders(database.rows(f"{_BY_ORDER} ORDER BY outbox.id")))


def _settle(database: Database, orders: Sequence[DoubtedOrder]) -> int:
    settled = 0
    for order in orders:
        phones = {each.phone for each in order.heard}
        others = [row for phone in phones for row in database.rows(_OTHERS, (phone, order.id))]
        if found := proven(order.began, order.heard, calls_of(others), last=order.last):
            settled += _prove(database, order.id, found)
    return settled


def _prove(database: Database, id_: int, found: Mapping[int, str]) -> bool:
    """Whether the order is accepted by this."""
    sql = "UPDATE recipient SET state = 'accepted', message_id = ?, proven = 1 WHERE outbox = ? AND phone = ?"
    database.execute_many(sql, [(message_id, id_, phone) for phone, message_id in found.items()])
    database.execute("UPDATE recipient SET state = 'unknown' WHERE outbox = ? AND state IS NULL", (id_,))
    ((state, result, left),) = database.rows(f"{_STATE} WHERE id = ?", (id_, id_))
    told = state_by_evidence(OutboxState(state), json.loads(result or "{}"), left)
    if told is not None:
        end_order(database, id_, told[0], json.dumps(dict(told[1])), proven=told[2])
    return told is not None
