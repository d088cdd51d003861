"""Campaigns that send in good hours only, and so many a minute."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mmsclient import AsyncMMSClient
from mmsclient._store.models import Claim
from mmsclient.bulk import (
    Batch,
    Campaign,
    Exclusion,
    Progress,
    RecipientState,
    Sending,
    Window,
    brake,
    pause,
    read_report,
    schedule,
    unpause,
)
from mmsclient.bulk.control import Control
from mmsclient.bulk.options import Options
from mmsclient.bulk.schedule import Schedule
from mmsclient.bulk.suppression import SuppressionList
from mmsclient.errors import AuthenticationError, InvalidRequestError
from mmsclient.limiter import NoLimit
from mmsclient.limiter.protocol import Grant
from mmsclient.observe import CampaignPaused, CampaignReopened, CampaignWaiting, Event
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reject, Reset, Respond, server_error, throttle
from tests.conftest import PNG, until
from tests.support import virtual_time
from tests.support.campaigns import Doled, agrees, campaign, numbers, status_when
from tests.support.held import Held
from tests.support.keyed import Closed
from tests.support.observing import Told
from tests.support.wall_clock import DAY, WallClock
from tests.support.wall_clock import wall_clock as wall_clock  # noqa: PLC0414 - a fixture

ACCEPTED, PENDING = RecipientState.ACCEPTED, RecipientState.PENDING

Place = tuple[str, str]


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit()) as mms:
        yield mms


def at(mms: AsyncMMSClient, place: Place, **options: Any) -> Campaign:
    path, name = place
    return campaign(mms, path, name=name or None, **options)  # type: ignore[arg-type]


async def counts_at(place: Place) -> dict[RecipientState, int]:
    report = await read_report(place[0], place[1] or None)
    return {state: count for state, count in report.counts.items() if count}


async def comes_to(place: Place, state: RecipientState, least: int) -> None:
    """Wait until so many are in that state."""
    async with asyncio.timeout(60):
        while (await counts_at(place)).get(state, 0) < least:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Waits:
    """What a campaign tells of its waiting."""

    def __init__(self) -> None:
        self.until: list[datetime | None] = []

    def __call__(self, progress: Progress) -> None:
        if progress.waits_until != (self.until or [None])[-1]:
            self.until.append(progress.waits_until)


# Outside --------------------------------------------------------------------------------------------------------------


async def test_outside_its_hours_a_campaign_waits_and_tells_when_it_goes_on(
    api: Sandbox,
    place: Place,
    wall_clock: WallClock,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    caplog.set_level(logging.INFO, "mmsclient.bulk.hours")
    wall_clock.pass_hours(12)
    told, waits, listed = Told(), Waits(), numbers(60)
    async with api.client(limiter=NoLimit(), observer=told) as mms:
        spring = at(mms, place, window=DAY, on_progress=waits, exclude_opt_outs=True)
        sending = asyncio.create_task(spring.send_all(listed))
        await until(lambda: waits.until)
        opens_at = datetime(2026, 11, 29, 22, tzinfo=UTC)
        assert waits.until == [opens_at]
        assert told.one(CampaignWaiting).until == opens_at
        assert "outside its hours; it goes on at 2026-11-30 09:00:00+11:00" in caplog.text
        assert await counts_at(place) == {PENDING: 60}
        api.add_opt_out(listed[7])  # who unsubscribes at night gets nothing in the morning
        if place[1]:
            request.getfixturevalue(
                "postgres"
            ).cut_connections()  # as a firewall does with those that nothing goes over
        wall_clock.now = opens_at
        report = await sending
        await spring.aclose()
    await agrees(report, api, listed)
    assert (report.counts[ACCEPTED], report.exclusions[Exclusion.OPTED_OUT]) == (59, 1)
    assert waits.until == [opens_at, None]
    assert told.one(CampaignReopened).campaign == told.one(CampaignWaiting).campaign
    assert "its hours have begun" in caplog.text


async def until_it_waits(waits: Waits, wall_clock: WallClock) -> None:
    """And then it is morning."""
    await until(lambda: waits.until)
    opens_at = waits.until[0]
    assert opens_at is not None
    wall_clock.now = opens_at


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("is_listed", [False, True])
async def test_opt_outs_that_cannot_be_read_in_the_morning_are_asked_for_until_they_can(  # noqa: PLR0917
    api: Sandbox,
    mms: AsyncMMSClient,
    place: Place,
    wall_clock: WallClock,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    is_listed: bool,
) -> None:
    """Nothing is sent before."""
    wall_clock.pass_hours(12)
    waits, listed = Waits(), numbers(60)
    suppress = tmp_path / "suppressed.db" if is_listed else None
    if suppress is not None:
        async with SuppressionList(suppress) as suppression:
            await suppression.add("+61499999999")
    spring = at(mms, place, window=DAY, on_progress=waits, exclude_opt_outs=True, suppress=suppress)
    sending = asyncio.create_task(spring.send_all(listed))
    await until(lambda: waits.until)
    garbled = Respond(200, b'{"responses": [{"number": "+61412345678", ')
    for fault in (garbled, Reset(carried_out=False), server_error(), throttle(), Reject("REQUEST_FAILED")):
        api.faults.add(fault, call="get-optout", times=6)
    api.add_opt_out(listed[7])
    await until_it_waits(waits, wall_clock)
    report = await sending
    await spring.aclose()
    await agrees(report, api, listed)
    assert (report.counts[ACCEPTED], report.counts[RecipientState.EXCLUDED]) == (59, 1)
    calls = [arrival.call for arrival in api.arrivals]
    assert "get-optout" not in calls[calls.index("send-mms") :]
    assert caplog.text.count("nothing is sent before it is known who has unsubscribed") == 1
    assert "+61412345678" not in caplog.text


async def test_a_key_that_is_refused_in_the_morning_ends_the_run(
    api: Sandbox, mms: AsyncMMSClient, place: Place, wall_clock: WallClock
) -> None:
    wall_clock.pass_hours(12)
    waits = Waits()
    spring = at(mms, place, window=DAY, on_progress=waits, exclude_opt_outs=True)
    sending = asyncio.create_task(spring.send_all(numbers(60)))
    await until(lambda: waits.until)
    api.faults.add(Reject("AUTH_FAILED"), call="get-optout")
    await until_it_waits(waits, wall_clock)
    with pytest.raises(AuthenticationError):
        await sending
    await spring.aclose()
    assert not api.sends
    assert await counts_at(place) == {PENDING: 60}


async def test_a_run_that_waits_for_the_opt_outs_is_stopped_at_once(
    api: Sandbox, mms: AsyncMMSClient, place: Place, wall_clock: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    wall_clock.pass_hours(12)
    waits = Waits()
    sending = at(mms, place, window=DAY, on_progress=waits, exclude_opt_outs=True).send(numbers(60))
    first = asyncio.create_task(anext(sending, None))
    await until(lambda: waits.until)
    api.faults.add(throttle(retry_after=3600), call="get-optout")
    await until_it_waits(waits, wall_clock)
    await until(lambda: "nothing is sent before it is known" in caplog.text)
    await status_when(place, lambda found: found.why == "for the opt-outs, after RateLimitError")
    await sending.aclose()
    assert await first is None
    assert not api.sends


async def test_a_run_that_reads_the_opt_outs_in_the_morning_is_stopped_at_once(
    api: Sandbox, mms: AsyncMMSClient, place: Place, wall_clock: WallClock
) -> None:
    wall_clock.pass_hours(12)
    waits, held = Waits(), Held()
    sending = at(mms, place, window=DAY, on_progress=waits, exclude_opt_outs=True).send(numbers(60))
    first = asyncio.create_task(anext(sending, None))
    await until(lambda: waits.until)
    api.faults.add(held, call="get-optout")
    await until_it_waits(waits, wall_clock)
    await until(lambda: api.calls["get-optout"] == 2)
    sending.stop()
    await asyncio.wait([first], timeout=20)  # less than the page's timeout
    assert first.done()
    assert first.result() is None
    held.answer.set()
    assert not api.sends


async def test_a_time_to_start_at(api: Sandbox, mms: AsyncMMSClient, wall_clock: WallClock) -> None:
    """In the window, if that is not open then."""
    waits = Waits()
    late = wall_clock.now + timedelta(hours=30)  # on Monday at six
    spring = campaign(mms, None, start_at=late + timedelta(hours=5), window=DAY, on_progress=waits)
    sending = asyncio.create_task(spring.send_all(numbers(3)))
    await until(lambda: waits.until)
    assert waits.until == [datetime(2026, 11, 30, 22, tzinfo=UTC)]
    wall_clock.now = late  # inside the window, and too early
    looks = wall_clock.looks
    await until(lambda: wall_clock.looks > looks + 5)
    assert not api.sends
    wall_clock.pass_hours(20)
    assert (await sending).counts[ACCEPTED] == 3
    await spring.aclose()


async def test_a_campaign_with_nobody_left_does_not_wait(
    api: Sandbox, mms: AsyncMMSClient, place: Place, wall_clock: WallClock
) -> None:
    await at(mms, place, window=DAY).send_all(numbers(3))
    wall_clock.pass_hours(12)
    assert (await at(mms, place, window=DAY).send_all(numbers(3))).counts[ACCEPTED] == 3
    assert len(api.sends) == 1


@pytest.mark.parametrize("end", ["stop", "close", "cancel"])
async def test_a_campaign_that_waits_is_stopped_at_once(
    api: Sandbox, place: Place, wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(schedule, "LOOK_AGAIN", 3600.0)
    wall_clock.pass_hours(12)
    waits = Waits()
    async with api.client(limiter=NoLimit()) as mms:
        spring = at(mms, place, window=DAY, on_progress=waits)
        sending = spring.send(numbers(3))

        async def consume() -> list[Batch]:
            return [batch async for batch in sending]

        consuming = asyncio.create_task(consume())
        await until(lambda: waits.until)
        if end == "stop":
            sending.stop()
        elif end == "close":
            await mms.aclose()
        else:
            consuming.cancel()
        await asyncio.wait([consuming])
        assert consuming.cancelled() or consuming.result() == []
        assert (await spring.report()).counts[PENDING] == 3
        await spring.aclose()
    assert not api.sends


class WithoutSignals:
    """A limiter of somebody else's."""

    async def acquire(self) -> Grant:
        return await NoLimit().acquire()


