"""What the sandbox calls back: which statuses, in which shape, how often, and what it does when it is not heard."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.listener import HOST, Listener
from mmsclient.sandbox.outgoing import Order
from mmsclient.webhooks import parse_callbacks
from tests.conftest import until

FINALS = {"00": "Delivered", "11": "Failed", "12": "Rejected", "13": "Expired", "14": "Aborted", "15": "Unknown"}


class Ear:
    """An ASGI app that hears callbacks; it answers each of `statuses`, then 200."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.types: set[str] = set()
        self.statuses: list[int] = []
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(json.loads(body))
        self.types.add(dict(scope["headers"])[b"content-type"].decode())
        status = self.statuses.pop(0) if self.statuses else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    @property
    def items(self) -> list[Any]:
        return [item for body in self.bodies for item in (body if isinstance(body, list) else [body])]


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    ear = Ear()
    listener = Listener(ear, 0, None, keep_alive=5.0)
    listener.listen()
    ear.url = f"http://{HOST}:{listener.port}/callbacks"
    try:
        yield ear
    finally:
        await listener.close()


def send(sandbox: Sandbox, *numbers: str) -> None:
    sandbox.send(numbers, "Hi", "", b"GIF89a")


async def test_callbacks_of_sms_say_so_and_carry_what_was_given(ear: Ear) -> None:
    to = ["+61400009921"]
    with Sandbox(callback_url=ear.url) as sandbox:
        sandbox.carry_out(sandbox.sms, Order(numbers=to, text="Hi", custom_string="order-17", source="shop"))
        sandbox.carry_out(sandbox.sms, Order(numbers=["+61400000000"], text="Hi", wait=3600.0))
        await until(lambda: len(ear.items) == 2)
        (message, later) = sandbox.sms.messages
    events = [parse_callbacks(json.dumps(body))[0] for body in ear.bodies]
    report, inbound = sorted(events, key=lambda event: isinstance(event, InboundMessage))
    assert isinstance(report, DeliveryReport)
    assert isinstance(inbound, InboundMessage)
    assert (report.message_id, report.custom_string, report.source) == (message.id, "order-17", "shop")
    assert (inbound.kind, inbound.custom_string, inbound.original_message_id) == ("SMS", "order-17", message.id)
    assert sandbox.callbacks_open == 1  # that of the later one
    assert later.send.due > later.send.at


async def test_final_statuses_and_replies_are_posted(ear: Ear) -> None:
    numbers = [f"+614000099{ending}" for ending in FINALS if ending != "00"]
    with Sandbox(callback_url=ear.url) as sandbox:
        send(sandbox, "+61400000000", *numbers, "+61400009916", "+61400009921")
        await until(lambda: not sandbox.callbacks_open)
        message_ids = {message.id for message in sandbox.messages}
        assert sandbox.errors == []
    reports = [item for item in ear.items if "status" in item]
    assert all(isinstance(body, list) and len(body) == 1 for body in ear.bodies)
    assert Counter(item["status"] for item in reports) == Counter([*FINALS.values(), "Delivered"])
    assert {item["message_id"] for item in reports} < message_ids
    (reply,) = [item for item in ear.items if "from" in item]
    assert (reply["from"], reply["body"], reply["original_body"]) == ("61400009921", "Yes please", "Hi")
    assert ear.types == {"application/json"}
    for body in ear.bodies:
        assert all(isinstance(event, DeliveryReport | InboundMessage) for event in parse_callbacks(json.dumps(body)))


async def test_all_statuses_and_the_documented_shape(ear: Ear) -> None:
    with Sandbox(callback_url=ear.url, callback_statuses="all", inbound_shape="object") as sandbox:
        send(sandbox, "+61400000000", "+61400009916")
        await until(lambda: not sandbox.callbacks_open)
        sandbox.add_reply(text="Yes")
        sandbox.set_status(sandbox.messages[1].id, "Teleported")
        sandbox.set_status(sandbox.messages[1].id, "Teleported")  # no change
        await until(lambda: not sandbox.callbacks_open)
    statuses = [item["status"] for item in ear.items if "status" in item]
    assert Counter(statuses) == {"Dispatched": 2, "Delivered": 1, "Teleported": 1}
    assert [body["body"] for body in ear.bodies if isinstance(body, dict)] == ["Yes"]


