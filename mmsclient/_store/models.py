"""What a journal holds and is given."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from attrs import evolve, field, frozen

from mmsclient._api.types import Kind
from mmsclient._store.evidence import UnknownSummary
from mmsclient.models import DeliveryStatus

__all__ = [
    "FALLBACK",
    "SMS_FIELDS",
    "Claim",
    "Exclusion",
    "ListEntry",
    "Message",
    "OwnRow",
    "Owner",
    "PersonalMessage",
    "Picked",
    "Recipient",
    "RecipientResult",
    "RecipientState",
    "Selection",
]


class RecipientState(StrEnum):
    """What became of a recipient. Each is in exactly one state."""

    PENDING = "pending"
    """To be sent."""
    SENDING = "sending"
    """Its call is under way, or the process died while it was."""
    ACCEPTED = "accepted"
    """The API took it for delivery."""
    REFUSED = "refused"
    """The API refused it, or the call that it was in. Not sent again."""
    FAILED = "failed"
    """Surely not sent: throttled, or the call never left. Sent when the campaign is resumed."""
    UNKNOWN = "unknown"
    """It may have been sent. Not sent again unless you say so."""
    EXCLUDED = "excluded"
    """Set aside before sending; `Exclusion` says why."""


class Exclusion(StrEnum):
    """Why a recipient was set aside."""

    INVALID = "invalid"
    """No phone number."""
    DUPLICATE = "duplicate"
    """The same phone stood in the list before."""
    OPTED_OUT = "opted out"
    """The API lists it as unsubscribed."""
    LISTED = "listed"
    """It stands in `exclude=`."""
    SUPPRESSED = "suppressed"
    """It stood in the suppression list when its call was about to leave; `Recipient.reason` says why and since when."""
    ARRIVED = "arrived"
    """Of an SMS in place of an MMS: that arrived after all, or may have; `Recipient.reason` says how that is known."""
    NO_MESSAGE = "no message"
    """Its own text, subject or picture cannot be made of its row, or the API would not take it; `Recipient.reason` says
    why."""


@frozen(kw_only=True)
class Recipient:
    """One recipient of a campaign, and what became of it."""

    number: str
    """As it goes out (`+61400000000`); as you wrote it where it is invalid or a duplicate."""
    state: RecipientState
    line: int
    """Where it stands in the list: the line of a CSV file, else its place from 1."""
    message_id: str | None = None
    """The message's id; None where there is none, also for one accepted that the API did not list."""
    exclusion: Exclusion | None = None
    """Why it was set aside, None where it was not. Of an accepted one: before evidence told that it had been sent."""
    reason: str | None = None
    """What is to be said about its state, in words."""
    batch: int | None = None
    """The number of the call that it last went into."""
    delivery: DeliveryStatus | None = None
    """What the last delivery report said of it, None where none came."""
    reported_at: datetime | None = None
    """When that report came, in UTC."""


FALLBACK = " (sms)"
"""Stands behind the name of a campaign in that of the SMS to those whose MMS of it did not arrive."""

SMS_FIELDS = "sender, source or custom_string"
"""What the fields of an SMS are called together where they differ."""


@frozen
class Message:
    """What a campaign sends. Two campaigns are the same where their messages are."""

    text: str
    """As it goes out."""
    subject: str
    """Empty for none."""
    image: bytes
    template: str = ""
    """Where each recipient gets a text, subject or picture of its own: what is to be known of how it is made."""
    kind: Kind = "mms"
    sms: str = ""
    """Of an SMS: its sender, source and custom string, as JSON."""
    opt_out_line: str = field(default="", eq=False)
    """Of an MMS: what was put below its text, as an SMS in its place is to have it, too; empty for none. It tells no
    message from another one."""

    @property
    def image_sha256(self) -> str:
        return hashlib.sha256(self.image).hexdigest()

    @property
    def parts(self) -> Mapping[str, str]:
        """What tells it from another one, by name."""
        parts = {"text": self.text, "subject": self.subject, "image": self.image_sha256, "template": self.template}
        return {**parts, "kind": self.kind, SMS_FIELDS: self.sms}

    def objection(self, parts: Mapping[str, str], *, another: str) -> str:
        """Why a journal with these parts is that of another message; "" where it is of this one.

        `another`: what is to be used for this one.
        """
        if parts["kind"] != self.kind:
            return (
                f"it belongs to a campaign of kind {parts['kind']!r}, and this one is of kind {self.kind!r};"
                f" use {another} for this one"
            )
        different = [name for name, part in self.parts.items() if part != parts[name]]
        if not different:
            return ""
        return f"it belongs to a message with another {' and '.join(different)}; use {another} for this one"


