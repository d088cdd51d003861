"""Heeds what operators ask of a campaign from other processes, and tells them what it is doing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from mmsclient._store.protocol import JournalReader
from mmsclient._store.steering import Activity, Orders
from mmsclient._store.stores import JournalStore
from mmsclient._threads import STORES
from mmsclient.bulk.arrivals import Arrivals
from mmsclient.bulk.control import Control, Stop
from mmsclient.bulk.errors import JournalError, StopRequestedError
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.schedule import Schedule
from mmsclient.bulk.waiting import all_done
from mmsclient.observe.campaigns import RunObserver

__all__ = ["Steering", "tell_change"]

log: logging.Logger = logging.getLogger(__name__)

OPERATOR = "operator"
"""Who holds a run that is paused from outside."""

WORTH_TELLING = 1.0
"""Seconds that a wait lasts at least which other processes are told of."""


class Steering:
    """The orders of operators in one run of a campaign.

    Args:
        store: Where its journal is, None for memory, which nobody else can reach.
        control: Of the run.
        schedule: Of the run.
        observer: Told of what is done at an order.
        arrivals: Of a run that sends SMS in place of MMS: the orders of that campaign are heeded, too.
    """

    def __init__(
        self,
        store: JournalStore | None,
        control: Control,
        schedule: Schedule,
        observer: RunObserver,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._store = store
        self._control = control
        self._schedule = schedule
        self._observer = observer
        self._arrivals = arrivals
        self._heeded: Orders | None = None
        self._noted = (Activity.SENDING, "")

    @property
    def stops(self) -> int | None:
        """How often a stop was asked for, by the last look; None before the first."""
        return None if self._heeded is None else self._heeded.stops

    async def begin(self) -> None:
        """Before the journal is opened: a stop counts from now on, also while another sender is waited for."""
        store = self._store
        if store is not None and store.waits:
            with suppress(JournalError):  # it is not there yet, or opening it says what is wrong
                reader = await STORES.run(store.open_reader)
                self._heeded = Orders(stops=(await STORES.run(_orders_in, reader)).stops)

    @asynccontextmanager
    async def heeded(self, thread: JournalThread) -> AsyncIterator[None]:
        """Within, orders are heeded. A campaign that is paused comes to this after the pause, or when it is to stop."""
        if self._store is None:
            yield
            return
        steering = thread.journal.steering
        await thread.run(steering.begin)
        await self._look(thread)
        watching = asyncio.get_running_loop().create_task(self._watch(thread))
        try:
            await self._control.wait_while_held()
            yield
        finally:
            watching.cancel()
            await all_done(watching)
            if not isinstance(self._control.error, JournalError):  # else it is taken for lost
                with suppress(JournalError):
                    await thread.run(steering.end)

    async def _watch(self, thread: JournalThread) -> None:
        steering = thread.journal.steering
        news = asyncio.Event()
        listening = asyncio.get_running_loop().create_task(steering.listen(news.set))
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(steering.look_every):
                        await news.wait()
                news.clear()
                with suppress(JournalError):  # whatever it hinders, is told there
                    await self._look(thread)
        finally:
            listening.cancel()
            await all_done(listening)

    async def _look(self, thread: JournalThread) -> None:
        steering = thread.journal.steering
        orders = await thread.run(steering.orders)
        before = Orders(stops=orders.stops) if self._heeded is None else self._heeded
        self._heeded = orders if self._arrivals is None else orders.beside(await self._arrivals.orders())
        self._heed(before, self._heeded)
        if (doing := self._doing()) != self._noted:
            await thread.run(lambda: steering.note(*doing))
            self._noted = doing

    def _heed(self, before: Orders, orders: Orders) -> None:
        if self._control.is_stopping:
            return
        if orders.stops > before.stops:
            request = StopRequestedError(orders.stopped_by)
            log.warning("%s: %s; nothing new starts", self._shown, request)
            self._observer.stopped(request, from_outside=True)
            self._control.fail(Stop(request, "before its end"))
            return
        tell_change(self._shown, before, orders)
        if orders.paused is not None and before.paused is None:
            self._observer.held()
            self._control.hold(OPERATOR, orders.why_paused)
        elif orders.paused is None and before.paused is not None:
            self._observer.continued()
            self._schedule.end_pause()
            self._control.let_go(OPERATOR)

    def _doing(self) -> tuple[Activity, str]:
        """What the run is doing, and why it does not send."""
        control = self._control
        if self._heeded is not None and self._heeded.paused is not None:
            return Activity.PAUSED, control.hold_reason
        if control.hold_reason:
            return Activity.WAITING, control.hold_reason
        if control.held_until - asyncio.get_running_loop().time() >= WORTH_TELLING:
            return Activity.WAITING, control.held_for
        if (opens_at := self._schedule.opens_at) is not None:
            return Activity.WAITING, f"outside its hours until {opens_at.isoformat(' ', 'seconds')}"
        return Activity.SENDING, ""

    @property
    def _shown(self) -> str:
        return f"journal {'' if self._store is None else self._store.shown}"


def tell_change(shown: str, before: Orders, orders: Orders) -> None:
    """Warn in the log of a pause that has begun or ended."""
    if orders.paused is not None and before.paused is None:
        text = "%s: paused %s; nothing starts until `mmsclient bulk continue` or `bulk.unpause`"
        log.warning(text, shown, orders.why_paused)
    elif orders.paused is None and before.paused is not None:
        log.warning("%s: continued", shown)


def _orders_in(reader: JournalReader) -> Orders:
    try:
        return reader.orders()
    finally:
        reader.close()
