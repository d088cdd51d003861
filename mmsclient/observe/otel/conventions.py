"""The names of OpenTelemetry's semantic conventions for messaging, version 1.44, and of what they have no name for.

https://opentelemetry.io/docs/specs/semconv/messaging/
"""

from __future__ import annotations

from urllib.parse import urlsplit

from mmsclient.observe.events import Outcome

__all__ = [
    "SCHEMA",
    "SYSTEM",
    "error_type",
    "operation",
    "processing",
]

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM = "cellcast"

_TYPES = {
    "send-mms": "send",
    "send-sms": "send",
    "send-sms-nz": "send",
    "send-sms-template": "send",
    "bulk-send-sms": "send",
    "get-responses": "receive",
    "inbound-read": "settle",
    "inbound-read-bulk": "settle",
}
"""Types of operation by the name of the API's call; the others are about no messages."""


def operation(name: str, server: str) -> dict[str, str | int]:
    """The attributes of a call.

    The API has no queues or topics, and a phone number is no name of low cardinality: the destination is the server.
    """
    address = urlsplit(f"//{server}")
    attributes: dict[str, str | int] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": name,
        "server.address": address.hostname or "",
    }
    if name in _TYPES:
        attributes["messaging.operation.type"] = _TYPES[name]
    if address.port is not None:
        attributes["server.port"] = address.port
    return attributes


def processing(kind: str) -> dict[str, str]:
    """The attributes of the handling of an event of a callback."""
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": kind,
    }


def error_type(error: str | None, outcome: Outcome) -> str | None:
    """The class of the error, or the outcome where nothing was raised; None for a success."""
    return None if outcome is Outcome.ACCEPTED else error or outcome.value
