"""What observers are told of callbacks, and what a receiver says of itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmsclient._store import handled_events
from mmsclient._store.sqlite_events import events_in_file
from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.observe import (
    CallbackAnswered,
    CallbackReceived,
    EventOutcome,
    EventSettled,
    LeasesLost,
    SaturationBegan,
    SaturationEnded,
)
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import until
from tests.support.callbacks import TOKEN, status
from tests.support.observing import Told
from tests.support.virtual_time import in_virtual_time, run

REPORT = {"message_id": "A1", "status": "Delivered", "recipient": "61400000000", "custom_string": "order 61400000009"}
INBOUND = {"from": "61412345678", "body": "Stop at once!", "message_id": "6952176713", "type": "SMS"}
PRIVATE = ("61400000000", "61412345678", "61400000009", "Stop at once", TOKEN)


def report(number: int) -> dict[str, Any]:
    return REPORT | {"message_id": f"A{number}"}


def outcomes(told: Told) -> Counter[tuple[str, EventOutcome]]:
    return Counter((event.kind, event.outcome) for event in told.of(EventSettled))


@in_virtual_time
async def test_what_becomes_of_each_event_is_told_and_counted() -> None:
    told = Told()
    receiver = CallbackReceiver(token=TOKEN, timeout=0.1, observer=told)

    @receiver.on_delivery_report
    async def take(report: DeliveryReport) -> None:
        if report.message_id == "A2":
            raise RuntimeError("on purpose")

    assert await status(receiver, [report(1), 7]) == 200
    assert await status(receiver, [report(1)]) == 200
    assert await status(receiver, [report(2)]) == 503
    assert await status(receiver, [8]) == 400
    assert await status(receiver, INBOUND) == 503
    assert await status(receiver, INBOUND, path="/wrong") == 404
    async with asyncio.timeout(60):
        while receiver.stats.under_way:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert outcomes(told) == {
        ("delivery_report", EventOutcome.HANDLED): 1,
        ("delivery_report", EventOutcome.DUPLICATE): 1,
        ("delivery_report", EventOutcome.FAILED): 1,
        ("unreadable", EventOutcome.UNREADABLE): 2,
        ("inbound_message", EventOutcome.UNCLAIMED): 1,
    }
    assert [event.status for event in told.of(CallbackAnswered)] == [200, 200, 503, 400, 503, 404]
    reasons = [event.reason for event in told.of(CallbackAnswered)]
    assert reasons[:4] == ["", "", "failed", ""]
    assert reasons[4] in ("late", "unclaimed")
    stats = receiver.stats
    assert (stats.handled, stats.repeated, stats.failed, stats.unclaimed) == (1, 1, 1, 1)
    assert (stats.unreadable, stats.without_handler) == (2, 1)
    assert stats.unavailable == {"failed": 1, reasons[4]: 1}
    await receiver.aclose()


async def test_the_events_of_a_callback_share_its_id() -> None:
    told = Told()
    receiver = CallbackReceiver(token=TOKEN, observer=told)
    receiver.on_delivery_report(lambda report: None)
    for number in range(3):
        assert await status(receiver, [report(2 * number), report(2 * number + 1)]) == 200
    received = told.of(CallbackReceived)
    assert len({event.callback for event in received}) == 3
    assert [event.callback for event in told.of(CallbackAnswered)] == [event.callback for event in received]
    assert {(event.reports, event.messages, event.unreadable) for event in received} == {(2, 0, 0)}
    assert Counter(event.callback for event in told.of(EventSettled)) == {event.callback: 2 for event in received}
    assert {event.message_id for event in told.of(EventSettled)} == {f"A{number}" for number in range(6)}
    await receiver.aclose()


async def test_no_number_and_no_text_of_a_callback_is_told() -> None:
    told = Told()
    receiver = CallbackReceiver(token=TOKEN, timeout=1.0, observer=told)
    receiver.on_delivery_report(lambda report: None)
    await status(receiver, [REPORT, INBOUND, {"message_id": "61400000000", "status": "Sent"}, "Stop at once!"])
    await status(receiver, [REPORT | {"message_id": "to +61400000000", "status": "Failed"}])
    assert len(told.of(EventSettled)) >= 4
    document = told.document()
    assert not [each for each in PRIVATE if each in document]
    await receiver.aclose()


async def test_a_closed_receiver_says_so() -> None:
    told = Told()
    receiver = CallbackReceiver(token=TOKEN, observer=told)
    receiver.on_delivery_report(lambda report: None)
    await receiver.aclose()
    assert await status(receiver, [REPORT]) == 503
    assert receiver.stats.unavailable == {"closed": 1}
    assert told.one(EventSettled).outcome is EventOutcome.CLOSED


async def test_an_observer_that_raises_costs_no_callback(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: object) -> None:
        raise ZeroDivisionError("on purpose")

    receiver = CallbackReceiver(token=TOKEN, observer=broken)
    receiver.on_delivery_report(lambda report: None)
    for number in range(5):
        assert await status(receiver, [report(number)]) == 200
    assert receiver.stats.handled == 5
    assert len([record for record in caplog.records if "an observer" in record.getMessage()]) == 1
    await receiver.aclose()


def test_saturation_is_logged_as_it_begins_and_as_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()

    async def main() -> None:
        receiver = CallbackReceiver(token=TOKEN, timeout=60, max_events=4, observer=told)
        release = asyncio.Event()

        @receiver.on_delivery_report
        async def take(report: DeliveryReport) -> None:
            await release.wait()

        callbacks = [asyncio.create_task(status(receiver, [report(number)])) for number in range(12)]
        await asyncio.sleep(5)
        assert receiver.stats.under_way == 4
        release.set()
        assert set(await asyncio.gather(*callbacks)) == {200}
        await receiver.aclose()
        assert receiver.stats.handled == 12

    run(main())
    assert told.one(SaturationBegan).kind == told.one(SaturationEnded).kind == "delivery_report"
    assert told.one(SaturationEnded).seconds >= 5
    began, ended = [message for message in caplog.messages if "saturated" in message]
    assert began == "callbacks: saturated: 4 events as a delivery report are being handled, and more wait"
    assert ended.startswith("callbacks: no longer saturated by events as a delivery report, after 5.")


@in_virtual_time
async def test_a_receiver_that_closes_while_it_is_saturated_ends_that() -> None:
    told = Told()
    receiver = CallbackReceiver(token=TOKEN, timeout=60, max_events=1, observer=told)

    @receiver.on_inbound
    async def take(message: InboundMessage) -> None:
        await asyncio.sleep(5)

    items = [INBOUND | {"message_id": f"m{number}"} for number in range(4)]
    callbacks = [asyncio.create_task(status(receiver, item)) for item in items]
    await asyncio.sleep(1)
    assert told.one(SaturationBegan).kind == "inbound_message"
    await receiver.aclose()
    assert sorted(await asyncio.gather(*callbacks)) == [200, 503, 503, 503]
    assert told.one(SaturationEnded).kind == "inbound_message"


async def test_four_events_in_four_places_are_no_saturation() -> None:
    told = Told()
    receiver = CallbackReceiver(token=TOKEN, max_events=4, observer=told)
    receiver.on_inbound(lambda message: None)
    items = [INBOUND | {"message_id": f"m{number}"} for number in range(4)]
    assert await asyncio.gather(*(status(receiver, item) for item in items)) == [200] * 4
    assert not told.of(SaturationBegan)
    await receiver.aclose()


async def test_a_kind_without_a_handler_is_named_at_the_start_and_its_events_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    receiver = CallbackReceiver(token=TOKEN, timeout=0.05)
    messages: list[InboundMessage] = []
    receiver.on_inbound(messages.append)
    async with receiver:
        (said,) = [message for message in caplog.messages if "has no handler" in message]
        assert said.startswith("callbacks: a delivery report has no handler")
        for number in range(3):
            assert await status(receiver, [report(number), INBOUND | {"message_id": f"m{number}"}]) == 503
        assert receiver.stats.without_handler == 3
    assert len(messages) == 3
    assert len([message for message in caplog.messages if "has no handler" in message]) == 1


async def test_a_lease_that_was_not_renewed_is_counted(tmp_path: Path) -> None:
    """The event loop stands still for longer than the lease while an event is handled."""
    store = events_in_file(tmp_path / "seen.sqlite", lease=1.0)
    try:
        for key in (b"blocked", b"prompt"):
            assert await store.reserve(key) is handled_events.Reservation.OURS
            if key == b"blocked":
                time.sleep(1.3)  # noqa: ASYNC251
            await store.confirm(key)
        assert store.leases_lost == 1
        assert await store.reserve(b"long") is handled_events.Reservation.OURS
        time.sleep(1.3)  # noqa: ASYNC251
        await until(lambda: store.leases_lost == 2)  # as it is renewed, late
        await store.release(b"long")
    finally:
        await store.aclose()


async def test_the_leases_of_a_receiver_stand_in_its_stats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handled_events, "LEASE", 0.1)
    told = Told()
    receiver = CallbackReceiver(token=TOKEN, seen=tmp_path / "seen.sqlite", observer=told)

    @receiver.on_delivery_report
    async def take(report: DeliveryReport) -> None:
        time.sleep(0.2)  # noqa: ASYNC251

    assert await status(receiver, [REPORT]) == 200
    assert receiver.stats.leases_lost == told.one(LeasesLost).events == 1
    await receiver.aclose()
