"""Reads a journal in SQLite."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self

from mmsclient._api.types import Kind
from mmsclient._store import sqlite_messages
from mmsclient._store.errors import JournalError
from mmsclient._store.figures import Figures
from mmsclient._store.models import (
    RECIPIENT_COLUMNS,
    Exclusion,
    Message,
    OwnRow,
    PersonalMessage,
    Picked,
    Recipient,
    RecipientState,
    Summary,
    counted_by,
    recipient_of,
    rejected_row,
)
from mmsclient._store.ownership import BegunBy
from mmsclient._store.private_files import DAMAGED
from mmsclient._store.spending import CallCost
from mmsclient._store.sqlite_database import APPLICATION_ID, FOREIGN, VERSION, Database, translated_errors
from mmsclient._store.sqlite_evidence import reached_before, unknown_summary
from mmsclient._store.sqlite_figures import figures
from mmsclient._store.sqlite_migration import migrate, read_as_present
from mmsclient._store.sqlite_steering import orders_in, standing
from mmsclient._store.sqlite_watch import WatchedFiles
from mmsclient._store.steering import Orders, Standing
from mmsclient.models import DeliveryStatus

__all__ = ["SQLiteReader", "check_kind", "open_migrated"]

PAGE = 1000
"""Rows read at a time."""

RECIPIENT_STATUS = """(
    SELECT recipient.*, delivery.status, delivery.reported FROM recipient LEFT JOIN delivery
    ON state = 'accepted' AND delivery.message_id = recipient.message_id AND delivery.phone = (
        SELECT phone FROM delivery AS reported_status
        WHERE reported_status.message_id = recipient.message_id AND reported_status.phone IN (0, recipient.phone)
        ORDER BY final DESC, phone DESC LIMIT 1
    )
) AS recipient_status"""
"""Each recipient with what was reported of it; a report may name the recipient or not, and both may come."""

_EXCLUDED = """
SELECT phone, coalesce(exclusion, (SELECT exclusion FROM excluded WHERE excluded.phone = recipient.phone)) AS why
FROM recipient WHERE why IS NOT NULL
"""

_HAS_SENT = """
SELECT EXISTS (SELECT 1 FROM recipient WHERE state NOT IN ('pending', 'failed', 'excluded'))
    OR EXISTS (SELECT 1 FROM former_call)
    OR EXISTS (SELECT 1 FROM batch WHERE ended IS NULL OR accepted IS NULL OR accepted > 0)
"""

_CALL_COSTS = """
SELECT
    recipients, ended IS NULL OR accepted IS NULL, ifnull(accepted, 0), credits, ifnull(taken, 0), ifnull(doubtful, 0),
    (SELECT text FROM message WHERE message.id = ifnull(counted.message, former.message))
