"""What delivery reports and replies say to a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from attrs import define, field, frozen

from mmsclient._api.phone_numbers import phone_key
from mmsclient.models import DeliveryReport, DeliveryStatus, InboundMessage, Reply

__all__ = [
    "ARRIVED_AFTER_ALL",
    "Gathered",
    "Heard",
    "Replied",
    "Reported",
    "digits",
    "gathered",
    "reply_heard",
    "report_heard",
]

ARRIVED_AFTER_ALL = f"(delivery.status <> excluded.status AND excluded.status = '{DeliveryStatus.DELIVERED}')"
"""In SQL, of a report that comes after a final one: the message is there, whatever was said before."""

TRUNCATED = 1.0
"""Seconds by which the API's time of a reply may be too early: it names whole ones."""


@frozen
class Reported:
    """A delivery report came."""

    message_id: str
    phone: int
    """The digits of its recipient, 0 where it names none."""
    status: DeliveryStatus
    kind: str = ""
    """Of the message: mms or sms, "" where the report does not say."""


@frozen
class Replied:
    """A phone replied to a message."""

    message_id: str
    phone: int
    received: float | None
    """Unix seconds, None where that is not known."""
    kind: str = ""
    """Of the reply, and so of the message, as far as anybody says: mms or sms, or ""."""
    original: str = field(default="", repr=False)
    """The text that it quotes, "" where it quotes none."""

    def quotes_another(self, texts: Iterable[str]) -> bool:
        """It is a reply to none of these texts: what it quotes is not among them, nor a part of one, nor the other way.

        Only letters and digits of ASCII are compared, since nobody says what the API makes of the others.
        """
        told, own = _plain(self.original), [_plain(text) for text in texts]
        return bool(told and own) and not any(told in each or each in told for each in own)


Heard: TypeAlias = Reported | Replied


def report_heard(report: DeliveryReport) -> Reported:
    """What a delivery report says."""
    return Reported(report.message_id, digits(report.recipient), report.status, _kind(report.kind))


def reply_heard(reply: InboundMessage | Reply) -> Replied | None:
    """What a reply says; None for one that does not say to which message, or from whom."""
    message_id, phone = reply.original_message_id, digits(reply.sender)
    if not message_id or not phone:
        return None
    received = None if reply.received_at is None else reply.received_at.timestamp() + TRUNCATED
    return Replied(message_id, phone, received, _kind(reply.kind), reply.original_text)


def _plain(text: str) -> str:
    return "".join(each for each in text.casefold() if each.isascii() and each.isalnum())


def _kind(told: str) -> str:
    kind = told.strip().lower()
    return kind if kind in ("mms", "sms") else ""


def digits(number: str) -> int:
    """A number as stores hold it, 0 for none."""
    return int(phone_key(number)[:18] or 0)


@define
class Gathered:
    """What was heard, for one transaction: each row of a table once, in the order of its key."""

    notes: dict[tuple[int, str], float | None] = field(factory=dict)
    """Phone and message id, and when something was first heard of them; None: now."""
    kinds: dict[tuple[int, str], str] = field(factory=dict)
    """Of these, the kind of those of which it is told."""
    deliveries: dict[tuple[str, int], tuple[str, bool]] = field(factory=dict)
    """Message id and phone; the status, and whether it is final. Such a one stays, unless it is delivered after all."""


def gathered(heard: Iterable[Heard], storable: Callable[[str | None], str | None]) -> Gathered:
    """What was heard, as if it were recorded one after the other, beginning with replies that came in the past.

    Args:
        heard: In the order in which it came.
        storable: Makes texts such as the engine takes.
    """
    found = Gathered()
    for each in heard:
        message_id = str(storable(each.message_id))
        note = (each.phone, message_id)
        received = (found.notes.get(note), each.received if isinstance(each, Replied) else None)
        found.notes[note] = min((time for time in received if time is not None), default=None)
        if each.kind:
            found.kinds.setdefault(note, each.kind)
        if isinstance(each, Reported):
            delivery = (message_id, each.phone)
            if each.status.is_delivered or not found.deliveries.get(delivery, ("", False))[1]:
                found.deliveries[delivery] = (str(storable(each.status.value)), each.status.is_final)
    found.notes = dict(sorted(found.notes.items()))
    found.deliveries = dict(sorted(found.deliveries.items()))
    return found
