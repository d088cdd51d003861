"""How the limiters tell that their figures have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Changes"]


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
