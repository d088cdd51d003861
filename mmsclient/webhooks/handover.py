"""Events on their way to those who handle them, each once. Nothing of HTTP.

`Handover.take` comes back when an event has been handled. What takes it: the handler of its kind; else whoever iterates
over `events`; else, for a report, a `wait_for` of its message.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

from attrs import define, field

from mmsclient.errors import ConfigurationError
from mmsclient.models import DeliveryReport, DeliveryStatus
from mmsclient.numbers import phone_key
from mmsclient.session import log
from mmsclient.webhooks.parser import Event, UnreadableCallback
from mmsclient.webhooks.seen import Seen, State, key_of

Handler: TypeAlias = Callable[[Any], Awaitable[object] | object]
Final: TypeAlias = tuple[str, DeliveryStatus, str, str | None, str | None]
"""What is remembered of a report of a final status: the fields of `DeliveryReport`, without `raw`."""

ASK_AGAIN = 0.25
"""Seconds between two looks at an event that another process handles."""

REMEMBERED = 10_000
"""Messages whose final reports are kept for a `wait_for` that comes later."""

MOST_RECIPIENTS = 1000
"""Reports kept of one message."""

LONGEST_REMEMBERED = 1000
"""Characters of such a report's free fields; a longer one is not kept."""


@define(eq=False)
class Delivery:
    """An event that waits for somebody to take it, and then for its end."""

    event: Event
    handled: asyncio.Future[None]
    is_held: bool = False
    """A consumer has it and has not come back."""


@define(eq=False)
class Handling:
    """An event that is being handled, and the callbacks that wait for its end: copies of one event share one."""

    task: asyncio.Task[None] | None = None
    is_handled: bool | None = None
    """None while it is under way."""
    callbacks: set[asyncio.Future[bool]] = field(factory=set)


