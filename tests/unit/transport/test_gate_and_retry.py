"""The queue's fairness, and what may be repeated."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsclient
from mmsclient import TokenBucket
from mmsclient._api.calls import account
from mmsclient._api.types import Call
from mmsclient._capacity import CapacityLimiter
from mmsclient._transport import retry
from mmsclient._transport.admission import AT_WIRE, FIRST_AT_WIRE
from mmsclient._transport.connections import Keepalive
from mmsclient._transport.session import Session
from mmsclient.errors import CallError
from tests.support.virtual_time import run


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    gate, order = CapacityLimiter(2), list[int]()

    async def enter(number: int) -> None:
        async with gate:
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(enter(number) for number in range(50)))
    assert order == list(range(50))


async def test_a_newcomer_does_not_overtake() -> None:
    gate = CapacityLimiter(1)
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
    gate = CapacityLimiter(3)
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


class Wire:
    """A transport in virtual time that tells of its steps as the HTTP libraries do."""

    is_traced = True
    is_closed = False
    host = "wire"

    def __init__(self) -> None:
        self.keepalive = Keepalive()
        self.connections = 0
        self.waiting = self.most = 0

    def request(self, call: Call[Any], timeouts: Any, trace: Any) -> Any:
        return trace

    async def send(self, trace: Any) -> Any:
        self.connections += 1
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await trace("http11.send_request_headers.started", {"request": SimpleNamespace(method=b"GET")})
        finally:
            self.waiting -= 1
        await trace("http11.send_request_body.complete", {})
        await asyncio.sleep(0.1)
        return self

    status_code, is_stream_consumed = 200, True
    headers: Mapping[str, str] = {}
    content = b'{"meta": {"code": 200, "status": "SUCCESS"}, "msg": "OK", "data": {"account_name": "N"}}'

    async def aclose(self) -> None:
        """As a response, too."""

    def connection_of(self, request: Any) -> None:
        return None

    def end_trace(self, request: Any) -> None:
        pass

    def scrub(self, data: bytes) -> bytes:
        return data

    def scrub_text(self, text: str) -> str:
        return text


@pytest.mark.parametrize(
    ("rate", "fewest", "most", "anew"), [(100, 10, 10, 0), (15, 10, 10, 0), (5, 3, 5, 15), (2, 1, 2, 20), (1, 1, 1, 20)]
)
def test_as_many_stand_at_the_wire_as_get_their_tokens_in_time(rate: float, fewest: int, most: int, anew: int) -> None:
    """A connection that waits longer is opened `anew`, with the token in hand. All tokens are asked for at once."""
    wire: Any = Wire()

    async def main() -> None:
        session = Session(wire, TokenBucket(rate), max_in_flight=64, owns_transport=False)
        calls = [asyncio.create_task(session.run(account(), timeout=30, max_attempts=1)) for _ in range(300)]
        waiting = []
        while session.stats.attempts < 250 and not all(call.done() for call in calls):
            await asyncio.sleep(0.05)
            if 60 < session.stats.attempts < 250:
                waiting.append(wire.waiting)
        assert fewest <= min(waiting) <= max(waiting) <= most
        assert wire.most == (AT_WIRE if rate >= 15 else FIRST_AT_WIRE + 1)  # the first tokens came at once
        await asyncio.gather(*calls)
        assert wire.connections - 300 <= anew

    run(main())


@given(st.integers(1, 4), st.booleans(), st.integers(0, 10_000))
def test_cancelled_waiters_lose_no_permit(permits: int, resized: bool, seed: int) -> None:
    async def storm() -> None:
        rng, gate, inside = random.Random(seed), CapacityLimiter(permits), 0

        async def enter() -> None:
            nonlocal inside
            async with gate:
                inside += 1
                assert inside <= (7 if resized else permits)
                try:
                    await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(enter()) for _ in range(40)]
        for _ in range(30):
            await asyncio.sleep(0)
            if resized:
                gate.resize(rng.randrange(1, 8))
            rng.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.waiting == 0
        gate.resize(permits)
        await asyncio.gather(*(gate.acquire() for _ in range(permits)))  # all permits are there
        late = asyncio.create_task(gate.acquire())
        await settle()
        assert not late.done()  # and no more
        late.cancel()

    asyncio.run(storm())


async def test_waiters_that_left_are_not_kept() -> None:
    gate = CapacityLimiter(1)
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


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_backoff_grows_to_its_bound_and_keeps_within_its_jitter(number: int, least: float) -> None:
    bound = min(60.0, 0.5 * 1.5 ** min(number - 1, 64))
    assert least * bound <= retry.backoff(number, first=0.5, longest=60.0, growth=1.5, least=least) <= bound
    assert retry.backoff(number, first=0.5, longest=60.0, growth=1.5) == bound


def test_retry_after_is_obeyed_within_its_bound() -> None:
    wait = retry.wait_before(2, failure(mmsclient.RateLimitError, retry_after=7.0))
    assert wait is not None
    assert 7.0 <= wait <= 7.5
    assert retry.wait_before(2, failure(mmsclient.RateLimitError, retry_after=3600.0)) is None
