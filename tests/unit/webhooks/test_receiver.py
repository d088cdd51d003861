"""Callbacks: the parser, the door and the handing over, without a server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import DeliveryStatus
from mmsclient._store import handled_events, sqlite_events, stores
from mmsclient._store.handled_events import Reservation
from mmsclient._store.sqlite_events import events_in_file
from mmsclient.errors import ConfigurationError, InvalidRequestError
from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.webhooks import (
    CallbackReceiver,
    ReceiverStats,
    UnreadableCallback,
    handlers,
    new_token,
    notes,
    parse_callbacks,
)
from mmsclient.webhooks import dispatch as dispatch_module
from mmsclient.webhooks import waiters as waiters_module
from mmsclient.webhooks.deadlines import Deadlines
from mmsclient.webhooks.dedup import key_of
from mmsclient.webhooks.parse import MOST_ITEMS
from mmsclient.webhooks.throttled_log import ThrottledLog
from tests.conftest import until
from tests.support.callbacks import TOKEN, post, status
from tests.support.virtual_time import in_virtual_time, run

REPORT = {
    "message_id": "A21741CB",
    "status": "Delivered",
    "recipient": "61400000000",
    "custom_string": "x",
    "source": "y",
}
INBOUND = {
    "from": "61412345678",
    "body": "Stop!",
    "received_at": "2026-01-08 17:50:34",
    "message_id": "6952176713",
    "type": "SMS",
    "original_message_id": "A21741CB",
    "original_body": "Sale",
}


def report(number: int = 1, status: str = "Delivered") -> dict[str, Any]:
    return REPORT | {"message_id": f"id-{number}", "status": status}


# The parser -------------------------------------------------------------------------------------------------


def test_delivery_reports() -> None:
    first, second = parse_callbacks(json.dumps([REPORT | {"new": 1}, {"message_id": 7, "status": "Teleported"}]))
    assert first == DeliveryReport(
        message_id="A21741CB",
        status=DeliveryStatus.DELIVERED,
        recipient="+61400000000",
        custom_string="x",
        source="y",
    )
    assert first.raw["new"] == 1
    assert isinstance(second, DeliveryReport)
    assert (second.message_id, second.recipient, second.custom_string) == ("7", "", None)
    assert (second.status, second.status.is_final) == ("Teleported", False)


@pytest.mark.parametrize("shape", [INBOUND, [INBOUND], [INBOUND, INBOUND]])
def test_inbound_messages_alone_and_in_arrays(shape: Any) -> None:
    events = parse_callbacks(json.dumps(shape).encode(), timezone=UTC)
    assert len(events) == (len(shape) if isinstance(shape, list) else 1)
    assert set(events) == {
        InboundMessage(
            id="6952176713",
            sender="+61412345678",
            text="Stop!",
            received_at=datetime(2026, 1, 8, 17, 50, 34, tzinfo=UTC),
            received_at_text="2026-01-08 17:50:34",
            kind="SMS",
            original_message_id="A21741CB",
            original_text="Sale",
            custom_string=None,
        )
    }
    assert events[0].is_opt_out  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "odd",
    [
        7,
        None,
        "text",
        [],
        [REPORT],
        {},
        {"message_id": "1"},
        {"status": "", "recipient": "1"},
        {"status": {}, "recipient": "1"},
        {"status": "x" * 201, "recipient": "1"},
        {"status": "Delivered", "recipient": "1", "message_id": ["1"]},
        {"from": None, "body": "x"},
        REPORT | INBOUND,
    ],
)
def test_an_odd_item_is_set_aside_and_its_neighbours_are_kept(odd: Any) -> None:
    before, between, after = parse_callbacks(json.dumps([REPORT, odd, INBOUND]))
    assert isinstance(before, DeliveryReport)
    assert isinstance(after, InboundMessage)
    assert isinstance(between, UnreadableCallback)
    assert json.loads(between.body) == odd


def test_a_callback_of_the_newer_platform_is_known() -> None:
    item = {"_id": "5f", "status": "x", "type": "receive", "message": "Yes", "sender": "614", "receiver": "615"}
    for body in (item, [item], {**item, "type": "send"}):
        (event,) = parse_callbacks(json.dumps(body))
        assert isinstance(event, UnreadableCallback)
        assert "newer platform" in event.reason


def test_what_would_spoil_all_spoils_one_value() -> None:
    body = json.dumps([REPORT]).encode()[:-1] + b',{"status":"Failed","message_id":%s,"source":NaN,"recipient":"\xff"}]'
    first, second = parse_callbacks(body % (b"9" * 5000))
    assert isinstance(first, DeliveryReport)
    assert isinstance(second, UnreadableCallback)
    (third,) = parse_callbacks(b'\xef\xbb\xbf[{"status":"Failed","message_id":1,"source":NaN,"recipient":"\xff"}]')
    assert isinstance(third, DeliveryReport)
    assert (third.source, third.recipient) == ("NaN", "\ufffd")


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"a=1&b=2", b"\xff\xfe\xfd", '{"a":"\ud800'])
def test_a_body_that_is_not_json_is_kept_whole(body: bytes | str) -> None:
    (event,) = parse_callbacks(body)
    assert isinstance(event, UnreadableCallback)
    assert event.body == (body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass"))


def test_deep_values_and_many_items() -> None:
    deep = '[{"status":%s1%s,"message_id":"1"},{"status":"Failed","message_id":"1","x":%s1%s}]'
    for depth in (10, 300, 500, 900, 2000):
        brackets = "[" * depth, "]" * depth
        parse_callbacks(deep % (*brackets, *brackets))
    (event,) = parse_callbacks("[" + "0," * MOST_ITEMS + "0]")
    assert isinstance(event, UnreadableCallback)
    assert parse_callbacks("[]") == []
    with pytest.raises(InvalidRequestError, match="body"):
        parse_callbacks(7)  # type: ignore[arg-type]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*REPORT, *INBOUND]) | st.text(max_size=3), inner, max_size=8)
    ),
)


@given(st.binary() | ANY_JSON.map(json.dumps))
def test_whatever_comes_becomes_events(body: bytes | str) -> None:
    for event in parse_callbacks(body):
        assert isinstance(event, DeliveryReport | InboundMessage | UnreadableCallback)
        key = key_of(event)
        assert key is None or len(key) == 16


# A request, without a server --------------------------------------------------------------------------------


class Desk:
    """A receiver and what its handlers were given."""

    def __init__(self, **options: Any) -> None:
        self.receiver = CallbackReceiver(token=TOKEN, **options)
        self.reports: list[DeliveryReport] = []
        self.messages: list[InboundMessage] = []
        self.odd: list[UnreadableCallback] = []
        self.failures = 0

        @self.receiver.on_delivery_report
        async def take_report(report: DeliveryReport) -> None:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("on purpose")
            self.reports.append(report)

        self.receiver.on_inbound(self.messages.append)  # a plain function
        self.receiver.on_unreadable(self.odd.append)


async def test_handlers_get_each_event_once() -> None:
    desk = Desk()
    body = [report(1), report(1), report(1, "Failed"), report(2), INBOUND, 7]
    for _ in range(3):
        assert await status(desk.receiver, body) == 200
    assert [(each.message_id, each.status) for each in desk.reports] == [
        ("id-1", "Delivered"),
        ("id-1", "Failed"),
        ("id-2", "Delivered"),
    ]
    assert [message.id for message in desk.messages] == ["6952176713"]
    assert [odd.body for odd in desk.odd] == [b"7"] * 3
    await desk.receiver.aclose()


async def test_copies_at_the_same_time_are_one_event() -> None:
    desk = Desk()
    outcomes = await asyncio.gather(*(status(desk.receiver, [report()]) for _ in range(50)))
    assert set(outcomes) == {200}
    assert len(desk.reports) == 1


async def test_two_recipients_of_one_message_are_two_events() -> None:
    desk = Desk()
    for recipient in ("61400000001", "+61 400 000 001", "61400000002"):
        assert await status(desk.receiver, [REPORT | {"recipient": recipient}]) == 200
    assert [each.recipient for each in desk.reports] == ["+61400000001", "+61400000002"]


async def test_an_event_without_an_id_is_handled_each_time() -> None:
    desk = Desk()
    for _ in range(2):
        assert await status(desk.receiver, [REPORT | {"message_id": ""}, INBOUND | {"message_id": None}]) == 200
    assert (len(desk.reports), len(desk.messages)) == (2, 2)


async def test_a_handler_that_raises_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.failures = 1
    answer, headers, body = await post(desk.receiver, [report(1), report(2)])
    assert (answer, body) == (503, b"Service Unavailable")
    assert int(headers["retry-after"]) > 0
    assert "on purpose" in caplog.text
    assert await status(desk.receiver, [report(1), report(2)]) == 200
    assert [each.message_id for each in desk.reports] == ["id-2", "id-1"]  # one that fails starves no other


async def test_memory_is_bounded() -> None:
    desk = Desk(remember=10)
    for number in range(30):
        assert await status(desk.receiver, [report(number)]) == 200
    assert await status(desk.receiver, [report(29)]) == 200
    assert len(desk.reports) == 30
    assert await status(desk.receiver, [report(0)]) == 200
    assert len(desk.reports) == 31


@in_virtual_time
async def test_a_slow_handler_goes_on_and_the_repeated_callback_finds_it_done() -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=0.05)
    go_on = asyncio.Event()
    handled: list[DeliveryReport] = []

    @receiver.on_delivery_report
    async def handle(report: DeliveryReport) -> None:
        await go_on.wait()
        handled.append(report)

    assert await status(receiver, [report()]) == 503
    assert await status(receiver, [report()]) == 503
    go_on.set()
    assert await status(receiver, [report()]) == 200
    assert len(handled) == 1


async def test_a_request_that_is_cancelled_does_not_tear_the_handling() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @receiver.on_delivery_report
    async def handle(report: DeliveryReport) -> None:
        begun.set()
        await go_on.wait()
        ended.set()

    request = asyncio.create_task(status(receiver, [report()]))
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    go_on.set()
    await ended.wait()


@in_virtual_time
async def test_more_events_than_may_be_handled_at_a_time_wait_for_a_place() -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=0.2, max_events=2)
    go_on, begun = asyncio.Event(), 0

    @receiver.on_delivery_report
    async def handle(report: DeliveryReport) -> None:
        nonlocal begun
        begun += 1
        await go_on.wait()

    messages: list[InboundMessage] = []

    @receiver.on_inbound
    async def take(message: InboundMessage) -> None:
        messages.append(message)

    callbacks = [asyncio.create_task(status(receiver, [report(number)])) for number in range(6)]
    await asyncio.sleep(0.05)
    assert begun == 2
    assert await status(receiver, INBOUND) == 200  # another kind
    assert len(messages) == 1
    go_on.set()
    assert await asyncio.gather(*callbacks) == [200] * 6
    go_on.clear()
    outcomes = [asyncio.create_task(status(receiver, [report(number)])) for number in range(10, 16)]
    assert await asyncio.gather(*outcomes) == [503] * 6
    assert begun == 8  # those that got no place are not handled behind their senders' backs
    go_on.set()
    await receiver.aclose()


@in_virtual_time
async def test_a_flood_while_handlers_are_stuck_is_refused(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch_module, "MOST_WAITING", 20)
    receiver = CallbackReceiver(token=TOKEN, timeout=1.0, max_events=2)
    release = asyncio.Event()
    begun: list[str] = []

    @receiver.on_delivery_report
    async def handle(report: DeliveryReport) -> None:
        begun.append(report.message_id)
        await release.wait()

    items = [report(number) for number in range(90)] + [report(0)] * 10  # copies wait as well
    callbacks = [asyncio.create_task(status(receiver, [item])) for item in items]
    await until(lambda: receiver.stats.refused)
    assert sum(callback.done() for callback in callbacks) == 78  # at once, and before any other is late
    assert receiver.stats == ReceiverStats(refused=78, under_way=2, unavailable={"refused": 78})
    assert await status(receiver, [report(number) for number in range(100, 120)]) == 503
    assert set(await asyncio.gather(*callbacks)) == {503}
    unavailable = {"refused": 78 + 1, "late": 22}
    assert receiver.stats == ReceiverStats(refused=78 + 20 + 20, under_way=2, unavailable=unavailable)
    assert "a delivery report was refused, since 22 are being handled or wait" in caplog.text
    release.set()
    assert await status(receiver, [report(number) for number in range(20)]) == 200
    assert sorted(begun) == sorted(f"id-{number}" for number in range(20))
    await receiver.aclose()


async def test_copies_that_wait_for_a_place_are_one_event() -> None:
    receiver = CallbackReceiver(token=TOKEN, max_events=1)
    go_on = asyncio.Event()
    handled: list[str] = []

    @receiver.on_delivery_report
    async def handle(report: DeliveryReport) -> None:
        await go_on.wait()
        handled.append(report.message_id)

    first = asyncio.create_task(status(receiver, [report(1)]))
    copies = [asyncio.create_task(status(receiver, [report(2)])) for _ in range(5)]
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(first, *copies) == [200] * 6
    assert handled == ["id-1", "id-2"]


@in_virtual_time
async def test_what_nobody_takes_is_answered_in_time_and_gives_its_place_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=0.2, max_events=10)
    messages: list[InboundMessage] = []

    @receiver.on_inbound
    async def take(message: InboundMessage) -> None:
        messages.append(message)

    for turn in range(2):
        reports = [asyncio.create_task(status(receiver, [report(20 * turn + number)])) for number in range(20)]
        await asyncio.sleep(0)
        assert await status(receiver, INBOUND | {"message_id": f"stop-{turn}"}) == 200
        assert not all(each.done() for each in reports)
        async with asyncio.timeout(60):
            assert await asyncio.gather(*reports) == [503] * 20
            while receiver.stats.unclaimed < 20 * (turn + 1):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert [message.id for message in messages] == ["stop-0", "stop-1"]
    stats = receiver.stats
    assert (stats.handled, stats.unclaimed, stats.without_handler) == (2, 40, 40)
    assert sum(stats.unavailable.values()) == 40
    assert "a delivery report was not handled: nobody took it within 0.2 s" in caplog.text
    assert "nobody takes events of its kind, and 10 wait already" in caplog.text
    assert receiver._dispatcher._under_way == {}
    assert receiver._dispatcher._pending._queue.qsize() <= 64 + 2


@in_virtual_time
async def test_late_reports_leave_room_for_one_that_is_waited_for() -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=0.2, max_events=3)
    waiting = asyncio.create_task(receiver.wait_for("id-99", timeout=10))
    late = [asyncio.create_task(status(receiver, [report(number)])) for number in range(6)]
    await asyncio.sleep(0)
    assert await status(receiver, [report(99)]) == 200
    assert (await waiting).message_id == "id-99"
    assert await asyncio.gather(*late) == [503] * 6


async def test_a_worker_that_takes_nothing_gives_the_event_to_one_that_does(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    idle = CallbackReceiver(token=TOKEN, seen=path, timeout=0.3)
    desk = Desk(seen=path, timeout=30.0)
    refused = asyncio.create_task(status(idle, [report()]))
    while not idle._dispatcher._pending._pending:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await status(desk.receiver, [report()]) == 200
    assert await refused == 503
    assert len(desk.reports) == 1
    assert await status(idle, [report()]) == 200  # known as handled
    stats = idle.stats
    assert (stats.repeated, stats.unclaimed, stats.without_handler) == (1, 1, 2)
    assert sum(stats.unavailable.values()) == 1
    await idle.aclose()
    await desk.receiver.aclose()


async def test_what_another_process_keeps_reserved_gives_its_place_back_in_time(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    stuck = events_in_file(path)
    (event,) = parse_callbacks(json.dumps(report(1)))
    key = key_of(event)
    assert key
    assert await stuck.reserve(key) is Reservation.OURS
    desk = Desk(seen=path, timeout=2.0, max_events=1)
    assert await status(desk.receiver, [report(1)]) == 503
    await until(lambda: not desk.receiver._dispatcher._under_way)
    assert await status(desk.receiver, [report(2)]) == 200
    await stuck.release(key)
    assert await status(desk.receiver, [report(1)]) == 200
    assert [each.message_id for each in desk.reports] == ["id-2", "id-1"]
    await stuck.aclose()
    await desk.receiver.aclose()


async def test_what_was_handled_and_could_not_be_noted_is_not_handled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mmsclient._store.sqlite_events.BUSY", 0.05)
    path = tmp_path / "seen.sqlite"
    receiver, handled = CallbackReceiver(token=TOKEN, seen=path), list[str]()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        @receiver.on_delivery_report
        async def take(report: DeliveryReport) -> None:
            handled.append(report.message_id)
            other.execute("BEGIN IMMEDIATE")  # from now on nobody else writes

        assert await status(receiver, [report()]) == 200
        assert "handled but not noted" in caplog.text
        assert await status(receiver, [report()]) == 200
        other.execute("ROLLBACK")
        assert await status(receiver, [report()]) == 200
    assert handled == ["id-1"]
    assert receiver.stats == ReceiverStats(handled=1, repeated=2)
    await receiver.aclose()
    desk = Desk(seen=path)
    assert await status(desk.receiver, [report()]) == 200  # it is noted by now
    assert desk.reports == []
    await desk.receiver.aclose()


@pytest.fixture
def events_cannot_be_confirmed(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """In the file `seen.sqlite`, though they can be reserved; until it is called."""
    with closing(sqlite3.connect(tmp_path / "seen.sqlite", isolation_level=None, check_same_thread=False)) as file:
        file.executescript(sqlite_events._SCHEMA)
        file.execute(
            "CREATE TRIGGER refusal BEFORE UPDATE OF handled ON event BEGIN SELECT RAISE(ABORT, 'on purpose'); END"
        )
        yield lambda: file.execute("DROP TRIGGER refusal").close()


def rows(path: Path) -> list[tuple[float, int]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT until, handled FROM event").fetchall()


async def test_what_could_not_be_noted_stays_reserved_until_it_is_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events_cannot_be_confirmed: Callable[[], None]
) -> None:
    monkeypatch.setattr(stores, "events_in_file", partial(events_in_file, lease=0.6))
    desk = Desk(seen=tmp_path / "seen.sqlite")
    assert await status(desk.receiver, [report()]) == 200
    renewals: set[float] = set()
    async with asyncio.timeout(60):
        while len(renewals) < 3:
            renewals.update(until_when for until_when, _ in rows(tmp_path / "seen.sqlite"))
            await asyncio.sleep(0.02)
    events_cannot_be_confirmed()
    await until(lambda: [handled for _, handled in rows(tmp_path / "seen.sqlite")] == [1])
    await until(lambda: not desk.receiver._dispatcher._notes._unnoted)
    await desk.receiver.aclose()


@pytest.mark.parametrize("is_mended", [True, False])
async def test_closing_tries_once_more_to_note_what_was_handled(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    events_cannot_be_confirmed: Callable[[], None],
    is_mended: bool,
) -> None:
    monkeypatch.setattr(notes, "NOTE_AGAIN", 1000.0)
    desk = Desk(seen=tmp_path / "seen.sqlite")
    assert await status(desk.receiver, [report(1), report(2)]) == 200
    if is_mended:
        events_cannot_be_confirmed()
    await desk.receiver.aclose()
    assert [bool(handled) for _, handled in rows(tmp_path / "seen.sqlite")] == [is_mended] * 2
    assert ("2 events were handled but not noted" in caplog.text) is not is_mended


async def test_a_note_that_the_closing_does_not_wait_for_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, handled = tmp_path / "seen.sqlite", asyncio.Event()
    receiver = CallbackReceiver(token=TOKEN, seen=path, timeout=0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        @receiver.on_delivery_report
        async def take(report: DeliveryReport) -> None:
            other.execute("BEGIN IMMEDIATE")
            handled.set()

        posting = asyncio.create_task(status(receiver, [report()]))
        await handled.wait()
        closing_it = asyncio.create_task(receiver.aclose())
        await until(lambda: "1 events were handled but not noted" in caplog.text)
        other.execute("ROLLBACK")
        await closing_it
    assert await posting == 503


async def test_unnoted_events_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events_cannot_be_confirmed: Callable[[], None]
) -> None:
    monkeypatch.setattr(notes, "MOST_UNNOTED", 3)
    desk = Desk(seen=tmp_path / "seen.sqlite")
    for number in range(5):
        assert await status(desk.receiver, [report(number)]) == 200
    assert len(desk.receiver._dispatcher._notes._unnoted) == 3
    assert len(desk.receiver._dispatcher._dedup._reserved) == 3  # type: ignore[attr-defined]
    await desk.receiver.aclose()


@pytest.mark.parametrize("waits_for", ["the handler", "the file"])
async def test_a_closing_that_is_cancelled_closes_the_file_all_the_same(tmp_path: Path, waits_for: str) -> None:
    receiver = CallbackReceiver(token=TOKEN, seen=tmp_path / "seen.sqlite")
    is_at_work, go_on = asyncio.Event(), asyncio.Event()

    @receiver.on_delivery_report
    async def take(report: DeliveryReport) -> None:
        is_at_work.set()
        await go_on.wait()

    posting = asyncio.create_task(status(receiver, [report()]))
    await is_at_work.wait()
    if waits_for == "the file":
        go_on.set()
        assert await posting == 200
    closing_it = asyncio.create_task(receiver.aclose())
    await asyncio.sleep(0)
    closing_it.cancel()
    await asyncio.wait([closing_it])
    assert closing_it.cancelled()
    await until(lambda: not receiver._dispatcher._dedup._commits.is_open)  # type: ignore[attr-defined]
    go_on.set()
    await posting


async def test_a_burst_waits_for_its_one_consumer() -> None:
    receiver = CallbackReceiver(token=TOKEN, max_events=5)

    async def consume() -> None:
        async for _ in receiver.events():
            await asyncio.sleep(0)

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(0)
    assert await asyncio.gather(*(status(receiver, [report(n)]) for n in range(100))) == [200] * 100
    await receiver.aclose()
    await consumer


async def test_one_bad_item_starves_none_of_its_neighbours() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    handled: list[str] = []

    @receiver.on_delivery_report
    async def handle(report: DeliveryReport) -> None:
        if report.message_id == "id-0":
            raise RuntimeError("on purpose")
        handled.append(report.message_id)

    for _ in range(3):
        assert await status(receiver, [report(1), report(0), 7, report(2), report(3)]) == 503
    assert handled == ["id-1", "id-2", "id-3"]
    unavailable = {"failed": 3}
    assert receiver.stats == ReceiverStats(handled=3, repeated=6, failed=3, unreadable=3, unavailable=unavailable)


async def test_handlers_that_hang_in_threads_hold_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MOST_THREADS", 40)
    receiver = CallbackReceiver(token=TOKEN, seen=tmp_path / "seen.sqlite", timeout=2.0)
    release = threading.Event()
    handled: list[str] = []
    receiver.on_delivery_report(lambda report: release.wait(30))
    receiver.on_inbound(lambda message: handled.append(message.id))
    try:
        hung = await asyncio.gather(*(status(receiver, [report(number)]) for number in range(50)))
        assert hung == [503] * 50
        assert await status(receiver, INBOUND) == 200
        assert handled == ["6952176713"]
    finally:
        release.set()
    await receiver.aclose()


async def test_a_journal_sees_reports_first_and_may_be_all_there_is() -> None:
    class Journal:
        def __init__(self) -> None:
            self.reports: list[DeliveryReport] = []

        def record(self, report: DeliveryReport) -> None:
            self.reports.append(report)

    journal, desk = Journal(), Desk()
    desk.receiver.record_into(journal)
    desk.failures = 1
    assert await status(desk.receiver, [report()]) == 503
    assert await status(desk.receiver, [report(), INBOUND]) == 200
    assert (len(journal.reports), len(desk.reports)) == (2, 1)

    alone = CallbackReceiver(token=TOKEN, timeout=1.0)
    alone.record_into(journal)
    assert await status(alone, [report()]) == 200
    assert await status(alone, INBOUND) == 503  # nobody takes it


async def test_one_handler_a_kind() -> None:
    desk = Desk()
    with pytest.raises(ConfigurationError, match="each event is handled once"):
        desk.receiver.on_inbound(print)


async def cancelled_itself(event: object) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


def cancelled_in_its_thread(event: object) -> None:
    raise asyncio.CancelledError


class NoException(BaseException):
    """As pytest's outcomes are."""


