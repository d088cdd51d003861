"""A key is carried out once at most: whatever fails, whoever dies, and however often it is sent with again."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import mmsclient
from mmsclient import (
    AsyncMMSClient,
    ConfigurationError,
    InsufficientCreditError,
    InvalidRequestError,
    KeyReusedError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitError,
    RecipientsError,
    SendInProgressError,
)
from mmsclient._transport import retry
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Fault, Latency, Reject, Reset, Respond, SlowBody, throttle
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import PNG, until
from tests.support.callbacks import TOKEN, status
from tests.support.held import Held
from tests.support.keyed import Closed, Place, place_in, send

pytestmark = pytest.mark.usefixtures("impatient")

ONE, TWO = "+61400000000", "+61400000001"
KEY = "order-17"


@pytest.fixture
def api() -> Iterator[Sandbox]:
    with Sandbox(rate=None) as sandbox:
        yield sandbox


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_in(request.param, request, tmp_path)


@pytest.fixture
def at(place: Place) -> str:
    """As the client's option says it."""
    return place.at


def client(api: Sandbox, at: str, **options: Any) -> AsyncMMSClient:
    return api.client(rate=None, ledger=at, **options)


@pytest.fixture
async def mms(api: Sandbox, at: str) -> AsyncIterator[AsyncMMSClient]:
    async with client(api, at) as mms:
        yield mms


# The table ------------------------------------------------------------------------------------------------------------


async def test_what_was_accepted_comes_back_the_same_without_a_call(api: Sandbox, at: str) -> None:
    async with client(api, at) as mms:
        first = await send(mms, KEY, [ONE, TWO, "0400 000 000"], subject="Yours")
        again = await send(mms, KEY, [ONE, TWO, "0400 000 000"], subject="Yours")
    async with client(api, at) as mms:
        later = await send(mms, KEY, [TWO, ONE], subject="Yours")
    assert not first.repeated
    for twin in (again, later):
        assert twin.repeated
        assert twin.messages == first.messages
        assert twin.raw == first.raw
        assert twin.credits_used == first.credits_used
    assert again == first
    assert later.duplicates == ()
    assert api.calls["send-mms"] == 1


async def test_a_partial_acceptance_comes_back_too(mms: AsyncMMSClient, api: Sandbox) -> None:
    first = await send(mms, KEY, [ONE, "+61400009901"])
    assert first.refused == ("+61400009901",)
    assert await send(mms, KEY, [ONE, "+61400009901"]) == first
    assert api.carried_out(ONE) == 1


async def test_a_send_on_its_way_here_is_waited_for(mms: AsyncMMSClient, api: Sandbox) -> None:
    api.faults.add(Latency(0.2))
    results = await asyncio.gather(*(send(mms, KEY, ONE) for _ in range(10)))
    assert sorted(each.repeated for each in results) == [False] + [True] * 9
    assert api.carried_out(ONE) == 1


async def test_a_send_on_its_way_elsewhere_is_waited_for(api: Sandbox, at: str) -> None:
    api.faults.add(Latency(0.3))
    async with client(api, at) as here, client(api, at) as there:
        first = asyncio.create_task(send(there, KEY, ONE))
        await until(lambda: api.arrivals)
        second = await send(here, KEY, ONE)
        assert second == await first
        assert second.repeated
    assert api.carried_out(ONE) == 1


async def test_who_waits_too_long_is_told_so(api: Sandbox, at: str) -> None:
    api.faults.add(held := Held())
    async with client(api, at) as here, client(api, at) as there:
        first = asyncio.create_task(send(here, KEY, ONE))
        await until(lambda: api.sends)
        with pytest.raises(SendInProgressError, match=KEY) as caught:
            await send(there, KEY, ONE, timeout=0.1)
        assert caught.value.since is not None
        assert timedelta(0) < datetime.now(UTC) - caught.value.since < timedelta(minutes=1)
        with pytest.raises(SendInProgressError):
            await send(here, KEY, ONE, timeout=0.1)
        held.answer.set()
        assert (await first).accepted == 1
    assert api.carried_out(ONE) == 1


