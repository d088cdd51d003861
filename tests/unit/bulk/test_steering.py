"""Campaigns that are watched, paused, continued and stopped from outside, by their journals."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import AsyncMMSClient, bulk
from mmsclient._store.file_lock import LOOKED_AT, is_held, lock_within
from mmsclient._store.models import Message
from mmsclient._store.postgres.steering import PostgresSteering
from mmsclient._store.steering import sender_name
from mmsclient._store.stores import store_at
from mmsclient.bulk import (
    Activity,
    Campaign,
    CampaignStatus,
    CampaignStoppedError,
    RecipientState,
    Sending,
    StopRequestedError,
    read_status,
)
from mmsclient.bulk.control import HELD, Control
from mmsclient.bulk.remote import WINDOW, rates
from mmsclient.bulk.runner import BACKLOG
from mmsclient.limiter import NoLimit
from mmsclient.observe import (
    BatchEnded,
    CallStarted,
    CampaignContinued,
    CampaignEnded,
    CampaignPaused,
    CampaignStopped,
)
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, server_error, throttle
from tests.conftest import PNG, until
from tests.support.campaigns import TEXT, Doled, numbers, status_when
from tests.support.command import Outcome, in_this_process, started
from tests.support.held import Held
from tests.support.observing import Told
from tests.support.terminal import on_a_terminal

ACCEPTED, PENDING, SENDING, UNKNOWN = (
    RecipientState.ACCEPTED,
    RecipientState.PENDING,
    RecipientState.SENDING,
    RecipientState.UNKNOWN,
)

Place = tuple[str, str]


def campaign(mms: AsyncMMSClient, place: Place, **options: Any) -> Campaign:
    journal, name = place
    options = {"text": TEXT, "image": PNG, "batch_size": 5, "check_account": False, **options}
    return mms.campaign(journal=journal, name=name or None, **options)


def calls_of(api: Sandbox) -> int:
    """Calls that sent, or were to."""
    return sum(arrival.call == "send-mms" for arrival in api.arrivals)


def is_now(activity: Activity) -> Callable[[CampaignStatus], bool]:
    return lambda found: found.activity is activity


async def all_of(sending: Sending) -> int:
    return len([batch async for batch in sending])


@contextmanager
def running(sending: Sending) -> Iterator[asyncio.Task[int]]:
    """Iterates it in a task."""
    task = asyncio.get_running_loop().create_task(all_of(sending))
    try:
        yield task
    finally:
        task.cancel()


def once_each(api: Sandbox) -> int:
    """Nobody got it twice; how many got it."""
    got = [number for send in api.sends for number in send.recipients]
    assert len(got) == len(set(got))
    return len(got)


# In processes of their own ------------------------------------------------------------------------------------------


@pytest.fixture
def lists(api: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the command runs: a list that takes minutes at the cap, in calls of five."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMSCLIENT_APP_KEY", api.app_key)
    monkeypatch.setenv("MMSCLIENT_BASE_URL", api.url)
    (tmp_path / "sale.png").write_bytes(PNG)
    (tmp_path / "list.csv").write_text("\n".join(["mobile", *numbers(5000)]))


@contextmanager
def sender(place: Place, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A child that sends."""
    name = ("--name", place[1]) if place[1] else ()
    with started("bulk", *arguments, *name, "--batch-size", "5", "--yes", "--json") as child:
        yield child


def send(place: Place) -> tuple[str, ...]:
    return ("send", "list.csv", "--text", TEXT, "--image", "sale.png", "--journal", place[0])


