"""One call from start to answer: retry around (a place in the queue -> token -> exchange -> decode)."""

from __future__ import annotations

import asyncio
import logging
import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

from attrs import asdict, define, evolve, frozen

from mmsclient._api import envelope
from mmsclient._api.types import Call, Response
from mmsclient._threads import DECODING
from mmsclient._transport import retry
from mmsclient._transport.adapter import Transport
from mmsclient._transport.admission import Admission, Place
from mmsclient._transport.exchange import Exchange, Failure
from mmsclient._transport.tokens import Token, acquire_from
from mmsclient.errors import (
    CallError,
    ConfigurationError,
    MMSError,
    NotSentError,
    OutcomeUnknownError,
    TransportError,
    in_words,
    one_line,
    without_excerpt,
)
from mmsclient.limiter import Limiter, TokenBucketStats
from mmsclient.limiter.changes import TellsRate
from mmsclient.models import SentBatch, SentMany, Stats

if TYPE_CHECKING:
    from mmsclient.observe.calls import ClientObserver, ObservedAttempt, ObservedCall
    from mmsclient.observe.events import CampaignRef

T = TypeVar("T")

LARGE = 64 * 1024
"""Bytes of an answer from which on it is decoded in a thread."""

log = logging.getLogger(__name__)


@frozen(eq=False, repr=False)
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


