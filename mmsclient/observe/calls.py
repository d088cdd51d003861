"""What is told of calls: the one place that knows which events a call leads to, and when."""

from __future__ import annotations

import itertools
import re
import secrets
from time import monotonic
from typing import Protocol

from mmsclient.errors import (
    APIError,
    CallError,
    LimiterUnavailableError,
    MMSError,
    NotSentError,
    OutcomeUnknownError,
    ServerError,
)
from mmsclient.models import SentBatch, SentMany
from mmsclient.observe.beginnings import AttemptStarted
from mmsclient.observe.events import (
    AttemptEnded,
    CallEnded,
    CallRetried,
    CallStarted,
    CallThrottled,
    CallWaited,
    CampaignRef,
    LimiterAway,
    LimiterBack,
    Outcome,
    RateChanged,
)
from mmsclient.observe.observer import Emit, class_of, shown_id
from mmsclient.observe.repeats import ObservedKey

__all__ = ["ClientObserver", "ObservedAttempt", "ObservedCall"]

_CODE = re.compile(r"[A-Z][A-Z_]{1,63}")
"""A code as the API writes them; what else stands there may be anything."""


class Waited(Protocol):
    """Something that was waited for."""

    waited: float
    """Seconds."""


class ClientObserver:
    """What a client of the API at `server`, and its limiter, tell the observers."""

    def __init__(self, emit: Emit, server: str = "") -> None:
        self.emit: Emit = emit
        self._server = server
        self._run = secrets.token_hex(3)
        self._numbers = itertools.count(1)

    def call(self, name: str, recipients: int, repeatable: bool, campaign: CampaignRef | None) -> ObservedCall:
        """A call begins."""
        number = f"{self._run}-{next(self._numbers)}"
        return ObservedCall(self.emit, number, name, self._server, recipients, repeatable=repeatable, campaign=campaign)

    def keyed(self, name: str, recipients: int) -> ObservedKey:
        """A send with a key begins."""
        return ObservedKey(self.emit, name, self._server, recipients)

    def rate_changed(self, rate: float, full: float) -> None:
        """The limiter goes by `rate` from now on."""
        self.emit(RateChanged(rate=rate, full=full))

    def limiter_away(self, error: BaseException, *, shares: bool) -> None:
        """The shared limiter cannot reach Redis."""
        self.emit(LimiterAway(error=type(error).__name__, shares=shares))

    def limiter_back(self, seconds: float) -> None:
        """It can again."""
        self.emit(LimiterBack(seconds=seconds))


class ObservedCall:
    """A call, from its start to its end, which is told once, whoever learns of it last."""

    _attempts = 0
    _last: ObservedAttempt | None = None
    _queue = _connection = _token = 0.0
    _is_abandoned = False

    def __init__(
        self,
        emit: Emit,
        number: str,
        name: str,
        server: str,
        recipients: int,
        *,
        repeatable: bool,
        campaign: CampaignRef | None,
    ) -> None:
        self._emit = emit
        self._id = number
        self._name = name
        self._server = server
        self._recipients = recipients
        self._repeatable = repeatable
        self._campaign = campaign
        self._began = monotonic()
        emit(CallStarted(call=number, name=name, server=server, recipients=recipients, campaign=campaign))

    def attempt(self) -> ObservedAttempt:
        """An attempt begins: it asks for a place."""
        self._attempts += 1
        self._last = attempt = ObservedAttempt(self, self._emit, self._id, self._attempts)
        return attempt

    def retried(self, error: BaseException, wait: float) -> None:
        """Another attempt follows after `wait` seconds."""
        self._last = None
        self._emit(CallRetried(call=self._id, attempt=self._attempts + 1, wait=wait, error=type(error).__name__))

    def count(self, queue: float, connection: float, token: float) -> None:
        """The waits of an attempt."""
        self._queue += queue
        self._connection += connection
        self._token += token

    def returned(self, value: object) -> None:
        """The caller gets `value`."""
        self._end(value, None)

    def raised(self, error: BaseException) -> None:
        """The caller gets `error`. One that is cancelled leaves an attempt that may go on, and has the last word."""
        if isinstance(error, Exception):
            self._end(None, error)
            return
        self._is_abandoned = True
        last = self._last
        if last is None:
            self._end(None, error)
        elif last.is_over:
            self.attempt_over(last)

    def attempt_over(self, attempt: ObservedAttempt) -> None:
        """Where nobody waits for the call any more, the end of its attempt is its own."""
        if self._is_abandoned:
            self._end(attempt.value, attempt.error)

    def _end(self, value: object, error: BaseException | None) -> None:
        last, sent = self._last, value if isinstance(value, SentBatch | SentMany) else None
        self._emit(
            CallEnded(
                call=self._id,
                name=self._name,
                server=self._server,
                outcome=self._outcome(sent, error),
                attempts=self._attempts,
                recipients=self._recipients,
                accepted=0 if sent is None else sent.accepted,
                seconds=monotonic() - self._began,
                queue=self._queue,
                connection=self._connection,
                token=self._token,
                status=None if last is None else last.status,
                code=None if last is None else last.code,
                error=class_of(error),
                is_abandoned=self._is_abandoned,
                message_ids=()
                if sent is None
                else tuple([found for each in sent.messages if (found := shown_id(each.id))]),
                campaign=self._campaign,
            )
        )
        self._last = None  # each knows the other: what they hold would wait for the garbage collector

    def _outcome(self, sent: SentBatch | SentMany | None, error: BaseException | None) -> Outcome:
        if isinstance(sent, SentMany) and sent.unknown:
            return Outcome.UNKNOWN
        if error is None:
            return Outcome.REFUSED if sent is not None and not sent.accepted else Outcome.ACCEPTED
        may_have_left = self._last is not None and self._last.has_left
        if self._is_abandoned and not may_have_left:
            return Outcome.ABANDONED
        if isinstance(error, MMSError):
            return _outcome_of(error)
        return Outcome.FAILED if self._repeatable or not may_have_left else Outcome.UNKNOWN