def first_batch(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    line = child.stdout.readline()
    assert json.loads(line)["event"] == "batch"


@pytest.mark.usefixtures("lists")
async def test_a_campaign_is_paused_killed_resumed_continued_and_stopped(
    api: Sandbox, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    name = place[1] or None
    cli = in_this_process(api.app_key, capsys)

    async def order(what: str) -> Outcome:
        arguments = ("bulk", what, place[0], *(("--name", name) if name else ()))
        return await asyncio.to_thread(cli, *arguments)

    with sender(place, *send(place)) as first:
        first_batch(first)
        found = await read_status(place[0], name)
        assert (found.activity, found.paused_at, found.is_over) == (Activity.SENDING, None, False)
        assert found.sender is not None
        assert f"process {first.pid}" in found.sender
        assert found.sender_since is not None
        paused = await order("pause")
        assert (paused.status, paused.out) == (0, f"paused; sender: {found.sender}\n")
        found = await status_when(place, is_now(Activity.PAUSED))
        assert (found.paused_by, found.seconds_left) == (sender_name(), None)
        assert found.why.startswith("since ")
        assert found.why.endswith(f"UTC by {sender_name()}")
        assert str(found).startswith("paused (since ")
        sent = once_each(api)
        assert found.counts[ACCEPTED] == sent > 0
        await asyncio.sleep(0.5)  # seven calls, at the cap
        assert calls_of(api) == len(api.sends) == found.calls
        first.send_signal(signal.SIGKILL)
        first.wait()
    found = await status_when(place, is_now(Activity.LOST))  # in a database once its lease has run out
    assert (found.paused_by, found.counts[SENDING]) == (sender_name(), 0)

    with sender(place, "resume", place[0], "list.csv") as second:
        assert second.stderr is not None
        warned = ""
        while "paused since" not in warned:
            warned = second.stderr.readline()
        assert f"by {sender_name()}; nothing starts until `mmsclient bulk continue`" in warned
        found = await status_when(place, is_now(Activity.PAUSED))
        assert found.sender is not None
        assert f"process {second.pid}" in found.sender
        assert once_each(api) == sent
        continued = await order("continue")
        assert (continued.status, continued.out) == (0, f"continued; sender: {found.sender}\n")
        first_batch(second)
        assert once_each(api) > sent
        stopped = await order("stop")
        assert (stopped.status, stopped.out) == (0, "stopped; nobody is sending: the next one sends\n")
        out, err = second.communicate(timeout=60)
    assert second.returncode == 5
    assert f"the campaign stopped before its end: a stop was asked for by {sender_name()}; so far" in err
    assert "to go on: mmsclient bulk resume" in err
    report = json.loads(out.splitlines()[-1])
    assert report["counts"]["accepted"] == once_each(api)
    assert report["counts"]["unknown"] == report["counts"]["sending"] == 0
    assert (await order("stop")).out.startswith("nothing to stop; nobody is sending: ")
    async with api.client(limiter=NoLimit()) as mms:
        rest = await campaign(mms, place, batch_size=1000).send_all(numbers(5000))
    assert rest.counts[ACCEPTED] == once_each(api) == 5000
    assert (await read_status(place[0], name)).is_over


@pytest.mark.skipif(os.name == "nt", reason="no such terminals there")
@pytest.mark.usefixtures("lists")
def test_a_campaign_is_watched_on_a_terminal(api: Sandbox, path: Path) -> None:
    place = (str(path), "")
    watch = ("bulk", "status", place[0], "--watch", "--interval", "0.05")
    with sender(place, *send(place)) as child:
        first_batch(child)
        with on_a_terminal(*watch) as (process, wait_for, terminal):
            wait_for("calls/s")
            assert f"process {child.pid}, since" in wait_for("Sender")
            asyncio.run(bulk.pause(path))
            wait_for("paused: since")
            os.write(terminal, b"\x03")
            assert process.wait(timeout=60) == 130
            assert "Traceback" not in wait_for("paused: since")
        with on_a_terminal(*watch, columns=30, NO_COLOR="1") as (process, wait_for, _):
            wait_for("paused:")
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=60)
            assert child.returncode == 143
            wait_for("idle")

            async def finish() -> None:
                await bulk.unpause(path)
                async with api.client(limiter=NoLimit()) as mms:
                    await campaign(mms, place, batch_size=1000).send_all(numbers(5000))

            asyncio.run(finish())
            assert process.wait(timeout=60) == 0
            shown = wait_for("")
            assert "\x1b[3" not in shown  # no colour
            assert max(map(len, wait_for("Now").splitlines())) <= 30


@pytest.mark.usefixtures("lists")
def test_a_watch_in_a_pipe_ends_with_the_campaign_or_its_reader(
    api: Sandbox, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = (str(path), "")

    async def finish() -> None:
        async with api.client(limiter=NoLimit()) as mms:
            await campaign(mms, place, batch_size=1000).send_all(numbers(10))

    with sender(place, *send(place)) as child:
        first_batch(child)
        with started("bulk", "status", place[0], "--watch", "--json", "--interval", "0.01") as watching:
            assert watching.stdout is not None
            line = json.loads(watching.stdout.readline())
            assert (line["event"], line["is_over"]) == ("status", False)
            watching.stdout.close()
            assert watching.wait(timeout=60) == 141
            assert watching.stderr is not None
            assert watching.stderr.read() == ""
    cli = in_this_process(api.app_key, capsys)
    assert cli("bulk", "status", str(path)).out.startswith("Now: lost: what it was sending is unknown")
    path.unlink()
    for each in path.parent.glob("spring.db-*"):
        each.unlink()
    asyncio.run(finish())
    watched = cli("bulk", "status", str(path), "--watch")
    assert (watched.status, watched.out) == (0, "idle: 10 accepted; 10 credits\n")
    (document,) = cli("bulk", "status", str(path), "--json").documents
    assert (document["activity"], document["is_over"], document["counts"]["accepted"]) == ("idle", True, 10)
    assert cli("bulk", "status", "nowhere.db").error == "journal nowhere.db: there is no such file"
    for what in ("pause", "continue", "stop"):
        assert cli("bulk", what, "nowhere.db").status == 1
        assert cli("bulk", what, str(path), "--name", "spring").status == 2
    assert cli("bulk", "pause", str(path)).out == "paused; nobody is sending: whoever begins finds it paused\n"
    (continued,) = cli("bulk", "continue", str(path), "--json").documents
    assert (continued["paused_at"], continued["activity"]) == (None, "idle")


# What is held ---------------------------------------------------------------------------------------------------------


async def test_what_waits_for_its_token_does_not_leave_once_a_pause_was_noticed(
    api: Sandbox, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresSteering, "look_every", 3600.0)  # it is told
    told, limiter = Told(), Doled(1)
    async with api.client(limiter=limiter, observer=told) as mms:
        sending = campaign(mms, place).send(numbers(50))
        with running(sending) as task:
            await until(lambda: len(api.sends) == 1)
            await status_when(place, lambda found: found.counts[SENDING])  # waits for its token
            await bulk.pause(place[0], place[1] or None)
            found = await status_when(place, is_now(Activity.PAUSED))
            assert (found.counts[ACCEPTED], found.counts[PENDING], found.calls) == (5, 45, 1)
            event = told.one(CampaignPaused)
            assert (event.from_outside, event.seconds, event.error, event.campaign.batch) == (True, None, None, None)
            limiter.grant(100)
            await bulk.pause(place[0], place[1] or None)  # changes nothing
            await asyncio.sleep(0.3)
            assert len(api.arrivals) == 1
            await bulk.unpause(place[0], place[1] or None)
            assert await task == 10
            assert told.one(CampaignContinued).from_outside
            assert told.one(CampaignContinued).seconds > 0
            assert told.one(CampaignEnded).error is None
            assert not told.of(CampaignStopped)
    assert once_each(api) == 50
    assert (await read_status(place[0], place[1] or None)).is_over


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("way", ["asked for", "suppressed", "away at first"])
async def test_who_unsubscribes_during_a_pause_gets_nothing(
    api: Sandbox, place: Place, tmp_path: Path, way: str
) -> None:
    """Neither those whose call was taken back, nor those who come later. Nothing leaves before that is known."""
    limiter, listed = Doled(2), numbers(50)
    options: dict[str, Any] = {"exclude_opt_outs": True}
    if way == "suppressed":
        suppress = tmp_path / "stop.db"
        async with bulk.SuppressionList(suppress) as suppressed:
            await suppressed.add("+61499999999")
        options = {"suppress": suppress}
    async with api.client(limiter=limiter) as mms:
        spring = campaign(mms, place, **options)
        with running(spring.send(listed)) as task:
            await until(lambda: len(api.sends) == 1)
            await status_when(place, lambda found: found.counts[SENDING])  # waits for its token
            await bulk.pause(place[0], place[1] or None)
            await status_when(place, is_now(Activity.PAUSED))
            got = {number for send in api.sends for number in send.recipients}
            opted_out = [number for number in listed if number not in got][::20]
            for number in opted_out:
                api.add_opt_out(number)
            if way == "away at first":
                api.faults.add(server_error(), call="get-optout", times=6)
            limiter.grant(100)
            before = len(api.arrivals)
            await bulk.unpause(place[0], place[1] or None)
            await task
        report = await spring.report()
    calls = [arrival.call for arrival in api.arrivals[before:]]
    assert calls[0] == "get-optout"
    assert "get-optout" not in calls[calls.index("send-mms") :]
    assert (report.counts[ACCEPTED], report.counts[RecipientState.EXCLUDED]) == (47, 3)
    assert not any(api.carried_out(number) for number in opted_out)
    assert once_each(api) == 47


@pytest.mark.parametrize("asks", [True, False])
async def test_who_has_unsubscribed_is_asked_once_after_a_pause_before_the_start(
    api: Sandbox, place: Place, asks: bool
) -> None:
    async with api.client(limiter=NoLimit()) as mms:
        with pytest.raises(CampaignStoppedError):
            await campaign(mms, place, max_credits=1).send_all(numbers(50))
        await bulk.pause(place[0], place[1] or None)
        before = len(api.arrivals)
        with running(campaign(mms, place, exclude_opt_outs=asks).send()) as task:
            await status_when(place, is_now(Activity.PAUSED))
            assert len(api.arrivals) == before
            await bulk.unpause(place[0], place[1] or None)
            await task
    calls = [arrival.call for arrival in api.arrivals[before:]]
    assert calls == ["get-optout"] * asks + ["send-mms"] * 10
    assert once_each(api) == 50


async def test_it_is_paused_when_the_last_call_has_ended(
    api: Sandbox, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmsclient.cli.steering.NOTICED_WITHIN", 0.1)
    cli = in_this_process(api.app_key, capsys)
    api.faults.add(held := Held(), call="send-mms")
    async with api.client(limiter=NoLimit()) as mms:
        with running(campaign(mms, place).send(numbers(50))) as task:
            await until(lambda: len(api.sends) == 1)
            await bulk.pause(place[0], place[1] or None)
            found = await status_when(place, is_now(Activity.PAUSING))
            assert (found.counts[SENDING], found.counts[PENDING]) == (5, 45)
            assert str(found).startswith("pausing (since ")
            assert "a pause is asked for" not in str(found)
            told = await asyncio.to_thread(cli, "bulk", "pause", place[0], *(("--name", place[1]) if place[1] else ()))
            assert told.status == 0
            assert told.out.startswith("nothing starts any more, and calls that had left are still under way; sender:")
            held.answer.set()
            found = await status_when(place, is_now(Activity.PAUSED))
            assert (found.counts[SENDING], found.counts[ACCEPTED], found.counts[PENDING]) == (0, 5, 45)
            await bulk.unpause(place[0], place[1] or None)
            assert await task == 10


async def test_nothing_is_begun_during_a_pause(api: Sandbox, path: Path) -> None:
    told, place = Told(), (str(path), "")
    async with api.client(limiter=NoLimit(), observer=told) as mms, campaign(mms, place) as paused:
        batches = paused.send(numbers(200))
        await anext(batches)
        await until(lambda: len(told.of(BatchEnded)) > BACKLOG)  # and so it waits for its consumer
        await bulk.pause(path)
        await status_when(place, is_now(Activity.PAUSED))
        begun = len(told.of(CallStarted))
        for _ in range(len(told.of(BatchEnded)) - 1):
            await anext(batches)
        await asyncio.sleep(0.2)
        assert len(told.of(CallStarted)) == begun < 40
        await bulk.unpause(path)
        assert await all_of(batches) > 0
    assert once_each(api) == 200


async def test_a_paused_campaign_is_left_as_any_other(api: Sandbox, place: Place) -> None:
    async with api.client(limiter=NoLimit()) as mms:
        for start in range(2):
            await campaign(mms, place).send_all(numbers(5))  # makes it
            await bulk.pause(place[0], place[1] or None)
            sending = campaign(mms, place).send(numbers(50))
            with running(sending) as task:
                found = await status_when(place, is_now(Activity.PAUSED))
                assert found.counts[ACCEPTED] == 5
                if start:
                    task.cancel()
                else:
                    sending.stop()
                await asyncio.wait([task])
                assert task.cancelled() if start else task.result() == 0
            assert (await read_status(place[0], place[1] or None)).activity is Activity.IDLE
            await bulk.unpause(place[0], place[1] or None)
    assert once_each(api) == 5


def test_an_order_that_nobody_heeds_is_no_success(
    api: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process holds the journal, and stands still."""
    monkeypatch.setattr("mmsclient.cli.steering.NOTICED_WITHIN", 0.1)
    cli = in_this_process(api.app_key, capsys)
    with closing(store_at(path).open(Message(TEXT, "", PNG))):
        for order in ("pause", "stop"):
            told = cli("bulk", order, str(path))
            assert told.status == 1
            assert told.error.startswith("recorded, but after 0.1 s the sender has not done it yet: ")


# A stop ---------------------------------------------------------------------------------------------------------------


async def test_a_stop_ends_a_run_and_no_later_one(api: Sandbox, place: Place) -> None:
    told = Told()
    limiter = Doled(2)
    async with api.client(limiter=limiter, observer=told) as mms:
        with running(campaign(mms, place).send(numbers(50))) as task:
            await until(lambda: len(api.sends) == 2)
            await bulk.stop(place[0], place[1] or None)
            await asyncio.wait([task])
            error = task.exception()
    assert isinstance(error, CampaignStoppedError)
    assert isinstance(error.error, StopRequestedError)
    assert error.report.counts[PENDING] == 40
    copy = pickle.loads(pickle.dumps(error.error))  # noqa: S301 - our own
    assert (copy.by, str(copy)) == (sender_name(), f"a stop was asked for by {sender_name()}")
    stopped = told.one(CampaignStopped)
    assert (stopped.from_outside, stopped.error) == (True, "StopRequestedError")
    assert (await bulk.stop(place[0], place[1] or None)).activity is Activity.IDLE  # nobody is there
    async with api.client(limiter=NoLimit()) as mms:
        report = await campaign(mms, place).send_all(numbers(50))
    assert report.counts[ACCEPTED] == once_each(api) == 50


async def test_a_stop_reaches_the_senders_that_wait(api: Sandbox, postgres: Any, caplog: Any) -> None:
    place = (postgres.new_database(), "spring")
    async with api.client(limiter=Doled(1)) as mms, api.client(limiter=NoLimit()) as other:
        with running(campaign(mms, place).send(numbers(50))) as first:
            await until(lambda: len(api.sends) == 1)
            with running(campaign(other, place).send(numbers(50))) as second:
                await until(lambda: "this one waits, and takes over" in caplog.text)
                await bulk.stop(*place)
                await asyncio.wait([first, second])
                for task in (first, second):
                    assert isinstance(task.exception(), CampaignStoppedError)
    assert once_each(api) == 5


# The status -----------------------------------------------------------------------------------------------------------


async def test_a_throttled_campaign_says_for_what_it_waits(api: Sandbox, place: Place) -> None:
    api.faults.add(throttle(retry_after=50), call="send-mms")
    async with api.client(limiter=NoLimit()) as mms:
        sending = campaign(mms, place).send(numbers(50))
        with running(sending) as task:
            found = await status_when(place, lambda found: found.why == "after RateLimitError")
            assert found.activity is Activity.WAITING
            assert found.last_error is not None
            assert found.last_error.startswith("RateLimitError: ")
            assert found.last_error_at is not None
            sending.stop()
            await asyncio.wait([task])
    assert str(await read_status(place[0], place[1] or None)).startswith("idle: ")


async def test_calls_that_go_wrong_are_counted_and_the_last_are_told(api: Sandbox, place: Place) -> None:
    api.faults.add(throttle(), call="send-mms", times=2)
    api.faults.add(Reject("RECIPIENTS_ERROR", "Nobody"), call="send-mms", skip=1, times=1)
    api.add_opt_out("+61400000014")
    async with api.client(limiter=NoLimit()) as mms:
        sending = campaign(mms, place, max_concurrency=1).send(numbers(15))
        before = sending.progress
        progress = [(sending.progress, batch.progress) async for batch in sending]
        after = sending.progress
    assert before is after is None
    assert [(at_present.calls, told.calls) for at_present, told in progress if at_present] == [(3, 3), (4, 4), (5, 5)]
    assert [told.throttled for _, told in progress] == [2, 2, 2]
    assert {told.rate for _, told in progress} == {None}
    found = await read_status(place[0], place[1] or None)
    assert found.throttled == 2
    assert [(each.batch, each.recipients, each.accepted) for each in found.last_failures] == [
        (5, 5, 4),
        (4, 5, 0),
        (2, 5, 0),
        (1, 5, 0),
    ]
    assert [str(each).partition(":")[0] for each in found.last_failures] == [
        "4 of 5 accepted",
        *["0 of 5 accepted"] * 3,
    ]


async def test_a_campaign_outside_its_hours_says_until_when(api: Sandbox, path: Path) -> None:
    place, start_at = (str(path), ""), datetime.now(UTC) + timedelta(days=1)
    async with api.client(limiter=NoLimit()) as mms:
        sending = campaign(mms, place, start_at=start_at).send(numbers(50))
        with running(sending) as task:
            found = await status_when(place, lambda found: found.why.startswith("outside its hours until "))
            assert found.activity is Activity.WAITING
            await bulk.pause(path)
            await status_when(place, is_now(Activity.PAUSED))
            sending.stop()
            await asyncio.wait([task])
    assert not api.sends


def test_whoever_looks_at_a_lock_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    journal = tmp_path / "spring.db"
    lock = Path(f"{journal}-lock")
    lock.touch()  # by a process that was killed
    assert not is_held(lock)
    code = (
        "import pathlib, sys\nfrom mmsclient._store.file_lock import is_held\nprint(flush=True)\n"
        "while True: is_held(pathlib.Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as looking:  # noqa: S603
        assert looking.stdout is not None
        try:
            looking.stdout.readline()
            end = time.monotonic() + 1
            while time.monotonic() < end:
                held = lock_within(lock, LOOKED_AT)
                assert is_held(lock)
                held.close()
        finally:
            looking.kill()


def test_what_begins_while_a_run_is_held_is_taken_back() -> None:
    control = Control()
    before = control.recall()
    control.hold("operator", "paused")
    control.hold("hours", "at night")
    assert [recall.reason for recall in (before, control.recall())] == [HELD, HELD]
    assert control.hold_reason == "paused; at night"
    control.let_go("operator")
    assert control.recall().reason == HELD
    control.let_go("hours")
    assert control.recall().reason == control.hold_reason == ""


@given(st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 1000)), max_size=150), st.floats(0, 1000))
def test_rates_are_those_of_the_last_half_minute(found: list[tuple[float, int]], since: float) -> None:
    ends: Sequence[tuple[float, int]] = sorted(found, reverse=True)
    calls, recipients = rates(ends, since, 1000.0)
    lately = [end for end in ends if end[0] >= max(since, 1000 - WINDOW)]
    assert 0 <= calls <= len(lately)
    assert recipients <= sum(end[1] for end in lately)
    assert (calls > 0) == (len(lately) > 1)
    assert rates(ends, None, 1000.0) == (0.0, 0.0)
