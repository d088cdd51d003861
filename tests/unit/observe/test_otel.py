"""Spans and metrics of OpenTelemetry, as an SDK exports them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from mmsclient import AsyncMMSClient, OutcomeUnknownError, RateLimitError
from mmsclient.limiter import NoLimit, TokenBucket
from mmsclient.models import DeliveryReport
from mmsclient.observe import (
    CampaignContinued,
    CampaignEnded,
    CampaignPaused,
    CampaignRef,
    CampaignReopened,
    CampaignStarted,
    CampaignStopped,
    CampaignWaiting,
    LeasesLost,
    LimiterAway,
    LimiterBack,
    SaturationBegan,
    SaturationEnded,
)
from mmsclient.observe.otel import OpenTelemetryObserver
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Fault, Latency, Reject, Respond, SlowBody
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import PNG, Connect, until
from tests.support.callbacks import TOKEN, status
from tests.support.campaigns import campaign, numbers
from tests.support.telemetry import Telemetry, attributes, identity, parent

ONE = "+61400000000"
TEXT = "Nobody else reads this"


@pytest.fixture
async def connect(api: Sandbox) -> AsyncIterator[Connect]:
    """Makes clients; what they export does not depend on the HTTP library."""
    async with AsyncExitStack() as stack:

        def new(**options: Any) -> AsyncMMSClient:
            mms = api.client(**options if "limiter" in options else {"rate": None, **options})
            stack.push_async_callback(mms.aclose)
            return mms

        yield new


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.close()


async def send(mms: AsyncMMSClient, to: Any = ONE) -> Any:
    return await mms.send(to=to, text=TEXT, image=PNG)


def attempts(call: ReadableSpan) -> list[dict[str, Any]]:
    """What a call's span says of its attempts."""
    return [attributes(event) for event in call.events if event.name == "mmsclient.attempt"]


async def test_a_call_is_one_span_by_the_conventions_with_its_attempts_as_events(
    connect: Connect, api: Sandbox, impatient: None, telemetry: Telemetry
) -> None:
    mms = connect(limiter=TokenBucket(1000), observer=telemetry.observer)
    api.faults.add(Respond(429, headers={"retry-after": "0"}), times=1)
    with telemetry.tracer.start_as_current_span("order") as order:
        await send(mms, numbers(3))
        assert trace.get_current_span() is order
    server, port = mms.base_url.removeprefix("http://").partition("/")[0].split(":")
    call = telemetry.span("send-mms")
    assert (call.name, call.kind) == (f"send-mms {server}:{port}", SpanKind.CLIENT)
    assert call.status.status_code is StatusCode.UNSET
    assert parent(call) == order.get_span_context().span_id
    assert attributes(call) | {
        "messaging.system": "cellcast",
        "messaging.operation.name": "send-mms",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 3,
        "server.address": server,
        "server.port": int(port),
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
        "mmsclient.outcome": "accepted",
        "mmsclient.accepted": 3,
        "mmsclient.code": "SUCCESS",
    } == attributes(call)
    assert attributes(call)["mmsclient.wait.token"] >= 0
    assert "error.type" not in attributes(call)
    assert [event.name.removeprefix("mmsclient.") for event in call.events] == [
        "waited",
        "throttled",
        "attempt",
        "retried",
        "waited",
        "attempt",
    ]
    assert [each["status"] for each in attempts(call)] == [429, 200]

    operation = ("send-mms", "send", "cellcast", "accepted", server, int(port))
    assert telemetry.points("messaging.client.operation.duration") == {operation: 1}
    assert telemetry.points("messaging.client.sent.messages") == {operation: 3}
    assert telemetry.points("mmsclient.wait.duration") == {("queue",): 2, ("connection",): 2, ("token",): 2}
    assert telemetry.points("mmsclient.retries") == {("RateLimitError",): 1}
    assert telemetry.points("mmsclient.throttled") == {(): 1}
    (share,) = telemetry.points("mmsclient.limiter.rate_share").values()
    assert 0 < share < 1
    assert telemetry.points("mmsclient.calls.under_way") == {("waiting",): 0, ("unanswered",): 0}


