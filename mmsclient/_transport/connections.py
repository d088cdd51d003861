"""Whether the connection that a call is about to leave on is still good for it.

A server may close a connection at any moment that it lies idle; a send that meets the closing ends with its outcome
unknown. The HTTP libraries look when they take a connection from the pool, which is before the wait for the token.
"""

from __future__ import annotations

import re
import select
import ssl
import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, frozen

from mmsclient._transport.protocols import NetworkStream, Parser

LONGEST_IDLE = 2.5
"""Seconds that a connection may have lain idle before a send leaves on it. Servers commonly close after 5."""

STALE_AFTER = 1.5
"""Seconds that a new connection may wait for its token. One that waited longer is replaced."""

LOOK = 0.005
"""Seconds to read what is there already."""

RECOVERY = 60.0
"""Seconds in which what was learned of a server's patience doubles again: a close may have had another reason."""


class Patience:
    """For how long a server leaves an idle connection open, as far as it has shown."""

    def __init__(self) -> None:
        self._learned = LONGEST_IDLE
        self._learned_at = 0.0

    def seconds(self, now: float) -> float:
        """Seconds of idleness after which a connection is not trusted with a send."""
        return float(min(LONGEST_IDLE, self._learned * 2.0 ** min(60.0, (now - self._learned_at) / RECOVERY)))

    def hear(self, headers: Mapping[str, str], now: float) -> None:
        """Heed `Keep-Alive: timeout=N` of an answer; half of it, for the way there and a server that is early."""
        if told := headers.get("keep-alive"):
            seconds = re.search(r"\btimeout\s*=\s*([0-9]{1,6})\b", told, re.IGNORECASE)
            if seconds:
                self._learn(int(seconds[1]) / 2, now)

    def closed_after(self, idle: float, now: float) -> None:
        """A connection was found closed after `idle` seconds, and may have been for a part of them."""
        self._learn(idle / 2, now)

    def _learn(self, seconds: float, now: float) -> None:
        if seconds < self.seconds(now):
            self._learned, self._learned_at = max(seconds, 0.01), now


@frozen
class Sockets:
    """What can be asked about a connection without asking its stream, which takes its time."""

    socket: Any
    """None where it is not known."""
    tls: ssl.SSLObject | None

    @property
    def fileno(self) -> int:
        """Of the socket; -1 where that is not known, or closed."""
        return -1 if self.socket is None else int(self.socket.fileno())

    @classmethod
    def of(cls, stream: NetworkStream) -> Sockets:
        """Those of `stream`."""
        tls = stream.get_extra_info("ssl_object")
        return cls(stream.get_extra_info("socket"), tls if isinstance(tls, ssl.SSLObject) else None)


@define
class _Known:
    """A connection that was used before."""

    sockets: Sockets
    idle_since: float | None
    """None while a call has it."""


class Keepalive:
    """What is known of how long the server keeps idle connections, and since when each lies idle."""

    def __init__(self) -> None:
        self._patience = Patience()
        self._known: WeakKeyDictionary[NetworkStream, _Known] = WeakKeyDictionary()

    def released(self, stream: NetworkStream | None, headers: Mapping[str, str]) -> None:
        """An answer with these `headers` came on `stream`, which lies idle from now on."""
        now = time.monotonic()
        self._patience.hear(headers, now)
        if stream is None:
            return
        known = self._known.get(stream)
        if known is None:
            self._known[stream] = _Known(Sockets.of(stream), now)
        else:
            known.idle_since = now

    def taken(self, connection: Connection | None) -> float | None:
        """A call has `connection`. Seconds that it lay idle; None where that is not known."""
        known = None if connection is None else self._known.get(connection.stream)
        if known is None or known.idle_since is None:
            return None
        since, known.idle_since = known.idle_since, None
        return time.monotonic() - since

    def sockets(self, connection: Connection) -> Sockets:
        """Those of `connection`."""
        known = self._known.get(connection.stream)
        return Sockets.of(connection.stream) if known is None else known.sockets

    def trusts(self, idle: float | None) -> bool:
        """A send may leave on a connection that lay idle so long."""
        return idle is not None and idle <= self._patience.seconds(time.monotonic())

    def closed_after(self, idle: float | None) -> None:
        """A connection was found closed that lay idle so long."""
        if idle is not None:
            self._patience.closed_after(idle, time.monotonic())

    def learn_from_idle(self) -> None:
        """Look which idle connections the server has closed: the library drops them without a word."""
        idle = {stream: known for stream, known in self._known.items() if known.idle_since is not None}
        for stream in _closed(idle):
            since = self._known.pop(stream).idle_since
            self.closed_after(None if since is None else time.monotonic() - since)


def _closed(connections: Mapping[NetworkStream, _Known]) -> list[NetworkStream]:
    """Those whose other end is closed. None where the system cannot tell that from data that waits."""
    if not _CLOSED or not connections:
        return []
    poll, streams = select.poll(), {}
    for stream, known in connections.items():
        fileno = known.sockets.fileno
        if fileno >= 0:
            streams[fileno] = stream
            poll.register(fileno, _CLOSED)
    return [streams[fileno] for fileno, events in poll.poll(0) if events & _CLOSED]


_CLOSED: int = getattr(select, "POLLRDHUP", 0)


@define
class Connection:
    """The connection of a request, looked up in the HTTP library's pool.

    No public attribute leads from a request to its connection. Where the private ones are not as in the releases that
    the tests run with, `find` returns None, and a send on a connection of unknown age opens a new one.
    """

    stream: NetworkStream
    parser: Parser | None

    @classmethod
    def find(cls, transport: Any, request: Any) -> Connection | None:
        """The connection that `request`, as given to the trace hook, goes out on."""
        pool = getattr(transport, "_pool", None)
        for entry in getattr(pool, "_requests", ()):
            if entry.request is request:
                connection = entry.connection
                while connection is not None:
                    if hasattr(connection, "_network_stream"):
                        return cls(connection._network_stream, getattr(connection, "_h11_state", None))
                    connection = getattr(connection, "_connection", None)
        return None

    async def is_clean(self, sockets: Sockets) -> bool:
        """It is open and nothing waits on it. What waits there before the call has left is no answer to it."""
        if self.parser is not None and self.parser.trailing_data != (b"", False):
            return False
        is_readable = self._is_readable(sockets)
        if sockets.tls is None or not is_readable:
            return not is_readable and _is_drained(sockets.tls)
        try:  # what waits under TLS may be no data but a session ticket
            await self.stream.read(1, timeout=LOOK)
        except Exception as error:
            return type(error).__name__ == "ReadTimeout"
        return False

    def _is_readable(self, sockets: Sockets) -> bool:
        if sockets.fileno < 0 or not hasattr(select, "poll"):
            return bool(self.stream.get_extra_info("is_readable"))
        poll = select.poll()
        poll.register(sockets.fileno, select.POLLIN)
        return bool(poll.poll(0))


def _is_drained(tls: ssl.SSLObject | None) -> bool:
    """No data waits in the TLS layer, where a read of the socket may have left it."""
    if tls is None:
        return True
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return True
    except ssl.SSLError:
        pass
    return False
