"""The sandbox's port: uvicorn's HTTP/1.1 on a listener that can refuse, and that closes at once.

`uvicorn.Server` is left out. It belongs to a process: it installs signal handlers and log levels, polls ten times a
second, and waits on stopping for answers that a fault may never end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from mmsclient.sandbox.exchange import TRANSPORT

HOST = "127.0.0.1"

_SILENT = logging.Logger("mmsclient.sandbox", logging.CRITICAL + 1)  # noqa: LOG001 -- nobody shall find it


class _Protocol(H11Protocol):
    """Shows the connection to the app, so that a fault can break it, and logs nothing."""

    def __init__(self, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, app_state={})
        self.logger = self.access_logger = _SILENT
        self.access_log = False
        self.app = self._run

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"] = {TRANSPORT: self.transport}
        await self.config.loaded_app(scope, receive, send)


class Listener:
    """Serves an app on a port. Belongs to one event loop."""

    def __init__(self, app: ASGIApp, port: int, tls: ssl.SSLContext | None, keep_alive: float) -> None:
        self._config = Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            server_header=False,
        )
        self._config.timeout_keep_alive = keep_alive  # type: ignore[assignment]
        self._config.load()
        self._tls = tls
        self._state = ServerState()
        self._greetings: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]

    def listen(self) -> None:
        """Take connections."""
        self._socket.listen(4096)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def refuse(self) -> None:
        """Refuse connections and close the idle ones; the port stays ours. `listen` ends it."""
        await self._stop_accepting()
        self._socket.close()
        self._socket = _bound(self.port)
        for connection in list(self._state.connections):
            connection.shutdown()

    async def close(self) -> None:
        """Stop now, whatever is under way."""
        await self._stop_accepting()
        self._socket.close()
        await asyncio.sleep(0)  # a greeting must have begun to be ended in good order
        await _end(self._greetings)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await _end(self._state.tasks)
        while self._state.connections:  # noqa: ASYNC110 -- uvicorn has no event for it, and it takes a tick or two
            await asyncio.sleep(0)

    async def _stop_accepting(self) -> None:
        if self._accepting is not None:
            await _end({self._accepting})
            self._accepting = None

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:  # out of file descriptors, or the peer has left already
                await asyncio.sleep(0.01)
                continue
            self._spawn(self._greet(connection))

    def _spawn(self, greeting: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(greeting)
        self._greetings.add(task)
        task.add_done_callback(self._greetings.discard)

    async def _greet(self, connection: socket.socket) -> None:
        timeouts: dict[str, Any] = {"ssl_handshake_timeout": 10.0, "ssl_shutdown_timeout": 1.0} if self._tls else {}
        with suppress(OSError):  # a peer that fails the handshake is no concern of ours
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Protocol(self._config, self._state), connection, ssl=self._tls, **timeouts
            )


def _bound(port: int) -> socket.socket:
    """A socket that holds a port; until it listens, the system refuses connections to it."""
    bound = socket.socket(proto=socket.IPPROTO_TCP)  # said, or asyncio leaves TCP_NODELAY off
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind((HOST, port))
    except BaseException:
        bound.close()
        raise
    return bound


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
