"""Who is measured at the cap: our client, and httpx behind each of its peers, used as their READMEs say."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import aiolimiter
import aiometer
import asynciolimiter
import httpx
import httpx_limiter
import pyrate_limiter
from attrs import frozen
from httpx_limiter.aiolimiter import AiolimiterAsyncLimiter

from mmsclient import AsyncMMSClient
from tests.support.counting import CAP

APP_KEY = "benchmark-app-key"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
FORM = {"numbers": '["61400000000"]', "mms_text": "Sale on now"}
FILES = {"mms_file": ("sale.png", PICTURE, "image/png")}
HEADERS = {"APPKEY": APP_KEY}


@frozen
class Tally:
    """What a contender saw of its own run."""

    refused: int = 0
    """Answers of HTTP 429."""
    waited: int | None = None
    """Calls that its limiter says had to wait."""


Run = Callable[[str, ssl.SSLContext, int], Awaitable[Tally]]


async def ours(url: str, tls: ssl.SSLContext, calls: int) -> Tally:
    async with AsyncMMSClient(APP_KEY, base_url=url, verify=tls, max_attempts=10) as mms:
        sends = (mms.send(to="0400000000", text="Sale on now", image=PICTURE) for _ in range(calls))
        await asyncio.gather(*sends)
        return Tally(refused=mms.stats.throttled)


async def post(client: httpx.AsyncClient, url: str) -> int:
    """The same request by bare httpx; the status of its answer."""
    return (await client.post(f"{url}/send-mms", data=FORM, files=FILES, headers=HEADERS)).status_code


def bare(tls: ssl.SSLContext, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=tls, timeout=60, trust_env=False, **options)


async def all_at_once(
    new_limiter: Callable[[], AbstractAsyncContextManager[Any]], url: str, tls: ssl.SSLContext, calls: int
) -> Tally:
    limiter = new_limiter()
    async with bare(tls) as client:

        async def send() -> int:
            async with limiter:
                return await post(client, url)

        return _tally(await asyncio.gather(*(send() for _ in range(calls))))


class _Waiting:
    """`async with` for a limiter that is asked by a call."""

    def __init__(self, wait: Callable[[], Awaitable[Any]]) -> None:
        self._wait = wait

    async def __aenter__(self) -> None:
        await self._wait()

    async def __aexit__(self, *exc_info: object) -> None:
        pass


async def by_aiometer(url: str, tls: ssl.SSLContext, calls: int) -> Tally:
    async with bare(tls) as client:
        return _tally(await aiometer.run_all([partial(post, client, url)] * calls, max_per_second=CAP))


async def by_httpx_limiter(url: str, tls: ssl.SSLContext, calls: int) -> Tally:
    limiter = AiolimiterAsyncLimiter.create(httpx_limiter.Rate.create(magnitude=CAP))
    transport = httpx_limiter.AsyncRateLimitedTransport.create(limiter=limiter, verify=tls)
    async with httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as client:
        return _tally(await asyncio.gather(*(post(client, url) for _ in range(calls))))


def _pyrate() -> _Waiting:
    limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(CAP, pyrate_limiter.Duration.SECOND))
    return _Waiting(partial(limiter.try_acquire_async, "sends"))


def _tally(statuses: list[int]) -> Tally:
    assert set(statuses) <= {200, 429}, statuses
    return Tally(refused=statuses.count(429))


OURS = "mmsclient"
CONTENDERS: dict[str, Run] = {
    OURS: ours,
    "aiolimiter (15, 1)": partial(all_at_once, partial(aiolimiter.AsyncLimiter, CAP, 1)),
    "aiolimiter (1, 1/15)": partial(all_at_once, partial(aiolimiter.AsyncLimiter, 1, 1 / CAP)),
    "asynciolimiter Leaky": partial(all_at_once, lambda: _Waiting(asynciolimiter.LeakyBucketLimiter(CAP).wait)),
    "asynciolimiter Strict": partial(all_at_once, lambda: _Waiting(asynciolimiter.StrictLimiter(CAP).wait)),
    "aiometer": by_aiometer,
    "pyrate-limiter": partial(all_at_once, _pyrate),
    "httpx-limiter": by_httpx_limiter,
}


def drive(name: str, url: str, tls: ssl.SSLContext, calls: int) -> Tally:
    """One run of one contender, in this process."""

    async def main() -> Tally:
        return await CONTENDERS[name](url, tls, calls)

    return asyncio.run(main())
