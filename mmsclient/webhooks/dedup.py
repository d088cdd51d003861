"""Which events were handled before: what a store of them does, the key of an event, and a store in memory.

An event is reserved, handled, and then confirmed; one that could not be handled is released. So each is handled exactly
once, unless the process dies between the end of the handling and the confirmation: that event is handled again if it is
posted again, and never lost.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from mmsclient._api.phone_numbers import phone_key
from mmsclient._bounded_cache import BoundedCache
from mmsclient._store.handled_events import Reservation
from mmsclient._store.shared_reports import SharedReports
from mmsclient.models import DeliveryReport
from mmsclient.webhooks.parse import Event, UnreadableCallback


class DedupStore(Protocol):
    """Remembers events by their keys."""

    @property
    def elsewhere(self) -> SharedReports | None: ...
    @property
    def leases_lost(self) -> int: ...
    async def reserve(self, key: bytes) -> Reservation: ...
    async def confirm(self, key: bytes, report: DeliveryReport | None = None) -> None: ...
    async def release(self, key: bytes) -> None: ...
    def abandon(self, key: bytes) -> None: ...
    async def check(self) -> None: ...
    async def aclose(self) -> None: ...


class InMemoryDedupStore:
    """The keys of the last `limit` events, about 200 bytes each. They go with the process."""

    elsewhere = None
    leases_lost: int = 0

    def __init__(self, limit: int) -> None:
        self._handled: BoundedCache[bytes, None] = BoundedCache(limit)

    async def reserve(self, key: bytes) -> Reservation:
        return Reservation.HANDLED if key in self._handled else Reservation.OURS

    async def confirm(self, key: bytes, report: DeliveryReport | None = None) -> None:
        self._handled[key] = None

    async def release(self, key: bytes) -> None:
        """Nothing was noted."""

    def abandon(self, key: bytes) -> None:
        """There is no lease."""

    async def check(self) -> None:
        """Memory can always be written."""

    async def aclose(self) -> None:
        """Nothing is open."""


def key_of(event: Event | UnreadableCallback) -> bytes | None:
    """What every copy of an event has in common, as 16 bytes; None for one without an id, which is never a copy.

    For a report its message, status and recipient, since one id may stand for several recipients; for a message its id.
    """
    if isinstance(event, UnreadableCallback):
        return None
    if isinstance(event, DeliveryReport):
        identity = [event.message_id.strip(), event.status.value, phone_key(event.recipient) or event.recipient]
    else:
        identity = [event.id.strip()]
    if not identity[0]:
        return None
    text = "\0".join([type(event).__name__, *identity])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
