"""What observers are told of calls, and what becomes of an observer that fails."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import subprocess
import sys
import weakref
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsclient import AsyncMMSClient, ConfigurationError, OutcomeUnknownError, RateLimitError, RecipientsError
from mmsclient._transport import retry
from mmsclient.limiter import NoLimit
from mmsclient.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRetried,
    CallStarted,
    CallThrottled,
    CallWaited,
    Event,
    Outcome,
)
from mmsclient.observe.calls import ClientObserver
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Latency, Reject, Respond
from tests.conftest import PNG, Connect, until
from tests.support.held import Held
from tests.support.observing import Told

ONE = "+61400000000"
TEXT = "Nobody else reads this"


def names(told: Told) -> list[str]:
    return [type(event).__name__ for event in told.events]


async def send(mms: AsyncMMSClient, **options: Any) -> Any:
    return await mms.send(to=ONE, text=TEXT, image=PNG, **options)


async def test_a_call_is_told_from_its_start_to_its_end(connect: Connect) -> None:
    told = Told()
    mms = connect(observer=told)
    sent = await send(mms)
    assert names(told) == ["CallStarted", "AttemptStarted", "CallWaited", "AttemptEnded", "CallEnded"]
    started, began, waited, attempt, ended = told.events
    assert isinstance(started, CallStarted)
    assert isinstance(began, AttemptStarted)
    assert isinstance(waited, CallWaited)
    assert isinstance(attempt, AttemptEnded)
    assert isinstance(ended, CallEnded)
    assert started.call == began.call == waited.call == attempt.call == ended.call
    assert started.server == ended.server == urlsplit(mms.base_url).netloc
    assert (started.name, started.recipients, started.campaign) == ("send-mms", 1, None)
    assert waited.left
    assert (attempt.attempt, attempt.status, attempt.code, attempt.error) == (1, 200, "SUCCESS", None)
    assert not attempt.timed_out
    assert attempt.bytes > 50
    assert attempt.seconds > 0
    assert (ended.outcome, ended.attempts, ended.accepted, ended.error) == (Outcome.ACCEPTED, 1, 1, None)
    assert ended.message_ids == (sent.messages[0].id,)
    assert ended.seconds >= attempt.seconds + waited.connection
    assert (ended.queue, ended.connection, ended.token) == (waited.queue, waited.connection, waited.token)


async def test_a_throttled_a_hung_and_an_unknown_call_are_told_apart_by_the_events_alone(
    connect: Connect, sandbox: Sandbox, impatient: None
) -> None:
    async def observed(*, is_hung: bool = False, **options: Any) -> Told:
        told, before = Told(), len(sandbox.sends)
        task = asyncio.create_task(send(connect(observer=told, **options)))
        if is_hung:  # the server has the call, and its caller waits
            await until(lambda: len(sandbox.sends) > before)
            hanging.append(task)
        else:
            await asyncio.wait([task])
            assert isinstance(task.exception(), RateLimitError | OutcomeUnknownError)
        return told

    hanging: list[asyncio.Task[Any]] = []
    with sandbox.faults.add(Respond(429)):
        throttled = await observed(max_attempts=3)
    with sandbox.faults.add(CutConnection()):
        unknown = await observed()
    with sandbox.faults.add(Latency(600, carried_out=True)):
        hung = await observed(is_hung=True, timeout=600)

    assert len(throttled.of(CallThrottled)) == 3
    assert throttled.one(CallEnded).outcome is Outcome.REFUSED
    assert {each.status for each in throttled.of(AttemptEnded)} == {429}

    assert not unknown.of(CallThrottled)
    assert unknown.one(CallEnded).outcome is Outcome.UNKNOWN
    assert unknown.one(AttemptEnded).left

    assert names(hung) == ["CallStarted", "AttemptStarted", "CallWaited"]
    assert hung.one(CallWaited).left
    sandbox.stop()
    await asyncio.wait(hanging)
    assert isinstance(hanging[0].exception(), OutcomeUnknownError)
    assert hung.one(CallEnded).outcome is Outcome.UNKNOWN


async def test_retries_share_the_id_of_their_call(connect: Connect, sandbox: Sandbox, impatient: None) -> None:
    told = Told()
    mms = connect(observer=told)
    sandbox.faults.add(Respond(429, headers={"retry-after": "0"}), times=2)
    await asyncio.gather(send(mms), mms.account())
    started = {event.call: event for event in told.of(CallStarted)}
    assert len(started) == 2
    for call in started:
        attempts = [event.attempt for event in told.of(AttemptEnded) if event.call == call]
        retries = [event for event in told.of(CallRetried) if event.call == call]
        (ended,) = [event for event in told.of(CallEnded) if event.call == call]
        assert attempts == list(range(1, ended.attempts + 1))
        assert [event.attempt for event in retries] == attempts[1:]
        assert [event.error for event in retries] == ["RateLimitError"] * len(retries)
        assert ended.outcome is Outcome.ACCEPTED
    assert len(told.of(CallRetried)) == len(told.of(CallThrottled)) == 2
    assert {event.retry_after for event in told.of(CallThrottled)} == {0.0}


async def test_a_refusal_names_its_code_and_what_is_no_code_of_the_api_is_left_out(
    connect: Connect, sandbox: Sandbox
) -> None:
    told = Told()
    mms = connect(observer=told)
    with sandbox.faults.add(Reject("RECIPIENTS_ERROR")), pytest.raises(RecipientsError):
        await send(mms)
    ended = told.one(CallEnded)
    assert (ended.outcome, ended.code, ended.error) == (Outcome.REFUSED, "RECIPIENTS_ERROR", "RecipientsError")
    body = b'{"meta":{"code":400,"status":"NO 61400000000"},"msg":"to 61400000000"}'
    with sandbox.faults.add(Respond(400, body)), pytest.raises(Exception, match="61400000000"):
        await send(mms)
    assert told.of(AttemptEnded)[-1].code is None
    assert "61400000000" not in told.document()


class Slow:
    """A limiter that lets its callers wait for their token until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = asyncio.Event()

    async def acquire(self) -> Any:
        self.asked.set()
        await self.open.wait()
        return await NoLimit().acquire()


