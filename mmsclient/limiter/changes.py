"""How the limiters tell that their figures have changed, and of what an operator wants to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, runtime_checkable
from weakref import WeakSet

__all__ = ["Changes", "News", "RateListener", "TellsRate"]

STEP = 0.05
"""Share of the full rate: smaller steps of the recovery from a throttling are not told."""


class RateListener(Protocol):
    """Somebody who wants to know how a limiter fares. Must not raise."""

    def rate_changed(self, rate: float, full: float) -> None:
        """It goes by `rate` calls a second from now on; the cap allows `full`."""
        ...

    def limiter_away(self, error: BaseException, *, shares: bool) -> None:
        """Redis cannot be reached; the process goes by its own part of the cap, or raises."""
        ...

    def limiter_back(self, seconds: float) -> None:
        """Redis answers again, after so many seconds."""
        ...


@runtime_checkable
class TellsRate(Protocol):
    """A limiter that tells how it fares, as those of the package do whose rate changes."""

    def on_rate(self, listener: RateListener) -> None:
        """Tells `listener` from now on, for as long as that lives, in the limiter's event loop."""
        ...


class News:
    """Tells the listeners of a limiter what has changed, in steps worth telling. Costs nothing while nothing does.

    Args:
        full: Calls a second that the cap allows.
    """

    def __init__(self, full: float) -> None:
        self._full = full
        self._told = full
        self._away_since: float | None = None
        self._listeners: WeakSet[RateListener] = WeakSet()

    def add(self, listener: RateListener) -> None:
        """As `TellsRate.on_rate`."""
        self._listeners.add(listener)

    def rate(self, rate: float) -> None:
        """The limiter goes by `rate` now."""
        if rate != self._told and (abs(rate - self._told) >= STEP * self._full or rate >= self._full):
            self._told = rate
            for listener in self._listeners:
                listener.rate_changed(rate, self._full)

    def away(self, now: float, error: BaseException, *, shares: bool) -> None:
        """Redis has not answered."""
        if self._away_since is None:
            self._away_since = now
            for listener in self._listeners:
                listener.limiter_away(error, shares=shares)

    def back(self, now: float) -> None:
        """Redis has answered."""
        if self._away_since is not None:
            since, self._away_since = self._away_since, None
            for listener in self._listeners:
                listener.limiter_back(now - since)


class Changes:
    """Calls back whoever subscribed: soon after a change, and once for several. Costs nothing while nobody has."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[], object]] = {}
        self._due_in: asyncio.AbstractEventLoop | None = None

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """As `SignalsCapacity.on_change`."""
        key = object()
        self._callbacks[key] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)

        return unsubscribe

    def happened(self) -> None:
        """Something has changed."""
        if not self._callbacks:
            return
        loop = asyncio.get_running_loop()
        if self._due_in is not loop:
            self._due_in = loop
            loop.call_soon(self._tell, loop)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_in = None
        for callback in list(self._callbacks.values()):
            try:
                callback()
            except Exception as error:
                context = {"message": "a callback of a limiter failed", "exception": error}
                loop.call_exception_handler(context)
