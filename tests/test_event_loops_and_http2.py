"""Surroundings that a user may bring: uvloop, eager tasks, HTTP/2."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
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
import trustme

from mmsclient import AsyncMMSClient, SentBatch
from mmsclient.sandbox import Sandbox
from tests.conftest import PNG


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


class HTTP2Server(asyncio.Protocol):
    """Answers every send over HTTP/2, and counts which numbers came."""

    def __init__(self, numbers: Counter[str]) -> None:
        self._numbers = numbers
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
                asyncio.get_running_loop().call_later(0.05, self._answer, event.stream_id)
        self._transport.write(self._http2.data_to_send())

    def _answer(self, stream: int) -> None:
        (number,) = re.findall(rb"\+61\d+", self._bodies[stream])
        self._numbers[number.decode()] += 1
        data = {"success_number": 1, "messages": [{"message_id": "1", "to": number.decode()}]}
        body = json.dumps({"meta": {"status": "SUCCESS"}, "data": data}).encode()
        self._http2.send_headers(stream, [(":status", "200"), ("content-length", str(len(body)))])
        self._http2.send_data(stream, body, end_stream=True)
        self._transport.write(self._http2.data_to_send())


def http2_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority, server, client = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    server.set_alpn_protocols(["h2"])
    return server, client


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