async def raises_what_is_no_exception(event: object) -> None:
    raise NoException


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


async def raises_what_cannot_be_shown(event: object) -> None:
    raise UnprintableError


@pytest.mark.parametrize(
    "handler",
    [cancelled_itself, cancelled_in_its_thread, raises_what_is_no_exception, raises_what_cannot_be_shown],
)
async def test_a_handler_has_failed_whatever_it_ends_by(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, handler: Callable[[object], Any]
) -> None:
    receiver = CallbackReceiver(token=TOKEN, seen=tmp_path / "seen.sqlite")
    receiver.on_delivery_report(handler)
    assert await status(receiver, [report()]) == 503
    assert receiver.stats.failed == 1
    assert receiver.stats.unavailable == {"failed": 1}
    assert "could not be handled" in caplog.text
    desk = Desk(seen=tmp_path / "seen.sqlite")
    assert await status(desk.receiver, [report()]) == 200
    assert len(desk.reports) == 1
    await receiver.aclose()
    await desk.receiver.aclose()


async def yields(event: object) -> AsyncIterator[None]:
    yield


def yields_in_a_thread(event: object) -> Iterator[None]:
    yield


class Yields:
    __call__ = staticmethod(yields)


@pytest.mark.parametrize("handler", [None, 3, "x", yields, yields_in_a_thread, partial(yields), Yields()])
def test_a_handler_that_cannot_work_is_refused(handler: Any) -> None:
    receiver = CallbackReceiver(token=TOKEN)
    for register in (receiver.on_delivery_report, receiver.on_inbound, receiver.on_unreadable):
        with pytest.raises(ConfigurationError, match="a handler"):
            register(handler)


