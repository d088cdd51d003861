"""One attempt at one call, and what is known if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Any, Self

import anyio
from attrs import define, field, frozen

from mmsclient._api.types import Call, Response
from mmsclient._transport.adapter import Transport
from mmsclient._transport.admission import Place
from mmsclient._transport.connections import STALE_AFTER, Connection
from mmsclient._transport.deadline import Deadline
from mmsclient._transport.protocols import HTTPResponse, NetworkStream, Request
from mmsclient._transport.timeouts import Timeouts
from mmsclient._transport.tokens import Token, WithdrawnError
from mmsclient._transport.trace import Step, Trace
from mmsclient.errors import MMSError

if TYPE_CHECKING:
    from mmsclient.observe.calls import ObservedAttempt

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection with its TLS handshake, and for a place in the pool."""

HOOK_TIMEOUT = 10.0
"""Seconds for the event hooks of a client before a call goes out. The others wait for them meanwhile."""

MOST_CONNECTIONS = 100
"""Connections that one attempt may find no good before it takes what there is."""


CHUNKS = 100
"""Pieces of an answer that are taken before others get their turn of the event loop."""


@frozen
class Failure:
    """An exchange that brought no answer."""

    reason: str
    may_have_left: bool
    """False only where the call surely did not leave."""
    timed_out: bool = False
    """It left, and no answer came in time."""


class Phase(IntEnum):
    """How far an exchange is. What is known of its failure follows from it."""

    PREPARED = auto()
    """Nothing is with the HTTP library."""
    HANDED_OVER = auto()
    """It is with the library, which takes or opens a connection; a failure means what the library's events say."""
    AT_WIRE = auto()
    """A connection is ready, and the library is held: nothing leaves."""
    LEAVING = auto()
    """The first byte may have left."""
    LAST_BYTE_OUT = auto()
    """The last byte has left."""
    ANSWERED = auto()
    """The response's headers have come."""


class _UnfitConnectionError(Exception):
    """Raised at the wire, before the first byte: the call goes on another connection."""


@define(eq=False, repr=False)
class _Received:
    """What has come of the answer."""

    status: int
    headers: dict[str, str]
    body: bytearray = field(factory=bytearray)

    @classmethod
    def of(cls, response: HTTPResponse, scrub: Callable[[str], str]) -> Self:
        """Its status and headers."""
        return cls(response.status_code, {name.lower(): scrub(value) for name, value in response.headers.items()})

    async def read(self, response: HTTPResponse, most: int) -> None:
        """Its body. Raises `ValueError` for more than `most` bytes."""
        if response.is_stream_consumed:  # a mock's answer comes read and decoded
            self.headers.pop("content-encoding", None)
            self._add(response.content, most)
            return
        chunks = 0
        async for chunk in response.aiter_raw():
            self._add(chunk, most)
            chunks += 1
            if not chunks % CHUNKS:  # the library gives thousands of small ones in one turn of the loop
                await asyncio.sleep(0)

    def _add(self, chunk: bytes, most: int) -> None:
        self.body += chunk
        if len(self.body) > most:
            raise ValueError(f"the answer is larger than {most} bytes")

    def answer(self, flaw: str | None, scrub: Callable[[str], str], *, timed_out: bool) -> Response:
        """As it is read, whole or not."""
        body = bytes(self.body)
        return Response(
            status=self.status, headers=self.headers, body=body, flaw=flaw, timed_out=timed_out, scrub=scrub
        )


