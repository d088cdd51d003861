"""When the batches of a run may start, and how large they are: from a time on, in good hours, so many a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

from mmsclient._store.models import Claim
from mmsclient.bulk.control import Control
from mmsclient.bulk.drip import Drip
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.options import Options
from mmsclient.bulk.own_pictures import is_picture_function
from mmsclient.bulk.template import Template

__all__ = ["Schedule", "wall_clock"]

Take: TypeAlias = Callable[[], Awaitable[Claim | None]]

LOOK_AGAIN = 60.0
"""Seconds after which the clock is looked at again: it may be set, and timers stand still in a machine that sleeps."""

CLOSED = "its hours were over before it left"
PAUSED = "the campaign was paused before it left"


def wall_clock() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


class Schedule:
    """The hours and the pace of one run.

    Once the hours are over, they stay so until `reopen`: what comes before the first call of a day is done between. So
    it is after a pause of a campaign that asks who has unsubscribed.
    """

    def __init__(self, options: Options) -> None:
        self._window = options.window
        self._start_at = options.start_at
        per_minute = options.recipients_per_minute
        self._drip = None if per_minute is None else Drip(per_minute, options.batch_size)
        has_template = any(isinstance(part, Template) for part in (options.text, options.subject))
        self._is_uneven = has_template or is_picture_function(options.image)
        self._asks_opt_outs = options.asks_opt_outs
        self._was_paused = False  # and they were not asked for since
        self._turn = asyncio.Lock()  # of the batch that starts, or waits until it may start again
        self.batch_size: int = options.batch_size if self._drip is None else self._drip.size
        """Recipients of a call."""
        self.opens_at: datetime | None = None
        """When the hours begin that the run waits for; None while it does not wait."""
        self.has_closed: bool = False
        """Nothing might leave at some time, so that calls may have been taken back."""

    def is_open(self) -> bool:
        """Calls may start, and leave, now."""
        if self.opens_at is None and (opens_at := self._next_opening(wall_clock())) is not None:
            self.opens_at, self.has_closed = opens_at, True
        return self.opens_at is None and not self._was_paused

    def objection(self) -> str:
        """Why a call must not leave now, "" where it may."""
        if self.is_open():
            return ""
        return CLOSED if self.opens_at is not None else PAUSED

    def may_reopen(self) -> bool:
        """The hours that the run waits for have begun, or a pause is over."""
        is_waiting = self.opens_at is not None or self._was_paused
        return is_waiting and self._next_opening(wall_clock()) is None

    def end_pause(self) -> None:
        """An operator lets the run go on: once it was asked who has unsubscribed meanwhile, if it asks that at all."""
        if self._asks_opt_outs:
            self._was_paused = self.has_closed = True

    def reopen(self) -> None:
        """Calls may start again."""
        self.opens_at, self._was_paused = None, False

    def allows(self, now: float) -> bool:
        """A new batch may start. `now`: the event loop's time."""
        return not self._turn.locked() and (self._drip is None or now >= self._drip.next_at) and self.is_open()

    async def begin(self, take: Take) -> Claim | None:
        """Start a batch, which `take` claims."""
        async with self._turn:
            return await self._begin(take)

    async def begin_again(self, control: Control, take: Take) -> Claim | None:
        """Start a batch once more, as soon as it may, and before any new one; None where the run is to stop.

        Where the hours are over, it does not wait: then the call does not leave.
        """
        try:
            async with self._turn:
                return await self._begin(take) if await self.wait_for_turn(control) else None
        finally:
            control.changed.set()

    async def wait_for_turn(self, control: Control) -> bool:
        """Wait until nobody holds the run and a batch may start, or its hours are over. False where it is to stop."""
        loop = asyncio.get_running_loop()
        while await control.wait_while_held():
            if not self.is_open() or (until := self.look_again_at(now := loop.time())) is None:
                return True
            await control.unless_stopped(asyncio.sleep(until - now))
        return False

    async def _begin(self, take: Take) -> Claim | None:
        claim = await take()
        now = asyncio.get_running_loop().time()
        if claim is not None and self._drip is not None:
            if self._is_uneven:
                self._drip.began_uneven(now, len(claim.ids))
            else:
                self._drip.began(now)
        return claim

    async def continue_from(self, thread: JournalThread) -> None:
        """Keep the pace of an earlier run: the first batch comes no sooner than after the last one of that."""
        if self._drip is None:
            return
        last = (await thread.run(thread.journal.reader.summary)).last_started
        if last is not None:
            now = asyncio.get_running_loop().time()
            self._drip.began(now, ago=wall_clock().timestamp() - last)

    def look_again_at(self, now: float) -> float | None:
        """The event loop's time at which a batch may become possible; None where it is not the schedule that holds."""
        if self.opens_at is not None:
            clock = wall_clock()
            opens_at = self._next_opening(clock)
            return None if opens_at is None else now + min(LOOK_AGAIN, (opens_at - clock).total_seconds())
        return self._drip.next_at if self._drip is not None and self._drip.next_at > now else None

    def _next_opening(self, time: datetime) -> datetime | None:
        """When calls may start; None where they may at `time`."""
        earliest = time if self._start_at is None else max(time, self._start_at)
        opens_at = earliest if self._window is None else self._window.next_opening(earliest)
        return opens_at if opens_at > time else None
