"""Surroundings that a user may bring: uvloop, eager tasks, HTTP/2."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import httpx2
import pytest

from mmsclient import AsyncMMSClient, OutcomeUnknownError, SentBatch
from mmsclient._api import sent_batch
from mmsclient.sandbox import Sandbox
from tests.conftest import PNG
from tests.support.http2 import http2_contexts


async def use(sandbox: Sandbox) -> None:
    async with sandbox.client() as mms:
        sent = await asyncio.gather(*(mms.send(to=f"+6140000000{n}", text="Hi", image=PNG) for n in range(6)))
        assert all(batch.accepted == 1 for batch in sent)
        sandbox.add_replies(60)
        assert len([reply async for reply in mms.replies()]) == 60
        late = asyncio.create_task(mms.account())
        await asyncio.sleep(0)
        late.cancel()


def test_under_uvloop(sandbox: Sandbox) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop has no build for this system")
    uvloop.run(use(sandbox))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_with_eager_tasks(sandbox: Sandbox) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        await use(sandbox)

    asyncio.run(main())


FAILING = b"+61400009999"
FOR_ANOTHER = json.dumps(
    {
        "meta": {"status": "SUCCESS"},
        "data": {"success_number": 1, "messages": [{"message_id": "1", "to": "+61400008888"}]},
    }
).encode()


class HTTP2Server(asyncio.Protocol):
    """Answers every send over HTTP/2, `FAILING` with a failure, and counts which numbers came."""

    connections = 0

    def __init__(self, numbers: Counter[str], failure: tuple[str, bytes] = ("500", b"")) -> None:
        type(self).connections += 1
        self._numbers = numbers
        self._failure = failure
        self._bodies: dict[int, bytes] = {}
        self._http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._http2.initiate_connection()
        transport.write(self._http2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._http2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self._bodies[event.stream_id] = self._bodies.get(event.stream_id, b"") + event.data
                self._http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                wait = 0.05 if FAILING in self._bodies[event.stream_id] else 0.1
                asyncio.get_running_loop().call_later(wait, self._answer, event.stream_id)
        self._transport.write(self._http2.data_to_send())

    def _answer(self, stream: int) -> None:
        (number,) = re.findall(rb"\+61\d+", self._bodies[stream])
        self._numbers[number.decode()] += 1
        if number == FAILING:
            status, body = self._failure
            self._http2.send_headers(stream, [(":status", status)])
            for start in range(0, len(body), 16_384):
                self._http2.send_data(stream, body[start : start + 16_384])
            self._http2.end_stream(stream)
            self._transport.write(self._http2.data_to_send())
            return
        data = {"success_number": 1, "messages": [{"message_id": "1", "to": number.decode()}]}
        body = json.dumps({"meta": {"status": "SUCCESS"}, "data": data}).encode()
        self._http2.send_headers(stream, [(":status", "200"), ("content-length", str(len(body)))])
        self._http2.send_data(stream, body, end_stream=True)
        self._transport.write(self._http2.data_to_send())


@pytest.mark.parametrize("new_pool", [httpx.AsyncClient, httpx2.AsyncClient])
async def test_calls_that_wait_for_tokens_do_not_share_a_stream_of_http2(new_pool: Callable[..., Any]) -> None:
    server_context, client_context = http2_contexts()
    numbers: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HTTP2Server(numbers), "127.0.0.1", 0, ssl=server_context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    to = [f"+614000000{n:02}" for n in range(20)]
    async with (
        new_pool(http2=True, verify=client_context, trust_env=False) as pool,
        AsyncMMSClient("key", base_url=url, http_client=pool, rate=100) as mms,
    ):
        sent: list[SentBatch] = await asyncio.gather(*(mms.send(to=one, text="Hi", image=PNG) for one in to))
    assert [batch.messages[0].to for batch in sent] == to
    assert numbers == Counter(to)
    server.close()


@pytest.mark.parametrize(
    "failure",
    [("500", b""), ("200", b"<html>what is this</html>"), ("200", b""), ("200", b"x" * 20_000), ("200", FOR_ANOTHER)],
    ids=["failed", "unreadable", "empty", "too large", "for another"],
)
@pytest.mark.parametrize("new_pool", [httpx.AsyncClient, httpx2.AsyncClient])
async def test_a_send_that_fails_on_http2_tears_no_other_call(
    new_pool: Callable[..., Any], failure: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_batch, "MAX_BODY", 10_000)
    monkeypatch.setattr(HTTP2Server, "connections", 0)
    server_context, client_context = http2_contexts()
    numbers: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HTTP2Server(numbers, failure), "127.0.0.1", 0, ssl=server_context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    to = ["+61400000000", FAILING.decode(), *(f"+614000000{n:02}" for n in range(1, 10))]
    async with (
        new_pool(http2=True, verify=client_context, trust_env=False) as pool,
        AsyncMMSClient("key", base_url=url, http_client=pool, rate=None) as mms,
    ):
        await mms.send(to="+61400000099", text="Hi", image=PNG)  # opens the connection
        outcomes = await asyncio.gather(*(mms.send(to=one, text="Hi", image=PNG) for one in to), return_exceptions=True)
    assert isinstance(outcomes.pop(1), OutcomeUnknownError)
    assert [outcome for outcome in outcomes if not isinstance(outcome, SentBatch)] == []
    assert HTTP2Server.connections == 1
    server.close()
