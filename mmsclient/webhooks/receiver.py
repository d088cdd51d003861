"""The receiver of callbacks: an ASGI app of its own, without a framework."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, runtime_checkable
from zoneinfo import ZoneInfo

from mmsclient._api.checks import check_seconds, checked_zone, is_number, is_whole, keeps_arguments_secret
from mmsclient._api.phone_numbers import EXPECTED, phone_key
from mmsclient._capacity import CapacityLimiter
from mmsclient._store.recording import ReportRecorder
from mmsclient._store.stores import events_at
from mmsclient.errors import ConfigurationError, InvalidRequestError, one_line
from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.observe.observer import Observer, emitter
from mmsclient.webhooks.auth import RequestVerifier
from mmsclient.webhooks.deadlines import Deadlines
from mmsclient.webhooks.dedup import InMemoryDedupStore
from mmsclient.webhooks.dispatch import Dispatcher
from mmsclient.webhooks.parse import TOO_MANY, ZONE, Event, UnreadableCallback, parse_callbacks
from mmsclient.webhooks.throttled_log import ThrottledLog
from mmsclient.webhooks.watching import ReceiverStats, ReceiverWatch

log: logging.Logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
H = TypeVar("H", bound=Callable[..., Any])


class Records(Protocol):
    """Something that keeps reports, such as a campaign's journal."""

    def record(self, report: DeliveryReport, /) -> Any: ...


@runtime_checkable
class RecordsReplies(Protocol):
    """Something that keeps inbound messages too."""

    def record_reply(self, reply: InboundMessage, /) -> Any: ...


MAX_BODY = 1024 * 1024
MAX_BODIES = 64
REMEMBER = 100_000

RESPONSES: dict[int, tuple[str, dict[str, str]]] = {
    200: ("OK", {}),
    400: ("Bad Request", {}),
    401: ("Unauthorized", {"www-authenticate": 'Basic realm="callbacks"'}),
    404: ("Not Found", {}),
    405: ("Method Not Allowed", {"allow": "POST"}),
    408: ("Request Timeout", {}),
    413: ("Content Too Large", {}),
    415: ("Unsupported Media Type", {}),
    503: ("Service Unavailable", {"retry-after": "10"}),
}
"""Every response there is, by its status."""