async def test_a_generator_that_a_plain_handler_returns_is_nothing_handled(caplog: pytest.LogCaptureFixture) -> None:
    receiver = CallbackReceiver(token=TOKEN)
    receiver.on_delivery_report(lambda report: yields(report.message_id))
    assert await status(receiver, [report()]) == 503
    assert "generator" in caplog.text


async def test_an_object_whose_call_is_a_coroutine_is_called_in_the_loop() -> None:
    receiver, threads = CallbackReceiver(token=TOKEN), list[threading.Thread]()

    class Handler:
        async def __call__(self, report: DeliveryReport) -> None:
            threads.append(threading.current_thread())

    receiver.on_delivery_report(Handler())
    assert await status(receiver, [report()]) == 200
    assert threads == [threading.main_thread()]


# events() ---------------------------------------------------------------------------------------------------


async def test_events_are_answered_when_their_consumer_comes_back() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    async with aclosing(receiver.events()) as events:
        callback = asyncio.create_task(status(receiver, [report(1), report(2)]))
        assert (await anext(events)).raw["message_id"] == "id-1"
        assert (await anext(events)).raw["message_id"] == "id-2"
        assert not callback.done()
        following = asyncio.create_task(anext(events))
        assert await callback == 200
        assert await status(receiver, [report(1)]) == 200
        callback = asyncio.create_task(status(receiver, INBOUND))
        assert isinstance(await following, InboundMessage)
    assert await callback == 503  # the consumer stopped before it came back
    await receiver.aclose()


