"""AsyncMMSClient: one short method a call."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Unpack

from mmsclient._api import calls
from mmsclient._api.checks import (
    check_range,
    checked_id,
    checked_kind,
    checked_subject,
    checked_text,
    checked_time,
)
from mmsclient._api.phone_numbers import recipients
from mmsclient._reading import delivery, image_file, replies
from mmsclient._reading.listing import PREFETCH, Listing
from mmsclient._reading.replies import checked_ids
from mmsclient._reading.sent import warn_of
from mmsclient._sms_client import SMSClient
from mmsclient.models import (
    Account,
    CallResult,
    DeliveryStatus,
    MessageStatus,
    OptOut,
    Reply,
    SentBatch,
    Template,
)

if TYPE_CHECKING:
    from mmsclient.bulk.campaign import Campaign
    from mmsclient.bulk.options import CampaignOptions
    from mmsclient.bulk.own_pictures import CampaignImage
    from mmsclient.bulk.recipients import Recipients
    from mmsclient.bulk.report import Report
    from mmsclient.bulk.template import MessageText

MARKED_AT_ONCE = 100
"""Replies that one call marks as read. The API's own limit is not documented; this is ours."""


class AsyncMMSClient(SMSClient):
    """A client of the API for one account, MMS and SMS, for asyncio.

    ```python
    async with AsyncMMSClient() as mms:  # the key from MMSCLIENT_APP_KEY
        sent = await mms.send(to="+61400000000", text="Sale on now", image="sale.gif")
    ```

    What was throttled or never left is repeated, and so is every call that does no harm when it is repeated, up to
    `max_attempts` times within two minutes ([what is repeated](errors.md#what-is-repeated)). A `send` whose first byte
    has left is **never** repeated, whatever comes back but a throttling: `OutcomeUnknownError`.

    A call whose caller is cancelled is dropped if nothing has left; otherwise it goes on in the background, its end is
    logged, and `aclose()` waits for it.

    Every method raises `NotSentError`, `OutcomeUnknownError` (only sends and non-repeatable `call`s),
    `TransportError` or an `APIError`; methods with arguments raise `InvalidRequestError` before anything is sent.

    Args:
        app_key: The APPKEY. Left out: the environment variable `MMSCLIENT_APP_KEY`.
        base_url: HTTPS only, except for this machine. Left out: `MMSCLIENT_BASE_URL`, or the service's.
        auth: The header that carries the key: `basic` (Authorization), `header` (APPKEY) or `both`.
        rate: The account's cap, in calls a second; None for no limit of our own.
        limiter: A limiter in place of `rate`'s. Clients given the same one share the cap.
        timeout: Seconds from a call's first byte to the end of its answer. Waiting for a turn is not counted.
        max_attempts: How often a call is tried at most, 1 or more.
        max_in_flight: How many calls may be under way at a time.
        timezone: The zone of the API's times, which say none: an IANA name or a `ZoneInfo`.
        http_client: An `httpx.AsyncClient` or `httpx2.AsyncClient` to use. You close it. Its headers, cookies, auth,
            params and base URL are not used; its event hooks are.
        verify: An `ssl.SSLContext` to trust other certificates; True for the usual ones; False only for this machine.
            Left out: the PEM file that `MMSCLIENT_CA_FILE` names, or the usual ones.
        ledger: Remembers sends with a `key`, so that none of them is carried out twice ([keyed sends](keyed-sends.md)):
            a file on a local disk, or the URL of a PostgreSQL database (`postgresql://…`, extra `postgres`) for several
            machines. It is made if it is not there.
        ledger_keep: How long it remembers a key after its send has ended. Of several that open the ledger, the longest
            counts. None asks for nothing: where nobody has, nothing is forgotten.
        ledger_new_key: The account of the ledger is the same, and its APPKEY was changed.
        observer: Called with each event of the client, its limiter and its campaigns ([observing](observing.md)): a
            function, or several. It must not block.

    Raises:
        ConfigurationError: An option is wrong. An environment variable that is empty counts as not set.
    """

    async def send(
        self,
        *,
        to: str | Iterable[str],
        text: str,
        image: image_file.ImageSource,
        subject: str | None = None,
        timeout: float | None = None,
        key: str | None = None,
        retry_refused: bool = False,
        fit: bool = False,
    ) -> SentBatch:
        """Send a picture and a text to up to 1000 phones (api-notes.md section 3, send-mms). Costs credits.

        Look at `SentBatch.accepted`: the API may refuse a part of the recipients without a word (logged as a warning).

        Args:
            to: A number or several: E.164 (`+61400000000`) or an Australian mobile (`0400 000 000`, `61400000000`).
                Each phone gets the message once.
            text: At most 1000 characters; a new line goes out as CR LF and counts two.
            image: A path, bytes or an open file: PNG, GIF or JPEG; with the text at most 380 000 bytes. It is read at
                once, also if the call then waits: for many sends of one picture pass its bytes. Or a `FittedPicture`.
            subject: One line of at most 40 characters.
            key: What this send is for, such as the number of an order, up to 200 characters: the same key is never
                carried out twice, in this process or another, now or later. Needs the client's `ledger`. Sent before,
                the same result or error comes again; on its way, its end is waited for, up to `timeout`.
            retry_refused: With a `key` that the API refused for the message's or its recipients' sake, send again.
            fit: Make the picture fit first, in a thread ([pictures](fitting-pictures.md)): any photograph, scaled down
                and without its metadata. With a `key`, it is known again by the file that you give.
            timeout: Seconds, in place of the client's.

        Raises:
            InvalidRequestError: An argument is wrong; nothing was sent.
            APIError: The API refused: `RecipientsError`, `FieldEmptyError`, `FieldInvalidError`,
                `InsufficientCreditError`, `AuthenticationError`, `PermissionDeniedError` or another.
            NotSentError: Nothing was sent, after the last attempt; so with `RateLimitError`.
            OutcomeUnknownError: It left, and the answer does not tell: **it may have been sent**.
            KeyReusedError: With a `key`; so `SendInProgressError` and `LedgerUnavailableError`: not sent by this call.
        """
        phones = recipients(to)
        subject = checked_subject(subject)
        picture = await image_file.load(image, fit=fit)
        outgoing = checked_text(text, picture)
        call = calls.send(phones, outgoing, picture, subject, self._zone)
        if key is None and not retry_refused:
            sent = await self._run(call, timeout)
        else:
            content = (outgoing, subject or "", picture.digest or picture.data, phones.numbers)
            sent = await self._run_keyed(key, call, content, timeout, retry_refused=retry_refused)
        if not sent.repeated:
            warn_of(call.name, sent)
        return sent

    def campaign(
        self,
        *,
        text: MessageText,
        image: CampaignImage | None = None,
        subject: MessageText | None = None,
        journal: str | os.PathLike[str] | None = None,
        **options: Unpack[CampaignOptions],
    ) -> Campaign:
        """One message to any number of recipients, none of them twice, also after a crash. Costs credits.

        Args:
            text: As for `send`, or a [`Template`](personal-messages.md), of which each recipient gets its own.
            image: As for `send`, or a function that [makes each recipient's own](own-pictures.md). None for an SMS.
            subject: As for `send`, or a `Template`.
            journal: A file or PostgreSQL database that remembers each recipient; made if it is not there, else resumed.
            options: How it is sent and reported: see `mmsclient.bulk.Campaign`.

        Raises:
            InvalidRequestError: An option is wrong; everything else is raised when it is sent.
        """
        from mmsclient.bulk.campaign import Campaign  # noqa: PLC0415 - only who sends in bulk needs SQLite

        options.setdefault("max_attempts", self._options.max_attempts)
        campaign = Campaign(self, text=text, image=image, subject=subject, journal=journal, **options)
        self._campaigns.add(campaign)
        return campaign

    async def send_bulk(
        self,
        recipients: Recipients,
        *,
        text: MessageText,
        image: CampaignImage | None = None,
        subject: MessageText | None = None,
        **options: Unpack[CampaignOptions],
    ) -> Report:
        """A `campaign` without a journal, for small lists: send to all `recipients`, and report. Costs credits.

        If the process may die in between, use `campaign` with a journal.

        Raises:
            CampaignStoppedError: It ended early; its `report` says how far it got. Else what `Campaign.send` raises.
        """
        async with self.campaign(text=text, image=image, subject=subject, **options) as campaign:
            return await campaign.send_all(recipients)

    def replies(
        self, *, kind: Literal["mms", "sms"] = "mms", prefetch: int = PREFETCH, timeout: float | None = None
    ) -> Listing[Reply]:
        """The unread replies, an async generator of `Reply` (api-notes.md section 3, get-responses).

        Marking replies as read while you read shifts the pages: mark them after the loop, or some are skipped.

        Args:
            kind: `mms` or `sms`.
            prefetch: Pages of 25 that are fetched ahead.
        """
        checked_kind(kind)
        return self._listing(lambda page: calls.replies(page, kind, self._zone), prefetch, timeout)

    def opt_outs(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        prefetch: int = PREFETCH,
        timeout: float | None = None,
    ) -> Listing[OptOut]:
        """The numbers that unsubscribed, an async generator of `OptOut` (api-notes.md section 3, get-optout).

        None come where the account's inbound settings have "Opt-out for API" not active. Bounds go out in the client's
        time zone; in the hour that is repeated when daylight saving ends, an hour more is asked for on either side.

        Args:
            since: An aware datetime, or None.
            until: An aware datetime, or None.
            prefetch: Pages that are fetched ahead.
        """
        check_range(since, until)
        return self._listing(lambda page: calls.opt_outs(page, since, until, self._zone), prefetch, timeout)

    def templates(self, *, prefetch: int = PREFETCH, timeout: float | None = None) -> Listing[Template]:
        """The stored texts, an async generator of `Template` (api-notes.md section 3, get-template)."""
        return self._listing(lambda page: calls.templates(page, self._zone), prefetch, timeout)

    async def mark_read(self, replies: Reply | str | Iterable[Reply | str], *, timeout: float | None = None) -> None:
        """Mark replies as read: a `Reply`, its id, or several of either (api-notes.md section 3, inbound-read).

        Several go out a hundred a call. With none nothing is sent: the API would mark every message.
        """
        ids = checked_ids(replies)
        for start in range(0, len(ids), MARKED_AT_ONCE):
            await self._run(calls.mark_read(ids[start : start + MARKED_AT_ONCE]), timeout)

    def take_replies(
        self, *, kind: Literal["mms", "sms"] = "mms", timeout: float | None = None
    ) -> AsyncGenerator[Reply, None]:
        """The unread replies, each marked as read when you come back for the next one (api-notes.md section 3).

        A consumer that fails or stops leaves its reply unread; those before it are marked. However many come in
        meanwhile, none is skipped, and none is given twice in a run. They are marked a hundred a call.

        Wrap it in `contextlib.aclosing`, so that leaving the loop early marks what was handled before you go on. Raises
        as every method does; an error while marking carries a note of how many were handled and stay unread.
        """
        return replies.take(self, kind=checked_kind(kind), timeout=timeout)

    def watch_replies(
        self,
        *,
        kind: Literal["mms", "sms"] = "mms",
        interval: float = 15.0,
        mark: bool = True,
        timeout: float | None = None,
    ) -> AsyncGenerator[Reply, None]:
        """`take_replies` for ever. Cancel it to stop it.

        `TransportError`, `RateLimitError` and `ServerError` are logged and retried after 1 to 60 seconds; any other
        error is raised, and so is `NotSentError` once the client is closed.

        Args:
            kind: `mms` or `sms`.
            interval: Seconds between two looks while there is nothing new.
            mark: False gives each reply once and leaves all unread; every round then reads all pages.
        """
        return replies.take(
            self,
            kind=checked_kind(kind),
            timeout=timeout,
            interval=interval,
            mark=mark,
            is_closed=lambda: self._session.is_closed,
        )

    async def wait_delivered(
        self, sent: SentBatch, *, via: delivery.Waits | None = None, timeout: float = 300.0
    ) -> Mapping[str, DeliveryStatus | None]:
        """Wait until every message of `sent` has its final status.

        Args:
            sent: What `send` returned.
            via: A `CallbackReceiver`, which is told. Without one `message()` is asked in rounds, each after a growing
                pause of 1 to 60 seconds, within the cap; whether the API takes the ids of MMS there is not known.
            timeout: Seconds in all.

        Returns:
            The status of each message by its recipient as in `sent.messages`; one that is still open is the last one
            seen, or None. Recipients that the API accepted and did not list are not in it: nobody knows their messages.
        """
        delivery.checked(sent, timeout)
        if via is not None:
            return await delivery.hear(sent, via, timeout)
        return await delivery.ask(sent, self.message, timeout)

    async def mark_read_before(self, before: datetime, *, timeout: float | None = None) -> None:
        """Mark all replies before `before`, an aware datetime, as read (api-notes.md section 3, inbound-read)."""
        await self._run(calls.mark_read_before(int(checked_time("before", before).timestamp())), timeout)

    async def account(self, *, timeout: float | None = None) -> Account:
        """The account and its balances in credits (api-notes.md section 3, account)."""
        return await self._run(calls.account(), timeout)

    async def message(self, message_id: str, *, timeout: float | None = None) -> MessageStatus | None:
        """How far a message got; None where the API knows no such id (api-notes.md section 3, get-sms).

        Whether the API takes the ids of MMS here is not known.
        """
        return await self._run(calls.message(checked_id("message_id", message_id), self._zone), timeout)

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

        Args:
            method: `GET` or `POST`.
            name: As in its URL, such as `send-sms`.
            params: What goes into the query.
            form: The body as a form.
            json: The body as JSON; not together with `form`.
            repeatable: Repeating it does no harm. Left out: True for GET, False for POST.
            timeout: Seconds, in place of the client's.
        """
        harmless = method == "GET" if repeatable is None else repeatable
        call = calls.custom(method, name, params=params, form=form, json=json, repeatable=harmless)
        return await self._run(call, timeout)
