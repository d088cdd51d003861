"""What the API answers, as frozen classes.

Each keeps `raw`, everything the API said, so that a field this package does not know is not lost. Texts that the API
left out are "", numbers and times it left out or that cannot be read are None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeVar

from attrs import field, frozen

T = TypeVar("T")


def _raw() -> Any:
    return field(factory=dict, eq=False, repr=False)


_OPT_OUT = re.compile(r"[\W_]*(STOP|UNSUBSCRIBE|QUIT|END|CANCEL|OPT[\W_]*OUT)[\W_]*", re.IGNORECASE)


def _asks_to_stop(text: str) -> bool:
    return _OPT_OUT.fullmatch(text) is not None


class DeliveryStatus(StrEnum):
    """How far a message got (wire.md section 4). Compares and hashes as its text; admits texts it does not know."""

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
        for known in cls:
            if known.value.lower() == value.lower():
                return known
        other = str.__new__(cls, value)
        other._name_ = other._value_ = value
        return other

    @property
    def is_delivered(self) -> bool:
        """It arrived."""
        return self == "Delivered"

    @property
    def is_final(self) -> bool:
        """It will not change any more: it arrived, did not, or nobody knows. False for a status not known here."""
        return self in _FINAL

    __hash__ = str.__hash__


_FINAL = frozenset(DeliveryStatus) - {DeliveryStatus.QUEUED, DeliveryStatus.DISPATCHED}


@frozen(kw_only=True)
class SentMessage:
    """One message that the API took for delivery (wire.md section 3, send-mms)."""

    id: str
    """The message's id; opaque."""
    to: str
    subject: str
    text: str
    sent_at: datetime | None
    """When the API took it, in the client's time zone."""
    sent_at_text: str
    """The same as the API wrote it."""
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class SentBatch:
    """What became of one `send`. Look at `accepted`: the API may refuse a part of the recipients without a word."""

    accepted: int
    """Recipients the API accepted."""
    total: int
    """Recipients the call went to, duplicates not counted."""
    messages: tuple[SentMessage, ...]
    """The messages the API listed; it may list fewer than it accepted."""
    refused: tuple[str, ...] | None
    """The numbers that were refused; None where some were and the answer does not tell which."""
    duplicates: tuple[str, ...]
    """Numbers left out because the same phone stood earlier, as you wrote them."""
    credits_used: Decimal | None
    low_sms_alert: str | None
    """The API's warning that the balance is low, if it gave one."""
    raw: Mapping[str, Any] = _raw()

    @property
    def is_partial(self) -> bool:
        """Some recipients were refused."""
        return self.accepted < self.total

    def __str__(self) -> str:
        return f"{self.accepted} of {self.total} recipients accepted"


@frozen(kw_only=True)
class Reply:
    """A message that came in (wire.md section 3, get-responses)."""

    id: str
    sender: str
    text: str
    received_at: datetime | None
    """In the client's time zone."""
    received_at_text: str
    original_message_id: str
    """The id of the message it answers, "" where the API does not say."""
    original_text: str
    subaccount_id: str
    custom_string: str | None
    raw: Mapping[str, Any] = _raw()

    @property
    def is_opt_out(self) -> bool:
        """It asks for no more messages: STOP, UNSUBSCRIBE, QUIT, END, CANCEL or OPT OUT, and not a word beside it.

        Any case; space and punctuation around it do not count.
        """
        return _asks_to_stop(self.text)


@frozen(kw_only=True)
class DeliveryReport:
    """What became of a message, as the API calls it in (wire.md section 4). Believe it no more than a callback."""

    message_id: str
    """The message's id, as in `SentMessage.id`."""
    status: DeliveryStatus
    recipient: str
    """The number, written without the plus."""
    custom_string: str | None
    source: str | None
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class InboundMessage:
    """A message that came in, as the API calls it in (wire.md section 4). Believe it no more than a callback."""

    id: str
    """The id of this message, as in `Reply.id`."""
    sender: str
    """The number, written without the plus."""
    text: str
    received_at: datetime | None
    """In the time zone given to the parser or the receiver."""
    received_at_text: str
    kind: str
    """`MMS` or `SMS`, "" where the API does not say."""
    original_message_id: str
    """The id of the message it answers, "" where the API does not say."""
    original_text: str
    custom_string: str | None
    raw: Mapping[str, Any] = _raw()

    @property
    def is_opt_out(self) -> bool:
        """As `Reply.is_opt_out`."""
        return _asks_to_stop(self.text)


@frozen(kw_only=True)
class MessageStatus:
    """How far one message got (wire.md section 3, get-sms)."""

    id: str
    to: str
    text: str
    status: DeliveryStatus
    sent_at: datetime | None
    """In the client's time zone."""
    sent_at_text: str
    subaccount_id: str
    others: tuple[MessageStatus, ...] = ()
    """More messages of the same id, should the API list several."""
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class Account:
    """The account and what it has left (wire.md section 3, account)."""

    name: str
    email: str
    sms_balance: Decimal | None
    mms_balance: Decimal | None
    low_sms_alert: str | None
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class OptOut:
    """A number that unsubscribed (wire.md section 3, get-optout). Only the number is certain to be there."""

    number: str
    first_name: str | None
    last_name: str | None
    gender: str | None
    post_code: str | None
    date_of_birth: str | None
    created_at: datetime | None
    """In the client's time zone."""
    created_at_text: str
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class Template:
    """A stored text (wire.md section 3, get-template)."""

    id: str
    title: str
    text: str
    created_at: datetime | None
    """In the client's time zone."""
    created_at_text: str
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class Page(Generic[T]):
    """One page of a listing (wire.md section 1)."""

    items: tuple[T, ...]
    number: int | None
    """The page's number, from 1."""
    count: int | None
    """How many pages there are."""
    total: int | None
    """How many items there are in all, where the API says so."""
    low_sms_alert: str | None
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class CallResult:
    """The answer of a call that has no method of its own."""

    data: Any = field(hash=False)
    """What the API answered: its `data`, or the fields beside its `error` block."""
    description: str
    """The API's own sentence, such as `Queued`. Prose: decide nothing on it."""
    low_sms_alert: str | None
    raw: Mapping[str, Any] = _raw()


@frozen(kw_only=True)
class Stats:
    """What a client has done so far."""

    calls: int
    """Calls asked for."""
    attempts: int
    """Exchanges that went on the wire: more than `calls` where some were repeated."""
    throttled: int
    """Attempts that the server refused as over the cap."""
    abandoned: int
    """Calls whose caller was cancelled after they had left."""
    in_flight: int
    """Exchanges under way."""
    waiting: int
    """Calls in the queue."""
    limiter: Any
    """The limiter's own `stats`: a `TokenBucketStats` unless you gave another; None where it keeps none."""
