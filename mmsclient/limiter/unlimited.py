"""No limit: for an upstream that limits already."""

from __future__ import annotations

import asyncio
import math

from mmsclient.limiter.bucket import pause_after


class NoLimit:
    """Grants every token at once, but holds every caller after a throttled call, as `TokenBucket` does."""

    def __init__(self) -> None:
        self._held_until = -math.inf

    async def acquire(self) -> NoLimit:
        loop = asyncio.get_running_loop()
        while (pause := self._held_until - loop.time()) > 0:  # noqa: ASYNC110 - a pause may grow while it lasts
            await asyncio.sleep(pause)
        return self

    def sent(self) -> None:
        pass

    def answered(self) -> None:
        pass

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        if throttled:
            pause = pause_after(retry_after)
            self._held_until = max(self._held_until, asyncio.get_running_loop().time() + pause)
