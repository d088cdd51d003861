"""What is told beside the calls: keyed sends, an outbox, SMS, fallbacks and pictures of their own, in every form."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mmsclient import AsyncMMSClient, KeyReusedError, LedgerUnavailableError, OutcomeUnknownError, SendInProgressError
from mmsclient.bulk import JournalBusyError, RecipientState, SMSFallback
from mmsclient.limiter import NoLimit
from mmsclient.models import DeliveryReport, DeliveryStatus
from mmsclient.observe import (
    BatchEnded,
    CallEnded,
    CallStarted,
    CampaignEnded,
    EventSettled,
    EventStarted,
    LogObserver,
    Observer,
    OrdersClaimed,
    OrdersEnded,
    OrdersLost,
    Outcome,
    PictureMade,
    SendRepeated,
)
from mmsclient.observe.prometheus import PrometheusObserver
from mmsclient.outbox import Outbox, OutboxState
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Reject, Respond
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import PNG, until
from tests.support.callbacks import TOKEN, status
from tests.support.campaigns import campaign, numbers
from tests.support.held import Held
from tests.support.observing import Told
from tests.support.outbox import claimed, opened, order, working
from tests.support.telemetry import Telemetry, attributes, identity, parent

ONE = "+61400000000"
TEXT = "Nobody else reads this"
KEY = "order 0400 000 009"


class Watched:
    """Everything that observes, at the same time."""

    def __init__(self) -> None:
        self.told = Told()
        self.telemetry = Telemetry()
        self.registry = CollectorRegistry()
        self.log = logging.getLogger("tests.observed")
        observers: list[Observer] = [self.told, self.telemetry.observer, PrometheusObserver(self.registry)]
        self.observer = [*observers, LogObserver(self.log, json=True)]

    def figure(self, name: str, **labels: str) -> float:
        """A sample that Prometheus scrapes; 0 where there is none."""
        families = text_string_to_metric_families(generate_latest(self.registry).decode())
        found = [each.value for of in families for each in of.samples if each.name == name and each.labels == labels]
        return sum(found)

    def document(self) -> str:
        return self.told.document() + self.telemetry.document() + generate_latest(self.registry).decode()


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    """At its end nothing of what is private has been told."""
    caplog.set_level(logging.DEBUG, "tests.observed")
    watched = Watched()
    yield watched
    lines = "\n".join(record.getMessage() for record in caplog.records if record.name == watched.log.name)
    document = watched.document() + lines
    secrets = [*numbers(10), *(number[1:] for number in numbers(10)), TEXT, KEY, "0400 000"]
    assert not [each for each in secrets if each in document]
    watched.telemetry.close()


@pytest.fixture
async def mms(api: Sandbox, watched: Watched, tmp_path: Path) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit(), observer=watched.observer, ledger=tmp_path / "sends.db") as mms:
        yield mms


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The lines of the log about an event, from INFO on."""
    found = [json.loads(each.getMessage()) for each in caplog.records if each.name == "tests.observed"]
    return [line for line in found if line["event"] == event]


async def send(mms: AsyncMMSClient, **options: Any) -> Any:
    return await mms.send(**{"to": ONE, "text": TEXT, "image": PNG, "key": KEY, **options})


# Keyed sends ----------------------------------------------------------------------------------------------------------


