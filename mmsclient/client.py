"""AsyncMMSClient: one short method a call."""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import datetime
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack
from zoneinfo import ZoneInfo

from mmsclient import delivery, http, media, replies, wire
from mmsclient._version import __version__
from mmsclient.checks import checked_zone, is_number, is_whole
from mmsclient.credentials import AppKey, AuthMode
from mmsclient.errors import ConfigurationError, InvalidRequestError
from mmsclient.limiter import Limiter, NoLimit, TokenBucket
from mmsclient.listing import PREFETCH, Listing
from mmsclient.models import (
    Account,
    CallResult,
    DeliveryStatus,
    MessageStatus,
    OptOut,
    Page,
    Reply,
    SentBatch,
    Stats,
    Template,
)
from mmsclient.numbers import recipients
from mmsclient.session import Session, log

if TYPE_CHECKING:
    from mmsclient.bulk import Campaign, CampaignOptions, Recipients, Report

T = TypeVar("T")

BASE_URL = "https://cellcast.com.au/api/v3"
RATE = 15.0
"""Calls a second that the service allows an account (wire.md section 1, throttle)."""
TIMEOUT = 30.0
MAX_ATTEMPTS = 4
MAX_IN_FLIGHT = 64
MARKED_AT_ONCE = 100
"""Replies that one call marks as read. The API's own limit is not documented; this is ours."""


