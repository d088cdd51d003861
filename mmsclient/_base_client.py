"""What every client is before it has a call: options, connections, limiter, start and end."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet
from zoneinfo import ZoneInfo

import anyio
from attrs import frozen

from mmsclient._api.checks import check_seconds, check_whole, checked_key, checked_zone, keeps_arguments_secret
from mmsclient._api.types import Call
from mmsclient._reading.listing import Listing
from mmsclient._transport import adapter, credentials, endpoint
from mmsclient._transport.credentials import AppKey, AuthMode
from mmsclient._transport.protocols import HTTPClient
from mmsclient._transport.session import Recall, Session
from mmsclient._transport.tokens import acquire_from
from mmsclient._version import __version__
from mmsclient.errors import ConfigurationError, InvalidRequestError
from mmsclient.limiter import Limiter, NoLimit, TokenBucket
from mmsclient.models import Page, SentBatch, Stats

if TYPE_CHECKING:
    from mmsclient._keyed.recorder import SendLedger
    from mmsclient._keyed.sends import KeyedSends
    from mmsclient.observe.calls import ClientObserver
    from mmsclient.observe.events import CampaignRef
    from mmsclient.observe.observer import Emit, Observer

T = TypeVar("T")

Content = tuple[str, str, bytes | str, Sequence[str]]
"""Text, subject, image and recipients as they go out; of a picture made to fit, the digest of what it was made of, and
of an SMS what stands for one."""

RATE = 15.0
"""Calls a second that the service allows an account (api-notes.md section 1, throttle)."""
TIMEOUT = 30.0
MAX_ATTEMPTS = 4
MAX_IN_FLIGHT = 64
LEDGER_KEEP = timedelta(days=30)

_NO_LEDGER = 'this client has no ledger; give it one: AsyncMMSClient(ledger="sends.db")'


@frozen
class CallOptions:
    """What a view of a client may change."""

    timeout: float
    max_attempts: int
    recall: Recall | None = None
    campaign: CampaignRef | None = None
    is_view: bool = False


class Drains(Protocol):
    """Something of the client's that has calls under way."""

    async def drain(self) -> None: ...


