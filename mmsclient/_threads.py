"""Threads for what would hold up the event loop, under limits of this package's own."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import anyio.to_thread

from mmsclient.errors import MMSError

if TYPE_CHECKING:
    from anyio import CapacityLimiter

__all__ = ["DECODING", "STORES", "NoThreadError", "Threads", "started"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """Runs functions in threads, at most `most` at a time in each event loop; others wait for their turn.

    The threads that anyio has by default belong to the application: 40 plain endpoints of FastAPI hold them all while
    each waits for a send, and a send that needed one of them would never end. For the same reason no function may wait
    for another one under the same limit.
    """

    def __init__(self, most: float = 40) -> None:
        self._most = most
        self._limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, CapacityLimiter] = WeakKeyDictionary()

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts, abandon_on_cancel: bool = False) -> T:
        """What `function` returns or raises.

        Args:
            function: Runs to its end in any case.
            arguments: Of the function.
            abandon_on_cancel: A caller that is cancelled leaves at once. Otherwise it waits for the function.

        Raises:
            NoThreadError: No thread can be started. The function was not called.
        """
        limiter, began = self._limiter(), False

        def called() -> T:
            nonlocal began
            began = True
            return function(*arguments)

        try:
            return await anyio.to_thread.run_sync(called, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
        except RuntimeError:
            if began:
                raise
            raise NoThreadError from None

    async def run_or_here(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """As `run`; without a thread where none can be started."""
        try:
            return await self.run(function, *arguments)
        except NoThreadError:
            return function(*arguments)

    def _limiter(self) -> CapacityLimiter:
        from anyio import CapacityLimiter  # noqa: PLC0415 - a thread needs it anyway, the import of a client does not

        loop = asyncio.get_running_loop()
        if (limiter := self._limiters.get(loop)) is None:
            limiter = self._limiters[loop] = CapacityLimiter(self._most)
        return limiter


class NoThreadError(MMSError, OSError):
    """The process, or its user, has as many threads as it may have."""

    problem = "no thread can be started"

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, self.problem)

    def __reduce__(self) -> tuple[type[NoThreadError], tuple[()]]:
        return type(self), ()


def started(work: Callable[[], object], name: str) -> threading.Thread:
    """A thread that runs `work`, and that the end of the process does not wait for. Raises `NoThreadError`."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise NoThreadError from None
    return thread


DECODING = Threads(4)
"""For large answers. Nothing here waits for a disk or a database, so whoever has sent hears of it."""

STORES = Threads()
"""For what reads or writes a store, and may wait for it."""
