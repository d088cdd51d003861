"""The far end: an API that notes when calls arrive, behind a network with delay and jitter, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import trustme
from attrs import define, frozen

HOST = "127.0.0.1"
PREFIX = "/api/v3"
TICK = 0.005
"""Seconds between the looks at the clock that tell how late this machine runs its timers."""

MODELS: dict[str, Callable[[Random], float]] = {
    "none": lambda _: 0.0,
    "uniform": lambda random: random.uniform(0, 0.05),
    "exponential": lambda random: random.expovariate(1 / 0.02),
    "cold": lambda _: 0.0,
}
"""Seconds that are added to the way of every message."""

BACK_TO_BACK = 0.005
"""Seconds within which what is sent belongs to one message: packets in a row meet the same queues on their way."""

COLD = 0.15
"""Seconds more that a connection takes to open in the model "cold"."""


@frozen
class Certificate:
    """Files of a certificate for this machine and of the authority that vouches for it."""

    directory: Path

    @classmethod
    def new(cls, directory: Path) -> Self:
        authority = trustme.CA()
        issued = authority.issue_cert(HOST, "localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
        authority.cert_pem.write_to_path(directory / "authority.pem")
        return cls(directory)

    @property
    def pem(self) -> Path:
        """Key and chain."""
        return self.directory / "server.pem"

    def for_server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        return context

    def for_client(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.directory / "authority.pem")
        return context


@frozen
class Setting:
    """What the server does."""

    model: str | None = None
    """A network of this model before the API; None for none."""
    way: float = 0.02
    """Seconds that every message takes each way through it, at least."""
    work: tuple[float, float] = (0.02, 0.08)
    """Seconds that an answer takes, at least and at most."""
    pages: int = 1
    """Pages of the listing."""
    through: int | None = None
    """The network leads to this port, where another server stands before the API, which then talks no TLS."""
    seed: int = 0


@frozen
class Seen:
    """What the server has seen."""

    arrivals: list[float]
    """Monotonic seconds at which the head of each call was there, sorted."""
    late: list[float]
    """Seconds by which the timers of its process were late: what the machine itself adds to every figure."""


class Server:
    """The API in another process. Use with `with`."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory()
        self.certificate = Certificate.new(Path(self._directory.name))
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, self._setting, self.certificate), daemon=True)
        self._process.start()
        self.origin_port, self.port = self._pipe.recv()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._pipe.close()  # it ends with its pipe
        self._process.join()
        self._directory.cleanup()

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}{PREFIX}"

    def seen(self) -> Seen:
        """What it has seen since it was last asked."""
        self._pipe.send(None)
        seen: Seen = self._pipe.recv()
        return seen


def _serve(pipe: Connection, setting: Setting, certificate: Certificate) -> None:
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(pipe, setting, certificate))


async def _run(pipe: Connection, setting: Setting, certificate: Certificate) -> None:
    loop = asyncio.get_running_loop()
    api = Api(setting)
    tls = certificate.for_server() if setting.through is None else None
    origin = await loop.create_server(partial(Caller, api), HOST, 0, ssl=tls, backlog=1000)
    port = origin_port = origin.sockets[0].getsockname()[1]
    if setting.model is not None:
        network = Network(setting, setting.through or origin_port)
        relay = await asyncio.start_server(network.accept, HOST, 0, backlog=1000)
        port = relay.sockets[0].getsockname()[1]
    pipe.send((origin_port, port))
    late: list[float] = []
    ticking = loop.create_task(_tick(late))
    while True:
        try:
            await _readable(pipe)
            pipe.recv()
        except EOFError:
            break
        pipe.send(Seen(sorted(api.arrivals), sorted(late)))
        api.arrivals.clear()
        late.clear()
    ticking.cancel()


async def _readable(pipe: Connection) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe.fileno(), readable.set)
    await readable.wait()
    loop.remove_reader(pipe.fileno())


async def _tick(late: list[float]) -> None:
    while True:
        due = time.monotonic() + TICK
        await asyncio.sleep(TICK)
        late.append(time.monotonic() - due)


class Network:
    """A relay: what is sent through it arrives later, in order."""

    def __init__(self, setting: Setting, port: int) -> None:
        self._random = Random(setting.seed)
        self._way = setting.way
        self._jitter = MODELS[setting.model or "none"]
        self._opening = COLD if setting.model == "cold" else 0.0
        self._port = port
        self._connections: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.get_running_loop().create_task(self._connect(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self._way + self._opening)  # TCP's own handshake
        far_reader, far_writer = await asyncio.open_connection(HOST, self._port)
        with suppress(OSError):
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, due, read, jitter = asyncio.get_running_loop(), 0.0, 0.0, 0.0
        try:
            while data := await reader.read(2**16):
                now = loop.time()
                if now - read > BACK_TO_BACK:
                    jitter = self._jitter(self._random)
                read, due = now, max(due + 1e-6, now + self._way + jitter)
                loop.call_at(due, self._write, writer, data)
        finally:
            loop.call_at(due + 1e-6, writer.close)

    @staticmethod
    def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
        if not writer.is_closing():
            writer.write(data)


class Api:
    """Answers every call with success."""

    def __init__(self, setting: Setting) -> None:
        self._random = Random(setting.seed)
        self._setting = setting
        self.arrivals: list[float] = []

    def arrived(self) -> None:
        self.arrivals.append(time.monotonic())

    def work(self) -> float:
        return self._random.uniform(*self._setting.work)

    def answer(self, target: bytes) -> bytes:
        _, _, page = target.partition(b"page=")
        body = self._page(int(page)) if page else _ANSWERS[target.rpartition(b"/")[2]]
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def _page(self, number: int) -> bytes:
        texts = [{"template_id": str(25 * number + n), "message_title": "Title", "Message": "Text"} for n in range(25)]
        page = {"count": str(self._setting.pages), "number": number}
        return _success({"page": page, "total": 25 * self._setting.pages, "responses": texts})


def _success(data: object) -> bytes:
    return json.dumps({"meta": {"code": 200, "status": "SUCCESS"}, "msg": "OK", "data": data}).encode()


_ANSWERS = {
    b"account": _success(
        {"account_name": "N", "account_email": "n@example.com", "sms_balance": "1.00", "mms_balance": "1.00"}
    ),
    b"send-mms": _success(
        {
            "messages": [{"message_id": "1", "from": "61400000001", "to": "61400000000", "body": "", "date": ""}],
            "total_numbers": 1,
            "success_number": 1,
            "credits_used": 1,
        }
    ),
}


class Caller(asyncio.Protocol):
    """A connection to the API: HTTP/1.1, one call after the other."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._received = bytearray()
        self._call: Call | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._call is None:
            head, end, _ = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            self._api.arrived()
            self._call = Call.read(bytes(head))
            del self._received[: len(head) + len(end)]
        if len(self._received) >= self._call.length:
            del self._received[: self._call.length]
            loop, answer = asyncio.get_running_loop(), self._api.answer(self._call.target)
            loop.call_later(self._api.work(), self._transport.write, answer)
            self._call = None


@define
class Call:
    target: bytes
    length: int

    @classmethod
    def read(cls, head: bytes) -> Self:
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(b":") for line in lines)}
        return cls(first.split(b" ")[1], int(headers.get(b"content-length", 0)))
