"""Smoothness: how calls follow each other while there are slots for them."""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

from mmsclient.limiter.changes import News
from mmsclient.limiter.feedback import Pause, Slowdown

GAP = 1.02
"""Calls that queue are this share of `1 / rate` apart: about what the slots keep up with, so that they seldom jolt."""

BURST, EARNED = 5, 3
"""Calls that go at once from idle, if nobody says how many; and calls that may follow at once on calls that their slots
held up. More uses more of the cap and is less smooth."""

TOGETHER = 0.01
"""Seconds. Calls that are due within so little time may go at once, as their way mixes them up anyway: at high rates
five are due in less than a process or Redis may take for one."""


def burst_or_default(burst: int | None, rate: float) -> int:
    """Calls that go at once from idle."""
    return max(BURST, int(rate * TOGETHER)) if burst is None else burst


def even_burst(burst: int, rate: float) -> int:
    """Calls that go at once while callers queue: one, and those that catch up on what their slots held up."""
    return min(burst, 1 + max(EARNED, int(rate * TOGETHER)))


class Pacer:
    """Spaces calls: a burst from idle, evenly while callers queue, one by one after a refusal.

    Only one caller may wait at a time: a newcomer overtakes the waiters of an `AsyncLimiter`.

    Args:
        rate: The full rate, in calls a second.
        burst: Calls that go at once after a rest.
        news: Told when the rate changes.
        pause: As of `Slowdown`; who else extends it holds these calls, too.
    """

    def __init__(self, rate: float, burst: int, news: News, pause: Pause | None = None) -> None:
        self._news = news
        self._slowdown = Slowdown(rate, pause)
        self._burst = burst
        self._bucket = _bucket(burst, rate)
        self._even = _bucket(even_burst(burst, rate), rate)

    @property
    def episodes(self) -> int:
        """Episodes of throttling so far."""
        return self._slowdown.episodes

    def rate(self, now: float) -> float:
        """Calls a second at present."""
        return self._slowdown.rate(now)

    def is_free(self, now: float) -> bool:
        """A call may go at once."""
        return now >= self._slowdown.pause.until and self._bucket.has_capacity()

    async def wait(self, *, queued: bool) -> None:
        """Waits out the pause, then for a token.

        Args:
            queued: The caller had to wait before, so it keeps an even distance to the one before it.
        """
        while True:
            await self._slowdown.pause.wait()
            bucket = self._bucket
            await bucket.acquire()
            if queued:
                await self._even.acquire()
            is_paused = asyncio.get_running_loop().time() < self._slowdown.pause.until
            if bucket is self._bucket and not is_paused:  # else a call was throttled meanwhile
                break
        if self._slowdown.is_on:
            await self._speed_up(asyncio.get_running_loop().time())

    def throttle(self, now: float, episode: int, retry_after: float | None) -> None:
        """A call was refused that was granted when there were `episode` episodes."""
        self._slowdown.throttle(now, episode, retry_after)
        rate = self._slowdown.rate(now)
        self._bucket = _bucket(1, rate)
        self._news.rate(rate)

    async def _speed_up(self, now: float) -> None:
        """A bucket for the rate regained. It starts full (which never waits): the next call is a gap away."""
        rate = self._slowdown.recover(now)
        self._news.rate(rate)
        self._bucket = _bucket(1 if self._slowdown.is_on else self._burst, rate)
        await self._bucket.acquire(self._bucket.max_rate)


def _bucket(burst: int, rate: float) -> AsyncLimiter:
    return AsyncLimiter(burst, burst * GAP / rate)