async def test_what_is_unknown_stays_so_and_says_when_it_was_sent(api: Sandbox, at: str) -> None:
    api.faults.add(Reset(carried_out=True), times=1)
    async with client(api, at) as mms:
        with pytest.raises(OutcomeUnknownError) as first:
            await send(mms, KEY, ONE)
        assert first.value.sent_at is None
    for _ in range(2):
        async with client(api, at) as mms:
            with pytest.raises(OutcomeUnknownError) as caught:
                await send(mms, KEY, ONE, retry_refused=True)
            assert caught.value.sent_at is not None
            assert f"key 'order-17', sent at {caught.value.sent_at:%Y-%m}" in str(caught.value)
            assert first.value.description in caught.value.description
    assert api.calls["send-mms"] == 1


@pytest.mark.parametrize("fault", [Latency(30, carried_out=True), SlowBody(delay=30)], ids=repr)
async def test_a_timeout_is_told_again_as_one(mms: AsyncMMSClient, api: Sandbox, fault: Fault) -> None:
    api.faults.add(fault)
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError) as caught:
            await send(mms, KEY, ONE, timeout=0.3)
        assert caught.value.timed_out
    assert api.calls["send-mms"] == 1


FAILURES = {
    "throttled": (throttle(), RateLimitError),
    "credit": (Reject("LEDGER_ERROR"), InsufficientCreditError),
    "credit, in other words": (Reject("FIELD_INVALID", "Not enough credit."), InsufficientCreditError),
    "key": (Reject("AUTH_FAILED"), mmsclient.AuthenticationError),
    "permission": (Reject("NO_ACCESS"), mmsclient.PermissionDeniedError),
    "wrong address": (Respond(404, b"Not Found"), mmsclient.UnknownCallError),
    "a proxy's refusal": (Respond(413, b"<html>too large</html>"), mmsclient.APIError),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_what_was_surely_not_sent_or_refused_for_the_accounts_sake_is_sent(
    mms: AsyncMMSClient, api: Sandbox, name: str
) -> None:
    fault, error = FAILURES[name]
    with api.faults.add(fault, call="send-mms"):
        for _ in range(2):
            with pytest.raises(error):
                await send(mms, KEY, ONE)
    assert not (await send(mms, KEY, ONE)).repeated
    assert api.carried_out(ONE) == 1


async def test_what_never_left_is_sent(api: Sandbox, at: str) -> None:
    async with client(api, at, max_attempts=1) as mms:
        with api.refusing(), pytest.raises(NotSentError):
            await send(mms, KEY, ONE)
        assert (await send(mms, KEY, ONE)).accepted == 1
    assert api.carried_out(ONE) == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("RECIPIENTS_ERROR", RecipientsError),
        ("FIELD_INVALID", mmsclient.FieldInvalidError),
        ("FIELD_EMPTY", mmsclient.FieldEmptyError),
        ("SOMETHING_NEW", mmsclient.APIError),
    ],
)
async def test_what_was_refused_is_refused_again_unless_it_is_asked_for(
    mms: AsyncMMSClient, api: Sandbox, code: str, error: type[mmsclient.APIError]
) -> None:
    api.faults.add(Reject(code, "No.", 400), call="send-mms", times=2)
    with pytest.raises(error) as first:
        await send(mms, KEY, ONE)
    with pytest.raises(error) as again:
        await send(mms, KEY, ONE)
    assert type(again.value) is type(first.value)
    assert vars(again.value).items() >= {k: v for k, v in vars(first.value).items() if k != "__notes__"}.items()
    assert "retry_refused" in again.value.__notes__[0]
    assert api.calls["send-mms"] == 1
    with pytest.raises(error):
        await send(mms, KEY, ONE, retry_refused=True)
    assert (await send(mms, KEY, ONE, retry_refused=True)).accepted == 1
    assert (await send(mms, KEY, ONE, retry_refused=True)).repeated
    assert api.calls["send-mms"] == 3
    assert api.carried_out(ONE) == 1


