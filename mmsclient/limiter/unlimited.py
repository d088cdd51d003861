"""No limit: for an upstream that limits already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mmsclient.limiter.changes import Changes
from mmsclient.limiter.feedback import Pause
from mmsclient.limiter.protocol import Grant

__all__ = ["NoLimit"]


class NoLimit:
    """Grants every token at once, but holds every caller after a throttled call, as `TokenBucket` does."""

    def __init__(self) -> None:
        self._pause = Pause()
        self._changes = Changes()
        self._in_flight = self._waiting = 0

    @property
    def in_flight(self) -> int:
        """Calls granted and not yet over."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Callers held by a pause."""
        return self._waiting

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls back whenever `in_flight` or `waiting` may have changed: see `SignalsCapacity.on_change`.

        Args:
            callback: Called in the event loop of the change, soon after it and once for several changes.

        Returns:
            A function that ends the subscription.
        """
        return self._changes.subscribe(callback)

    async def acquire(self) -> Grant:
        """Waits out the pause after a throttled call, if there is one.

        Returns:
            A grant, which must be released in any case.
        """
        self._waiting += 1
        self._changes.happened()
        try:
            await self._pause.wait()
        finally:
            self._waiting -= 1
            self._changes.happened()
        self._in_flight += 1
        return _Grant(self._ended)

    def _ended(self, throttled: bool, retry_after: float | None) -> None:
        self._in_flight -= 1
        self._changes.happened()
        if throttled:
            self._pause.extend(asyncio.get_running_loop().time(), retry_after)


class _Grant:
    __slots__ = ("_ended",)

    def __init__(self, ended: Callable[[bool, float | None], None]) -> None:
        self._ended: Callable[[bool, float | None], None] | None = ended

    def sent(self) -> None:
        pass

    def answered(self) -> None:
        pass

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(throttled, retry_after)
