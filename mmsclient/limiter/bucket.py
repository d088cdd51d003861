"""The limiter of one process: slots that are taken and freed as the server counts, a token bucket for smoothness."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import attrs
from aiolimiter import AsyncLimiter

from mmsclient.checks import is_number
from mmsclient.errors import ConfigurationError
from mmsclient.gate import Gate
from mmsclient.limiter.floor import Floor

if TYPE_CHECKING:
    from mmsclient.limiter import Grant

__all__ = ["TokenBucket", "TokenBucketStats"]

MARGIN = 0.006
"""Seconds added to the window: what the clock, the timers and the floor are wrong by."""
GAP = 1.02
"""Calls that queue are this share of `1 / rate` apart: about what the slots keep up with, so that they seldom jolt."""
EARNED = 3
"""Calls that may follow at once on calls that their slots held up. More uses more of the cap and is less smooth."""
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds that a throttling answer holds every caller: if it names none, and at most."""
SLOWER, SLOWEST, RECOVERY = 0.8, 0.1, 1 / 150
"""After it: factor on the rate, least share of the full rate, share of the full rate regained a second."""
MINUTE = 60


@attrs.frozen(kw_only=True)
class TokenBucketStats:
    """What a `TokenBucket` has done so far and is doing now."""

    calls: int
    """Calls granted."""
    waits: int
    """Of these, calls that had to wait."""
    seconds_waited: float
    """Seconds they waited, all together."""
    throttled: int
    """Calls that the server refused as over the cap."""
    throttlings: int
    """Episodes of such refusals: each slowed the rate down once."""
    rate: float
    """Calls a second at present."""
    in_flight: int
    """Calls granted and not yet over."""
    waiting: int
    """Callers in the queue."""
    share: float
    """Calls granted in the last minute, as a share of what the cap allows in a minute."""


class LastMinute:
    """Counts calls, second by second, for a minute."""

    def __init__(self) -> None:
        self._seconds = [(0, 0)] * MINUTE  # (second, calls granted in it)

    def count(self, now: float) -> None:
        """A call was granted."""
        second, calls = self._seconds[int(now) % MINUTE]
        self._seconds[int(now) % MINUTE] = (int(now), calls + 1 if second == int(now) else 1)

    def calls(self, now: float) -> int:
        """How many were, in the minute before."""
        return sum(calls for second, calls in self._seconds if second > now - MINUTE)