@frozen
class PersonalMessage:
    """What some recipients of a campaign get, each of a message of their own, as it goes out."""

    text: str = field(repr=False)
    subject: str = field(repr=False)
    """Empty for none."""
    picture: str = ""
    """The SHA-256 of a picture of their own, in hexadecimal; empty where all get the campaign's."""

    @property
    def digest(self) -> bytes:
        """What tells it from another one."""
        picture = f"\0{self.picture}" if self.picture else ""  # no subject holds a NUL
        return hashlib.sha256(f"{len(self.text)}:{self.text}{self.subject}{picture}".encode()).digest()


@frozen
class Owner:
    """For whom a campaign is sent: two journals are not interchangeable where these differ."""

    base_url: str
    fingerprint: Callable[[bytes], str] = field(repr=False)
    """Of the APPKEY, with a salt."""
    is_new_key: bool = False
    """The key may be another one than that the journal was begun with."""

    def facts(self) -> Mapping[str, str | bytes]:
        """What a store keeps of its owner, with a salt of its own each time; by the names that all stores use."""
        salt = secrets.token_bytes(16)
        return {"base_url": self.base_url, "key_salt": salt, "key_fingerprint": self.fingerprint(salt)}

    def objection(
        self, base_url: str | None, salt: bytes, fingerprint: str | None, *, content: str = "a campaign"
    ) -> str:
        """Why a store of `content` that was begun with these is not this owner's; "" where it is."""
        if base_url != self.base_url:
            return f"it belongs to {content} at {base_url}, and this client calls {self.base_url}; use a new one"
        if self.is_new_key or self.fingerprint(salt) == fingerprint:
            return ""
        return (
            f"it belongs to {content} with another APPKEY; use a new one, or new_key=True (--new-key) where the account"
            " is the same and its key was changed"
        )


@frozen
class ListEntry:
    """A row of a list, checked."""

    line: int
    given: str
    """The number as it was written."""
    phone: int | None
    """The digits of the number in E.164, None where it is no number."""
    problem: str | None = None
    """Why nothing can be sent to it."""
    message: PersonalMessage | None = None
    """What it gets, None where all get the same."""
    fields: str | None = None
    """Of what its picture is made, as JSON; None where all get the same one."""

    @property
    def exclusion(self) -> Exclusion:
        """What it is set aside as, where there is a problem."""
        return Exclusion.INVALID if self.phone is None else Exclusion.NO_MESSAGE


@frozen
class Picked:
    """Recipients that come next."""

    rows: Sequence[tuple[int, int, str]]
    """Id, phone and state of each."""
    group: int = 0
    """The journal's number of their message, 0 where all get the same."""
    message: PersonalMessage | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(row[0] for row in self.rows)

    @property
    def phones(self) -> tuple[int, ...]:
        return tuple(row[1] for row in self.rows)

    @property
    def states(self) -> Counter[RecipientState]:
        """How many of them were in which state."""
        return Counter({RecipientState(state): count for state, count in Counter(row[2] for row in self.rows).items()})

    @property
    def is_of_one_group(self) -> bool:
        """There may be fewer of them than are ready."""
        return bool(self.rows) and self.message is not None

    @property
    def positions(self) -> list[tuple[int, int]]:
        """Where each of them stands in the order in which all are picked."""
        return [(self.group, row[0]) for row in self.rows]


@frozen
class OwnRow:
    """Of what the picture of a recipient is made."""

    fields: str = field(repr=False)
    """JSON."""
    is_resent: bool
    """It is sent to again, though it may have got a picture before."""


