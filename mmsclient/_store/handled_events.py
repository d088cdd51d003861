"""Which callbacks were handled, over the end of a process and for several of them: the rules that no engine changes.

An event is reserved by one process, handled, and confirmed; or released where it could not be handled. A process that
dies leaves its reservations, which end with their lease.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from enum import Enum, auto
from typing import TypeAlias

from attrs import define

from mmsclient._store.group_commit import Committer, GroupCommit
from mmsclient._store.shared_reports import Listen, Look, Looked, SharedReports
from mmsclient.models import DeliveryReport

__all__ = [
    "KEPT",
    "LEASE",
    "PURGE_EVERY",
    "Confirm",
    "EventResult",
    "EventWrite",
    "Extend",
    "HandledEvents",
    "Release",
    "Reservation",
    "Reserve",
]

log = logging.getLogger(__name__)

LEASE = 5.0
"""Seconds that a reservation outlives its process. A living one renews it."""

KEPT = 30 * 86400.0
"""Seconds that a handled event is remembered."""

PURGE_EVERY = 10_000
"""Confirmations between two clearings of the store."""


class Reservation(Enum):
    """What came of the wish to handle an event."""

    OURS = auto()
    """Not handled yet, and reserved: handle it."""
    HANDLED = auto()
    """It was handled before."""
    ELSEWHERE = auto()
    """Another process has reserved it."""


@define
class Reserve:
    """Reserve an event, unless it was handled or is reserved by another owner."""

    key: bytes


@define
class Confirm:
    """An event was handled."""

    key: bytes
    report: DeliveryReport | None = None
    """What is kept of it, where the store is shared, for those who wait for it on other machines."""


@define
class Release:
    """Give a reservation back."""

    key: bytes


@define
class Extend:
    """Renew reservations."""

    keys: tuple[bytes, ...]


EventWrite: TypeAlias = Reserve | Confirm | Release | Extend | Look
EventResult: TypeAlias = Reservation | Looked | None
"""A `Reserve` has a `Reservation`, a `Look` what it saw, the others nothing."""

EventStore: TypeAlias = Committer[EventWrite, EventResult]
"""Where events are remembered, for one owner of reservations: another one in each process.

An event has at most one of `Reserve`, `Confirm` and `Release` in one transaction.
"""


class HandledEvents:
    """The keys of the events of the last 30 days. Several processes may share the store.

    A process that dies leaves its reservations, which end after `lease` seconds; one that lives renews them, as long as
    its event loop is not blocked for that long.

    Args:
        connect: Opens the store, for a new owner.
        lease: Seconds that a reservation outlives its process, as the store was told.
        listen: Where other machines share the store: how to hear of them.
    """

    def __init__(self, connect: Callable[[], EventStore], *, lease: float, listen: Listen | None = None) -> None:
        self._lease = lease
        self._process: int | None = None
        self._commits: GroupCommit[EventWrite, EventResult] = GroupCommit(connect)
        self.elsewhere = None if listen is None else SharedReports(self._commits.run, listen)
        """The reports of other machines, where there are any."""
        self.leases_lost: int = 0
        """Reservations that were not renewed in time, so that another process may have made them its own."""

    def _begin_in_this_process(self) -> None:
        self._process = os.getpid()
        self._reserved: dict[bytes, float] = {}
        """When each was made or renewed last."""
        self._renewing: asyncio.Task[None] | None = None

    async def reserve(self, key: bytes) -> Reservation:
        """Reserves an event for this process, unless it was handled or is reserved by another."""
        if self._process != os.getpid():
            self._begin_in_this_process()
        now = asyncio.get_running_loop().time()
        reservation = await self._commits.submit(Reserve(key))
        assert isinstance(reservation, Reservation)  # noqa: S101
        if reservation is Reservation.OURS:
            self._reserved[key] = now
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return reservation

    async def confirm(self, key: bytes, report: DeliveryReport | None = None) -> None:
        """Notes that an event was handled; where that fails it stays reserved.

        Args:
            key: Of the event.
            report: What is kept of it for those who wait on other machines.
        """
        await self._commits.submit(Confirm(key, report))
        self._end_lease(key)

    async def release(self, key: bytes) -> None:
        """Gives a reservation back."""
        self._end_lease(key)
        await self._commits.submit(Release(key))

    def abandon(self, key: bytes) -> None:
        """A reservation is not renewed any more: it ends with its lease, as if this process had died."""
        self._reserved.pop(key, None)

    def _end_lease(self, key: bytes) -> None:
        """A reservation of this process ends, unless it had no more."""
        made = self._reserved.pop(key, None)
        self.leases_lost += made is not None and asyncio.get_running_loop().time() - made > self._lease

    async def check(self) -> None:
        """Raises what the store raises, unless it can be written: reserves what is no event, and gives it back."""
        key = secrets.token_bytes(16)
        await self._commits.submit(Reserve(key))
        await self._commits.submit(Release(key))

    async def aclose(self) -> None:
        """Closes the store. What is still reserved is free when its lease has ended."""
        try:
            if self._process == os.getpid() and self._renewing is not None:
                self._renewing.cancel()
                await asyncio.wait([self._renewing])
                self._renewing = None
        finally:
            await self._commits.aclose()

    async def _renew(self) -> None:
        """As long as anything is reserved: a task that does not end would keep this alive."""
        clock = asyncio.get_running_loop().time
        while self._reserved:
            await asyncio.sleep(self._lease / 3)
            if self._reserved:
                now, keys = clock(), tuple(self._reserved)
                try:
                    await self._commits.submit(Extend(keys))
                except Exception as error:
                    log.warning("callbacks: reservations could not be renewed: %s", error)
                    continue
                for key in keys:
                    if (made := self._reserved.get(key)) is not None:
                        self.leases_lost += now - made > self._lease
                        self._reserved[key] = max(made, now)