async def test_the_wait_for_the_cap_is_an_attribute_of_its_own(connect: Connect, telemetry: Telemetry) -> None:
    class Slow:
        async def acquire(self) -> Any:
            await asyncio.sleep(0.1)
            return await NoLimit().acquire()

    await connect(limiter=Slow(), observer=telemetry.observer).account()
    call = telemetry.span("account")
    waits = {name: attributes(call)[f"mmsclient.wait.{name}"] for name in ("queue", "connection", "token")}
    assert waits["token"] >= 0.09
    assert call.end_time is not None
    assert call.start_time is not None
    assert sum(waits.values()) <= (call.end_time - call.start_time) / 1e9 + 0.001
    assert "messaging.operation.type" not in attributes(call)
    assert "messaging.batch.message_count" not in attributes(call)


# Told apart by nothing but what was exported --------------------------------------------------------------------------


async def test_a_throttled_call_shows_in_the_telemetry_alone(
    connect: Connect, api: Sandbox, impatient: None, telemetry: Telemetry
) -> None:
    mms = connect(observer=telemetry.observer, max_attempts=3)
    with api.faults.add(Respond(429)), pytest.raises(RateLimitError):
        await send(mms)
    call = telemetry.span("send-mms")
    assert call.status.status_code is StatusCode.ERROR
    assert attributes(call)["error.type"] == "RateLimitError"
    assert attributes(call)["mmsclient.outcome"] == "refused"
    assert [event.name for event in call.events].count("mmsclient.throttled") == 3
    assert telemetry.points("mmsclient.throttled") == {(): 3}
    assert telemetry.points("mmsclient.calls.under_way")[("unanswered",)] == 0


@pytest.mark.parametrize("fault", [Latency(600), SlowBody(delay=600)], ids=repr)
async def test_a_hung_call_shows_in_the_telemetry_alone(
    connect: Connect, api: Sandbox, telemetry: Telemetry, fault: Fault
) -> None:
    mms = connect(observer=telemetry.observer, timeout=0.5)
    with api.faults.add(fault):
        hung = asyncio.create_task(send(mms))
        await until(lambda: telemetry.points("mmsclient.calls.under_way")[("unanswered",)])
        first = telemetry.points("mmsclient.calls.longest_unanswered")[()]
        await asyncio.sleep(0.01)
        assert telemetry.points("mmsclient.calls.longest_unanswered")[()] > first  # as it hangs
        assert not telemetry.spans()
        with pytest.raises(OutcomeUnknownError):
            await hung
        (attempt,) = attempts(telemetry.span("send-mms"))
        assert attempt["timed_out"] is True  # also after it
        assert telemetry.points("mmsclient.calls.longest_unanswered") == {(): 0}
        api.stop()


async def test_an_unknown_call_shows_in_the_telemetry_alone(
    connect: Connect, api: Sandbox, telemetry: Telemetry
) -> None:
    with api.faults.add(CutConnection()), pytest.raises(OutcomeUnknownError):
        await send(connect(observer=telemetry.observer), numbers(2))
    call = telemetry.span("send-mms")
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, "unknown")
    assert attributes(call)["error.type"] == "OutcomeUnknownError"
    assert attributes(call)["mmsclient.outcome"] == "unknown"
    (attempt,) = attempts(call)
    assert (attempt["left"], attempt["timed_out"]) == (True, False)
    ((found, count),) = telemetry.points("messaging.client.sent.messages").items()
    assert (found[0], found[4], count) == ("OutcomeUnknownError", "unknown", 2)
    assert telemetry.points("mmsclient.throttled") == {}


