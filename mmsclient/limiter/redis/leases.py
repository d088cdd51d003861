"""The slots that this process holds in Redis, and what it has still to report of them."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from contextlib import suppress

import attrs

from mmsclient.limiter.changes import Changes
from mmsclient.limiter.feedback import Pause, pause_after
from mmsclient.limiter.grant import GrantOwner, SlotGrant
from mmsclient.limiter.redis.callers import NextCall
from mmsclient.limiter.redis.settings import LINGER, MOST_EXCHANGES, RENEW, SOON, microseconds
from mmsclient.limiter.slots import CountedBy, SlotRule


@attrs.frozen
class Reports:
    """What Redis has not been told yet. Times are the loop's."""

    free: dict[str, CountedBy] = attrs.field(factory=dict)
    """Slots that are no longer needed, with the latest moment at which their call was counted."""
    unused: dict[str, float] = attrs.field(factory=dict)
    """Grants that nobody used, with the time."""
    throttled: list[tuple[int, float]] = attrs.field(factory=list)
    """Refusals, as their episode and the end of the pause."""
    exchanges: list[str] = attrs.field(factory=list)
    """For the other processes to learn from: the grant, the kind, microseconds, bytes. They can wait."""

    def __bool__(self) -> bool:
        return bool(self.free or self.unused or self.throttled)

    def for_script(self, now: float) -> dict[str, object]:
        """As durations, since the clock of Redis is another one."""
        return {
            "free": [(grant, [microseconds(now - at) for at in counted_by]) for grant, counted_by in self.free.items()],
            "unused": list(self.unused),
            "over": [(episode, microseconds(until - now)) for episode, until in self.throttled],
            "exchanges": self.exchanges,
        }


