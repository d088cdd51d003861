"""Which recipients of a campaign in PostgreSQL are next, and what they get where each has a message of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from mmsclient._store.evidence import RESENT
from mmsclient._store.models import Exclusion, ListEntry, OwnRow, PersonalMessage, Picked, Selection
from mmsclient._store.postgres.database import Transaction, columns
from mmsclient._store.states import CLAIM, REOPEN

__all__ = [
    "PersonalQueue",
    "PlainQueue",
    "Queue",
    "calls_ahead",
    "first_messages",
    "insert",
    "messages_of",
    "own_rows",
    "texts_ahead",
    "without_picture",
]

_LAST_ID = 2**63 - 1

FEW, MANY = 100, 10_000
"""Messages among which the next one is looked for."""

# Ids come with their range, which lies together: a new table has no statistics that would lead to the index by its key.

_NEXT = f"""
SELECT id, phone, state FROM recipient
WHERE campaign = %s AND id BETWEEN %s AND %s AND {CLAIM.guard} ORDER BY id LIMIT %s
"""  # noqa: S608
_READY = f"SELECT count(*) FROM recipient WHERE campaign = %s AND id > %s AND {CLAIM.guard}"  # noqa: S608

_NEXT_GROUP = f"""
SELECT message.id FROM message CROSS JOIN LATERAL (
    SELECT 1 FROM recipient
    WHERE recipient.campaign = message.campaign AND recipient.message = message.id AND {CLAIM.guard} LIMIT 1
) AS ready
WHERE message.campaign = %s AND message.id BETWEEN %s AND %s ORDER BY message.id LIMIT 1
"""  # noqa: S608
_NEXT_OF_GROUP = f"""
SELECT id, phone, state FROM recipient WHERE campaign = %s AND message = %s AND id > %s AND {CLAIM.guard}
ORDER BY campaign, message, id LIMIT %s
"""  # noqa: S608
_READY_BY_GROUP = f"""
SELECT count(*) FROM recipient
WHERE campaign = %s AND message IS NOT NULL AND (message, id) > (%s, %s) AND {CLAIM.guard}
"""  # noqa: S608

_CALLS_AHEAD = f"""
SELECT count(*), coalesce(sum((members + %s - 1) / %s), 0)::bigint
FROM (SELECT count(*) AS members FROM recipient WHERE campaign = %s AND {CLAIM.guard} GROUP BY message) AS grouped
"""  # noqa: S608
_TEXTS_AHEAD = f"""
SELECT (SELECT text FROM message WHERE message.campaign = %s AND message.id = ahead.message), members
FROM (
    SELECT message, count(*) AS members FROM recipient WHERE campaign = %s AND {CLAIM.guard} GROUP BY message
) AS ahead
"""  # noqa: S608
_FIRST = f"""
SELECT phone, own.* FROM recipient CROSS JOIN LATERAL (
    SELECT text, subject, picture FROM message
    WHERE message.campaign = recipient.campaign AND message.id = recipient.message LIMIT 1
) AS own
WHERE recipient.campaign = %s AND {CLAIM.guard} ORDER BY recipient.id LIMIT %s
"""  # noqa: S608

_OF_PHONES = """
SELECT phone, own.* FROM recipient CROSS JOIN LATERAL (
    SELECT text, subject, picture FROM message
    WHERE message.campaign = recipient.campaign AND message.id = recipient.message LIMIT 1
) AS own
WHERE campaign + 0 = %s AND phone = ANY(%s)
"""

_NOTE = """
INSERT INTO message (campaign, digest, text, subject, picture)
SELECT %s, digest, text, subject, picture FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::text[])
    WITH ORDINALITY AS new (digest, text, subject, picture, place)
