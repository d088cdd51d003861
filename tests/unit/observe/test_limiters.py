"""What observers are told of limiters."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from mmsclient import LimiterUnavailableError, SharedTokenBucket, TokenBucket
from mmsclient.limiter.changes import RateListener
from mmsclient.observe import CallEnded, LimiterAway, LimiterBack, Outcome, RateChanged
from mmsclient.observe.calls import ClientObserver
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Respond
from tests.conftest import Connect
from tests.support.observing import Told
from tests.support.redis_server import Server
from tests.support.virtual_time import run


def test_a_throttling_and_the_recovery_from_it_are_told_in_steps() -> None:
    told = Told()

    async def main() -> None:
        bucket = TokenBucket(15)
        observer = ClientObserver(told)
        bucket.on_rate(observer)
        (await bucket.acquire()).release(throttled=True)
        loop = asyncio.get_running_loop()
        end = loop.time() + 120
        while loop.time() < end:
            (await bucket.acquire()).release()

    run(main())
    rates = [event.rate for event in told.of(RateChanged)]
    assert {event.full for event in told.of(RateChanged)} == {15}
    assert rates[0] == pytest.approx(12)
    assert rates[1:] == sorted(rates[1:])
    assert rates[-1] == 15
    assert 3 <= len(rates) <= 6


async def test_a_client_tells_what_its_limiter_does(connect: Connect, sandbox: Sandbox, impatient: None) -> None:
    told = Told()
    mms = connect(limiter=TokenBucket(1000), observer=told)
    sandbox.faults.add(Respond(429), times=1)
    await mms.account()
    assert told.of(RateChanged)[0].rate < 1000


def test_a_listener_that_is_gone_is_told_no_more_and_a_limiter_keeps_none() -> None:
    bucket = TokenBucket(15)
    listener: RateListener = ClientObserver(Told())
    bucket.on_rate(listener)
    gone = weakref.ref(listener)
    del listener
    gc.collect()
    assert gone() is None


@pytest.fixture
def redis_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.mark.parametrize("shares", [True, False])
async def test_redis_away_and_back_is_told_once_each(redis_server: Server, sandbox: Sandbox, shares: bool) -> None:
    import signal  # noqa: PLC0415

    told = Told()
    options = {"on_unavailable": "share", "processes": 1} if shares else {}
    limiter = SharedTokenBucket(redis_server.url, account="shop", jitter=0.0, **options)  # type: ignore[arg-type]
    async with limiter, sandbox.client(limiter=limiter, observer=told, max_attempts=1) as mms:
        await mms.account()
        redis_server.signal(signal.SIGKILL)
        for _ in range(2):
            if shares:
                await mms.account()
            else:
                with pytest.raises(LimiterUnavailableError):
                    await mms.account()
        away = told.one(LimiterAway)
        assert away.shares is shares
        assert away.error.endswith("Error")
        redis_server.start()
        async with asyncio.timeout(60):
            while not told.of(LimiterBack):
                await mms.account()
    assert told.one(LimiterBack).seconds > 0
    failed = [event for event in told.of(CallEnded) if event.outcome is Outcome.NOT_SENT]
    assert len(failed) == (0 if shares else 2)