class Leases:
    """The owner of the grants from Redis. A slot is held until Redis is told since when it is free.

    A call that is still sending is reported twice a second, which renews its lease. What the process grants itself
    while Redis is away is told to Redis, too, when it is back.

    Args:
        rule: Says when a call was counted.
        lasts: Seconds that Redis keeps a slot for which nothing is reported.
        changes: Told when `in_flight` changes.
        plan: Called when `due` becomes earlier.
    """

    def __init__(self, rule: SlotRule, lasts: float, changes: Changes, plan: Callable[[], None]) -> None:
        self._rule = rule
        self._lasts = lasts
        self._changes = changes
        self._plan = plan
        self._timers: dict[SlotGrant, asyncio.TimerHandle] = {}
        self._counted_by: dict[SlotGrant, CountedBy] = {}
        self._sending: dict[str, None] = {}
        self._settling: dict[str, CountedBy] = {}  # calls sent that the server may count still, the latest last
        self._progress = asyncio.Event()
        self._reports = Reports()
        self._named = 0
        self.process: str = ""
        """The name of the process in Redis."""
        self.due: float = math.inf
        """The latest moment at which Redis should hear of it."""
        self.refusals: int = 0
        self.pause: Pause = Pause()
        """After a refusal, of this process or another, as far as it is known here. Redis keeps it while it is there."""

    @property
    def in_flight(self) -> int:
        """Calls granted and not yet over."""
        return len(self._timers)

    @property
    def sending(self) -> list[str]:
        """Grants whose call may still be sending."""
        return list(self._sending)

    @property
    def has_reports(self) -> bool:
        """There is something that Redis has not been told."""
        return bool(self._reports)

    def start(self) -> None:
        """The process makes its first call: not before, as it may fork after making its limiter."""
        self.process = secrets.token_hex(6)

    def next_key(self) -> str:
        """A name for a grant."""
        self._named += 1
        return f"{self.process}:{self._named}"

    def has_room(self, call: NextCall, slots: int) -> bool:
        """The server counts less than so many calls of this process."""
        return self._free_at(call, slots) <= asyncio.get_running_loop().time()

    async def wait_for_room(self, call: NextCall, slots: int) -> None:
        """Waits until it does."""
        while not self.has_room(call, slots):
            self._progress.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._free_at(call, slots)):
                    await self._progress.wait()

    def _free_at(self, call: NextCall, slots: int) -> float:
        of = self._rule.class_of(call.kind, call.size)
        ends = sorted(counted_by[of] + self._rule.hold for counted_by in self._settling.values())
        must_end = len(ends) + len(self._sending) - slots + 1
        if must_end > len(ends):
            return asyncio.get_running_loop().time() + RENEW  # they still send: nobody knows
        return ends[must_end - 1] if must_end > 0 else -math.inf

    def grant(self, key: str, call: NextCall, episode: int, owner: GrantOwner | None = None) -> SlotGrant:
        """The grant for a slot that Redis gave; or `owner`, who passes on what it is told of it."""
        loop = asyncio.get_running_loop()
        kind, size = call.kind, call.size
        grant = SlotGrant(owner or self, self._rule, loop, kind=kind, size=size, episode=episode, key=key)
        self._sending[key] = None
        self._timers[grant] = loop.call_later(RENEW, self._renew, grant)
        self._changes.happened()
        return grant

    def give_back(self, grant: SlotGrant) -> None:
        """Nobody took it."""
        self._end(grant)
        self._sending.pop(grant.key, None)
        self._progress.set()
        self._reports.unused[grant.key] = asyncio.get_running_loop().time()
        self._report_within(SOON)

    # --- what a grant tells its owner ----------------------------------------------------------------------------

    def sent(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        self._timers[grant].cancel()
        loop = asyncio.get_running_loop()
        self._timers[grant] = loop.call_at(max(counted_by), self._free, grant, counted_by)

    def ended(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        self._end(grant)
        self._free(grant, counted_by)
        del self._counted_by[grant]
        if grant.exchange is not None:
            exchange = f"{grant.key} {grant.kind:d} {microseconds(grant.exchange)} {grant.size}"
            self._reports.exchanges.append(exchange)
            del self._reports.exchanges[:-MOST_EXCHANGES]

    def throttled(self, grant: SlotGrant, retry_after: float | None) -> None:
        self.refusals += 1
        self.pause.extend(asyncio.get_running_loop().time(), retry_after)
        self.report_throttled(grant.episode, retry_after)

    # --- what Redis is told --------------------------------------------------------------------------------------

    def take_reports(self) -> Reports:
        """What there is to report. It counts as reported from now on."""
        reports, self._reports, self.due = self._reports, Reports(), math.inf
        return reports

    def put_back(self, reports: Reports, now: float) -> None:
        """They may not have arrived. To report twice does no harm."""
        late = self._reports
        self._reports = Reports(
            {grant: at for grant, at in reports.free.items() if now < max(at) + self._lasts} | late.free,
            {grant: at for grant, at in reports.unused.items() if now < at + self._lasts} | late.unused,
            [report for report in reports.throttled if now < report[1]] + late.throttled,
            reports.exchanges + late.exchanges,
        )

    def lose(self, key: str, now: float) -> None:
        """Redis may have granted it, and the answer was lost; it is not used."""
        self._reports.unused[key] = now

    def report_throttled(self, episode: int, retry_after: float | None) -> None:
        """A call of that episode was refused."""
        now = asyncio.get_running_loop().time()
        self._reports.throttled.append((episode, now + pause_after(retry_after)))
        self._report_within(0.0)

    def report_at(self, at: float) -> None:
        """Redis cannot be reached before."""
        self.due = at

    def _report_within(self, seconds: float) -> None:
        self.due = min(self.due, asyncio.get_running_loop().time() + seconds)
        self._plan()

    def _renew(self, grant: SlotGrant) -> None:
        self._timers[grant] = asyncio.get_running_loop().call_later(RENEW, self._renew, grant)
        self._report_within(SOON)

    def _end(self, grant: SlotGrant) -> None:
        self._timers.pop(grant).cancel()
        self._changes.happened()

    def _free(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        """Reports the slot as free; again if it turns out that it was free earlier."""
        self._sending.pop(grant.key, None)
        self._settling.pop(grant.key, None)
        self._settling[grant.key] = counted_by
        if counted_by != self._counted_by.get(grant):
            self._counted_by[grant] = self._reports.free[grant.key] = counted_by
            self._report_within(LINGER)
        now = asyncio.get_running_loop().time()
        _forget(self._settling, now - self._rule.hold)
        _forget(self._reports.free, now - self._lasts)  # Redis may be away for long
        self._progress.set()


def _forget(calls: dict[str, CountedBy], before: float) -> None:
    """Forgets the first of them, as long as they were counted before then."""
    while calls and max(calls[oldest := next(iter(calls))]) <= before:
        del calls[oldest]
