"""Callers that leave: nothing is torn, nothing is lost, and what had left is accounted for."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import mmsclient
from mmsclient import AsyncMMSClient, NotSentError
from mmsclient._transport import retry
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reset
from tests.conftest import PNG, Connect, injected, until
from tests.support.held import Held

ONE = "+61400000000"


class Closed:
    """A limiter that grants nothing until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = asyncio.Event()
        self.cancelled = 0

    async def acquire(self) -> mmsclient.Grant:
        self.asked.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await mmsclient.limiter.NoLimit().acquire()


class Cancelled:
    """A limiter that waits for something of its own, which is cancelled."""

    async def acquire(self) -> mmsclient.Grant:
        own = asyncio.get_running_loop().create_future()
        own.cancel()
        await own
        raise AssertionError


async def until_idle(mms: AsyncMMSClient) -> None:
    await until(lambda: not mms.stats.in_flight)


@pytest.mark.parametrize(("library", "tls", "rounds"), [(httpx, False, 150), (httpx, True, 100), (httpx2, True, 100)])
async def test_rounds_of_20_calls_cancelled_at_random(library: Any, tls: bool, rounds: int) -> None:
    """On a pool of 10. (Requests of httpx 0.28 that are torn like this lose the pool's slots within 100 rounds.)"""
    rng = random.Random(7)
    before = asyncio.all_tasks()

    async def leave(task: asyncio.Task[object]) -> None:
        for _ in range(rng.randrange(30)):
            await asyncio.sleep(0)
        if rng.random() < 0.3:
            await asyncio.sleep(rng.random() * 0.01)
        task.cancel()

    async with (
        Sandbox(tls=tls, rate=None) as sandbox,
        injected(library, sandbox.ssl_context, 10) as pool,
        sandbox.client(rate=None, max_in_flight=10, http_client=pool) as mms,
    ):
        for _ in range(rounds):
            calls = [asyncio.create_task(mms.account()) for _ in range(20)]
            await asyncio.gather(*(leave(task) for task in calls))
            await asyncio.gather(*calls, return_exceptions=True)
        await until_idle(mms)
        async with asyncio.timeout(60):
            await asyncio.gather(*(mms.account() for _ in range(40)))
        assert mms.stats.abandoned > 10  # some had left
        assert mms.stats.attempts < mms.stats.calls  # and some had not
        gates = mms._session._admission
        assert (gates._in_flight._free, gates._at_wire._free, gates._asking._free) == (10, 10, 1)
    gc.collect()
    assert asyncio.all_tasks() == before


async def test_a_call_that_waits_for_its_token_is_dropped(connect: Connect, sandbox: Sandbox) -> None:
    limiter = Closed()
    mms = connect(limiter=limiter)
    sending = asyncio.create_task(mms.send(to=ONE, text="Never", image=PNG))
    await limiter.asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await until_idle(mms)
    assert limiter.cancelled == 1
    limiter.open.set()
    await mms.account()
    assert mms.stats.abandoned == 0
    assert sandbox.calls["send-mms"] == 0


