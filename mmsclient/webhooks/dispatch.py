"""Dispatches events to those who handle them, each once. Nothing of HTTP.

An event goes to the handler of its kind; without one, to whoever iterates over `events`; without either, a report goes
to a `wait_for` of its message.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from attrs import define, field

from mmsclient._capacity import CapacityLimiter
from mmsclient._store.handled_events import Reservation
from mmsclient.errors import ConfigurationError, described, one_line
from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.observe.events import EventOutcome
from mmsclient.webhooks.dedup import DedupStore, InMemoryDedupStore, key_of
from mmsclient.webhooks.elsewhere import Elsewhere
from mmsclient.webhooks.handlers import Handler, awaitable
from mmsclient.webhooks.notes import Notes
from mmsclient.webhooks.outlasting import AbandonedError, end_all, is_cancelled
from mmsclient.webhooks.parse import Event, UnreadableCallback
from mmsclient.webhooks.pending import NotHandledError, PendingEvents
from mmsclient.webhooks.throttled_log import ThrottledLog
from mmsclient.webhooks.waiters import AwaitedReport, ReportWaiters
from mmsclient.webhooks.watching import NOUNS, Began, ReceiverStats, ReceiverWatch

log: logging.Logger = logging.getLogger(__name__)

ASK_AGAIN = 0.25
"""Seconds between two looks at an event that another process handles."""

MOST_WAITING = 10_000
"""Events of a kind that may wait beyond those that are being handled; further ones are refused at once."""

REPEAT = "its sender is asked to repeat it"

_OUTCOMES = {
    Reservation.OURS: EventOutcome.HANDLED,
    Reservation.HANDLED: EventOutcome.DUPLICATE,
    Reservation.ELSEWHERE: EventOutcome.ELSEWHERE,
}


@define(eq=False)
class Handling:
    """An event that is being handled, and the callbacks that wait for its end: copies of one event share one."""

    event: Event | UnreadableCallback
    key: object
    """`bytes` where copies of the event can be known."""
    place: CapacityLimiter | None
    """Where it holds a place, until it is over or waits for somebody to take it."""
    callback: str
    """The id of the callback that brought it first."""
    began: Began | None = None
    task: asyncio.Task[None] | None = None
    outcome: EventOutcome | None = None
    """None while it is under way."""
    callbacks: set[asyncio.Future[EventOutcome]] = field(factory=set)

    def give_place_back(self) -> None:
        """Lets another event of its kind be handled."""
        if self.place is not None:
            self.place.release()
            self.place = None

    async def wait(self) -> EventOutcome:
        """Waits until it is over. What became of the event."""
        if self.outcome is not None:
            return self.outcome
        callback: asyncio.Future[EventOutcome] = asyncio.get_running_loop().create_future()
        self.callbacks.add(callback)
        try:
            return await callback
        finally:
            self.callbacks.discard(callback)

    def end(self, outcome: EventOutcome) -> None:
        """Tells the callbacks."""
        self.outcome = outcome
        for callback in self.callbacks:
            if not callback.done():
                callback.set_result(outcome)


class Dispatcher:
    """Handles at most `limit` events of a kind at a time, and remembers in `dedup` which were handled."""

    def __init__(self, dedup: DedupStore, watch: ReceiverWatch, *, limit: int, timeout: float) -> None:
        self._dedup = dedup
        self._watch = watch
        self._is_quick = isinstance(dedup, InMemoryDedupStore)
        self._limit = limit
        self._timeout = timeout
        self._handlers: dict[type[Any], Callable[[Any], Awaitable[object]]] = {}
        self._recorders: defaultdict[type[Any], list[Callable[[Any], Awaitable[object]]]] = defaultdict(list)
        self._under_way: dict[object, Handling] = {}
        self._notes = Notes(dedup)
        self._places: defaultdict[type[Any], CapacityLimiter] = defaultdict(lambda: CapacityLimiter(limit))
        self._waiting: Counter[type[Any]] = Counter()
        self._pending = PendingEvents(limit=limit, timeout=timeout, needs_nobody=self._needs_nobody)
        self._waiters = ReportWaiters()
        shared = dedup.elsewhere
        self._elsewhere = None if shared is None else Elsewhere(shared, self._waiters, self._pending)
        self._started = False
        self._closed = False
        self._ended = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        """Where a handler has closed it."""
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._log = ThrottledLog(log)

    @property
    def stats(self) -> ReceiverStats:
        """A copy of the counts."""
        return self._watch.snapshot(under_way=len(self._under_way), leases_lost=self._dedup.leases_lost)

    def set_handler(self, kind: type[Any], handler: Handler) -> None:
        """Lets `handler` take all of `kind`. Raises `ConfigurationError` if there is one: it would miss some."""
        if kind in self._handlers:
            raise ConfigurationError(f"a handler of {kind.__name__} is set already; each event is handled once")
        self._handlers[kind] = awaitable(handler)

    def add_recorder(self, kind: type[Any], recorder: Handler) -> None:
        """Shows `recorder` every event of `kind` before it is handled, and again after a failed handling."""
        self._recorders[kind].append(awaitable(recorder))

    def start(self) -> None:
        """Logs, once, which kinds of events have no handler."""
        if self._started:
            return
        self._started = True
        for kind in (DeliveryReport, InboundMessage):
            if not self._has_handler(kind) and not self._pending.has_consumers:
                text = "callbacks: %s has no handler: unless events() or wait_for() takes it, 503 is sent"
                log.info(text, NOUNS[kind])

    def _has_handler(self, kind: type[Any]) -> bool:
        """Events of `kind` have a handler, or need none."""
        return kind in self._handlers or (kind is DeliveryReport and bool(self._recorders[kind]))

    def events(self) -> AsyncGenerator[Event, None]:
        """The events that have no handler. One counts as handled when its consumer comes back for the next."""
        return self._pending.consume()

    async def wait_for(self, message_id: str, recipient: str | None, timeout: float) -> DeliveryReport:
        """The report of a message's final status. Raises `TimeoutError`, and `RuntimeError` where it is closed."""
        awaited = AwaitedReport.of(message_id, recipient)
        if known := self._waiters.known(awaited):
            return known
        with self._waiters.waiting(awaited) as report:
            self._pending.take(lambda event: isinstance(event, DeliveryReport) and awaited.matches(event))
            if self._elsewhere is not None:
                self._elsewhere.look()
            async with asyncio.timeout(timeout):
                return await report

    async def dispatch(self, event: Event | UnreadableCallback, callback: str) -> EventOutcome:
        """Has `event` of `callback` handled, once however often it comes. Not settled: not now, so let it come again.

        Waits for its turn first where many of its kind are being handled. A caller that is cancelled does not stop the
        handling, and may ask again how it went.
        """
        kind = type(event)
        if kind is UnreadableCallback and kind not in self._handlers:
            return self._watch.settled(event, EventOutcome.UNREADABLE, callback)
        if not self._has_handler(kind):
            self._watch.counts.without_handler += 1
        if self._waiting[kind] >= self._limit + MOST_WAITING:
            text = f"callbacks: {NOUNS[kind]} was refused, since %d are being handled or wait; {REPEAT}"
            self._log.warning(text, self._waiting[kind])
            return self._watch.settled(event, EventOutcome.REFUSED, callback)
        self._waiting[kind] += 1
        try:
            key: object = key_of(event) or object()
            handling = self._under_way.get(key) or await self._begin(event, key, callback)
            if handling is None:
                return self._watch.settled(event, EventOutcome.CLOSED, callback)
            return await handling.wait()
        finally:
            self._waiting[kind] -= 1

    async def _begin(self, event: Event | UnreadableCallback, key: object, callback: str) -> Handling | None:
        """Waits for a place, and starts to handle `event`. None where the receiver is closed."""
        place = self._places[type(event)]
        self._watch.look_before(type(event), place)
        try:
            await place.acquire()
        except asyncio.CancelledError:  # its callback was answered
            self._watch.settled(event, EventOutcome.REFUSED, callback)
            raise
        handling = self._under_way.get(key)  # a copy may have come meanwhile
        if handling is not None or self._closed:
            place.release()
            self._watch.look_after(type(event), place)
            return handling
        handling = self._under_way[key] = Handling(event, key, place, callback)
        handling.task = asyncio.get_running_loop().create_task(self._run(handling))
        if self._is_quick:
            await asyncio.sleep(0)  # most are handled by now
        return handling

    async def _run(self, handling: Handling) -> None:
        """Handles an event, and tells its callbacks whether it is handled now."""
        event, key, outcome = handling.event, handling.key, EventOutcome.CLOSED  # where it is cancelled
        handling.began = self._watch.began(event, handling.callback)
        try:
            reservation = Reservation.OURS
            if isinstance(key, bytes) and key in self._notes:
                await self._notes.note(key, event)
                reservation = Reservation.HANDLED
            elif isinstance(key, bytes):
                reservation = await self._reserve(key)
            if reservation is Reservation.OURS:
                await self._handle(handling)
            outcome = _OUTCOMES[reservation]
        except NotHandledError as error:
            outcome = EventOutcome.UNCLAIMED
            self._log.warning(f"callbacks: {NOUNS[type(event)]} was not handled: {error}; {REPEAT}")
        except BaseException as error:
            if isinstance(error, GeneratorExit) or (isinstance(error, asyncio.CancelledError) and is_cancelled()):
                raise
            outcome = EventOutcome.FAILED
            text = f"callbacks: {NOUNS[type(event)]} could not be handled (%s); {REPEAT}"
            self._log.exception(text, one_line(described(error, str) or type(error).__name__, 200))
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        finally:
            del self._under_way[key]
            self._give_place_back(handling)
            self._watch.settled(event, outcome, handling.callback, handling.began)
            self._watch.look_at_leases(self._dedup.leases_lost)
            handling.end(outcome)
        if outcome.is_settled and isinstance(event, DeliveryReport):
            self._waiters.note(event)

    def _give_place_back(self, handling: Handling) -> None:
        handling.give_place_back()
        self._watch.look_after(type(handling.event), self._places[type(handling.event)])

    async def _reserve(self, key: bytes) -> Reservation:
        """Reserves an event; one that another process handles is waited for."""
        reservation = await self._dedup.reserve(key)
        if reservation is Reservation.ELSEWHERE:
            loop = asyncio.get_running_loop()
            end = loop.time() + self._timeout
            while reservation is Reservation.ELSEWHERE and loop.time() < end:
                await asyncio.sleep(ASK_AGAIN)
                reservation = await self._dedup.reserve(key)
        return reservation

    async def _handle(self, handling: Handling) -> None:
        key = handling.key
        try:
            await self._give(handling)
        except (AbandonedError, GeneratorExit):  # its reservation ends as if the process had died
            raise
        except BaseException:
            if isinstance(key, bytes):
                await self._dedup.release(key)
            raise
        if isinstance(key, bytes):
            await self._notes.note(key, handling.event)

    async def _give(self, handling: Handling) -> None:
        """Gives an event to whoever takes it. Returns when it is handled; raises if it could not be."""
        event = handling.event
        for recorder in self._recorders[type(event)]:
            await recorder(event)
        handler = self._handlers.get(type(event))
        if handler is not None:
            await handler(event)
        elif not isinstance(event, UnreadableCallback) and not self._needs_nobody(event):
            if not self._pending.has_consumers:
                self._give_place_back(handling)
                if self._elsewhere is not None and isinstance(event, DeliveryReport):
                    self._elsewhere.look()
            await self._pending.offer(event)

    def _needs_nobody(self, event: Event) -> bool:
        """Whether nobody needs to take a report beyond those who record it or wait for it."""
        if self._pending.has_consumers or not isinstance(event, DeliveryReport):
            return False
        return bool(self._recorders[DeliveryReport]) or self._waiters.is_awaited(event)

    async def is_healthy(self, timeout: float) -> bool:
        """It is not closed, and its store can be written within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._dedup.check()
        except Exception as error:
            self._log.warning("callbacks: what was handled cannot be noted: %s", one_line(repr(error), 200))
            return False
        return not self._closed

    def close_with(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Calls `closer` when the last event is handled."""
        self._closers.append(closer)

    async def aclose(self) -> None:
        """Takes nothing more, ends `events`, lets the handlers at work come to their end, and closes the store.

        Waits for that, unless a handler calls it, which is waited for itself.
        """
        is_handler = any(each.task is asyncio.current_task() for each in self._under_way.values())
        if self._closed:
            if not is_handler:
                await self._ended.wait()
            return
        self._closed = True
        if is_handler:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        else:
            await self._close()

    async def _close(self) -> None:
        self._pending.close()
        async with AsyncExitStack() as then:  # the last first, each whatever becomes of the others
            then.callback(self._ended.set)
            then.callback(self._log.flush)
            for closer in self._closers:
                then.push_async_callback(_within, self._timeout, closer)
            then.push_async_callback(_within, self._timeout, self._dedup.aclose)
            then.push_async_callback(self._notes.aclose, self._timeout)
            if self._elsewhere is not None:
                then.push_async_callback(self._elsewhere.aclose)
            then.callback(self._waiters.close)
            tasks = [handling.task for handling in self._under_way.values() if handling.task]
            if left := await end_all(tasks, timeout=self._timeout):
                log.warning("callbacks: closed while %d events are still being handled: a copy is handled again", left)


async def _within(seconds: float, close: Callable[[], Awaitable[None]]) -> None:
    """Waits for a store to close; one that takes longer closes when it can."""
    try:
        async with asyncio.timeout(seconds):
            await close()
    except TimeoutError:
        log.warning("callbacks: a store does not answer, and closes when it does")
