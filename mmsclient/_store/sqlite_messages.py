"""Which recipients of a journal in SQLite are next, and what they get where each has a message of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mmsclient._store.evidence import RESENT
from mmsclient._store.models import Exclusion, OwnRow, PersonalMessage, Picked, Selection
from mmsclient._store.sqlite_database import Database
from mmsclient._store.states import CLAIM, REOPEN

__all__ = [
    "TEMPLATE",
    "PersonalQueue",
    "PlainQueue",
    "Queue",
    "assign",
    "calls_ahead",
    "first_messages",
    "messages_of",
    "own_rows",
    "texts_ahead",
    "without_picture",
]

TEMPLATE = "template"
"""The fact about a journal whose recipients have messages of their own."""

_NEXT = f"SELECT id, phone, state FROM recipient WHERE id > ? AND {CLAIM.guard} ORDER BY id LIMIT ?"  # noqa: S608
_READY = f"SELECT count(*) FROM recipient WHERE id > ? AND {CLAIM.guard}"  # noqa: S608

_NEXT_GROUP = f"""
SELECT message FROM recipient WHERE message IS NOT NULL AND (message, id) > (?, ?) AND {CLAIM.guard}
ORDER BY message, id LIMIT 1
"""  # noqa: S608
_NEXT_OF_GROUP = f"""
SELECT id, phone, state FROM recipient WHERE message = ? AND id > ? AND {CLAIM.guard} ORDER BY id LIMIT ?
"""  # noqa: S608
_READY_BY_GROUP = f"""
SELECT count(*) FROM recipient WHERE message IS NOT NULL AND (message, id) > (?, ?) AND {CLAIM.guard}
"""  # noqa: S608

_CALLS_AHEAD = f"""
SELECT count(*), ifnull(sum((members + ? - 1) / ?), 0)
FROM (SELECT count(*) AS members FROM recipient WHERE {CLAIM.guard} GROUP BY message)
"""  # noqa: S608
_TEXTS_AHEAD = f"""
SELECT (SELECT text FROM message WHERE id = ahead.message), members
FROM (SELECT message, count(*) AS members FROM recipient WHERE {CLAIM.guard} GROUP BY message) AS ahead
"""  # noqa: S608
_FIRST = f"""
SELECT phone, text, subject, picture FROM recipient JOIN message ON message.id = recipient.message
WHERE {CLAIM.guard} ORDER BY recipient.id LIMIT ?
"""  # noqa: S608
_OF_PHONES = "SELECT phone, text, subject, picture FROM recipient JOIN message ON message.id = recipient.message"


_WITHOUT_PICTURE = (
    f"SELECT count(*) FROM recipient WHERE {REOPEN.guard} AND exclusion = '{Exclusion.NO_MESSAGE}'"  # noqa: S608
    " AND phone NOT IN (SELECT phone FROM excluded)"
)


class Queue(Protocol):
    """The order in which recipients are claimed. A position in it is a group and an id."""

    def next(self, after: tuple[int, int], limit: int, selection: Selection | None = None) -> Picked:
        """Those who come next; of those whose picture was made, where there is a `selection`."""
        ...

    def ready(self, after: tuple[int, int]) -> int:
        """How many are left."""
        ...


class PlainQueue:
    """All get the same: in the order of the list."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next(self, after: tuple[int, int], limit: int, selection: Selection | None = None) -> Picked:
        """Those who come next."""
        return Picked(self._database.rows(_NEXT, (after[1], limit)))

    def ready(self, after: tuple[int, int]) -> int:
        """How many are left."""
        ((ready,),) = self._database.rows(_READY, (after[1],))
        return int(ready)