async def test_what_a_limiter_awaits_is_cancelled_and_its_caller_is_not(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect(limiter=Cancelled(), max_attempts=1)
    with pytest.raises(NotSentError, match="CancelledError"):
        await mms.send(to=ONE, text="Never", image=PNG)
    await mms.aclose()
    assert not sandbox.sends


async def test_a_call_that_waits_in_the_queue_is_dropped(connect: Connect, sandbox: Sandbox) -> None:
    limiter = Closed()
    mms = connect(limiter=limiter, max_in_flight=1)
    first = asyncio.create_task(mms.account())
    await limiter.asked.wait()
    second = asyncio.create_task(mms.send(to=ONE, text="Never", image=PNG))
    await until(lambda: mms.stats.waiting)
    second.cancel()
    await asyncio.wait([second])
    limiter.open.set()
    await first
    assert sandbox.calls["send-mms"] == 0


async def test_a_send_that_has_left_goes_on_and_its_end_is_logged(
    connect: Connect, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.add(held := Held())
    mms = connect()
    sending = asyncio.create_task(mms.send(to=ONE, text="Gone", image=PNG))
    await until(lambda: sandbox.sends)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending  # at once, not when the answer comes
    assert mms.stats.in_flight == 1
    held.answer.set()
    await mms.aclose()  # waits for it
    assert mms.stats.in_flight == 0
    assert mms.stats.abandoned == 1
    (record,) = [record for record in caplog.records if "cancelled" in record.message]
    assert record.levelno == logging.WARNING
    assert "1 of 1 recipient accepted" in record.message
    assert ONE not in caplog.text


async def test_what_had_left_and_failed_is_logged_too(
    connect: Connect, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    for fault in (held := Held(), Reset(carried_out=True)):
        sandbox.faults.add(fault)
    mms = connect()
    sending = asyncio.create_task(mms.send(to=ONE, text="Gone", image=PNG))
    await until(lambda: sandbox.sends)
    sending.cancel()
    await asyncio.wait([sending])
    held.answer.set()
    await mms.aclose()
    assert "it may have been carried out" in caplog.text


async def test_cancelling_the_wait_between_attempts_is_prompt(
    connect: Connect, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 10_000.0)
    monkeypatch.setattr(retry, "LONGEST_WAIT", 10_000.0)
    monkeypatch.setattr(retry, "TOTAL", 100_000.0)
    with sandbox.refusing():
        mms = connect(max_attempts=9)
        asking = asyncio.create_task(mms.account())
        await until(lambda: mms._session._counts.calls and not mms.stats.in_flight)
        asking.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait([asking])
        assert asking.cancelled()


async def test_closing_drops_what_has_not_left_and_tells_its_callers(connect: Connect, sandbox: Sandbox) -> None:
    limiter = Closed()
    mms = connect(limiter=limiter, max_in_flight=2)
    calls = [asyncio.create_task(mms.send(to=ONE, text="Never", image=PNG)) for _ in range(6)]
    await limiter.asked.wait()
    await mms.aclose()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [NotSentError] * 6
    assert "closed" in str(results[0])
    assert not sandbox.sends


async def test_a_cancelled_close_closes_all_the_same(sandbox: Sandbox) -> None:
    sandbox.faults.add(held := Held())
    mms = sandbox.client(rate=None)
    sending = asyncio.create_task(mms.send(to=ONE, text="Gone", image=PNG))
    await until(lambda: sandbox.sends)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await mms.aclose()
    assert scope.cancelled_caught
    held.answer.set()
    assert (await sending).accepted == 1
    await mms.aclose()  # the same closing
    assert mms._session._closing is not None
    assert mms._session._closing.done()


@pytest.mark.parametrize("way", ["asyncio.timeout", "anyio.CancelScope"])
async def test_the_end_of_the_client_waits_for_what_has_left(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    sandbox.faults.add(held := Held())
    limit, scope = asyncio.timeout(None), anyio.CancelScope()

    async def work() -> None:
        async with sandbox.client(rate=None) as mms:
            await mms.send(to=ONE, text="Gone", image=PNG)

    async def leave() -> None:
        if way == "anyio.CancelScope":
            with scope:
                await work()
        else:
            async with limit:
                await work()

    leaving = asyncio.create_task(leave())
    await until(lambda: sandbox.sends)
    scope.cancel()
    if way == "asyncio.timeout":
        limit.reschedule(0)
    for _ in range(20):  # the cancellation comes meanwhile, anyio's again and again
        await asyncio.sleep(0)
    assert not leaving.done()
    held.answer.set()
    await asyncio.wait([leaving])
    assert isinstance(leaving.exception(), TimeoutError if way == "asyncio.timeout" else type(None))
    assert "its caller was cancelled after it had left; 1 of 1 recipient accepted" in caplog.text


def test_tasks_that_are_cancelled_before_they_run_lose_no_permit(sandbox: Sandbox) -> None:
    async def main() -> None:
        async with sandbox.client(rate=None, max_in_flight=3) as mms:
            for _ in range(4):
                calls = [asyncio.create_task(mms.account()) for _ in range(3)]
                await asyncio.sleep(0)
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            async with asyncio.timeout(60):
                assert (await mms.account()).name

    asyncio.run(main())


async def test_calls_that_got_their_token_as_the_client_closed(sandbox: Sandbox) -> None:
    for _ in range(30):
        async with sandbox.client(rate=1000) as mms:
            calls = [asyncio.create_task(mms.send(to=ONE, text="Now?", image=PNG)) for _ in range(4)]
            await asyncio.sleep(0.005)
            await mms.aclose()
            for result in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(result, mmsclient.SentBatch | NotSentError)


async def test_a_connection_that_waited_long_for_its_token_is_replaced(
    connect: Connect, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsclient._transport.exchange.STALE_AFTER", 0.0)
    limiter = Closed()
    mms = connect(limiter=limiter)
    asking = asyncio.create_task(mms.account())
    await limiter.asked.wait()
    limiter.open.set()
    assert (await asking).name
    assert sandbox.calls["account"] == 1


def test_an_event_loop_that_ends_with_calls_under_way(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        sandbox.faults.add(Latency(30, carried_out=True))
        mms = sandbox.client(rate=None)
        asyncio.create_task(mms.send(to=ONE, text="Gone", image=PNG))  # noqa: RUF006
        await until(lambda: sandbox.sends)
        mms._session._owns_transport = False  # the warning of a client that was not closed is tested elsewhere

    asyncio.run(main())
    assert "the event loop was stopped" in caplog.text
    gc.collect()