class ObservedAttempt:
    """One attempt: what it waited for, when it left, and what came of it."""

    _entered: float | None = None
    _left_at: float | None = None
    _token: Waited | None = None
    has_left: bool = False
    is_over: bool = False
    status: int | None = None
    code: str | None = None
    bytes: int = 0
    timed_out: bool = False
    error: BaseException | None = None
    value: object = None

    def __init__(self, call: ObservedCall, emit: Emit, number: str, attempt: int) -> None:
        self._call = call
        self._emit = emit
        self._id = number
        self._number = attempt
        self._asked = monotonic()

    def entered(self, token: Waited) -> None:
        """It has its place, and is to wait for that token."""
        self._entered = monotonic()
        self._token = token

    def began(self) -> None:
        """Its task runs."""
        self._emit(AttemptStarted(call=self._id, attempt=self._number))

    def left(self) -> None:
        """The first byte leaves now."""
        if self._left_at is None:
            self._left_at = monotonic()
            self.has_left = True
            self._tell_waits(self._left_at)

    def answered(self, status: int, size: int, outcome: object, *, throttled: bool, retry_after: float | None) -> None:
        """An answer came, of so many bytes: `outcome` is the error that it means, or a success."""
        self.status, self.bytes = status, size
        if not isinstance(outcome, CallError):
            self.code = "SUCCESS"
        elif outcome.code is not None and _CODE.fullmatch(outcome.code):
            self.code = outcome.code
        if throttled:
            self._emit(CallThrottled(call=self._id, retry_after=retry_after))

    def over(self, value: object, error: BaseException | None, *, may_have_left: bool) -> None:
        """It is over, with a value or an error. Told once."""
        if self.is_over:
            return
        self.is_over = True
        now = monotonic()
        self.has_left = may_have_left
        self.value, self.error = value, error
        if self._left_at is None:
            self._tell_waits(now)
        self._emit(
            AttemptEnded(
                call=self._id,
                attempt=self._number,
                left=may_have_left,
                seconds=0.0 if self._left_at is None or not may_have_left else now - self._left_at,
                status=self.status,
                code=self.code,
                bytes=self.bytes,
                timed_out=self.timed_out,
                error=class_of(error),
            )
        )
        self._call.attempt_over(self)

    def _tell_waits(self, now: float) -> None:
        entered = now if self._entered is None else self._entered
        token = 0.0 if self._token is None else self._token.waited
        queue, connection = entered - self._asked, max(0.0, now - entered - token)
        self._call.count(queue, connection, token)
        self._emit(
            CallWaited(
                call=self._id,
                attempt=self._number,
                queue=queue,
                connection=connection,
                token=token,
                left=self.has_left,
            )
        )


def _outcome_of(error: MMSError) -> Outcome:
    if isinstance(error, NotSentError | LimiterUnavailableError):
        return Outcome.NOT_SENT
    if isinstance(error, OutcomeUnknownError):
        return Outcome.UNKNOWN
    is_refusal = isinstance(error, APIError) and not isinstance(error, ServerError)
    return Outcome.REFUSED if is_refusal else Outcome.FAILED
