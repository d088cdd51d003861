"""Whose a journal or an outbox is: one account's, from its first message on."""

from __future__ import annotations

import logging
from typing import Protocol, TypeAlias

from mmsclient._store.models import Owner

__all__ = ["BegunBy", "objection_of", "tell_of_another_key"]

log: logging.Logger = logging.getLogger(__name__)

BegunBy: TypeAlias = tuple[str | None, bytes, str | None]
"""Base URL, salt and fingerprint of the owner that a journal was begun by, as `Owner.objection` takes them."""


class _Journal(Protocol):
    @property
    def path(self) -> str: ...

    def begun_by(self) -> BegunBy | None:
        """None where nobody has opened it to send."""
        ...

    def has_sent(self) -> bool:
        """Something was sent with it, or may have been, or was refused for its recipient's sake."""
        ...


def objection_of(journal: _Journal, owner: Owner, content: str = "a campaign") -> str:
    """Why a journal of `content` is not `owner`'s; "" where it is.

    One with which nothing was sent takes another key: the first may have been mistyped. It does not take another host:
    what was meant for a sandbox that was away would reach people.
    """
    if (begun_by := journal.begun_by()) is None:
        return ""
    objection = owner.objection(*begun_by, content=content)
    is_of_this_host = begun_by[0] == owner.base_url
    return objection if objection and not (is_of_this_host and not journal.has_sent()) else ""


def tell_of_another_key(journal: _Journal, owner: Owner, what: str = "journal") -> None:
    """Warn where a journal is about to be `owner`'s that was begun with another key."""
    begun_by = journal.begun_by()
    if begun_by is not None and owner.objection(*begun_by):
        log.warning(
            "%s %s: nothing was sent with the APPKEY that it was begun with; it takes this one", what, journal.path
        )