async def test_a_call_whose_caller_leaves_is_a_span_as_well(
    connect: Connect, api: Sandbox, telemetry: Telemetry
) -> None:
    api.faults.add(Latency(0.1, carried_out=True))
    mms = connect(observer=telemetry.observer)
    sending = asyncio.create_task(send(mms))
    await until(lambda: api.sends)
    sending.cancel()
    await asyncio.wait([sending])
    assert not telemetry.spans()
    await mms.aclose()
    assert attributes(telemetry.span("send-mms"))["mmsclient.is_abandoned"] is True


# Campaigns ------------------------------------------------------------------------------------------------------------


async def test_a_campaign_is_a_span_over_the_calls_of_its_batches(
    api: Sandbox, path: Path, impatient: None, telemetry: Telemetry
) -> None:
    api.faults.add(Respond(429, headers={"retry-after": "0"}), call="send-mms", times=1)
    async with api.client(rate=None, observer=telemetry.observer) as mms:
        with telemetry.tracer.start_as_current_span("job") as job:
            await campaign(mms, path).send_all(numbers(100))
    run, calls = telemetry.span("campaign"), telemetry.spans("send-mms")
    assert run.name == "campaign spring.db"
    assert parent(run) == job.get_span_context().span_id
    assert len(calls) == 5
    assert {parent(call) for call in calls} == {identity(run)}
    assert len({attributes(call)["mmsclient.campaign.batch"] for call in calls}) == 4
    assert {attributes(call)["mmsclient.campaign.run"] for call in calls} == {attributes(run)["mmsclient.campaign.run"]}
    assert attributes(run)["mmsclient.campaign.recipients.accepted"] == 100
    assert attributes(run)["mmsclient.campaign.calls"] == 5
    assert [event.name for event in run.events] == ["mmsclient.campaign.paused"]
    assert telemetry.points("mmsclient.campaign.recipients") == {("spring.db", "accepted"): 100}
    assert telemetry.points("mmsclient.campaign.running") == {(): 0}
    assert telemetry.points("mmsclient.campaign.runs") == {(): 1}


def test_what_holds_a_campaign_up_is_an_event_of_its_span(telemetry: Telemetry) -> None:
    of, held = CampaignRef("1a2b3c4d", "spring.db"), list[list[int]]()
    for event in (
        CampaignStarted(campaign=of),
        CampaignWaiting(campaign=of, until=datetime(2026, 3, 2, 9, tzinfo=UTC)),
        CampaignReopened(campaign=of),
        CampaignPaused(campaign=of, seconds=None, error=None, from_outside=True),
        CampaignContinued(campaign=of, seconds=2.0),
        CampaignStopped(campaign=of, error=None),
        CampaignEnded(campaign=of, counts={"pending": 1}, calls=0, seconds=1.0, error=None),
    ):
        contextvars.copy_context().run(telemetry.observer, event)  # as in the run's own task
        held.append([count for _, count in sorted(telemetry.points("mmsclient.campaign.held").items())])
    assert held == [[0, 0], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0]]  # for their hours, paused
    assert [(event.name, attributes(event)) for event in telemetry.span("campaign").events] == [
        ("mmsclient.campaign.waiting", {"until": "2026-03-02T09:00:00+00:00"}),
        ("mmsclient.campaign.reopened", {}),
        ("mmsclient.campaign.paused", {"from_outside": True}),
        ("mmsclient.campaign.continued", {"seconds": 2.0, "from_outside": True}),
        ("mmsclient.campaign.stopped", {"from_outside": False}),
    ]


# Callbacks ------------------------------------------------------------------------------------------------------------


