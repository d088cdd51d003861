"""How many callbacks a second the receiver takes, beside a bare Starlette route that only parses JSON, in turn."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
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

from benchmarks.databases import postgres
from benchmarks.report import Goal, Options, Report, Table
from benchmarks.server import HOST
from mmsclient._store.models import ListEntry, Message, RecipientResult, RecipientState
from mmsclient._store.stores import JournalStore, store_at
from mmsclient.models import DeliveryReport
from mmsclient.webhooks import CallbackReceiver

TOKEN = "the-token-of-the-benchmark"  # noqa: S105
CONNECTIONS = 64
"""Callbacks at a time. What waits for the disk can share a flush of it, which takes milliseconds, with these alone."""
FIRST = 61400000000
BATCH = 1500
"""Callbacks in a row of one contender, before it is the next one's turn."""
TURNS = {False: 5, True: 15}
BARE, MOUNTED, ALONE = "bare Starlette route", "receiver in Starlette", "receiver alone"
IN_FILE, RECORDING = "receiver with a file", "receiver that records into a campaign's file"
IN_POSTGRES, RECORDING_IN_POSTGRES = "receiver with PostgreSQL", "receiver that records into PostgreSQL"
GOALS = {
    MOUNTED: ("the receiver takes at least {} of a bare route", 0.8),
    IN_FILE: ("with a SQLite file at least {}", 0.7),
    RECORDING: ("recording into a campaign's SQLite file at least {}", 0.6),
    IN_POSTGRES: ("with PostgreSQL at least {}", 0.5),
    RECORDING_IN_POSTGRES: ("recording into PostgreSQL at least {}", 0.5),
}
"""Callbacks a second, as a share of the bare route's."""


def run(options: Options) -> Report:
    report = Report("receive")
    turns = TURNS[options.full]
    numbers = count()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = postgres(stack)
        names = [name for name in (BARE, *GOALS, ALONE) if url or "PostgreSQL" not in name]
        for store in [store_at(folder / "spring.db"), *([store_at(url, "spring")] if url else [])]:
            _fill(store, len(names) * (turns + 1) * BATCH)
        ports = stack.enter_context(_served(names, folder, url))
        report.figures["flush"] = _flush_seconds(folder)
        rates: dict[str, list[float]] = {name: [] for name in ports}
        for turn in range(turns + 1):
            for name, port in ports.items():
                rate = asyncio.run(_rate(port, numbers))
                if turn:  # the first one warms up
                    rates[name].append(rate)
    rows = []
    for name, measured in rates.items():
        share = median(ours / bare for ours, bare in zip(measured, rates[BARE], strict=True))
        report.figures[name] = {"rate": median(measured), "share": share}
        rows.append([name, f"{median(measured):.0f}/s", f"{share:.2f}"])
    title = (
        f"callbacks of one report each, {CONNECTIONS} connections, uvicorn, one process; medians;"
        f" a flush of the disk takes {report.figures['flush'] * 1000:.1f} ms"
    )
    report.tables.append(Table(title, ["", "rate", "of the bare route"], rows))
    for name, (text, goal) in GOALS.items():
        if name in report.figures:
            share = report.figures[name]["share"]
            report.goals.append(Goal(text.format(goal), f"{share:.2f}", share >= goal))
    return report


def _flush_seconds(folder: Path) -> float:
    """What a commit on the disk waits for, whoever makes it."""
    found = []
    with (folder / "flushed").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            found.append(time.perf_counter() - began)
    return median(found)


def _fill(store: JournalStore, recipients: int) -> None:
    """A campaign whose recipients were all accepted, under the ids that the reports name."""
    with closing(store.open(Message("Sale on now", "", b"GIF89a"))) as journal:
        for first in range(0, recipients, 1000):
            journal.add(ListEntry(n, _phone(n), int(_phone(n))) for n in range(first, min(first + 1000, recipients)))
        while claim := journal.claim(1000):
            found = [RecipientResult(RecipientState.ACCEPTED, _message_id(phone - FIRST)) for phone in claim.phones]
            journal.finish(claim, found, accepted=len(found), credits_used=None, error=None)


async def _rate(port: int, numbers: Iterator[int]) -> float:
    """Callbacks a second over `BATCH` new ones."""
    requests = [_request(next(numbers)) for _ in range(BATCH)]
    began = time.perf_counter()
    await asyncio.gather(*(_post(port, requests[first::CONNECTIONS]) for first in range(CONNECTIONS)))
    return BATCH / (time.perf_counter() - began)


def _request(number: int) -> bytes:
    item = {"message_id": _message_id(number), "status": "Delivered", "recipient": _phone(number)}
    body = json.dumps([item]).encode()
    head = (
        f"POST /mms/{TOKEN} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


def _message_id(number: int) -> str:
    return f"A21741CB-{number:012}"


def _phone(number: int) -> str:
    return str(FIRST + number)


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
def _served(names: list[str], folder: Path, url: str) -> Iterator[dict[str, int]]:
    """The port of each contender, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ports, pipes, processes = {}, [], []
    try:
        for name in names:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(name, folder, url, theirs), daemon=True)
            process.start()
            processes.append(process)
            pipes.append(ours)
            ports[name] = ours.recv()
        yield ports
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _serve(name: str, folder: Path, url: str, pipe: Connection) -> None:
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # said, or asyncio leaves TCP_NODELAY off
    listener.bind((HOST, 0))
    listener.listen(256)
    pipe.send(listener.getsockname()[1])
    app = _app(name, folder, url)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", loop="asyncio")
    uvicorn.Server(config).run(sockets=[listener])


def _app(name: str, folder: Path, url: str) -> Any:
    handled: list[str] = []
    if name == BARE:

        async def take(request: Request) -> Response:
            handled.extend(item["message_id"] for item in json.loads(await request.body()))
            return Response("OK")

        return Starlette(routes=[Route(f"/mms/{TOKEN}", take, methods=["POST"])])
    seen: dict[str, str | Path] = {IN_FILE: folder / "seen.sqlite", IN_POSTGRES: url}
    receiver = CallbackReceiver(token=TOKEN, seen=seen.get(name))
    if name == RECORDING:
        receiver.record_into(folder / "spring.db")
    elif name == RECORDING_IN_POSTGRES:
        receiver.record_into(url, name="spring")
    else:

        @receiver.on_delivery_report
        async def note(report: DeliveryReport) -> None:
            handled.append(report.message_id)

    return receiver if name == ALONE else Starlette(routes=[Mount("/mms", receiver)])
