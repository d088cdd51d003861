"""What the sandbox remembers. All but `Arrival` are frozen; times are aware, in the service's zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from attrs import define, field, frozen

from mmsclient._api.types import Kind

ZONE = ZoneInfo("Australia/Melbourne")
"""The service writes local times without a zone; its one live sample fits this one (api-notes.md section 1)."""

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


def seconds_after(time: datetime, seconds: float) -> datetime:
    """`time` moved on by `seconds`, right across a change of the zone's offset."""
    return datetime.fromtimestamp(time.timestamp() + seconds, ZONE)


def wire_time(time: datetime) -> str:
    """`time` as the service writes it: local, without a zone."""
    return time.astimezone(ZONE).strftime(TIME_FORMAT)


def digits(number: str) -> str:
    """A number as it is compared: digits with the country code, for any of the documented forms."""
    bare = number.removeprefix("+")
    return f"61{bare[1:]}" if bare.startswith("0") else bare


def valid_number(number: str) -> bool:
    """The documented Australian forms (api-notes.md section 1), or any other country's with a plus."""
    bare = number.removeprefix("+")
    if not (bare.isascii() and bare.isdigit()):
        return False
    if number.startswith("0"):
        return number.startswith("04") and len(number) == 10
    if bare.startswith("61"):
        return bare.startswith("614") and len(bare) == 11
    return number.startswith("+") and not bare.startswith("0") and 8 <= len(bare) <= 15


@define(eq=False)
class Arrival:
    """One call as it came in, whatever became of it."""

    at: float
    """When its headers were in, by the sandbox's monotonic clock."""
    call: str
    """As in the URL: `send-mms`."""
    status: int | None = None
    """HTTP status of the answer; None while there is none."""
    throttled: bool = False
    """It was refused as one too many, so it does not count towards the cap."""


@frozen(kw_only=True)
class Send:
    """One `send-mms`, or one text of a call of SMS, that was accepted. What the other kind has alone is empty."""

    kind: Kind
    number: int
    """1 for the first of its kind, and so on."""
    at: float
    """When it was accepted, by the sandbox's clock."""
    due: float
    """When it goes out: later than `at` where it is scheduled."""
    sent_at: datetime
    """When it goes out."""
    text: str
    subject: str
    image_size: int
    """Bytes."""
    image_sha256: str
    sender: str
    custom_string: str
    source: str
    recipients: tuple[str, ...]
    """Accepted ones, as they were given."""
    refused: tuple[str, ...]
    """Silently refused ones, as they were given."""
    first: int = field(repr=False)
    """Place of its first message among all messages."""


@frozen
class Message:
    """One message to one recipient. `send` holds what it has in common with the others of its call."""

    id: str
    to: str
    send: Send


@frozen(kw_only=True)
class Reply:
    """An inbound message."""

    id: str
    sender: str
    text: str
    received_at: datetime
    original_id: str
    """Id of the message that it answers, or empty."""
    original_text: str
    kind: Kind = "mms"
    custom_string: str = ""
    """Of the SMS that it answers."""


@frozen(kw_only=True)
class OptOut:
    """A number that wants no more messages. What is not known is None, as at the service."""

    number: str
    created_at: datetime
    first_name: str | None = None
    last_name: str | None = None
    gender: str | None = None
    post_code: str | None = None
    dob: str | None = None


@frozen(kw_only=True)
class Template:
    """A message template."""

    id: str
    title: str
    text: str
    created_at: datetime


@define(eq=False)
class Callback:
    """One post of a callback, whatever became of it."""

    at: float
    """When it was posted, by the sandbox's monotonic clock."""
    url: str
    kind: str
    """`report` or `inbound`."""
    item: Mapping[str, str]
    """The report or the message, as it was written."""
    attempt: int
    """1, or more where it was repeated because it was not answered with 2xx."""
    status: int | None = None
    """HTTP status of the answer; None while there is none, and where none came."""