class Exchange:
    """One attempt at one call, never torn once its first byte has left.

    The token is spent at the wire: the library awaits a hook when a connection is ready and nothing has left. What is
    known of a failure follows from the same hook: before it, the call was surely not carried out.
    """

    def __init__(self, transport: Transport, token: Token, call: Call[Any], timeout: float, place: Place) -> None:
        """`timeout`: seconds from the first byte to the end of the answer."""
        self._transport = transport
        self._call = call
        self._timeout = timeout
        self._place = place
        self._phase = Phase.PREPARED
        self._token = token
        self._trace = Trace()
        self._timeouts = Timeouts(CONNECT_TIMEOUT)
        self._request: Request | None = None
        self._scope = anyio.CancelScope()
        self._deadline: Deadline | None = None
        self.objection: Callable[[], str] = lambda: ""
        """Asked right before the first byte: a reason why it must not leave, or ""."""
        self.observed: ObservedAttempt | None = None
        self._withdrawn = ""
        self._replaced = 0
        self._idle: float | None = None
        self._response: HTTPResponse | None = None
        self._received: _Received | None = None

    @property
    def time_runs(self) -> bool:
        """The token is spent and the first byte leaves now; or it had left already, without one."""
        return self._deadline is not None

    @property
    def may_have_left(self) -> bool:
        """The first byte may have left."""
        return self._phase >= Phase.LEAVING or (self._phase is Phase.HANDED_OVER and self.time_runs)

    @property
    def surely_not_left(self) -> bool:
        """Nothing has left: the library does not have the call, or is held before the first byte."""
        return not self.time_runs and self._phase in (Phase.PREPARED, Phase.AT_WIRE)

    def abandon(self, reason: str) -> None:
        """End the exchange if nothing has left yet; else let it go on.

        A connection that is being opened is waited for: torn, it is left open, and httpx 0.28 loses its place.
        """
        if not self.time_runs:
            self._withdrawn = reason
            self._token.withdraw()
            if self._is_in_hook:
                self._scope.cancel()

    @property
    def _is_in_hook(self) -> bool:
        """An event hook of the client has the call, and the library has not begun with it."""
        request = self._request if self._phase is Phase.HANDED_OVER else None
        return request is not None and self._transport.never_got(request, self._timeouts)

    def _end_hook(self) -> None:
        if self._is_in_hook:
            self.abandon(f"an event hook of the HTTP client took longer than {HOOK_TIMEOUT:g} s")

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        """Tell the limiter that the exchange is over."""
        self._token.release(throttled=throttled, retry_after=retry_after)

    async def run(self) -> Response | Failure:
        """Return the answer, the APPKEY still in it if the server echoed it, or what is known of the failure.

        After an answer, `close` gives the connection back. Raises only the limiter's errors: then nothing was sent.
        """
        error: BaseException | None = None
        with self._scope:
            try:
                await self._until_answered()
            except asyncio.CancelledError as caught:
                if _is_being_cancelled():
                    raise
                error = caught  # of something that was awaited, a limiter say
            except Exception as caught:
                error = caught
            finally:
                self._timeouts.stop()
                if self._deadline is not None:
                    self._deadline.cancel()
        timed_out = self._scope.cancelled_caught
        if timed_out or error is not None:
            left = self._leaves_open(error)
            self._phase = max(self._phase, Phase.LEAVING) if left else Phase.PREPARED
        if isinstance(error, MMSError) and not self.may_have_left:
            raise error
        if self.may_have_left and not self._token.is_taken:  # the library should have called the hook, and did not
            self._transport.doubt_trace()
            await self._token.pay_late()
        flaw = f"no complete answer within {self._timeout:g} s" if timed_out else _described(error)
        return self._outcome(flaw, timed_out)

    def _outcome(self, flaw: str | None, timed_out: bool) -> Response | Failure:
        scrub = self._transport.scrub_text
        flaw = flaw and scrub(flaw)
        received = self._received
        if received is not None:
            return received.answer(flaw, scrub, timed_out=timed_out)
        if not self.may_have_left:
            return Failure(self._withdrawn or flaw or "", may_have_left=False)
        # A connection that had lain idle broke before an answer came: the server's patience may be that short.
        self._transport.keepalive.closed_after(self._idle)
        return Failure(flaw or self._withdrawn, may_have_left=True, timed_out=timed_out)

    async def close(self, *, reusable: bool) -> None:
        """Give the connection back to the pool, or close it: what it answered next might be this call's answer.

        One of HTTP/2 stays open: it carries other calls, and tells their answers apart.
        """
        response, self._response = self._response, None
        if response is None or self._received is None:
            return
        stream = _stream_of(response)
        if reusable:
            self._transport.keepalive.released(stream, self._received.headers)
        elif stream is not None:
            await stream.aclose()
        await response.aclose()

    def _leaves_open(self, error: BaseException | None) -> bool:
        """`error`, or a timeout where there is none, leaves open whether the first byte had left."""
        if self._phase is not Phase.HANDED_OVER:
            return self._phase >= Phase.LEAVING
        if self._trace.seen:
            return not self._trace.only_opening
        knows = self._transport.is_of_library and type(error).__name__ in _NEVER_CONNECTED
        return not (self._is_in_hook or knows)

    async def _until_answered(self) -> None:
        """Try on one connection after the other until one is good for the call, and read its answer."""
        while not self._withdrawn:
            try:
                await self._attempt()
                return
            except _UnfitConnectionError:
                self._replaced += 1
            except WithdrawnError:
                return
            self._phase = Phase.PREPARED

    async def _attempt(self) -> None:
        transport = self._transport
        if transport.is_traced:
            await self._place.ask()
            if self._withdrawn:
                raise WithdrawnError
        self._trace = Trace()
        self._timeouts = Timeouts(CONNECT_TIMEOUT)
        self._request = request = transport.request(self._call, self._timeouts, self._follow)
        if not transport.is_traced:
            await self._take_token()
            self._spend_token()
        elif not self._call.repeatable:
            transport.keepalive.learn_from_idle()
        if transport.is_closed:
            raise RuntimeError("the HTTP client is closed")
        self._phase = Phase.HANDED_OVER
        self._timeouts.unless_read(HOOK_TIMEOUT, self._end_hook)
        response = await transport.send(request)
        self._phase = Phase.ANSWERED
        try:
            if not self.time_runs:
                self._start_time()
            self._token.answered()
            self._received = _Received.of(response, transport.scrub_text)
            await self._received.read(response, self._call.max_answer)
        except BaseException:
            await response.aclose()
            raise
        self._response = response

    async def _follow(self, event: str, info: Mapping[str, Any]) -> None:
        """Awaited by the library at each step of an exchange."""
        step = self._trace.follow(event, info)
        if step is Step.OPENING:
            self._place.opening()
        elif step is Step.AT_WIRE:
            self._reach_wire()
            if not self.time_runs:
                await self._at_wire(self._transport.connection_of(info.get("request")))
            self._phase = Phase.LEAVING
        elif step is Step.AT_SHARED_WIRE:  # HTTP/2 gives a stream's number to the next call while this one waits
            self._reach_wire()
            if not self.time_runs:
                self._transport.doubt_trace()
                raise _UnfitConnectionError
            self._phase = Phase.LEAVING
        elif step is Step.LAST_BYTE_OUT:
            self._phase = Phase.LAST_BYTE_OUT
            self._token.last_byte_out()
            if self._request is not None:
                self._transport.end_trace(self._request)  # what follows tells nothing, and each event takes its time
        elif step is Step.UNKNOWN and not self.time_runs:  # no hook of ours may come: pay before, from now on
            self._transport.doubt_trace()

    def _reach_wire(self) -> None:
        if self._phase >= Phase.LEAVING:
            raise RuntimeError("the HTTP client would send the call a second time")
        self._phase = Phase.AT_WIRE
        self._place.ready()

    async def _at_wire(self, connection: Connection | None) -> None:
        """Return with the token spent and the call due to leave at once, or raise before anything has left."""
        keepalive = self._transport.keepalive
        is_new, may_replace = self._trace.connected, self._replaced < MOST_CONNECTIONS
        idle = keepalive.taken(connection)
        if may_replace and not is_new and not self._may_reuse(idle):
            raise _UnfitConnectionError
        waited = await self._take_token()
        if idle is not None:
            idle += waited
        if may_replace:
            if waited > STALE_AFTER or (waited and not is_new and not self._may_reuse(idle)):
                raise _UnfitConnectionError  # the token stays ours
            if connection is not None and (waited or not is_new):
                if not await connection.is_clean(keepalive.sockets(connection)):
                    keepalive.closed_after(idle)
                    raise _UnfitConnectionError
                if self._withdrawn:
                    raise WithdrawnError
        self._idle = idle
        self._spend_token()

    def _may_reuse(self, idle: float | None) -> bool:
        """The call may leave on a connection that was used before and lay idle so long."""
        return self._call.repeatable or self._transport.keepalive.trusts(idle)

    async def _take_token(self) -> float:
        """Wait for the token and return for how many seconds."""
        self._place.ready()
        return await self._token.take()

    def _spend_token(self) -> None:
        """From here on the first byte may leave, and the call's time runs."""
        if reason := self.objection():
            self._withdrawn = reason
            raise WithdrawnError
        self._start_time()
        self._place.token_spent(self._token.waited if self._transport.is_traced else 0.0)

    def _start_time(self) -> None:
        if self.observed is not None:
            self.observed.left()
        self._timeouts.update(read=None, write=None)
        self._deadline = Deadline(self._timeout, self._scope.cancel)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _described(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _stream_of(response: HTTPResponse) -> NetworkStream | None:
    """The network stream that a response came on and no other comes on; None for a mock's and on HTTP/2."""
    extensions = getattr(response, "extensions", {})
    stream: NetworkStream | None = extensions.get("network_stream")
    return None if extensions.get("http_version") == b"HTTP/2" else stream


_NEVER_CONNECTED = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})
"""Errors of the HTTP library that come before a connection is there, where no event tells.

Of anybody else's transport they tell nothing: it may have sent the call before, or an event hook of the client raised
them after the answer."""
