"""Events that have no handler, while they wait for somebody to take them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from attrs import define

from mmsclient.webhooks.outlasting import outlast
from mmsclient.webhooks.parse import Event


class NotHandledError(Exception):
    """Nobody has handled an event; the text says why. Never leaves this package."""


@define(eq=False)
class PendingEvent:
    """An event that waits for somebody to take it, and then for its end."""

    event: Event
    handled: asyncio.Future[None]
    is_held: bool = False
    """A consumer has it and has not come back."""

    def settle(self, error: NotHandledError | None = None) -> None:
        """Ends it as handled, or by `error`."""
        if self.handled.done():
            return
        if error is None:
            self.handled.set_result(None)
        else:
            self.handled.set_exception(error)

    def give_up(self, why: str) -> None:
        """Ends it as not handled, unless somebody has it."""
        if not self.is_held:
            self.settle(NotHandledError(why))


class PendingEvents:
    """Offers events to consumers, each for `timeout` seconds; without consumers, at most `limit` at a time.

    Those of which `needs_nobody` is true are handled when the last consumer leaves.
    """

    def __init__(
        self, *, limit: int, timeout: float, needs_nobody: Callable[[Event], bool] = lambda event: False
    ) -> None:
        self._needs_nobody = needs_nobody
        self._limit = limit
        self._timeout = timeout
        self._pending: dict[PendingEvent, None] = {}
        self._queue: asyncio.Queue[PendingEvent | None] = asyncio.Queue()
        self._consumers = 0
        self._closed = False

    @property
    def has_consumers(self) -> bool:
        return self._consumers > 0

    @property
    def offered(self) -> list[Event]:
        """Those that nobody has taken yet; none where there are consumers, who take all."""
        return [] if self._consumers else [each.event for each in self._pending if not each.handled.done()]

    async def offer(self, event: Event) -> None:
        """Returns when somebody has taken `event` and is done with it. Raises `NotHandledError` where nobody is."""
        if not self._consumers and len(self._pending) >= self._limit:
            raise NotHandledError(f"nobody takes events of its kind, and {self._limit} wait already")
        loop = asyncio.get_running_loop()
        pending = PendingEvent(event, loop.create_future())
        self._pending[pending] = None
        self._queue.put_nowait(pending)
        expiry = loop.call_later(self._timeout, pending.give_up, f"nobody took it within {self._timeout:g} s")
        try:
            await outlast(pending.handled, lambda: pending.is_held)
        finally:
            expiry.cancel()
            pending.handled.cancel()
            del self._pending[pending]
            self._drop_settled()

    def take(self, is_wanted: Callable[[Event], bool]) -> None:
        """Takes what `is_wanted` from those that wait, unless there are consumers."""
        for pending in self._pending if not self._consumers else ():
            if is_wanted(pending.event):
                pending.settle()

    async def consume(self) -> AsyncGenerator[Event, None]:
        """The events, until closed. One counts as handled when its consumer comes back for the next."""
        self._consumers += 1
        try:
            while pending := await self._next():
                pending.is_held = True
                try:
                    yield pending.event
                except BaseException:
                    pending.settle(NotHandledError("its consumer stopped"))
                    raise
                pending.settle()
        finally:
            self._consumers -= 1
            self.take(self._needs_nobody)

    async def _next(self) -> PendingEvent | None:
        while not self._closed:
            pending = await self._queue.get()
            if pending is not None and not pending.handled.done():
                return pending
        self._queue.put_nowait(None)  # for the next consumer
        return None

    def _drop_settled(self) -> None:
        """Keeps the queue short where nobody takes from it."""
        if self._queue.qsize() > 2 * len(self._pending) + 64:
            queued = [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            for pending in queued:
                if pending is None or not pending.handled.done():
                    self._queue.put_nowait(pending)

    def close(self) -> None:
        """Ends the consumers, and what none of them holds."""
        self._closed = True
        self._queue.put_nowait(None)
        for pending in list(self._pending):
            pending.give_up("the receiver was closed")
