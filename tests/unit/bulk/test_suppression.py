"""Campaigns with a suppression list, and what feeds one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import AsyncMMSClient, InvalidRequestError
from mmsclient.bulk import (
    Exclusion,
    OptOutsIncompleteError,
    RecipientState,
    SuppressionList,
    SuppressionListError,
    SuppressionListUnavailableError,
    read_csv,
    resume,
    screening,
)
from mmsclient.bulk.opt_out_line import with_opt_out_line
from mmsclient.limiter import Grant, NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, throttle
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import until
from tests.support.callbacks import TOKEN, status
from tests.support.campaigns import TEXT, agrees, campaign, finished, numbers, success
from tests.support.fuzzing import cases

REASON = "by hand, on the suppression list since "


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None) as mms:
        yield mms


@pytest.fixture
async def suppression(place: tuple[str, str], tmp_path: Path) -> AsyncIterator[SuppressionList]:
    """A list in the engine that the test's journals are in."""
    where, name = place
    async with SuppressionList(where if name else tmp_path / "stop.db") as suppression:
        await suppression.create()
        yield suppression


# Who is kept out ------------------------------------------------------------------------------------------------------


async def test_who_is_suppressed_gets_nothing_and_is_told_with_the_reason(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], suppression: SuppressionList
) -> None:
    journal, name = place
    listed = numbers(30)
    for number in (*listed[3:5], *listed[10:20]):  # a part of a batch, and the whole of another
        await suppression.add(number)
    options: dict[str, Any] = {"suppress": suppression, "batch_size": 10, "name": name or None}
    async with campaign(mms, journal, **options) as spring:  # type: ignore[arg-type]
        planned = await spring.dry_run(listed)
        assert (planned.counts[RecipientState.PENDING], planned.exclusions[Exclusion.SUPPRESSED]) == (18, 12)
        report = await spring.send_all(listed)
    await agrees(report, api, listed)
    assert (report.counts[RecipientState.ACCEPTED], report.exclusions[Exclusion.SUPPRESSED]) == (18, 12)
    excluded = [recipient async for recipient in report.recipients("excluded")]
    assert [recipient.number for recipient in excluded] == [*listed[3:5], *listed[10:20]]
    assert {recipient.exclusion for recipient in excluded} == {Exclusion.SUPPRESSED}
    assert all((recipient.reason or "").startswith(REASON) for recipient in excluded)
    assert report.calls == len(api.sends) == 2
    for number in listed:
        await suppression.remove(number)
    async with campaign(mms, journal, **options) as spring:  # type: ignore[arg-type]
        assert (await spring.send_all(listed)).counts == report.counts


async def test_a_list_by_its_path_is_closed_with_the_run(api: Sandbox, mms: AsyncMMSClient, tmp_path: Path) -> None:
    where = tmp_path / "stop.db"
    async with SuppressionList(where) as suppression:
        await suppression.add(numbers(1)[0])
    report = await finished(mms, None, numbers(3), suppress=where)
    assert report.exclusions[Exclusion.SUPPRESSED] == 1
    assert not os.path.exists(f"{where}-wal")  # noqa: ASYNC240 - the last connection takes it away
    assert len(api.messages) == 2


