"""A connection that is cut at any byte of a request or an answer: never twice, never "not sent" for what arrived.

CI cuts at every other byte, alternately with an orderly end and a reset; MMSCLIENT_TEST_LONG=1 tries both at each byte,
and each HTTP library.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import httpx
import httpx2
import pytest
from attrs import define

from mmsclient import AsyncMMSClient, MMSError, NotSentError, OutcomeUnknownError, SentBatch
from mmsclient.sandbox import Sandbox
from tests.conftest import injected

pytestmark = pytest.mark.usefixtures("impatient")

LONG = os.environ.get("MMSCLIENT_TEST_LONG") == "1"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(40)
ABORT = struct.pack("ii", 1, 0)

Direction = Literal["request", "answer"]


@define
class Cut:
    """Where the next connection ends."""

    direction: Direction
    after: int
    """Bytes of that direction that still pass."""
    reset: bool


class Cutter:
    """A TCP proxy before a server on this machine that cuts connections as told, the next call's and no other."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.cut: Cut | None = None
        self.passed = Counter[str]()
        """Bytes of the last connection, by direction."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut, self.cut = self.cut, None
        self.passed.clear()
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        pumps = [
            asyncio.create_task(self._pump("request", reader, up_writer, cut)),
            asyncio.create_task(self._pump("answer", up_reader, writer, cut)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, up_writer):
            if cut is not None and cut.reset:
                each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            each.close()
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
        for each in (writer, up_writer):
            with suppress(OSError):
                await each.wait_closed()

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut | None
    ) -> None:
        """Pass bytes on until the end, or until the cut."""
        left = cut.after if cut is not None and cut.direction == direction else None
        if left == 0 and direction == "request":
            return
        with suppress(OSError):
            while data := await reader.read(65536):
                self.passed[direction] += len(data)
                writer.write(data if left is None else data[:left])
                await writer.drain()
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        return


@asynccontextmanager
async def cutter(sandbox: Sandbox) -> AsyncIterator[tuple[Cutter, str]]:
    """A cutter before `sandbox`, and the base URL that leads through it."""
    url = httpx.URL(sandbox.url)
    assert url.port is not None
    proxy = Cutter(url.port)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, str(url.copy_with(port=port))
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
def plain_sandbox() -> Iterator[Sandbox]:
    """Without TLS, so that a byte of the connection is a byte of the call."""
    with Sandbox(rate=None) as sandbox:
        yield sandbox


def clients(library: str) -> Any:
    return None if library == "own" else injected(httpx if library == "httpx" else httpx2, None)


async def outcome_of(mms: AsyncMMSClient, number: str) -> SentBatch | MMSError:
    try:
        return await mms.send(to=number, text="Once", image=PICTURE)
    except MMSError as error:
        return error


@pytest.mark.parametrize("library", ["own", "httpx", "httpx2"] if LONG else ["own", "httpx2"])
@pytest.mark.parametrize("direction", ["request", "answer"])
async def test_a_connection_that_is_cut_at_any_byte(plain_sandbox: Sandbox, direction: Direction, library: str) -> None:
    step = 1 if LONG else 2 if library == "own" else 7
    outcomes = Counter[str]()
    async with cutter(plain_sandbox) as (proxy, url):
        async with AsyncMMSClient(plain_sandbox.app_key, base_url=url, rate=None) as mms:
            await mms.send(to="+61400000000", text="Once", image=PICTURE)
        whole = proxy.passed[direction]
        assert whole > 300
        kinds = [(after, reset) for after in range(0, whole, step) for reset in (False, True)]
        for place, (after, reset) in enumerate(kinds):
            if not LONG and reset == bool((place // 2) % 2):
                continue
            number = f"+614000{place:05d}"[:12]
            pool = clients(library)
            async with AsyncMMSClient(plain_sandbox.app_key, base_url=url, rate=None, http_client=pool) as mms:
                proxy.cut = Cut(direction, after, reset)
                outcome = await outcome_of(mms, number)
                if pool is not None:
                    await pool.aclose()
            check(plain_sandbox, number, outcome, whole - after)
            outcomes[type(outcome).__name__] += 1
    assert outcomes["OutcomeUnknownError"] > 0.9 * sum(outcomes.values())
    assert plain_sandbox.errors == []


def check(sandbox: Sandbox, number: str, outcome: SentBatch | MMSError, missing: int) -> None:
    """What the client says of a call that a cut deprived of `missing` bytes agrees with what the server did."""
    arrived = sandbox.carried_out(number)
    assert arrived <= 1
    if isinstance(outcome, SentBatch):
        assert arrived == 1, (number, missing)
        assert outcome.accepted == 1
    elif arrived:
        assert isinstance(outcome, OutcomeUnknownError), (number, missing, outcome)
    else:
        assert isinstance(outcome, OutcomeUnknownError | NotSentError), (number, missing, outcome)
