"""Which callbacks were handled, over the end of a process and for several of them: the rules that no engine changes.

An event is reserved by one process, handled, and confirmed; or released where it could not be handled. A process that
dies leaves its reservations, which end with their lease.
"""

from __future__ import annotations

import asyncio
import logging
import os
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

    def _begin_in_this_process(self) -> None:
        self._process = os.getpid()
        self._reserved: set[bytes] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def reserve(self, key: bytes) -> Reservation:
        """Reserves an event for this process, unless it was handled or is reserved by another."""
        if self._process != os.getpid():
            self._begin_in_this_process()
        reservation = await self._commits.submit(Reserve(key))
        assert isinstance(reservation, Reservation)  # noqa: S101
        if reservation is Reservation.OURS:
            self._reserved.add(key)
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return reservation

    async def confirm(self, key: bytes, report: DeliveryReport | None = None) -> None:
        """Notes that an event was handled; `report`: what is kept of it for those who wait on other machines."""
        self._reserved.discard(key)
        await self._commits.submit(Confirm(key, report))

    async def release(self, key: bytes) -> None:
        """Gives a reservation back."""
        self._reserved.discard(key)
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
        while self._reserved:
            await asyncio.sleep(self._lease / 3)
            if self._reserved:
                try:
                    await self._commits.submit(Extend(tuple(self._reserved)))
                except Exception as error:
                    log.warning("callbacks: reservations could not be renewed: %s", error)
