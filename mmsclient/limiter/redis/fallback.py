"""What the process goes by while Redis is away: its own part of the cap."""

from __future__ import annotations

import asyncio
from functools import partial

from mmsclient.limiter.changes import News
from mmsclient.limiter.grant import SlotGrant
from mmsclient.limiter.pacing import Pacer
from mmsclient.limiter.redis.callers import Callers, Offer
from mmsclient.limiter.redis.leases import Leases
from mmsclient.limiter.redis.settings import Settings
from mmsclient.limiter.slots import CountedBy, SlotRule

NO_EPISODE = -1
"""Of those that Redis numbers: a refusal holds everybody there, and slows nobody down."""


class Fallback:
    """Grants from the process's own part of the cap, one at a time, while Redis is away: the owner of these grants.

    What Redis granted it before counts as a part of its part for as long as the server counts that.

    Args:
        settings: The limiter's options.
        rule: The rule of the slots in Redis.
        callers: Who is served.
        leases: The calls of the process.
    """

    def __init__(self, settings: Settings, rule: SlotRule, callers: Callers, leases: Leases) -> None:
        part = SlotRule(settings.own_rate, settings.jitter)
        self._rule = rule
        self._slots = part.slots
        self._pacer = Pacer(part.rate, settings.own_burst, News(part.rate), leases.pause)
        self._starts_after = settings.alone_after(rule)
        self._callers = callers
        self._leases = leases
        self._starts_at = 0.0
        self._is_paused = False
        self._task: asyncio.Task[None] | None = None
        self.is_on: bool = False
        """Redis is away."""
        self.refusals: int = 0

    @property
    def throttlings(self) -> int:
        """Episodes of throttling while Redis was away."""
        return self._pacer.episodes

    def rate(self, now: float) -> float:
        """Calls a second that it grants at present."""
        return self._pacer.rate(now)

    def begin(self, now: float) -> None:
        """Redis is away."""
        self.is_on, self._starts_at = True, now + self._starts_after

    def end(self) -> None:
        """Redis is back."""
        self.is_on = False

    def plan(self) -> None:
        """Serves the first caller, if there is one; called at every change."""
        if self._task is not None and not self._task.done():
            if not self._callers.waiting:
                self._task.cancel()
        elif self.is_on and not self._is_paused and self._callers.is_asking:
            self._task = asyncio.get_running_loop().create_task(self._serve())
            self._task.add_done_callback(self._served)

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

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._callers.fail_first(error)
        self.plan()  # somebody may have come as it was cancelled

    async def _serve(self) -> None:
        clock = asyncio.get_running_loop().time
        if (wait := self._starts_at - clock()) > 0:
            await asyncio.sleep(wait)
        call = self._callers.call
        queued = not (self._leases.has_room(call, self._slots) and self._pacer.is_free(clock()))
        if queued:
            self._callers.delay()
        await self._leases.wait_for_room(call, self._slots)
        least_size = self._rule.class_begins_at(call.kind, call.size)
        await self._pacer.wait(queued=queued)
        grant = self._leases.grant(self._leases.next_key(), call, self._pacer.episodes, owner=self)
        self._callers.offer(Offer(call.kind, least_size, grant, partial(self._leases.give_back, grant)))

    # --- what a grant tells its owner ----------------------------------------------------------------------------

    def sent(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        self._leases.sent(grant, counted_by)

    def ended(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        self._leases.ended(grant, counted_by)

    def throttled(self, grant: SlotGrant, retry_after: float | None) -> None:
        self.refusals += 1
        self._pacer.throttle(asyncio.get_running_loop().time(), grant.episode, retry_after)
        self._leases.report_throttled(NO_EPISODE, retry_after)
