"""Reads a journal in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from typing import Any

from mmsclient._api.types import Kind
from mmsclient._store.errors import JournalError
from mmsclient._store.figures import Figures
from mmsclient._store.models import (
    RECIPIENT_COLUMNS,
    SMS_FIELDS,
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
from mmsclient._store.postgres import messages
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.evidence import reached_before, unknown_summary
from mmsclient._store.postgres.figures import figures
from mmsclient._store.postgres.steering import orders_in, standing
from mmsclient._store.spending import CallCost
from mmsclient._store.steering import Orders, Standing
from mmsclient.models import DeliveryStatus

__all__ = ["PostgresReader"]

PAGE = 1000
"""Rows read at a time."""

RECIPIENT_STATUS = """(
    SELECT recipient.*, reported.status, reported.reported FROM recipient LEFT JOIN LATERAL (
        SELECT status, reported FROM delivery
        WHERE recipient.state = 'accepted' AND delivery.message_id = recipient.message_id
            AND delivery.phone IN (0, recipient.phone)
        ORDER BY final DESC, phone DESC LIMIT 1
    ) AS reported ON true
    WHERE recipient.campaign = %s
) AS recipient_status"""
"""Each recipient with what was reported of it; a report may name the recipient or not, and both may come."""

# One by one, as in `evidence`.
_EXCLUDED = """
SELECT asked.phone, why FROM unnest(%s::bigint[]) AS asked (phone) CROSS JOIN LATERAL (
    SELECT coalesce(exclusion, (
        SELECT exclusion FROM excluded WHERE excluded.campaign = recipient.campaign AND phone = asked.phone LIMIT 1
    )) AS why FROM recipient WHERE phone = asked.phone AND campaign + 0 = %s LIMIT 1
) AS found WHERE why IS NOT NULL
"""

_DELIVERY_SECONDS = f"""
SELECT (percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM reported - (
    SELECT started FROM batch WHERE batch.campaign = recipient_status.campaign AND batch.id = recipient_status.batch
))))::float8 FROM {RECIPIENT_STATUS} WHERE status = 'Delivered'
"""  # noqa: S608

_COUNTS = """
SELECT state, exclusion, count(*) FROM recipient WHERE campaign = %s GROUP BY state, exclusion
UNION ALL SELECT 'excluded', exclusion, count(*) FROM aside WHERE campaign = %s GROUP BY exclusion
"""

_CALLS = """
SELECT count(*), extract(epoch FROM min(started))::float8, extract(epoch FROM max(started))::float8,
    extract(epoch FROM max(ended))::float8
FROM batch WHERE campaign = %s
"""

_HAS_SENT = """
SELECT EXISTS (SELECT 1 FROM recipient WHERE campaign = %s AND state NOT IN ('pending', 'failed', 'excluded'))
    OR EXISTS (SELECT 1 FROM former_call WHERE campaign = %s)
    OR EXISTS (SELECT 1 FROM batch WHERE campaign = %s AND (ended IS NULL OR accepted IS NULL OR accepted > 0))
"""

_CALL_COSTS = """
SELECT recipients, is_open, accepted, credits, taken, doubtful,
    (SELECT text FROM message WHERE message.campaign = %s AND message.id = own LIMIT 1)
