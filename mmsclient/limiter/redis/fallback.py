"""What the process goes by while Redis is away: its own part of the cap."""

from __future__ import annotations

import asyncio

from mmsclient.limiter.local import TokenBucket
from mmsclient.limiter.redis.callers import Callers, Offer


class Fallback:
    """Grants from a bucket of the process's own, one at a time, while Redis is away.

    Args:
        bucket: The process's part of the cap.
        callers: Who is served.
        settling: Seconds after which what Redis granted before counts no longer; only then is anything granted.
    """

    def __init__(self, bucket: TokenBucket, callers: Callers, settling: float) -> None:
        self._bucket = bucket
        self._callers = callers
        self._settling = settling
        self._starts_at = 0.0
        self._is_paused = False
        self._task: asyncio.Task[None] | None = None
        self.since: float | None = None
        """When Redis went away, by the loop's clock; None while it is there."""

    @property
    def is_on(self) -> bool:
        """Redis is away."""
        return self.since is not None

    def begin(self, now: float) -> None:
        """Redis is away."""
        self.since, self._starts_at = now, now + self._settling

    def end(self) -> None:
        """Redis is back."""
        self.since = None

    def plan(self) -> None:
        """Serves the first caller, if there is one; called at every change."""
        if self._task is not None and not self._task.done():
            if not self._callers.waiting:
                self._task.cancel()
        elif self.is_on and not self._is_paused and self._callers.is_asking:
            self._task = asyncio.get_running_loop().create_task(self._serve())
            self._task.add_done_callback(lambda _: self.plan())  # somebody may have come as it was cancelled

    async def pause(self) -> None:
        """Grants nothing until `resume`."""
        self._is_paused = True
        await self.stop()

    def resume(self) -> None:
        """Goes on, if Redis is still away."""
        self._is_paused = False
        self.plan()

    async def stop(self) -> None:
        """Ends the serving that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _serve(self) -> None:
        if (wait := self._starts_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)
        waits = self._bucket.stats.waits
        kind = self._callers.kind
        grant = await self._bucket.acquire_for(kind)
        if self._bucket.stats.waits > waits:
            self._callers.delay()
        self._callers.offer(Offer(kind, grant, grant.release))