async def test_a_consumer_that_fails_leaves_its_event_to_the_next() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    seen: list[str] = []

    async def consume(times: int) -> None:
        async with aclosing(receiver.events()) as events:
            async for event in events:
                seen.append(event.raw["message_id"])
                if len(seen) >= times:
                    raise RuntimeError("on purpose")

    consumer = asyncio.create_task(consume(1))
    assert await status(receiver, [report()]) == 503
    with pytest.raises(RuntimeError):
        await consumer
    consumer = asyncio.create_task(consume(9))
    assert await status(receiver, [report()]) == 200
    assert seen == ["id-1", "id-1"]
    await receiver.aclose()
    await consumer


async def test_consumers_share_and_end_with_the_receiver() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    seen: list[str] = []

    async def consume() -> None:
        async for event in receiver.events():
            seen.append(event.raw["message_id"])  # noqa: PERF401

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    outcomes = await asyncio.gather(*(status(receiver, [report(number)]) for number in range(20)))
    assert set(outcomes) == {200}
    await receiver.aclose()
    await asyncio.gather(*consumers)
    assert sorted(seen) == sorted(f"id-{number}" for number in range(20))
    assert [event async for event in receiver.events()] == []
    assert await status(receiver, [report(99)]) == 503


async def test_closing_waits_for_the_consumer_at_work() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    callbacks = [asyncio.create_task(status(receiver, [report(number)])) for number in (1, 2)]
    async with aclosing(receiver.events()) as events:
        await anext(events)
        closing = asyncio.create_task(receiver.aclose())
        await asyncio.sleep(0)
        assert [event async for event in events] == []  # it came back, so its event was handled
        await closing
    assert [await callback for callback in callbacks] == [200, 503]


@pytest.mark.parametrize("recorded", [True, False])
async def test_reports_that_are_recorded_need_no_consumer_when_the_last_one_leaves(recorded: bool) -> None:
    receiver, kept = CallbackReceiver(token=TOKEN, timeout=20.0 if recorded else 2.0), list[str]()

    class Journal:
        def record(self, report: DeliveryReport) -> None:
            kept.append(report.message_id)

    if recorded:
        receiver.record_into(Journal())
    async with aclosing(receiver.events()) as events:
        callbacks = [asyncio.create_task(status(receiver, [report(number)])) for number in (1, 2, 3)]
        held = (await anext(events)).raw["message_id"]
        await until(lambda: receiver.stats.under_way == 3 and (len(kept) == 3 or not recorded))
    # the one that it held, and may have failed with, is asked for again
    answers = [await callback for callback in callbacks]
    assert answers.count(503) == (1 if recorded else 3)
    assert await status(receiver, [report() | {"message_id": held}]) == (200 if recorded else 503)
    await receiver.aclose()


@in_virtual_time
async def test_closing_does_not_wait_for_ever() -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=0.05)
    callback = asyncio.create_task(status(receiver, [report()]))
    async with aclosing(receiver.events()) as events:
        await anext(events)
        await receiver.aclose()
        assert await callback == 503


# wait_for ---------------------------------------------------------------------------------------------------


async def test_waiting_for_a_report() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    waiting = asyncio.create_task(receiver.wait_for("id-1"))
    await asyncio.sleep(0)
    assert await status(receiver, [report(1, "Dispatched"), report(1, "Expired")]) == 200
    assert (await waiting).status == "Expired"
    assert (await receiver.wait_for("id-1", timeout=0.001)).status == "Expired"
    with pytest.raises(TimeoutError):
        await receiver.wait_for("id-2", timeout=0.001)


async def test_waiting_for_one_of_several_recipients() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    second = asyncio.create_task(receiver.wait_for("A21741CB", recipient="+61400000002"))
    await asyncio.sleep(0)
    callbacks = [REPORT | {"recipient": f"6140000000{digit}", "status": f"S{digit}"} for digit in (1, 2)]
    finals = [REPORT | {"recipient": "61400000001"}, REPORT | {"recipient": "61400000002", "status": "Failed"}]
    callback = asyncio.create_task(status(receiver, callbacks[1:] + finals))
    first = await receiver.wait_for("A21741CB", recipient="0400 000 001")
    assert (first.status, (await second).status) == ("Delivered", "Failed")
    assert await callback == 200