FROM (
    SELECT id, max(recipients) AS recipients, bool_or(is_open) AS is_open, max(accepted) AS accepted,
        max(credits) AS credits, sum(taken) AS taken, sum(doubtful) AS doubtful, max(message) AS own
    FROM (
        SELECT id, recipients, ended IS NULL OR accepted IS NULL AS is_open, coalesce(accepted, 0) AS accepted, credits,
            0 AS taken, 0 AS doubtful, NULL::bigint AS message
        FROM batch WHERE campaign = %s
        UNION ALL
        SELECT batch, NULL, NULL, NULL, NULL, count(*) FILTER (WHERE state = 'accepted'),
            count(*) FILTER (WHERE state IN ('sending', 'unknown')), max(message)
        FROM recipient WHERE campaign = %s AND batch IS NOT NULL GROUP BY batch
        UNION ALL
        SELECT batch, NULL, NULL, NULL, NULL, 0, 0, (
            SELECT message FROM recipient
            WHERE recipient.campaign = former_call.campaign AND recipient.id = former_call.recipient LIMIT 1
        ) FROM former_call WHERE campaign = %s
    ) AS figures GROUP BY id HAVING max(recipients) IS NOT NULL
) AS calls ORDER BY id
"""
"""No join of the two: where statistics know nothing of the campaign, it may be each with each."""


OPT_OUT_LINE = "opt_out_line"
"""The opt-out line of an MMS, in the column that holds the fields of an SMS."""


def _beside(kind: Kind, sms: str) -> tuple[str, str]:
    """The fields of an SMS, and the opt-out line of an MMS, of that column."""
    return (sms, "") if kind == "sms" else ("", json.loads(sms or "{}").get(OPT_OUT_LINE, ""))


class PostgresReader:
    """Reads the journal of one campaign; several may, also while a sender writes it."""

    def __init__(self, database: Database, campaign: int) -> None:
        self._database = database
        self._campaign = campaign

    @property
    def path(self) -> str:
        """Host, database and campaign."""
        return self._database.path

    @property
    def is_current(self) -> bool:
        """The campaign is there."""
        sql = "SELECT EXISTS (SELECT FROM campaign WHERE id = %s)"
        (found,) = self._database.run(lambda transaction: transaction.row(sql, (self._campaign,)), reads=True)
        return bool(found)

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._database.close()

    def message(self) -> Message:
        """The message that the journal belongs to. Raises `JournalError` where it is not whole."""
        sql = "SELECT image_sha256, text, subject, image, template, kind, sms FROM campaign WHERE id = %s"
        image_sha256, text, subject, image, template, kind, sms = self._only_row(sql)
        message = Message(text, subject, bytes(image), template, kind, *_beside(kind, sms))
        if message.image_sha256 != image_sha256:
            raise JournalError(self.path, "the message in it is not the one it was made with")
        return message

    def parts(self) -> Mapping[str, str]:
        """The parts of the journal's message. Does not fetch its image."""
        sql = "SELECT text, subject, image_sha256, template, kind, sms FROM campaign WHERE id = %s"
        *parts, kind, sms = self._only_row(sql)
        names = ("text", "subject", "image", "template", "kind", SMS_FIELDS)
        return dict(zip(names, (*parts, kind, _beside(kind, sms)[0]), strict=True))

    def begun_by(self) -> BegunBy | None:
        """The owner that it was begun by; None where nobody has opened it to send."""
        sql = "SELECT base_url, key_salt, key_fingerprint FROM campaign WHERE id = %s"
        base_url, salt, fingerprint = self._only_row(sql)
        return None if base_url is None else (base_url, bytes(salt or b""), fingerprint)

    def has_sent(self) -> bool:
        """Something was sent with it, or may have been, or was refused for its recipient's sake."""
        (found,) = self._database.run(lambda each: each.row(_HAS_SENT, (self._campaign,) * 3), reads=True)
        return bool(found)

    def summary(self) -> Summary:
        """Counts, credits and times. Walks through all recipients."""
        return self._database.run(self.summary_in, reads=True)

    def summary_in(self, transaction: Transaction) -> Summary:
        """As `summary`, within a transaction."""
        campaign = self._campaign
        counts, exclusions = counted_by(transaction.rows(_COUNTS, (campaign, campaign)))
        calls, started, last_started, ended = transaction.row(_CALLS, (campaign,))
        sql = "SELECT credits FROM batch WHERE campaign = %s AND credits <> ''"
        credits_used = sum((Decimal(text) for (text,) in transaction.rows(sql, (campaign,))), Decimal(0))
        sql = "SELECT list_read, kind FROM campaign WHERE id = %s"
        list_read, kind = transaction.row_of_campaign(sql, (campaign,))
        sql = f"SELECT status, count(*) FROM {RECIPIENT_STATUS} WHERE status IS NOT NULL GROUP BY status"  # noqa: S608
        deliveries = {DeliveryStatus(status): count for status, count in transaction.rows(sql, (campaign,))}
        (seconds,) = transaction.row(_DELIVERY_SECONDS, (campaign,))
        unknown = unknown_summary(transaction, campaign)
        without_picture = messages.without_picture(transaction, campaign)
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
        return self._database.run(lambda each: figures(each, self._campaign, RECIPIENT_STATUS), reads=True)

    def orders(self) -> Orders:
        """What operators have asked of the sender so far."""
        return self._database.run(lambda transaction: orders_in(transaction, self._campaign), reads=True)

    def standing(self) -> Standing:
        """How the campaign stands at this moment. Walks through all recipients."""
        return self._database.run(lambda transaction: standing(transaction, self._campaign), reads=True)

    def calls_ahead(self, batch_size: int) -> tuple[int, int]:
        """Different messages that a run would send, and the calls that takes. Walks through all recipients."""
        return self._database.run(lambda each: messages.calls_ahead(each, self._campaign, batch_size), reads=True)

    def texts_ahead(self) -> list[tuple[str | None, int]]:
        """What a run would send, None for what all get, and to how many. Walks through all recipients."""
        return self._database.run(lambda each: messages.texts_ahead(each, self._campaign), reads=True)

    def first_messages(self, most: int) -> list[tuple[int, PersonalMessage]]:
        """The phones that a run would send messages of their own to, the first of the list, with what they get."""
        return self._database.run(lambda each: messages.first_messages(each, self._campaign, most), reads=True)

    def recipients(self, state: RecipientState | None, after: int, limit: int = PAGE) -> list[tuple[int, Recipient]]:
        """Recipients beyond the id `after`, with their ids."""
        sql = (
            f"SELECT {RECIPIENT_COLUMNS} FROM {RECIPIENT_STATUS}"  # noqa: S608
            " WHERE id > %s AND (%s::text IS NULL OR state = %s) ORDER BY id LIMIT %s"
        )
        rows = self._database.run(
            lambda transaction: transaction.rows(sql, (self._campaign, after, state, state, limit)), reads=True
        )
        return [_with_id(row) for row in rows]

    def messages_of(self, phones: Sequence[int]) -> dict[int, PersonalMessage]:
        """What those of `phones` get who have a message of their own."""
        return self._database.run(lambda each: messages.messages_of(each, self._campaign, phones), reads=True)

    def upcoming(self, after: tuple[int, int], limit: int) -> Picked:
        """Those who come next after a position, all of one message, where each has one of its own. Claims nobody."""
        queue = messages.PersonalQueue(self._campaign)
        return self._database.run(lambda each: queue.next(each, after, limit), reads=True)

    def own_rows(self, ids: Sequence[int]) -> dict[int, OwnRow]:
        """Of what the pictures of these recipients are made, by their ids."""
        return self._database.run(lambda each: messages.own_rows(each, self._campaign, ids), reads=True)

    def recipients_of(self, phones: Sequence[int]) -> list[tuple[int, Recipient]]:
        """Those of `phones` that are in the journal, with their ids."""
        sql = f"SELECT {RECIPIENT_COLUMNS} FROM {RECIPIENT_STATUS} WHERE phone = ANY(%s) ORDER BY id"  # noqa: S608
        values = (self._campaign, list(phones))
        rows = self._database.run(lambda transaction: transaction.rows(sql, values), reads=True)
        return [_with_id(row) for row in rows]

    def sent_again(self, after: int, limit: int = PAGE) -> list[tuple[int, Recipient]]:
        """See `JournalReader.sent_again`."""
        sql = (
            f"SELECT {RECIPIENT_COLUMNS} FROM {RECIPIENT_STATUS} WHERE id > %s AND state = 'accepted'"  # noqa: S608
            " AND id = ANY(ARRAY(SELECT recipient FROM former_call WHERE campaign = %s)) ORDER BY id LIMIT %s"
        )
        values = (self._campaign, after, self._campaign, limit)
        rows = self._database.run(lambda transaction: transaction.rows(sql, values), reads=True)
        return [_with_id(row) for row in rows]

    def reached_before(self, phones: Sequence[int]) -> dict[int, str]:
        """See `JournalReader.reached_before`."""
        return self._database.run(lambda each: reached_before(each, self._campaign, phones), reads=True)

    def excluded_among(self, phones: Sequence[int]) -> dict[int, Exclusion]:
        """See `JournalReader.excluded_among`."""
        values = (list(phones), self._campaign)
        rows = self._database.run(lambda transaction: transaction.rows(_EXCLUDED, values), reads=True)
        return {phone: Exclusion(why) for phone, why in rows}

    def call_costs(self) -> list[CallCost]:
        """What each call cost, or may have. Walks through all recipients."""
        values = (self._campaign,) * 4
        rows = self._database.run(lambda transaction: transaction.rows(_CALL_COSTS, values), reads=True)
        return [CallCost.of_row(row) for row in rows]

    def rejected_rows(self, after: tuple[int, str], limit: int = PAGE) -> list[Recipient]:
        """Rows of the list that are no phone of their own, beyond the line and number `after`."""
        sql = (
            "SELECT number, line, exclusion, reason FROM aside"
            ' WHERE campaign = %s AND (line, number COLLATE "C") > (%s, %s) ORDER BY line, number COLLATE "C" LIMIT %s'
        )
        rows = self._database.run(
            lambda transaction: transaction.rows(sql, (self._campaign, *after, limit)), reads=True
        )
        return [rejected_row(row) for row in rows]

    def _only_row(self, sql: str) -> tuple[Any, ...]:
        values = (self._campaign,)
        row: tuple[Any, ...] = self._database.run(lambda each: each.row_of_campaign(sql, values), reads=True)
        return row


def _with_id(row: Sequence[Any]) -> tuple[int, Recipient]:
    return row[0], recipient_of(row, None if row[-1] is None else row[-1].astimezone(UTC))
