"""`--metrics-port`: figures for Prometheus, and whether the command works, on a port of their own."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter

from mmsclient._extras import needed
from mmsclient._threads import Threads
from mmsclient.cli.status import UsageError, complain
from mmsclient.cli.whole import WHOLE
from mmsclient.observe.observer import Observer

Check = Callable[[], Coroutine[Any, Any, bool]]
"""Whether the command works."""


@Parameter(name="*", group=Group("Monitoring"))
@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """Where the command can be watched."""

    metrics_port: Annotated[int | None, WHOLE] = None
    """Port to serve /metrics on, for Prometheus, and /healthz, which is 200 as long as the command works and 503 else;
    0 for a free one. Needs the extra prometheus."""
    metrics_host: str = "127.0.0.1"
    """Address for them."""


NONE = Monitoring()


class Monitor:
    """Keeps the figures of a command, and serves them, if that was asked for.

    Raises `UsageError` for a wrong port, and `ConfigurationError` where the extra is missing.
    """

    def __init__(self, asked: Monitoring) -> None:
        self._asked = asked
        self.observer: Observer | None = None
        """Keeps the figures; None where none were asked for."""
        self.url: str | None = None
        """Where they are served."""
        if asked.metrics_port is None:
            return
        if not 0 <= asked.metrics_port <= 65535:
            raise UsageError(f"--metrics-port: expected 0 to 65535, got {asked.metrics_port}")
        if not asked.metrics_host:  # all addresses, to a socket
            raise UsageError("--metrics-host: expected a host's name or address, got nothing")
        with needed("prometheus", "`--metrics-port`"):
            from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app  # noqa: PLC0415
        from mmsclient.observe.prometheus import PrometheusObserver  # noqa: PLC0415

        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.observer = PrometheusObserver(registry)
        self._metrics = make_wsgi_app(registry)

    @asynccontextmanager
    async def serving(self, check: Check) -> AsyncGenerator[None, None]:
        """Serves as long as this lasts. `check` runs in the event loop: one that is blocked does not work."""
        if self.observer is None:
            yield
            return
        from mmsclient.cli.metrics_server import App, bound  # noqa: PLC0415 - most commands serve nothing

        host, loop = self._asked.metrics_host, asyncio.get_running_loop()
        try:
            server = bound(host, self._asked.metrics_port or 0)
        except (UnicodeError, OSError) as error:
            raise UsageError(_refusal(host, error)) from None
        with server:
            server.set_app(App(self._metrics, check, loop))
            thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="mmsclient-metrics", daemon=True)
            thread.start()
            self.url = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
            complain(f"metrics: {self.url}")
            try:
                yield
            finally:
                await Threads().run(server.shutdown)


def _refusal(host: str, error: UnicodeError | OSError) -> str:
    """Which of the options is wrong, and why."""
    if isinstance(error, UnicodeError):
        return f"--metrics-host: expected a host's name or address, got {host!r}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"--metrics-host: {host!r}: {error.strerror}"
    return f"--metrics-port: {error.strerror}"