async def test_nothing_is_sent_past_a_list_that_is_not_there(
    api: Sandbox, mms: AsyncMMSClient, path: Path, tmp_path: Path
) -> None:
    with pytest.raises(SuppressionListError, match="there is no suppression list"):
        await finished(mms, path, numbers(3), suppress=tmp_path / "elsewhere.db")
    with pytest.raises(SuppressionListError, match="there is no suppression list"):
        await campaign(mms, path, suppress=tmp_path / "elsewhere.db").dry_run(numbers(3))
    assert not api.sends
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize("place", [7, "", b"x"])
async def test_what_is_no_list_is_refused(mms: AsyncMMSClient, place: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^suppress: expected a SuppressionList"):
        campaign(mms, None, suppress=place)


async def test_a_list_that_fails_stops_the_campaign_and_nobody_is_unknown(
    api: Sandbox, mms: AsyncMMSClient, path: Path, tmp_path: Path
) -> None:
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        await suppression.create()
        spring = campaign(mms, path, suppress=suppression, batch_size=1)
        sending = spring.send(numbers(40))
        await anext(sending)  # no more than 8 ahead
        (tmp_path / "stop.db").unlink()
        with pytest.raises(SuppressionListError, match="removed or replaced while it was open"):
            [batch async for batch in sending]
        report = await spring.report()
    await agrees(report, api, numbers(40)[: report.total])
    assert report.counts[RecipientState.PENDING] > 20
    assert report.counts[RecipientState.UNKNOWN] == report.counts[RecipientState.SENDING] == 0


async def test_a_list_that_is_away_for_a_moment_is_waited_for(
    api: Sandbox, mms: AsyncMMSClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(screening, "LOOK_AGAIN", 0.01)
    away = iter([True, True, False, True])

    class Passing(SuppressionList):
        async def among(self, numbers: Any) -> Any:
            if next(away, False):
                raise SuppressionListUnavailableError("stop.db", "database is locked")
            return await super().among(numbers)

    async with Passing(tmp_path / "stop.db") as suppression:
        await suppression.add(numbers(1)[0])
        report = await finished(mms, None, numbers(50), suppress=suppression)
    assert report.counts[RecipientState.ACCEPTED] == 49
    monkeypatch.setattr(screening, "AWAY", -1.0)
    away = iter([True])
    async with Passing(tmp_path / "stop.db") as suppression:
        with pytest.raises(SuppressionListUnavailableError):
            await finished(mms, None, numbers(50, 100), suppress=suppression)
    assert len(api.messages) == 49


# While it is being sent -----------------------------------------------------------------------------------------------


async def test_who_is_added_while_the_campaign_is_being_sent_is_kept_out(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], suppression: SuppressionList
) -> None:
    journal, name = place
    listed = numbers(40)
    async with campaign(mms, journal, suppress=suppression, batch_size=1, name=name or None) as spring:  # type: ignore[arg-type]
        async for _ in spring.send(listed):  # no more than 8 ahead of this loop
            await suppression.add(listed[-1])
        report = await spring.report()
    await agrees(report, api, listed)
    assert not api.carried_out(listed[-1])
    assert (report.counts[RecipientState.ACCEPTED], report.exclusions[Exclusion.SUPPRESSED]) == (39, 1)


@pytest.mark.usefixtures("impatient")
async def test_who_is_added_before_a_call_is_tried_again_is_kept_out(
    api: Sandbox, mms: AsyncMMSClient, tmp_path: Path
) -> None:
    api.faults.add(throttle(), call="send-mms", times=1)
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        await suppression.create()
        listed = numbers(10)

        class Late(SuppressionList):
            """Somebody asks to stop right after the first look."""

            async def among(self, numbers: Any) -> Any:
                found = await super().among(numbers)
                await suppression.add(listed[0])
                return found

        async with Late(tmp_path / "stop.db") as late:
            report = await finished(mms, None, listed, suppress=late)
    await agrees(report, api, listed)
    assert (report.counts[RecipientState.ACCEPTED], report.exclusions[Exclusion.SUPPRESSED]) == (9, 1)
    assert [len(send.recipients) for send in api.sends] == [9]


async def test_a_batch_that_is_cut_in_halves_stays_without_those_who_are_suppressed(
    api: Sandbox, mms: AsyncMMSClient, tmp_path: Path
) -> None:
    api.faults.add(Reject("FIELD_INVALID", "A number is invalid."), call="send-mms", times=1)
    listed = numbers(9)
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        for number in listed[2:5]:
            await suppression.add(number)
        report = await finished(mms, None, listed, suppress=suppression)
    await agrees(report, api, listed)
    assert (report.counts[RecipientState.ACCEPTED], report.exclusions[Exclusion.SUPPRESSED]) == (6, 3)
    assert [len(send.recipients) for send in api.sends] == [3, 3]


class Closed(NoLimit):
    """Lets nobody leave until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.opened = asyncio.Event()

    async def acquire(self) -> Grant:
        self.asked += 1
        await self.opened.wait()
        return await super().acquire()


async def test_a_call_that_waits_for_its_turn_is_taken_back_and_goes_without_who_was_added(
    api: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(screening, "ASK_AGAIN", 0.01)
    limiter, listed = Closed(), numbers(5)
    async with SuppressionList(tmp_path / "stop.db") as suppression, api.client(limiter=limiter) as mms:
        await suppression.create()
        options: dict[str, Any] = {"exclude_opt_outs": False, "max_attempts": 1, "check_account": False}
        spring = campaign(mms, None, suppress=suppression, **options)
        sending = asyncio.create_task(spring.send_all(listed))
        await until(lambda: limiter.asked == 1)
        await suppression.add(listed[2])
        await until(lambda: limiter.asked == 2)  # another call, without that one
        limiter.opened.set()
        report = await sending
        await spring.aclose()
    await agrees(report, api, listed)
    assert (report.counts[RecipientState.ACCEPTED], report.exclusions[Exclusion.SUPPRESSED]) == (4, 1)
    assert [len(send.recipients) for send in api.sends] == [4]


# What feeds a list ----------------------------------------------------------------------------------------------------


async def test_the_opt_outs_of_the_api_are_read_where_there_is_a_list(
    api: Sandbox, mms: AsyncMMSClient, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = numbers(6)
    api.add_opt_out(listed[1])
    api.add_opt_out("no number at all")
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        await suppression.create()
        await finished(mms, None, numbers(2, 50), suppress=suppression, exclude_opt_outs=False)
        assert (len(api.messages), api.calls["get-optout"]) == (2, 0)
        planned = await campaign(mms, path, suppress=suppression).dry_run(listed)
        assert planned.exclusions[Exclusion.OPTED_OUT] == 1
        assert (await suppression.report()).count == 0  # nothing is written by it
        with pytest.raises(OptOutsIncompleteError, match="1 of its numbers cannot be read"):
            await finished(mms, path, listed, suppress=suppression, exclude_opt_outs=True)
        assert len(api.messages) == 2
        caplog.clear()
        report = await finished(mms, path, listed, suppress=suppression)
        assert report.exclusions[Exclusion.SUPPRESSED] == 1
        assert "1 number cannot be read, so those people may get a message" in caplog.text
        assert "no number at all" not in caplog.text
        kept = await suppression.report()
        assert kept.reasons == {"opted out at the API": 1}
        assert [unread.given for unread in kept.unreadable] == ["no number at all"]
        (row,) = [row async for row in report.recipients("excluded")]
        assert (row.reason or "").startswith("opted out at the API, on the suppression list since ")


async def test_opt_outs_that_end_early_send_nothing_unless_a_part_is_enough(
    api: Sandbox, mms: AsyncMMSClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = {"page": {"count": 3, "number": 1}, "total": 3, "responses": [{"number": numbers(1)[0]}]}
    api.faults.add(success(page), call="get-optout")
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        await suppression.create()
        with pytest.raises(OptOutsIncompleteError, match="the list ended early"):
            await finished(mms, None, numbers(3), suppress=suppression)
        assert not api.sends
        report = await finished(mms, None, numbers(3), suppress=suppression, partial_opt_outs=True)
        assert report.exclusions[Exclusion.SUPPRESSED] == 1
        update = await suppression.sync(mms)
    assert (update.added, update.known) == (0, 1)
    assert update.ended_early
    assert "so some may be missing" in caplog.text


async def test_replies_that_ask_to_stop(api: Sandbox, mms: AsyncMMSClient, tmp_path: Path) -> None:
    one, two, three = numbers(3)
    api.add_reply(one, "Stop.")
    api.add_reply(two, "stop it, please")
    api.add_reply("Bank", "STOP")
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        asked = [await suppression.record_reply(reply) async for reply in mms.take_replies()]
        assert asked == [True, False, True]
        assert [(entry.number, entry.reason) async for entry in suppression.entries()] == [(one, "replied STOP")]
        assert [unread.given for unread in (await suppression.report()).unreadable] == ["Bank"]
    async with SuppressionList(tmp_path / "stop.db", words=["Non merci"]) as suppression:
        api.add_reply(three, "NON, MERCI!")
        assert [await suppression.record_reply(reply) async for reply in mms.take_replies()] == [True]
        found = await suppression.find(three)
        assert found is not None
        assert found.reason == "replied NON MERCI"


async def test_a_receiver_answers_once_the_sender_is_on_the_list(path: Path, tmp_path: Path) -> None:
    inbound = {"from": "61400000000", "body": "Stop!", "received_at": "2026-01-08 17:50:34", "message_id": "1"}
    async with CallbackReceiver(token=TOKEN) as receiver, SuppressionList(path) as suppression:
        receiver.suppress_into(suppression)
        handled: list[Any] = []
        receiver.on_inbound(handled.append)
        path.mkdir()  # noqa: ASYNC240
        assert await status(receiver, [inbound]) == 503
        assert handled == []
        path.rmdir()  # noqa: ASYNC240
        assert await status(receiver, [inbound]) == 200
        assert await suppression.find("+61400000000") is not None
        assert await status(receiver, [inbound | {"body": "Thanks", "from": "61400000001", "message_id": "2"}]) == 200
        assert await suppression.find("+61400000001") is None
        assert [message.text for message in handled] == ["Stop!", "Thanks"]


async def test_a_file_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "stop.csv").write_text("name,mobile\nZoë,0400000001\nx,0400 000 002\ny,nonsense\n", encoding="utf-8")
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        update = await suppression.add_all(read_csv(tmp_path / "stop.csv", "mobile"), "complained")
        assert (update.added, update.unreadable) == (2, ("nonsense",))
        with pytest.raises(InvalidRequestError, match=r"^number: expected a number in"):
            await suppression.add("nonsense")
        with pytest.raises(InvalidRequestError, match=r"^number: expected a number in"):
            await suppression.find("nonsense")


# The line -------------------------------------------------------------------------------------------------------------

LINE = "Reply STOP to opt out"


async def test_the_line_is_a_part_of_the_message(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    await finished(mms, path, numbers(1), opt_out_line=LINE)
    assert api.sends[0].text == f"Sale\r\non now\r\n{LINE}"
    await finished(mms, path, numbers(2), text=f"{TEXT}\n{LINE}", opt_out_line=LINE.upper())
    async with await resume(mms, path, opt_out_line=LINE) as again:
        await again.send_all(numbers(3))
    assert {send.text for send in api.sends} == {f"Sale\r\non now\r\n{LINE}"}
    assert len(api.messages) == 3


async def test_the_line_counts_in_the_limit_of_the_text(api: Sandbox, mms: AsyncMMSClient) -> None:
    fits = "x" * (1000 - len(LINE) - 2)
    await finished(mms, None, numbers(1), text=fits, opt_out_line=LINE)
    with pytest.raises(InvalidRequestError, match=r"^text: expected"):
        await finished(mms, None, numbers(1, 1), text=f"{fits}x", opt_out_line=LINE)
    assert len(api.messages) == 1


@pytest.mark.parametrize("line", ["", "  ", "two\nlines", 7])
async def test_what_is_no_line_is_refused(mms: AsyncMMSClient, line: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^opt_out_line: expected one line of text"):
        campaign(mms, None, opt_out_line=line)


@cases(50)
@given(
    st.text(max_size=40),
    st.text(min_size=1, max_size=10).filter(lambda line: line.strip() and len(line.splitlines()) == 1),
)
def test_the_line_is_added_once(text: str, line: str) -> None:
    once = with_opt_out_line(text, line)
    assert once.startswith(text)
    assert line.strip().casefold() in once.casefold()
    assert with_opt_out_line(once, line) == once
    assert with_opt_out_line(text, None) == text