class TokenBucket:
    """Keeps the server's cap, `rate` calls in any second, as the server counts it; smooth, first come, first served.

    `rate`: calls the server allows in any second, rounded down; below 1, one call in any `1 / rate` seconds.
    `burst`: calls that go at once after a rest. `jitter`: seconds by which the way to the server may vary.
    A wrong value is a `ConfigurationError`, and so is a second event loop: one bucket belongs to one loop.

    **The cap.** There are `rate` slots. A call takes one when it is granted and frees it a second (and 6 ms) after the
    latest moment at which the server can have counted it, less the way to the server:

    - `answered - floor`, where `floor` is the shortest exchange (from the last byte sent to the answer) of the last
      512, less an allowance for how far the true least may lie below it: 2.5 times the mean excess over it, divided
      by the square root of their number. 0 until 15 are in, for an exchange shorter than it, and for a refused call;
    - `sent + jitter`, if that is earlier or no answer came. A call that ended before its last byte was sent counts as
      sent at its end; one whose last byte is still to come holds its slot.

    No second then holds more than `rate` calls at the server, provided that the server counts a call between its
    first byte's arrival and its answer, at most `jitter` later than the shortest way after the last byte was sent, and
    that `floor` is at most 6 ms longer than the shortest way there and back at present with the work after counting.

    **Smoothness.** `burst` calls go at once from idle, refilled at `rate / 1.02`. While anyone queues, calls are
    `1.02 / rate` apart; where slots held them up they catch up by at most three, else waiting earns nothing. `burst=1`
    is strictly even, for servers that allow no burst at all, and uses about 3 % less of the cap.

    **Feedback.** A throttled call holds every caller for `retry_after` seconds (1 if not given, 60 at most). Then calls
    go one by one at 0.8 of the rate, which regains a 150th of the full rate each second. Refusals of calls that were
    granted before the pause belong to the same episode and slow down no further. The rate never falls below a tenth.
    """

    def __init__(self, rate: float = 15, burst: int = 5, *, jitter: float = 0.25) -> None:
        _check("rate", rate, is_number(rate) and rate > 0, "calls a second, above 0")
        _check("burst", burst, is_number(burst) and burst == int(burst) >= 1, "a whole number of calls, at least 1")
        _check("jitter", jitter, is_number(jitter) and jitter >= 0, "seconds, at least 0")
        slots = max(1, int(rate))
        self._window = max(1.0, 1 / rate)
        self._rate = slots / self._window
        self._burst = burst
        self._floor = Floor(jitter)
        self._loop: asyncio.AbstractEventLoop | None = None
        # A newcomer overtakes the waiters of an `AsyncLimiter`, and a `Semaphore` searches its own when one is
        # cancelled; so the queue stands before them, and only its head asks them.
        self._turn = Gate(1)
        self._slots = asyncio.Semaphore(slots)
        self._bucket = self._new_bucket(burst, self._rate)
        self._pace = self._new_bucket(min(burst, 1 + EARNED), self._rate)
        self._slow_rate = self._rate
        self._held_until = -math.inf
        self._calls = self._waits = self._throttled = self._episodes = self._in_flight = self._waiting = 0
        self._seconds_waited = 0.0
        self._minute = LastMinute()

    @property
    def stats(self) -> TokenBucketStats:
        """A snapshot; cheap."""
        now = self._loop.time() if self._loop else 0.0
        return TokenBucketStats(
            calls=self._calls,
            waits=self._waits,
            seconds_waited=self._seconds_waited,
            throttled=self._throttled,
            throttlings=self._episodes,
            rate=self._present_rate(now),
            in_flight=self._in_flight,
            waiting=self._waiting,
            share=self._minute.calls(now) / (MINUTE * self._rate),
        )

    async def acquire(self) -> Grant:
        """Wait for a slot and a token. A cancelled wait gives back what it held. Always `release` the grant."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigurationError("this TokenBucket belongs to another event loop: make one for each loop")
            self._loop = loop
        asked = loop.time()
        waits = self._must_wait(asked)
        self._waiting += 1
        try:
            async with self._turn:
                await self._slots.acquire()
                try:
                    await self._smooth(loop, queued=waits)
                except BaseException:
                    self._slots.release()
                    raise
        finally:
            self._waiting -= 1
        self._count(asked, loop.time(), waits)
        return _Grant(self, loop, self._episodes)

    def _must_wait(self, now: float) -> bool:
        return self._waiting > 0 or now < self._held_until or self._slots.locked() or not self._bucket.has_capacity()

    def _count(self, asked: float, now: float, waited: bool) -> None:
        self._calls += 1
        self._in_flight += 1
        if waited:
            self._waits += 1
            self._seconds_waited += now - asked
        self._minute.count(now)

    async def _smooth(self, loop: asyncio.AbstractEventLoop, *, queued: bool) -> None:
        """Wait out the pause, then for a token. With the slot in hand, so that the last wait is what spaces calls."""
        while True:
            while (pause := self._held_until - loop.time()) > 0:  # noqa: ASYNC110 - a pause may grow while it lasts
                await asyncio.sleep(pause)
            bucket = self._bucket
            await bucket.acquire()
            if queued:
                await self._pace.acquire()
            if bucket is self._bucket:  # else a call was throttled meanwhile
                break
        if self._slow_rate < self._rate:
            await self._speed_up(loop.time())

    async def _speed_up(self, now: float) -> None:
        """A bucket for the rate regained. It starts full (which never waits): the next call is a gap away."""
        rate = self._present_rate(now)
        if rate < self._rate:
            self._bucket = self._new_bucket(1, rate)
        else:
            self._slow_rate = rate
            self._bucket = self._new_bucket(self._burst, rate)
        await self._bucket.acquire(self._bucket.max_rate)

    @staticmethod
    def _new_bucket(burst: int, rate: float) -> AsyncLimiter:
        return AsyncLimiter(burst, burst * GAP / rate)

    def _present_rate(self, now: float) -> float:
        regained = max(0.0, now - self._held_until) * RECOVERY * self._rate
        return min(self._rate, self._slow_rate + regained)

    def _throttle(self, now: float, episode: int, retry_after: float | None) -> None:
        self._throttled += 1
        if episode == self._episodes:
            self._episodes += 1
            self._slow_rate = max(SLOWER * self._present_rate(now), SLOWEST * self._rate)
        pause = pause_after(retry_after)
        self._held_until = max(self._held_until, now + pause)
        self._bucket = self._new_bucket(1, self._slow_rate)


class _Grant:
    """A slot in use."""

    __slots__ = ("_answered", "_bucket", "_episode", "_freed", "_loop", "_over", "_sent", "_timer")

    def __init__(self, bucket: TokenBucket, loop: asyncio.AbstractEventLoop, episode: int) -> None:
        self._bucket = bucket
        self._loop = loop
        self._episode = episode
        self._sent: float | None = None
        self._answered: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._freed = self._over = False

    def sent(self) -> None:
        self._sent = self._loop.time()
        self._free_after(self._bucket._floor.latest(self._sent, None))

    def answered(self) -> None:
        self._answered = self._loop.time()

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        if self._over:
            return
        self._over = True
        bucket, now = self._bucket, self._loop.time()
        bucket._in_flight -= 1
        sent = now if self._sent is None else self._sent
        latest = bucket._floor.latest(sent, self._answered, unusual=throttled or self._sent is None)
        if not self._freed:
            self._free_after(latest)
        if throttled:
            bucket._throttle(now, self._episode, retry_after)

    def _free_after(self, latest: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(latest + self._bucket._window + MARGIN, self._free)

    def _free(self) -> None:
        self._freed = True
        self._bucket._slots.release()


def pause_after(retry_after: float | None) -> float:
    """Seconds that a throttling answer holds every caller."""
    return PAUSE if retry_after is None else min(retry_after, LONGEST_PAUSE)


def _check(argument: str, value: object, ok: bool, expected: str) -> None:
    if not ok:
        raise ConfigurationError(f"{argument}={value!r}: expected {expected}")