FROM batch LEFT JOIN (
    SELECT batch AS id, total(state = 'accepted') AS taken, total(state IN ('sending', 'unknown')) AS doubtful,
        max(message) AS message
    FROM recipient WHERE batch IS NOT NULL GROUP BY batch
) AS counted ON counted.id = batch.id
LEFT JOIN (
    SELECT former_call.batch AS id, max(recipient.message) AS message
    FROM former_call JOIN recipient ON recipient.id = former_call.recipient GROUP BY former_call.batch
) AS former ON former.id = batch.id
"""


class SQLiteReader:
    """Reads a journal; several may, also while a campaign writes it.

    Args:
        database: A connection.
        files: Where it is a connection of its own that stays open: its files, as they were opened.
    """

    def __init__(self, database: Database, files: WatchedFiles | None = None) -> None:
        self._database = database
        self._files = files

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a journal for reading; nothing is written to it.

        SQLite itself looks at the file: if we opened and closed it, the locks that this process has on it would go.

        Raises:
            JournalError: There is no such file, or it is no journal.
        """
        shown = os.fspath(path)
        if not os.path.exists(shown):
            raise JournalError(shown, "there is no such file")
        if os.path.isdir(shown):
            raise JournalError(shown, "it is a directory")
        database = Database.read_only(shown)
        try:
            with translated_errors(shown):
                ((application,),) = database.rows("PRAGMA application_id")
                version = database.version
            check_kind(shown, application, version)
            with translated_errors(shown):
                read_as_present(database)
            return cls(database)
        except BaseException:
            database.close()
            raise

    @classmethod
    def open_lasting(cls, path: str | os.PathLike[str]) -> Self:
        """As `open`, of a journal of which others may be done before this: the last to close it clears its log away.

        So one of an earlier version is migrated, and its folder must be one that can be written.
        """
        return cls(*open_migrated(os.fspath(path), is_read_only=True))

    @property
    def path(self) -> str:
        """The journal's file, "" for one in memory."""
        return self._database.path

    @property
    def is_current(self) -> bool:
        """The file is the one that was opened."""
        return self._files is None or not self._files.replaced()

    def verify(self) -> None:
        """Read the whole file. Raises `JournalError` where it is damaged."""
        with translated_errors(self.path):
            found = self._database.rows("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise JournalError(self.path, f"{DAMAGED} ({found[0][0]})")

    def copy_into(self, database: Database) -> None:
        """Make `database` a copy of the journal."""
        database.copy_from(self._database)

    def close(self) -> None:
        """Close the connection. May be called again."""
        if self._files is None:
            self._database.close()
        else:
            self._files.close(self._database.connection)

    def message(self) -> Message:
        """The message that the journal belongs to. Raises `JournalError` where it is not whole."""
        names = "'text', 'subject', 'image', 'image_sha256', 'template', 'kind', 'sms', 'opt_out_line'"
        found = dict(self._database.rows(f"SELECT key, value FROM meta WHERE key IN ({names})"))  # noqa: S608
        others = (found.get("template", ""), found.get("kind", "mms"), found.get("sms", ""))
        line = found.get("opt_out_line", "")
        try:
            message = Message(found["text"], found["subject"], found["image"], *others, opt_out_line=line)
            if message.image_sha256 == found["image_sha256"]:
                return message
        except (KeyError, TypeError):
            pass
        raise JournalError(self.path, f"{DAMAGED} (the message in it is not the one it was made with)")

    def begun_by(self) -> BegunBy | None:
        """The owner that it was begun by; None where nobody has opened it to send."""
        sql = "SELECT key, value FROM meta WHERE key IN ('base_url', 'key_salt', 'key_fingerprint')"
        facts = dict(self._database.rows(sql))
        return (facts.get("base_url"), facts.get("key_salt", b""), facts.get("key_fingerprint")) if facts else None

    def has_sent(self) -> bool:
        """Something was sent with it, or may have been, or was refused for its recipient's sake."""
        return self._database.rows(_HAS_SENT) == [(1,)]

    def summary(self) -> Summary:
        """Counts, credits and times. Walks through all recipients."""
        database = self._database
        with database.snapshot():
            rows = database.rows("SELECT state, exclusion, count(*) FROM recipient GROUP BY state, exclusion")
            rows += database.rows("SELECT 'excluded', exclusion, count(*) FROM aside GROUP BY exclusion")
            counts, exclusions = counted_by(rows)
            sql = "SELECT count(*), min(started), max(started), max(ended) FROM batch"
            ((calls, started, last_started, ended),) = database.rows(sql)
            credit_texts = database.execute("SELECT credits FROM batch WHERE credits <> ''")
            credits_used = sum((Decimal(text) for (text,) in credit_texts), Decimal(0))
            list_read = database.meta("list_read") == 1
            statuses = database.rows(
                f"SELECT status, count(*) FROM {RECIPIENT_STATUS} WHERE status IS NOT NULL GROUP BY status"  # noqa: S608
            )
            deliveries = {DeliveryStatus(status): count for status, count in statuses}
            seconds = self._delivery_seconds(deliveries.get(DeliveryStatus.DELIVERED, 0))
            unknown = unknown_summary(database)
            kind: Kind = database.meta("kind") or "mms"
            without_picture = sqlite_messages.without_picture(database)
        return Summary(
            counts,
            exclusions,
            calls,
            credits_used,
            started,
            last_started,
            ended,
            list_read,
            deliveries,
            seconds,
            unknown,
            kind,
            without_picture,
        )

    def figures(self) -> Figures:
        """What became of the campaign, in time and by reasons. Walks through all recipients."""
        return figures(self._database, RECIPIENT_STATUS)

    def orders(self) -> Orders:
        """What operators have asked of the sender so far."""
        return orders_in(self._database)

    def standing(self) -> Standing:
        """How the campaign stands at this moment. Walks through all recipients."""
        return standing(self._database)

    def calls_ahead(self, batch_size: int) -> tuple[int, int]:
        """Different messages that a run would send, and the calls that takes. Walks through all recipients."""
        return sqlite_messages.calls_ahead(self._database, batch_size)

    def texts_ahead(self) -> list[tuple[str | None, int]]:
        """What a run would send, None for what all get, and to how many. Walks through all recipients."""
        return sqlite_messages.texts_ahead(self._database)

    def first_messages(self, most: int) -> list[tuple[int, PersonalMessage]]:
        """The phones that a run would send messages of their own to, the first of the list, with what they get."""
        return sqlite_messages.first_messages(self._database, most)

    def _delivery_seconds(self, delivered: int) -> float | None:
        rows = self._database.rows(
            f"SELECT reported - started AS took FROM {RECIPIENT_STATUS}"  # noqa: S608
            " JOIN batch ON batch.id = recipient_status.batch WHERE status = 'Delivered'"
            " ORDER BY took LIMIT 1 OFFSET ?",
            (delivered // 2,),
        )
        return next((took for (took,) in rows), None)

    def recipients(self, state: RecipientState | None, after: int, limit: int = PAGE) -> list[tuple[int, Recipient]]:
        """Recipients beyond the id `after`, with their ids."""
        rows = self._database.rows(
            f"SELECT {RECIPIENT_COLUMNS} FROM {RECIPIENT_STATUS}"  # noqa: S608
            " WHERE id > ? AND (? IS NULL OR state = ?) ORDER BY id LIMIT ?",
            (after, state, state, limit),
        )
        return [_with_id(row) for row in rows]

    def messages_of(self, phones: Sequence[int]) -> dict[int, PersonalMessage]:
        """What those of `phones` get who have a message of their own."""
        return sqlite_messages.messages_of(self._database, phones)

    def upcoming(self, after: tuple[int, int], limit: int) -> Picked:
        """Those who come next after a position, all of one message, where each has one of its own. Claims nobody."""
        return sqlite_messages.PersonalQueue(self._database).next(after, limit)

    def own_rows(self, ids: Sequence[int]) -> dict[int, OwnRow]:
        """Of what the pictures of these recipients are made, by their ids."""
        return sqlite_messages.own_rows(self._database, ids)

    def recipients_of(self, phones: Sequence[int]) -> list[tuple[int, Recipient]]:
        """Those of `phones` that are in the journal, with their ids."""
        wanted = ", ".join(map(str, phones))  # whole numbers
        sql = f"SELECT {RECIPIENT_COLUMNS} FROM {RECIPIENT_STATUS} WHERE phone IN ({wanted}) ORDER BY id"  # noqa: S608
        return [_with_id(row) for row in self._database.rows(sql)]

    def sent_again(self, after: int, limit: int = PAGE) -> list[tuple[int, Recipient]]:
        """See `JournalReader.sent_again`."""
        sql = (
            f"SELECT {RECIPIENT_COLUMNS} FROM {RECIPIENT_STATUS} WHERE id > ? AND state = 'accepted'"  # noqa: S608
            " AND id IN (SELECT recipient FROM former_call) ORDER BY id LIMIT ?"
        )
        return [_with_id(row) for row in self._database.rows(sql, (after, limit))]

    def reached_before(self, phones: Sequence[int]) -> dict[int, str]:
        """See `JournalReader.reached_before`."""
        return reached_before(self._database, phones)

    def excluded_among(self, phones: Sequence[int]) -> dict[int, Exclusion]:
        """See `JournalReader.excluded_among`."""
        wanted = ", ".join(map(str, phones))  # whole numbers
        rows = self._database.rows(f"{_EXCLUDED} AND phone IN ({wanted})")
        return {phone: Exclusion(why) for phone, why in rows}

    def call_costs(self) -> list[CallCost]:
        """What each call cost, or may have. Walks through all recipients."""
        return [CallCost.of_row(row) for row in self._database.rows(_CALL_COSTS)]

    def rejected_rows(self, after: tuple[int, str], limit: int = PAGE) -> list[Recipient]:
        """Rows of the list that are no phone of their own, beyond the line and number `after`."""
        rows = self._database.rows(
            "SELECT number, line, exclusion, reason FROM aside WHERE (line, number) > (?, ?)"
            " ORDER BY line, number LIMIT ?",
            (*after, limit),
        )
        return [rejected_row(row) for row in rows]


def _with_id(row: Sequence[Any]) -> tuple[int, Recipient]:
    reported_at = None if row[-1] is None else datetime.fromtimestamp(row[-1], UTC)
    return row[0], recipient_of(row, reported_at)


def check_kind(path: str, application: int, version: int) -> None:
    """Raise `JournalError` unless these are of a journal that this package reads."""
    if application != APPLICATION_ID:
        raise JournalError(path, FOREIGN)
    if not 1 <= version <= VERSION:
        problem = f"it is of version {version}, and this package reads 1 to {VERSION}; use a newer mmsclient"
        raise JournalError(path, problem)


def open_migrated(shown: str, *, is_read_only: bool = False) -> tuple[Database, WatchedFiles]:
    """The file of a journal, writable and of the present version, and what tells whether it is replaced.

    Raises `JournalError` where there is none.
    """
    SQLiteReader.open(shown).close()
    with translated_errors(shown):
        files = WatchedFiles(shown)
        database = Database.writable(shown)
        try:
            migrate(database)  # reads from it, which makes the log
            if is_read_only:
                database.execute("PRAGMA query_only = ON")
            files.watch_log()
            return database, files
        except BaseException:
            database.close()
            raise
