"""The timeouts of an exchange, and what the HTTP library's look at them tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Timeouts(dict[str, float | None]):
    """Seconds for each step, as the HTTP library names them.

    It looks one up as soon as it has a call at its pool, and others again and again. Before that, the event hooks of
    its client run.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(dict.fromkeys(("connect", "pool", "write", "read"), seconds))
        self._timer: asyncio.TimerHandle | None = None
        self.are_read: bool = False
        """The library has looked one up."""

    def get(self, key: str, default: Any = None) -> Any:
        """As of any dict."""
        if not self.are_read:
            self.are_read = True
            self.stop()
        return super().get(key, default)

    def unless_read(self, seconds: float, expire: Callable[[], object]) -> None:
        """Call `expire` after so many seconds, unless one was looked up by then."""
        self._timer = asyncio.get_running_loop().call_later(seconds, expire)

    def stop(self) -> None:
        """That is no longer waited for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
