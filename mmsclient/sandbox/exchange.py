"""One HTTP exchange as a fault sees it: the answer can be sent whole, in part, or not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterable, Mapping
from contextlib import suppress

from attrs import field, frozen
from starlette.types import Receive, Scope, Send

from mmsclient.sandbox.records import Arrival
from mmsclient.sandbox.state import State

TRANSPORT = "mmsclient.sandbox.transport"
"""Where the scope's extensions hold the connection."""


@frozen
class RawAnswer:
    """An HTTP answer, whole."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=lambda: {"content-type": "application/json"})
    """Without `content-length`, which is worked out."""
    throttled: bool = False
    """It says that the call was one too many, so the call does not count."""


class Exchange:
    """A request, and the means to answer it or to break the connection."""

    def __init__(self, arrival: Arrival, state: State, scope: Scope, receive: Receive, send: Send) -> None:
        self.arrival = arrival
        self.state = state
        self._extensions = scope.get("extensions") or {}
        self._receive = receive
        self._send = send

    async def read(self) -> bytes | None:
        """The whole body of the request, None if the peer left before its end."""
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)

    async def answer(self, answer: RawAnswer) -> None:
        """Send an answer whole."""
        await self.start(answer, len(answer.body))
        await self.write(answer.body, last=True)

    async def start(self, answer: RawAnswer, length: int | None) -> None:
        """Send status and headers; `length` None announces a body of unknown length."""
        headers = dict(answer.headers)
        if length is not None:
            headers["content-length"] = str(length)
        self.arrival.status = answer.status
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": encoded})

    async def write(self, part: bytes, *, last: bool = False) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": part, "more_body": not last})

    async def stream(self, answer: RawAnswer, length: int | None, parts: AsyncIterable[bytes]) -> None:
        """Send an answer in parts, for as long as the peer is there."""
        await self.start(answer, length)
        async for part in parts:
            if self._transport.is_closing():
                return
            await self.write(part)
        await self.write(b"", last=True)

    async def close(self) -> None:
        """End the connection in good order, whatever has been promised."""
        self._transport.close()
        await self._gone()

    async def reset(self) -> None:
        """End the connection with a TCP reset: the peer gets ECONNRESET."""
        linger_none = struct.pack("ii", 1, 0)
        connection: socket.socket = self._transport.get_extra_info("socket")
        with suppress(OSError):  # the peer was quicker, and the socket is closed
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
        self._transport.abort()
        await self._gone()

    async def _gone(self) -> None:
        """Wait until the server knows that the peer is gone; to return earlier would be answered for us."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    @property
    def _transport(self) -> asyncio.WriteTransport:
        if TRANSPORT not in self._extensions:
            raise RuntimeError("this fault needs a real connection; serve the app by Sandbox")
        transport: asyncio.WriteTransport = self._extensions[TRANSPORT]
        return transport