class Handover:
    """Hands events over, at most `most` at a time, and remembers in `seen` which were handled."""

    def __init__(self, seen: Seen, *, most: int, timeout: float) -> None:
        self._seen = seen
        self._most = most
        self._timeout = timeout
        self._handlers: dict[type[Any], Callable[[Any], Awaitable[object]]] = {}
        self._recorders: list[Callable[[Any], Awaitable[object]]] = []
        self._under_way: dict[object, Handling] = {}
        self._deliveries: dict[Delivery, None] = {}
        self._waiting: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._iterators = 0
        self._waiters: defaultdict[tuple[str, str], list[asyncio.Future[DeliveryReport]]] = defaultdict(list)
        self._finals: OrderedDict[str, list[Final]] = OrderedDict()
        self._closed = False

    def set_handler(self, kind: type[Any], handler: Handler) -> None:
        """Let `handler` take all of `kind`. Raises `ConfigurationError` if there is one: it would see some twice."""
        if kind in self._handlers:
            raise ConfigurationError(f"a handler of {kind.__name__} is set already; each event is handled once")
        self._handlers[kind] = _awaitable(handler)

    def add_recorder(self, recorder: Handler) -> None:
        """Show `recorder` every report before it is handled. It must bear to see one again, after a failed handling."""
        self._recorders.append(_awaitable(recorder))

    async def take(self, event: Event | UnreadableCallback) -> bool:
        """Hand `event` over, once however often it comes. False: not now, so let it come again.

        A caller that is cancelled does not stop the handling, and may ask again how it went.
        """
        if isinstance(event, UnreadableCallback) and UnreadableCallback not in self._handlers:
            return True
        key: object = key_of(event) or object()
        loop = asyncio.get_running_loop()
        handling = self._under_way.get(key)
        if handling is None:
            if self._closed or len(self._under_way) >= self._most:
                return False
            handling = self._under_way[key] = Handling()
            handling.task = loop.create_task(self._hand_over(event, key, handling))
            await asyncio.sleep(0)  # most are handled by now
            if handling.is_handled is not None:
                return handling.is_handled
        callback: asyncio.Future[bool] = loop.create_future()
        handling.callbacks.add(callback)
        try:
            return await callback
        finally:
            handling.callbacks.discard(callback)

    async def _hand_over(self, event: Event | UnreadableCallback, key: object, handling: Handling) -> None:
        """Handle `event`, and tell its callbacks whether it is handled now."""
        is_handled = False
        try:
            state = await self._reserve(key) if isinstance(key, bytes) else State.OURS
            if state is State.OURS:
                await self._handle(event, key)
            is_handled = state is not State.ELSEWHERE
        except NotHandledError as error:
            log.warning("callbacks: a %s was not handled: %s; its sender is asked to repeat it", _kind(event), error)
        except Exception:
            log.exception("callbacks: a %s could not be handled; its sender is asked to repeat it", _kind(event))
        finally:
            del self._under_way[key]
            handling.is_handled = is_handled
            for callback in handling.callbacks:
                if not callback.done():
                    callback.set_result(is_handled)
        if is_handled and isinstance(event, DeliveryReport):
            self._note(event)

    async def _reserve(self, key: bytes) -> State:
        """What is known of an event; one that another process handles is waited for."""
        state = await self._seen.reserve(key)
        if state is State.ELSEWHERE:
            loop = asyncio.get_running_loop()
            end = loop.time() + self._timeout
            while state is State.ELSEWHERE and loop.time() < end:
                await asyncio.sleep(ASK_AGAIN)
                state = await self._seen.reserve(key)
        return state

    async def _handle(self, event: Event | UnreadableCallback, key: object) -> None:
        try:
            await self._give(event)
        except BaseException:
            if isinstance(key, bytes):
                await self._seen.release(key)
            raise
        if isinstance(key, bytes):
            try:
                await self._seen.confirm(key)
            except Exception:  # it was handled, and to have it repeated would not help
                log.exception("callbacks: a handled %s could not be noted; a copy would be handled again", _kind(event))

    async def _give(self, event: Event | UnreadableCallback) -> None:
        """Give `event` to whoever takes it. Comes back when it is handled; raises if it could not be."""
        recorders = self._recorders if isinstance(event, DeliveryReport) else ()
        for recorder in recorders:
            await recorder(event)
        handler = self._handlers.get(type(event))
        if handler is not None:
            await handler(event)
        elif not isinstance(event, UnreadableCallback) and not self._is_for_others(event):
            await self._offer(event)

    def _is_for_others(self, event: Event) -> bool:
        """Whether a report needs nobody but those who record it or wait for it."""
        if self._iterators or not isinstance(event, DeliveryReport):
            return False
        return bool(self._recorders) or any(key in self._waiters for key in _awaited(event))

    async def _offer(self, event: Event) -> None:
        """Wait until somebody has taken `event` and is done with it."""
        delivery = Delivery(event, asyncio.get_running_loop().create_future())
        self._deliveries[delivery] = None
        self._waiting.put_nowait(delivery)
        try:
            await delivery.handled
        finally:
            del self._deliveries[delivery]

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events that have no handler. One counts as handled when its consumer comes back for the next."""
        self._iterators += 1
        try:
            while delivery := await self._next():
                delivery.is_held = True
                try:
                    yield delivery.event
                except BaseException:
                    _settle(delivery, NotHandledError("its consumer stopped"))
                    raise
                _settle(delivery, None)
        finally:
            self._iterators -= 1

    async def _next(self) -> Delivery | None:
        while not self._closed:
            delivery = await self._waiting.get()
            if delivery is not None and not delivery.handled.done():
                return delivery
        self._waiting.put_nowait(None)  # for the next iterator
        return None

    async def wait_for(self, message_id: str, recipient: str | None, timeout: float) -> DeliveryReport:
        """The report of a message's final status. Raises `TimeoutError`."""
        key = (message_id, "" if recipient is None else phone_key(recipient))
        for final in self._finals.get(message_id, ()):
            if key[1] in {"", phone_key(final[2])}:
                return _report(final)
        future: asyncio.Future[DeliveryReport] = asyncio.get_running_loop().create_future()
        self._waiters[key].append(future)
        self._take_offered(key)
        try:
            async with asyncio.timeout(timeout):
                return await future
        finally:
            self._waiters[key].remove(future)
            if not self._waiters[key]:
                del self._waiters[key]

    def _take_offered(self, key: tuple[str, str]) -> None:
        """Take the reports of a message that came before anybody waited for them."""
        for delivery in self._deliveries if not self._iterators else ():
            if isinstance(delivery.event, DeliveryReport) and key in _awaited(delivery.event):
                _settle(delivery, None)

    def _note(self, report: DeliveryReport) -> None:
        """Tell those who wait for a message, and remember its final status for those who will."""
        if not report.message_id or not report.status.is_final:
            return
        for key in _awaited(report) if self._waiters else ():
            for future in self._waiters.get(key, ()):
                if not future.done():
                    future.set_result(report)
        if len(report.custom_string or "") + len(report.source or "") > LONGEST_REMEMBERED:
            return
        final = (report.message_id, report.status, report.recipient, report.custom_string, report.source)
        others = self._finals.setdefault(report.message_id, [])
        if len(others) < MOST_RECIPIENTS and final not in others:
            others.append(final)
        if len(self._finals) > REMEMBERED:
            self._finals.popitem(last=False)

    async def aclose(self) -> None:
        """Take nothing more, end `events`, let the handlers at work come to their end, and close the memory."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put_nowait(None)
        for delivery in list(self._deliveries):
            if not delivery.is_held:
                _settle(delivery, NotHandledError("the receiver was closed"))
        tasks = [handling.task for handling in self._under_way.values() if handling.task]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._seen.aclose()


class NotHandledError(Exception):
    """Nobody has handled an event; the text says why. Never leaves this package."""


def _awaited(report: DeliveryReport) -> tuple[tuple[str, str], tuple[str, str]]:
    """What a `wait_for` that `report` answers may wait for: its message alone, or with the recipient."""
    return (report.message_id, ""), (report.message_id, phone_key(report.recipient))


def _report(final: Final) -> DeliveryReport:
    message_id, status, recipient, custom_string, source = final
    return DeliveryReport(
        message_id=message_id, status=status, recipient=recipient, custom_string=custom_string, source=source
    )


def _settle(delivery: Delivery, error: NotHandledError | None) -> None:
    if delivery.handled.done():
        return
    if error is None:
        delivery.handled.set_result(None)
    else:
        delivery.handled.set_exception(error)


def _kind(event: Event | UnreadableCallback) -> str:
    return type(event).__name__


def _awaitable(handler: Handler) -> Callable[[Any], Awaitable[object]]:
    """`handler` as a coroutine; one that is none runs in a thread, so that it may take its time."""
    if inspect.iscoroutinefunction(handler):
        return handler

    async def run(value: Any) -> None:
        outcome = await asyncio.to_thread(handler, value)
        if inspect.isawaitable(outcome):  # of a lambda, or of an object whose call is a coroutine
            await outcome

    return run
