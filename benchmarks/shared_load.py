"""The load of several processes on one account, and the Redis server that they share."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import redis
from attrs import frozen

from benchmarks.contenders import APP_KEY, PICTURE
from benchmarks.server import HOST, Certificate
from mmsclient import AsyncMMSClient, Limiter
from tests.support.counting import CAP

CALLERS = 8
"""Callers of each process, each with one call after the other."""
SOON = 0.5
"""Seconds from the order to ask to the first call: all begin at once."""

Send = Callable[[], Awaitable[object]]


@frozen
class Demand:
    """What each process does: `callers` callers ask from `start` to `end`, monotonic seconds."""

    redis: str
    url: str
    certificate: Certificate
    start: float
    end: float
    cap: int = CAP
    callers: int = CALLERS

    async def ask(self, send: Send) -> int:
        """Do it; the calls that were answered in time."""
        served = 0

        async def caller() -> None:
            nonlocal served
            while time.monotonic() < self.end:
                await send()
                served += time.monotonic() < self.end

        await asyncio.sleep(self.start - time.monotonic())
        await asyncio.gather(*(caller() for _ in range(self.callers)))
        return served


async def by_our_client(demand: Demand, limiter: Limiter) -> int:
    tls = demand.certificate.for_client()
    async with AsyncMMSClient(APP_KEY, base_url=demand.url, verify=tls, limiter=limiter) as mms:
        return await demand.ask(lambda: mms.send(to="0400000000", text="Sale on now", image=PICTURE))


@contextmanager
def started_processes(count: int, module: str) -> Iterator[ProcessPoolExecutor]:
    """Processes that have started, and have imported `module`, which has what they are to do."""
    spawn = get_context("spawn")
    barrier = spawn.Barrier(count + 1)
    with ProcessPoolExecutor(count, spawn, initializer=_imported, initargs=(module, barrier)) as pool:
        for _ in range(count):
            pool.submit(int)  # each starts one, since none is idle yet
        barrier.wait()
        yield pool


def _imported(module: str, barrier: Barrier) -> None:
    import_module(module)
    barrier.wait()


@contextmanager
def redis_server(program: str) -> Iterator[int]:
    """The port of a Redis server of our own."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        command = [program, "--bind", HOST, "--port", str(port), "--save", "", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                with redis.Redis(HOST, port) as client:
                    for _ in range(200):
                        with suppress(redis.ConnectionError):
                            client.ping()
                            break
                        time.sleep(0.05)
                yield port
            finally:
                process.terminate()
