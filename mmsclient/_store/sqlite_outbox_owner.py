"""Whose an outbox in SQLite is: one account's, from its first message on."""

from __future__ import annotations

from attrs import frozen

from mmsclient._store.errors import JournalMismatchError
from mmsclient._store.models import Owner
from mmsclient._store.ownership import BegunBy, objection_of, tell_of_another_key
from mmsclient._store.sqlite_database import Database

__all__ = ["belong_to"]

_HAS_SENT = (
    "SELECT ? <> (SELECT count(*) FROM outbox WHERE state = 'cancelled')"
    " OR EXISTS (SELECT 1 FROM outbox WHERE state = 'sending')"
)


@frozen
class _Outbox:
    """An outbox, as `ownership` asks for it."""

    path: str
    _database: Database

    def begun_by(self) -> BegunBy | None:
        meta = self._database.meta
        salt = meta("key_salt")
        return None if salt is None else (meta("base_url"), salt, meta("key_fingerprint"))

    def has_sent(self) -> bool:
        return bool(self._database.rows(_HAS_SENT, (int(self._database.meta("last_number") or 0),))[0][0])


def belong_to(database: Database, path: str, owner: Owner) -> None:
    """From its first message on, the outbox is for its owner alone. Raises `JournalMismatchError`."""
    outbox = _Outbox(path, database)
    if objection := objection_of(outbox, owner, "orders"):
        raise JournalMismatchError(path, objection)
    tell_of_another_key(outbox, owner, "outbox")
    for fact in owner.facts().items():
        database.set_meta(*fact)
