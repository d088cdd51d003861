"""Workers of one outbox in several processes, on one account and one database."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

from attrs import frozen

from benchmarks.contenders import APP_KEY, PICTURE
from benchmarks.databases import postgres
from benchmarks.server import Certificate, Server, Setting
from mmsclient import AsyncMMSClient, SharedTokenBucket
from mmsclient.outbox import Outbox
from tests.support import counting
from tests.support.counting import CAP

WORKERS = 4


@frozen
class OutboxFigures:
    calls: int
    refused: int
    """By the log of the last second."""
    used: float
    """Of the cap, from the first call to the last."""
    most: float
    """The largest part of the calls that one worker made."""


def measured(setting: Setting, redis: str, seconds: float) -> OutboxFigures | None:
    """What the workers send in `seconds` from an outbox that holds more; None where there is no PostgreSQL."""
    with ExitStack() as stack:
        store = postgres(stack)
        if not store:
            return None
        server = stack.enter_context(Server(setting))
        pool = stack.enter_context(ProcessPoolExecutor(WORKERS, get_context("spawn")))
        asyncio.run(_put(store, server.url, server.certificate, int(1.2 * CAP * seconds)))
        end = time.monotonic() + seconds
        works = [pool.submit(_work, store, redis, server.url, server.certificate, end) for _ in range(WORKERS)]
        sent = [work.result() for work in works]
        arrivals = server.seen().arrivals
    refused, used = counting.log_of_the_last_second(arrivals), counting.used(arrivals)
    return OutboxFigures(len(arrivals), refused, used, max(sent) / len(arrivals))


async def _put(store: str, url: str, certificate: Certificate, orders: int) -> None:
    """Orders with a text each, so that none shares its call."""
    async with AsyncMMSClient(APP_KEY, base_url=url, verify=certificate.for_client()) as mms:
        outbox = Outbox(mms, store)
        for number in range(orders):
            await outbox.put(key=f"order-{number}", to="0400000000", text=f"Order {number} is ready", image=PICTURE)
        await outbox.aclose()


def _work(store: str, redis: str, url: str, certificate: Certificate, end: float) -> int:
    """Send until `end`; the calls that were made."""
    return asyncio.run(_send(store, redis, url, certificate, end))


async def _send(store: str, redis: str, url: str, certificate: Certificate, end: float) -> int:
    tls = certificate.for_client()
    async with (
        SharedTokenBucket(redis, account="benchmark", rate=CAP) as limiter,
        AsyncMMSClient(APP_KEY, base_url=url, verify=tls, limiter=limiter) as mms,
        Outbox(mms, store) as outbox,
    ):
        await asyncio.sleep(end - time.monotonic())
        outbox.stop()
        await outbox.stopped()
        return mms.stats.calls