ORDER BY place ON CONFLICT DO NOTHING
"""
_NOTED = """
SELECT digest, (SELECT id FROM message WHERE campaign = %s AND message.digest = new.digest)
FROM unnest(%s::bytea[]) AS new (digest)
"""
_INSERT = """
WITH last AS (
    SELECT coalesce((SELECT id FROM recipient WHERE campaign = %s ORDER BY id DESC LIMIT 1), 0) AS id
), added AS (
    INSERT INTO recipient (campaign, id, phone, state, exclusion, line, run, message, fields)
    SELECT %s, last.id + place, phone, CASE WHEN exclusion IS NULL THEN 'pending' ELSE 'excluded' END, exclusion, line,
        %s, message, fields
    FROM last, (
        SELECT *, (SELECT exclusion FROM excluded WHERE campaign = %s AND phone = listed.phone) AS exclusion
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[])
            WITH ORDINALITY AS listed (phone, line, message, fields, place)
        OFFSET 0
    ) AS new
    RETURNING exclusion
)
SELECT count(exclusion) FROM added
"""
_SELECTED = f"""
SELECT id, phone, state, message FROM unnest(%s::bigint[]) AS selected (wanted) CROSS JOIN LATERAL (
    SELECT * FROM recipient WHERE campaign = %s AND id = wanted AND {CLAIM.guard} LIMIT 1
) AS ready ORDER BY id LIMIT %s
"""  # noqa: S608
_ASSIGN = """
UPDATE recipient SET message = %s FROM unnest(%s::bigint[]) AS assigned (id)
WHERE campaign = %s AND message = %s AND recipient.id BETWEEN %s AND %s AND recipient.id = assigned.id
"""
_OWN_ROWS = """
SELECT id, fields, coalesce(reason = %s, false) FROM unnest(%s::bigint[]) AS asked (wanted) CROSS JOIN LATERAL (
    SELECT * FROM recipient WHERE campaign = %s AND id = wanted LIMIT 1
) AS own
"""


_WITHOUT_PICTURE = f"""
SELECT count(*) FROM recipient
WHERE campaign = %s AND {REOPEN.guard} AND exclusion = '{Exclusion.NO_MESSAGE}' AND NOT EXISTS (
    SELECT 1 FROM excluded WHERE excluded.campaign = recipient.campaign AND excluded.phone = recipient.phone
)
"""  # noqa: S608


class Queue(Protocol):
    """The order in which recipients are claimed. A position in it is a group and an id."""

    def next(
        self, transaction: Transaction, after: tuple[int, int], limit: int, selection: Selection | None = None
    ) -> Picked:
        """Those who come next; of those whose picture was made, where there is a `selection`."""
        ...

    def ready(self, transaction: Transaction, after: tuple[int, int]) -> int:
        """How many are left."""
        ...


@frozen
class PlainQueue:
    """All get the same: in the order of the list."""

    campaign: int

    def next(
        self, transaction: Transaction, after: tuple[int, int], limit: int, selection: Selection | None = None
    ) -> Picked:
        """Those who come next."""
        _, last = after
        found: list[tuple[int, int, str]] = []
        for end in (last + limit, _LAST_ID):  # mostly nobody has to be passed over
            if len(found) < limit:
                found = transaction.rows(_NEXT, (self.campaign, last + 1, end, limit))
        return Picked(found)

    def ready(self, transaction: Transaction, after: tuple[int, int]) -> int:
        """How many are left."""
        return int(transaction.row(_READY, (self.campaign, after[1]))[0])


@frozen
class PersonalQueue:
    """One message after the other, each to those who get it, in the order of the list."""

    campaign: int

    def next(
        self, transaction: Transaction, after: tuple[int, int], limit: int, selection: Selection | None = None
    ) -> Picked:
        """Those who come next, all of one message. What a selection says of it is noted."""
        if selection is not None:
            return self._selected(transaction, selection, limit)
        group, last = after
        rows = transaction.rows(_NEXT_OF_GROUP, (self.campaign, group, last, limit))
        if not rows:
            found = self._next_group(transaction, group)
            if found is None:
                return Picked(())
            group = found
            rows = transaction.rows(_NEXT_OF_GROUP, (self.campaign, group, 0, limit))
        sql = "SELECT text, subject, picture FROM message WHERE campaign = %s AND id = %s"
        return Picked(rows, group, PersonalMessage(*transaction.row(sql, (self.campaign, group))))

    def _selected(self, transaction: Transaction, selection: Selection, limit: int) -> Picked:
        found = transaction.rows(_SELECTED, (list(selection.ids), self.campaign, limit))
        if found:
            number = _noted(transaction, self.campaign, {selection.message.digest: selection.message})[
                selection.message.digest
            ]
            for group in {group for *_, group in found} - {number}:
                ids = [row[0] for row in found if row[-1] == group]
                transaction.execute(_ASSIGN, (number, ids, self.campaign, group, min(ids), max(ids)))
        return Picked([(each, phone, state) for each, phone, state, _ in found], selection.group, selection.message)

    def _next_group(self, transaction: Transaction, after: int) -> int | None:
        for end in (after + FEW, after + MANY, _LAST_ID):  # mostly no group has to be passed over
            if (found := transaction.row(_NEXT_GROUP, (self.campaign, after + 1, end))) is not None:
                return int(found[0])
        return None

    def ready(self, transaction: Transaction, after: tuple[int, int]) -> int:
        """How many are left."""
        return int(transaction.row(_READY_BY_GROUP, (self.campaign, *after))[0])


def insert(transaction: Transaction, campaign: int, run: int, entries: Sequence[ListEntry]) -> int:
    """Take in new recipients, whose ids follow the last, with what each gets; how many of them are excluded."""
    messages = {entry.message.digest: entry.message for entry in entries if entry.message is not None}
    ids = _noted(transaction, campaign, messages)
    rows = (
        (entry.phone, entry.line, None if entry.message is None else ids[entry.message.digest], entry.fields)
        for entry in entries
    )
    (excluded,) = transaction.row(_INSERT, (campaign, campaign, run, campaign, *columns(rows, 4)))
    return int(excluded)


def _noted(transaction: Transaction, campaign: int, messages: dict[bytes, PersonalMessage]) -> dict[bytes, int]:
    """Note messages that are new; the numbers of all of them, by their digests."""
    if not messages:
        return {}
    rows = ((digest, message.text, message.subject, message.picture) for digest, message in messages.items())
    transaction.execute(_NOTE, (campaign, *columns(rows, 4)))
    return {bytes(digest): int(each) for digest, each in transaction.rows(_NOTED, (campaign, list(messages)))}


def calls_ahead(transaction: Transaction, campaign: int, batch_size: int) -> tuple[int, int]:
    """Different messages that a run would send, and the calls that takes at least. Walks through all recipients."""
    messages, calls = transaction.row(_CALLS_AHEAD, (batch_size, batch_size, campaign))
    return int(messages), int(calls)


def texts_ahead(transaction: Transaction, campaign: int) -> list[tuple[str | None, int]]:
    """What a run would send, None for what all get, and to how many. Walks through all recipients."""
    return transaction.rows(_TEXTS_AHEAD, (campaign, campaign))


def first_messages(transaction: Transaction, campaign: int, most: int) -> list[tuple[int, PersonalMessage]]:
    """The first of the list that a run would send to, with what they get."""
    rows = transaction.rows(_FIRST, (campaign, most))
    return [(phone, PersonalMessage(*message)) for phone, *message in rows]


def messages_of(transaction: Transaction, campaign: int, phones: Sequence[int]) -> dict[int, PersonalMessage]:
    """What those of `phones` get who have a message of their own."""
    rows = transaction.rows(_OF_PHONES, (campaign, list(phones)))
    return {phone: PersonalMessage(*message) for phone, *message in rows}


def own_rows(transaction: Transaction, campaign: int, ids: Sequence[int]) -> dict[int, OwnRow]:
    """Of what the pictures of these recipients are made, by their ids."""
    rows = transaction.rows(_OWN_ROWS, (RESENT, list(ids), campaign))
    return {each: OwnRow(fields, is_resent) for each, fields, is_resent in rows}


def without_picture(transaction: Transaction, campaign: int) -> int:
    """Recipients whose own picture was gone when their turn came; the next run tries again."""
    (count,) = transaction.row(_WITHOUT_PICTURE, (campaign,))
    return int(count)