async def test_a_report_that_came_before_anybody_waited() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    callback = asyncio.create_task(status(receiver, [report()]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not callback.done()
    assert (await receiver.wait_for("id-1")).message_id == "id-1"
    assert await callback == 200


def without_recipient(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "recipient"}


async def test_a_report_without_a_recipient_ends_every_wait_for_its_message() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    of_one, of_any, of_another = (
        asyncio.create_task(receiver.wait_for(*wait, recipient=recipient, timeout=5))
        for *wait, recipient in (("id-1", "+61400000001"), ("id-1", None), ("id-2", "+61400000001"))
    )
    await asyncio.sleep(0)
    assert await status(receiver, [without_recipient(report(1))]) == 200
    assert (await of_one, await of_any) == (of_one.result(),) * 2
    assert not of_another.done()
    offered = asyncio.create_task(status(receiver, [without_recipient(report(2, "Failed"))]))  # waited for already
    assert (await of_another).status == "Failed"
    assert await offered == 200
    assert (await receiver.wait_for("id-1", recipient="+61400000009", timeout=0.001)).recipient == ""


async def test_a_report_without_a_recipient_that_came_first_ends_a_later_wait() -> None:
    receiver = CallbackReceiver(token=TOKEN)
    callback = asyncio.create_task(status(receiver, [without_recipient(report(1))]))
    await asyncio.sleep(0.01)
    assert not callback.done()  # nobody takes it yet
    assert (await receiver.wait_for("id-1", recipient="+61400000001", timeout=5)).status == "Delivered"
    assert await callback == 200


async def test_a_remembered_report_that_names_the_recipient_goes_before_one_that_names_none() -> None:
    desk = Desk()
    assert await status(desk.receiver, [without_recipient(report(1)), report(1, "Failed")]) == 200
    assert (await desk.receiver.wait_for("id-1", recipient="0400 000 000", timeout=1)).status == "Failed"
    assert (await desk.receiver.wait_for("id-1", recipient="+61400000001", timeout=1)).status == "Delivered"
    assert (await desk.receiver.wait_for("id-1", timeout=1)).status == "Delivered"


@pytest.mark.parametrize("recipient", [None, "61400000000"])
async def test_a_report_that_a_message_arrived_after_all_goes_before_the_one_that_it_failed(
    recipient: str | None,
) -> None:
    desk = Desk()
    reports = [report(1, "Failed"), report(1), report(1) | {"recipient": "61400000001"}, report(1, "Rejected")]
    assert await status(desk.receiver, reports) == 200
    assert (await desk.receiver.wait_for("id-1", recipient=recipient, timeout=1)).status == "Delivered"


async def test_the_first_recipient_told_of_counts_where_none_is_asked_for() -> None:
    desk = Desk()
    assert await status(desk.receiver, [report(1, "Failed"), report(1) | {"recipient": "61400000001"}]) == 200
    assert (await desk.receiver.wait_for("id-1", timeout=1)).status == "Failed"


@pytest.mark.parametrize("first", ["the report", "the wait"])
@pytest.mark.parametrize("ids", [("id-1 ", "id-1"), ("id-1", " id-1 ")])
async def test_blanks_around_an_id_do_not_count(first: str, ids: tuple[str, str]) -> None:
    desk = Desk()
    if first == "the wait":
        waiting = asyncio.create_task(desk.receiver.wait_for(ids[0], timeout=5))
        await asyncio.sleep(0)
        assert await status(desk.receiver, report() | {"message_id": ids[1]}) == 200
        await waiting
    else:
        assert await status(desk.receiver, report() | {"message_id": ids[1]}) == 200
        await desk.receiver.wait_for(ids[0], timeout=1)


async def test_waiting_takes_nothing_from_a_handler() -> None:
    desk = Desk()
    waiting = asyncio.create_task(desk.receiver.wait_for("id-1"))
    await asyncio.sleep(0)
    assert await status(desk.receiver, [report()]) == 200
    assert [await waiting] == desk.reports


async def test_reports_remembered_for_waiting_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters_module, "REMEMBERED", 10)
    desk = Desk()
    for number in range(30):
        assert await status(desk.receiver, [report(number)]) == 200
    assert await status(desk.receiver, [report(30) | {"custom_string": "x" * 2000}]) == 200
    for forgotten in ("id-5", "id-30"):
        with pytest.raises(TimeoutError):
            await desk.receiver.wait_for(forgotten, timeout=0.001)
    assert (await desk.receiver.wait_for("id-29", timeout=0.001)).raw == {}


# The log ----------------------------------------------------------------------------------------------------


def test_a_flood_that_nobody_takes_is_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> ReceiverStats:
        receiver = CallbackReceiver(token=TOKEN, timeout=1.0)
        for _ in range(25):  # one each second
            callbacks = [status(receiver, [report(number), INBOUND | {"message_id": number}]) for number in range(40)]
            assert set(await asyncio.gather(*callbacks)) == {503}
        assert receiver._dispatcher._pending._queue.qsize() < 150  # of 2000 that were offered
        await receiver.aclose()
        return receiver.stats

    stats = run(main())
    assert (stats.unclaimed, stats.without_handler, stats.handled) == (2000, 2000, 0)
    assert sum(stats.unavailable.values()) == 25 * 40
    for noun in ("a delivery report", "an inbound message"):
        lines = [line for line in caplog.messages if f"{noun} was not handled: nobody took it within 1 s" in line]
        left_out = [int(line.rpartition("(")[2].split()[0]) for line in lines[1:]]
        assert len(lines) == 4  # the first, after 10 s, after 20 s, at the end
        assert sum(left_out) == 1000 - 1
    assert len(caplog.records) <= 3 * 4


async def test_a_kind_without_a_handler_is_named_once_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    receiver = CallbackReceiver(token=TOKEN)
    receiver.on_delivery_report(lambda report: None)
    async with receiver:
        for number in range(2):
            assert await status(receiver, [report(number)]) == 200
    handled = Desk()
    assert await status(handled.receiver, [report()]) == 200
    (message,) = caplog.messages
    assert message.startswith("callbacks: an inbound message has no handler")


def test_a_quiet_time_ends_the_counting_and_another_text_is_a_line_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    throttled = ThrottledLog(logging.getLogger("mmsclient.test"))

    async def main() -> None:
        for number in range(3):
            throttled.warning("first %d", number)
        throttled.warning("second")
        await asyncio.sleep(25)
        throttled.warning("first %d", 7)

    async def on_another_loop() -> None:
        throttled.warning("first %d", 8)

    run(main())
    run(on_another_loop())
    assert caplog.messages == ["first 0", "second", "first 2 (2 left out within 10 s)", "first 7", "first 8"]


async def test_a_handler_that_keeps_failing_shows_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.failures = 30
    for number in range(30):
        assert await status(desk.receiver, [report(number)]) == 503
    await desk.receiver.aclose()
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]
    assert "on purpose); its sender is asked to repeat it (29 left out" in caplog.messages[1]
    assert desk.receiver.stats.failed == 30


# The door ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "", "/mms", "/wrong-token-of-the-tests", f"/{TOKEN}x", f"/{TOKEN[:-1]}", f"/{TOKEN}/more", "/\udcff"]
)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
async def test_a_wrong_token_is_an_unknown_path(path: str, method: str) -> None:
    desk = Desk()
    answer = await post(desk.receiver, [report()], path=path, method=method, headers={"content-type": "text/html"})
    assert answer == (404, {"content-type": "text/plain; charset=utf-8", "content-length": "9"}, b"Not Found")
    assert not desk.reports


@pytest.mark.parametrize("path", [f"/{TOKEN}", f"/{TOKEN}/", f"/mms/{TOKEN}", f"/api/v1/mms/{TOKEN}"])
async def test_the_token_ends_the_path(path: str) -> None:
    assert await status(Desk().receiver, [report()], path=path, root_path="/mms") == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_wrong_methods(method: str) -> None:
    answer, headers, body = await post(Desk().receiver, method=method)
    assert (answer, headers["allow"]) == (405, "POST")
    assert (body == b"") is (method == "HEAD")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 200),
        ("application/x-www-form-urlencoded", 200),  # what curl says unless told otherwise
        ("", 200),
        ("text/html", 415),
        ("multipart/form-data; boundary=x", 415),
        ("image/png", 415),
    ],
)
async def test_content_types(kind: str, expected: int) -> None:
    assert await status(Desk().receiver, [report()], headers={"content-type": kind}) == expected


