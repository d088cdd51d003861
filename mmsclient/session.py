"""One call from start to answer: retry around (a place in the queue -> token -> exchange -> decode)."""

from __future__ import annotations

import asyncio
import logging
import math
import warnings
from collections import deque
from functools import partial
from typing import Any, Generic, TypeVar

from attrs import asdict, define, frozen

from mmsclient import retry, wire
from mmsclient.errors import (
    CallError,
    ConfigurationError,
    MMSError,
    NotSentError,
    OutcomeUnknownError,
    TransportError,
    one_line,
)
from mmsclient.gate import Gate
from mmsclient.http import STALE_AFTER, Exchange, Failure, Transport
from mmsclient.limiter import Limiter
from mmsclient.models import SentBatch, Stats

T = TypeVar("T")

AT_WIRE = 10
"""Calls that may hold or open a connection without a token, at most: two thirds of a second's worth at 15 a second, so
that handshakes of that length do not slow it down. No call is overtaken by more than these: httpx 0.28 lets all that
ask for a connection race for one, and one may lose often."""

SHORT_WAIT, LONG_WAIT = 0.35 * STALE_AFTER, 0.7 * STALE_AFTER
"""Seconds of waiting for a token with a connection ready: after a shorter wait one more may, up to `AT_WIRE`; after a
longer one, as many fewer as it was too long. A connection that waited too long is opened anew with the token in hand,
which spends it early. Below one token in `STALE_AFTER` that is so for all."""

log = logging.getLogger("mmsclient")


@frozen
class Success(Generic[T]):
    """What an attempt brought, where it brought no error."""

    value: T


@define
class Counts:
    """What a session has done so far."""

    calls: int = 0
    attempts: int = 0
    throttled: int = 0
    abandoned: int = 0


