"""How many callbacks a second the receiver takes, beside a bare Starlette route that only parses JSON, in turn."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from benchmarks.report import Goal, Options, Report, Table
from benchmarks.server import HOST
from mmsclient.models import DeliveryReport
from mmsclient.webhooks import CallbackReceiver

TOKEN = "the-token-of-the-benchmark"  # noqa: S105
CONNECTIONS = 8
BATCH = 1500
"""Callbacks in a row of one contender, before it is the next one's turn."""
TURNS = {False: 5, True: 15}
BARE, MOUNTED, ALONE, IN_FILE = (
    "bare Starlette route",
    "receiver in Starlette",
    "receiver alone",
    "receiver with a file",
)
GOAL = 0.8
"""Callbacks a second, as a share of the bare route's."""


def run(options: Options) -> Report:
    report = Report("receive")
    numbers = count()
    with _served() as ports:
        rates: dict[str, list[float]] = {name: [] for name in ports}
        for turn in range(TURNS[options.full] + 1):
            for name, port in ports.items():
                rate = asyncio.run(_rate(port, numbers))
                if turn:  # the first one warms up
                    rates[name].append(rate)
    rows = []
    for name, measured in rates.items():
        share = median(ours / bare for ours, bare in zip(measured, rates[BARE], strict=True))
        report.figures[name] = {"rate": median(measured), "share": share}
        rows.append([name, f"{median(measured):.0f}/s", f"{share:.2f}"])
    title = f"callbacks of one report each, {CONNECTIONS} connections, uvicorn, one process; medians"
    report.tables.append(Table(title, ["", "rate", "of the bare route"], rows))
    share = report.figures[MOUNTED]["share"]
    report.goals.append(Goal(f"the receiver takes at least {GOAL} of a bare route", f"{share:.2f}", share >= GOAL))
    return report


async def _rate(port: int, numbers: Iterator[int]) -> float:
    """Callbacks a second over `BATCH` new ones."""
    requests = [_request(next(numbers)) for _ in range(BATCH)]
    began = time.perf_counter()
    await asyncio.gather(*(_post(port, requests[first::CONNECTIONS]) for first in range(CONNECTIONS)))
    return BATCH / (time.perf_counter() - began)


def _request(number: int) -> bytes:
    item = {"message_id": f"A21741CB-{number:012}", "status": "Delivered", "recipient": "61400000000"}
    body = json.dumps([item]).encode()
    head = (
        f"POST /mms/{TOKEN} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


async def _post(port: int, requests: list[bytes]) -> None:
    """Post one after the other on one connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    with closing(writer):
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))


@contextmanager
def _served() -> Iterator[dict[str, int]]:
    """The port of each contender, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ports, pipes, processes = {}, [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in (BARE, MOUNTED, ALONE, IN_FILE):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(name, folder, theirs), daemon=True)
            process.start()
            ports[name] = ours.recv()
            pipes.append(ours)
            processes.append(process)
        try:
            yield ports
        finally:
            for process in processes:
                process.terminate()
                process.join()


def _serve(name: str, folder: str, pipe: Connection) -> None:
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # said, or asyncio leaves TCP_NODELAY off
    listener.bind((HOST, 0))
    listener.listen(256)
    pipe.send(listener.getsockname()[1])
    config = uvicorn.Config(_app(name, Path(folder)), log_config=None, access_log=False, lifespan="off", loop="asyncio")
    uvicorn.Server(config).run(sockets=[listener])


def _app(name: str, folder: Path) -> Any:
    handled: list[str] = []
    if name == BARE:

        async def take(request: Request) -> Response:
            handled.extend(item["message_id"] for item in json.loads(await request.body()))
            return Response("OK")

        return Starlette(routes=[Route(f"/mms/{TOKEN}", take, methods=["POST"])])
    receiver = CallbackReceiver(token=TOKEN, seen=folder / "seen.sqlite" if name == IN_FILE else None)

    @receiver.on_delivery_report
    async def note(report: DeliveryReport) -> None:
        handled.append(report.message_id)

    return receiver if name == ALONE else Starlette(routes=[Mount("/mms", receiver)])