class Recall:
    """Takes calls back that have not left; see `AsyncMMSClient.with_options`."""

    def __init__(self, objection: Callable[[], str] = lambda: "") -> None:
        """`objection`: asked right before the first byte of a call; a reason takes that call back."""
        self.objection = objection
        self._exchanges: WeakSet[Exchange] = WeakSet()
        self._is_recalled = asyncio.Event()
        self.reason: str = ""
        """Why no call leaves any more; empty as long as they do."""
        self.never_left: bool = True
        """If the caller of its last call is cancelled now: the call surely never left, nor will."""

    def follow(self, exchange: Exchange) -> None:
        """`exchange` is to be taken back with the others."""
        self._exchanges.add(exchange)
        self.never_left = False

    def all(self, reason: str) -> None:
        """Take back what has not left, now and later: it ends with `NotSentError`."""
        self.reason = reason
        self._is_recalled.set()
        for exchange in self._exchanges:
            exchange.abandon(reason)

    async def pause(self, seconds: float) -> None:
        """Wait before another attempt; no longer than until the calls are taken back."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_recalled.wait()


class Session:
    """Runs calls for one account. Shared by a client and its `with_options` views."""

    def __init__(
        self,
        transport: Transport,
        limiter: Limiter,
        *,
        max_in_flight: int,
        owns_transport: bool,
        observer: ClientObserver | None = None,
    ) -> None:
        self._transport = transport
        self._limiter = limiter
        self._acquire = acquire_from(limiter)
        self._observer = observer
        if observer is not None and isinstance(limiter, TellsRate):
            limiter.on_rate(observer)
        self._admission = Admission(max_in_flight)
        self._owns_transport = owns_transport
        self._running: dict[Exchange, asyncio.Task[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_alert: str | None = None
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._counts = Counts()

    @property
    def stats(self) -> Stats:
        """What was done so far."""
        figures = getattr(self._limiter, "stats", None)
        return Stats(
            **asdict(self._counts),
            in_flight=len(self._running),
            waiting=self._admission.waiting,
            limiter=figures if isinstance(figures, TokenBucketStats) else None,
        )

    @property
    def limiter(self) -> Limiter:
        """What grants the tokens."""
        return self._limiter

    @property
    def is_closed(self) -> bool:
        """No call goes out any more."""
        return self._closed

    def key_fingerprint(self, salt: bytes) -> str:
        """As `AppKey.fingerprint`."""
        return self._transport.key_fingerprint(salt)

    async def run(
        self,
        call: Call[T],
        *,
        timeout: float,
        max_attempts: int,
        recall: Recall | None = None,
        campaign: CampaignRef | None = None,
    ) -> T:
        """Carry `call` out and read its answer, repeating it where `retry.may_repeat` allows."""
        self._bind_loop()
        self._counts.calls += 1
        if self._observer is None:
            return await self._repeat(call, timeout, max_attempts, recall, None)
        observed = self._observer.call(call.name, call.recipients, call.repeatable, campaign)
        try:
            value = await self._repeat(call, timeout, max_attempts, recall, observed)
        except BaseException as error:
            observed.raised(error)
            raise
        observed.returned(value)
        return value

    async def _repeat(
        self, call: Call[T], timeout: float, max_attempts: int, recall: Recall | None, observed: ObservedCall | None
    ) -> T:
        give_up_at = math.inf
        attempt = 1
        while True:
            outcome = await self._attempt(call, timeout, recall, None if observed is None else observed.attempt())
            if isinstance(outcome, Success):
                return outcome.value
            if isinstance(outcome, CallError):
                outcome.attempts = attempt
                outcome.host = self._transport.host
            now = asyncio.get_running_loop().time()
            give_up_at = min(give_up_at, now + retry.TOTAL)
            attempt += 1
            wait = retry.wait_before(attempt, outcome) if retry.may_repeat(outcome, call.repeatable) else None
            is_over = self._closed or (recall is not None and recall.reason)
            if wait is None or attempt > max_attempts or now + wait > give_up_at or is_over:
                raise outcome
            log.info("%s; attempt %d of %d follows", without_excerpt(outcome), attempt, max_attempts)
            if observed is not None:
                observed.retried(outcome, wait)
            del outcome  # no cycle of error, traceback and frame while this waits
            await (asyncio.sleep(wait) if recall is None else recall.pause(wait))

    def _bind_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError("a client belongs to the event loop of its first call; make one for each loop")

    async def _attempt(
        self, call: Call[T], timeout: float, recall: Recall | None, observed: ObservedAttempt | None
    ) -> Success[T] | MMSError:
        """One attempt, in a task of the session's own: a cancelled caller leaves at once and tears nothing."""
        place = await self._enter(observed)
        token = Token(self._acquire, call)
        exchange = Exchange(self._transport, token, call, timeout, place)
        if observed is not None:
            observed.entered(token)
            exchange.observed = observed
        if recall is not None:
            exchange.objection = recall.objection
            recall.follow(exchange)
            if recall.reason:
                exchange.abandon(recall.reason)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Success[T] | MMSError] = loop.create_future()
        task = loop.create_task(self._carry_out(exchange, place, call, ended))
        self._running[exchange] = task
        task.add_done_callback(partial(self._settle, exchange, place, ended))
        try:
            return await ended
        except asyncio.CancelledError:
            exchange.abandon("its caller was cancelled")
            if recall is not None:
                recall.never_left = exchange.surely_not_left
            task.add_done_callback(partial(self._account_for_abandoned, call, exchange))
            raise

    async def _enter(self, observed: ObservedAttempt | None) -> Place:
        """Wait for a place in the queue."""
        try:
            return await self._admission.enter()
        except BaseException as error:
            if observed is not None:
                observed.over(None, error, may_have_left=False)
            raise

    async def _carry_out(
        self, exchange: Exchange, place: Place, call: Call[T], ended: asyncio.Future[Success[T] | MMSError]
    ) -> Success[T] | MMSError:
        """Its caller is told in the same turn of the loop; `asyncio.shield` takes one more, and the pool looks at idle
        connections whenever a call is late for its own."""
        if exchange.observed is not None:
            exchange.observed.began()
        outcome = await self._run_exchange(exchange, call)
        self._give_back(exchange, place, outcome)
        if not ended.done():
            ended.set_result(outcome)
        return outcome

    async def _run_exchange(self, exchange: Exchange, call: Call[T]) -> Success[T] | MMSError:
        if self._closed:
            return NotSentError("the client is closed", call=call.name)
        try:
            result = await exchange.run()
        except MMSError as error:  # the limiter's: nothing was sent
            return error
        if exchange.observed is not None:
            exchange.observed.timed_out = result.timed_out
        if isinstance(result, Failure):
            return _failed(call, result)
        outcome = await self._decode(call, result)
        await exchange.close(reusable=not isinstance(outcome, TransportError))
        throttled = envelope.is_throttled(result, outcome if isinstance(outcome, MMSError) else None)
        retry_after = envelope.retry_after(result) if throttled else None
        self._counts.throttled += throttled
        if (observed := exchange.observed) is not None:
            observed.answered(result.status, len(result.body), outcome, throttled=throttled, retry_after=retry_after)
        exchange.release(throttled=throttled, retry_after=retry_after)
        return outcome

    def _give_back(self, exchange: Exchange, place: Place, outcome: Success[T] | BaseException | None) -> None:
        """Give back what `exchange` held, once."""
        if self._running.pop(exchange, None) is not None:
            place.leave()
            self._counts.attempts += exchange.may_have_left
            exchange.release()
            if (observed := exchange.observed) is not None:
                value, error = (outcome.value, None) if isinstance(outcome, Success) else (None, outcome)
                observed.over(value, error, may_have_left=exchange.may_have_left)

    def _settle(self, exchange: Exchange, place: Place, ended: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
        """The end of a task however it came: one that is cancelled early never runs at all."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._give_back(exchange, place, error)
        if ended.done():
            return
        if task.cancelled():
            ended.cancel()
        elif error is not None:
            ended.set_exception(error)

    async def _decode(self, call: Call[T], response: Response) -> Success[T] | MMSError:
        scrub = self._transport.scrub
        if _is_heavy(response):
            outcome, alert = await DECODING.run_or_here(_read, call, response, scrub)
        else:
            outcome, alert = _read(call, response, scrub)
        if isinstance(outcome, Success) and alert != self._last_alert:
            self._last_alert = alert
            if alert:
                log.warning("%s: the API warns: %s", call.name, one_line(alert, 200))
        return outcome

    def _account_for_abandoned(
        self, call: Call[T], exchange: Exchange, task: asyncio.Task[Success[T] | MMSError]
    ) -> None:
        """Say how a call ended whose caller has left: a send may have been carried out."""
        if not exchange.may_have_left:
            return
        self._counts.abandoned += 1
        level = logging.DEBUG if call.repeatable else logging.WARNING
        log.log(level, "%s: its caller was cancelled after it had left; %s", call.name, _end_of(task))

    async def aclose(self) -> None:
        """Drop the calls that have not left, wait for those that have, and close the connections."""
        self._bind_loop()
        if self._closing is None:
            self._closed = True
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # who is cancelled here leaves; the rest is closed all the same

    async def _close(self) -> None:
        for exchange in self._running:
            exchange.abandon("the client was closed")
        while self._running:
            await asyncio.wait(list(self._running.values()))
        if self._owns_transport:
            await self._transport.aclose()

    def __del__(self) -> None:
        if self._owns_transport and not self._closed:
            problem = "an AsyncMMSClient was not closed; use `async with` or aclose()"
            warnings.warn(problem, ResourceWarning, stacklevel=2, source=self)


def _end_of(task: asyncio.Task[Success[T] | MMSError]) -> str:
    """How a call ended that nobody waits for, in words."""
    if task.cancelled():
        return "the event loop was stopped before its answer came"
    if failure := task.exception():
        return one_line(f"it failed: {failure!r}", 500)
    outcome = task.result()
    value = outcome.value if isinstance(outcome, Success) else outcome
    return in_words(value) if isinstance(value, MMSError | SentBatch | SentMany) else "it succeeded"


def _is_heavy(response: Response) -> bool:
    """Decoding it might hold up the event loop: it is large, or compressed, and so as large as it likes."""
    return len(response.body) >= LARGE or response.headers.get("content-encoding", "identity") != "identity"


def _read(
    call: Call[T], response: Response, scrub: Callable[[bytes], bytes]
) -> tuple[Success[T] | MMSError, str | None]:
    """What `response` brought, and the API's warning in it."""
    body = scrub(response.body)
    if body != response.body:
        response = evolve(response, body=body)
    try:
        opened = envelope.unwrap(call, response)
        value = envelope.read(call, response, opened)
    except MMSError as error:
        log.debug("%s: HTTP %d, %d bytes: %s", call.name, response.status, len(response.body), type(error).__name__)
        return error.with_traceback(None), None  # whose frames hold the answer
    except Exception as error:
        log.exception("%s: the answer could not be read", call.name)
        return envelope.undecodable(call, response, error), None
    log.debug("%s: HTTP %d, %d bytes: %s", call.name, response.status, len(response.body), opened.code)
    return Success(value), opened.low_sms_alert


def _failed(call: Call[Any], failure: Failure) -> TransportError:
    if not failure.may_have_left:
        return NotSentError(failure.reason, call=call.name)
    if call.repeatable:
        return TransportError(failure.reason, call=call.name)
    error = OutcomeUnknownError(failure.reason, call=call.name)
    error.timed_out = failure.timed_out
    return error
