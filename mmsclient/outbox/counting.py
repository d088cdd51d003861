"""Counts what is due, for those who observe, and keeps the worker from nothing."""

from __future__ import annotations

import asyncio
import logging

from mmsclient._store.outbox import OutboxWorkerStore
from mmsclient.observe.outbox import WorkerObserver
from mmsclient.outbox.errors import OutboxError
from mmsclient.outbox.threads import StoreThread

__all__ = ["DueCount"]

log: logging.Logger = logging.getLogger(__name__)

COUNT_EVERY = 15.0
"""Seconds between two counts, or attempts."""
IDLE_FOR_ONE = 100
"""How many times as long as a count takes is waited before the next."""


class DueCount:
    """Tells how many orders are due, now and then. Whatever goes wrong with that is only told."""

    def __init__(self, thread: StoreThread[OutboxWorkerStore], observer: WorkerObserver) -> None:
        self._thread = thread
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._next_at = 0.0
        self._has_failed = False

    async def look(self) -> None:
        """Count, if anybody is told and the time has come."""
        began = self._loop.time()
        if not self._observer.is_told or began < self._next_at:
            return
        self._next_at = began + COUNT_EVERY
        try:
            due = await self._thread.run(lambda store: store.due())
        except OutboxError as problem:
            if not self._has_failed:
                log.warning("%s; what is due could not be counted, which the observers are told", problem)
            self._has_failed = True
            self._observer.uncounted(problem)
        else:
            self._has_failed = False
            self._observer.due(due.orders, due.oldest, due.unknown)
        took = self._loop.time() - began
        self._next_at = began + took + max(COUNT_EVERY, IDLE_FOR_ONE * took)

    def end(self, error: BaseException | None) -> None:
        """The worker has ended, by an error or by being stopped."""
        self._observer.over(error)
