"""Sends an SMS to those whose MMS did not arrive: a campaign of its own, in a journal beside the first one.

Its recipients are those of the first journal whose last delivery report says that the message failed, was rejected or
has expired, unless an earlier message, of which no answer told, may have come to them. Each phone stands in its journal
once, so nobody gets two, whoever dies when; and a run that finds the same ones again finds them there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol, TypeAlias

import anyio

from mmsclient._store.errors import JournalError
from mmsclient._store.models import Message, RecipientState
from mmsclient._store.protocol import JournalReader
from mmsclient._store.steering import WAIT_LOOK, Orders
from mmsclient._store.stores import JournalStore
from mmsclient._threads import STORES
from mmsclient._words import counted
from mmsclient.bulk.arrivals import Arrivals, Look, look, read
from mmsclient.bulk.errors import StopRequestedError
from mmsclient.bulk.fallback_due import due_page
from mmsclient.bulk.fallback_options import SMSFallback
from mmsclient.bulk.fallback_settings import settings_of
from mmsclient.bulk.models import Batch, Progress
from mmsclient.bulk.options import CampaignOptions
from mmsclient.bulk.preparation import Preparation
from mmsclient.bulk.reader_thread import ReaderThread
from mmsclient.bulk.recipients import Row
from mmsclient.bulk.steering import tell_change
from mmsclient.bulk.template import MessageText

__all__ = ["Fallback", "FallbackRun", "StartSMS"]

log: logging.Logger = logging.getLogger(__name__)

FIRST_LOOK = 0.05
"""Seconds until the second look for reports. Each pause is twice the one before, up to `WAIT_LOOK`."""


class Batches(Protocol):
    """The results of a campaign's calls."""

    @property
    def progress(self) -> Progress | None: ...
    async def __anext__(self) -> Batch: ...
    def stop(self) -> None: ...
    async def aclose(self) -> None: ...


StartSMS: TypeAlias = Callable[[AsyncIterator[Row]], Batches]
"""Sends the SMS to recipients."""


class MakeCampaign(Protocol):
    """Makes what does that."""

    def __call__(self, *, text: MessageText, options: CampaignOptions, arrivals: Arrivals) -> StartSMS: ...


