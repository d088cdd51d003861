"""Parses callbacks. No I/O: reports and inbound messages are told apart by their shape alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import tzinfo
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from attrs import field, frozen

from mmsclient._api.phone_numbers import e164
from mmsclient._api.values import document, text_of, text_or_none, time_of
from mmsclient.errors import InvalidRequestError
from mmsclient.models import DeliveryReport, DeliveryStatus, InboundMessage

ZONE = ZoneInfo("Australia/Melbourne")
"""The zone of the API's times unless the caller says otherwise (api-notes.md section 1)."""

LONGEST_ID = 200
"""Characters of an id, a status or a number; what is longer is none."""

MOST_ITEMS = 2_000
"""Items of one callback. More cost much memory, and are refused as too large."""

TOO_MANY = f"more than {MOST_ITEMS} items"

NEWER_PLATFORM = "a callback of the provider's newer platform, whose accounts are none of this API"
"""It has `_id`, `sender` and `receiver` (api-notes.md section 6)."""

Event: TypeAlias = DeliveryReport | InboundMessage


@frozen
class UnreadableCallback:
    """A callback, or one item of it, that is neither a delivery report nor an inbound message."""

    reason: str
    """Why it could not be read."""
    body: bytes = field(repr=False)
    """The one item as JSON; where no item can be told from the others, the whole body as it came."""


def parse_callbacks(body: bytes | str, *, timezone: tzinfo = ZONE) -> list[Event | UnreadableCallback]:
    """Reads the body of a callback (api-notes.md section 4).

    Items come in an array or alone. One with `from` and `body` is an `InboundMessage`; one with `status` and either
    `message_id` or `recipient` is a `DeliveryReport`. Unknown fields and statuses are kept. Whatever else an item is
    becomes an `UnreadableCallback` in its place and does not affect the others; so does a body that is not JSON.

    Args:
        body: The body as it was received.
        timezone: The zone of the API's times, which name none.

    Returns:
        The items in their order.

    Raises:
        InvalidRequestError: `body` is neither bytes nor text. Its content never raises.
    """
    if not isinstance(body, bytes | bytearray | memoryview | str):
        raise InvalidRequestError("body", type(body).__name__, "the body of a callback, as bytes")
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    try:
        document = _document(data)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else "not JSON" if data else "empty"
        return [UnreadableCallback(reason, data)]
    items = document if isinstance(document, list) else [document]
    if len(items) > MOST_ITEMS:
        return [UnreadableCallback(TOO_MANY, data)]
    return [_event(item, timezone, data) for item in items]


def _document(data: bytes) -> Any:
    """`data` as JSON, with a blind eye to what one item could spoil for all: bytes, constants and numbers."""
    return document(data.decode(json.detect_encoding(data), "replace").removeprefix("\ufeff"))


def _event(item: Any, zone: tzinfo, data: bytes) -> Event | UnreadableCallback:
    try:
        event = _read(item, zone)
        return UnreadableCallback(event, json.dumps(item).encode()) if isinstance(event, str) else event
    except RecursionError:
        return UnreadableCallback("nested too deep", data)


def _read(item: Any, zone: tzinfo) -> Event | str:
    """The event that `item` is, or why it is none."""
    if not isinstance(item, dict):
        return "not an object"
    inbound = "from" in item and "body" in item
    report = "status" in item and ("message_id" in item or "recipient" in item)
    if inbound and "status" in item and "recipient" in item:
        return "a delivery report and an inbound message at once"
    if inbound:
        return _flaw(item, "from", ("message_id", "original_message_id")) or _inbound(item, zone)
    if report:
        return _flaw(item, "status", ("message_id", "recipient")) or _report(item)
    if "_id" in item and {"sender", "receiver"} <= item.keys():
        return NEWER_PLATFORM
    return "neither a delivery report nor an inbound message"


def _flaw(item: Mapping[str, Any], needed: str, others: Iterable[str]) -> str:
    """What is wrong with the fields that identify an item; "" if nothing is."""
    for name in (needed, *others):
        value = item.get(name)
        if isinstance(value, dict | list | bool) or len(text_of(value)) > LONGEST_ID:
            return f"its {name} is no plain value, or over {LONGEST_ID} characters"
    return "" if text_of(item[needed]).strip() else f"its {needed} is empty"


def _report(item: Mapping[str, Any]) -> DeliveryReport:
    return DeliveryReport(
        message_id=text_of(item.get("message_id")),
        status=DeliveryStatus(text_of(item["status"]).strip()),
        recipient=e164(text_of(item.get("recipient"))),
        custom_string=text_or_none(item.get("custom_string")),
        source=text_or_none(item.get("source")),
        kind=text_of(item.get("type")),
        raw=item,
    )


def _inbound(item: Mapping[str, Any], zone: tzinfo) -> InboundMessage:
    return InboundMessage(
        id=text_of(item.get("message_id")),
        sender=e164(text_of(item["from"])),
        text=text_of(item["body"]),
        received_at=time_of(item.get("received_at"), zone),
        received_at_text=text_of(item.get("received_at")),
        kind=text_of(item.get("type")),
        original_message_id=text_of(item.get("original_message_id")),
        original_text=text_of(item.get("original_body")),
        custom_string=text_or_none(item.get("custom_string")),
        raw=item,
    )
