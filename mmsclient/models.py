"""What the API returns, as frozen classes.

Each keeps `raw`, everything the API sent, so that a field this package does not know is not lost. A text that the API
left out is "". A number or a time that it left out, or that cannot be read, is None. Times are aware datetimes,
balances and costs are credits, and phone numbers are in E.164 (`+61400000000`); what is not a phone number stays as the
API sent it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from mmsclient._api.sms_types import SMS
from mmsclient._api.stop_words import asks_to_stop
from mmsclient._words import counted
from mmsclient.errors import MMSError, OutcomeUnknownError
from mmsclient.limiter.protocol import TokenBucketStats

T = TypeVar("T")


def _raw() -> Any:
    return field(factory=dict, eq=False, repr=False)


class DeliveryStatus(StrEnum):
    """How far a message got (api-notes.md section 4). Compares and hashes as its text; an unknown text is kept."""

    QUEUED = "Queued"
    DISPATCHED = "Dispatched"
    DELIVERED = "Delivered"
    FAILED = "Failed"
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    ABORTED = "Aborted"
    UNKNOWN = "Unknown"

    @classmethod
    def _missing_(cls, value: object) -> DeliveryStatus | None:
        if not isinstance(value, str):
            return None
        if (known := _STATUSES.get(value.lower())) is not None:
            return known
        other = str.__new__(cls, value)
        other._name_ = other._value_ = value
        return other

    @property
    def is_delivered(self) -> bool:
        """The message arrived."""
        return self == "Delivered"

    @property
    def is_final(self) -> bool:
        """The status will not change: delivered, given up, or never to be known. False for one not listed here."""
        return self in _FINAL

    __hash__ = str.__hash__


_STATUSES = {status.value.lower(): status for status in DeliveryStatus}
_FINAL = frozenset(DeliveryStatus) - {DeliveryStatus.QUEUED, DeliveryStatus.DISPATCHED}


@frozen(kw_only=True)
class SentMessage:
    """One message that the API accepted for delivery (api-notes.md section 3, send-mms)."""

    id: str
    """The message's id, an opaque text."""
    to: str
    """The recipient's number, in E.164."""
    subject: str
    text: str
    sent_at: datetime | None
    """When the API accepted it, in the client's time zone."""
    sent_at_text: str
    """The same time as the API wrote it."""
    sender: str | None = None
    """Of an SMS: whom it comes from, as the API wrote it. None for an MMS."""
    custom_string: str | None = None
    """Of an SMS: as it was given. None for an MMS."""
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class SentBatch:
    """The result of one `send` or `send_sms`. Check `accepted`: the API may refuse recipients without saying so."""

    accepted: int
    """How many recipients the API accepted, from 0 to `total`."""
    total: int
    """How many recipients the call had, each phone counted once."""
    messages: tuple[SentMessage, ...]
    """The messages that the API listed, at most one for each recipient; it may list fewer than it accepted."""
    refused: tuple[str, ...] | None
    """The numbers that were refused, in E.164; None if some were and the API does not say which."""
    duplicates: tuple[str, ...]
    """Numbers that were left out because the same phone came earlier in the list, as you wrote them."""
    credits_used: Decimal | None
    """What the call cost, in credits."""
    low_sms_alert: str | None
    """The API's warning that the balance is low, None without one."""
    flaws: tuple[str, ...] = ()
    """What the API claimed that cannot be true, such as more successes than recipients. `raw` has it in full."""
    repeated: bool = field(default=False, eq=False)
    """It was sent earlier, with the same `key`: this is what the ledger holds, and nothing was sent now."""
    proven: bool = field(default=False, eq=False)
    """No answer told: delivery reports or replies proved that the send with the `key` was carried out. `accepted` and
    `messages` are then those recipients who were heard of so far, and `refused` is None where these are not all."""
    raw: Mapping[str, Any] = _raw()

    @property
    def is_partial(self) -> bool:
        """Some of the recipients were refused."""
        return self.accepted < self.total

    def __str__(self) -> str:
        return f"{self.accepted} of {counted(self.total, 'recipient')} accepted"


@frozen(kw_only=True)
class SMSOutcome:
    """What became of one message of `send_sms_many`: either `sent` or `error` is there."""

    sms: SMS
    """The message, as it was handed in."""
    sent: SentBatch | None = None
    """What the API accepted; look at `SentBatch.accepted`."""
    error: MMSError | None = field(default=None, eq=False)
    """Why it was refused; `OutcomeUnknownError` where it may have been sent."""

    @property
    def is_unknown(self) -> bool:
        """It may have been sent, or not."""
        return isinstance(self.error, OutcomeUnknownError)


@frozen(kw_only=True)
class SentMany:
    """The result of one `send_sms_many`: an outcome for each message, in their order. Iterating gives them."""

    outcomes: tuple[SMSOutcome, ...]
    low_sms_alert: str | None
    """The API's warning that the balance is low, None without one."""
    flaws: tuple[str, ...] = ()
    """What the answer holds beside the outcomes: answers that cannot be matched to a message. `raw` has them."""
    raw: tuple[Any, ...] = field(default=(), eq=False, repr=False)
    """The items of the answer, as they came."""

    def __iter__(self) -> Iterator[SMSOutcome]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def accepted(self) -> int:
        """How many recipients the API accepted, of all messages."""
        return sum(each.sent.accepted for each in self.outcomes if each.sent is not None)

    @property
    def messages(self) -> tuple[SentMessage, ...]:
        """The messages that the API listed, of all outcomes."""
        return tuple(message for each in self.outcomes if each.sent is not None for message in each.sent.messages)

    @property
    def unknown(self) -> tuple[SMSOutcome, ...]:
        """Those of which it is not known whether they were sent."""
        return tuple(each for each in self.outcomes if each.is_unknown)

    def __str__(self) -> str:
        sent = sum(each.sent is not None and each.sent.accepted > 0 for each in self.outcomes)
        refused = len(self.outcomes) - sent - len(self.unknown)
        return (
            f"{sent} of {counted(len(self.outcomes), 'message')} sent, {refused} refused, {len(self.unknown)} unknown"
        )