async def test_a_status_that_was_set_ends_the_timeline(ear: Ear) -> None:
    with Sandbox(callback_url=ear.url, deliver_after=2) as sandbox:
        send(sandbox, "+61400000000")
        sandbox.set_status(sandbox.messages[0].id, "Failed")
        await until(lambda: not sandbox.callbacks_open)
    assert [item["status"] for item in ear.items] == ["Failed"]


async def test_the_url_may_come_later_and_go(ear: Ear) -> None:
    with Sandbox() as sandbox:
        sandbox.add_reply(text="before")
        sandbox.settings.callback_url = ear.url
        sandbox.add_reply(text="during")
        await until(lambda: not sandbox.callbacks_open)
        sandbox.settings.callback_url = None
        sandbox.add_reply(text="after")
        await until(lambda: not sandbox.callbacks_open)
    assert [item["body"] for item in ear.items] == ["during"]


async def test_in_order_unless_asked(ear: Ear) -> None:
    with Sandbox(callback_url=ear.url) as sandbox:
        sandbox.add_replies(30)
        await until(lambda: not sandbox.callbacks_open)
        in_order = [f"Reply {number}" for number in range(1, 31)]
        assert [item["body"] for item in ear.items] == in_order
        sandbox.settings.disorder = 0.2
        sandbox.settings.duplicates = 2
        ear.bodies.clear()
        sandbox.add_replies(30)
        await until(lambda: not sandbox.callbacks_open)
    assert Counter(item["body"] for item in ear.items) == dict.fromkeys(in_order, 3)
    assert [item["body"] for item in ear.items] != sorted(in_order * 3, key=in_order.index)


async def test_what_is_not_answered_with_2xx_is_posted_again(ear: Ear) -> None:
    ear.statuses = [503, 404, 301, 202]
    with Sandbox(callback_url=ear.url, callback_backoff=0.01) as sandbox:
        sandbox.add_reply(text="Yes")
        await until(lambda: not sandbox.callbacks_open)
        assert [(post.attempt, post.status) for post in sandbox.callbacks] == [(1, 503), (2, 404), (3, 301), (4, 202)]
        assert {post.kind for post in sandbox.callbacks} == {"inbound"}
        assert sandbox.callbacks[0].item["body"] == "Yes"
        assert sandbox.callbacks_lost == []
        sandbox.reset()
        assert sandbox.callbacks == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://"])
async def test_it_gives_up_in_the_end(url: str) -> None:
    with Sandbox(callback_url=url, callback_backoff=0.001, callback_attempts=3) as sandbox:
        sandbox.add_reply(text="Yes")
        await until(lambda: not sandbox.callbacks_open)
        assert [(post.attempt, post.status) for post in sandbox.callbacks] == [(1, None), (2, None), (3, None)]
        assert len(sandbox.callbacks_lost) == 1
        assert sandbox.errors == []


async def test_it_stops_at_once_whatever_is_under_way() -> None:
    stuck = threading.Event()

    async def never(scope: Any, receive: Any, send: Any) -> None:
        stuck.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    listener = Listener(never, 0, None, keep_alive=5.0)
    listener.listen()
    try:
        async with Sandbox(callback_url=f"http://{HOST}:{listener.port}/", disorder=0.01) as sandbox:
            sandbox.add_replies(30)
            await until(stuck.is_set)
        assert sandbox.callbacks_open  # it did not wait for an answer
    finally:
        await listener.close()


async def test_what_the_http_library_closes_as_it_stops_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closing, closed = threading.Event(), list[bool]()

    class Closing:
        """A pool that closes connections which have lain idle, before it makes another for a post."""

        def __init__(self, timeout: float) -> None: ...

        async def post(self, url: str, body: bytes) -> int:
            with anyio.CancelScope(shield=True):  # as httpcore does
                closing.set()
                await asyncio.sleep(0.05)
                closed.append(True)
            return 200

        async def aclose(self) -> None: ...

    monkeypatch.setattr("mmsclient.sandbox.callbacks.HTTPPoster", Closing)
    with Sandbox(callback_url="http://127.0.0.1:1/", rate=None) as sandbox:
        sandbox.add_replies(1)
        await until(closing.is_set)
    assert closed == [True]


async def test_a_clock_of_ones_own(ear: Ear) -> None:
    now = 0.0
    with Sandbox(callback_url=ear.url, clock=lambda: now, deliver_after=3600) as sandbox:
        send(sandbox, "+61400000000")
        assert sandbox.callbacks_open == 1
        now = 3601
        await until(lambda: not sandbox.callbacks_open)
    assert len(ear.items) == 1
