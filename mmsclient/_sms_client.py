"""The client's calls of SMS, one short method each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mmsclient._api import sms_calls
from mmsclient._api.sms_fields import Options
from mmsclient._api.sms_types import SMS, TemplateRecipient
from mmsclient._api.types import Call
from mmsclient._base_client import BaseClient
from mmsclient._reading.sent import warn_of, warn_of_many
from mmsclient.models import CallResult, SentBatch, SentMany


class SMSClient(BaseClient):
    """Sends SMS for one account. What comes back, `AsyncMMSClient` reads for both kinds."""

    async def send_sms(
        self,
        *,
        to: str | Iterable[str],
        text: str,
        sender: str | None = None,
        custom_string: str | None = None,
        source: str | None = None,
        schedule_at: datetime | None = None,
        delay: int | None = None,
        timeout: float | None = None,
        key: str | None = None,
        retry_refused: bool = False,
    ) -> SentBatch:
        """Send a text to up to 1000 phones (api-notes.md section 3, send-sms). Costs credits.

        As `send`, it is never repeated once its first byte has left. Look at `SentBatch.accepted`: the API may refuse a
        part of the recipients without a word (logged as a warning).

        Args:
            to: A number or several, as for `send`. Each phone gets the message once.
            text: At most 918 characters of the GSM alphabet or 402 of Unicode, six parts; `mmsclient.sms.parts` counts
                them. It goes out as it is.
            sender: Whom it comes from: a number of at most 16 digits, or a registered id of at most 11 letters, digits,
                spaces and dashes, which costs a third more. Left out: a number of the provider's.
            custom_string: Letters, digits and dashes, which come back in delivery reports and replies.
            source: One line, which comes back in delivery reports.
            schedule_at: An aware datetime to come: when the API sends it. It goes out in the client's `timezone`, which
                the API does not document; a time that comes twice there is refused, as the API could not tell.
            delay: Minutes from 1 to 1440 after which the API sends it. Not together with `schedule_at`.
            timeout: Seconds, in place of the client's.
            key: What this send is for: the same key is never carried out twice, as for `send`, and never for both.
            retry_refused: With a `key` that the API refused for the message's or its recipients' sake, send again.

        Raises:
            InvalidRequestError: An argument is wrong; nothing was sent.
            APIError: The API refused: `RecipientsError`, `FieldInvalidError`, `InsufficientCreditError`,
                `AuthenticationError`, `PermissionDeniedError` or another.
            NotSentError: Nothing was sent, after the last attempt; so with `RateLimitError`.
            OutcomeUnknownError: It left, and the answer does not tell: **it may have been sent**.
            KeyReusedError: With a `key`; so `SendInProgressError` and `LedgerUnavailableError`: not sent by this call.
        """
        options = _options(sender, custom_string, source, schedule_at, delay)
        call = sms_calls.send("send-sms", to, text, options, self._zone)
        if key is None and not retry_refused:
            return await self._send_sms(call, timeout)
        sent = await self._run_keyed(key, call, sms_calls.content_of(call), timeout, retry_refused=retry_refused)
        if not sent.repeated:
            warn_of(call.name, sent)
        return sent

    async def send_sms_many(self, messages: Iterable[SMS], *, timeout: float | None = None) -> SentMany:
        """Send several texts in one call (api-notes.md section 3, bulk-send-sms). Costs credits.

        Each message has its own outcome. One that the answer leaves out is unknown: **it may have been sent**. What was
        refused or is unknown is logged as a warning.

        Args:
            messages: `mmsclient.sms.SMS`, with at most 1000 recipients in all: the API's own limit is not documented.
            timeout: Seconds, in place of the client's.

        Raises:
            OutcomeUnknownError: It left, and the answer tells of no message: all of them may have been sent. Else as
                `send_sms`, where the API refuses the call as a whole.
        """
        call = sms_calls.send_many(messages, self._zone)
        sent = await self._run(call, timeout)
        warn_of_many(call.name, sent)
        return sent

    async def send_sms_template(
        self,
        *,
        template_id: str,
        to: Iterable[TemplateRecipient | str],
        sender: str | None = None,
        custom_string: str | None = None,
        source: str | None = None,
        schedule_at: datetime | None = None,
        delay: int | None = None,
        timeout: float | None = None,
    ) -> SentBatch:
        """Send a stored text to up to 1000 phones (api-notes.md section 3, send-sms-template). Costs credits.

        Args:
            template_id: `Template.id`.
            to: `mmsclient.sms.TemplateRecipient`, with what the template may say of them, or numbers.
            sender: As for `send_sms`, and so the others and what is raised.
        """
        options = _options(sender, custom_string, source, schedule_at, delay)
        return await self._send_sms(sms_calls.send_template(template_id, to, options, self._zone), timeout)

    async def send_sms_nz(
        self,
        *,
        to: str | Iterable[str],
        text: str,
        sender: str,
        custom_string: str | None = None,
        source: str | None = None,
        schedule_at: datetime | None = None,
        delay: int | None = None,
        timeout: float | None = None,
    ) -> SentBatch:
        """Send a text to phones in New Zealand (api-notes.md section 3, send-sms-nz). Costs credits.

        Args:
            to: Numbers in E.164 (`+6421234567`).
            text: As for `send_sms`, and so the others and what is raised.
            sender: Exactly 4 digits.
        """
        options = _options(sender, custom_string, source, schedule_at, delay)
        return await self._send_sms(sms_calls.send_nz(to, text, options, self._zone), timeout)

    async def register_alpha_id(self, custom_id: str, *, description: str, timeout: float | None = None) -> CallResult:
        """Ask for an alphanumeric sender (api-notes.md section 3, register-alpha-id). Not repeated once it has left.

        Args:
            custom_id: At most 11 letters, digits, spaces and dashes, a letter among them.
            description: One line for the provider: what it is for.
            timeout: Seconds, in place of the client's.
        """
        return await self._run(sms_calls.register_alpha_id(custom_id, description), timeout)

    async def _send_sms(self, call: Call[SentBatch], timeout: float | None) -> SentBatch:
        sent = await self._run(call, timeout)
        warn_of(call.name, sent)
        return sent


def _options(
    sender: str | None,
    custom_string: str | None,
    source: str | None,
    schedule_at: datetime | None,
    delay: int | None,
) -> Options:
    return Options(sender=sender, custom_string=custom_string, source=source, schedule_at=schedule_at, delay=delay)