async def test_the_waits_are_told_apart(connect: Connect) -> None:
    told, limiter = Told(), Slow()
    mms = connect(observer=told, limiter=limiter, max_in_flight=1)
    clock = asyncio.get_running_loop().time
    calls = [asyncio.create_task(mms.account()) for _ in range(2)]
    await limiter.asked.wait()
    began = clock()
    await asyncio.sleep(0.05)
    held = clock() - began
    limiter.open.set()
    await asyncio.gather(*calls)
    first, second = told.of(CallWaited)
    assert first.token >= held - 0.001
    assert second.queue >= first.token
    assert second.token < second.queue
    for waited, attempt in zip(told.of(CallWaited), told.of(AttemptEnded), strict=True):
        (ended,) = [event for event in told.of(CallEnded) if event.call == waited.call]
        told_apart = waited.queue + waited.connection + waited.token + attempt.seconds
        assert told_apart <= ended.seconds + 0.001


async def test_a_call_that_is_cancelled_before_it_leaves_is_abandoned(connect: Connect) -> None:
    told, limiter = Told(), Slow()
    mms = connect(observer=told, limiter=limiter, max_in_flight=1)
    at_wire = asyncio.create_task(send(mms))
    await limiter.asked.wait()
    in_queue = asyncio.create_task(send(mms))
    await until(lambda: mms.stats.waiting)
    for task in (in_queue, at_wire):
        task.cancel()
    await asyncio.wait([at_wire, in_queue])
    await mms.aclose()
    assert [event.outcome for event in told.of(CallEnded)] == [Outcome.ABANDONED] * 2
    assert all(event.is_abandoned for event in told.of(CallEnded))
    assert not any(event.left for event in told.of(CallWaited))
    first = next(event for event in told.of(CallWaited) if event.call == told.of(CallStarted)[0].call)
    assert first.token > 0


async def test_a_call_whose_caller_leaves_is_told_as_it_ends(connect: Connect, sandbox: Sandbox) -> None:
    told = Told()
    sandbox.faults.add(held := Held())
    mms = connect(observer=told)
    sending = asyncio.create_task(send(mms))
    await until(lambda: sandbox.sends)
    sending.cancel()
    await asyncio.wait([sending])
    assert not told.of(CallEnded)
    held.answer.set()
    await mms.aclose()
    ended = told.one(CallEnded)
    assert (ended.outcome, ended.accepted, ended.is_abandoned) == (Outcome.ACCEPTED, 1, True)


async def test_a_wait_between_attempts_that_is_cancelled_ends_the_call(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "wait_before", lambda attempt, error: 100.0)
    told = Told()
    sandbox.faults.add(Respond(429))
    async with sandbox.client(rate=None, observer=told) as mms:
        sending = asyncio.create_task(send(mms))
        await until(lambda: told.of(CallRetried))
        sending.cancel()
        await asyncio.wait([sending])
    assert told.one(CallEnded).outcome is Outcome.ABANDONED