class PersonalQueue:
    """One message after the other, each to those who get it, in the order of the list."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next(self, after: tuple[int, int], limit: int, selection: Selection | None = None) -> Picked:
        """Those who come next, all of one message. What a selection says of it is noted."""
        if selection is not None:
            return self._selected(selection, limit)
        found = self._database.rows(_NEXT_GROUP, after)
        if not found:
            return Picked(())
        ((group,),) = found
        rows = self._database.rows(_NEXT_OF_GROUP, (group, after[1] if group == after[0] else 0, limit))
        sql = "SELECT text, subject, picture FROM message WHERE id = ?"
        ((text, subject, picture),) = self._database.rows(sql, (group,))
        return Picked(rows, group, PersonalMessage(text, subject, picture))

    def _selected(self, selection: Selection, limit: int) -> Picked:
        wanted = ", ".join(map(str, selection.ids))  # whole numbers
        sql = f"SELECT id, phone, state FROM recipient WHERE id IN ({wanted}) AND {CLAIM.guard} ORDER BY id LIMIT ?"  # noqa: S608
        rows = self._database.rows(sql, (limit,))
        number = _noted(self._database, selection.message) if rows else 0
        sql = "UPDATE recipient SET message = ? WHERE id = ? AND message <> ?"
        self._database.execute_many(sql, ((number, each, number) for each, _, _ in rows))
        return Picked(rows, selection.group, selection.message)

    def ready(self, after: tuple[int, int]) -> int:
        """How many are left."""
        ((ready,),) = self._database.rows(_READY_BY_GROUP, after)
        return int(ready)


def assign(database: Database, phone: int, message: PersonalMessage, fields: str | None) -> None:
    """From now on a new recipient gets `message`."""
    sql = "UPDATE recipient SET message = ?, fields = ? WHERE phone = ?"
    database.execute(sql, (_noted(database, message), fields, phone))


def _noted(database: Database, message: PersonalMessage) -> int:
    """The number of `message`, which is taken in if it is new."""
    digest = message.digest
    sql = "INSERT OR IGNORE INTO message (digest, text, subject, picture) VALUES (?, ?, ?, ?)"
    database.execute(sql, (digest, message.text, message.subject, message.picture))
    ((number,),) = database.rows("SELECT id FROM message WHERE digest = ?", (digest,))
    return int(number)


def own_rows(database: Database, ids: Sequence[int]) -> dict[int, OwnRow]:
    """Of what the pictures of these recipients are made, by their ids."""
    wanted = ", ".join(map(str, ids))  # whole numbers
    sql = f"SELECT id, fields, reason IS ? FROM recipient WHERE id IN ({wanted})"  # noqa: S608
    return {each: OwnRow(fields, bool(is_resent)) for each, fields, is_resent in database.rows(sql, (RESENT,))}


def calls_ahead(database: Database, batch_size: int) -> tuple[int, int]:
    """Different messages that a run would send, and the calls that takes at least. Walks through all recipients."""
    ((messages, calls),) = database.rows(_CALLS_AHEAD, (batch_size, batch_size))
    return messages, calls


def texts_ahead(database: Database) -> list[tuple[str | None, int]]:
    """What a run would send, None for what all get, and to how many. Walks through all recipients."""
    return database.rows(_TEXTS_AHEAD)


def first_messages(database: Database, most: int) -> list[tuple[int, PersonalMessage]]:
    """The first of the list that a run would send to, with what they get."""
    rows = database.rows(_FIRST, (most,))
    return [(phone, PersonalMessage(*message)) for phone, *message in rows]


def messages_of(database: Database, phones: Sequence[int]) -> dict[int, PersonalMessage]:
    """What those of `phones` get who have a message of their own."""
    wanted = ", ".join(map(str, phones))  # whole numbers
    sql = f"{_OF_PHONES} WHERE phone IN ({wanted})"
    return {phone: PersonalMessage(*message) for phone, *message in database.rows(sql)}


def without_picture(database: Database) -> int:
    """Recipients whose own picture was gone when their turn came; the next run tries again."""
    ((count,),) = database.rows(_WITHOUT_PICTURE)
    return int(count)
