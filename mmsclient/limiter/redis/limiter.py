"""The limiter of many processes: the front of its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mmsclient._api.checks import keeps_arguments_secret
from mmsclient.errors import ConfigurationError
from mmsclient.limiter.changes import Changes, News, RateListener
from mmsclient.limiter.protocol import CallKind, Grant, SharedTokenBucketStats
from mmsclient.limiter.redis.callers import Callers, NextCall
from mmsclient.limiter.redis.calls import RedisCalls
from mmsclient.limiter.redis.fallback import Fallback
from mmsclient.limiter.redis.leases import Leases
from mmsclient.limiter.redis.settings import OnUnavailable, checked, keys_of
from mmsclient.limiter.redis.sync import Sync
from mmsclient.limiter.slots import checked_call
from mmsclient.limiter.usage import Usage

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

__all__ = ["SharedTokenBucket"]


class SharedTokenBucket:
    """Keeps an account's cap for all its processes and machines, as `TokenBucket` does in one, through Redis.

    Every process of an account must be given the same values. Close it with `aclose()`, or use it in `async with`.
    Redis 5 or newer; one round trip a call while calls queue, else two. docs/limiter.md has the rule, what happens when
    a process or Redis dies, and when the cap is not kept.

    **Redis away**, which is: no answer within `timeout`, or an error. With `on_unavailable="raise"` every caller in the
    queue gets `LimiterUnavailableError`, and nothing was sent; the next caller asks anew. With `"share"` the process
    waits `3 * timeout + 2.5` seconds and `jitter`, and then goes by its part, `rate / processes`, until Redis is back.
    The others leave it that part, if they can reach Redis. So that they miss it in time, it asks Redis twice a second
    even at rest, from its first call until `aclose()`.

    Args:
        redis: A `redis://`, `rediss://` (TLS) or `unix://` URL, or a `redis.asyncio` `Redis` or `RedisCluster`, which
            stays yours to close.
        account: Any name; processes with the same one share a cap. Redis sees only a keyed hash.
        rate: Calls that the server allows in any second, of all processes, as for `TokenBucket`.
        burst: Calls that go at once after a rest, as for `TokenBucket`.
        jitter: Seconds by which the way to the server may vary.
        on_unavailable: What happens while Redis is away.
        processes: With `on_unavailable="share"`: how many processes share the cap.
        timeout: Seconds that Redis may take, 5 at most.

    Raises:
        ConfigurationError: An argument is wrong, or the `redis` package is missing.
    """

    @keeps_arguments_secret
    def __init__(
        self,
        redis: str | Redis | RedisCluster,
        *,
        account: str,
        rate: float = 15,
        burst: int | None = None,
        jitter: float = 0.25,
        on_unavailable: OnUnavailable = "raise",
        processes: int | None = None,
        timeout: float = 1.0,
    ) -> None:
        settings = checked(
            account=account,
            rate=rate,
            burst=burst,
            jitter=jitter,
            on_unavailable=on_unavailable,
            processes=processes,
            timeout=timeout,
        )
        self._calls = RedisCalls(redis, keys_of(account), timeout)
        self._rule = settings.rule()
        self._changes = Changes()
        self._news = News(self._rule.rate)
        self._callers = Callers(self._changes, self._plan)
        self._leases = Leases(self._rule, settings.lease(self._rule), self._changes, self._plan)
        self._fallback = Fallback(settings, self._rule, self._callers, self._leases)
        self._sync = Sync(
            settings,
            self._rule,
            calls=self._calls,
            callers=self._callers,
            leases=self._leases,
            fallback=self._fallback,
            news=self._news,
        )
        self._usage = Usage(self._rule.rate)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Calls of this process granted and not yet over."""
        return self._leases.in_flight

    @property
    def waiting(self) -> int:
        """Callers in the queue of this process."""
        return self._callers.waiting

    @property
    def stats(self) -> SharedTokenBucketStats:
        """A snapshot; cheap. `rate` is as of the last sync with Redis."""
        now = self._loop.time() if self._loop else 0.0
        return SharedTokenBucketStats(
            calls=self._usage.calls,
            waits=self._usage.waits,
            seconds_waited=self._usage.seconds_waited,
            throttled=self._leases.refusals + self._fallback.refusals,
            throttlings=self._sync.throttlings + self._fallback.throttlings,
            rate=self._fallback.rate(now) if self._fallback.is_on else self._sync.speed * self._rule.rate,
            in_flight=self.in_flight,
            waiting=self.waiting,
            share=self._usage.share(now),
            round_trips=self._calls.round_trips,
            alone=self._fallback.is_on,
        )

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls back whenever `in_flight` or `waiting` may have changed: see `SignalsCapacity.on_change`.

        Args:
            callback: Called in the limiter's event loop, soon after the change and once for several changes.

        Returns:
            A function that ends the subscription.
        """
        return self._changes.subscribe(callback)

    def on_rate(self, listener: RateListener) -> None:
        """Tells `listener` of changes of the shared rate, and of Redis going away and coming back, while it lives.

        A client with an `observer` does so itself.
        """
        self._news.add(listener)

    async def acquire(self) -> Grant:
        """Waits for a slot and a token. A cancelled wait gives back what it held.

        Returns:
            A grant, which must be released in any case.

        Raises:
            LimiterUnavailableError: Redis cannot be reached, or the limiter is closed. Nothing was sent.
            ConfigurationError: The limiter belongs to another event loop.
        """
        return await self.acquire_for(CallKind.READ)

    async def acquire_for(self, kind: CallKind, size: int = 0) -> Grant:
        """As `acquire`, for a call of that kind; of an upload with its size in bytes."""
        call = NextCall(*checked_call(kind, size))
        loop = self._bind_loop()
        asked = loop.time()
        grant, waited = await self._callers.wait(asked, call)
        self._usage.count(asked, loop.time(), waited=waited)
        return grant

    async def aclose(self) -> None:
        """Reports what is left to report, and closes the connection if it is the limiter's own.

        Where Redis hangs, it takes three times the `timeout`, or less. It goes on to its end if this is cancelled, and
        a second call waits for that, too.
        """
        if self._closing is None:
            loop = self._bind_loop()
            self._callers.close()
            self._closing = loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _close(self) -> None:
        try:
            await self._sync.stop()
        finally:
            await self._calls.aclose()

    def _bind_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._sync.start(loop)
        elif self._loop is not loop:
            raise ConfigurationError("a limiter belongs to the event loop of its first call; make one for each loop")
        return loop

    def _plan(self) -> None:
        self._sync.plan()