async def test_a_compressed_body_is_refused() -> None:
    assert await status(Desk().receiver, [report()], headers={"content-encoding": "gzip"}) == 415


@pytest.mark.parametrize("body", [b"", b"{", b"status=Delivered", b"7", b"[[]]", b'{"a": 1}', b"[" * 5000])
async def test_what_cannot_be_read_is_told(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    assert await status(desk.receiver, body) == 400
    assert len(desk.odd) == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is None


async def test_an_empty_array_is_no_event() -> None:
    assert await status(Desk().receiver, []) == 200


async def test_too_many_items_are_too_large_a_body() -> None:
    desk = Desk(max_events=2000)
    assert await status(desk.receiver, [report(number) for number in range(MOST_ITEMS + 1)]) == 413
    assert not desk.reports
    assert json.loads(desk.odd[0].body)[-1] == report(MOST_ITEMS)
    assert await status(desk.receiver, [report(number) for number in range(MOST_ITEMS)]) == 200


async def test_large_bodies() -> None:
    desk = Desk(max_body=1000)
    assert await status(desk.receiver, headers={"content-length": "1001"}) == 413
    assert await status(desk.receiver, headers={"content-length": "9" * 5000}) == 413
    answer, headers, _ = await post(desk.receiver, b" " * 1001)
    assert (answer, headers["connection"]) == (413, "close")
    assert "connection" not in (await post(desk.receiver, b" " * 1001, http_version="2"))[1]

    parts = 0

    async def endless() -> dict[str, Any]:
        nonlocal parts
        parts += 1
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    assert await status(desk.receiver, receive=endless) == 413
    assert parts == 11


@in_virtual_time
async def test_slow_bodies_and_senders_that_leave() -> None:
    desk = Desk(timeout=0.02)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    assert await status(desk.receiver, receive=never) == 408

    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    assert await status(desk.receiver, receive=leave) == 0


@in_virtual_time
async def test_bodies_at_a_time_are_bounded() -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=0.02, max_bodies=1)
    held = asyncio.Event()

    async def hold() -> dict[str, Any]:
        held.set()
        await asyncio.Event().wait()
        raise AssertionError

    first = asyncio.create_task(status(receiver, receive=hold))
    await held.wait()
    outcomes = await asyncio.gather(*(status(receiver, []) for _ in range(3)))
    assert await first == 408
    assert 503 in {*outcomes, await status(receiver, [report()])}
    assert await status(receiver, []) == 200


def basic(credentials: str, scheme: str = "Basic") -> dict[str, str]:
    return {"authorization": f"{scheme} {base64.b64encode(credentials.encode()).decode()}"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (basic("user:pass:wörd"), 200),
        (basic("user:pass:wörd", "bASIC"), 200),
        (basic("user:pass:wörd", "Bearer"), 401),
        (basic("user:pass"), 401),
        ({"authorization": "Basic ???"}, 401),
        ({"authorization": "Basic"}, 401),
        ({}, 401),
    ],
)
async def test_basic(headers: dict[str, str], expected: int) -> None:
    desk = Desk(basic=("user", "pass:wörd"))
    answer, said, _ = await post(desk.receiver, [report()], headers=headers)
    assert answer == expected
    assert ("www-authenticate" in said) is (expected == 401)
    assert await status(desk.receiver, [report()], headers=headers, path="/wrong") == 404


@pytest.mark.parametrize(
    ("proxies", "client", "forwarded", "allowed"),
    [
        (0, ("203.0.113.7", 1), None, True),
        (0, ("::ffff:203.0.113.7", 1), None, True),
        (0, ("198.51.100.1", 1), "203.0.113.7", False),
        (0, None, None, False),
        (1, ("10.0.0.1", 1), "203.0.113.7", True),
        (1, ("10.0.0.1", 1), "198.51.100.1, 203.0.113.7:4711", True),
        (1, ("10.0.0.1", 1), "203.0.113.7, 198.51.100.1", False),  # the left one was forged
        (1, ("203.0.113.7", 1), None, False),
        (2, ("10.0.0.1", 1), "203.0.113.7, 10.0.0.2", True),
        (2, ("10.0.0.1", 1), "203.0.113.7, 198.51.100.1, 10.0.0.2", False),
        (2, ("10.0.0.1", 1), "203.0.113.7", False),  # came around a proxy
        (1, ("10.0.0.1", 1), "[2001:db8::1]:80", True),
        (1, ("10.0.0.1", 1), "nonsense", False),
        (1, ("10.0.0.1", 1), "", False),
    ],
)
async def test_networks(proxies: int, client: Any, forwarded: str | None, allowed: bool) -> None:
    desk = Desk(networks=["203.0.113.0/24", "2001:db8::/32"], proxies=proxies)
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert await status(desk.receiver, [report()], client=client, headers=headers) == (200 if allowed else 404)