class Session:
    """Runs calls for one account. Shared by a client and its `with_options` views.

    Two gates stand before the HTTP library. `_in_flight` bounds the exchanges, so that callers queue here, where that
    costs little, and not in the library's pool. `_at_wire` bounds those of them that have no token yet.
    """

    def __init__(self, transport: Transport, limiter: Limiter, *, max_in_flight: int, owns_transport: bool) -> None:
        self._transport = transport
        self._limiter = limiter
        self._in_flight = Gate(max_in_flight)
        self._most_at_wire = min(AT_WIRE, max_in_flight)
        self._at_wire = Gate(self._most_at_wire)
        self._line: deque[Exchange] = deque()
        self._owns_transport = owns_transport
        self._running: dict[asyncio.Task[Any], Exchange] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_alert: str | None = None
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._counts = Counts()

    @property
    def stats(self) -> Stats:
        """What was done so far."""
        return Stats(
            **asdict(self._counts),
            in_flight=len(self._running),
            waiting=self._in_flight.waiting + self._at_wire.waiting,
            limiter=getattr(self._limiter, "stats", None),
        )

    @property
    def is_closed(self) -> bool:
        """No call goes out any more."""
        return self._closed

    async def run(self, call: wire.Call[T], *, timeout: float, max_attempts: int) -> T:
        """Carry `call` out and read its answer, repeating it where `retry.may_repeat` allows."""
        self._bind_loop()
        self._counts.calls += 1
        give_up_at = math.inf
        attempt = 1
        while True:
            outcome = await self._attempt(call, timeout)
            if isinstance(outcome, Success):
                return outcome.value
            if isinstance(outcome, CallError):
                outcome.attempts = attempt
            now = asyncio.get_running_loop().time()
            give_up_at = min(give_up_at, now + retry.TOTAL)
            attempt += 1
            wait = retry.wait_before(attempt, outcome) if retry.may_repeat(outcome, call.repeatable) else None
            if wait is None or attempt > max_attempts or now + wait > give_up_at or self._closed:
                raise outcome
            log.info("%s; attempt %d of %d follows", outcome, attempt, max_attempts)
            del outcome  # no cycle of error, traceback and frame while this waits
            await asyncio.sleep(wait)

    def _bind_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError("a client belongs to the event loop of its first call; make one for each loop")

    async def _attempt(self, call: wire.Call[T], timeout: float) -> Success[T] | MMSError:
        """One attempt, in a task of the session's own: a cancelled caller leaves at once and tears nothing."""
        await self._in_flight.acquire()
        try:
            await self._at_wire.acquire()
        except BaseException:
            self._in_flight.release()
            raise
        exchange = Exchange(self._transport, self._limiter, call, timeout, on_wire=self._leave_line)
        exchange.room = self._at_wire.permits
        self._line.append(exchange)
        task = asyncio.get_running_loop().create_task(self._run_exchange(exchange, call))
        self._running[task] = exchange
        task.add_done_callback(self._settle)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            exchange.abandon("its caller was cancelled")
            task.add_done_callback(partial(self._account_for_abandoned, call, exchange))
            raise

    async def _run_exchange(self, exchange: Exchange, call: wire.Call[T]) -> Success[T] | MMSError:
        if self._closed:
            return NotSentError("the client is closed", call=call.name)
        try:
            result = await exchange.run()
        except MMSError as error:  # the limiter's: nothing was sent
            return error
        if isinstance(result, Failure):
            return _failed(call, result)
        outcome = self._decode(call, result)
        throttled = wire.is_throttled(result, outcome if isinstance(outcome, MMSError) else None)
        self._counts.throttled += throttled
        exchange.release(throttled=throttled, retry_after=wire.retry_after(result))
        return outcome

    def _settle(self, task: asyncio.Task[Any]) -> None:
        """Give back what an exchange held, however it ended: a task that is cancelled early never runs at all."""
        exchange = self._running.pop(task)
        self._leave_line(exchange)
        self._in_flight.release()
        self._counts.attempts += exchange.sent
        exchange.release()

    def _leave_line(self, exchange: Exchange) -> None:
        """The exchange has its token, or is over. Its place is free once those before it have left as well."""
        if exchange.in_line and exchange.sent:
            self._make_room(exchange)
        exchange.in_line = False
        while self._line and not self._line[0].in_line:
            self._line.popleft()
            self._at_wire.release()

    def _make_room(self, exchange: Exchange) -> None:
        """As many at the wire as get their tokens in time, judged by those that joined since that was last changed."""
        room, waited = self._at_wire.permits, exchange.waited
        if exchange.room != room:
            return
        if waited > LONG_WAIT:
            self._at_wire.resize(max(1, int(room * LONG_WAIT / waited)))
        elif waited < SHORT_WAIT:
            self._at_wire.resize(min(self._most_at_wire, room + 1))

    def _decode(self, call: wire.Call[T], answer: wire.Answer) -> Success[T] | MMSError:
        try:
            envelope = wire.unwrap(call, answer)
            value = wire.read(call, answer, envelope)
        except MMSError as error:
            log.debug("%s: HTTP %d, %d bytes: %s", call.name, answer.status, len(answer.body), type(error).__name__)
            return error
        except Exception as error:
            log.exception("%s: the answer could not be read", call.name)
            return wire.undecodable(call, answer, error)
        log.debug("%s: HTTP %d, %d bytes: %s", call.name, answer.status, len(answer.body), envelope.code)
        if envelope.low_sms_alert != self._last_alert:
            self._last_alert = envelope.low_sms_alert
            if envelope.low_sms_alert:
                log.warning("%s: the API warns: %s", call.name, one_line(envelope.low_sms_alert, 200))
        return Success(value)

    def _account_for_abandoned(
        self, call: wire.Call[T], exchange: Exchange, task: asyncio.Task[Success[T] | MMSError]
    ) -> None:
        """Say how a call ended whose caller has left: a send may have been carried out."""
        if not exchange.sent:
            return
        self._counts.abandoned += 1
        if task.cancelled():
            ended = "the event loop was stopped before its answer came"
        elif failure := task.exception():
            ended = f"it failed: {failure!r}"
        else:
            outcome = task.result()
            value = outcome.value if isinstance(outcome, Success) else outcome
            ended = str(value) if isinstance(value, SentBatch | MMSError) else "it succeeded"
        log.log(
            logging.DEBUG if call.repeatable else logging.WARNING,
            "%s: its caller was cancelled after it had left; %s",
            call.name,
            one_line(ended, 500),
        )

    async def aclose(self) -> None:
        """Drop the calls that have not left, wait for those that have, and close the connections."""
        self._bind_loop()
        if self._closing is None:
            self._closed = True
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # who is cancelled here leaves; the rest is closed all the same

    async def _close(self) -> None:
        for exchange in self._running.values():
            exchange.abandon("the client was closed")
        while self._running:
            await asyncio.wait(list(self._running))
        if self._owns_transport:
            await self._transport.aclose()

    def __del__(self) -> None:
        if self._owns_transport and not self._closed:
            problem = "an AsyncMMSClient was not closed; use `async with` or aclose()"
            warnings.warn(problem, ResourceWarning, stacklevel=2, source=self)


def _failed(call: wire.Call[Any], failure: Failure) -> TransportError:
    if not failure.sent:
        return NotSentError(failure.reason, call=call.name)
    return (TransportError if call.repeatable else OutcomeUnknownError)(failure.reason, call=call.name)
