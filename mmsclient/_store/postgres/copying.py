"""A copy of a journal in PostgreSQL, to be thrown away: in a temporary file of SQLite."""

from __future__ import annotations

from mmsclient._store.evidence import Silent
from mmsclient._store.models import Message
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.evidence import EVIDENCE
from mmsclient._store.sqlite_database import Database as SQLite
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.sqlite_journal import SQLiteJournal

__all__ = ["copied"]

PAGE = 10_000
"""Rows copied at a time."""

_RECIPIENT = "id, phone, state, line, run, batch, message_id, exclusion, reason, message, fields"
_MESSAGE = "id, digest, text, subject, picture"

_TABLES = {
    "aside (line, number, exclusion, reason)": "SELECT line, number, exclusion, reason FROM aside WHERE campaign = %s",
    "excluded (phone, exclusion)": "SELECT phone, exclusion FROM excluded WHERE campaign = %s",
    "batch (id, recipients, accepted, credits, error, started, ended)": (
        "SELECT id, recipients, accepted, credits, error, extract(epoch FROM started)::float8,"
        " extract(epoch FROM ended)::float8 FROM batch WHERE campaign = %s"
    ),
    "run (id, first_batch, balance_before, balance_after)": (
        "SELECT id, first_batch, balance_before, balance_after FROM run WHERE campaign = %s"
    ),
    "former_call (recipient, batch)": "SELECT recipient, batch FROM former_call WHERE campaign = %s",
    "evidence (phone, message_id, heard)": EVIDENCE,
    "evidence_kind (phone, message_id, kind)": (
        "SELECT evidence.phone, evidence.message_id, kind FROM evidence"
        " JOIN recipient ON recipient.phone = evidence.phone WHERE recipient.campaign = %s AND kind IS NOT NULL"
    ),
    "delivery (message_id, phone, status, final, reported)": (
        "SELECT DISTINCT reported.* FROM recipient CROSS JOIN LATERAL ("
        " SELECT message_id, phone, status, final, extract(epoch FROM reported)::float8 FROM delivery"
        " WHERE delivery.message_id = recipient.message_id OFFSET 0) AS reported WHERE campaign = %s"
    ),
}


def copied(
    database: Database, campaign: int | None, message: Message, *, resend_unknown: bool | Silent
) -> SQLiteJournal:
    """A copy of the journal of `campaign`; an empty one of `message` where that is None."""
    with translated_errors(database.path):
        copy = SQLite.writable("", database.path)
        try:
            copy.create(message)
            if campaign is not None:
                database.run(lambda transaction: _copy(transaction, campaign, copy), reads=True)
            return SQLiteJournal(copy, resend_unknown=resend_unknown, is_copy=True)
        except BaseException:
            copy.close()
            raise


def _copy(transaction: Transaction, campaign: int, copy: SQLite) -> None:
    with copy.transaction():
        _copy_pages(transaction, campaign, copy, "recipient", _RECIPIENT)
        _copy_pages(transaction, campaign, copy, "message", _MESSAGE)
        for table, query in _TABLES.items():
            _insert(copy, table, transaction.rows(query, (campaign,)))
        sql = "SELECT runs, list_read, rows_of_cut_list FROM campaign WHERE id = %s"
        runs, list_read, rows_of_cut_list = transaction.row_of_campaign(sql, (campaign,))
        copy.set_meta("runs", runs)
        copy.set_meta("list_read", int(list_read))
        copy.set_meta("rows_of_cut_list", rows_of_cut_list)


def _copy_pages(transaction: Transaction, campaign: int, copy: SQLite, table: str, names: str) -> None:
    sql = f"SELECT {names} FROM {table} WHERE campaign = %s AND id > %s ORDER BY id LIMIT {PAGE}"  # noqa: S608
    last = 0
    while rows := transaction.rows(sql, (campaign, last)):
        _insert(copy, f"{table} ({names})", rows)
        last = rows[-1][0]


def _insert(copy: SQLite, table: str, rows: list[tuple[object, ...]]) -> None:
    if rows:
        copy.execute_many(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608
