"""Fixtures that most tests share: a sandbox over TLS, and clients of it on both HTTP libraries."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import httpx2
import pytest

from mmsclient import AsyncMMSClient, retry
from mmsclient.limiter import bucket
from mmsclient.sandbox import Sandbox

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
"""Enough of a picture for the client and the sandbox: both look at the first bytes only."""

Connect = Callable[..., AsyncMMSClient]


class Clock:
    """A monotonic clock that moves when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quiet_libraries() -> None:
    """The HTTP libraries log every request; the tests look at our own log."""
    for name in ("httpx", "httpcore", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits between attempts and after a throttling: for tests in which their length is not at stake."""
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(bucket, "PAUSE", 0.01)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox over TLS that does not throttle."""
    with Sandbox(tls=True, rate=None) as sandbox:
        yield sandbox


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that comes about in another thread, and so sets no event of this loop."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def injected(library: Any, context: ssl.SSLContext | None, connections: int = 64) -> Any:
    """A client of one of the two HTTP libraries."""
    limits = library.Limits(max_connections=connections, max_keepalive_connections=connections)
    return library.AsyncClient(verify=context or True, limits=limits, trust_env=False)


@pytest.fixture(params=["own", "httpx", "httpx2"])
async def connect(request: pytest.FixtureRequest, sandbox: Sandbox) -> AsyncIterator[Connect]:
    """Makes clients of `sandbox`: on a pool of their own, on an injected httpx, and on an injected httpx2."""
    async with AsyncExitStack() as stack:

        def new(**options: Any) -> AsyncMMSClient:
            options = options if "limiter" in options else {"rate": None, **options}
            if request.param != "own":
                library = httpx if request.param == "httpx" else httpx2
                pool = injected(library, sandbox.ssl_context, options.get("max_in_flight", 64))
                stack.push_async_callback(pool.aclose)
                options["http_client"] = pool
            mms = sandbox.client(**options)
            stack.push_async_callback(mms.aclose)
            return mms

        yield new
    gc.collect()  # what was dropped without closing warns here, in the test that dropped it