class CallbackReceiver:
    """Receives the API's callbacks, delivery reports and inbound messages, as an ASGI app (api-notes.md section 4).

    ```python
    receiver = CallbackReceiver(token=os.environ["MMSCLIENT_CALLBACK_TOKEN"], seen="callbacks.sqlite")

    @receiver.on_inbound
    async def answer(message: InboundMessage) -> None: ...

    app.mount("/mms", receiver)  # the provider posts to https://your.host/mms/<token>
    ```

    An event goes to the handler of its kind; without one, to whoever iterates over `events()`; without either, a report
    goes to the `wait_for` of its message. **200 is sent only after the event was handled**: the handler returned, or
    the consumer of `events()` asked for the next one. A handler that raises or takes longer than `timeout`, and an
    event that nobody takes in that time, lead to 503, so that the sender may try again. What is still being handled
    then goes on, and the repeated callback finds it done.

    Each event is handled once, however often it is posted. Copies are recognised by their id (a report by message,
    status and recipient); an event without an id is handled each time. The last `remember` events are known in memory,
    until the process ends; with `seen=` those of the last 30 days are known in a file, across restarts and to all
    processes that share it, or in a PostgreSQL database, to all machines. Only an event whose process dies after its
    handler returned and before that was noted is handled again, if it is posted again.

    Other responses: 404 for a wrong token or network; and, only after these were right, 401, 405, 408 (the body was
    slow), 413, 415 and 400 (nothing in the body can be read). An item that cannot be read among others that can goes to
    the handler of `on_unreadable`, or into the log without its content.

    A receiver belongs to one event loop. Close it (`async with`, `aclose()`) where it is mounted; served alone, it
    closes with its server.

    Args:
        token: The last segment of the path: 16 or more characters that nobody can guess (`new_token()`). Your server's
            access log shows it.
        basic: User and password that the sender must give by HTTP Basic authentication.
        networks: Networks that callbacks may come from, such as `203.0.113.0/24`; any if left out.
        proxies: The number of your own proxies in front of the receiver. The sender's address is then what the
            outermost of them wrote into X-Forwarded-For, counted from the right; what stands left of it is not
            believed. The port must not be reachable around them. With 0, the address is the one that the server
            reports (uvicorn's `--proxy-headers` changes it).
        seen: Where it is remembered which events were handled: a SQLite file, or the URL of a PostgreSQL database
            (`postgresql://user@host/database`, extra `postgres`), whose tables are made at the first event. While
            either cannot be used, callbacks are answered 503.
        remember: Events remembered in memory, about 200 bytes each, where `seen` is left out.
        timeout: Seconds within which a callback must have arrived and been handled.
        max_body: Bytes of a body.
        max_bodies: Callbacks that are read at a time; further ones wait.
        max_events: Events of a kind that are handled at a time, including those that a timeout has left behind. Further
            ones wait for their turn, up to 10 000; any beyond that lead to 503 at once. As many as `max_events` may
            wait for somebody to take them.
        timezone: The zone of the API's times, which name none: an IANA name or a `ZoneInfo`.
        observer: Called with each event of the receiver ([observing](observing.md)): a function, or several. It must
            not block.

    Raises:
        ConfigurationError: An option cannot be used.
    """

    @keeps_arguments_secret
    def __init__(
        self,
        *,
        token: str,
        basic: tuple[str, str] | None = None,
        networks: Iterable[str] = (),
        proxies: int = 0,
        seen: str | os.PathLike[str] | None = None,
        remember: int = REMEMBER,
        timeout: float = 10.0,
        max_body: int = MAX_BODY,
        max_bodies: int = MAX_BODIES,
        max_events: int = 1000,
        timezone: str | ZoneInfo = ZONE,
        observer: Observer | Sequence[Observer] | None = None,
    ) -> None:
        sizes = {"max_body": max_body, "max_bodies": max_bodies, "max_events": max_events, "remember": remember}
        for option, value in sizes.items():
            if not is_whole(value, 1):
                raise ConfigurationError(f"{option}: expected a whole number, 1 or more, got {value!r}")
        if not is_number(timeout) or not 0 < timeout <= 3600:
            raise ConfigurationError(f"timeout: expected seconds, more than 0 and at most an hour, got {timeout!r}")
        emit = emitter(observer)
        self._verifier = RequestVerifier(token, basic=basic, networks=networks, proxies=proxies, max_body=max_body)
        self._zone = checked_zone(timezone)
        self._max_body = max_body
        self._timeout = timeout
        self._deadlines = Deadlines(timeout)
        self._bodies = CapacityLimiter(max_bodies)
        dedup = InMemoryDedupStore(remember) if seen is None else events_at(seen)
        self._log = ThrottledLog(log)
        self._watch = ReceiverWatch(emit, self._log)
        self._dispatcher = Dispatcher(dedup, self._watch, limit=max_events, timeout=timeout)

    # Who takes the events -----------------------------------------------------------------------------------------

    def on_delivery_report(self, handler: H) -> H:
        """Sets the handler of delivery reports; a decorator.

        Args:
            handler: A coroutine function, or a plain one, which runs in a thread. Called with each `DeliveryReport`.

        Returns:
            `handler`, as it is.

        Raises:
            ConfigurationError: There is a handler of this kind already, or `handler` cannot be one.
        """
        self._dispatcher.set_handler(DeliveryReport, handler)
        return handler

    def on_inbound(self, handler: H) -> H:
        """Sets the handler of inbound messages, each an `InboundMessage`; otherwise as `on_delivery_report`."""
        self._dispatcher.set_handler(InboundMessage, handler)
        return handler

    def on_unreadable(self, handler: H) -> H:
        """Sets the handler of what cannot be read, each an `UnreadableCallback`; otherwise as `on_delivery_report`.

        Copies cannot be recognised, so it may be called with the same one again.
        """
        self._dispatcher.set_handler(UnreadableCallback, handler)
        return handler

    def record_into(self, journal: Records | str | os.PathLike[str], name: str | None = None) -> None:
        """Records every delivery report and every inbound message into a store, before all else.

        A report needs nobody else to take it then; inbound messages still do. Each callback is answered after the
        commit that holds what it brought; those that come at the same time share one. Where it cannot be recorded, the
        answer is 503, and it is recorded when it is posted again.

        Args:
            journal: A campaign, its file, or the URL of the PostgreSQL database that it is in. It need not be there
                yet. Or `AsyncMMSClient.ledger`, an `Outbox`, or an object of your own: its `record(report)`, a
                coroutine function or a plain one, is called with each report, and its `record_reply(message)`, if it
                has one, with each inbound message; again if the handling fails after it.
            name: What the campaign is called in the database.

        Raises:
            InvalidRequestError: The journal and the name do not fit each other.
            ConfigurationError: The URL cannot be read, or the extra `postgres` is not installed.
        """
        if isinstance(journal, str | os.PathLike):
            journal = ReportRecorder(journal, name)
            self._dispatcher.close_with(journal.aclose)
        elif name is not None:
            raise InvalidRequestError("name", name, "nothing beside a campaign, which has its own")
        self._dispatcher.add_recorder(DeliveryReport, journal.record)
        if isinstance(journal, RecordsReplies):
            self._dispatcher.add_recorder(InboundMessage, journal.record_reply)

    def suppress_into(self, suppression: RecordsReplies) -> None:
        """Puts the sender of each inbound message that asks for no more on a list, before all else.

        A callback is answered after that is on the list; where it cannot be, with 503, and it is tried again when it is
        posted again. Inbound messages still need somebody to take them. The list is not closed with the receiver.

        Args:
            suppression: A `mmsclient.bulk.SuppressionList`, which says which words ask for that.
        """
        self._dispatcher.add_recorder(InboundMessage, suppression.record_reply)

    def events(self) -> AsyncGenerator[Event, None]:
        """Iterates over the events that have no handler, until the receiver is closed.

        An event counts as handled, and its callback is answered, when the loop asks for the next one. A loop that fails
        or stops leaves its event unhandled, to be posted again by its sender. Wrap the iterator in
        `contextlib.aclosing` if you leave the loop early. Several loops share the events between them.
        """
        return self._dispatcher.events()

    async def wait_for(
        self, message_id: str, *, recipient: str | None = None, timeout: float = 300.0
    ) -> DeliveryReport:
        """Waits for the report of a message's final status.

        The final reports of the last 10 000 messages are remembered (without `raw`), so this may also be called after
        the report came. A report that names no recipient is taken as one of the whole message: it ends every wait for
        that message, whatever its recipient. If both kinds came before, the one that names the recipient is returned.

        Where `seen` is a database, a report that any machine handles ends the wait, also one that came in the last 30
        days; and a report that nobody takes goes to a wait on whichever machine.

        Args:
            message_id: The id in the answer to the send.
            recipient: The recipient whose report is awaited; the first report to any recipient if left out.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: No final report came in time.
            RuntimeError: The receiver is closed, or was meanwhile, and no final report had come.
            InvalidRequestError: `recipient` is no number, or `timeout` no number of seconds.
        """
        check_seconds("timeout", timeout, zero=True, error=InvalidRequestError)
        if recipient is not None and not phone_key(recipient):
            raise InvalidRequestError("recipient", recipient, EXPECTED)
        return await self._dispatcher.wait_for(message_id, recipient, timeout)

    @property
    def stats(self) -> ReceiverStats:
        """What has become of the events so far."""
        return self._dispatcher.stats

    async def is_healthy(self, *, timeout: float = 5.0) -> bool:
        """Whether it is open, and `seen` can be written within `timeout` seconds: for a health check."""
        return await self._dispatcher.is_healthy(timeout)

    # Its life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._dispatcher.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Responds with 503 from now on, ends `events()`, and waits for running handlers, at most `timeout` seconds.

        Then those that are coroutine functions are stopped, and plain ones, which nothing stops, waited for as long
        again; so is a store that does not answer. May be called again. From a coroutine function that is a handler it
        returns at once, and the receiver closes when that has ended.
        """
        await self._dispatcher.aclose()
        self._log.flush()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    # ASGI ---------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI 3 scope. The end of a lifespan closes the receiver; a websocket is refused."""
        match scope["type"]:
            case "http":
                self._dispatcher.start()
                callback, began = self._watch.new_callback(), self._watch.now()
                status, reason = self._verifier.rejection(scope), ""
                if status is None:
                    status, reason = await self._read(receive, callback)
                self._watch.answered(callback, status, reason, began)
                if status is not None:
                    await _respond(status, scope, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise NotImplementedError(f"a callback does not come by {other}")

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "lifespan.startup":
            self._dispatcher.start()
            await send({"type": "lifespan.startup.complete"})
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _read(self, receive: Receive, callback: str) -> tuple[int | None, str]:
        """Reads and dispatches a body, within bounds.

        Returns:
            The status to respond with, None if the sender has left; and why, where it is 503.
        """
        late, reason, name = 503, "no place came free", "no_place"
        try:
            with self._deadlines:
                async with self._bodies:
                    late, reason, name = 408, "the body did not come", ""
                    body = await _body(receive, self._max_body)
                if body is None or isinstance(body, int):
                    return body, ""
                late, reason, name = 503, "it was not handled yet", "late"  # and that goes on
                return await self._dispatch(bytes(body), callback)
        except TimeoutError:
            self._log.warning(f"callbacks: answered HTTP {late}: {reason} within {self._timeout:g} s")
            return late, name

    async def _dispatch(self, body: bytes, callback: str) -> tuple[int, str]:
        """Dispatches all that `body` holds, so that an item that cannot be handled starves no other."""
        items = parse_callbacks(body, timezone=self._zone)
        self._watch.received(callback, len(body), items)
        unreadable = [item for item in items if isinstance(item, UnreadableCallback)]
        if unreadable:
            flaw = one_line(unreadable[0].reason, 200)
            text = "callbacks: %d of %d items cannot be read; the first: %s"
            self._log.warning(text, len(unreadable), len(items), flaw)
        if len(items) == 1:
            outcomes = [await self._dispatcher.dispatch(items[0], callback)]
        else:
            outcomes = await asyncio.gather(*(self._dispatcher.dispatch(item, callback) for item in items))
        for outcome in outcomes:
            if not outcome.is_settled:
                return 503, outcome.value
        if not unreadable or len(unreadable) < len(items):
            return 200, ""
        return 413 if unreadable[0].reason == TOO_MANY else 400, ""


async def _body(receive: Receive, limit: int) -> bytearray | int | None:
    """The body; 413 if it is larger than `limit`; None if the sender left before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > limit:
            return 413
        if not message.get("more_body", False):
            return body


async def _respond(status: int, scope: Scope, send: Send) -> None:
    headers, body = _ENCODED[status]
    if status in (408, 413) and scope.get("http_version", "1.1").startswith("1"):
        headers = [*headers, (b"connection", b"close")]  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _encoded(text: str, extra: dict[str, str]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(text)), **extra}
    return [(name.encode(), value.encode()) for name, value in headers.items()], text.encode()


_ENCODED = {status: _encoded(*response) for status, response in RESPONSES.items()}