async def test_a_send_that_was_made_before_is_told_though_it_makes_no_call(
    mms: AsyncMMSClient, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with watched.telemetry.tracer.start_as_current_span("order") as job:
        await send(mms)
        assert not watched.told.of(SendRepeated)
        assert (await send(mms)).repeated
    event = watched.told.one(SendRepeated)
    assert (event.name, event.recipients, event.outcome, event.error) == ("send-mms", 1, Outcome.ACCEPTED, None)
    assert event.server == watched.told.one(CallStarted).server
    assert watched.figure("mmsclient_repeated_sends_total", outcome="accepted", error="") == 1
    assert watched.figure("mmsclient_messages_total", kind="mms", outcome="accepted") == 1
    span = watched.telemetry.span("repeat send-mms")
    assert parent(span) == parent(watched.telemetry.span("send-mms")) == job.get_span_context().span_id
    assert attributes(span)["mmsclient.outcome"] == "accepted"
    assert list(watched.telemetry.points("mmsclient.repeated_sends").values()) == [1]
    (line,) = lines(caplog, "send_repeated")
    assert (line["outcome"], line["recipients"]) == ("accepted", 1)


async def test_what_a_repeated_send_is_told_shows_apart(mms: AsyncMMSClient, api: Sandbox, watched: Watched) -> None:
    with api.faults.add(Reject("RECIPIENTS_ERROR")):
        for _ in range(2):
            with pytest.raises(Exception, match="RECIPIENTS_ERROR"):
                await send(mms, key="refused")
    with api.faults.add(CutConnection()), pytest.raises(OutcomeUnknownError):
        await send(mms, key="unknown")
    with pytest.raises(OutcomeUnknownError):
        await send(mms, key="unknown")
    with pytest.raises(KeyReusedError):
        await send(mms, key="unknown", text="Another one")
    slow = {"key": "slow", "to": numbers(2)[1]}
    with api.faults.add(held := Held()):
        sending = asyncio.create_task(send(mms, **slow))
        await until(lambda: api.carried_out(numbers(2)[1]))
        with pytest.raises(SendInProgressError):
            await send(mms, **slow, timeout=0.01)
        held.answer.set()
        await sending
    found = [(event.outcome, event.error) for event in watched.told.of(SendRepeated)]
    assert found == [
        (Outcome.REFUSED, "RecipientsError"),
        (Outcome.UNKNOWN, "OutcomeUnknownError"),
        (Outcome.NOT_SENT, "KeyReusedError"),
        (Outcome.NOT_SENT, "SendInProgressError"),
    ]
    assert len(watched.told.of(CallEnded)) == 3


async def test_a_ledger_that_is_away_shows(mms: AsyncMMSClient, watched: Watched, tmp_path: Path) -> None:
    await send(mms)
    with closing(sqlite3.connect(tmp_path / "sends.db")) as other:
        other.execute("DROP TABLE send")
        other.commit()
    with pytest.raises(LedgerUnavailableError):
        await send(mms)
    assert watched.figure("mmsclient_repeated_sends_total", outcome="not_sent", error="LedgerUnavailableError") == 1
    assert attributes(watched.telemetry.span("repeat send-mms"))["error.type"] == "LedgerUnavailableError"


# The outbox -----------------------------------------------------------------------------------------------------------


async def test_an_outbox_is_told_from_what_is_due_to_how_it_ended(
    mms: AsyncMMSClient, api: Sandbox, watched: Watched, place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    store, _ = place
    async with aclosing(Outbox(mms, store)) as early:
        for number in range(3):
            await early.put(key=f"order-{number}", to=numbers(1, number), text=TEXT, image=PNG)
    api.faults.add(Respond(429, headers={"retry-after": "0"}), times=1)
    with watched.telemetry.tracer.start_as_current_span("worker") as job:
        async with Outbox(mms, store) as outbox:
            for number in range(3):
                found = await outbox.result(f"order-{number}", timeout=60)
                assert found is not None
                assert found.state is OutboxState.ACCEPTED
    first, *others = watched.told.of(OrdersEnded)
    assert (first.counts, first.error) == ({"waiting": 3}, "RateLimitError")
    assert sum((event.counts["accepted"] for event in others), 0) == 3
    claims = [event.claim for event in watched.told.of(OrdersClaimed)]
    assert [event.claim for event in watched.told.of(OrdersEnded)] == claims
    name = first.outbox
    assert name
    assert watched.figure("mmsclient_outbox_orders_total", outbox=name, state="accepted") == 3
    assert watched.figure("mmsclient_outbox_orders_total", outbox=name, state="waiting") == 3
    assert watched.telemetry.points("mmsclient.outbox.orders")[name, "accepted"] == 3
    spans, calls = watched.telemetry.spans(f"outbox {name}"), watched.telemetry.spans("send-mms")
    assert [parent(span) for span in spans] == [job.get_span_context().span_id] * len(claims)
    assert {parent(call) for call in calls} == {identity(span) for span in spans}
    assert attributes(spans[0])["error.type"] == "RateLimitError"
    assert {line["claim"] for line in lines(caplog, "orders_ended")} == set(claims)


def test_what_a_worker_that_died_was_sending_is_told(api: Sandbox, watched: Watched, place: tuple[str, str]) -> None:
    store, _ = place

    async def run() -> None:
        async with api.client(limiter=NoLimit(), observer=watched.observer) as mms:
            outbox = Outbox(mms, store, new_key=True)
            async with outbox:
                await until(lambda: watched.told.of(OrdersLost))

    with opened(store) as there:
        there.put(order("order-1", 61400000000))
        owner_of = asyncio.run(_owner(api))
        with working(there, owner_of) as worker:
            claimed(worker)
    asyncio.run(run())
    lost = watched.told.one(OrdersLost)
    assert lost.orders == 1
    assert watched.figure("mmsclient_outbox_orders_total", outbox=lost.outbox, state="unknown") == 1


async def _owner(api: Sandbox) -> Any:
    from mmsclient._store.models import Owner  # noqa: PLC0415

    async with api.client(limiter=NoLimit()) as mms:
        return Owner(mms.base_url, mms.key_fingerprint)


# SMS, fallbacks -------------------------------------------------------------------------------------------------------


async def test_sms_show_as_mms_do_and_apart_from_them(
    mms: AsyncMMSClient, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    sent = await mms.send_sms(to=numbers(2), text=TEXT, key=KEY)
    assert (await mms.send_sms(to=numbers(2), text=TEXT, key=KEY)).repeated
    ended = watched.told.one(CallEnded)
    assert (ended.name, ended.outcome, ended.accepted) == ("send-sms", Outcome.ACCEPTED, 2)
    assert ended.message_ids == tuple(message.id for message in sent.messages)
    assert watched.told.one(SendRepeated).name == "send-sms"
    assert watched.figure("mmsclient_messages_total", kind="sms", outcome="accepted") == 2
    assert watched.figure("mmsclient_messages_total", kind="mms", outcome="accepted") == 0
    call = watched.telemetry.span("send-sms")
    assert attributes(call)["messaging.operation.type"] == "send"
    assert attributes(call)["messaging.batch.message_count"] == 2
    (line,) = lines(caplog, "call_ended")
    receiver = CallbackReceiver(token=TOKEN, observer=watched.observer)
    receiver.on_delivery_report(lambda report: None)
    report = {"message_id": sent.messages[0].id, "status": "Delivered", "recipient": "61400000000"}
    assert await status(receiver, [report]) == 200
    await receiver.aclose()
    process = watched.telemetry.span("process delivery_report")
    assert [link.context.span_id for link in process.links] == [identity(call)]
    (settled,) = lines(caplog, "event_settled")
    assert (settled["call"], settled["message_id"]) == (line["call"], sent.messages[0].id)
    assert settled["event_id"] == watched.told.one(EventStarted).event == watched.told.one(EventSettled).event


async def test_many_sms_in_one_call_show_by_what_became_of_each(mms: AsyncMMSClient, watched: Watched) -> None:
    from mmsclient.sms import SMS  # noqa: PLC0415

    await mms.send_sms_many([SMS(to=number, text=TEXT) for number in numbers(3)])
    ended = watched.told.one(CallEnded)
    assert (ended.name, ended.recipients, ended.accepted) == ("bulk-send-sms", 3, 3)
    assert len(ended.message_ids) == 3
    assert watched.figure("mmsclient_messages_total", kind="sms", outcome="accepted") == 3


async def test_a_fallback_is_a_run_of_its_own(mms: AsyncMMSClient, api: Sandbox, watched: Watched, path: Path) -> None:
    mail = campaign(mms, path, fallback=SMSFallback(text=TEXT, wait=0))
    await mail.send_all(numbers(2))
    for number in numbers(2):
        message_id = next(each.message_ids for each in watched.told.of(CallEnded) if each.message_ids)[int(number[-1])]
        fields: dict[str, Any] = {"message_id": message_id, "status": DeliveryStatus.FAILED, "recipient": number[1:]}
        await mail.record(DeliveryReport(**fields, custom_string=None, source=None, raw={}))
    watched.told.events.clear()
    async for _ in mail.send_fallback():
        pass
    ended = watched.told.one(CampaignEnded)
    assert ended.campaign.name == "spring.db-sms"
    assert ended.counts == {RecipientState.ACCEPTED.value: 2}
    assert {event.name for event in watched.told.of(CallEnded) if event.campaign} == {"send-sms"}
    assert {event.campaign.id for event in watched.told.of(BatchEnded)} == {ended.campaign.id}
    figure = watched.figure("mmsclient_campaign_recipients_total", campaign="spring.db-sms", state="accepted")
    assert figure == 2
    assert attributes(watched.telemetry.span("campaign spring.db-sms"))["mmsclient.campaign.recipients.accepted"] == 2
    (call,) = watched.telemetry.spans("send-sms")
    assert parent(call) == identity(watched.telemetry.span("campaign spring.db-sms"))


# Pictures of their own ------------------------------------------------------------------------------------------------


async def test_own_pictures_are_told_with_what_they_took(
    mms: AsyncMMSClient, watched: Watched, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def picture(fields: Any) -> bytes:
        if fields["name"] == "nobody":
            raise ValueError(f"no picture of {fields['to']}")
        return PNG

    rows = [{"to": number, "name": "Ann"} for number in numbers(2)] + [{"to": numbers(3)[2], "name": "nobody"}]
    report = await campaign(mms, path, image=picture).send_all(rows)
    assert report.counts[RecipientState.EXCLUDED] == 1
    ended = watched.told.one(CampaignEnded)
    made = watched.told.of(PictureMade)
    assert {event.campaign.id for event in made} == {ended.campaign.id}
    assert sorted((event.bytes, event.error or "") for event in made) == [
        (0, "ValueError"),
        (len(PNG), ""),
        (len(PNG), ""),
    ]
    assert watched.figure("mmsclient_picture_duration_seconds_count", outcome="made") == 2
    assert watched.figure("mmsclient_picture_duration_seconds_count", outcome="failed") == 1
    assert sum(watched.telemetry.points("mmsclient.picture.duration").values()) == 3
    spans = watched.telemetry.spans("make picture")
    assert {parent(span) for span in spans} == {identity(watched.telemetry.span("campaign"))}
    assert sum("error.type" in attributes(span) for span in spans) == 1
    assert len(lines(caplog, "picture_made")) == 3


async def test_pictures_of_a_preflight_are_none_of_a_run_that_could_not_begin(
    mms: AsyncMMSClient, watched: Watched, path: Path
) -> None:
    has_begun, go_on = asyncio.Event(), asyncio.Event()

    async def listed() -> AsyncIterator[str]:
        has_begun.set()
        await go_on.wait()
        yield numbers(1)[0]

    mail = campaign(mms, path, image=lambda fields: PNG)
    other = asyncio.create_task(campaign(mms, path, image=lambda fields: PNG).send_all(listed()))
    await has_begun.wait()
    with pytest.raises(JournalBusyError):
        await mail.send_all(numbers(1))
    go_on.set()
    await other
    watched.told.events.clear()
    await mail.preflight(numbers(3))
    assert not watched.told.of(PictureMade)
