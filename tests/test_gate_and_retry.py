"""The queue's fairness, and what may be repeated."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsclient
from mmsclient import retry, session
from mmsclient.errors import CallError
from mmsclient.gate import Gate
from mmsclient.limiter import NoLimit
from tests.conftest import Connect, until


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    gate, order = Gate(2), list[int]()

    async def enter(number: int) -> None:
        async with gate:
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(enter(number) for number in range(50)))
    assert order == list(range(50))


async def test_a_newcomer_does_not_overtake() -> None:
    gate = Gate(1)
    await gate.acquire()
    first = asyncio.create_task(gate.acquire())
    await settle()
    gate.release()  # handed to the first, which has not run yet
    second = asyncio.create_task(gate.acquire())
    await settle()
    assert first.done()
    assert not second.done()
    gate.release()
    await second


async def test_a_gate_that_shrinks_lets_nobody_in_until_enough_have_left_and_one_that_grows_lets_more_in() -> None:
    gate = Gate(3)
    for _ in range(3):
        await gate.acquire()
    waiters = [asyncio.create_task(gate.acquire()) for _ in range(5)]
    await settle()
    gate.resize(1)
    gate.release()
    gate.release()
    await settle()
    assert not any(waiter.done() for waiter in waiters)
    gate.release()
    await settle()
    assert [waiter.done() for waiter in waiters] == [True, False, False, False, False]
    gate.resize(4)
    await settle()
    assert [waiter.done() for waiter in waiters] == [True, True, True, True, False]
    gate.resize(2)
    gate.resize(5)
    await settle()
    assert waiters[4].done()
    assert gate.waiting == 0


class Slow:
    """A limiter that grants a token when it is told to; `waiting` callers stand at the wire for one."""

    def __init__(self) -> None:
        self.tokens = asyncio.Semaphore(0)
        self.waiting = 0

    async def acquire(self) -> mmsclient.Grant:
        self.waiting += 1
        try:
            await self.tokens.acquire()
        finally:
            self.waiting -= 1
        return NoLimit()


async def test_fewer_stand_at_the_wire_where_tokens_are_slow(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that wait long are opened anew; those calls wait before they have one."""
    limiter = Slow()
    mms = connect(limiter=limiter)
    calls = [asyncio.create_task(mms.account()) for _ in range(60)]

    async def grant(count: int) -> None:
        for _ in range(count):
            limiter.tokens.release()
            attempts = mms.stats.attempts
            await until(lambda: mms.stats.attempts > attempts)  # noqa: B023

    await until(lambda: limiter.waiting == session.AT_WIRE)
    monkeypatch.setattr(session, "LONG_WAIT", -1.0)  # every wait is too long
    await grant(20)
    await until(lambda: limiter.waiting == 1)
    monkeypatch.setattr(session, "LONG_WAIT", 60.0)
    monkeypatch.setattr(session, "SHORT_WAIT", 60.0)  # and now none is
    await grant(5)
    await until(lambda: limiter.waiting == 6)
    await grant(20)
    await until(lambda: limiter.waiting == session.AT_WIRE)
    for _ in range(15):
        limiter.tokens.release()
    await asyncio.gather(*calls)


@given(st.integers(1, 4), st.integers(0, 10_000))
def test_cancelled_waiters_lose_no_permit(permits: int, seed: int) -> None:
    async def storm() -> None:
        rng, gate, inside = random.Random(seed), Gate(permits), 0

        async def enter() -> None:
            nonlocal inside
            async with gate:
                inside += 1
                assert inside <= permits
                try:
                    await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(enter()) for _ in range(40)]
        for _ in range(30):
            await asyncio.sleep(0)
            rng.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.waiting == 0
        await asyncio.gather(*(gate.acquire() for _ in range(permits)))  # all permits are there
        late = asyncio.create_task(gate.acquire())
        await settle()
        assert not late.done()  # and no more
        late.cancel()

    asyncio.run(storm())


async def test_waiters_that_left_are_not_kept() -> None:
    gate = Gate(1)
    await gate.acquire()
    for _ in range(20):
        tasks = [asyncio.create_task(gate.acquire()) for _ in range(100)]
        await settle()
        for task in tasks:
            task.cancel()
        await settle()
    assert gate.waiting == 0
    assert len(gate._queue) < 200


def failure(cls: type[CallError], **more: Any) -> CallError:
    error = cls("x", call="send-mms")
    error.__dict__.update(more)
    return error


@pytest.mark.parametrize(
    ("cls", "a_send", "a_read"),
    [
        (mmsclient.RateLimitError, True, True),
        (mmsclient.NotSentError, True, True),
        (mmsclient.OutcomeUnknownError, False, True),
        (mmsclient.TransportError, False, True),
        (mmsclient.ServerError, False, True),
        (mmsclient.APIError, False, False),
        (mmsclient.AuthenticationError, False, False),
        (mmsclient.FieldInvalidError, False, False),
        (mmsclient.InsufficientCreditError, False, False),
    ],
)
def test_what_may_be_repeated(cls: type[CallError], a_send: bool, a_read: bool) -> None:
    assert retry.may_repeat(failure(cls), repeatable=False) is a_send
    assert retry.may_repeat(failure(cls), repeatable=True) is a_read


@given(st.integers(2, 50))
def test_waits_are_bounded(attempt: int) -> None:
    wait = retry.wait_before(attempt, failure(mmsclient.NotSentError))
    assert wait is not None
    assert 0 <= wait <= min(retry.LONGEST_WAIT, retry.FIRST_WAIT * 2 ** (attempt - 2))


def test_retry_after_is_obeyed_within_its_bound() -> None:
    wait = retry.wait_before(2, failure(mmsclient.RateLimitError, retry_after=7.0))
    assert wait is not None
    assert 7.0 <= wait <= 7.5
    assert retry.wait_before(2, failure(mmsclient.RateLimitError, retry_after=3600.0)) is None