def test_an_event_loop_that_ends_leaves_no_call_without_its_end(sandbox: Sandbox) -> None:
    told = Told()

    async def main() -> None:
        sandbox.faults.add(Latency(30, carried_out=True))
        mms = sandbox.client(rate=None, observer=told)
        asyncio.create_task(send(mms))  # noqa: RUF006
        await until(lambda: sandbox.sends)
        mms._session._owns_transport = False  # the warning of a client that was not closed is tested elsewhere

    asyncio.run(main())
    assert told.one(CallEnded).outcome is Outcome.UNKNOWN


EXAMPLES = int(os.environ.get("MMSCLIENT_OBSERVED_EXAMPLES", "12"))


def test_every_call_that_starts_ends_once_however_its_caller_leaves() -> None:
    """20 calls, cancelled at random moments, on a server with its faults."""
    with Sandbox(rate=None) as server:
        server.faults.add(Latency(0.0, 0.01))
        server.faults.add(Respond(429, headers={"retry-after": "0"}), share=0.1)
        settings(max_examples=EXAMPLES)(given(st.integers(0, 2**32))(lambda seed: ends_once(server, seed)))()


def ends_once(server: Sandbox, seed: int) -> None:
    rng, told = random.Random(seed), Told()

    async def leave(task: asyncio.Task[object]) -> None:
        await asyncio.sleep(rng.uniform(0, 0.02))
        task.cancel()

    async def main() -> None:
        async with server.client(rate=None, max_in_flight=5, observer=told) as mms:
            calls = [asyncio.create_task(send(mms) if rng.random() < 0.5 else mms.account()) for _ in range(20)]
            leaving = [asyncio.create_task(leave(task)) for task in calls if rng.random() < 0.7]
            if rng.random() < 0.3:
                await asyncio.sleep(rng.uniform(0, 0.02))
                await mms.aclose()
            await asyncio.wait([*calls, *leaving])

    asyncio.run(main())
    started = [event.call for event in told.of(CallStarted)]
    assert sorted(event.call for event in told.of(CallEnded)) == sorted(started)
    assert len(started) == len(set(started)) <= 20
    attempts = [(event.call, event.attempt) for event in told.of(AttemptEnded)]
    assert sorted((event.call, event.attempt) for event in told.of(CallWaited)) == sorted(attempts)
    for ended in told.of(CallEnded):
        left = [event for event in told.of(AttemptEnded) if event.call == ended.call and event.left]
        if ended.outcome in (Outcome.ABANDONED, Outcome.NOT_SENT):
            assert all(event.status == 429 for event in left)


def test_what_was_told_of_a_call_waits_for_no_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        call = ClientObserver(lambda event: None).call("send-mms", 1, repeatable=False, campaign=None)
        attempt = call.attempt()
        attempt.over(None, OutcomeUnknownError("lost", call="send-mms"), may_have_left=True)
        call.raised(OutcomeUnknownError("lost", call="send-mms"))
        gone = weakref.ref(attempt)
        del attempt
        assert gone() is None
    finally:
        gc.enable()


# Observers ------------------------------------------------------------------------------------------------------------


async def test_an_observer_that_raises_is_logged_once_and_harms_nothing(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __call__(self, event: Event) -> None:
            if isinstance(event, CallEnded):
                raise asyncio.CancelledError
            raise ZeroDivisionError("on purpose")

    before, after = Told(), Told()
    mms = connect(observer=[before, Broken(), after])
    for _ in range(3):
        assert (await send(mms)).accepted == 1
    assert before.events == after.events
    assert len(after.of(CallEnded)) == 3
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "Broken" in record.getMessage()
    assert "ZeroDivisionError" in caplog.text


async def observe_slowly(event: Event) -> None:
    """No observer: nobody would await it."""


class Awaited:
    async def __call__(self, event: Event) -> None:
        """No observer either."""


@pytest.mark.parametrize("wrong", [7, "print", [print, 7], observe_slowly, Awaited(), [observe_slowly]])
def test_what_cannot_observe_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="observer: expected a function that takes an event"):
        AsyncMMSClient("key", observer=wrong)


async def test_no_observer_among_none_is_as_without(connect: Connect) -> None:
    nobodies: list[Any] = [None, (), []]
    for nobody in nobodies:
        mms = connect(observer=nobody)
        assert (await send(mms)).accepted == 1
        assert mms.emit is None


def test_the_package_is_imported_without_what_observes() -> None:
    code = "import mmsclient, sys; print([name for name in sys.modules if name.startswith('mmsclient.observe')])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert ended.stdout.strip() == "[]"
