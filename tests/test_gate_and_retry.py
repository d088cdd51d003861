"""The queue's fairness, and what may be repeated."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsclient
from mmsclient import retry
from mmsclient.errors import CallError
from mmsclient.gate import Gate


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