@pytest.mark.parametrize(
    "options",
    [
        {"token": "short"},
        {"token": "a token with spaces in it"},
        {"token": "a/token/with/slashes"},
        {"token": None},
        {"basic": ("user", "")},
        {"basic": ("us:er", "password")},
        {"networks": ["203.0.113.7/24"]},
        {"networks": ["example.com"]},
        {"proxies": -1},
        {"proxies": True},
        {"timeout": 0},
        {"max_body": 0},
        {"max_events": 1.5},
        {"remember": 0},
        {"timezone": "Nowhere"},
        {"seen": "/nonexistent/folder/file"},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        CallbackReceiver(**{"token": TOKEN, **options})
    assert TOKEN not in str(caught.value)


def test_the_token_does_not_show() -> None:
    assert TOKEN not in repr(CallbackReceiver(token=TOKEN))
    assert len({new_token() for _ in range(10)}) == 10
    CallbackReceiver(token=new_token(), timezone=ZoneInfo("UTC"))


# The other scopes -------------------------------------------------------------------------------------------


async def test_a_lifespan_closes_the_receiver() -> None:
    desk = Desk()
    sent: list[str] = []
    coming = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, Any]:
        return {"type": next(coming)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await desk.receiver({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert await status(desk.receiver, [report()]) == 503
    await desk.receiver.aclose()


async def test_a_websocket_is_refused() -> None:
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await Desk().receiver({"type": "websocket", "path": f"/{TOKEN}"}, receive, send)
    assert sent == ["websocket.close"]
    with pytest.raises(NotImplementedError):
        await Desk().receiver({"type": "carrier pigeon"}, receive, send)


# The file ---------------------------------------------------------------------------------------------------


async def test_a_file_remembers_across_restarts(tmp_path: Path) -> None:
    for _ in range(2):
        desk = Desk(seen=tmp_path / "seen.sqlite")
        async with desk.receiver:
            outcomes = await asyncio.gather(*(status(desk.receiver, [report(n % 20)]) for n in range(60)))
            assert set(outcomes) == {200}
            assert (await desk.receiver.wait_for("id-7", timeout=1)).status == "Delivered"
        desk_before = desk.reports
    assert desk_before == []


async def test_a_failed_event_is_not_remembered(tmp_path: Path) -> None:
    desk = Desk(seen=tmp_path / "seen.sqlite")
    async with desk.receiver:
        desk.failures = 1
        assert await status(desk.receiver, [report()]) == 503
        assert await status(desk.receiver, [report()]) == 200
        assert len(desk.reports) == 1


async def test_two_receivers_on_one_file_do_not_both_handle(tmp_path: Path) -> None:
    desks = [Desk(seen=tmp_path / "seen.sqlite") for _ in range(2)]
    outcomes = await asyncio.gather(
        *(status(desk.receiver, [report(number)]) for number in range(50) for desk in desks)
    )
    assert set(outcomes) == {200}
    assert sorted(each.message_id for desk in desks for each in desk.reports) == sorted(f"id-{n}" for n in range(50))
    for desk in desks:
        await desk.receiver.aclose()


async def test_the_lease_is_read_when_the_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handled_events, "LEASE", 1000.0)
    path = tmp_path / "seen.sqlite"
    desk = Desk(seen=path)
    memory = events_in_file(path)
    await memory.reserve(b"k" * 16)
    with closing(sqlite3.connect(path)) as file:
        ((until_when,),) = file.execute("SELECT until FROM event").fetchall()
    assert until_when - time.time() > 500
    await memory.aclose()
    await desk.receiver.aclose()


async def test_a_reservation_is_renewed_and_ends_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    living, other = (events_in_file(path, lease=0.6) for _ in range(2))
    key = b"k" * 16
    assert await living.reserve(key) is Reservation.OURS
    renewals: set[Any] = set()
    with closing(sqlite3.connect(path)) as file:
        async with asyncio.timeout(60):
            while len(renewals) < 3:
                renewals.update(file.execute("SELECT until FROM event").fetchall())
                await asyncio.sleep(0.02)
    await living.aclose()  # dies without a word
    async with asyncio.timeout(60):
        while await other.reserve(key) is Reservation.ELSEWHERE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await other.confirm(key)
    assert await other.reserve(key) is Reservation.HANDLED
    await other.aclose()


async def test_a_file_that_fails_gives_503(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "seen.sqlite"
    desk = Desk(seen=path)
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE event")
    monkeypatch.setattr(sqlite_events, "_SCHEMA", "")
    assert await status(desk.receiver, [report()]) == 503
    assert "no such table" in caplog.text
    assert not desk.reports
    await desk.receiver.aclose()


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
@pytest.mark.parametrize("becomes", ["another file", "none"])
async def test_a_file_that_is_removed_or_replaced_while_open_gives_503(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, becomes: str
) -> None:
    path = tmp_path / "seen.sqlite"
    desk = Desk(seen=path)
    assert await status(desk.receiver, [report(1)]) == 200
    for file in tmp_path.iterdir():  # noqa: ASYNC240
        file.unlink()
    other = Desk(seen=path) if becomes == "another file" else None
    assert await status(desk.receiver, [report(2)]) == 503
    assert "seen.sqlite was removed or replaced while it was open" in caplog.text
    assert not await desk.receiver.is_healthy()
    if other is not None:
        assert await status(other.receiver, [report(2)]) == 200
        await other.receiver.aclose()
    await desk.receiver.aclose()
    assert len(desk.reports) == 1


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(ConfigurationError, match="seen"):
        CallbackReceiver(token=TOKEN, seen=tmp_path / "text")


async def test_plain_functions_that_take_their_time_are_not_handled_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, more handlers than there are default threads, each longer than the lease, and none of those free."""
    monkeypatch.setattr(stores, "events_in_file", partial(events_in_file, lease=2.0))
    loop, ended = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    other_work = loop.run_in_executor(None, ended.wait, 30)
    handled: list[str] = []

    def work(report: DeliveryReport) -> None:
        time.sleep(3)
        handled.append(report.message_id)

    receivers = [CallbackReceiver(token=TOKEN, seen=tmp_path / "seen.sqlite", timeout=60) for _ in range(2)]
    for receiver in receivers:
        receiver.on_delivery_report(work)
    outcomes = await asyncio.gather(*(status(each, [report(n)]) for each in receivers for n in range(10)))
    assert outcomes == [200] * 20
    assert sorted(handled) == sorted(f"id-{n}" for n in range(10))
    for receiver in receivers:
        await receiver.aclose()
    assert not other_work.done()
    ended.set()
    await other_work


def test_two_forks_of_one_receiver_do_not_both_handle(tmp_path: Path) -> None:
    """As `gunicorn --preload` makes them; the parent has used the file as well."""
    program = """
import asyncio, os, sys, time
from mmsclient._store.handled_events import Reservation
from mmsclient._store.sqlite_events import events_in_file

path = sys.argv[1]
seen = events_in_file(path, lease=1.0)
key = b"k" * 16

async def use():
    state = await seen.reserve(key)
    if state is Reservation.OURS:
        await asyncio.sleep(2.0)  # two leases: it is renewed
        await seen.confirm(key)
    await seen.aclose()
    return state.name

async def before():
    await seen.reserve(b"p" * 16)
    await seen.confirm(b"p" * 16)

asyncio.run(before())
read, write = os.pipe()
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        os.write(write, (asyncio.run(use()) + " ").encode())
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
os.close(write)
print(os.read(read, 100).decode(), flush=True)
os._exit(0)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "seen.sqlite")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)  # noqa: S603 -- our own
    assert sorted(done.stdout.split()) == ["ELSEWHERE", "OURS"], done.stderr


async def test_calls_at_the_same_time_open_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = events_in_file(tmp_path / "seen.sqlite")
    opened: list[Path] = []

    def open_it(path: Path) -> sqlite3.Connection:
        opened.append(path)
        return open_really(path)

    open_really = sqlite_events.connect
    monkeypatch.setattr(sqlite_events, "connect", open_it)
    states = await asyncio.gather(*(memory.reserve(bytes([number]) * 16) for number in range(20)))
    assert states == [Reservation.OURS] * 20
    assert len(opened) == 1
    await memory.aclose()


@pytest.mark.skipif(os.name == "nt", reason="no such rights there")
async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    path.touch(0o644)
    path.chmod(0o644)
    for _ in range(2):
        desk = Desk(seen=path)
        assert await status(desk.receiver, [report()]) == 200
        assert rights(tmp_path) == dict.fromkeys(("seen.sqlite", "seen.sqlite-shm", "seen.sqlite-wal"), 0o600)
        await desk.receiver.aclose()
        assert rights(tmp_path) == {"seen.sqlite": 0o600}  # one file after a clean end
        path.unlink()


def rights(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}


async def test_a_second_receiver_in_this_process_takes_no_locks_away(tmp_path: Path) -> None:
    """A file that is opened and closed loses all locks that its process has on it, and SQLite its writes."""
    path = tmp_path / "seen.sqlite"
    desk = Desk(seen=path)
    assert await status(desk.receiver, [report(1)]) == 200
    CallbackReceiver(token=TOKEN, seen=path)
    for number in (2, 3):
        await asyncio.to_thread(look_from_another_process, path)
        assert await status(desk.receiver, [report(number)]) == 200
    assert await asyncio.to_thread(look_from_another_process, path) == "3"
    await desk.receiver.aclose()


def look_from_another_process(path: Path) -> str:
    """How many events stand in the file."""
    program = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1])
