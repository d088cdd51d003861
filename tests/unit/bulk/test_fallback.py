"""An SMS to those whose MMS did not arrive: once, ever, and checked as all else, on both engines."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from os import rename, replace, unlink
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mmsclient import AsyncMMSClient, ConfigurationError, InvalidRequestError
from mmsclient._store.models import Message
from mmsclient._store.postgres import steering as postgres_steering
from mmsclient._store.postgres.opening import PostgresStore
from mmsclient._store.steering import sender_name
from mmsclient._store.stores import FileStore, store_at
from mmsclient.bulk import (
    Activity,
    BudgetReachedError,
    Campaign,
    CampaignStatus,
    CampaignStoppedError,
    Exclusion,
    JournalError,
    JournalMismatchError,
    RecipientState,
    ReportRecorder,
    Sending,
    SMSFallback,
    StopRequestedError,
    SuppressionList,
    Template,
    pause,
    read_report,
    read_status,
    resume,
    stop,
    unpause,
)
from mmsclient.bulk.fallback import Fallback
from mmsclient.models import DeliveryReport, DeliveryStatus
from mmsclient.observe import CampaignEnded, CampaignStarted, Event
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reject, Reset
from tests.conftest import PNG, until
from tests.support.campaigns import inbound, numbers, status_when
from tests.support.held import Held
from tests.support.postgres_server import Server

pytestmark = pytest.mark.usefixtures("impatient")

ACCEPTED, PENDING, UNKNOWN = RecipientState.ACCEPTED, RecipientState.PENDING, RecipientState.UNKNOWN
DELIVERED, FAILED, REJECTED, EXPIRED, ABORTED, DISPATCHED = (
    DeliveryStatus.DELIVERED,
    DeliveryStatus.FAILED,
    DeliveryStatus.REJECTED,
    DeliveryStatus.EXPIRED,
    DeliveryStatus.ABORTED,
    DeliveryStatus.DISPATCHED,
)
AT_ONCE = SMSFallback(wait=0)


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, timeout=30) as mms:
        yield mms


def campaign(mms: AsyncMMSClient, place: tuple[str, str], **options: Any) -> Campaign:
    given = {"text": "Sale\non now", "image": PNG, "fallback": AT_ONCE, "batch_size": 25, **options}
    return mms.campaign(journal=place[0], name=place[1] or None, **given)


async def reported(campaign: Campaign, api: Sandbox, statuses: dict[str, DeliveryStatus]) -> None:
    """The MMS to these numbers are reported on."""
    ids = {message.to: message.id for message in api.mms.messages}
    for number, status in statuses.items():
        report = DeliveryReport(
            message_id=ids[number], status=status, recipient=number, custom_string=None, source=None
        )
        await campaign.record(report)


async def ended(sending: Sending) -> None:
    async for _ in sending:
        pass


def by_sms(api: Sandbox) -> Counter[str]:
    return Counter(number for send in api.sms.sends for number in send.recipients)


async def failed(
    mms: AsyncMMSClient, api: Sandbox, place: tuple[str, str], listed: Sequence[str], **options: Any
) -> None:
    """A campaign whose MMS to all of `listed` were accepted, and have failed."""
    first = campaign(mms, place, **options)
    assert (await first.send_all(listed)).counts[ACCEPTED] == len(listed)
    await reported(first, api, dict.fromkeys(listed, FAILED))
    await first.aclose()
    assert api.sms.sends == []


async def test_those_whose_mms_did_not_arrive_get_the_text_once(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    listed = numbers(8)
    first = campaign(mms, place, opt_out_line="Reply STOP to opt out")
    report = await first.send_all(listed)
    assert (report.counts[ACCEPTED], report.fallback, api.sms.sends) == (8, None, [])
    assert (await read_status(place[0], place[1] or None)).fallback is None
    statuses = [DELIVERED, FAILED, REJECTED, EXPIRED, ABORTED, DeliveryStatus.UNKNOWN, DISPATCHED]
    await reported(first, api, dict(zip(listed, statuses, strict=False)))
    report = await first.send_all()
    assert by_sms(api) == Counter(listed[1:4])
    assert [send.text for send in api.sms.sends] == ["Sale\non now\nReply STOP to opt out"]
    assert report.fallback is not None
    assert (report.kind, report.fallback.kind, report.fallback.counts[ACCEPTED]) == ("mms", "sms", 3)
    assert "; by SMS 3 recipients: 3 accepted; 1 call" in str(report)
    await reported(first, api, {listed[6]: FAILED})
    again = await resume(mms, place[0], name=place[1] or None, fallback="sms")
    async for batch in again.send_fallback():
        assert batch.recipients == (listed[6],)
    for _ in range(2):
        async for _ in again.send_fallback():
            pytest.fail("nobody is left")
    assert by_sms(api) == Counter([*listed[1:4], listed[6]])
    assert Counter(number for send in api.mms.sends for number in send.recipients) == Counter(listed)
    found = await read_report(place[0], place[1] or None)
    assert found.fallback is not None
    assert found.fallback.counts[ACCEPTED] == 4
    status = await read_status(place[0], place[1] or None)
    assert status.fallback is not None
    assert (status.fallback.counts[ACCEPTED], status.fallback.is_over, status.fallback.fallback) == (4, True, None)


def write_damage(path: Path) -> None:
    path.write_bytes(b"damaged" * 1000)


async def test_a_journal_of_sms_that_cannot_be_read_is_told(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    await failed(mms, api, (str(path), ""), numbers(1))
    await ended(campaign(mms, (str(path), "")).send_fallback())
    write_damage(Path(f"{path}-sms"))
    with pytest.raises(JournalError, match="-sms"):
        await read_status(path)


async def test_what_is_wrong_with_the_journal_of_sms_keeps_no_report_out_of_the_first_one(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    listed = numbers(2)
    first = campaign(mms, (str(path), ""))
    await first.send_all(listed)
    write_damage(Path(f"{path}-sms"))
    for number in listed:
        with pytest.raises(JournalError, match="-sms"):
            await reported(first, api, {number: DELIVERED})
    unlink(f"{path}-sms")
    assert (await first.report()).deliveries == {DELIVERED: 2}


async def test_the_status_shows_who_sends_the_sms_and_how_far(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    await failed(mms, api, place, numbers(2))
    with api.faults.add(held := Held(), call="send-sms"):
        sending = asyncio.create_task(ended(campaign(mms, place).send_fallback()))
        await until(lambda: api.sms.sends)
        status = await read_status(place[0], place[1] or None)
        assert status.activity is Activity.IDLE
        assert status.fallback is not None
        assert status.fallback.activity is Activity.SENDING
        assert status.fallback.sender is not None
        assert status.fallback.counts[RecipientState.SENDING] == 2
        held.answer.set()
        await sending


async def test_a_run_waits_for_reports_and_sends_what_has_failed_meanwhile(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    listed = numbers(3)
    waiting = campaign(mms, place, fallback=SMSFallback(wait=600, text="Sale on now: example.com", sender="SHOP"))
    run = asyncio.create_task(waiting.send_all(listed))
    await until(lambda: len(api.mms.messages) == 3)
    for number, status in zip(listed, (FAILED, DELIVERED, EXPIRED), strict=True):
        await reported(waiting, api, {number: status})
    report = await asyncio.wait_for(run, 60)  # it does not wait once everybody's fate is known
    assert by_sms(api) == Counter([listed[0], listed[2]])
    assert {(send.text, send.sender) for send in api.sms.sends} == {("Sale on now: example.com", "SHOP")}
    assert report.fallback is not None
    assert report.fallback.counts[ACCEPTED] == 2


async def test_a_run_that_waits_is_stopped(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mmsclient.bulk")
    for leave in ("stop", "cancel", "drain"):
        waiting = campaign(mms, place, fallback="sms")
        sending = waiting.send(numbers(3))
        batches: list[object] = []

        async def consume(sending: Any = sending, batches: list[object] = batches) -> None:
            batches.extend([batch async for batch in sending])

        run = asyncio.create_task(consume())
        await until(lambda: "waiting up to " in caplog.text)
        caplog.clear()
        if leave == "stop":
            sending.stop()
        elif leave == "drain":
            await waiting.drain()
        else:
            run.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait([run])
    assert api.sms.sends == []


async def test_an_operator_pauses_and_stops_a_run_that_waits_for_reports(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """By the name of the campaign, which nobody sends any more."""
    caplog.set_level(logging.INFO, "mmsclient.bulk")
    journal = place[0], place[1] or None
    waiting = campaign(mms, place, fallback=SMSFallback(wait=600))
    run = asyncio.create_task(waiting.send_all(numbers(3)))
    await until(lambda: "waiting up to " in caplog.text)
    await pause(*journal)
    await reported(waiting, api, {numbers(1)[0]: FAILED})
    await unpause(*journal)
    await until(lambda: len(api.sms.sends) == 1)
    await pause(*journal)
    await reported(waiting, api, dict.fromkeys(numbers(3), FAILED))
    await stop(*journal)
    with pytest.raises(StopRequestedError):
        await asyncio.wait_for(run, 60)
    assert by_sms(api) == Counter(numbers(1))


async def test_the_status_shows_a_run_that_waits_for_reports(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    """Who waits, since when and for how many, as long as it does, and whether it is paused."""
    listed, began = numbers(4), datetime.now(UTC)
    await sent_twice(mms, api, place, listed[:1])
    waiting = campaign(mms, place, fallback=SMSFallback(wait=600))
    run = asyncio.create_task(waiting.send_all(listed))
    status = await status_when(place, lambda found: found.reports_awaited)
    assert (status.activity, status.sender, status.reports_awaited) == (Activity.WAITING, sender_name(), 4)
    assert status.why == "for the delivery reports of 4 recipients; who does not get the MMS gets an SMS"
    assert status.sender_since is not None
    assert began <= status.sender_since <= datetime.now(UTC)
    assert not status.is_over
    assert status.fallback is None
    await reported(waiting, api, {listed[1]: DELIVERED, listed[2]: FAILED})
    await status_when(place, lambda found: found.reports_awaited == 2 and found.fallback and found.fallback.is_over)
    await pause(place[0], place[1] or None)
    status = await status_when(place, lambda found: found.activity is Activity.PAUSED)
    assert status.paused_by is not None
    assert (status.reports_awaited, status.paused_by in status.why) == (2, True)
    await stop(place[0], place[1] or None)
    with pytest.raises(StopRequestedError):
        await asyncio.wait_for(run, 60)
    status = await read_status(place[0], place[1] or None)
    assert (status.activity, status.sender, status.reports_awaited, status.is_over) == (Activity.IDLE, None, None, True)


@pytest.mark.parametrize("has_failed", [False, True])
async def test_the_status_shows_a_run_before_it_looks_for_the_first_time(
    api: Sandbox,
    mms: AsyncMMSClient,
    place: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    has_failed: bool,
) -> None:
    """A look takes seconds where there are many recipients: nobody is to take the run for over."""
    if has_failed:
        await failed(mms, api, place, numbers(2))
    seen: list[tuple[Activity, str | None]] = []
    look, make = Fallback.look, Fallback.campaign

    async def see() -> None:
        status = await read_status(place[0], place[1] or None)
        assert not status.is_over
        seen.append((status.activity, status.sender))

    async def looked(self: Fallback) -> Any:
        await see()
        return await look(self)

    async def made(self: Fallback, *, is_first: bool) -> Any:
        await see()
        return await make(self, is_first=is_first)

    monkeypatch.setattr(Fallback, "look", looked)
    monkeypatch.setattr(Fallback, "campaign", made)
    await campaign(mms, place).send_all(numbers(2))
    assert len(by_sms(api)) == 2 * has_failed
    assert seen == [(Activity.WAITING, sender_name())] * (3 if has_failed else 1)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_pause_is_told_of_once_in_the_log(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    """It comes while reports are waited for, or is there before, and each look finds it."""
    caplog.set_level(logging.INFO, "mmsclient.bulk")
    journal = place[0], place[1] or None
    told = campaign(mms, place, fallback=SMSFallback(wait=600))
    if waits:
        run = asyncio.create_task(ended(told.send(numbers(2))))
        await until(lambda: "waiting up to " in caplog.text)
        await pause(*journal)
        await until(lambda: "paused since " in caplog.text)
        await reported(told, api, dict.fromkeys(numbers(2), FAILED))
    else:
        await failed(mms, api, place, numbers(2))
        await pause(*journal)
        run = asyncio.create_task(ended(told.send_fallback()))
        await until(lambda: "paused since " in caplog.text)
    await unpause(*journal)
    await asyncio.wait_for(run, 60)
    assert len(by_sms(api)) == 2
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [": paused since " in warned[0], ": continued" in warned[1], len(warned)] == [True, True, 2]
    assert "nothing starts until `mmsclient bulk continue` or `bulk.unpause`" in warned[0]


async def test_who_waits_is_shown_no_longer_than_its_notice_lasts(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several who wait one is shown, and then another; and one that has died is not."""
    store = store_at(place[0], place[1] or None)
    store.open(Message("Sale", "", PNG)).close()
    first, second = store.wait_notice(), store.wait_notice()
    first.renew()
    began = (await read_status(place[0], place[1] or None)).sender_since
    assert began is not None
    for notice in (second, second, first):
        notice.renew()
        assert (await read_status(place[0], place[1] or None)).sender_since == began
    first.end()
    second.renew()
    after = (await read_status(place[0], place[1] or None)).sender_since
    assert after is not None
    assert after > began
    if isinstance(store, FileStore):
        second.end()
    else:
        monkeypatch.setattr(postgres_steering, "WAITS", 0.0)
        second.renew()
    assert (await read_status(place[0], place[1] or None)).activity is Activity.IDLE
    second.end()


