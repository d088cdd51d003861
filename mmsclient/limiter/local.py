"""The limiter of one process: slots taken and freed as the server counts, and a token bucket for smoothness."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from attrs import define

from mmsclient._capacity import CapacityLimiter
from mmsclient.errors import ConfigurationError
from mmsclient.limiter.changes import Changes, News, RateListener
from mmsclient.limiter.grant import SlotGrant
from mmsclient.limiter.pacing import Pacer, burst_or_default
from mmsclient.limiter.protocol import CallKind, Grant, TokenBucketStats
from mmsclient.limiter.slots import CallClass, CountedBy, SlotRule, check_rule, checked_call
from mmsclient.limiter.usage import Usage

__all__ = ["TokenBucket"]


class TokenBucket:
    """Keeps the server's cap, `rate` calls in any second, as the server counts it; smooth, first come, first served.

    There are `rate` slots. A call takes one when it is granted, and frees it a second (and 6 ms) after the latest
    moment at which the server can have counted it. So no second holds more than `rate` calls at the server, provided
    that the server counts a call between its first byte's arrival and its response, and at most `jitter` later than
    the shortest way after its last byte was sent. docs/limiter.md has the whole rule.

    `burst` calls go at once from idle; while anyone queues, calls are `1.02 / rate` apart. `burst=1` is strictly even,
    for servers that allow no burst at all, and uses about 3 % less of the cap.

    A throttled call holds every caller for `retry_after` seconds (1 if not given, 60 at most). Then calls go one by
    one at 0.8 of the rate, which regains a 150th of the full rate each second and never falls below a tenth.

    Args:
        rate: Calls that the server allows in any second, rounded down; below 1, one call in any `1 / rate` seconds.
        burst: Calls that go at once after a rest; None: 5, or what is due in a hundredth of a second if that is more.
        jitter: Seconds by which the way to the server may vary.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(self, rate: float = 15, burst: int | None = None, *, jitter: float = 0.25) -> None:
        check_rule(rate, burst, jitter)
        self._rule = SlotRule(rate, jitter)
        self._changes = Changes()
        self._loop: asyncio.AbstractEventLoop | None = None
        # A newcomer overtakes the waiters of an `AsyncLimiter`, and a `Semaphore` searches its own when one is
        # cancelled; so the queue stands before them, and only its head asks them.
        self._turn = CapacityLimiter(1)
        self._news = News(self._rule.rate)
        self._pacer = Pacer(self._rule.rate, burst_or_default(burst, rate), self._news)
        self._slots = _Slots(self._rule, self._pacer, self._changes)
        self._usage = Usage(self._rule.rate)
        self._waiting = 0

    @property
    def rule(self) -> SlotRule:
        """The rule by which slots are freed, with the min RTT learned so far."""
        return self._rule

    @property
    def in_flight(self) -> int:
        """Calls granted and not yet over."""
        return self._slots.in_flight

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return self._waiting

    @property
    def stats(self) -> TokenBucketStats:
        """A snapshot; cheap."""
        now = self._loop.time() if self._loop else 0.0
        return TokenBucketStats(
            calls=self._usage.calls,
            waits=self._usage.waits,
            seconds_waited=self._usage.seconds_waited,
            throttled=self._slots.refusals,
            throttlings=self._pacer.episodes,
            rate=self._pacer.rate(now),
            in_flight=self.in_flight,
            waiting=self._waiting,
            share=self._usage.share(now),
        )

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls back whenever `in_flight` or `waiting` may have changed: see `SignalsCapacity.on_change`.

        Args:
            callback: Called in the bucket's event loop, soon after the change and once for several changes.

        Returns:
            A function that ends the subscription.
        """
        return self._changes.subscribe(callback)

    def on_rate(self, listener: RateListener) -> None:
        """Tells `listener` when a throttling has slowed the rate down, and how it recovers, for as long as it lives.

        A client with an `observer` does so itself.
        """
        self._news.add(listener)

    async def acquire(self) -> Grant:
        """Waits for a slot and a token. A cancelled wait gives back what it held.

        Returns:
            A grant, which must be released in any case.

        Raises:
            ConfigurationError: The bucket belongs to another event loop.
        """
        return await self.acquire_for(CallKind.READ)

    async def acquire_for(self, kind: CallKind, size: int = 0) -> Grant:
        """As `acquire`, for a call of that kind; of an upload with its size in bytes."""
        kind, size = checked_call(kind, size)
        loop = self._bind_loop()
        asked = loop.time()
        waits = (
            self._waiting > 0
            or self._slots.are_taken(self._rule.class_of(kind, size))
            or not self._pacer.is_free(asked)
        )
        self._waiting += 1
        self._changes.happened()
        try:
            await self._turn.acquire()
            try:
                await self._take_slot(kind, size, queued=waits)
            finally:
                self._turn.release()
        finally:
            self._waiting -= 1
            self._changes.happened()
        self._usage.count(asked, loop.time(), waited=waits)
        return self._slots.grant(loop, kind, size, self._pacer.episodes)

    def _bind_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigurationError("this TokenBucket belongs to another event loop: make one for each loop")
            self._loop = loop
        return loop

    async def _take_slot(self, kind: CallKind, size: int, *, queued: bool) -> None:
        """Paced with the slot in hand, so that the last wait is what spaces calls."""
        await self._slots.take(kind, size)
        try:
            await self._pacer.wait(queued=queued)
        except BaseException:
            self._slots.give_back()
            raise


@define
class _Hold:
    """A slot that is taken."""

    classes: Sequence[CallClass]
    """For calls of these."""
    timers: Sequence[asyncio.TimerHandle] = ()
    """That free it."""


class _Slots:
    """The slots of a bucket, and the calls that hold them: the owner of its grants.

    A slot may be free for one class of calls and not yet for another, so they are counted for each.
    """

    def __init__(self, rule: SlotRule, pacer: Pacer, changes: Changes) -> None:
        self._rule = rule
        self._pacer = pacer
        self._changes = changes
        self._taken = [0] * len(CallClass)
        self._freed = asyncio.Event()
        self._held: dict[SlotGrant, _Hold] = {}
        self.in_flight = 0
        self.refusals = 0

    def are_taken(self, of: CallClass) -> bool:
        """A call of that class has to wait."""
        return self._taken[of] >= self._rule.slots

    async def take(self, kind: CallKind, size: int) -> None:
        """Waits for one; for one caller at a time."""
        while self.are_taken(self._rule.class_of(kind, size)):
            self._freed.clear()
            await self._freed.wait()
        for each in CallClass:
            self._taken[each] += 1

    def give_back(self) -> None:
        self._free(CallClass)

    def grant(self, loop: asyncio.AbstractEventLoop, kind: CallKind, size: int, episode: int) -> SlotGrant:
        """The grant for a slot that was taken."""
        grant = SlotGrant(self, self._rule, loop, kind=kind, size=size, episode=episode)
        self._held[grant] = _Hold(tuple(CallClass))
        self.in_flight += 1
        return grant

    def sent(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        self._free_after(grant, counted_by)

    def ended(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        self.in_flight -= 1
        self._changes.happened()
        self._free_after(grant, counted_by)

    def throttled(self, grant: SlotGrant, retry_after: float | None) -> None:
        self.refusals += 1
        self._pacer.throttle(asyncio.get_running_loop().time(), grant.episode, retry_after)

    def _free_after(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        """Frees its slot a window after that, unless it is free already."""
        hold = self._held.get(grant)
        if hold is None:
            return
        for timer in hold.timers:
            timer.cancel()
        together: dict[float, list[CallClass]] = defaultdict(list)
        for each in hold.classes:
            together[counted_by[each]].append(each)
        call_at, window = asyncio.get_running_loop().call_at, self._rule.hold
        hold.timers = [call_at(at + window, self._free_now, grant, classes) for at, classes in together.items()]

    def _free_now(self, grant: SlotGrant, classes: Iterable[CallClass]) -> None:
        hold = self._held[grant]
        hold.classes = [each for each in hold.classes if each not in classes]
        if not hold.classes:
            del self._held[grant]
        self._free(classes)

    def _free(self, classes: Iterable[CallClass]) -> None:
        for each in classes:
            self._taken[each] -= 1
        self._freed.set()
