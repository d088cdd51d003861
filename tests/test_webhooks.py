"""Callbacks: the parser, the door and the handing over, without a server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import DeliveryStatus
from mmsclient.errors import ConfigurationError, InvalidRequestError
from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.webhooks import CallbackReceiver, UnreadableCallback, new_token, parse_callbacks
from mmsclient.webhooks import handover as handover_module
from mmsclient.webhooks.deadlines import Deadlines
from mmsclient.webhooks.parser import MOST_ITEMS
from mmsclient.webhooks.seen import InFile, State, key_of
from tests.conftest import until
from tests.virtual_time import run

TOKEN = "a-token-of-the-tests"  # noqa: S105
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
        recipient="61400000000",
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
            sender="61412345678",
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


async def post(
    app: Any,
    body: Any = (),
    *,
    path: str = f"/{TOKEN}",
    method: str = "POST",
    headers: dict[str, str] | None = None,
    client: tuple[str, int] | None = ("127.0.0.1", 1),
    receive: Callable[[], Any] | None = None,
    **scope: Any,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def whole() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    request = {"type": "http", "path": path, "method": method, "headers": given, "client": client, **scope}
    await app(request, receive or whole, send)
    if not sent:
        return 0, {}, b""
    start, part = sent
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, part["body"]


async def status(app: Any, body: Any = (), **options: Any) -> int:
    return (await post(app, body, **options))[0]


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
    assert [each.recipient for each in desk.reports] == ["61400000001", "61400000002"]


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
    assert [each.message_id for each in desk.reports] == ["id-1", "id-2"]


async def test_memory_is_bounded() -> None:
    desk = Desk(remember=10)
    for number in range(30):
        assert await status(desk.receiver, [report(number)]) == 200
    assert await status(desk.receiver, [report(29)]) == 200
    assert len(desk.reports) == 30
    assert await status(desk.receiver, [report(0)]) == 200
    assert len(desk.reports) == 31


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


async def test_too_many_events_under_way() -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=0.05, max_events=2)
    assert await status(receiver, [report(1)]) == 503  # nobody takes it
    assert await status(receiver, [report(2)]) == 503
    assert await status(receiver, [report(3)]) == 503
    async with aclosing(receiver.events()) as events:
        assert [(await anext(events)).message_id for _ in range(2)] == ["id-1", "id-2"]  # type: ignore[union-attr]
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

    alone = CallbackReceiver(token=TOKEN, timeout=0.05)
    alone.record_into(journal)
    assert await status(alone, [report()]) == 200
    assert await status(alone, INBOUND) == 503  # nobody takes it


async def test_one_handler_a_kind() -> None:
    desk = Desk()
    with pytest.raises(ConfigurationError, match="each event is handled once"):
        desk.receiver.on_inbound(print)


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


async def test_waiting_takes_nothing_from_a_handler() -> None:
    desk = Desk()
    waiting = asyncio.create_task(desk.receiver.wait_for("id-1"))
    await asyncio.sleep(0)
    assert await status(desk.receiver, [report()]) == 200
    assert [await waiting] == desk.reports


async def test_reports_remembered_for_waiting_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover_module, "REMEMBERED", 10)
    desk = Desk()
    for number in range(30):
        assert await status(desk.receiver, [report(number)]) == 200
    assert await status(desk.receiver, [report(30) | {"custom_string": "x" * 2000}]) == 200
    for forgotten in ("id-5", "id-30"):
        with pytest.raises(TimeoutError):
            await desk.receiver.wait_for(forgotten, timeout=0.001)
    assert (await desk.receiver.wait_for("id-29", timeout=0.001)).raw == {}


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


async def test_slow_bodies_and_senders_that_leave() -> None:
    desk = Desk(timeout=0.02)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    assert await status(desk.receiver, receive=never) == 408

    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    assert await status(desk.receiver, receive=leave) == 0


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


async def test_a_reservation_is_renewed_and_ends_with_its_owner(tmp_path: Path) -> None:
    living, other = (InFile(tmp_path / "seen.sqlite", lease=0.6) for _ in range(2))
    key = b"k" * 16
    assert await living.reserve(key) is State.OURS
    for _ in range(10):
        assert await other.reserve(key) is State.ELSEWHERE
        await asyncio.sleep(0.1)
    await living.aclose()  # dies without a word
    async with asyncio.timeout(20):
        while await other.reserve(key) is State.ELSEWHERE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await other.confirm(key)
    assert await other.reserve(key) is State.HANDLED
    await other.aclose()


async def test_a_file_that_fails_gives_503(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "seen.sqlite"
    desk = Desk(seen=path)
    seen: Any = desk.receiver._handover._seen
    seen._file.execute("DROP TABLE event")
    assert await status(desk.receiver, [report()]) == 503
    assert "no such table" in caplog.text
    assert not desk.reports
    await desk.receiver.aclose()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(ConfigurationError, match="seen"):
        CallbackReceiver(token=TOKEN, seen=tmp_path / "text")


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