async def test_a_run_opens_the_journal_of_the_mms_as_often_for_many_calls_as_for_one(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def spied(original: Any) -> Any:
        def spy(self: Any) -> Any:
            opened.append(self.shown)
            return original(self)

        return spy

    for store in (FileStore, PostgresStore):
        for name in ("open_reader", "open_lasting_reader"):
            monkeypatch.setattr(store, name, spied(getattr(store, name)))
    counts = []
    async with campaign(mms, place, fallback=None) as first:
        await first.send_all(numbers(10))
    for listed in (numbers(1), numbers(9, 1)):
        async with campaign(mms, place, fallback=None) as first:
            await reported(first, api, dict.fromkeys(listed, FAILED))
        opened.clear()
        await ended(campaign(mms, place, batch_size=1).send_fallback())
        counts.append(opened.count(store_at(place[0], place[1] or None).shown))
    assert len(api.sms.sends) == 10
    assert counts[0] == counts[1]


def files_open_beside(path: Path) -> list[str]:
    """Files of this process that are open, or were when they were removed."""
    links = [link for each in Path("/proc/self/fd").iterdir() if (link := _target(each)).startswith(str(path))]
    return sorted(links)


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # that of the folder itself
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
async def test_nothing_is_left_open_and_no_log_is_left_beside_the_journal(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    listed = numbers(2)
    await failed(mms, api, (str(path), ""), listed)
    before = sorted(each.name for each in path.parent.iterdir())
    await ended(campaign(mms, (str(path), "")).send_fallback())
    assert files_open_beside(path) == []
    assert sorted(each.name for each in path.parent.iterdir()) == [*before, f"{path.name}-sms"]
    moved = path.with_name("moved.db")
    rename(path, moved)
    assert (await read_report(moved)).deliveries[FAILED] == 2


async def test_a_journal_that_is_lost_while_the_sms_are_sent_ends_the_run(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], postgres: Server
) -> None:
    await failed(mms, api, place, numbers(2))
    with api.faults.add(held := Held(), call="send-sms"):
        run = asyncio.create_task(ended(campaign(mms, place, batch_size=1).send_fallback()))
        await until(lambda: api.sms.sends)
        if place[1]:
            postgres.ask(f"DELETE FROM mmsclient.campaign WHERE name = '{place[1]}'", place[0])  # noqa: S608
        else:
            unlink(place[0])
        held.answer.set()
        with pytest.raises(JournalError, match=r"was removed or replaced during the campaign; nothing more is sent"):
            await asyncio.wait_for(run, 60)
    assert len(api.sms.sends) == 1
    if not place[1] and sys.platform == "linux":
        assert files_open_beside(Path(place[0])) == []


def replace_journal(new: str, old: str) -> None:
    for end in ("-wal", "-shm", "-journal"):
        Path(f"{old}{end}").unlink(missing_ok=True)
    replace(new, old)


async def test_another_campaign_in_the_place_of_one_that_waits_for_reports_is_not_its_own(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Those whose MMS of the other one did not arrive get no SMS of the first."""
    caplog.set_level(logging.INFO, "mmsclient.bulk")
    journal, name = place
    other = (journal, "other") if name else (f"{journal}-other", "")
    one, two = numbers(2)
    await failed(mms, api, other, [two])
    waiting = campaign(mms, place, text="Of the first", fallback=SMSFallback(wait=600))
    run = asyncio.create_task(waiting.send_all([one]))
    await until(lambda: "waiting up to " in caplog.text or run.done())
    if name:
        sql = "DELETE FROM mmsclient.campaign WHERE name = '{}'; UPDATE mmsclient.campaign SET name = '{}'"
        postgres.ask(sql.format(name, name), journal)
    else:
        replace_journal(other[0], journal)
    with pytest.raises(JournalError, match="was removed or replaced during the campaign; nothing more is sent"):
        await asyncio.wait_for(run, 60)
    assert api.sms.sends == []


Steer = Callable[..., Awaitable[CampaignStatus]]


class Steered:
    """An observer, at one event of which an operator gives an order, and which goes on when that is recorded."""

    def __init__(self, place: tuple[str, str], order: Steer, at: type[Event], skip: int = 0) -> None:
        self._place = place
        self._order = order
        self._at = at
        self._left = skip

    def __call__(self, event: Event) -> None:
        if isinstance(event, self._at):
            self._left -= 1
            if self._left == -1:
                operator = Thread(target=lambda: asyncio.run(self._give()))
                operator.start()
                operator.join()

    async def _give(self) -> None:
        await self._order(self._place[0], self._place[1] or None)


GAPS = pytest.mark.parametrize(
    ("at", "skip"), [(CampaignEnded, 0), (CampaignStarted, 1)], ids=["before it looks", "before the SMS begin"]
)
"""When nobody has the journal of the MMS any more, and nobody that of the SMS yet."""


@GAPS
async def test_a_stop_between_the_last_mms_and_the_first_sms_is_heeded(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], at: type[Event], skip: int
) -> None:
    await failed(mms, api, place, numbers(2))
    async with api.client(rate=None, observer=Steered(place, stop, at, skip)) as observed:
        with pytest.raises((StopRequestedError, CampaignStoppedError), match="a stop was asked for"):
            await asyncio.wait_for(campaign(observed, place, fallback=SMSFallback(wait=600)).send_all(), 60)
        assert api.sms.sends == []
        await campaign(observed, place).send_all()  # once: who begins later sends
    assert by_sms(api) == Counter(numbers(2))


@GAPS
async def test_a_pause_between_the_last_mms_and_the_first_sms_is_heeded(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], at: type[Event], skip: int
) -> None:
    await failed(mms, api, place, numbers(2))
    async with api.client(rate=None, observer=Steered(place, pause, at, skip)) as observed:
        run = asyncio.create_task(campaign(observed, place, fallback=SMSFallback(wait=600)).send_all())
        await status_when(
            place, lambda found: Activity.PAUSED in (found.activity, found.fallback and found.fallback.activity)
        )
        assert api.sms.sends == []
        await unpause(place[0], place[1] or None)
        await asyncio.wait_for(run, 60)
    assert by_sms(api) == Counter(numbers(2))


async def test_each_gets_the_text_that_its_mms_had(api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    rows = [
        {"to": number, "name": name, "more": more}
        for number, name, more in zip(numbers(3), ["Ann", "{Ben}", "Cy"], ["", "", "ч" * 500], strict=True)
    ]
    text = Template("Hi {name},\nsale on now {more}", defaults={"more": "!"})
    first = campaign(mms, place, text=text, opt_out_line="Reply STOP to opt out")
    await first.send_all(rows)
    await reported(first, api, dict.fromkeys(numbers(3), FAILED))
    report = await first.send_all()
    got = {number: send.text for send in api.sms.sends for number in send.recipients}
    assert got == {
        numbers(3)[0]: "Hi Ann,\nsale on now !\nReply STOP to opt out",
        numbers(3)[1]: "Hi {Ben},\nsale on now !\nReply STOP to opt out",
    }
    assert report.fallback is not None
    assert report.fallback.exclusions[Exclusion.NO_MESSAGE] == 1


async def test_who_may_have_got_an_earlier_mms_gets_no_sms(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    """Of the first nobody knew whether it left, so that a second one was sent, and that one failed."""
    listed = numbers(5)
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    first = await campaign(mms, place, fallback=None).send_all(listed)
    assert first.counts[UNKNOWN] == 5
    earlier = {message.to: message.id for message in api.mms.messages}
    again = campaign(mms, place, fallback=None, resend_unknown=True)
    assert (await again.send_all()).counts[ACCEPTED] == 5
    await reported(again, api, dict.fromkeys(listed, FAILED))
    for number, status in zip(listed, (DELIVERED, FAILED, DISPATCHED), strict=False):
        await again.record(
            DeliveryReport(message_id=earlier[number], status=status, recipient=number, custom_string=None, source=None)
        )
    await again.record_reply(inbound(listed[3], earlier[listed[3]]))
    for _ in range(2):
        report = await campaign(mms, place).send_all()
        assert by_sms(api) == Counter([listed[1], listed[4]])
    assert report.fallback is not None
    assert report.fallback.counts[ACCEPTED] == 2


async def test_nobody_may_be_left_to_send_to(api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    (one,) = listed = numbers(1)
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    await campaign(mms, place, fallback=None).send_all(listed)
    (earlier,) = api.mms.messages
    again = campaign(mms, place, resend_unknown=True)
    await again.send_all()
    await reported(again, api, {one: FAILED})
    await again.record(
        DeliveryReport(message_id=earlier.id, status=DELIVERED, recipient=one, custom_string=None, source=None)
    )
    await ended(again.send_fallback())
    assert api.sms.sends == []


async def sent_twice(
    mms: AsyncMMSClient, api: Sandbox, place: tuple[str, str], listed: Sequence[str]
) -> dict[str, str]:
    """MMS to all of `listed` of which nobody knew whether they left, so that others were sent; the ids of the first."""
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    await campaign(mms, place, fallback=None).send_all(listed)
    earlier = {message.to: message.id for message in api.mms.messages}
    await campaign(mms, place, fallback=None, resend_unknown=True).send_all()
    return earlier


async def reported_of(place: tuple[str, str], ids: dict[str, str], statuses: dict[str, DeliveryStatus]) -> None:
    """The messages with these ids are reported on."""
    async with ReportRecorder(place[0], place[1] or None) as recorder:
        for number, status in statuses.items():
            report = DeliveryReport(
                message_id=ids[number], status=status, recipient=number, custom_string=None, source=None
            )
            await recorder.record(report)


@pytest.mark.parametrize("others", [0, 1])
async def test_a_run_waits_for_the_report_of_an_earlier_mms(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], caplog: pytest.LogCaptureFixture, others: int
) -> None:
    """Alone, or while it waits for somebody else, too."""
    caplog.set_level(logging.INFO, "mmsclient.bulk")
    one, *rest = listed = numbers(1 + others)
    earlier = await sent_twice(mms, api, place, listed)
    await reported_of(place, earlier, {one: DISPATCHED})
    waiting = campaign(mms, place, fallback=SMSFallback(wait=600))
    await reported(waiting, api, {one: FAILED})
    run = asyncio.create_task(waiting.send_all())
    await until(lambda: "waiting up to " in caplog.text or run.done())
    assert "1 recipient whose last message did not arrive may have got an earlier one, and get no SMS: 0 by " in (
        caplog.text
    )
    assert not run.done()
    await reported_of(place, earlier, {one: FAILED})
    await until(lambda: api.sms.sends)
    await reported(waiting, api, dict.fromkeys(rest, DELIVERED))
    await asyncio.wait_for(run, 60)
    assert by_sms(api) == Counter([one])


async def test_nobody_is_forgotten_while_others_are_left_out(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The number of those who are to get an SMS becomes smaller, and then what it was."""
    caplog.set_level(logging.INFO, "mmsclient.bulk")
    one, two, three = listed = numbers(3)
    earlier = await sent_twice(mms, api, place, listed)
    waiting = campaign(mms, place, fallback=SMSFallback(wait=600))
    await reported(waiting, api, {one: FAILED})
    run = asyncio.create_task(waiting.send_all())
    await until(lambda: api.sms.sends)
    await reported_of(place, earlier, {one: DISPATCHED})
    await until(lambda: "may have got an earlier one" in caplog.text)
    await reported(waiting, api, {two: FAILED})
    await until(lambda: len(api.sms.sends) == 2)
    await reported_of(place, earlier, {one: DELIVERED})
    await reported(waiting, api, {three: DELIVERED})
    await asyncio.wait_for(run, 60)
    assert by_sms(api) == Counter([one, two])


async def test_an_sms_that_an_earlier_run_left_is_not_sent_once_the_mms_has_arrived(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    """The earlier one, or that which had failed by its first report; and it waits where the MMS may come yet."""
    one, two, three, four = listed = numbers(4)
    earlier = await sent_twice(mms, api, place, listed)
    again = campaign(mms, place)
    await reported(again, api, dict.fromkeys(listed, FAILED))
    api.faults.add(Reject("LEDGER_ERROR"), call="send-sms", times=1)
    with pytest.raises(CampaignStoppedError):
        await again.send_all()
    await reported_of(place, earlier, {one: DELIVERED, three: DISPATCHED})
    await reported(again, api, {two: DELIVERED})
    report = await again.send_all()
    assert by_sms(api) == Counter([four])
    assert report.fallback is not None
    assert (report.fallback.exclusions[Exclusion.ARRIVED], report.fallback.counts[PENDING]) == (2, 1)
    reasons = {each.number: each.reason async for each in report.fallback.recipients() if each.reason}
    assert reasons == {
        one: "an earlier MMS to it was reported as Delivered",
        two: "its MMS was reported as Delivered",
    }
    await reported_of(place, earlier, {three: FAILED})
    await again.send_all()
    assert by_sms(api) == Counter([three, four])


async def test_an_sms_that_was_left_alone_is_set_aside_once_the_mms_has_arrived(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    listed = numbers(1)
    await failed(mms, api, place, listed)
    api.faults.add(Reject("LEDGER_ERROR"), call="send-sms", times=1)
    again = campaign(mms, place)
    with pytest.raises(CampaignStoppedError):
        await again.send_all()
    await reported(again, api, dict.fromkeys(listed, DELIVERED))
    report = await again.send_all()
    assert api.sms.sends == []
    assert report.fallback is not None
    assert report.fallback.exclusions[Exclusion.ARRIVED] == 1


async def test_an_sms_is_held_back_when_it_is_about_to_leave_and_sent_in_the_same_run(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mmsclient.bulk")
    one, two = listed = numbers(2)
    earlier = await sent_twice(mms, api, place, listed)
    waiting = campaign(mms, place, batch_size=1, fallback=SMSFallback(wait=600))
    await reported(waiting, api, dict.fromkeys(listed, FAILED))
    with api.faults.add(held := Held(), call="send-sms"):
        run = asyncio.create_task(waiting.send_all())
        await until(lambda: api.sms.sends)  # and nobody else before its answer
        await reported_of(place, earlier, {two: DISPATCHED})
        held.answer.set()
        await until(lambda: "waiting up to " in caplog.text or run.done())
    assert by_sms(api) == Counter([one])
    await reported_of(place, earlier, {two: FAILED})
    await asyncio.wait_for(run, 60)
    assert by_sms(api) == Counter(listed)


async def test_who_is_suppressed_or_excluded_since_gets_none(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], tmp_path: Path
) -> None:
    one, two, three = listed = numbers(3)
    await failed(mms, api, place, listed)
    async with SuppressionList(tmp_path / "suppressed.db") as suppressed:
        await suppressed.add(one, "asked")
        report = await campaign(mms, place, suppress=suppressed, exclude=[two]).send_all()
    assert by_sms(api) == Counter([three])
    assert report.fallback is not None
    assert report.fallback.exclusions[Exclusion.SUPPRESSED] == report.fallback.exclusions[Exclusion.LISTED] == 1


async def test_a_budget_is_for_both_together(api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    listed = numbers(40)
    await failed(mms, api, place, listed, max_credits=50)
    with pytest.raises(CampaignStoppedError) as caught:
        await campaign(mms, place, max_credits=50).send_all()
    assert isinstance(caught.value.error, BudgetReachedError)
    assert (len(by_sms(api)), caught.value.report.kind) == (10, "sms")
    with pytest.raises(CampaignStoppedError):  # what the SMS have cost is not left for MMS
        await campaign(mms, place, max_credits=52).send_all(numbers(60))
    assert (len(api.mms.messages), len(by_sms(api))) == (42, 10)
    planned = await campaign(mms, place, max_credits=55).preflight()
    assert planned.credits_left == 3
    own = SMSFallback(wait=0, max_credits=15)
    with pytest.raises(CampaignStoppedError):
        await ended(campaign(mms, place, fallback=own, max_credits=42).send_fallback())
    assert len(by_sms(api)) == 15
    await ended(campaign(mms, place, fallback=SMSFallback(max_credits=100)).send_fallback())
    assert by_sms(api) == Counter(listed)


async def test_an_sms_of_which_nobody_knows_is_not_sent_again_and_a_report_settles_it(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    listed = numbers(3)
    await failed(mms, api, place, listed)
    api.faults.add(Reset(carried_out=True), call="send-sms", times=1)
    again = campaign(mms, place)
    report = await again.send_all()
    assert report.fallback is not None
    assert report.fallback.counts[UNKNOWN] == 3
    async with ReportRecorder(place[0], place[1] or None) as recorder:  # reports of the MMS, once more, prove nothing
        for message in [*api.mms.messages, api.sms.messages[0]]:
            await recorder.record(
                DeliveryReport(
                    message_id=message.id, status=FAILED, recipient=message.to, custom_string=None, source=None
                )
            )
    report = await again.send_all()
    assert report.fallback is not None
    assert (report.fallback.counts[UNKNOWN], report.fallback.counts[ACCEPTED]) == (2, 1)
    assert report.counts[ACCEPTED] == 3
    assert by_sms(api) == Counter(listed)


async def test_a_report_of_an_earlier_mms_does_not_settle_an_sms_and_one_of_the_sms_is_noted(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    """Two MMS went out, and the answer to the first one was lost, as that to one of the SMS."""
    one, two = listed = numbers(2)
    earlier = await sent_twice(mms, api, place, listed)
    again = campaign(mms, place, batch_size=1)
    await reported(again, api, dict.fromkeys(listed, FAILED))
    api.faults.add(Reset(carried_out=True), call="send-sms", times=1)
    await ended(again.send_fallback())
    unknown, known = (send.recipients[0] for send in api.sms.sends)
    assert {unknown, known} == {one, two}
    await reported_of(place, earlier, {unknown: FAILED})
    await reported_of(place, {message.to: message.id for message in api.sms.messages}, {known: DELIVERED})
    report = (await again.report()).fallback
    assert report is not None
    assert (report.counts[UNKNOWN], report.counts[ACCEPTED], report.deliveries) == (1, 1, {DELIVERED: 1})
    assert report.unknown.heard_of == 1


async def test_another_text_than_before_is_refused_and_none_is_the_one_of_before(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    listed = numbers(3)
    first = campaign(mms, place, fallback=SMSFallback(wait=0, text="Sale: example.com", sender="SHOP"))
    await first.send_all(listed)
    await reported(first, api, {listed[0]: FAILED})
    await first.send_all()
    await reported(first, api, {listed[1]: FAILED})
    with pytest.raises(JournalMismatchError, match="another text"):
        await campaign(mms, place, fallback=SMSFallback(wait=0, text="Another", sender="SHOP")).send_all()
    await campaign(mms, place).send_all()
    assert {(send.text, send.sender) for send in api.sms.sends} == {("Sale: example.com", "SHOP")}
    assert by_sms(api) == Counter(listed[:2])


@pytest.mark.parametrize("text", ["Sale", Template("Sale, {name}")], ids=["a text", "a template"])
async def test_a_text_of_its_own_has_the_opt_out_line_of_the_campaign_after_a_resume_too(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], text: Any
) -> None:
    """Whether SMS were sent before or not, and whichever process sends them."""
    rows = [{"to": number, "name": "{Ann}"} for number in numbers(2)]
    options, line = SMSFallback(wait=0, text="See example.com"), "Reply {STOP}"
    first = campaign(mms, place, text=text, opt_out_line=line, fallback=None)
    await first.send_all(rows)
    for number in numbers(2):
        await reported(first, api, {number: FAILED})
        again = await resume(mms, place[0], name=place[1] or None, fallback=options, opt_out_line=None)
        await again.send_all()
    await campaign(mms, place, text=text, opt_out_line=line, fallback=options).send_all(rows)  # it is the same message
    assert [send.text for send in api.sms.sends] == ["See example.com\nReply {STOP}"] * 2
    assert by_sms(api) == Counter(numbers(2))


async def test_a_journal_that_was_moved_alone_sends_nobody_a_second_one(
    api: Sandbox, mms: AsyncMMSClient, path: Path, tmp_path: Path
) -> None:
    listed = numbers(2)
    await failed(mms, api, (str(path), ""), listed)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    for name in (path, link):
        await campaign(mms, (str(name), "")).send_all()
    moved = tmp_path / "moved.db"
    rename(path, moved)
    with pytest.raises(JournalError, match=r"moved\.db-sms: it is gone, and with it who got an SMS"):
        await campaign(mms, (str(moved), "")).send_all()
    rename(f"{path}-sms", f"{moved}-sms")
    await campaign(mms, (str(moved), "")).send_all()
    assert by_sms(api) == Counter(listed)


async def test_nothing_begins_after_a_drain_of_what_comes_before_it(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    listed = numbers(3)
    await failed(mms, api, place, listed[:2])
    again = campaign(mms, place)
    async for _ in again.send(listed):
        await again.drain()
    assert (len(api.mms.messages), api.sms.sends) == (3, [])


async def test_a_run_sends_again_only_to_those_whom_an_earlier_one_left_unknown(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    listed = numbers(3)
    await failed(mms, api, place, listed[:1])
    await campaign(mms, place, fallback=None).send_all(listed)
    api.faults.add(Reset(carried_out=True), call="send-sms", times=1)
    again = campaign(mms, place, fallback=SMSFallback(wait=600), resend_unknown=True)
    run = asyncio.create_task(again.send_all())
    for number in listed[1:]:
        await until(lambda: len(api.sms.sends) > 0)
        await reported(again, api, {number: FAILED})
    report = await asyncio.wait_for(run, 60)
    assert by_sms(api) == Counter(listed)
    assert report.fallback is not None
    assert (report.fallback.counts[UNKNOWN], report.fallback.counts[ACCEPTED]) == (1, 2)


async def test_the_text_is_the_same_from_the_journal_alone(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    listed, options = numbers(2), SMSFallback(wait=0, sender="SHOP")
    first = campaign(mms, place, fallback=options)
    await first.send_all(listed)
    for number, each in zip(
        listed, (first, await resume(mms, place[0], name=place[1] or None, fallback=options)), strict=True
    ):
        await reported(first, api, {number: FAILED})
        await each.send_all()
    assert [(send.text, send.sender) for send in api.sms.sends] == [("Sale\non now", "SHOP")] * 2


async def test_it_is_noted_in_the_first_journal_before_anybody_gets_one(
    api: Sandbox, mms: AsyncMMSClient, path: Path, tmp_path: Path
) -> None:
    await failed(mms, api, (str(path), ""), numbers(1))
    sending = campaign(mms, (str(path), "")).send_fallback()
    api.faults.add(Latency(2, carried_out=True), call="send-sms")
    result = asyncio.create_task(anext(sending))
    await until(lambda: len(api.sms.sends) == 1)
    with closing(sqlite3.connect(path)) as journal, closing(sqlite3.connect(tmp_path / "moved.db")) as moved:
        journal.backup(moved)  # what somebody finds who moves it after a kill
    (tmp_path / "moved.db").chmod(0o600)
    with pytest.raises(JournalError, match=r"moved\.db-sms: it is gone, and with it who got an SMS"):
        await campaign(mms, (str(tmp_path / "moved.db"), "")).send_all()
    result.cancel()
    await asyncio.wait([result])
    assert by_sms(api) == Counter(numbers(1))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fallback": "fax"}, "fallback: expected 'sms', an SMSFallback, or None"),
        ({"fallback": "sms", "journal": None}, "fallback: expected a journal beside it"),
        ({"fallback": "sms", "text": "x" * 919}, "text: expected at most 918 characters"),
        ({"fallback": "sms", "kind": "sms", "image": None}, "fallback: expected nothing: a campaign of kind='sms'"),
    ],
)
async def test_a_wrong_fallback_is_told_before_anything_is_sent(
    api: Sandbox, mms: AsyncMMSClient, path: Path, options: Any, problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{problem}"):
        mms.campaign(**{"text": "Sale", "image": PNG, "journal": path, **options})
    with pytest.raises(ConfigurationError, match="fallback: this campaign has none"):
        mms.campaign(text="Sale", image=PNG, journal=path).send_fallback()
    assert api.arrivals == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("text", "x" * 919), ("sender", "far too long for one"), ("wait", -1), ("max_credits", "many")],
)
def test_a_wrong_value_is_told(option: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{option}: expected "):
        SMSFallback(**{option: value})
    assert SMSFallback(max_credits=1.5).max_credits == Decimal("1.5")


@pytest.mark.parametrize("when", ["sent again", "unknown", "proven"])
async def test_who_was_excluded_gets_no_sms_because_of_a_late_report(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], when: str
) -> None:
    """An MMS of which nobody knew whether it left had, and failed. Two others show that an SMS would have been sent."""
    one, two, _ = listed = numbers(3)
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    await campaign(mms, place, fallback=None, batch_size=1).send_all(listed)
    unknown = api.mms.sends[0].recipients[0]
    ids = {message.to: message.id for message in api.mms.messages}
    assert unknown == one
    if when == "proven":
        await reported_of(place, ids, {one: FAILED})
    later = campaign(mms, place, fallback=None, resend_unknown=when == "sent again", exclude=[one])
    await later.send_all()
    await reported_of(place, ids, dict.fromkeys((one, two), FAILED))
    report = await later.report()
    assert (report.counts[ACCEPTED], report.counts[RecipientState.EXCLUDED]) == (3, 0)
    assert not any(report.exclusions.values())
    again = await resume(mms, place[0], name=place[1] or None, fallback=AT_ONCE)
    for _ in range(2):
        await ended(again.send_fallback())
        assert by_sms(api) == Counter([two])
    found = await again.report()
    assert found.fallback is not None
    assert found.fallback.exclusions[Exclusion.LISTED] == 1
    assert [each.number async for each in found.fallback.recipients("excluded")] == [one]


async def test_who_is_excluded_after_an_sms_was_to_be_sent_gets_none(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    """By a run that sends no SMS. The reason stands in the journal of these."""
    one, two = numbers(2)
    await failed(mms, api, place, [one, two])
    with pytest.raises(CampaignStoppedError):  # they are listed, and nobody is sent to
        await ended(campaign(mms, place, fallback=SMSFallback(wait=0, max_credits=0)).send_fallback())
    await campaign(mms, place, fallback=None, exclude=[one]).send_all()
    await ended((await resume(mms, place[0], name=place[1] or None, fallback=AT_ONCE)).send_fallback())
    assert by_sms(api) == Counter([two])
    found = (await read_report(place[0], place[1] or None)).fallback
    assert found is not None
    assert found.exclusions[Exclusion.LISTED] == 1
    assert [each.reason async for each in found.recipients("excluded")] == ["it is excluded from the campaign"]