async def test_waiting_takes_no_processor(api: Sandbox, wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LOOK_AGAIN", 3600.0)
    wall_clock.pass_hours(12)
    waits = Waits()
    async with api.client(limiter=WithoutSignals()) as mms:
        spring = campaign(mms, None, window=DAY, on_progress=waits)
        sending = spring.send(numbers(3))
        consuming = asyncio.create_task(anext(sending, None))
        await until(lambda: waits.until)
        await asyncio.sleep(0.05)  # its list is read
        looks = wall_clock.looks
        await asyncio.sleep(0.3)
        assert wall_clock.looks <= looks + 3  # a tick of a hundredth of a second would be thirty
        await sending.aclose()
        await consuming
        await spring.aclose()


def test_the_clock_is_looked_at_each_minute_and_the_opening_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the end of daylight saving; the wall clock is set meanwhile, as after a sleep of the machine."""
    window = Window("09:00", "20:00", days="mon", zone="Australia/Sydney")
    offset = datetime(2026, 4, 3, tzinfo=UTC).timestamp()
    sleeps = [(9000.0, 50_000.0), (20_000.0, -7200.0)]  # at which time of the loop, for how long

    async def wait() -> tuple[datetime, int]:
        loop = asyncio.get_running_loop()

        def now() -> datetime:
            passed = sum(seconds for at, seconds in sleeps if loop.time() >= at)
            return datetime.fromtimestamp(offset + loop.time() + passed, UTC)

        monkeypatch.setattr(schedule, "wall_clock", now)
        control = Control()
        plan = Schedule(Options(text="Hi", image=PNG, window=window))
        assert not plan.is_open()
        looks = 0
        while not plan.may_reopen():
            looks += 1
            await control.wait_for_change(plan.look_again_at(loop.time()))
        return now(), looks

    opened, looks = virtual_time.run(wait())
    late = opened - datetime(2026, 4, 5, 23, tzinfo=UTC)
    assert timedelta(0) <= late < timedelta(seconds=1)
    assert looks <= 71 * 60  # hours


# The end of the hours -------------------------------------------------------------------------------------------------


async def test_a_call_that_waits_for_its_turn_when_the_hours_end_leaves_on_the_next_day(
    api: Sandbox, place: Place, wall_clock: WallClock
) -> None:
    limiter, waits, listed = Closed(), Waits(), numbers(60)
    async with api.client(limiter=limiter) as mms:
        spring = at(mms, place, window=DAY, on_progress=waits, max_attempts=1, check_account=False)
        sending = asyncio.create_task(spring.send_all(listed))
        await limiter.asked.wait()
        assert await counts_at(place) == {PENDING: 35, RecipientState.SENDING: 25}
        wall_clock.pass_hours(8)
        limiter.open.set()
        await until(lambda: waits.until)
        await comes_to(place, PENDING, 60)
        assert not api.sends
        wall_clock.pass_hours(13)
        report = await sending
        await spring.aclose()
    await agrees(report, api, listed)
    assert report.counts[ACCEPTED] == 60
    assert waits.until == [datetime(2026, 11, 29, 22, tzinfo=UTC), None]


async def test_a_call_that_has_left_when_the_hours_end_comes_to_its_own_end(
    api: Sandbox, mms: AsyncMMSClient, place: Place, wall_clock: WallClock
) -> None:
    waits, listed = Waits(), numbers(60)
    api.faults.add(Latency(0.2, carried_out=True), call="send-mms", times=1)
    spring = at(mms, place, window=DAY, on_progress=waits)
    sending = asyncio.create_task(spring.send_all(listed))
    await until(lambda: api.calls["send-mms"])
    wall_clock.pass_hours(8)
    await until(lambda: waits.until)
    await comes_to(place, ACCEPTED, 25)
    wall_clock.pass_hours(13)
    report = await sending
    await spring.aclose()
    await agrees(report, api, listed)
    assert report.counts[ACCEPTED] == 60


@pytest.mark.usefixtures("impatient")
async def test_a_call_that_was_throttled_is_not_tried_again_after_the_hours(
    api: Sandbox, place: Place, wall_clock: WallClock
) -> None:
    waits, listed = Waits(), numbers(60)
    api.faults.add(throttle(), call="send-mms", times=1)

    def end_hours(event: Event) -> None:
        if isinstance(event, CampaignPaused):
            wall_clock.pass_hours(8)

    async with api.client(limiter=NoLimit(), observer=end_hours) as mms:
        spring = at(mms, place, window=DAY, on_progress=waits, max_attempts=2)
        sending = asyncio.create_task(spring.send_all(listed))
        await until(lambda: waits.until)
        await comes_to(place, PENDING, 60)
        assert not api.sends
        wall_clock.pass_hours(13)
        report = await sending
        await spring.aclose()
    await agrees(report, api, listed)
    assert report.counts[ACCEPTED] == 60


# The drip -------------------------------------------------------------------------------------------------------------


def begun_at(place: Place) -> list[float]:
    """When the calls of a journal were claimed, in Unix seconds."""
    sql = "SELECT {} FROM batch ORDER BY id"
    if not place[1]:
        with closing(sqlite3.connect(place[0])) as database:
            return [row[0] for row in database.execute(sql.format("started"))]
    with psycopg.connect(place[0]) as connection:
        connection.execute("SET search_path = mmsclient")
        return [float(row[0]) for row in connection.execute(sql.format("extract(epoch FROM started)").encode())]


async def test_a_drip_is_smooth_also_after_a_restart(api: Sandbox, mms: AsyncMMSClient, place: Place) -> None:
    listed = numbers(8)
    first = at(mms, place, recipients_per_minute=240, batch_size=1000)
    sending = first.send(listed)
    await anext(sending)
    await sending.aclose()
    await first.aclose()
    report = await at(mms, place, recipients_per_minute=240, batch_size=1000).send_all(listed)
    assert report.counts[ACCEPTED] == 8
    assert {len(send.recipients) for send in api.sends} == {4}
    assert all(after - before > 0.95 for before, after in pairwise(begun_at(place)))


# Wrong options --------------------------------------------------------------------------------------------------------


@virtual_time.in_virtual_time
async def test_what_was_taken_back_starts_again_before_new_batches_and_no_closer_than_the_drip_allows() -> None:
    """Also where it is held again, and its hours count then."""
    schedule, control = Schedule(Options(text="Hi", image=PNG, recipients_per_minute=240)), Control()
    loop = asyncio.get_running_loop()
    begun: list[tuple[float, int]] = []

    def take(batch: int) -> Callable[[], Awaitable[Claim]]:
        async def taken() -> Claim:
            await asyncio.sleep(0.1)  # of the journal
            begun.append((loop.time(), batch))
            return Claim(batch, (batch,), (batch,))

        return taken

    control.hold("operator", "for a while")
    again = [asyncio.create_task(schedule.begin_again(control, take(batch))) for batch in range(4)]
    await asyncio.sleep(60)
    assert not begun
    control.let_go("operator")
    new = iter(range(4, 7))
    while len(begun) < 7:
        await asyncio.sleep(0.05)
        if len(begun) == 2 and not control.hold_reason and loop.time() < 1065:
            control.hold("operator", "again")
            loop.call_later(30, control.let_go, "operator")
        if schedule.allows(loop.time()):
            assert all(task.done() for task in again)
            await schedule.begin(take(next(new)))
    assert [batch for _, batch in begun] == list(range(7))
    assert all(after - before >= 1.0 for (before, _), (after, _) in pairwise(begun))
    assert begun[2][0] > 1090
    control.hold("operator", "for good")
    last = asyncio.create_task(schedule.begin_again(control, take(7)))
    await asyncio.sleep(1)
    control.stop()
    assert await last is None
    assert await schedule.begin_again(control, take(8)) is None


async def test_a_pause_brings_the_calls_of_a_drip_no_closer_together(
    api: Sandbox, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brake, "SHORTEST", 60.0)  # no call is overdue
    listed, limiter = numbers(16), Doled(1)
    async with api.client(limiter=limiter) as mms:
        sending = at(mms, place, recipients_per_minute=240, batch_size=1000, check_account=False).send(listed)
        await anext(sending)
        taking = asyncio.create_task(_rest_of(sending))
        await comes_to(place, RecipientState.SENDING, 8)  # two calls wait for their tokens
        await pause(place[0], place[1] or None)
        await comes_to(place, PENDING, 12)
        limiter.grant(10)
        await unpause(place[0], place[1] or None)
        await taking
    assert {len(send.recipients) for send in api.sends} == {4}
    assert len(api.sends) == 4
    assert all(after - before > 0.95 for before, after in pairwise(begun_at(place)))


async def _rest_of(sending: Sending) -> None:
    async for _ in sending:
        pass


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("window", "09:00-20:00"),
        ("start_at", "2026-12-01"),
        ("start_at", datetime(2026, 12, 1, 9)),
        ("recipients_per_minute", 0),
        ("recipients_per_minute", 1.5),
        ("recipients_per_minute", True),
    ],
)
def test_wrong_options_are_refused(option: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Options(text="Hi", image=PNG, **{option: value})  # type: ignore[arg-type]
    assert caught.value.argument == option
