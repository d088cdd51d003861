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
        self._free = permits
        self._queue: deque[asyncio.Future[None]] = deque()
        self._cancelled = 0

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._queue) - self._cancelled

    async def acquire(self) -> None:
        """Wait for a permit. A cancelled waiter leaves nothing behind: a permit just handed to it goes on."""
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget_one()
            else:
                self.release()
            raise

    def release(self) -> None:
        """Give the permit to the first in the queue, or keep it for the next to come."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
            self._cancelled -= 1
        self._free += 1

    def _forget_one(self) -> None:
        """Count a cancelled waiter; drop them all once they are the greater part of the queue."""
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._queue):
            self._queue = deque(turn for turn in self._queue if not turn.done())
            self._cancelled = 0

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()
