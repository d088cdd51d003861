"""Fixtures that most tests share: a sandbox over TLS, and clients of it on both HTTP libraries."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import httpx2
import pytest
from hypothesis import settings

from mmsclient import AsyncMMSClient
from mmsclient._transport import retry
from mmsclient.limiter import feedback
from mmsclient.sandbox import Sandbox, server
from mmsclient.sandbox.answers import Statuses
from mmsclient.sandbox.settings import Settings
from tests.support import fuzzing, png  # noqa: F401 - `fuzzing` registers the profile
from tests.support.postgres_server import Server

settings.load_profile("mmsclient")

if given := os.environ.get("SANDBOX_STATUSES"):  # of every sandbox in this process that is asked for no others
    vars(server)["Settings"] = partial(Settings, statuses=cast(Statuses, given))

PNG = png.PNG

Connect = Callable[..., AsyncMMSClient]


class Clock:
    """A monotonic clock that moves when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Neighbours run in one process, as far as that keeps all busy: what a module starts is started once."""
    from xdist.scheduler import WorkStealingScheduling  # type: ignore[import-untyped] # noqa: PLC0415

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_configure() -> None:
    """Children are to end by Ctrl-C here too where a shell started all this in the background, and ignores it there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was imported stays; without it each collection of garbage, and there are hundreds, takes a hundredth."""
    gc.collect()
    gc.freeze()


MARK = "MMSCLIENT_TEST_SESSION"


def left_behind(mark: str) -> list[str]:
    """The commands of processes whose environment holds `mark`, other than this one. Linux only; else none are seen."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if int(folder.name) != os.getpid() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """Whatever the tests start, and whatever that starts, ends before they do: all inherit this variable."""
    mark = os.environ[MARK] = uuid4().hex
    yield
    del os.environ[MARK]
    end = time.monotonic() + 60
    while (left := left_behind(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """What a test has left open fails its own module: collected later, it would fail one that has no part in it."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Server]:
    """A PostgreSQL cluster, which the tests of one process share."""
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def postgres(cluster: Server) -> Iterator[Server]:
    """The same; a test gets itself a database."""
    yield cluster
    cluster.take_back()


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
    monkeypatch.setattr(feedback, "PAUSE", 0.01)


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
    """Makes clients of `sandbox`: on a pool of their own, on an injected httpx, and on an injected httpx2.

    With the last the sandbox answers errors with HTTP 200, as a caller of the live service reports.
    """
    if request.param == "httpx2":
        sandbox.settings.statuses = "always 200"
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


# Campaigns ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def api() -> Iterator[Sandbox]:
    """A sandbox without a cap and without magic numbers, for whole ranges of them."""
    with Sandbox(rate=None, magic=False) as api:
        yield api
        assert api.errors == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a campaign's journal is to be made."""
    return tmp_path / "spring.db"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, path: Path) -> tuple[str, str]:
    """A journal and its name for each engine: a file, which needs none, and a database of its own."""
    if request.param == "sqlite":
        return str(path), ""
    server: Server = request.getfixturevalue("postgres")
    return server.new_database(), "spring"