class BaseClient:
    """Runs calls for one account; `AsyncMMSClient` says which there are."""

    @keeps_arguments_secret
    def __init__(
        self,
        app_key: str | None = None,
        *,
        base_url: str | None = None,
        auth: AuthMode = "both",
        rate: float | None = RATE,
        limiter: Limiter | None = None,
        timeout: float = TIMEOUT,
        max_attempts: int = MAX_ATTEMPTS,
        max_in_flight: int = MAX_IN_FLIGHT,
        timezone: str | ZoneInfo = "Australia/Melbourne",
        http_client: HTTPClient | None = None,
        verify: bool | SSLContext | None = None,
        ledger: str | os.PathLike[str] | None = None,
        ledger_keep: timedelta | None = LEDGER_KEEP,
        ledger_new_key: bool = False,
        observer: Observer | Sequence[Observer] | None = None,
    ) -> None:
        key = credentials.app_key(app_key, auth)
        base_url = endpoint.base_url_of(base_url)
        check_seconds("timeout", timeout)
        check_whole("max_attempts", max_attempts, 1)
        check_whole("max_in_flight", max_in_flight, 1)
        self._options = CallOptions(timeout, max_attempts)
        self._zone = checked_zone(timezone)
        if http_client is not None and verify is not None and verify is not True:
            raise ConfigurationError("verify: the http_client brings its own certificates; set them there")
        limiter = _limiter(rate, limiter)
        self._observer = None if observer is None else _observer(observer, base_url)
        self._keyed = None if ledger is None else _keyed_sends(ledger, ledger_keep, base_url, key, ledger_new_key)
        self._keyed_closing: asyncio.Task[None] | None = None
        if http_client is None:
            client = adapter.new_client(base_url, endpoint.trust_of(verify, base_url), max_in_flight)
        else:
            client = http_client
        self._session = Session(
            adapter.Transport(client, base_url, key, f"mmsclient/{__version__}"),
            limiter,
            max_in_flight=max_in_flight,
            owns_transport=http_client is None,
            observer=self._observer,
        )
        self._base_url = base_url
        self._campaigns: WeakSet[Drains] = WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):  # anyio's cancellations come again and again
            await self.aclose()

    async def aclose(self) -> None:
        """Drop the calls that have not left, wait for those that have, and close the connections.

        A campaign that is being sent starts nothing new; its calls under way are waited for and recorded before that.
        A connection that is just being opened is waited for, 20 seconds at most.
        May be called again. On a view of `with_options` it does nothing: close the client it was made from.
        """
        if not self._options.is_view:
            try:
                await asyncio.gather(*(campaign.drain() for campaign in self._campaigns))
            finally:
                await self._close()

    async def _close(self) -> None:
        if self._keyed is None:
            await self._session.aclose()
            return
        if self._keyed_closing is None:
            self._keyed_closing = asyncio.create_task(_close_both(self._keyed, self._session))
        await asyncio.shield(self._keyed_closing)  # who is cancelled here leaves; the rest is closed all the same

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_attempts: int | None = None,
        recall: Recall | None = None,
        campaign: CampaignRef | None = None,
    ) -> Self:
        """The same client with another `timeout` (seconds) or `max_attempts`, on the same connections and limiter.

        `recall` takes back the calls of this view that have not left; `campaign` is what observers are told that they
        belong to.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        if max_attempts is not None:
            check_whole("max_attempts", max_attempts, 1)
        options = self._options
        view = copy.copy(self)
        view._options = CallOptions(
            is_view=True,
            timeout=options.timeout if timeout is None else timeout,
            max_attempts=options.max_attempts if max_attempts is None else max_attempts,
            recall=options.recall if recall is None else recall,
            campaign=options.campaign if campaign is None else campaign,
        )
        return view

    @property
    def ledger(self) -> SendLedger:
        """Takes what callbacks say of the client's keyed sends. Raises `ConfigurationError` where it has no ledger."""
        if self._keyed is None:
            raise ConfigurationError(f"ledger: {_NO_LEDGER}")
        return self._keyed.recorder

    @property
    def stats(self) -> Stats:
        """What this client and its views have done so far."""
        return self._session.stats

    @property
    def limiter(self) -> Limiter:
        """What grants the tokens: the one that was given, or that of `rate`."""
        return self._session.limiter

    @property
    def emit(self) -> Emit | None:
        """Tells this client's observers of an event, as campaigns do; None where there are none."""
        return None if self._observer is None else self._observer.emit

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url}>"

    @property
    def base_url(self) -> str:
        """Where the calls go."""
        return self._base_url

    def key_fingerprint(self, salt: bytes) -> str:
        """What tells this client's APPKEY from another one without giving it away; `salt` has up to 64 bytes."""
        return self._session.key_fingerprint(salt)

    def _listing(self, call: Callable[[int], Call[Page[T]]], prefetch: int, timeout: float | None) -> Listing[T]:
        return Listing(lambda page: self._run(call(page), timeout), prefetch)

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self._options.timeout
        check_seconds("timeout", timeout, error=InvalidRequestError)
        return timeout

    async def _run(self, call: Call[T], timeout: float | None, recall: Recall | None = None) -> T:
        options = self._options
        recall = options.recall if recall is None else recall
        return await self._session.run(
            call,
            timeout=self._seconds(timeout),
            max_attempts=options.max_attempts,
            recall=recall,
            campaign=options.campaign,
        )

    async def _run_keyed(
        self, key: str | None, call: Call[SentBatch], content: Content, timeout: float | None, *, retry_refused: bool
    ) -> SentBatch:
        """Carry a send out that has a key, or say what became of it. `content`: what goes out, and to whom."""
        if key is None:
            raise InvalidRequestError(
                "retry_refused", retry_refused, "False without a key=, which names what was refused"
            )
        checked = checked_key(key)
        seconds = self._seconds(timeout)
        if self._keyed is None:
            raise ConfigurationError(f"key: {_NO_LEDGER}")
        observed = None if self._observer is None else self._observer.keyed(call.name, call.recipients)

        def run(recall: Recall) -> Awaitable[SentBatch]:
            if observed is not None:
                observed.makes_call = True
            return self._run(call, seconds, recall)

        send = self._keyed.send(checked, call, content, run, timeout=seconds, retry_refused=retry_refused)
        return await (send if observed is None else observed.watch(send))


async def _close_both(keyed: KeyedSends, session: Session) -> None:
    """Nothing new is sent, what has left ends, and its end is recorded."""
    keyed.stop()
    await session.aclose()
    await keyed.aclose()


def _keyed_sends(
    ledger: str | os.PathLike[str], keep: timedelta | None, base_url: str, key: AppKey, is_new_key: bool
) -> KeyedSends:
    from mmsclient._keyed.opening import open_keyed_sends  # noqa: PLC0415 - only who has a ledger needs SQLite

    return open_keyed_sends(ledger, keep, base_url, key.fingerprint, is_new_key=is_new_key)


def _observer(given: Observer | Sequence[Observer], base_url: str) -> ClientObserver | None:
    from mmsclient.observe.calls import ClientObserver  # noqa: PLC0415 - only who observes needs it
    from mmsclient.observe.observer import emitter  # noqa: PLC0415

    emit = emitter(given)
    return None if emit is None else ClientObserver(emit, urlsplit(base_url).netloc)


def _limiter(rate: float | None, limiter: Limiter | None) -> Limiter:
    if limiter is None:
        return NoLimit() if rate is None else TokenBucket(rate)
    if rate != RATE:
        raise ConfigurationError("rate: expected either rate or limiter, got both")
    if not isinstance(limiter, Limiter):
        raise ConfigurationError(f"limiter: expected an object with `acquire`, got {limiter!r}")
    acquire_from(limiter)  # an error while nothing is open yet
    return limiter
