"""The outbox as its users have it, on both engines, against the sandbox."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from mmsclient import (
    AsyncMMSClient,
    AuthenticationError,
    ConfigurationError,
    DeliveryReport,
    DeliveryStatus,
    InboundMessage,
    InsufficientCreditError,
    InvalidRequestError,
    KeyReusedError,
    MMSError,
    OutcomeUnknownError,
    RecipientsError,
)
from mmsclient._store.errors import JournalBusyError
from mmsclient._store.stores import outbox_at
from mmsclient.limiter import NoLimit
from mmsclient.outbox import (
    Outbox,
    OutboxBusyError,
    OutboxCounts,
    OutboxError,
    OutboxResult,
    OutboxState,
    OutboxStoppedError,
)
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.exchange import Exchange, RawAnswer
from mmsclient.sandbox.faults import Fault, Reject, Reset, server_error, throttle
from mmsclient.sandbox.records import Message, Send
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import PNG, until
from tests.support.callbacks import TOKEN, status
from tests.support.campaigns import success
from tests.support.held import Held

WAITING, SENDING, ACCEPTED, REFUSED, UNKNOWN, CANCELLED = OutboxState
LONG = 60.0

pytestmark = pytest.mark.usefixtures("impatient")

New = Callable[..., Outbox]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsclient.outbox.worker.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("mmsclient.outbox.worker.LOOK", 0.1)


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit()) as mms:
        yield mms


@pytest.fixture
async def new(mms: AsyncMMSClient, place: tuple[str, str]) -> AsyncIterator[New]:
    """Makes outboxes on one store, and closes them."""
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Outbox:
            outbox = Outbox(mms, place[0], **options)
            stack.push_async_callback(outbox.aclose)
            return outbox

        yield make


async def put(outbox: Outbox, key: str, to: str | list[str] = "+61400000000", **options: Any) -> OutboxResult:
    return await outbox.put(key=key, to=to, **{"text": "Hi\nyou", "image": PNG, "subject": "Sale", **options})


async def ended(outbox: Outbox, key: str) -> OutboxResult:
    result = await outbox.result(key, timeout=LONG)
    assert result is not None
    assert result.is_over, result
    return result


# Put, sent, told ------------------------------------------------------------------------------------------------------


async def test_an_order_is_put_sent_and_told(api: Sandbox, new: New) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    async with new() as outbox:
        await put(outbox, "order-17", ["0400 000 000", "+61400000001", "+61400000000"])
        result = await ended(outbox, "order-17")
        assert result == await put(outbox, "order-17", ["+61400000001", "0400000000"])
        assert await outbox.result("another") is None
    (send,) = api.sends
    assert (send.text, send.subject, send.recipients) == ("Hi\r\nyou", "Sale", ("+61400000000", "+61400000001"))
    assert (result.state, result.error, result.attempts, result.number) == (ACCEPTED, None, 1, 1)
    assert result.sent is not None
    assert (result.sent.accepted, result.sent.total, result.sent.refused) == (2, 2, ())
    assert [message.to for message in result.sent.messages] == ["+61400000000", "+61400000001"]
    assert result.sent.messages[0].raw["message_id"] == result.sent.messages[0].id
    assert [each.message_id for each in result.recipients] == [message.id for message in result.sent.messages]
    assert [each.state for each in result.recipients] == [ACCEPTED, ACCEPTED]
    assert before < result.put_at <= (result.sent_at or before) <= (result.ended_at or before)
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301


async def test_a_result_is_what_send_returns(api: Sandbox, mms: AsyncMMSClient, new: New) -> None:
    sent = await mms.send(to="+61400000009", text="Hi\nyou", image=PNG, subject="Sale")
    async with new() as outbox:
        await put(outbox, "a", "+61400000009")
        result = await ended(outbox, "a")
    assert result.sent is not None
    assert result.sent.credits_used == sent.credits_used
    assert (result.sent.accepted, result.sent.total, result.sent.flaws) == (sent.accepted, sent.total, sent.flaws)
    (mine,), (theirs,) = result.sent.messages, sent.messages
    assert (mine.to, mine.text, mine.subject) == (theirs.to, theirs.text, theirs.subject)
    assert mine.sent_at is not None
    assert mine.sent_at.strftime("%Y-%m-%d %H:%M:%S") == mine.sent_at_text


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"to": "nobody"},
        {"to": []},
        {"text": ""},
        {"text": "secret\0b"},
        {"image": b"no picture"},
        {"subject": "s" * 41},
        {"not_before": datetime(2026, 1, 1)},
        {"not_before": "tomorrow"},
    ],
)
async def test_what_cannot_be_sent_is_not_put(new: New, wrong: dict[str, Any]) -> None:
    outbox = new()
    with pytest.raises(InvalidRequestError, match=f"^{next(iter(wrong))}(?!.*secret)"):
        await put(outbox, **{"key": "a", **wrong})
    assert await outbox.counts() == OutboxCounts()


async def test_another_order_with_the_key_is_refused(api: Sandbox, new: New) -> None:
    outbox = new()
    await put(outbox, "a")
    with pytest.raises(KeyReusedError, match="recipients"):
        await put(outbox, "a", "+61400000001")
    assert (await outbox.counts()).waiting == 1


@pytest.mark.parametrize("wrong", [{"keep": 1}, {"stop_after": 0}, {"timeout": -1}])
async def test_wrong_options(mms: AsyncMMSClient, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{next(iter(wrong))}"):
        Outbox(mms, tmp_path / "outbox.db", **wrong)
    assert os.listdir(tmp_path) == []


async def test_wrong_stores(mms: AsyncMMSClient) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Outbox(mms, "mysql://shop:secret@host/shop")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError):
        Outbox(mms, "postgresql://shop:se@cret@host/shop")


async def test_nothing_is_sent_before_its_time(api: Sandbox, new: New) -> None:
    async with new() as outbox:
        now = datetime.now(UTC)
        later = await put(outbox, "later", not_before=now + timedelta(hours=1))
        assert later.not_before == now + timedelta(hours=1)
        soon = now + timedelta(seconds=0.5)
        await put(outbox, "soon", "+61400000001", not_before=soon)
        result = await ended(outbox, "soon")
        assert (result.sent_at or now) >= soon
        assert await outbox.counts() == OutboxCounts(waiting=1, accepted=1)
        assert await outbox.cancel("later")
        assert not await outbox.cancel("soon")
        assert (await ended(outbox, "later")).state is CANCELLED
    assert len(api.sends) == 1


async def test_orders_of_before_are_sent_and_equal_ones_in_one_call(api: Sandbox, new: New) -> None:
    """Each has its own part of the answer."""
    outbox = new()
    for number in range(5):
        await put(outbox, f"order-{number}", [f"+6140000000{number}", f"+6140000001{number}"])
    await put(outbox, "another", text="Another")
    async with outbox:
        results = [await ended(outbox, f"order-{number}") for number in range(5)]
        await ended(outbox, "another")
    assert sorted(len(send.recipients) for send in api.sends) == [1, 10]
    for number, result in enumerate(results):
        assert result.sent is not None
        assert [message.to[-2:] for message in result.sent.messages] == [f"0{number}", f"1{number}"]
        assert (result.sent.accepted, result.sent.total, result.sent.credits_used) == (2, 2, None)
    assert [order.key async for order in new().orders(ACCEPTED)][-1] == "another"


async def test_results_come_as_they_end(api: Sandbox, new: New) -> None:
    before, outbox, reader = new(), new(), new()
    await put(before, "first")
    async with before:
        await ended(before, "first")
    async with outbox, aclosing(reader.results(after=0)) as all_of_them, aclosing(outbox.results()) as from_now:
        assert (await anext(all_of_them)).key == "first"
        following = asyncio.create_task(anext(from_now))
        for number in range(3):
            await put(outbox, f"next-{number}", text=f"{number}")
        first = await following
        rest = [await anext(from_now), await anext(from_now)]
        assert {result.key for result in (first, *rest)} == {f"next-{number}" for number in range(3)}
        assert [result.number for result in (first, *rest)] == [2, 3, 4]
        assert [await anext(all_of_them) for _ in range(3)] == [first, *rest]
        await put(outbox, "last")
        assert (await anext(from_now)).key == "last"
        outbox.stop()
        assert [result async for result in from_now] == []
    await reader.aclose()
    async with aclosing(reader.results(after=0)) as closed:
        with pytest.raises(StopAsyncIteration):
            await anext(closed)


async def test_a_closed_outbox_says_so(new: New) -> None:
    outbox = new()
    await outbox.aclose()
    with pytest.raises(OutboxError, match="it is closed"):
        await put(outbox, "a")
    with pytest.raises(ConfigurationError):
        await outbox.__aenter__()
    with pytest.raises(ConfigurationError):
        await new().stopped()


async def test_leaving_waits_for_the_calls_under_way(api: Sandbox, new: New) -> None:
    api.faults.add(held := Held(), call="send-mms")
    async with new() as outbox:
        await put(outbox, "a")
        await until(lambda: api.sends)
        await put(outbox, "b", text="Another")
        outbox.stop()  # as leaving does first
        asyncio.get_running_loop().call_later(0.1, held.answer.set)
    reader = new()
    assert [(order.key, order.state) async for order in reader.orders()] == [("a", ACCEPTED), ("b", WAITING)]


# What goes wrong ------------------------------------------------------------------------------------------------------


async def test_what_was_throttled_is_sent_later(api: Sandbox, new: New, caplog: pytest.LogCaptureFixture) -> None:
    api.faults.add(throttle(), call="send-mms", times=2)
    async with new() as outbox:
        await put(outbox, "a")
        result = await ended(outbox, "a")
    assert (result.state, result.attempts, len(api.sends)) == (ACCEPTED, 3, 1)
    assert "nothing is sent for" in caplog.text


async def test_what_could_not_leave_is_sent_later(api: Sandbox, new: New) -> None:
    async with new() as outbox:
        with api.refusing():
            await put(outbox, "a")
            while not (result := await outbox.result("a")) or result.error is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert not result.is_over
        assert (await ended(outbox, "a")).state is ACCEPTED


@pytest.mark.parametrize(
    ("code", "cls"), [("LEDGER_ERROR", InsufficientCreditError), ("AUTH_FAILED", AuthenticationError)]
)
async def test_what_is_refused_for_the_accounts_sake_waits_and_the_worker_stops(
    api: Sandbox, new: New, code: str, cls: type[MMSError]
) -> None:
    api.faults.add(Reject(code, "No.", 400), call="send-mms")
    outbox = new()
    with pytest.raises(OutboxStoppedError, match=r"every other call would fail alike.*still waiting") as caught:  # noqa: PT012
        async with asyncio.timeout(LONG), outbox:
            await put(outbox, "a")
            with pytest.raises(OutboxStoppedError):
                async for _ in outbox.results():
                    pass
            await outbox.stopped()
    assert isinstance(caught.value.error, cls)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)).error, cls)  # noqa: S301
    api.faults.clear()
    async with new() as again:
        assert (await ended(again, "a")).state is ACCEPTED
    assert api.carried_out("+61400000000") == 1


async def test_what_is_refused_for_the_messages_sake_is_over(api: Sandbox, new: New) -> None:
    api.faults.add(Reject("RECIPIENTS_ERROR", "None left.", 400), call="send-mms")
    async with new() as outbox:
        await put(outbox, "a")
        result = await ended(outbox, "a")
        assert (result.state, result.sent) == (REFUSED, None)
        assert isinstance(result.error, RecipientsError)
        assert [each.state for each in result.recipients] == [REFUSED]
        assert not await outbox.resend_unknown("a")


async def test_an_unknown_order_stays_unknown_until_somebody_decides(api: Sandbox, new: New) -> None:
    api.faults.add(server_error(), call="send-mms")
    async with new() as outbox:
        await put(outbox, "a")
        result = await ended(outbox, "a")
        assert (result.state, result.sent) == (UNKNOWN, None)
        assert isinstance(result.error, OutcomeUnknownError)
        assert result.error.sent_at == result.sent_at
        assert [each.state for each in result.recipients] == [UNKNOWN]
        assert (await put(outbox, "a")).state is UNKNOWN
        api.faults.clear()
        assert await outbox.resend_unknown("a")
        await until(lambda: api.carried_out("+61400000000") == 2)
        assert (await ended(outbox, "a")).state is ACCEPTED


async def test_a_worker_stops_after_several_unknown_outcomes_in_a_row(api: Sandbox, new: New) -> None:
    api.faults.add(server_error(), call="send-mms")
    outbox = new(stop_after=2)
    for number in range(5):
        await put(outbox, f"{number}", text=f"{number}")
    with pytest.raises(OutboxStoppedError, match="after 2 calls in a row whose outcome is unknown"):
        async with asyncio.timeout(LONG), outbox:
            await outbox.stopped()
    counts = await new().counts()
    assert (counts.unknown, counts.waiting) == (2, 3)


async def test_one_wrong_recipient_among_many_is_found(api: Sandbox, new: New) -> None:
    """The API refuses the whole call that it is in."""
    wrong = "+61400000005"

    undone: list[Send] = []

    class Picky(Fault):
        async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
            if wrong not in (send := api.sends[-1]).recipients:
                return answer
            undone.append(send)
            return await Reject("FIELD_INVALID", "A number is invalid.", 400).before(exchange)

    api.faults.add(Picky(), call="send-mms")
    outbox = new()
    for number in range(8):
        await put(outbox, f"{number}", f"+6140000000{number}")
    async with outbox:
        states = [(await ended(outbox, f"{number}")).state for number in range(8)]
    assert states == [REFUSED if number == 5 else ACCEPTED for number in range(8)]
    sent = [phone for send in api.sends if send not in undone for phone in send.recipients]
    assert sorted(sent) == [f"+6140000000{number}" for number in range(8) if number != 5]
    assert len(undone) == 4  # of 8, 4, 2 and 1


async def test_a_silent_refusal_is_told_of_the_order_that_it_meets(new: New, api: Sandbox) -> None:
    phones = ["+61400000000", "+61400000001", "+61400000002"]
    api.faults.add(taken(phones[:2], 2), call="send-mms")
    outbox = new()
    for phone in phones:
        await put(outbox, phone, phone)
    async with outbox:
        results = [await ended(outbox, phone) for phone in phones]
    assert [result.state for result in results] == [ACCEPTED, ACCEPTED, REFUSED]
    assert isinstance(results[2].error, RecipientsError)
    assert results[2].sent is not None
    assert results[2].sent.refused == (phones[2],)


async def test_where_the_answer_does_not_tell_whom_it_refused_they_are_unknown(new: New, api: Sandbox) -> None:
    phones = ["+61400000000", "+61400000001", "+61400000002"]
    api.faults.add(taken(phones[:1], 2), call="send-mms")
    outbox = new()
    for phone in phones:
        await put(outbox, phone, phone)
    async with outbox:
        results = [await ended(outbox, phone) for phone in phones]
    assert [result.state for result in results] == [ACCEPTED, UNKNOWN, UNKNOWN]
    assert results[2].sent is not None
    assert (results[2].sent.accepted, results[2].sent.refused) == (0, None)


FIRST = "id-+61400000000"


async def in_doubt(api: Sandbox, outbox: Outbox, numbers: list[str]) -> OutboxResult:
    """An order whose answer names the first of three, and counts two."""
    api.faults.add(taken(numbers[:1], 2), call="send-mms", times=1)
    await put(outbox, "a", numbers)
    result = await ended(outbox, "a")
    assert [(each.state, each.message_id) for each in result.recipients] == [(ACCEPTED, FIRST), *[(UNKNOWN, None)] * 2]
    return result


def report(number: str, message_id: str) -> DeliveryReport:
    return DeliveryReport(
        message_id=message_id, recipient=number, status=DeliveryStatus.DELIVERED, custom_string=None, source=None
    )


async def test_an_order_is_sent_again_to_those_alone_of_whom_nothing_is_known(api: Sandbox, new: New) -> None:
    numbers = [f"+6140000000{number}" for number in range(3)]
    async with new() as outbox:
        first = await in_doubt(api, outbox, numbers)
        assert await outbox.resend_unknown("a")
        result = await ended(outbox, "a")
        assert not await outbox.resend_unknown("a")
    assert [send.recipients for send in api.sends] == [tuple(numbers[1:])]
    assert (result.state, result.error, result.attempts) == (ACCEPTED, None, 2)
    assert [each.state for each in result.recipients] == [ACCEPTED] * 3
    assert result.recipients[0].message_id == FIRST
    assert first.sent is not None
    assert result.sent is not None
    assert (result.sent.accepted, result.sent.total, result.sent.refused) == (3, 3, ())
    assert [(each.id, each.to) for each in result.sent.messages] == [
        (each.message_id, each.number) for each in result.recipients
    ]
    assert result.sent.credits_used is not None
    assert first.sent.credits_used is not None
    assert result.sent.credits_used > first.sent.credits_used


async def test_what_is_told_of_an_order_that_is_sent_again_and_of_which_some_are_proven_meanwhile(
    api: Sandbox, new: New
) -> None:
    numbers = [f"+6140000000{number}" for number in range(3)]
    held = Held()
    async with new() as outbox:
        await in_doubt(api, outbox, numbers)
        await outbox.record(report(numbers[1], "2"))
        api.faults.add(held, call="send-mms", times=1)
        assert await outbox.resend_unknown("a")
        await until(lambda: api.sends)
        under_way = await outbox.result("a")
        assert under_way is not None
        assert (under_way.state, [each.message_id for each in under_way.recipients]) == (SENDING, [FIRST, "2", None])
        assert under_way.sent is not None
        assert (under_way.sent.accepted, under_way.sent.total, under_way.sent.refused) == (2, 3, None)
        held.answer.set()
        result = await ended(outbox, "a")
    assert [send.recipients for send in api.sends] == [(numbers[2],)]
    assert [(each.state, each.proven) for each in result.recipients] == [
        (ACCEPTED, False),
        (ACCEPTED, True),
        (ACCEPTED, False),
    ]
    assert result.sent is not None
    assert (result.sent.accepted, result.sent.total, result.sent.refused) == (3, 3, ())


async def test_an_order_that_was_accepted_in_part_is_unknown_again_where_it_is_cancelled_instead(
    api: Sandbox, new: New
) -> None:
    numbers = [f"+6140000000{number}" for number in range(3)]
    async with new() as outbox:
        first = await in_doubt(api, outbox, numbers)
    outbox = new()
    assert await outbox.resend_unknown("a")
    assert await outbox.cancel("a")
    result = await ended(outbox, "a")
    assert (result.state, result.recipients, api.sends) == (UNKNOWN, first.recipients, [])
    assert isinstance(result.error, OutcomeUnknownError)
    assert "it was cancelled when it was to be sent again" in str(result.error)
    assert await outbox.reconcile() == 0
    await outbox.record(report(numbers[2], "3"))
    assert (await ended(outbox, "a")).state is UNKNOWN
    await outbox.record(report(numbers[1], "2"))
    result = await ended(outbox, "a")
    assert (result.state, [each.message_id for each in result.recipients]) == (ACCEPTED, [FIRST, "2", "3"])
    assert result.error is None


def taken(listed: list[str], accepted: int) -> Fault:
    """An answer of three that lists some."""
    messages = [{"message_id": f"id-{phone}", "to": phone} for phone in listed]
    return success({"messages": messages, "total_numbers": 3, "success_number": accepted, "credits_used": accepted})


# One worker for a file ------------------------------------------------------------------------------------------------


async def test_a_file_with_two_names_is_refused(mms: AsyncMMSClient, tmp_path: Path) -> None:
    async with Outbox(mms, tmp_path / "outbox.db") as outbox:
        await put(outbox, "a")
    os.link(tmp_path / "outbox.db", tmp_path / "other.db")
    for name in ("outbox.db", "other.db"):
        with pytest.raises(OutboxError, match="2 names"):
            await Outbox(mms, tmp_path / name).counts()


async def test_a_file_has_one_worker(api: Sandbox, mms: AsyncMMSClient, tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with Outbox(mms, path) as outbox:
        second = Outbox(mms, path)
        with pytest.raises(OutboxBusyError, match="another worker"):
            await second.__aenter__()
        other = Outbox(mms, path)
        await put(other, "a")
        assert (await ended(outbox, "a")).state is ACCEPTED
        await other.aclose()
    async with Outbox(mms, path) as outbox:
        assert (await outbox.counts()).accepted == 1
    assert os.listdir(tmp_path) == ["outbox.db"]
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
async def test_a_file_has_one_worker_also_where_its_lock_file_is_removed(mms: AsyncMMSClient, tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with Outbox(mms, path):
        os.unlink(f"{path}-worker")
        second = Outbox(mms, path)
        with pytest.raises(OutboxBusyError, match="another worker"):
            await second.__aenter__()
        with closing(outbox_at(path)) as store, pytest.raises(JournalBusyError, match="another worker"):
            store.settle()
        await second.aclose()
    async with Outbox(mms, path):
        pass


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
async def test_a_file_that_is_no_outbox_is_left_alone(mms: AsyncMMSClient, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(content)
    outbox = Outbox(mms, path)
    with pytest.raises(OutboxError):
        await put(outbox, "a")
    await outbox.aclose()
    assert path.read_bytes() == content


async def test_a_file_that_is_replaced_while_it_is_open(mms: AsyncMMSClient, tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = Outbox(mms, path)
    await put(outbox, "a")
    path.rename(tmp_path / "moved.db")
    with pytest.raises(OutboxError, match="was removed or replaced"):
        await put(outbox, "b")
    await outbox.aclose()


# Unknown orders that callbacks settle ---------------------------------------------------------------------------------


def delivered(message: Message) -> list[dict[str, str]]:
    """A callback."""
    return [{"message_id": message.id, "status": "Delivered", "recipient": message.to.removeprefix("+")}]


async def test_callbacks_settle_unknown_orders(api: Sandbox, new: New) -> None:
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    async with new() as outbox, CallbackReceiver(token=TOKEN) as receiver:
        receiver.record_into(outbox)
        await put(outbox, "order-17", ["+61400000000", "+61400000001"])
        unknown = await ended(outbox, "order-17")
        assert (unknown.state, unknown.sent) == (UNKNOWN, None)
        first, second = api.messages
        assert await status(receiver, delivered(first)) == 200
        async with asyncio.timeout(LONG), aclosing(outbox.results(after=unknown.number)) as results:
            settled = await anext(results)
        assert (settled.state, settled.error) == (ACCEPTED, None)
        assert [(each.state, each.message_id, each.proven) for each in settled.recipients] == [
            (ACCEPTED, first.id, True),
            (UNKNOWN, None, False),
        ]
        assert settled.sent is not None
        assert (settled.sent.accepted, settled.sent.total, settled.sent.refused) == (1, 2, None)
        assert (settled.sent.proven, settled.sent.repeated) == (True, False)
        assert [(each.id, each.to) for each in settled.sent.messages] == [(first.id, first.to)]
        assert await status(receiver, delivered(second)) == 200
        settled = await ended(outbox, "order-17")
        assert settled.sent is not None
        assert (settled.sent.accepted, settled.sent.refused) == (2, ())
        assert pickle.loads(pickle.dumps(settled)) == settled  # noqa: S301
    assert api.calls["send-mms"] == 1


async def test_a_reply_settles_an_unknown_order_in_another_process(api: Sandbox, new: New) -> None:
    """There it neither sends nor has a worker."""
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    async with new() as sending:
        await put(sending, "order-17")
        unknown = await ended(sending, "order-17")
        (message,) = api.messages
        inbound = InboundMessage(
            id="1",
            sender=message.to,
            text="Thanks",
            received_at=datetime.now(UTC),
            received_at_text="",
            kind="MMS",
            original_message_id="",
            original_text="",
            custom_string=None,
        )
        elsewhere = new()
        await elsewhere.record_reply(inbound)
        assert (await ended(elsewhere, "order-17")).number == unknown.number
        await elsewhere.record_reply(evolve(inbound, original_message_id=message.id))
        settled = await sending.result("order-17")
        assert settled is not None
        assert settled.state is ACCEPTED
        await elsewhere.aclose()
        with pytest.raises(OutboxError, match="closed"):
            await elsewhere.record_reply(evolve(inbound, original_message_id=message.id))


async def test_a_worker_settles_what_other_calls_had_left_open(
    api: Sandbox, new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that either of two calls may have caused, until the answer of one of them names another message."""
    monkeypatch.setattr("mmsclient.outbox.worker.SETTLE_EVERY", 0.05)
    may_answer = threading.Event()

    class Slow(Fault):
        async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
            await asyncio.to_thread(may_answer.wait)
            return answer

    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    async with new() as outbox:
        try:
            await put(outbox, "order-17", text="First")
            unknown = await ended(outbox, "order-17")
            api.faults.add(Slow(), call="send-mms")
            await put(outbox, "order-18", text="Second")
            await until(lambda: len(api.sends) == 2)
            report = DeliveryReport(
                message_id=api.messages[0].id,
                status=DeliveryStatus.DELIVERED,
                recipient="+61400000000",
                custom_string=None,
                source=None,
            )
            await outbox.record(report)
            assert (await ended(outbox, "order-17")).state is UNKNOWN
            may_answer.set()
            async with asyncio.timeout(LONG), aclosing(outbox.results(after=unknown.number)) as results:
                settled = {(result := await anext(results)).key: result.state for _ in range(2)}
            assert settled == {"order-17": ACCEPTED, "order-18": ACCEPTED}
        finally:
            may_answer.set()