async def test_the_handling_of_a_report_is_a_span_linked_to_its_send(connect: Connect, telemetry: Telemetry) -> None:
    receiver = CallbackReceiver(token=TOKEN, timeout=60, observer=telemetry.observer)
    nobody = CallbackReceiver(token=TOKEN, timeout=0.1, observer=telemetry.observer)
    mms = connect(observer=telemetry.observer)

    @receiver.on_delivery_report
    async def note(report: DeliveryReport) -> None:
        with telemetry.tracer.start_as_current_span("handler"):
            await mms.account()
        if report.status.value == "Failed":
            raise RuntimeError("on purpose")

    sent = await send(mms)
    report = {"message_id": sent.messages[0].id, "recipient": ONE[1:], "status": "Delivered"}
    with telemetry.tracer.start_as_current_span("POST") as request:
        assert await status(receiver, report) == 200
        assert trace.get_current_span() is request
    assert await status(receiver, report | {"message_id": "A1", "status": "Failed"}) == 503
    assert await status(nobody, {"from": "61412345678", "body": "Yes", "message_id": "6952176713"}) == 503
    await until(lambda: not nobody.stats.under_way)

    known, other = telemetry.spans("process delivery_report")
    assert known.kind is SpanKind.CONSUMER
    assert parent(known) == request.get_span_context().span_id
    assert attributes(known) | {
        "messaging.system": "cellcast",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "delivery_report",
        "messaging.message.id": sent.messages[0].id,
        "mmsclient.event.outcome": "handled",
    } == attributes(known)
    assert [link.context.span_id for link in known.links] == [identity(telemetry.span("send-mms"))]
    assert parent(telemetry.spans("handler")[0]) == identity(known)
    assert parent(telemetry.spans("account")[0]) == identity(telemetry.spans("handler")[0])
    assert not other.links
    assert (other.status.status_code, attributes(other)["error.type"]) == (StatusCode.ERROR, "failed")
    assert attributes(telemetry.span("process inbound_message"))["error.type"] == "unclaimed"

    assert telemetry.points("mmsclient.callback.events") == {
        ("delivery_report", "handled"): 1,
        ("delivery_report", "failed"): 1,
        ("inbound_message", "unclaimed"): 1,
    }
    answers = telemetry.points("mmsclient.callback.duration")
    assert answers.pop((200, "")) == answers.pop((503, "failed")) == 1
    assert sum(answers.values()) == 1
    assert sum(telemetry.points("messaging.process.duration").values()) == 3
    exported = telemetry.document()
    assert not [each for each in (ONE[1:], "61412345678", TEXT, "Yes", TOKEN) if each in exported]
    await receiver.aclose()
    await nobody.aclose()


def test_limiters_and_saturation_are_gauges(telemetry: Telemetry) -> None:
    for event, metric, value in (
        (LimiterAway(error="TimeoutError", shares=True), "mmsclient.limiter.away", 1),
        (LimiterBack(seconds=1.0), "mmsclient.limiter.away", 0),
        (SaturationBegan(kind="delivery_report"), "mmsclient.receiver.saturated", 1),
        (SaturationEnded(kind="delivery_report", seconds=1.0), "mmsclient.receiver.saturated", 0),
    ):
        telemetry.observer(event)
        assert list(telemetry.points(metric).values()) == [value]
    telemetry.observer(LeasesLost(events=2))
    assert telemetry.points("mmsclient.receiver.leases_lost") == {(): 2}


async def test_nothing_private_is_exported(connect: Connect, api: Sandbox, telemetry: Telemetry) -> None:
    mms = connect(observer=telemetry.observer)
    api.add_replies(2)
    await send(mms, numbers(3))
    async for reply in mms.replies():
        await mms.mark_read(reply.id)
    with api.faults.add(Reject("RECIPIENTS_ERROR")), pytest.raises(Exception, match="RECIPIENTS"):
        await send(mms)
    await mms.send_sms(to=numbers(2), text=TEXT)
    assert attributes(telemetry.span("send-sms"))["messaging.operation.type"] == "send"
    assert {attributes(span)["messaging.operation.name"] for span in telemetry.spans()} == {
        "send-mms",
        "send-sms",
        "get-responses",
        "inbound-read",
    }
    exported = telemetry.document()
    assert reply.sender
    private = [api.app_key, TEXT, reply.sender[1:], reply.text, *(number[1:] for number in numbers(3))]
    assert not [each for each in private if each in exported]


async def test_without_an_sdk_it_does_nothing(connect: Connect) -> None:
    assert (await send(connect(observer=OpenTelemetryObserver()))).accepted == 1
