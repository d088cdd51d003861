"""Final reports that one machine handles and another waits for.

A machine that waits says so in the store, and finds there what was handled; one that has a report which nobody takes
finds there whether it is awaited elsewhere. Each tells the others by a notification that there is something to look at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeAlias

from attrs import frozen

from mmsclient.models import DeliveryReport

__all__ = ["Listen", "Look", "Looked", "SharedReports", "digests", "speaks_of"]

LONGEST_NOTICE = 400
"""Messages that a notification names; one of more is for everybody."""

Listen: TypeAlias = Callable[[Callable[[str], None]], Awaitable[None]]
"""Calls its argument with "" once it listens, and with each notification. Returns or raises when it no longer does."""


@frozen
class Look:
    """Say what is awaited here, for some seconds, and see what other machines have."""

    awaited: frozenset[tuple[str, str]]
    """Message ids, and phones as `phone_key` has them, "" for any."""
    offered: frozenset[str]
    """Messages of reports that nobody takes here."""


@frozen
class Looked:
    """What a look saw."""

    reports: tuple[DeliveryReport, ...]
    """Final ones of the messages that are awaited here."""
    awaited: tuple[tuple[str, str], ...]
    """Of the messages that are offered, those that are awaited elsewhere."""


@frozen
class SharedReports:
    """The reports of all machines that share a store."""

    _run: Callable[[Any], Awaitable[Any]]
    listen: Listen

    async def look(self, look: Look) -> Looked:
        """Look once. Raises what the store raises."""
        looked = await self._run(look)
        assert isinstance(looked, Looked)  # noqa: S101
        return looked


def digests(message_ids: Iterable[str]) -> str:
    """A notification about messages, which does not name them; "" for everybody."""
    found = sorted({_digest(message_id) for message_id in message_ids})
    return " ".join(found) if len(found) <= LONGEST_NOTICE else ""


def speaks_of(notice: str, message_ids: Collection[str]) -> bool:
    """A notification is about one of these messages, or about all."""
    return not notice or not {_digest(message_id) for message_id in message_ids}.isdisjoint(notice.split())


def _digest(message_id: str) -> str:
    return hashlib.blake2b(message_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
