"""Who is served, above all while Redis is away, whatever happens in one pass of the event loop."""

from __future__ import annotations

import asyncio

import pytest

from mmsclient.limiter import CallKind
from mmsclient.limiter.changes import Changes
from mmsclient.limiter.redis.callers import Callers, NextCall, Offer
from mmsclient.limiter.redis.fallback import Fallback
from mmsclient.limiter.redis.leases import Leases
from mmsclient.limiter.redis.settings import checked


class Alone:
    """A process whose Redis is away."""

    def __init__(self, after: float = 0.0) -> None:
        options = checked(
            account="alone", rate=1000, burst=5, jitter=0.25, on_unavailable="share", processes=1, timeout=0.1
        )
        rule, changes = options.rule(), Changes()
        self.callers = Callers(changes, self.plan)
        self.leases = Leases(rule, options.lease(rule), changes, self.plan)
        self.leases.start()
        self.fallback = Fallback(options, rule, self.callers, self.leases)
        self.fallback.begin(asyncio.get_running_loop().time() - options.alone_after(rule) + after)

    def plan(self) -> None:
        self.fallback.plan()

    async def call(self) -> None:
        grant, _ = await self.callers.wait(asyncio.get_running_loop().time(), NextCall(CallKind.READ))
        grant.release()


async def test_a_caller_that_comes_as_redis_is_probed_is_served_after_that() -> None:
    alone = Alone()

    async def probe() -> None:
        await alone.fallback.pause()
        alone.fallback.resume()

    calling = asyncio.create_task(alone.call())
    probing = asyncio.create_task(probe())  # stops what was to serve the caller before its first step
    await asyncio.wait([calling], timeout=30)
    assert calling.done()
    await asyncio.gather(calling, probing)
    await alone.call()


async def test_who_cannot_be_served_gets_the_error_and_the_next_one_is_served() -> None:
    alone, now = Alone(), asyncio.get_running_loop().time()
    failing = asyncio.create_task(alone.callers.wait(now, NextCall("no kind")))  # type: ignore[arg-type]
    calling = asyncio.create_task(alone.call())
    await asyncio.wait([failing, calling], timeout=30)
    assert failing.done()
    assert isinstance(failing.exception(), TypeError)
    await calling


async def test_a_caller_that_comes_as_the_last_one_leaves_is_served() -> None:
    alone = Alone(after=0.05)
    leaving = asyncio.create_task(alone.call())
    await asyncio.sleep(0.01)  # it is waited for
    leaving.cancel()
    calling = asyncio.create_task(alone.call())
    await asyncio.wait([calling], timeout=30)
    assert calling.done()
    assert leaving.cancelled()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (NextCall(CallKind.UPLOAD, 300_000), NextCall(CallKind.READ, 400_000)),
        (NextCall(CallKind.UPLOAD, 300_000), NextCall(CallKind.UPLOAD, 299_999)),
    ],
)
async def test_a_grant_for_one_call_is_not_handed_to_the_caller_of_another(first: NextCall, second: NextCall) -> None:
    """Its slot may be free for the one and not yet for the other: the first caller left, and the next is another."""
    callers, given_back, now = Callers(Changes(), lambda: None), list[NextCall](), asyncio.get_running_loop().time()
    alone = Alone()

    def offer(call: NextCall) -> Offer:
        grant = alone.leases.grant("", call, 0)
        offer = Offer(call.kind, call.size, grant, lambda: given_back.append(call))
        callers.offer(offer)
        return offer

    leaving = asyncio.create_task(callers.wait(now, first))
    next_one = asyncio.create_task(callers.wait(now, second))
    await asyncio.sleep(0)
    assert callers.call == first
    leaving.cancel()
    await asyncio.wait([leaving])
    offer(first)
    assert given_back == [first]
    assert not next_one.done()
    offered = offer(second)
    assert (await next_one)[0] is offered.grant
    assert given_back == [first]


async def test_a_grant_that_is_taken_by_the_next_caller_is_of_its_size() -> None:
    callers, alone, now = Callers(Changes(), lambda: None), Alone(), asyncio.get_running_loop().time()
    waiting = asyncio.create_task(callers.wait(now, NextCall(CallKind.UPLOAD, 350_000)))
    await asyncio.sleep(0)
    grant = alone.leases.grant("", NextCall(CallKind.UPLOAD, 300_000), 0)
    callers.offer(Offer(CallKind.UPLOAD, 200_000, grant, lambda: None))
    assert (await waiting)[0] is grant
    assert grant.size == 350_000