class AsyncMMSClient:
    """A client of the MMS API for one account, for asyncio.

    ```python
    async with AsyncMMSClient() as mms:  # the key from MMSCLIENT_APP_KEY
        sent = await mms.send(to="+61400000000", text="Sale on now", image="sale.gif")
    ```

    Parameters:

    - `app_key`: the APPKEY; left out, the environment's `MMSCLIENT_APP_KEY`.
    - `base_url`: HTTPS only, except for this machine.
    - `auth`: the header that carries the key: `basic` (Authorization), `header` (APPKEY) or `both`.
    - `rate`: the account's cap, calls a second; None for no limit of our own.
    - `limiter`: a limiter in place of `rate`'s. Clients given the same one share the cap.
    - `timeout`: seconds from a call's first byte to the end of its answer. Waiting for a turn is not counted.
    - `max_attempts`: how often a call is tried at most, 1 or more.
    - `max_in_flight`: how many calls may be under way at a time.
    - `timezone`: the zone of the API's times, which say none: an IANA name or a `ZoneInfo`.
    - `http_client`: an `httpx.AsyncClient` or `httpx2.AsyncClient` to use. You close it. Its headers, cookies, auth,
      params and base URL are not used; its event hooks are.
    - `verify`: an `ssl.SSLContext` to trust other certificates. False only for this machine.

    What is repeated, in at most `max_attempts` attempts, none queued later than two minutes after the first has ended,
    after a random wait whose bound doubles from 0.5 to 8 seconds, and after `Retry-After` where given, up to 60
    seconds:

    - any call that was throttled (HTTP 429, or OVER_LIMIT without HTTP 5xx; such a call was not carried out);
      meanwhile every caller waits;
    - any call that surely did not leave (no connection, no TLS handshake);
    - every call but `send` and non-repeatable `call`s: also on a lost connection, a timeout, an answer that cannot be
      read (but HTTP 401, 403 and 404) and HTTP 5xx.

    A `send` whose first byte has left is **never** repeated, whatever comes back but a throttling:
    `OutcomeUnknownError`.

    A call whose caller is cancelled is dropped if nothing has left; else it goes on in the background, its end is
    logged, and `aclose()` waits for it.

    Every method raises `NotSentError`, `OutcomeUnknownError` (only `send` and non-repeatable `call`s),
    `TransportError` or an `APIError`; methods with arguments raise `InvalidRequestError` before anything is sent.
    """

    def __init__(
        self,
        app_key: str | None = None,
        *,
        base_url: str = BASE_URL,
        auth: AuthMode = "both",
        rate: float | None = RATE,
        limiter: Limiter | None = None,
        timeout: float = TIMEOUT,
        max_attempts: int = MAX_ATTEMPTS,
        max_in_flight: int = MAX_IN_FLIGHT,
        timezone: str | ZoneInfo = "Australia/Melbourne",
        http_client: http.HTTPClient | None = None,
        verify: bool | SSLContext = True,
    ) -> None:
        key = AppKey(app_key, auth)
        base_url = http.check_base_url(base_url)
        self._timeout = _checked_timeout(timeout)
        self._max_attempts = _at_least_one("max_attempts", max_attempts)
        self._zone = checked_zone(timezone)
        _at_least_one("max_in_flight", max_in_flight)
        if limiter is not None and rate != RATE:
            raise ConfigurationError("rate: expected either rate or limiter, got both")
        if http_client is not None and verify is not True:
            raise ConfigurationError("verify: the http_client brings its own certificates; set them there")
        if limiter is None:
            limiter = NoLimit() if rate is None else TokenBucket(rate)
        elif not isinstance(limiter, Limiter):
            raise ConfigurationError(f"limiter: expected an object with `acquire`, got {limiter!r}")
        client = http.new_client(base_url, verify, max_in_flight) if http_client is None else http_client
        self._session = Session(
            http.Transport(client, base_url, key, f"mmsclient/{__version__}"),
            limiter,
            max_in_flight=max_in_flight,
            owns_transport=http_client is None,
        )
        self._base_url = base_url
        self._is_view = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Drop the calls that have not left, wait for those that have, and close the connections.

        A connection that is just being opened is waited for, 20 seconds at most.
        May be called again. On a view of `with_options` it does nothing: close the client it was made from.
        """
        if not self._is_view:
            await self._session.aclose()

    def with_options(self, *, timeout: float | None = None, max_attempts: int | None = None) -> Self:
        """The same client with another `timeout` (seconds) or `max_attempts`, on the same connections and limiter."""
        view = copy.copy(self)
        view._is_view = True
        if timeout is not None:
            view._timeout = _checked_timeout(timeout)
        if max_attempts is not None:
            view._max_attempts = _at_least_one("max_attempts", max_attempts)
        return view

    async def send(
        self,
        *,
        to: str | Iterable[str],
        text: str,
        image: media.ImageSource,
        subject: str | None = None,
        timeout: float | None = None,
    ) -> SentBatch:
        """Send a picture and a text to up to 1000 phones (wire.md section 3, send-mms). Costs credits.

        - `to`: a number or several: E.164 (`+61400000000`) or an Australian mobile (`0400 000 000`, `61400000000`).
          Each phone gets the message once.
        - `text`: at most 1000 characters; a new line goes out as CR LF and counts two.
        - `image`: a path, bytes or an open file: PNG, GIF or JPEG; with the text at most 380 000 bytes. It is read at
          once, also where the call then waits: for many sends of one picture hand in its bytes.
        - `subject`: one line of at most 40 characters.

        Look at `SentBatch.accepted`: the API may refuse a part of the recipients without a word (logged as a warning).

        Raises `InvalidRequestError` before anything is sent; `RecipientsError`, `FieldEmptyError`,
        `FieldInvalidError`, `InsufficientCreditError`, `AuthenticationError`, `PermissionDeniedError` or another
        `APIError` where the API refused; `RateLimitError` and `NotSentError` after the last attempt: nothing was sent;
        `OutcomeUnknownError` where it left and the answer does not tell: **it may have been sent**.
        """
        phones = recipients(to)
        subject = wire.checked_subject(subject)
        picture = await media.load(image)
        call = wire.send(phones, wire.checked_text(text, picture), picture, subject, self._zone)
        sent = await self._run(call, timeout)
        if sent.is_partial:
            log.warning("send-mms: %s; the API refused the others without a reason", sent)
        return sent

    def campaign(
        self,
        *,
        text: str,
        image: media.ImageSource,
        subject: str | None = None,
        journal: str | os.PathLike[str] | None = None,
        **options: Unpack[CampaignOptions],
    ) -> Campaign:
        """One message to any number of recipients, none of them twice, also after a crash. Costs credits.

        - `journal`: a file that remembers each recipient. It is made if it is not there, and resumed if it is.
        - `options`, and how it is sent and reported: see `mmsclient.bulk.Campaign`.

        Raises `InvalidRequestError` for a wrong option; everything else is raised when it is sent.
        """
        from mmsclient.bulk import Campaign  # noqa: PLC0415 - only who sends in bulk needs SQLite

        options.setdefault("max_attempts", self._max_attempts)
        return Campaign(self, text=text, image=image, subject=subject, journal=journal, **options)

    async def send_bulk(
        self,
        recipients: Recipients,
        *,
        text: str,
        image: media.ImageSource,
        subject: str | None = None,
        **options: Unpack[CampaignOptions],
    ) -> Report:
        """A `campaign` without a journal, for small lists: send to all `recipients`, and report. Costs credits.

        Raises what `Campaign.send` raises; the `report` of a `CampaignStoppedError` says how far it got. Where the
        process may die in between, use `campaign` with a journal.
        """
        async with self.campaign(text=text, image=image, subject=subject, **options) as campaign:
            return await campaign.send_all(recipients)

    def replies(
        self, *, kind: Literal["mms", "sms"] = "mms", prefetch: int = PREFETCH, timeout: float | None = None
    ) -> Listing[Reply]:
        """The unread replies, an async generator of `Reply` (wire.md section 3, get-responses).

        `prefetch`: pages of 25 fetched ahead. Marking replies as read while you read shifts the pages: mark them after
        the loop, or some are skipped.
        """
        _checked_kind(kind)
        return self._listing(lambda page: wire.replies(page, kind, self._zone), prefetch, timeout)

    def opt_outs(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        prefetch: int = PREFETCH,
        timeout: float | None = None,
    ) -> Listing[OptOut]:
        """The numbers that unsubscribed, an async generator of `OptOut` (wire.md section 3, get-optout).

        `since` and `until`: aware datetimes; they go out in the client's time zone.
        """
        for name, time in (("since", since), ("until", until)):
            if time is not None:
                _aware(name, time)
        if since is not None and until is not None and since > until:
            raise InvalidRequestError("since", str(since), f"a time before until ({until})")
        return self._listing(lambda page: wire.opt_outs(page, since, until, self._zone), prefetch, timeout)

    def templates(self, *, prefetch: int = PREFETCH, timeout: float | None = None) -> Listing[Template]:
        """The stored texts, an async generator of `Template` (wire.md section 3, get-template)."""
        return self._listing(lambda page: wire.templates(page, self._zone), prefetch, timeout)

    async def mark_read(self, replies: Reply | str | Iterable[Reply | str], *, timeout: float | None = None) -> None:
        """Mark replies as read: a `Reply`, its id, or several of either (wire.md section 3, inbound-read).

        Several go out a hundred a call. With none nothing is sent: the API would mark every message.
        """
        several = replies if isinstance(replies, Iterable) and not isinstance(replies, str) else [replies]
        ids = [_reply_id(reply) for reply in several]
        for start in range(0, len(ids), MARKED_AT_ONCE):
            await self._run(wire.mark_read(ids[start : start + MARKED_AT_ONCE]), timeout)

    def take_replies(
        self, *, kind: Literal["mms", "sms"] = "mms", timeout: float | None = None
    ) -> AsyncGenerator[Reply, None]:
        """The unread replies, each marked as read when you come back for the next one (wire.md section 3).

        A consumer that fails or stops leaves its reply unread; those before it are marked. However many come in
        meanwhile, none is skipped, and none is given twice in a run. They are marked a hundred a call.

        Wrap it in `contextlib.aclosing`, so that leaving the loop early marks what was handled before you go on. Raises
        as every method does; an error while marking carries a note of how many were handled and stay unread.
        """
        return replies.take(self, kind=_checked_kind(kind), timeout=timeout)

    def watch_replies(
        self,
        *,
        kind: Literal["mms", "sms"] = "mms",
        interval: float = 15.0,
        mark: bool = True,
        timeout: float | None = None,
    ) -> AsyncGenerator[Reply, None]:
        """`take_replies` for ever: asks every `interval` seconds while there is nothing new.

        `TransportError`, `RateLimitError` and `ServerError` are logged and outwaited, from 1 to 60 seconds; any other
        error is raised, and so is `NotSentError` once the client is closed. Cancel it to stop it.

        `mark`: False gives each reply once and leaves all unread; every round then reads all pages.
        """
        return replies.take(
            self,
            kind=_checked_kind(kind),
            timeout=timeout,
            interval=interval,
            mark=mark,
            is_closed=lambda: self._session.is_closed,
        )

    async def wait_delivered(
        self, sent: SentBatch, *, via: delivery.Waits | None = None, timeout: float = 300.0
    ) -> Mapping[str, DeliveryStatus | None]:
        """The final status of each message of `sent`, by its recipient as in `sent.messages`.

        - `via`: a `CallbackReceiver`, which is told. Without one `message()` is asked in rounds, each after a growing
          pause of 1 to 60 seconds, within the cap; whether the API takes the ids of MMS there is not known.
        - `timeout`: seconds in all. A status that is still open then is the last one seen, or None.

        Recipients that the API accepted and did not list are not in it: nobody can tell their messages.
        """
        delivery.checked(sent, timeout)
        if via is not None:
            return await delivery.hear(sent, via, timeout)
        return await delivery.ask(sent, self.message, timeout)

    async def mark_read_before(self, before: datetime, *, timeout: float | None = None) -> None:
        """Mark all replies before `before`, an aware datetime, as read (wire.md section 3, inbound-read)."""
        await self._run(wire.mark_read_before(int(_aware("before", before).timestamp())), timeout)

    async def account(self, *, timeout: float | None = None) -> Account:
        """The account and its balances in credits (wire.md section 3, account)."""
        return await self._run(wire.account(), timeout)

    async def message(self, message_id: str, *, timeout: float | None = None) -> MessageStatus | None:
        """How far a message got; None where the API knows no such id (wire.md section 3, get-sms).

        Whether the API takes the ids of MMS here is not known.
        """
        if not isinstance(message_id, str) or not message_id.strip():
            raise InvalidRequestError("message_id", message_id, "a message's id")
        return await self._run(wire.message(message_id, self._zone), timeout)

    async def call(
        self,
        method: Literal["GET", "POST"],
        name: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
        repeatable: bool | None = None,
        timeout: float | None = None,
    ) -> CallResult:
        """Any call of the API that has no method here, with the same authentication, cap, repeats and errors.

        - `name`: as in its URL, such as `send-sms`.
        - `params`, `form`, `json`: what goes into the query or the body; a form or JSON, not both.
        - `repeatable`: repeating it is harmless. Left out: True for GET, False for POST.
        """
        harmless = method == "GET" if repeatable is None else repeatable
        return await self._run(
            wire.custom(method, name, params=params, form=form, json=json, repeatable=harmless), timeout
        )

    @property
    def stats(self) -> Stats:
        """What this client and its views have done so far."""
        return self._session.stats

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url}>"

    def _listing(self, call: Callable[[int], wire.Call[Page[T]]], prefetch: int, timeout: float | None) -> Listing[T]:
        return Listing(lambda page: self._run(call(page), timeout), prefetch)

    async def _run(self, call: wire.Call[T], timeout: float | None) -> T:
        if timeout is None:
            timeout = self._timeout
        elif not _is_seconds(timeout):
            raise InvalidRequestError("timeout", timeout, SECONDS)
        return await self._session.run(call, timeout=timeout, max_attempts=self._max_attempts)


SECONDS = "seconds, more than 0"


def _is_seconds(value: float) -> bool:
    return is_number(value) and 0 < value < 1e9


def _checked_timeout(value: float) -> float:
    if not _is_seconds(value):
        raise ConfigurationError(f"timeout: expected {SECONDS}, got {value!r}")
    return float(value)


def _at_least_one(option: str, value: int) -> int:
    if not is_whole(value, 1):
        raise ConfigurationError(f"{option}: expected a whole number, 1 or more, got {value!r}")
    return value


def _aware(argument: str, time: datetime) -> datetime:
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise InvalidRequestError(argument, str(time), "a datetime with a time zone")
    if not 1970 <= time.year < 9999:
        raise InvalidRequestError(argument, str(time), "a time after 1970")
    return time


def _checked_kind(kind: str) -> str:
    if kind not in ("mms", "sms"):
        raise InvalidRequestError("kind", kind, "'mms' or 'sms'")
    return kind


def _reply_id(reply: Reply | str) -> str:
    message_id = reply.id if isinstance(reply, Reply) else reply
    if not isinstance(message_id, str) or not message_id.strip():
        raise InvalidRequestError("replies", reply, "a Reply or a reply's id")
    return message_id
