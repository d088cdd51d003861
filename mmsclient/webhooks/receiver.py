"""The receiver of callbacks: an ASGI app of its own, without a framework."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from zoneinfo import ZoneInfo

from mmsclient.checks import checked_zone, is_number, is_whole
from mmsclient.errors import ConfigurationError, one_line
from mmsclient.gate import Gate
from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.session import log
from mmsclient.webhooks.deadlines import Deadlines
from mmsclient.webhooks.door import Door
from mmsclient.webhooks.handover import Handover
from mmsclient.webhooks.parser import ZONE, Event, UnreadableCallback, parse_callbacks
from mmsclient.webhooks.seen import InFile, InMemory

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
H = TypeVar("H", bound=Callable[..., Any])


class Records(Protocol):
    """Something that keeps reports, such as a campaign's journal."""

    def record(self, report: DeliveryReport, /) -> Any: ...


MAX_BODY = 1024 * 1024
MAX_BODIES = 64
REMEMBER = 100_000

ANSWERS: dict[int, tuple[str, dict[str, str]]] = {
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
"""Every answer there is, by its status."""


class CallbackReceiver:
    """Takes the API's callbacks: delivery reports and inbound messages (wire.md section 4). A pure ASGI app.

    ```python
    receiver = CallbackReceiver(token=os.environ["CALLBACK_TOKEN"], seen="callbacks.sqlite")

    @receiver.on_inbound
    async def answer(message: InboundMessage) -> None: ...

    app.mount("/mms", receiver)  # the provider posts to https://your.host/mms/<token>
    ```

    An event goes to the handler of its kind; without one, to whoever iterates over `events()`; without either, a report
    goes to the `wait_for` of its message. **200 is answered only after the event was handled**: the handler came back,
    or the consumer of `events()` came back for the next. A handler that raises or is not done within `timeout`, and an
    event that nobody takes, give 503, so that the sender may try again; what is still being handled then goes on, and
    the repeated callback finds it done.

    Each event is handled once, however often it comes. It is known again by its id (a report by message, status and
    recipient); one without an id is handled each time. In memory the last `remember` events are known, until the
    process ends. In a file (`seen=`) those of the last 30 days are, across restarts and for all processes that share
    the file: exactly once, but for a process that dies between the end of a handler and the note of it. That event is
    handled again when it comes again.

    Parameters:

    - `token`: what stands at the end of the path; 16 characters or more that nobody can guess (`new_token()`). Your
      server's access log shows it.
    - `basic`: user and password that the sender must give as HTTP Basic.
    - `networks`: addresses that callbacks may come from, as `203.0.113.0/24`; all if left out.
    - `proxies`: how many proxies of yours stand before the receiver. The sender's address is then the one that the
      outermost of them wrote into X-Forwarded-For, counted from the right; what stands left of it is not believed. The
      port must not be reachable around them. With 0 the server's own word counts (uvicorn's `--proxy-headers` changes
      it).
    - `seen`: a SQLite file that remembers what was handled.
    - `remember`: events remembered in memory, about 200 bytes each.
    - `timeout`: seconds for a callback to come in and for what it holds to be handled, together.
    - `max_body`: bytes of a body. `max_bodies`: callbacks that are read or handled at a time; further ones wait.
    - `max_events`: events under way, those included that a timeout has left behind; beyond it 503.
    - `timezone`: the zone of the API's times, which say none: an IANA name or a `ZoneInfo`.

    What is answered: 404 to a wrong token or network, to anything else only after these were right: 401, 405, 408 (the
    body was slow), 413, 415, 400 (nothing in the body can be read), 503, 200. An item that cannot be read among others
    that can goes to the handler of `on_unreadable`, or into the log without its content.

    Raises `ConfigurationError`. Belongs to one event loop. Close it (`async with`, `aclose()`) where it is mounted;
    served alone it closes with its server.
    """

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
    ) -> None:
        sizes = {"max_body": max_body, "max_bodies": max_bodies, "max_events": max_events, "remember": remember}
        for option, value in sizes.items():
            if not is_whole(value, 1):
                raise ConfigurationError(f"{option}: expected a whole number, 1 or more, got {value!r}")
        if not is_number(timeout) or not 0 < timeout <= 3600:
            raise ConfigurationError(f"timeout: expected seconds, more than 0 and at most an hour, got {timeout!r}")
        self._door = Door(token, basic=basic, networks=networks, proxies=proxies, max_body=max_body)
        self._zone = checked_zone(timezone)
        self._max_body = max_body
        self._timeout = timeout
        self._deadlines = Deadlines(timeout)
        self._bodies = Gate(max_bodies)
        memory = InMemory(remember) if seen is None else InFile(seen)
        self._handover = Handover(memory, most=max_events, timeout=timeout)

    # Who takes the events -----------------------------------------------------------------------------------------

    def on_delivery_report(self, handler: H) -> H:
        """Let `handler` take the delivery reports. A coroutine, or a plain function, which runs in a thread.

        A decorator. One handler a kind, or `ConfigurationError`.
        """
        self._handover.set_handler(DeliveryReport, handler)
        return handler

    def on_inbound(self, handler: H) -> H:
        """Let `handler` take the inbound messages; as `on_delivery_report`."""
        self._handover.set_handler(InboundMessage, handler)
        return handler

    def on_unreadable(self, handler: H) -> H:
        """Let `handler` take each `UnreadableCallback`; as `on_delivery_report`. The same one may come again."""
        self._handover.set_handler(UnreadableCallback, handler)
        return handler

    def record_into(self, journal: Records) -> None:
        """Let `journal.record(report)` see every report before anybody takes it; a coroutine or a plain function.

        Without a handler of reports and without `events()` that is all that happens to them. If the handling fails
        after it, the journal sees the report again.
        """
        self._handover.add_recorder(journal.record)

    def events(self) -> AsyncGenerator[Event, None]:
        """The events that no handler takes, until the receiver is closed.

        An event counts as handled, and its callback is answered, when its consumer comes back for the next one. A
        consumer that fails or stops leaves its event unhandled: it comes again, if its sender tries again. Wrap it in
        `contextlib.aclosing` where you leave the loop early. Several consumers share the events among them.
        """
        return self._handover.events()

    async def wait_for(
        self, message_id: str, *, recipient: str | None = None, timeout: float = 300.0
    ) -> DeliveryReport:
        """The report of a message's final status, the first that came: to `recipient` if given, else to any.

        The last 10 000 final reports are remembered (without `raw`), so it may be called after the report came. Raises
        `TimeoutError` after `timeout` seconds.
        """
        return await self._handover.wait_for(message_id, recipient, timeout)

    # Its life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Answer 503 from now on, end `events()`, and wait for the handlers at work, `timeout` seconds at most.

        May be called again.
        """
        await self._handover.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    # ASGI ---------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of a server, as ASGI 3 says. A lifespan closes the receiver; a websocket is refused."""
        match scope["type"]:
            case "http":
                status = self._door.refusal(scope) or await self._read(receive)
                if status is not None:
                    await _answer(status, scope, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise NotImplementedError(f"a callback does not come by {other}")

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _read(self, receive: Receive) -> int | None:
        """Read and hand over what comes, within bounds. The status to answer; None if the sender has left."""
        late, reason = 503, "no place came free"
        try:
            with self._deadlines:
                async with self._bodies:
                    late, reason = 408, "the body did not come"
                    body = await self._body(receive)
                    if body is None or isinstance(body, int):
                        return body
                    late, reason = 503, "it was not handled yet"  # and that goes on
                    return await self._take(bytes(body))
        except TimeoutError:
            log.warning("callbacks: answered HTTP %d: %s within %g s", late, reason, self._timeout)
            return late

    async def _body(self, receive: Receive) -> bytearray | int | None:
        """The body; 413 if it is too large; None if the sender left before its end."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_body:
                return 413
            if not message.get("more_body", False):
                return body

    async def _take(self, body: bytes) -> int:
        """Hand over what `body` holds, in its order."""
        items = parse_callbacks(body, timezone=self._zone)
        unreadable = [item for item in items if isinstance(item, UnreadableCallback)]
        if unreadable:
            flaw = one_line(unreadable[0].reason, 200)
            log.warning("callbacks: %d of %d items cannot be read; the first: %s", len(unreadable), len(items), flaw)
        for item in items:
            if not await self._handover.take(item):
                return 503
        return 400 if unreadable and len(unreadable) == len(items) else 200


async def _answer(status: int, scope: Scope, send: Send) -> None:
    headers, body = _ENCODED[status]
    if status in (408, 413) and scope.get("http_version", "1.1").startswith("1"):
        headers = [*headers, (b"connection", b"close")]  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _encoded(text: str, extra: dict[str, str]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(text)), **extra}
    return [(name.encode(), value.encode()) for name, value in headers.items()], text.encode()


_ENCODED = {status: _encoded(*answer) for status, answer in ANSWERS.items()}
