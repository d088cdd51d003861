"""The numbers of `test=`: they come first, once, and all others wait until their messages have arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import AsyncMMSClient, DeliveryReport, DeliveryStatus, InboundMessage, InvalidRequestError, bulk
from mmsclient._transport import retry
from mmsclient.bulk import (
    CampaignStoppedError,
    DeliveryTestError,
    DeliveryTestFlaw,
    Recipient,
    RecipientState,
    ReportRecorder,
    Template,
    trial,
)
from mmsclient.limiter import feedback
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Fault, Reject, Reset, server_error, throttle
from tests.conftest import until
from tests.support.campaigns import agrees, campaign, finished, numbers, rows
from tests.support.fuzzing import cases

ACCEPTED, PENDING = RecipientState.ACCEPTED, RecipientState.PENDING
OUTSIDE = "+61400009999"
"""A test number that stands in no list."""

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None) as mms:
        yield mms


def reported(api: Sandbox, number: str, status: DeliveryStatus = DeliveryStatus.DELIVERED) -> DeliveryReport:
    """What the provider reports of the message to `number`."""
    (message,) = [message for message in api.messages if message.to == number]
    return DeliveryReport(
        message_id=message.id, status=status, recipient=number.lstrip("+"), custom_string=None, source=None
    )


async def stopped(mms: AsyncMMSClient, journal: Any, listed: Sequence[str], **options: Any) -> CampaignStoppedError:
    with pytest.raises(CampaignStoppedError) as caught:
        await finished(mms, journal, listed, **options)
    assert isinstance(caught.value.error, DeliveryTestError)
    return caught.value


def flaw_of(error: CampaignStoppedError) -> DeliveryTestFlaw:
    assert isinstance(error.error, DeliveryTestError)
    return error.error.flaw


async def test_they_come_first_and_the_others_after_their_reports(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    """The reports come by another connection, as from a receiver in another process."""
    journal, name = place
    listed = numbers(60)
    options: dict[str, Any] = {"test": [OUTSIDE, listed[40], OUTSIDE], "test_timeout": 60, "name": name or None}
    spring = campaign(mms, journal, **options)  # type: ignore[arg-type]
    sending = asyncio.create_task(spring.send_all(listed))
    await until(lambda: len(api.messages) == 2)
    async with ReportRecorder(journal, name or None) as recorder:
        await recorder.record(reported(api, OUTSIDE))
        await recorder.record(reported(api, listed[40], DeliveryStatus.DISPATCHED))
        assert not sending.done()
        assert [set(send.recipients) for send in api.sends] == [{OUTSIDE, listed[40]}]
        await recorder.record(reported(api, listed[40]))
    report = await sending
    await agrees(report, api, [*listed, OUTSIDE])
    assert (report.counts[ACCEPTED], report.total) == (61, 61)
    assert {row.number: row.line for row in await rows(report)} == {
        OUTSIDE: 0,
        **{number: line for line, number in enumerate(listed, 1)},
    }
    again = await finished(mms, journal, listed, **options)  # type: ignore[arg-type]
    assert (again.counts, len(api.sends)) == (report.counts, 4)
    await spring.aclose()


async def test_in_a_journal_that_was_begun_without_them_they_come_first_too(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    journal, name = place
    listed, named = numbers(40), name or None
    api.faults.add(Reject("LEDGER_ERROR"), call="send-mms")
    with pytest.raises(CampaignStoppedError):
        await finished(mms, journal, listed, name=named)  # type: ignore[arg-type]
    api.faults.clear()
    error = await stopped(mms, journal, listed, name=named, test=[OUTSIDE, listed[30]], test_timeout=0)
    assert flaw_of(error) is DeliveryTestFlaw.NO_REPORT
    assert error.report.counts[PENDING] == 39
    async with ReportRecorder(journal, named) as recorder:
        for number in (OUTSIDE, listed[30]):
            await recorder.record(reported(api, number))
    report = await finished(mms, journal, listed, name=named, test=[OUTSIDE, listed[30]], test_timeout=0)  # type: ignore[arg-type]
    assert report.counts[ACCEPTED] == 41
    assert [len(send.recipients) for send in api.sends] == [2, 25, 14]
    await agrees(report, api, [*listed, OUTSIDE])


@pytest.mark.parametrize("status", [DeliveryStatus.FAILED, DeliveryStatus.EXPIRED])
async def test_a_message_that_does_not_arrive_stops_it_and_without_them_it_goes_on(
    api: Sandbox, mms: AsyncMMSClient, path: Path, status: DeliveryStatus
) -> None:
    listed = numbers(30)
    async with campaign(mms, path, test=OUTSIDE) as spring:
        sending = asyncio.create_task(spring.send_all(listed))
        await until(lambda: api.messages)
        await spring.record(reported(api, OUTSIDE, status))
        with pytest.raises(CampaignStoppedError, match="before anybody else: test: a test message was not") as caught:
            await sending
    error = caught.value.error
    assert isinstance(error, DeliveryTestError)
    assert error.flaw is DeliveryTestFlaw.NOT_DELIVERED
    assert [(row.number, row.delivery) for row in error.recipients] == [(OUTSIDE, status)]
    assert OUTSIDE not in str(caught.value)
    assert len(api.messages) == 1
    assert flaw_of(await stopped(mms, path, listed, test=OUTSIDE)) is DeliveryTestFlaw.NOT_DELIVERED
    assert (await finished(mms, path, listed)).counts[ACCEPTED] == 31


async def test_one_that_is_excluded_refused_or_not_sent_stops_it(
    api: Sandbox, mms: AsyncMMSClient, tmp_path: Path
) -> None:
    listed = numbers(30)
    options: dict[str, Any] = {"test": [OUTSIDE], "max_attempts": 1}
    excluded = await stopped(mms, tmp_path / "1.db", listed, exclude=[OUTSIDE], **options)
    api.faults.add(Reject("RECIPIENTS_ERROR"), call="send-mms", times=1)
    refused = await stopped(mms, tmp_path / "2.db", listed, **options)
    api.faults.add(throttle(), call="send-mms", times=1)
    throttled = await stopped(mms, tmp_path / "3.db", listed, **options)
    assert {flaw_of(each) for each in (excluded, refused, throttled)} == {DeliveryTestFlaw.NOT_ACCEPTED}
    assert not api.messages


async def test_a_person_may_say_yes_instead(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    listed, seen = numbers(30), list[Recipient]()
    is_right = False

    async def approve(recipients: Sequence[Recipient]) -> bool:
        seen.extend(recipients)
        return is_right

    error = await stopped(mms, path, listed, test=OUTSIDE, approve_test=approve)
    assert (flaw_of(error), len(api.messages)) == (DeliveryTestFlaw.NOT_APPROVED, 1)
    is_right = True
    assert (await finished(mms, path, listed, test=OUTSIDE, approve_test=approve)).counts[ACCEPTED] == 31
    assert [(row.number, row.state) for row in seen] == [(OUTSIDE, ACCEPTED)] * 2


async def test_a_reply_proves_that_a_message_of_unknown_outcome_arrived(
    api: Sandbox, mms: AsyncMMSClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LONGEST_PAUSE", 0.05)
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    async with campaign(mms, path, test=OUTSIDE) as spring:
        sending = asyncio.create_task(spring.send_all(numbers(10)))
        await until(lambda: api.messages)
        (message,) = api.messages
        reply = InboundMessage(
            sender=OUTSIDE,
            text="Looks good",
            received_at=None,
            received_at_text="",
            id="reply",
            kind="MMS",
            original_message_id=message.id,
            original_text="",
            custom_string=None,
        )
        await spring.record_reply(reply)
        assert (await sending).counts[ACCEPTED] == 11


async def test_one_who_stops_it_meanwhile_waits_for_nothing(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    spring = campaign(mms, path, test=OUTSIDE)
    sending = asyncio.create_task(spring.send_all(numbers(30)))
    await until(lambda: api.messages)
    await spring.drain()
    assert (await sending).counts[PENDING] == 30
    await spring.aclose()


FAULTS: dict[str, Fault] = {
    "throttled": throttle(),
    "lost": Reset(carried_out=False),
    "carried out": Reset(carried_out=True),
    "error": server_error(),
    "refused": Reject("FIELD_INVALID", "one of them"),
}


@cases(6)
@given(st.lists(st.lists(st.sampled_from(sorted(FAULTS)), max_size=5), min_size=2, max_size=4), st.integers(1, 3))
def test_whatever_happens_they_get_it_once_and_nobody_else_before_all_of_them(runs: list[list[str]], size: int) -> None:
    listed = numbers(5)
    tests = {OUTSIDE, listed[2], listed[4]}

    async def play(api: Sandbox, journal: Path) -> None:
        async with api.client(rate=None, timeout=30) as mms:
            for faults in runs:
                api.faults.clear()
                for fault in faults:
                    api.faults.add(FAULTS[fault], call="send-mms", times=1)
                with suppress(CampaignStoppedError):
                    await finished(mms, journal, listed, batch_size=size, test=tests, test_timeout=0, max_attempts=2)
                reached = [number for send in api.sends for number in send.recipients]
                assert len(reached) == len(set(reached))
                assert set(reached) <= tests

    with pytest.MonkeyPatch.context() as patch, Sandbox(rate=None, magic=False) as api, TemporaryDirectory() as folder:
        patch.setattr(retry, "FIRST_WAIT", 0.001)
        patch.setattr(feedback, "PAUSE", 0.001)
        asyncio.run(play(api, Path(folder) / "spring.db"))
        assert api.errors == []


async def test_of_a_template_each_gets_its_own(api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    """Of a row, of the list, or of a run before; equal texts share a call."""
    journal, name = place
    listed = [{"to": number, "first_name": "Ann" if place % 2 else "Bo"} for place, number in enumerate(numbers(20))]
    options: dict[str, Any] = {
        "text": Template("Hi {first_name}"),
        "test": [{"to": OUTSIDE, "first_name": "Cy"}, numbers(20)[3], {"to": numbers(20)[5], "first_name": "Nobody"}],
        "test_timeout": 0,
        "name": name or None,
    }
    error = await stopped(mms, journal, listed, **options)  # type: ignore[arg-type]
    assert error.report.counts[PENDING] == 18
    assert {send.text: set(send.recipients) for send in api.sends} == {
        "Hi Cy": {OUTSIDE},
        "Hi Ann": {numbers(20)[3], numbers(20)[5]},
    }
    async with ReportRecorder(journal, name or None) as recorder:
        for message in api.messages:
            await recorder.record(reported(api, message.to))
    options["test"] = [{"to": OUTSIDE, "first_name": "Another"}, *numbers(20)[3:6:2]]
    report = await finished(mms, journal, listed, **options)  # type: ignore[arg-type]
    assert (report.counts[ACCEPTED], report.total) == (21, 21)
    texts = {number: send.text for send in api.sends for number in send.recipients}
    assert texts == {OUTSIDE: "Hi Cy", **{row["to"]: f"Hi {row['first_name']}" for row in listed}}
    assert sum(len(send.recipients) for send in api.sends) == 21


async def test_a_number_whose_text_cannot_be_made_ends_it_before_the_first_send(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    journal, name = place
    listed = [{"to": numbers(1)[0], "first_name": "Ann"}]
    spring = campaign(mms, journal, text=Template("Hi {first_name}"), test=OUTSIDE, name=name or None)  # type: ignore[arg-type]
    for begin in (spring.send_all, spring.preflight):
        with pytest.raises(InvalidRequestError, match="test: expected the fields of its message beside it"):
            await begin(listed)
    assert not api.sends
    await spring.aclose()


async def yes(_: Sequence[Recipient]) -> bool:
    return True


@pytest.mark.parametrize("text", ["Hi", Template("Hi {n}")])
async def test_one_that_is_tried_again_leaves_nobody_at_the_end_of_the_list(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], text: str | Template
) -> None:
    journal, name = place
    api.faults.add(throttle(), call="send-mms", times=1)
    listed = [{"to": number, "n": str(place // 4)} for place, number in enumerate(numbers(20))]
    tests = [{"to": OUTSIDE, "n": "0"}, {"to": "+61400009998", "n": "0"}]
    options: dict[str, Any] = {"text": text, "test": tests, "approve_test": yes, "batch_size": 5, "name": name or None}
    report = await finished(mms, journal, listed, **options)  # type: ignore[arg-type]
    assert (report.counts[ACCEPTED], report.counts[PENDING]) == (22, 0)


async def test_who_has_said_no_is_asked_again_whatever_was_reported(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    journal, name = place
    asked = []

    async def no(recipients: Sequence[Recipient]) -> bool:
        asked.append(len(recipients))
        return False

    for time in (1, 2):
        error = await stopped(mms, journal, numbers(20), test=OUTSIDE, approve_test=no, name=name or None)
        assert flaw_of(error) is DeliveryTestFlaw.NOT_APPROVED
        assert (len(asked), len(api.sends)) == (time, 1)
        async with ReportRecorder(journal, name or None) as recorder:
            await recorder.record(reported(api, OUTSIDE))


async def test_a_pause_from_outside_does_not_use_up_the_time_for_the_reports(
    api: Sandbox, mms: AsyncMMSClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LONGEST_PAUSE", 0.05)
    spring = campaign(mms, path, test=OUTSIDE, test_timeout=3)
    sending = asyncio.create_task(spring.send_all(numbers(20)))
    await until(lambda: len(api.messages) == 1)
    await bulk.pause(path)
    await asyncio.wait([sending], timeout=4)
    assert not sending.done()
    await ReportRecorder(path).record(reported(api, OUTSIDE))
    await bulk.unpause(path)
    assert (await sending).counts[ACCEPTED] == 21
    await spring.aclose()


@pytest.mark.parametrize("proven", [1, 2])
async def test_one_whose_first_message_is_proven_before_the_second_leaves_gets_none(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch, proven: int
) -> None:
    """The report comes when it was decided already to send to it again."""
    journal, name = place
    listed, named = numbers(20), name or None
    tests = [listed[10], OUTSIDE]
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    await stopped(mms, journal, listed, test=tests, test_timeout=0, name=named)
    reports = [reported(api, number) for number in tests[:proven]]
    open_rows = trial.Trial._open_rows

    async def report_late(self: trial.Trial) -> list[tuple[int, Recipient]]:
        found = await open_rows(self)
        async with ReportRecorder(journal, named) as recorder:
            while reports:
                await recorder.record(reports.pop())
        return found

    monkeypatch.setattr(trial.Trial, "_open_rows", report_late)
    options: dict[str, Any] = {"test": tests, "approve_test": yes, "resend_unknown": True, "name": named}
    report = await finished(mms, journal, listed, **options)  # type: ignore[arg-type]
    assert report.counts[ACCEPTED] == 21
    assert [api.carried_out(number) for number in tests] == ([1, 2] if proven == 1 else [1, 1])
    assert all(api.carried_out(number) == 1 for number in listed)
