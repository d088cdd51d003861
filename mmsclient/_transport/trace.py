"""What the HTTP library's trace events tell of an exchange. The one place that knows httpcore's events."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

_OPENING = frozenset(
    {
        "connection.connect_tcp",
        "connection.connect_unix_socket",
        "connection.start_tls",
        "connection.retry",
        "proxy.start_tls",
        "socks.connect_tcp",
        "socks.setup_socks5_connection",
        "socks.start_tls",
        "http2.send_connection_init",
    }
)
"""The events that belong to the opening of a connection. Nothing of a call leaves with them."""


class Step(Enum):
    """What an event means for the call."""

    OPENING = auto()
    """A connection is being opened."""
    AT_WIRE = auto()
    """A connection is ready; when the hook returns, the first byte leaves."""
    AT_SHARED_WIRE = auto()
    """The same, on a connection that other calls share: the hook must not wait."""
    LAST_BYTE_OUT = auto()
    """The last byte has left."""
    AFTER = auto()
    """The call has left, or is over."""
    UNKNOWN = auto()
    """An event that nobody knows."""


_STEPS = {
    "http11.send_request_headers.started": Step.AT_WIRE,
    "http2.send_request_headers.started": Step.AT_SHARED_WIRE,
    "http11.send_request_body.complete": Step.LAST_BYTE_OUT,
    "http2.send_request_body.complete": Step.LAST_BYTE_OUT,
}

_AFTER = frozenset(
    f"{protocol}.{name}"
    for protocol in ("http11", "http2")
    for name in (
        "send_request_headers",
        "send_request_body",
        "receive_response_headers",
        "receive_response_body",
        "receive_remote_settings",
        "response_closed",
    )
)


class Trace:
    """Follows the events of one attempt.

    That nothing has left is believed only of events that are known: a name that was never heard of, and any failure
    that does not come while a connection is being opened, mean that the call may have left.
    """

    def __init__(self) -> None:
        self.seen = False
        """There was an event."""
        self.connected = False
        """A connection was opened for this attempt."""
        self.only_opening = True
        """Whatever ended the attempt just now, it ended the opening of a connection."""
        self._foreign = False
        self._tunnelling = False

    def follow(self, event: str, info: Mapping[str, Any]) -> Step:
        """Take note of `event` and return what it means."""
        self.seen = True
        name, _, stage = event.rpartition(".")
        if name in _OPENING:
            self.connected = True
            self.only_opening = not self._foreign and stage != "complete"
            return Step.OPENING
        if self._belongs_to_tunnel(name, stage, info):
            return Step.OPENING
        self._foreign = True
        self.only_opening = False
        return _STEPS.get(event) or (Step.AFTER if name in _AFTER else Step.UNKNOWN)

    def _belongs_to_tunnel(self, name: str, stage: str, info: Mapping[str, Any]) -> bool:
        """The event is one of a proxy's CONNECT, which opens a connection as well."""
        if stage == "started" and "request" in info:
            self._tunnelling = getattr(info["request"], "method", None) == b"CONNECT"
        if not self._tunnelling or not name.startswith("http11."):
            return False
        is_open = name == "http11.receive_response_headers" and stage == "complete" and _is_success(info)
        self.only_opening = not self._foreign and not is_open
        return True


def _is_success(info: Mapping[str, Any]) -> bool:
    """The proxy agreed, or said something that nobody knows."""
    try:
        return 200 <= int(info["return_value"][1]) < 300
    except (KeyError, IndexError, TypeError, ValueError):
        return True
