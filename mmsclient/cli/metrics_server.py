"""The server of `--metrics-port`: in threads of its own, so that it tells of an event loop that is blocked."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

PATIENCE = 10.0
"""Seconds for the event loop to say whether it works, and for a request to come."""


class App:
    """The WSGI app.

    Args:
        metrics: Serves the figures.
        check: Whether the command works; run in `loop`.
        loop: See `check`.
    """

    def __init__(
        self,
        metrics: Callable[..., Iterable[bytes]],
        check: Callable[[], Coroutine[Any, Any, bool]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._metrics = metrics
        self._check = check
        self._loop = loop

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answers one request."""
        status, text = "404 Not Found", b"see /metrics and /healthz\n"
        match environ["PATH_INFO"]:
            case "/metrics":
                return self._metrics(environ, start_response)
            case "/healthz":
                status, text = ("200 OK", b"ok\n") if self._works() else ("503 Service Unavailable", b"not working\n")
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text]

    def _works(self) -> bool:
        """What the check says; False where it raises, or does not come back."""
        checking = self._check()
        try:
            asked = asyncio.run_coroutine_threadsafe(checking, self._loop)
        except RuntimeError:  # the loop is closed
            checking.close()
            return False
        try:
            return asked.result(PATIENCE)
        except Exception:
            asked.cancel()
            return False


def bound(host: str, port: int) -> WSGIServer:
    """A server that listens there. Raises `OSError`, and `UnicodeError` for what can be no host's name."""
    return (_Server6 if ":" in host else _Server)((host, port), _Handler)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing of a connection that is idle, reset or closed before its answer; else a traceback on stderr."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: a scrape is no news."""
