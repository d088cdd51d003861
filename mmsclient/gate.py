"""A fair semaphore: permits are handed over in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """Lets `permits` holders in at a time, first come, first served.

    `asyncio.Semaphore` searches its queue whenever a waiter is cancelled; here a cancelled waiter is skipped when
    its turn comes, so no operation costs more as the queue grows.
    """

    def __init__(self, permits: int) -> None:
        self.permits = permits
        """Holders that may be in."""
        self._free = permits  # below 0 while more are in than may be
        self._queue: deque[asyncio.Future[None]] = deque()
        self.waiting = 0
        """Callers in the queue."""

    async def acquire(self) -> None:
        """Wait for a permit. A cancelled waiter leaves nothing behind: a permit just handed to it goes on."""
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.release()
            raise
        finally:
            self.waiting -= 1
            if len(self._queue) > 2 * self.waiting + 64:
                self._queue = deque(turn for turn in self._queue if not turn.done())

    def resize(self, permits: int) -> None:
        """Let `permits` in at a time from now on. Those inside stay."""
        more, self.permits = permits - self.permits, permits
        if more < 0:
            self._free += more
        for _ in range(more):
            self.release()

    def release(self) -> None:
        """Give the permit to the first in the queue, or keep it for the next to come."""
        while self._queue and self._free >= 0:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()