@frozen(kw_only=True)
class Reply:
    """A message from a phone, fetched from the inbox (api-notes.md section 3, get-responses)."""

    id: str
    sender: str
    text: str
    received_at: datetime | None
    """In the client's time zone; in the hour repeated when daylight saving ends, the earlier of the two."""
    received_at_text: str
    original_message_id: str
    """The id of the message that it replies to, "" if the API does not say."""
    original_text: str
    subaccount_id: str
    custom_string: str | None
    kind: str = ""
    """`MMS` or `SMS`, as was asked for; "" where nobody says."""
    raw: Mapping[str, Any] = _raw()

    @property
    def is_opt_out(self) -> bool:
        """The sender asks for no more messages: the text is STOP, STOP ALL, UNSUBSCRIBE, QUIT, END, CANCEL or OPT OUT.

        And nothing else. Case does not matter, nor do space and punctuation around it.
        """
        return asks_to_stop(self.text)


@frozen(kw_only=True)
class DeliveryReport:
    """What became of a message, as posted to your callback URL (api-notes.md section 4).

    Callbacks are not signed: trust it as far as you trust the URL to be secret.
    """

    message_id: str
    """The message's id, as in `SentMessage.id`."""
    status: DeliveryStatus
    recipient: str
    """The recipient's number, in E.164 as in `SentMessage.to`."""
    custom_string: str | None
    source: str | None
    kind: str = ""
    """`MMS` or `SMS` of the message, "" if the API does not say, as in its documents."""
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class InboundMessage:
    """A message from a phone, as posted to your callback URL (api-notes.md section 4).

    Callbacks are not signed: trust it as far as you trust the URL to be secret.
    """

    id: str
    """The id of this message, the same as `Reply.id`."""
    sender: str
    """The sender's number, in E.164 as in `SentMessage.to`."""
    text: str
    received_at: datetime | None
    """In the time zone of the parser or receiver; otherwise as `Reply.received_at`."""
    received_at_text: str
    kind: str
    """`MMS` or `SMS`, "" if the API does not say."""
    original_message_id: str
    """The id of the message that it replies to, "" if the API does not say."""
    original_text: str
    custom_string: str | None
    raw: Mapping[str, Any] = _raw()

    @property
    def is_opt_out(self) -> bool:
        """The sender asks for no more messages; see `Reply.is_opt_out`."""
        return asks_to_stop(self.text)


@frozen(kw_only=True)
class MessageStatus:
    """How far one message has got (api-notes.md section 3, get-sms)."""

    id: str
    to: str
    text: str
    status: DeliveryStatus
    sent_at: datetime | None
    """In the client's time zone; in the hour repeated when daylight saving ends, the earlier of the two."""
    sent_at_text: str
    subaccount_id: str
    others: tuple[MessageStatus, ...] = ()
    """Further messages with the same id, if the API lists several."""
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class Account:
    """The account and its balances (api-notes.md section 3, account)."""

    name: str
    email: str
    sms_balance: Decimal | None
    """Credits left for SMS."""
    mms_balance: Decimal | None
    """Credits left for MMS."""
    low_sms_alert: str | None
    """The API's warning that the balance is low, None without one."""
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class OptOut:
    """A phone that unsubscribed (api-notes.md section 3, get-optout). Only the number is always there."""

    number: str
    """In E.164."""
    first_name: str | None
    last_name: str | None
    gender: str | None
    post_code: str | None
    date_of_birth: str | None
    created_at: datetime | None
    """In the client's time zone; in the hour repeated when daylight saving ends, the earlier of the two."""
    created_at_text: str
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class Template:
    """A text stored in the account (api-notes.md section 3, get-template)."""

    id: str
    title: str
    text: str
    created_at: datetime | None
    """In the client's time zone; in the hour repeated when daylight saving ends, the earlier of the two."""
    created_at_text: str
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class Page(Generic[T]):
    """One page of a listing (api-notes.md section 1)."""

    items: tuple[T, ...]
    number: int | None
    """The number of this page, from 1."""
    count: int | None
    """How many pages there are in all."""
    total: int | None
    """How many items there are on all pages, if the API says so."""
    low_sms_alert: str | None
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class CallResult:
    """The result of a call that has no method of its own."""

    data: Any = field(hash=False)
    """What the API returned: its `data`, or the fields beside its `error` block."""
    description: str
    """The API's own words, such as `Queued`. Prose for people: do not branch on it."""
    low_sms_alert: str | None
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class Stats:
    """What a client and its views have done so far."""

    calls: int
    """How many calls were asked for."""
    attempts: int
    """How many requests were sent: more than `calls` if some were repeated."""
    throttled: int
    """How many attempts the server refused as over the cap."""
    abandoned: int
    """How many calls were cancelled by their caller after they had left."""
    in_flight: int
    """How many requests are under way."""
    waiting: int
    """How many calls are queued."""
    limiter: TokenBucketStats | None
    """What its limiter has done, None where that keeps no such figures; `AsyncMMSClient.limiter` is the limiter."""