OTHERS: dict[str, dict[str, Any]] = {
    "text": {"text": "Another order"},
    "subject": {"subject": "Another"},
    "image": {"image": PNG + b"\0"},
    "recipients": {"to": [ONE, TWO]},
}


@pytest.mark.parametrize("part", OTHERS)
async def test_another_message_with_the_same_key_is_not_sent(mms: AsyncMMSClient, api: Sandbox, part: str) -> None:
    api.faults.add(Latency(0.2))
    sending = asyncio.create_task(send(mms, KEY, ONE))
    await until(lambda: api.arrivals)
    for _ in range(2):  # while it is sent, and after it
        with pytest.raises(KeyReusedError) as caught:
            await send(mms, KEY, **{"to": ONE, **OTHERS[part]})
        assert caught.value.differences == (part,)
        await sending
    assert api.calls["send-mms"] == 1


async def test_the_same_message_in_other_words_is_the_same(mms: AsyncMMSClient, api: Sandbox) -> None:
    first = await send(mms, KEY, [ONE, TWO], text="a\nb", subject=None)
    again = await send(mms, KEY, ["0400 000 001", "61400000000"], text="a\r\nb", subject="")
    assert again.messages == first.messages
    assert api.calls["send-mms"] == 1


async def test_other_keys_and_no_key_are_sends_of_their_own(mms: AsyncMMSClient, api: Sandbox) -> None:
    await send(mms, "a", ONE)
    await send(mms, "A", ONE)
    await mms.send(to=ONE, text="Your order", image=PNG)
    assert api.carried_out(ONE) == 3


# What a caller may hand in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "  ", "x" * 201, "a\nb", "a\0", 17, b"order", "\ud800"])
async def test_wrong_keys(mms: AsyncMMSClient, api: Sandbox, key: Any) -> None:
    with pytest.raises(InvalidRequestError, match="key"):
        await send(mms, key, ONE)
    assert not api.calls["send-mms"]


async def test_long_keys_and_those_of_other_alphabets(mms: AsyncMMSClient, api: Sandbox) -> None:
    for key in ("x" * 200, "Auftrag №17 🎁", "'; DROP TABLE send; --"):
        await send(mms, key, ONE)
        assert (await send(mms, key, ONE)).repeated
    assert api.carried_out(ONE) == 3


async def test_without_a_ledger_a_key_is_an_error(api: Sandbox) -> None:
    async with api.client(rate=None) as mms:
        with pytest.raises(ConfigurationError, match=r'ledger="sends.db"'):
            await send(mms, KEY, ONE)
    assert not api.calls["send-mms"]