print(*file.execute("SELECT count(*) FROM event").fetchone())
file.close()
"""
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()  # noqa: S603


async def test_closing_gives_back_what_could_not_be_finished(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    stuck = CallbackReceiver(token=TOKEN, seen=path, timeout=0.1)

    @stuck.on_delivery_report
    async def hang(report: DeliveryReport) -> None:
        await asyncio.Event().wait()

    assert await status(stuck, [report()]) == 503
    await stuck.aclose()
    desk = Desk(seen=path)  # its timeout is much less than the lease
    assert await status(desk.receiver, [report()]) == 200
    await desk.receiver.aclose()


@in_virtual_time
async def test_closing_does_not_wait_for_a_handler_that_will_not_stop() -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=0.05)
    release = asyncio.Event()

    @receiver.on_delivery_report
    async def hang(report: DeliveryReport) -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    assert await status(receiver, [report()]) == 503
    async with asyncio.timeout(60):
        await receiver.aclose()
    release.set()
    await asyncio.sleep(0)


# Closing while handlers are at work ----------------------------------------------------------------------------------


def held_by(receiver: CallbackReceiver, how: str, begun: threading.Event, go_on: threading.Event) -> None:
    """Has `receiver` handle inbound messages by what nothing can stop."""
    if how == "a plain function":

        @receiver.on_inbound
        def hold(message: InboundMessage) -> None:
            begun.set()
            assert go_on.wait(60)

    else:

        async def consume() -> None:
            events = receiver.events()
            async for _ in events:
                begun.set()
                while not go_on.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        consumers.add(task := asyncio.get_running_loop().create_task(consume()))
        task.add_done_callback(consumers.discard)


consumers: set[asyncio.Task[None]] = set()


@pytest.mark.parametrize("how", ["a plain function", "a loop"])
async def test_closing_waits_for_what_it_cannot_stop_and_notes_its_event(tmp_path: Path, how: str) -> None:
    path, begun, go_on = tmp_path / "seen.sqlite", threading.Event(), threading.Event()
    receiver = CallbackReceiver(token=TOKEN, seen=path, timeout=2.0)
    held_by(receiver, how, begun, go_on)
    posting = asyncio.create_task(status(receiver, INBOUND))
    await until(begun.is_set)
    (handling,) = receiver._dispatcher._under_way.values()
    closing_it = asyncio.create_task(receiver.aclose())
    await until(lambda: handling.task and handling.task.cancelling())  # its time is over
    desk = Desk(seen=path)
    go_on.set()
    await closing_it
    assert await status(desk.receiver, INBOUND) == 200
    assert desk.messages == []
    await desk.receiver.aclose()
    await posting


@pytest.mark.parametrize("how", ["a plain function", "a loop"])
async def test_what_goes_on_after_closing_is_given_to_nobody_else(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "events_in_file", partial(events_in_file, lease=1000.0))
    path, begun, go_on = tmp_path / "seen.sqlite", threading.Event(), threading.Event()
    receiver = CallbackReceiver(token=TOKEN, seen=path, timeout=0.2)
    held_by(receiver, how, begun, go_on)
    try:
        assert await status(receiver, INBOUND) == 503
        await receiver.aclose()
        assert "closed while 1 events are still being handled" in caplog.text
        desk = Desk(seen=path, timeout=0.1)
        assert await status(desk.receiver, INBOUND) == 503
        await desk.receiver.aclose()
        assert desk.messages == []
    finally:
        go_on.set()
    await until(lambda: not receiver.stats.under_way)


async def test_a_plain_function_that_waits_for_a_thread_is_not_begun_after_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "MOST_THREADS", 1)
    path, go_on = tmp_path / "seen.sqlite", threading.Event()
    receiver, begun = CallbackReceiver(token=TOKEN, seen=path, timeout=0.5), list[str]()

    @receiver.on_delivery_report
    def hold(report: DeliveryReport) -> None:
        begun.append(report.message_id)
        assert go_on.wait(60)

    assert await status(receiver, [report(1), report(2)]) == 503
    await receiver.aclose()
    desk = Desk(seen=path, timeout=0.1)
    (waited,) = {"id-1", "id-2"} - set(begun)
    assert await status(desk.receiver, [report() | {"message_id": waited}]) == 200
    assert [each.message_id for each in desk.reports] == [waited]
    go_on.set()
    await until(lambda: not receiver.stats.under_way)
    assert len(begun) == 1
    await desk.receiver.aclose()


@pytest.mark.parametrize("how", ["a plain function", "a loop"])
def test_a_loop_that_ends_without_closing_waits_for_no_handler(tmp_path: Path, how: str) -> None:
    begun, go_on = threading.Event(), threading.Event()
    receivers: list[CallbackReceiver] = []

    async def main() -> None:
        receiver = CallbackReceiver(token=TOKEN, seen=tmp_path / "seen.sqlite", timeout=0.1)
        receivers.append(receiver)
        held_by(receiver, how, begun, go_on)
        assert await status(receiver, INBOUND) == 503

    rescue = threading.Timer(30, go_on.set)
    rescue.start()
    asyncio.run(main())
    assert not go_on.is_set()
    rescue.cancel()
    go_on.set()


async def test_a_second_closing_waits_for_the_first() -> None:
    receiver, begun, go_on = CallbackReceiver(token=TOKEN), asyncio.Event(), asyncio.Event()

    @receiver.on_delivery_report
    async def take(report: DeliveryReport) -> None:
        begun.set()
        await go_on.wait()

    posting = asyncio.create_task(status(receiver, [report()]))
    await begun.wait()
    first, second, third = (asyncio.create_task(receiver.aclose()) for _ in range(3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    third.cancel()
    await asyncio.wait([third])
    assert not first.done()
    assert not second.done()
    go_on.set()
    await asyncio.gather(first, second)
    assert await posting == 200
    await receiver.aclose()


async def test_a_handler_may_close_its_receiver(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    receiver = CallbackReceiver(token=TOKEN, seen=path, timeout=30.0)

    @receiver.on_inbound
    async def stop(message: InboundMessage) -> None:
        await receiver.aclose()
        assert receiver.stats.under_way == 1

    assert await status(receiver, INBOUND) == 200
    await receiver.aclose()
    desk = Desk(seen=path)
    assert await status(desk.receiver, INBOUND) == 200
    assert desk.messages == []  # it was noted
    await desk.receiver.aclose()


async def test_a_closed_receiver_hears_of_no_report() -> None:
    desk = Desk()
    waiting = asyncio.create_task(desk.receiver.wait_for("id-9", timeout=60))
    assert await status(desk.receiver, [report()]) == 200
    await desk.receiver.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        await desk.receiver.wait_for("id-8", timeout=60)
    assert (await desk.receiver.wait_for("id-1", timeout=60)).status == "Delivered"  # remembered


@pytest.mark.parametrize(
    "options", [{"recipient": "nonsense"}, {"recipient": ""}, {"timeout": float("nan")}, {"timeout": -1}]
)
async def test_what_cannot_be_waited_for(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(options))):
        await CallbackReceiver(token=TOKEN).wait_for("id-1", **{"timeout": 0.01, **options})


# Deadlines --------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),  # begins
            st.integers(0, 25),  # takes
            st.integers(0, 60),  # is cancelled
            st.booleans(),  # and is late in leaving
        ),
        max_size=12,
    )
)
def test_deadlines_end_as_timeouts_of_their_own_would(plans: list[tuple[int, int, int, bool]]) -> None:
    async def main(bound: Callable[[], Any]) -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        start, ends = loop.time(), [("", 0.0)] * len(plans)

        async def work(number: int, takes: float, lingers: bool) -> None:
            try:
                async with bound():
                    try:
                        await asyncio.sleep(takes)
                    finally:
                        if lingers:
                            await asyncio.sleep(1.01)
                outcome = "done"
            except TimeoutError:
                outcome = "late"
            except asyncio.CancelledError:
                outcome = "cancelled"
            task = asyncio.current_task()
            assert task
            ends[number] = (f"{outcome} {task.cancelling()}", round(loop.time() - start, 6))

        async def run_one(number: int, begins: int, takes: int, cancelled: int, lingers: bool) -> None:
            await asyncio.sleep(begins)
            task = asyncio.create_task(work(number, takes + 0.5, lingers))
            loop.call_later(cancelled + 0.3, task.cancel)
            await asyncio.wait([task])

        await asyncio.gather(*(run_one(number, *plan) for number, plan in enumerate(plans)))
        return ends

    def ours() -> Callable[[], Any]:
        deadlines = Deadlines(10)

        @asynccontextmanager
        async def bound() -> AsyncIterator[None]:
            with deadlines:
                yield

        return bound

    assert run(main(ours())) == run(main(lambda: asyncio.timeout(10)))


async def test_deadlines_keep_nothing() -> None:
    deadlines = Deadlines(0.02)
    for wait in (0, 0, 1):
        with suppress(TimeoutError), deadlines:
            await asyncio.sleep(wait)
    await until(lambda: deadlines._timer is None)
    assert (deadlines._due, deadlines._late) == ({}, {})


def test_deadlines_hold_on_a_second_loop() -> None:
    deadlines = Deadlines(10)

    async def wait(seconds: float) -> None:
        with deadlines:
            await asyncio.sleep(seconds)

    run(wait(1))
    with pytest.raises(TimeoutError):
        run(wait(11))
