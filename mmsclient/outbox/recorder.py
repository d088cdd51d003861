"""Claims, and the ends of calls. An end that the store cannot take is kept, written later, and told if not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from mmsclient._store.outbox import OrderEnd, OutboxClaim, OutboxState, OutboxWorkerStore
from mmsclient.bulk.waiting import all_done, is_ending
from mmsclient.errors import one_line
from mmsclient.outbox.errors import OutboxError, OutboxUnavailableError
from mmsclient.outbox.threads import StoreThread

__all__ = ["Recorder", "released"]

log: logging.Logger = logging.getLogger(__name__)

KEPT = 180.0
"""Seconds that the end of a call is kept which the store cannot take, and written as soon as it can."""
WRITE_AGAIN = 0.5
"""Seconds between the attempts to write it."""


class Recorder:
    """Writes claims and the ends of calls for one worker."""

    def __init__(self, thread: StoreThread[OutboxWorkerStore], changed: asyncio.Event) -> None:
        self._thread = thread
        self._changed = changed
        self._behind = 0

    @property
    def is_behind(self) -> bool:
        """Ends are waiting to be written: nothing new should start."""
        return self._behind > 0

    async def claim(self) -> OutboxClaim | None:
        """Claim what is next. What was claimed when the event loop ends meanwhile is released."""
        claiming = self._thread.submit(lambda store: store.claim())
        try:
            await all_done(claiming)
        except asyncio.CancelledError:
            if claiming.exception() is None and (claim := claiming.result()) is not None:
                await self.release(claim)
            raise
        return claiming.result()

    async def release(self, claim: OutboxClaim) -> None:
        """Write down that a call never left."""
        await self.record(claim, released(claim))

    async def record(
        self, claim: OutboxClaim, ends: Sequence[OrderEnd], on_written: Callable[[], object] = lambda: None
    ) -> None:
        """Write down how each order of a call ended, and call `on_written`. What cannot be is told in the log."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + KEPT
        is_late = False
        cancelled: asyncio.CancelledError | None = None
        try:
            while True:
                writing = self._thread.submit(lambda store: store.finish(claim, ends))
                try:
                    await all_done(writing)
                except asyncio.CancelledError as error:
                    cancelled = error
                try:
                    done = writing.result()
                    on_written()
                    break
                except OutboxError as problem:
                    is_over = is_ending() or loop.time() > give_up_at
                    if is_over or not isinstance(problem, OutboxUnavailableError):
                        _tell_unrecorded(problem, claim, ends)
                        if isinstance(problem, OutboxUnavailableError):
                            return
                        raise
                    if not is_late:
                        self._behind += 1
                        log.warning("%s; the end of a call is kept, and written later", problem)
                    is_late = True
                try:
                    await asyncio.sleep(WRITE_AGAIN)
                except asyncio.CancelledError as error:  # the event loop is ending: once more, at once
                    cancelled = error
        finally:
            self._behind -= is_late
            self._changed.set()
            if cancelled is not None:
                raise cancelled
        if done != len(claim.orders):
            log.warning(
                "%d of %d orders of a call were purged or sent again before it ended", len(ends) - done, len(ends)
            )


def released(claim: OutboxClaim) -> list[OrderEnd]:
    """The ends of a call that never left."""
    return [
        OrderEnd(OutboxState.WAITING, {}, ((None, None),) * len(order.phones), together=order.together)
        for order in claim.orders
    ]


def _tell_unrecorded(problem: OutboxError, claim: OutboxClaim, ends: Sequence[OrderEnd]) -> None:
    told = ", ".join(f"{order.key} {end.state}" for order, end in zip(claim.orders, ends, strict=True))
    log.error("%s; not recorded, and unknown from now on: %s", problem, one_line(told, 2000))