async def test_retry_refused_needs_a_key(mms: AsyncMMSClient, api: Sandbox) -> None:
    with pytest.raises(InvalidRequestError, match="retry_refused: expected False without a key="):
        await mms.send(to=ONE, text="Hi", image=PNG, retry_refused=True)
    assert not api.calls["send-mms"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"ledger": "mysql://shop:hidden-word@localhost/sends"}, "the path of a file, or the URL of a PostgreSQL"),
        ({"ledger": "postgresql://shop:hidden-word@x@localhost/sends"}, "URL of the store cannot be read"),
        ({"ledger": ""}, "the path of a file"),
        ({"ledger": 7}, "the path of a file"),
        ({"ledger": "missing/sends.db"}, "No such file"),
        ({"ledger": "."}, "a directory"),
        ({"ledger": "sends.db", "ledger_keep": timedelta(0)}, "ledger_keep"),
        ({"ledger": "sends.db", "ledger_keep": 30}, "ledger_keep"),
    ],
)
def test_wrong_options(options: Any, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        AsyncMMSClient("a-secret-key", **options)
    assert "hidden-word" not in str(caught.value)
    frames = [frame for frame, _ in _frames(caught.value)]
    assert not any("a-secret-key" in repr(value) for frame in frames for value in frame.f_locals.values())


def _frames(error: BaseException) -> Iterator[tuple[Any, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename != __file__:
            yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


# Unknown sends that callbacks settle ----------------------------------------------------------------------------------


def delivered(message_id: str, number: str) -> list[dict[str, str]]:
    """A callback."""
    return [{"message_id": message_id, "status": "Delivered", "recipient": number.removeprefix("+")}]


async def test_a_callback_settles_an_unknown_send(mms: AsyncMMSClient, api: Sandbox) -> None:
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    with pytest.raises(OutcomeUnknownError):
        await send(mms, KEY, [ONE, TWO])
    first, second = api.messages
    async with CallbackReceiver(token=TOKEN) as receiver:
        receiver.record_into(mms.ledger)
        assert await status(receiver, delivered(first.id, first.to)) == 200
        settled = await send(mms, KEY, [ONE, TWO])
        assert (settled.repeated, settled.proven, settled.accepted, settled.total) == (True, True, 1, 2)
        assert [(each.id, each.to) for each in settled.messages] == [(first.id, first.to)]
        assert settled.refused is None
        assert await status(receiver, delivered(second.id, second.to)) == 200
    settled = await send(mms, KEY, [ONE, TWO])
    assert (settled.accepted, settled.refused, settled.is_partial) == (2, (), False)
    assert api.calls["send-mms"] == 1


async def test_a_reply_settles_an_unknown_send(mms: AsyncMMSClient, api: Sandbox) -> None:
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    with pytest.raises(OutcomeUnknownError):
        await send(mms, KEY, ONE)
    (message,) = api.messages
    inbound = mmsclient.InboundMessage(
        id="1",
        sender=ONE,
        text="Thanks",
        received_at=datetime.now(UTC),
        received_at_text="",
        kind="MMS",
        original_message_id=message.id,
        original_text="",
        custom_string=None,
    )
    await mms.ledger.record_reply(evolve(inbound, original_message_id=""))
    with pytest.raises(OutcomeUnknownError):
        await send(mms, KEY, ONE)
    await mms.ledger.record_reply(inbound)
    assert (await send(mms, KEY, ONE)).proven


async def test_reports_of_what_an_answer_named_settle_nothing(mms: AsyncMMSClient, api: Sandbox) -> None:
    answered = await send(mms, "answered", ONE)
    api.faults.add(Reset(carried_out=False), call="send-mms", times=1)
    with pytest.raises(OutcomeUnknownError):
        await send(mms, KEY, ONE)
    report = mmsclient.DeliveryReport(
        message_id=answered.messages[0].id,
        status=mmsclient.DeliveryStatus.DELIVERED,
        recipient=ONE,
        custom_string=None,
        source=None,
    )
    await mms.ledger.record(report)
    with pytest.raises(OutcomeUnknownError):
        await send(mms, KEY, ONE)
    assert not (await send(mms, "answered", ONE)).proven


async def test_without_a_ledger_nothing_is_recorded(api: Sandbox) -> None:
    async with api.client(rate=None) as mms:
        with pytest.raises(ConfigurationError, match=r'ledger="sends.db"'):
            _ = mms.ledger


# Callers that leave, clients that are closed --------------------------------------------------------------------------


async def test_a_cancelled_caller_whose_call_left_has_its_end_recorded(
    api: Sandbox, at: str, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.add(held := Held())
    async with client(api, at) as mms:
        sending = asyncio.create_task(send(mms, KEY, ONE))
        await until(lambda: api.sends)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending  # at once, not when the answer comes
        assert mms.stats.in_flight == 1
        held.answer.set()
    async with client(api, at) as mms:
        assert (await send(mms, KEY, ONE)).repeated
    assert api.carried_out(ONE) == 1
    (record,) = [record for record in caplog.records if "cancelled" in record.message]
    assert record.levelno == logging.WARNING
    assert "1 of 1 recipient accepted" in record.message


async def test_who_waits_for_a_send_gets_its_end_although_its_caller_leaves(mms: AsyncMMSClient, api: Sandbox) -> None:
    api.faults.add(held := Held())
    sending = asyncio.create_task(send(mms, KEY, ONE))
    await until(lambda: api.sends)
    waiting = asyncio.create_task(send(mms, KEY, ONE))
    await asyncio.sleep(0)
    sending.cancel()
    held.answer.set()
    assert (await waiting).repeated
    assert api.carried_out(ONE) == 1


async def test_a_cancelled_caller_whose_call_never_left_leaves_the_key_free(api: Sandbox, at: str) -> None:
    limiter = Closed()
    async with api.client(limiter=limiter, ledger=at) as mms:
        sending = asyncio.create_task(send(mms, KEY, ONE))
        await limiter.asked.wait()
        waiting = asyncio.create_task(send(mms, KEY, ONE))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        limiter.open.set()
        assert not (await waiting).repeated  # it has sent, since the other one did not
    assert api.carried_out(ONE) == 1


async def test_a_cancelled_caller_between_two_attempts_leaves_the_key_free(
    api: Sandbox, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("FIRST_WAIT", 1e6), ("LONGEST_WAIT", 1e6), ("TOTAL", 1e9)):
        monkeypatch.setattr(retry, name, seconds)
    async with asyncio.timeout(60), client(api, at) as mms:
        with api.faults.add(throttle(), call="send-mms"):
            sending = asyncio.create_task(send(mms, KEY, ONE))
            await until(lambda: mms.stats.throttled and not mms.stats.in_flight)
            sending.cancel()
            await asyncio.wait([sending])
        assert not (await send(mms, KEY, ONE)).repeated
    assert api.carried_out(ONE) == 1


async def test_closing_records_what_had_left_and_frees_what_had_not(api: Sandbox, at: str, place: Place) -> None:
    api.faults.add(held := Held())
    mms = client(api, at, max_in_flight=1)
    left = asyncio.create_task(send(mms, "left", ONE))
    await until(lambda: api.sends)
    queued = asyncio.create_task(send(mms, "queued", TWO))
    await until(lambda: mms.stats.waiting)
    closing = asyncio.create_task(mms.aclose())
    await asyncio.sleep(0)
    held.answer.set()
    await closing
    assert (await left).accepted == 1
    with pytest.raises(NotSentError, match="closed"):
        await queued
    with pytest.raises(NotSentError, match="closed"):
        await send(mms, "later", ONE)
    api.faults.clear()
    async with client(api, at) as mms:
        assert (await send(mms, "left", ONE)).repeated
        assert not (await send(mms, "queued", TWO)).repeated
    assert (api.carried_out(ONE), api.carried_out(TWO)) == (1, 1)
    assert place.senders() == 0


async def test_closing_tells_those_who_wait_for_another_process(
    api: Sandbox, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(*arguments: Any, **options: Any) -> float:
        has_looked.set()
        return backoff(*arguments, **options)

    has_looked, backoff, limiter = asyncio.Event(), retry.backoff, Closed()
    async with api.client(limiter=limiter, ledger=at) as there:
        first = asyncio.create_task(send(there, KEY, ONE))
        await limiter.asked.wait()
        here = client(api, at)
        monkeypatch.setattr(retry, "backoff", pause)
        waiting = asyncio.create_task(send(here, KEY, ONE))
        await has_looked.wait()
        await here.aclose()
        with pytest.raises(SendInProgressError):
            await waiting
        assert not first.done()
        limiter.open.set()
        assert (await first).accepted == 1


async def test_a_client_that_is_closed_twice_or_never_used(api: Sandbox, at: str, place: Place) -> None:
    mms = client(api, at)
    await asyncio.gather(mms.aclose(), mms.aclose())
    await mms.aclose()
    assert place.senders() == 0


def test_an_event_loop_that_ends_with_a_send_under_way(api: Sandbox, at: str) -> None:
    """Nobody closed the client: what had left is unknown."""
    api.faults.add(Latency(30, carried_out=True))

    async def dropped() -> None:
        mms = client(api, at)
        asyncio.create_task(send(mms, KEY, ONE))  # noqa: RUF006
        await until(lambda: api.sends)
        mms._session._owns_transport = False  # the warning of a client that was not closed is tested elsewhere

    async def later() -> None:
        async with client(api, at) as mms:
            with pytest.raises(OutcomeUnknownError, match="event loop"):
                await send(mms, KEY, ONE)

    asyncio.run(dropped())
    gc.collect()
    asyncio.run(later())
    assert api.carried_out(ONE) == 1
