"""What a connection may do to a call: it closes, hangs, brings the answer of another call; events are renamed."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpcore
import httpcore2
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

import mmsclient
from mmsclient import AsyncMMSClient, OutcomeUnknownError, SentBatch
from mmsclient._transport import adapter
from mmsclient._transport.admission import AT_WIRE
from mmsclient._transport.connections import LONGEST_IDLE, Patience
from mmsclient._transport.deadline import GRACE, MOST_GRACES, Deadline
from mmsclient._transport.trace import Trace
from mmsclient.limiter import NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reset
from tests.conftest import PNG, Connect, until
from tests.support.held import Held
from tests.support.virtual_time import run

ONE = "+61400000000"

pytestmark = pytest.mark.usefixtures("impatient")


async def send(mms: AsyncMMSClient, to: str = ONE) -> SentBatch:
    return await mms.send(to=to, text="Once", image=PNG)


# Events ---------------------------------------------------------------------------------------------------------------


def renaming(kind: Any, names: dict[str, str]) -> Any:
    """A `Trace` of the HTTP library whose events have other names; "" for none."""

    class Renamed(kind):  # type: ignore[misc]
        def __init__(self, name: str, *arguments: Any, **options: Any) -> None:
            super().__init__(names.get(name, name), *arguments, **options)
            if not self.name:
                self.should_trace = False

    return Renamed


@pytest.mark.parametrize(
    "names",
    [
        {"send_request_headers": "send_request_head"},
        {"send_request_headers": ""},
        {"send_request_headers": "", "send_request_body": "", "receive_response_headers": "", "response_closed": ""},
        {"send_request_headers": "connect_tcp"},
        {"send_request_body": "something_new"},
    ],
    ids=["renamed", "missing", "all missing", "named as another", "new"],
)
async def test_a_renamed_trace_event_never_sends_twice(
    connect: Connect, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, names: dict[str, str]
) -> None:
    for library in (httpcore, httpcore2):
        module = library._async.http11
        monkeypatch.setattr(module, "Trace", renaming(module.Trace, names))
    mms = connect()
    for number in range(3):
        to = f"+6140000000{number}"
        sandbox.faults.add(Reset(carried_out=True), call="send-mms", times=1)
        with pytest.raises(OutcomeUnknownError):
            await send(mms, to)
        assert sandbox.carried_out(to) == 1
        assert (await send(mms, f"+6140000001{number}")).accepted == 1
    assert sandbox.calls["send-mms"] == 6


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["connection.connect_tcp", "connection.start_tls", "http11.send_request_headers", "http11.x", "y", ""]
            ),
            st.sampled_from(["started", "complete", "failed", "else"]),
        )
    )
)
def test_not_sent_is_believed_only_of_events_that_are_known(events: list[tuple[str, str]]) -> None:
    trace = Trace()
    for name, stage in events:
        trace.follow(f"{name}.{stage}", {})
    known = all(name.startswith("connection.") for name, _ in events)
    assert trace.only_opening == (known and (not events or events[-1][1] != "complete"))


def test_a_proxys_connect_opens_a_connection() -> None:
    class Connect:
        method = b"CONNECT"

    def after(status: Any) -> bool:
        trace = Trace()
        trace.follow("connection.connect_tcp.complete", {})
        trace.follow("http11.send_request_headers.started", {"request": Connect()})
        trace.follow("http11.send_request_headers.complete", {"return_value": None})
        trace.follow("http11.receive_response_headers.started", {"request": Connect()})
        assert trace.only_opening
        trace.follow("http11.receive_response_headers.complete", {"return_value": status})
        return trace.only_opening

    assert after((b"HTTP/1.1", 407, b"", []))
    assert not after((b"HTTP/1.1", 200, b"", []))
    assert not after(None)


# A server that does what it likes with its connections ----------------------------------------------------------------


Handle = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(*to: str) -> bytes:
    """A success for `to`, as the API writes it."""
    messages = [{"message_id": f"id-{number}", "to": number} for number in to]
    data = {"messages": messages, "total_numbers": len(to), "success_number": str(len(to)), "credits_used": "1"}
    body = json.dumps({"meta": {"code": 200, "status": "SUCCESS"}, "msg": "Queued", "data": data}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Server:
    """Reads sends and lets `handle` answer each; counts them by number, and the connections."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self.arrived = Counter[str]()
        self.connections = 0
        self.ended = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                body = await reader.readexactly(length)
                number = body[body.index(b'["') + 2 : body.index(b'"]')].decode()
                self.arrived[number] += 1
                await self._handle(number, reader, writer)
        self.ended += 1
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(handle: Handle, authority: trustme.CA | None = None) -> AsyncIterator[Server]:
    """A server on this machine, over TLS where there is an `authority`."""
    server = Server(handle)
    context = None
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
    listening = await asyncio.start_server(server.serve, "localhost", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"http{'s' if context else ''}://localhost:{port}/api/v3"
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()


class Once:
    """A limiter that grants at once, until it is told to keep callers waiting."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def acquire(self) -> Any:
        self.asked.set()
        await self.open.wait()
        return await NoLimit().acquire()


async def test_a_connection_that_closes_while_its_call_waits_for_the_token_is_replaced() -> None:
    closed = asyncio.Event()

    async def handle(number: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limiter.asked.clear()
        writer.write(answer(number))
        await limiter.asked.wait()  # by the next call, on this connection
        writer.close()
        await writer.wait_closed()
        closed.set()

    limiter = Once()
    async with serving(handle) as server, AsyncMMSClient("key", base_url=server.url, limiter=limiter) as mms:
        await send(mms, "+61400000001")
        for number in range(2, 12):
            closed.clear()
            limiter.open.clear()
            sending = asyncio.create_task(send(mms, f"+614000000{number:02}"))
            async with asyncio.timeout(60):
                await closed.wait()
            limiter.open.set()
            assert (await sending).accepted == 1
        limiter.asked.set()
        assert set(server.arrived.values()) == {1}
        assert server.connections == 11


class Closing:
    """A server in threads of its own that closes connections `keepalive` seconds after its last answer, and says when.

    Within the machine a close is there for the other end to see as soon as it returns.
    """

    def __init__(self, keepalive: float) -> None:
        self._keepalive = keepalive
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.arrived = Counter[str]()
        self.opened = 0
        self.closed: list[float] = []
        """When each close had returned."""

    def __enter__(self) -> Closing:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.opened += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with suppress(OSError):
            while data := connection.recv(65536):
                received += data
                if received.endswith(b"--\r\n"):
                    number = received[received.index(b'["') + 2 : received.index(b'"]')].decode()
                    self.arrived[number] += 1
                    received = b""
                    connection.sendall(answer(number))
                    connection.settimeout(self._keepalive)
        connection.close()
        self.closed.append(time.monotonic())


class After:
    """A limiter that grants after `delay` seconds, and notes when it did."""

    delay = 0.0
    granted = 0.0

    async def acquire(self) -> Any:
        await asyncio.sleep(self.delay)
        self.granted = time.monotonic()
        return await NoLimit().acquire()


@pytest.mark.parametrize("keepalive", [0.05, 0.1])
async def test_sends_do_not_ride_on_connections_that_the_server_is_closing(keepalive: float) -> None:
    """None is lost but those that a close crosses: one that returns when the token is spent already."""
    limiter, lost, crossings = After(), 0, 0
    with Closing(keepalive) as server:
        async with AsyncMMSClient("key", base_url=server.url, limiter=limiter) as mms:
            for turn in range(40):
                limiter.delay = keepalive * (0.7 + 0.6 * (turn * 7 % 40) / 40)  # on either side of the close
                try:
                    assert (await send(mms, f"+614000000{turn:02}")).accepted == 1
                except OutcomeUnknownError:
                    await until(lambda: len(server.closed) == server.opened)
                    lost += 1
                    crossings += server.closed[-1] >= limiter.granted
        assert lost == crossings
        assert sum(server.arrived.values()) == 40 - lost
        assert set(server.arrived.values()) == {1}
        assert server.opened > 5  # it did close while tokens were waited for


async def test_the_wait_for_the_token_counts_as_idle_time_of_the_connection() -> None:
    async def handle(number: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(number).replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=4\r\n\r\n", 1))

    limiter = After()
    async with serving(handle) as server, AsyncMMSClient("key", base_url=server.url, limiter=limiter) as mms:
        await send(mms, "+61400000001")
        await send(mms, "+61400000002")
        assert server.connections == 1
        limiter.delay = 2.2  # more than half of what the server promised
        await send(mms, "+61400000003")
        assert server.connections == 2


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells a close from data that waits")
async def test_a_close_that_the_pool_drops_in_silence_teaches_the_servers_patience() -> None:
    async def handle(number: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(number))
        if server.connections == 1:
            await asyncio.sleep(0.2)
            writer.close()
            await writer.wait_closed()
            closed.set()

    closed = asyncio.Event()
    async with serving(handle) as server, AsyncMMSClient("key", base_url=server.url, rate=None) as mms:
        await send(mms, "+61400000001")
        began = time.monotonic()
        await closed.wait()
        await send(mms, "+61400000002")
        assert server.connections == 2
        await asyncio.sleep(time.monotonic() - began)  # as long as the first lay idle, which is twice what is trusted
        await send(mms, "+61400000003")
        assert server.connections == 3


def test_what_is_learned_of_a_servers_patience() -> None:
    patience = Patience()
    assert patience.seconds(0) == LONGEST_IDLE
    patience.hear({"keep-alive": "max=100, timeout=1"}, 0.0)
    assert patience.seconds(0.0) == 0.5
    patience.closed_after(0.2, 10.0)
    assert patience.seconds(10.0) == 0.1
    patience.hear({"keep-alive": "timeout=60"}, 10.0)
    patience.hear({"keep-alive": "nonsense"}, 10.0)
    assert patience.seconds(10.0) == 0.1
    assert patience.seconds(70.0) == 0.2
    assert patience.seconds(1e9) == LONGEST_IDLE


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("pieces", ["one write", "two writes", "later"])
async def test_an_answer_that_was_written_twice_is_believed_once(tls: bool, pieces: str) -> None:
    async def handle(number: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if pieces == "one write":
            writer.write(answer(number) * 2)
        elif pieces == "two writes":
            writer.write(answer(number))
            writer.write(answer(number))
        else:
            writer.write(answer(number))
            await writer.drain()
            await first.wait()
            writer.write(answer(number))
        await writer.drain()

    first = asyncio.Event()
    authority = trustme.CA() if tls else None
    async with serving(handle, authority) as server:
        verify: Any = True
        if authority is not None:
            verify = ssl.create_default_context()
            authority.configure_trust(verify)
        async with AsyncMMSClient("key", base_url=server.url, rate=None, verify=verify) as mms:
            for number in range(5):
                to = f"+6140000000{number}"
                sent = await send(mms, to)
                assert [message.to for message in sent.messages] == [to]
                first.set()
                await asyncio.sleep(0.01)
        assert server.arrived == {f"+6140000000{number}": 1 for number in range(5)}
        assert server.connections == 5


async def test_after_an_answer_for_somebody_else_the_connection_is_closed() -> None:
    async def handle(number: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer("+61400000099"))

    async with serving(handle) as server, AsyncMMSClient("key", base_url=server.url, rate=None) as mms:
        for number in range(3):
            with pytest.raises(OutcomeUnknownError):
                await send(mms, f"+6140000000{number}")
            await until(lambda: server.ended == server.connections)  # at once, and not when the next send comes
        assert server.connections == 3


# Pauses ---------------------------------------------------------------------------------------------------------------


async def test_an_answer_that_came_while_the_loop_stood_still_is_read(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect(timeout=2.0)
    sandbox.faults.add(held := Held(), call="send-mms")
    sending = [asyncio.create_task(send(mms, f"+614000000{number:02}")) for number in range(20)]
    await until(lambda: len(sandbox.sends) == 20)  # every body has left
    held.answer.set()
    time.sleep(3.5)  # noqa: ASYNC251 -- that is what happens
    assert [result.accepted for result in await asyncio.gather(*sending)] == [1] * 20


class Asked:
    """A limiter that grants at once, and notes when."""

    at = 0.0

    async def acquire(self) -> Any:
        self.at = asyncio.get_running_loop().time()
        return await NoLimit().acquire()


async def test_an_answer_in_pieces_that_came_during_a_standstill_just_past_the_limit_is_read() -> None:
    """The loop stands still until a little after the limit, and the answer takes it many turns to read."""
    body = answer(ONE).partition(b"\r\n\r\n")[2]
    body = body[:-1] + b', "padding": "%s"}' % (b"x" * 400_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    written, limiter, timeout = threading.Event(), Asked(), 2.0

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            request = b""
            while not request.endswith(b"--\r\n"):
                request += connection.recv(65536)
            loop.call_soon_threadsafe(stand_still)
            connection.sendall(head + body)  # the kernel takes it all
            written.set()
            connection.recv(1)

    def stand_still() -> None:
        assert written.wait(30)
        time.sleep(max(0.0, limiter.at + timeout + GRACE / 2 - loop.time()))

    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with AsyncMMSClient("key", base_url=url, limiter=limiter, timeout=timeout) as mms:
            assert (await send(mms)).accepted == 1
        thread.join()


def test_a_deadline_speaks_in_time_and_is_not_put_off_for_ever() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        expired = asyncio.Event()
        began = loop.time()
        Deadline(5.0, expired.set)
        await expired.wait()
        assert loop.time() - began == pytest.approx(5.0 + GRACE)
        Deadline(1.0, expired.clear).cancel()
        await asyncio.sleep(3)
        assert expired.is_set()

    run(main())


async def test_a_loop_that_always_stands_still_ends_its_calls() -> None:
    expired = asyncio.Event()
    Deadline(0.0, expired.set)
    for _ in range(4 * MOST_GRACES):
        time.sleep(0.03)  # noqa: ASYNC251
        await asyncio.sleep(0.03)
    assert expired.is_set()


# Handshakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hung", [1, AT_WIRE])
async def test_a_hung_handshake_keeps_no_other_call_waiting(
    hung: int, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third connection that is opened on, so many get no answer to their handshake, for ever."""
    monkeypatch.setattr("mmsclient._transport.exchange.CONNECT_TIMEOUT", None)
    opened, release = 0, asyncio.Event()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        if 3 <= opened < 3 + hung:
            await release.wait()
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", sandbox.port)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    target.write(data)
            target.close()

        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    listening = await asyncio.start_server(forward, "127.0.0.1", 0)
    url = sandbox.url.replace(f":{sandbox.port}", f":{listening.sockets[0].getsockname()[1]}")
    verify = sandbox.ssl_context
    assert verify is not None
    async with AsyncMMSClient(sandbox.app_key, base_url=url, verify=verify, rate=200, max_attempts=1) as mms:
        calls = [asyncio.create_task(mms.account()) for _ in range(60)]
        async with asyncio.timeout(60):
            while sum(call.done() for call in calls) < 60 - hung:
                await asyncio.wait([call for call in calls if not call.done()], return_when="FIRST_COMPLETED")
        release.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, mmsclient.NotSentError) for result in results) == hung
    listening.close()
    await listening.wait_closed()


async def test_clients_share_the_default_certificates() -> None:
    assert adapter.default_context(True) is adapter.default_context(True)
    async with AsyncMMSClient("key-1") as first, AsyncMMSClient("key-2") as second:
        contexts = [
            each._session._transport._client._transport._pool._ssl_context  # type: ignore[attr-defined]
            for each in (first, second)
        ]
    assert contexts[0] is contexts[1]


async def test_the_host_stands_in_connection_errors(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect(max_attempts=1)
    with sandbox.refusing(), pytest.raises(mmsclient.NotSentError) as caught:
        await mms.account()
    assert caught.value.host == f"127.0.0.1:{sandbox.port}"
    assert f"account at 127.0.0.1:{sandbox.port}: " in str(caught.value)