class Fallback:
    """The fallback of one campaign.

    Args:
        preparation: Of the campaign, which has a journal.
        options: Of the fallback.
        make: Makes the campaign that sends the SMS.
    """

    def __init__(self, preparation: Preparation, options: SMSFallback, make: MakeCampaign) -> None:
        store = preparation.options.store
        assert store is not None  # noqa: S101 - the options were checked
        self._preparation = preparation
        self._options = options
        self._make = make
        self.store: JournalStore = store
        self.thread: ReaderThread = ReaderThread(store)
        self.arrivals: Arrivals = Arrivals(self.thread)

    async def look(self) -> Look:
        """How it stands at this moment."""
        return await self.thread.ask(look)

    def give_up_at(self, found: Look) -> float:
        """Until when reports are waited for, in Unix seconds; 0 where there are none to wait for."""
        return found.ended + self._options.wait if found.awaited else 0.0

    async def has_left_over(self) -> bool:
        """An earlier run has left somebody who is to get an SMS."""
        beside = self.store.fallback
        if not await STORES.run(beside.exists):
            return False
        counts = await read(beside, lambda reader: reader.summary().counts)
        return counts[RecipientState.PENDING] + counts[RecipientState.FAILED] > 0

    async def campaign(self, *, is_first: bool) -> StartSMS:
        """What sends the SMS, as far as its budget goes at this moment.

        `is_first`: of this run, which alone sends to the unknown again; who became that since is not of an earlier run.
        """
        beside = self.store.fallback
        await STORES.run(self.store.check_fallback)
        held: Message | None = None
        if self._options.is_default and await STORES.run(beside.exists):
            held = await read(beside, lambda reader: reader.message())
        text, options = await settings_of(self._preparation, self._options, held)
        if not is_first:
            options["resend_unknown"] = False
        return self._make(text=text, options=options, arrivals=self.arrivals)

    @asynccontextmanager
    async def shown_waiting(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """What is called again and again shows others that this run waits for delivery reports, up to the end of this.

        Where that cannot be noted, it waits all the same: whatever it hinders, is told there.
        """
        notice, is_shown = self.store.wait_notice(), False

        async def show() -> None:
            nonlocal is_shown
            is_shown = True
            with suppress(JournalError):
                await self.thread.run(notice.renew)

        try:
            yield show
        finally:
            if is_shown:
                with anyio.CancelScope(shield=True), suppress(JournalError):
                    await self.thread.run(notice.end)

    async def recipients(self) -> AsyncIterator[Row]:
        """Those whose message did not arrive, each with the text that it had, if it had one of its own.

        They are asked for once the journal of the SMS is there, and that is noted before anybody can get one.
        """
        await STORES.run(self.store.note_fallback)
        last = 0
        while True:
            after = last
            last, found = await self.thread.ask(lambda reader: _page(reader, after))  # noqa: B023
            for each in found:
                yield each
            if last == after:
                return


def _page(reader: JournalReader, after: int) -> tuple[int, list[Row]]:
    """The id of the last accepted recipient of a page, and those of them whose message did not arrive."""
    last, found = due_page(reader, after)
    texts = reader.messages_of(list(found)) if found else {}
    fields = {phone: {"text": own.text.replace("\r\n", "\n")} for phone, own in texts.items()}
    rows = [Row(each.number, each.line, fields=fields.get(phone)) for phone, each in found.items()]
    return last, rows


class FallbackRun:
    """Sends to those whose message did not arrive, once or for as long as reports are waited for.

    Args:
        fallback: Of the campaign.
        waits: Wait for reports, and send to those of whom they come.
        stops: How often a stop was asked for when the campaign looked last; None: by the first look.
    """

    def __init__(self, fallback: Fallback, *, waits: bool, stops: int | None = None) -> None:
        self._fallback = fallback
        self._waits = waits
        self._stopped = asyncio.Event()
        self._batches: Batches | None = None
        self._known: int | None = None  # those to get an SMS, when the last sending began, or fewer since
        self._has_looked = False
        self._left_out: set[int] = set()  # those who were, since then
        self._told: Mapping[int, str] = {}  # those of whom the log has told
        self._stops = stops
        self._orders = Orders()  # by the last look

    @property
    def is_stopping(self) -> bool:
        """Nothing new starts."""
        return self._stopped.is_set()

    @property
    def has_begun(self) -> bool:
        """It has no list of its own."""
        return True

    async def next(self) -> Batch:
        """The next result. Raises the error of the sending, or `StopAsyncIteration`, after the last."""
        try:
            return await self._next()
        except Exception:  # it is over; after a cancellation `drained` comes
            await self._fallback.thread.aclose()
            raise

    async def _next(self) -> Batch:
        while True:
            if self._batches is not None:
                try:
                    return await self._batches.__anext__()
                except StopAsyncIteration:
                    self._batches = None
                    continue
            if self._stopped.is_set() or not await self._begin():
                raise StopAsyncIteration

    async def _begin(self) -> bool:
        """Begin a sending as soon as there is somebody new to send to; False where nobody is waited for any more.

        While the campaign is paused none begins. Raises `StopRequestedError` where it is to stop.
        """
        async with self._fallback.shown_waiting() as show:
            await show()  # its looks take long where there are many recipients
            return await self._wait_and_begin(show)

    async def _wait_and_begin(self, show: Callable[[], Awaitable[None]]) -> bool:
        pause = FIRST_LOOK
        while not self._stopped.is_set():
            look = await self._fallback.look()
            orders = look.orders
            self._stops = orders.stops if self._stops is None else self._stops
            if orders.stops > self._stops:
                raise StopRequestedError(orders.stopped_by)
            self._fallback.arrivals.stops = orders.stops
            self._tell_left_out(look)
            self._tell_paused(orders)
            is_paused = orders.paused is not None
            if not is_paused and await self._is_news(look):
                campaign = await self._fallback.campaign(is_first=self._known is None)
                if self._stopped.is_set():
                    return False
                self._known, self._left_out = look.failed, set(look.left_out)
                self._batches = campaign(self._fallback.recipients())
                return True
            left = WAIT_LOOK if is_paused else self._fallback.give_up_at(look) - time.time()
            if not is_paused and (not self._waits or left <= 0):
                return False
            if pause == FIRST_LOOK and not is_paused:
                text = "%s: waiting up to %.0f s for the delivery reports, for those whose message does not arrive"
                log.info(text, self._fallback.store.shown, left)
            await show()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, left)):
                    await self._stopped.wait()
            pause = min(2 * pause, WAIT_LOOK)
        return False

    async def _is_news(self, look: Look) -> bool:
        """There is somebody to send to, of whom the last sending has not known."""
        if self._known is None:
            has_looked, self._has_looked = self._has_looked, True
            return look.failed > 0 or (not has_looked and await self._fallback.has_left_over())
        self._left_out |= self._fallback.arrivals.held | look.left_out.keys()
        self._fallback.arrivals.held.clear()
        is_news = look.failed > self._known or not self._left_out <= look.left_out.keys()
        self._known = min(self._known, look.failed)
        return is_news

    def _tell_paused(self, orders: Orders) -> None:
        tell_change(f"journal {self._fallback.store.shown}", self._orders, orders)
        self._orders = orders

    def _tell_left_out(self, look: Look) -> None:
        if look.left_out and look.left_out != self._told:
            text = (
                "%s: %s whose last message did not arrive may have got an earlier one, and get no SMS: %d by its final"
                " report, and %d until that has come"
            )
            count, later = len(look.left_out), look.left_out_for_now
            log.info(text, self._fallback.store.shown, counted(count, "recipient"), count - later, later)
        self._told = look.left_out

    def progress(self) -> Progress | None:
        """How far the sending is at this moment; None where there is none."""
        return None if self._batches is None else self._batches.progress

    def stop(self) -> None:
        """Start nothing new."""
        self._stopped.set()
        if self._batches is not None:
            self._batches.stop()

    def abandon(self) -> None:
        """Nobody looks at the results any more. The calls under way are those of a sending that sees to that."""

    async def drained(self) -> None:
        """Wait until what is under way is recorded."""
        try:
            if self._batches is not None:
                await self._batches.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await self._fallback.thread.aclose()
