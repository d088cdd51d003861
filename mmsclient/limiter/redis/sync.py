"""When the process talks to Redis, and what comes of it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from functools import partial

import attrs

from mmsclient.errors import one_line
from mmsclient.limiter.changes import News
from mmsclient.limiter.protocol import CallKind
from mmsclient.limiter.redis.callers import Callers, NextCall, Offer
from mmsclient.limiter.redis.calls import RedisCalls, SyncResult
from mmsclient.limiter.redis.fallback import Fallback
from mmsclient.limiter.redis.leases import Leases, Reports
from mmsclient.limiter.redis.settings import PROBE, SOON, Settings
from mmsclient.limiter.slots import CallClass, SlotRule

log: logging.Logger = logging.getLogger(__name__)

NO_SIZE = -1
"""Of a call, for the script."""


@attrs.frozen
class Want:
    """One grant that is asked for."""

    key: str
    call: NextCall


class Sync:
    """Reports on the process's calls and asks for the first callers' grants, in one command, one at a time.

    Args:
        settings: The limiter's options.
        rule: The rule of the slots in Redis.
        calls: Reaches Redis.
        callers: Who is asked for.
        leases: What is reported.
        fallback: Serves the callers while Redis is away, if the settings say so.
        news: Told of the rate, and of Redis going and coming.
    """

    def __init__(
        self,
        settings: Settings,
        rule: SlotRule,
        *,
        calls: RedisCalls,
        callers: Callers,
        leases: Leases,
        fallback: Fallback,
        news: News,
    ) -> None:
        self._news = news
        self._rule = rule
        self._for_script = settings.for_script(rule)
        self._shares = settings.shares
        self._timeout = settings.timeout
        self._calls = calls
        self._callers = callers
        self._leases = leases
        self._fallback = fallback
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard: int | None = None
        self._beat_at = math.inf
        self._ask_at = -math.inf
        self._is_in_line = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self.speed: float = 1.0
        """The rate as of the last sync, as a share of the full one."""
        self.throttlings: int = 0
        """Episodes of throttling that this process has reported first."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """The process makes its first call in this loop."""
        self._loop = loop
        self._leases.start()

    def plan(self) -> None:
        """Sets the timer for the next sync; called at every change. A sync under way plans again at its end."""
        if self._loop is None or self._is_stopped:
            return
        self._fallback.plan()
        if self._task is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        if (at := self._next_at(now)) < math.inf:
            self._timer = self._loop.call_at(max(at, now), self._begin, self._loop)

    async def stop(self) -> None:
        """Reports what is left to report, and that the process leaves, in one more try; and plans no more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        await self._fallback.stop()
        if self._task is not None:
            await asyncio.wait([self._task])
        is_member = self._shares and self._heard is not None
        if is_member or self._leases.has_reports or self._is_in_line:
            self._task = asyncio.get_running_loop().create_task(self._sync(asyncio.get_running_loop()))
            await asyncio.wait([self._task])

    def _next_at(self, now: float) -> float:
        if self._fallback.is_on:
            return self._ask_at
        if self._callers.is_asking:
            return min(self._leases.due, self._ask_at)
        if self._is_in_line and not self._callers.waiting:
            return now + SOON  # leave the line, so that nobody makes room for us
        return min(self._leases.due, self._beat_at)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._task = loop.create_task(self._probe(loop) if self._fallback.is_on else self._sync(loop))

    # --- a sync --------------------------------------------------------------------------------------------------

    async def _sync(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reports, asks if somebody waits, and hands on what was granted."""
        self._rule.lapse(loop.time())
        wanted = [Want(self._leases.next_key(), call) for call in self._callers.calls]
        callers, reports = 0 if self._is_stopped else self._callers.waiting, self._leases.take_reports()
        try:
            result = await self._calls.sync(self._request(loop.time(), wanted, callers, reports))
        except Exception as error:
            # Redis may have done it all the same. To report twice does no harm, and an unknown grant is not used.
            now = loop.time()
            self._leases.put_back(reports, now)
            for want in wanted:
                self._leases.lose(want.key, now)
            self._fail(now, error)
        else:
            self._take(loop.time(), wanted, callers, result)
        finally:
            self._task = None
        self.plan()

    def _request(self, now: float, wanted: Sequence[Want], callers: int, reports: Reports) -> dict[str, object]:
        request: dict[str, object] = {
            **self._for_script,
            **reports.for_script(now),
            "process": self._leases.process,
            "wants": [(want.key, *self._of_call(want.call)) for want in wanted],
            "next": self._of_call(self._callers.call),
            "least": self._rule.min_rtt[CallKind.UPLOAD].least_size,
            "callers": callers,
            "busy": self._leases.sending,
        }
        if self._heard is not None:
            request["heard"] = self._heard
        if self._is_stopped:
            request["leaves"] = True
        return request

    def _of_call(self, call: NextCall) -> tuple[CallClass, int]:
        """What the script has to know of it; a call that is no upload has no size."""
        return self._rule.class_of(call.kind, call.size), call.size if call.kind is CallKind.UPLOAD else NO_SIZE

    def _take(self, now: float, wanted: Sequence[Want], callers: int, result: SyncResult) -> None:
        """Redis has answered."""
        self._heard = result.now
        for kind, exchange, size in result.exchanges:
            self._rule.min_rtt[kind].learn_of_another(exchange, size)
        if self._shares:
            self._beat_at = now + PROBE
        self._leases.pause.extend_to(now + result.pause)
        self._news.back(now)
        if self._fallback.is_on:
            log.info("the limiter is back at Redis")
            self._fallback.end()
        self._ask_at = now + result.wait
        self._is_in_line = callers > result.granted
        self.speed = result.speed
        self._news.rate(result.speed * self._rule.rate)
        self.throttlings += result.slowed
        for want in wanted[: result.granted]:
            call = want.call
            grant = self._leases.grant(want.key, call, result.episode)
            give_back = partial(self._leases.give_back, grant)
            least_size = result.least_size if call.size >= result.least_size else 0
            self._callers.offer(Offer(call.kind, least_size, grant, give_back))
        if len(wanted) > result.granted:
            self._callers.delay()

    # --- Redis away ----------------------------------------------------------------------------------------------

    def _fail(self, now: float, error: Exception) -> None:
        """Redis has not answered: the whole queue is told so, or this process goes by its own part of the cap."""
        self._callers.delay()
        self._is_in_line = False
        self._news.away(now, error, shares=self._shares)
        if self._shares:
            self._ask_at = now + PROBE
            if not self._fallback.is_on:
                reason = self._reason(error)
                log.warning("the limiter cannot reach Redis (%s) and goes by its part of the cap", reason)
                self._fallback.begin(now)
        else:
            self._ask_at = -math.inf
            if self._leases.has_reports:
                self._leases.report_at(now + PROBE)
            self._callers.fail(now, self._reason(error))

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError) and not str(error):
            return f"no answer within {self._timeout:g} s"
        return one_line(f"{type(error).__name__}: {error}", 200)

    async def _probe(self, loop: asyncio.AbstractEventLoop) -> None:
        """Is Redis back? Then the fallback grants no more, and a sync tells Redis what it did."""
        try:
            await self._calls.probe()
        except Exception:
            self._ask_at = loop.time() + PROBE
            self._task = None
            self.plan()
            return
        try:
            await self._fallback.pause()
            await self._sync(loop)
        finally:
            self._fallback.resume()
            self.plan()