@frozen
class Selection:
    """Recipients of one message whose picture has been made, so that they can be claimed."""

    ids: tuple[int, ...]
    message: PersonalMessage
    """What they get. Where the journal says otherwise, it is noted with the claim."""
    group: int = 0
    """The journal's number of the message that they were picked by, 0 where they are claimed out of turn."""


@frozen
class Claim:
    """Recipients that are `sending` in one call."""

    batch: int
    ids: tuple[int, ...]
    phones: tuple[int, ...]
    message: PersonalMessage | None = None
    """What they get, None where all get the same."""
    image: bytes | None = field(default=None, repr=False)
    """Their picture, None where all get the campaign's."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """As they go out."""
        return tuple(map(number_of, self.phones))

    def only(self, phones: Collection[int]) -> Claim:
        """Those of it with these phones."""
        kept = [(each, phone) for each, phone in zip(self.ids, self.phones, strict=True) if phone in phones]
        return evolve(self, ids=tuple(each for each, _ in kept), phones=tuple(phone for _, phone in kept))


@frozen
class RecipientResult:
    """What became of one recipient of a call."""

    state: RecipientState
    message_id: str | None = None
    reason: str | None = None

    @property
    def is_open(self) -> bool:
        """What is heard may say more."""
        return self.state is not RecipientState.ACCEPTED or self.message_id is None


@frozen
class Summary:
    """A journal in figures."""

    counts: Mapping[RecipientState, int]
    exclusions: Mapping[Exclusion, int]
    calls: int
    credits_used: Decimal
    started: float | None
    """Unix seconds at which the first call was about to leave."""
    last_started: float | None
    """Unix seconds at which the last call was about to leave."""
    ended: float | None
    """Unix seconds at which the last answer was recorded."""
    list_read: bool
    deliveries: Mapping[DeliveryStatus, int]
    """Of the accepted recipients, how many were last reported as what."""
    delivery_seconds: float | None
    """The median from a call to the report of a delivery."""
    unknown: UnknownSummary = field(factory=UnknownSummary)
    """What is known of those whose outcome no answer told."""
    kind: Kind = "mms"
    without_picture: int = 0
    """Of the excluded, those whom a new run tries again: their picture could not be made when their call was due."""


RECIPIENT_COLUMNS = "id, phone, state, line, message_id, exclusion, reason, batch, status, reported"
"""What a reader asks for of each recipient; see `recipient_of`."""


def number_of(phone: int) -> str:
    """The number of a phone as it goes out."""
    return f"+{phone}"


def recipient_of(row: Sequence[Any], reported_at: datetime | None) -> Recipient:
    """A recipient as a reader's query gives it: `RECIPIENT_COLUMNS`, the last of which has become `reported_at`."""
    _, phone, state, line, message_id, exclusion, reason, batch, status, _ = row
    return Recipient(
        number=number_of(phone),
        state=RecipientState(state),
        line=line,
        message_id=message_id,
        exclusion=None if exclusion is None else Exclusion(exclusion),
        reason=reason,
        batch=batch,
        delivery=None if status is None else DeliveryStatus(status),
        reported_at=reported_at,
    )


def rejected_row(row: Sequence[Any]) -> Recipient:
    """A row of the list that is no phone of its own: number, line, exclusion and reason."""
    number, line, exclusion, reason = row
    return Recipient(
        number=number, state=RecipientState.EXCLUDED, line=line, exclusion=Exclusion(exclusion), reason=reason
    )


def counted_by(rows: Iterable[tuple[str, str | None, int]]) -> tuple[dict[RecipientState, int], dict[Exclusion, int]]:
    """How many are in each state, and excluded for each reason. `rows`: counts by state and exclusion."""
    counts = dict.fromkeys(RecipientState, 0)
    exclusions = dict.fromkeys(Exclusion, 0)
    for state, exclusion, count in rows:
        counts[RecipientState(state)] += count
        if exclusion is not None and state == RecipientState.EXCLUDED:
            exclusions[Exclusion(exclusion)] += count
    return counts, exclusions
