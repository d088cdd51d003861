"""Unknown recipients of a campaign: settled by reports and replies, sent to again where they are silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from mmsclient import DeliveryReport, DeliveryStatus, InboundMessage, InvalidRequestError, Reply
from mmsclient.bulk import JournalError, RecipientState, Report, UnknownRecipients, read_report, reconcile, resume
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, Reset
from mmsclient.webhooks import CallbackReceiver, new_token
from tests.support.campaigns import campaign, inbound, numbers


def report_of(sandbox: Sandbox, number: str) -> DeliveryReport:
    """What the provider would post of the message that went to `number`."""
    message = next(message for message in sandbox.messages if message.to == number)
    return DeliveryReport(
        message_id=message.id,
        status=DeliveryStatus.DELIVERED,
        recipient=number.lstrip("+"),
        custom_string=None,
        source=None,
    )


def lose_two_calls(sandbox: Sandbox) -> None:
    """After the first one: one that is carried out, and one that is not. Nobody answers them."""
    sandbox.faults.add(Reset(carried_out=True), call="send-mms", skip=1, times=1)
    sandbox.faults.add(Reset(carried_out=False), call="send-mms", skip=2, times=1)


async def lost(report: Report, sandbox: Sandbox) -> tuple[list[str], list[str]]:
    """The unknown ones: who got it, and who did not."""
    unknown = [recipient.number async for recipient in report.recipients("unknown")]
    got_it = [number for number in unknown if sandbox.carried_out(number)]
    return got_it, [number for number in unknown if not sandbox.carried_out(number)]


@pytest.mark.parametrize("kept", [True, False])
async def test_reports_and_replies_settle_the_unknown(kept: bool, tmp_path: Path, sandbox: Sandbox) -> None:
    lose_two_calls(sandbox)
    journal = tmp_path / "spring.db" if kept else None
    async with sandbox.client() as mms, campaign(mms, journal) as spring:
        report = await spring.send_all(numbers(100))
        got_it, did_not = await lost(report, sandbox)
        assert (len(got_it), len(did_not)) == (25, 25)
        assert report.unknown.since is not None
        assert (report.unknown.count, report.unknown.proven, report.unknown.accepted) == (50, 0, 50)
        assert report.unknown.reported_share == 0
        assert "0 of 50 accepted recipients" in report.unknown.objection
        for number in got_it[:20]:
            await spring.record(report_of(sandbox, number))
        ids = {message.to: message.id for message in sandbox.messages}
        now = datetime.now(UTC)
        in_whole_seconds = report.unknown.since - timedelta(seconds=0.5)
        await spring.record_reply(inbound(got_it[20], ids[got_it[20]], in_whole_seconds))
        await spring.record_reply(inbound(got_it[21], ids[got_it[21]], None))
        await spring.record_reply(inbound(got_it[22], "", now))
        await spring.record_reply(inbound("Cellcast", "another", now))
        await spring.record_reply(inbound(got_it[23], ids[got_it[23]], now - timedelta(hours=1)))
        fetched = Reply(
            id="2",
            sender=got_it[24],
            text="thanks",
            received_at=now + timedelta(hours=14),
            received_at_text="",
            original_message_id=ids[got_it[24]],
            original_text="",
            subaccount_id="",
            custom_string=None,
        )
        await spring.record_reply(fetched)
        report = await spring.report()
        assert await lost(report, sandbox) == (got_it[22:24], did_not)
        assert (report.unknown.count, report.unknown.heard_of, report.unknown.proven) == (27, 1, 23)
        assert report.counts[RecipientState.ACCEPTED] == 73
        assert report.deliveries == {DeliveryStatus.DELIVERED: 20}


async def test_only_the_silent_are_sent_to_again(tmp_path: Path, sandbox: Sandbox) -> None:
    lose_two_calls(sandbox)
    journal = tmp_path / "spring.db"
    options: dict[str, Any] = {"resend_unknown": "silent", "silent_after": timedelta(0)}
    async with sandbox.client() as mms:
        report = await campaign(mms, journal).send_all(numbers(100))
        again = await campaign(mms, journal, **options).send_all(numbers(100))
        assert again.counts == report.counts  # no report came yet: silence means nothing
        for message in list(sandbox.messages):
            await campaign(mms, journal).record(report_of(sandbox, message.to))
        assert (await read_report(journal)).unknown.objection == ""
        still = await campaign(mms, journal, resend_unknown="silent").send_all(numbers(100))
        assert still.counts[RecipientState.UNKNOWN] == 25  # a day has not gone by
        planned = await campaign(mms, journal, **options).dry_run(numbers(100))
        assert (planned.counts[RecipientState.PENDING], planned.counts[RecipientState.UNKNOWN]) == (25, 0)
        ended = await (await resume(mms, journal, **options)).send_all()
    assert ended.counts[RecipientState.ACCEPTED] == 100
    assert [sandbox.carried_out(number) for number in numbers(100)] == [1] * 100


async def test_a_receiver_records_reports_and_replies(tmp_path: Path, sandbox: Sandbox) -> None:
    lose_two_calls(sandbox)
    token = new_token()
    receiver = CallbackReceiver(token=token)
    taken: list[InboundMessage] = []
    http = httpx.AsyncClient(transport=httpx.ASGITransport(receiver), base_url="http://receiver")
    async with sandbox.client() as mms, receiver, http:
        spring = campaign(mms, tmp_path / "spring.db")
        receiver.record_into(spring)
        receiver.on_inbound(taken.append)
        got_it, _ = await lost(await spring.send_all(numbers(100)), sandbox)
        message = next(message for message in sandbox.messages if message.to == got_it[0])
        body = {"from": got_it[0], "body": "thanks", "message_id": "1", "original_message_id": message.id}
        assert (await http.post(f"/{token}", json=[body])).status_code == 200
        report = await spring.report()
    assert (report.unknown.proven, report.unknown.count) == (1, 49)
    assert [message.sender for message in taken] == got_it[:1]


async def test_a_recorder_of_reports_alone_gets_no_messages() -> None:
    class Reports:
        def __init__(self) -> None:
            self.found: list[DeliveryReport] = []

        def record(self, report: DeliveryReport) -> None:
            self.found.append(report)

    token, reports = new_token(), Reports()
    receiver = CallbackReceiver(token=token)
    receiver.record_into(reports)
    receiver.on_inbound(lambda _: None)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(receiver), base_url="http://receiver")
    async with receiver, http:
        for body in (
            {"from": "1", "body": "thanks", "message_id": "1"},
            {"recipient": "61400000000", "message_id": "2", "status": "x"},
        ):
            assert (await http.post(f"/{token}", json=[body])).status_code == 200
    assert [report.message_id for report in reports.found] == ["2"]


async def test_reconciling_settles_what_the_journal_can(tmp_path: Path, sandbox: Sandbox) -> None:
    lose_two_calls(sandbox)
    journal = tmp_path / "spring.db"
    async with sandbox.client() as mms:
        spring = campaign(mms, journal)
        got_it, _ = await lost(await spring.send_all(numbers(100)), sandbox)
        await spring.record(report_of(sandbox, got_it[0]))
    done = await reconcile(journal)
    assert (done.settled, done.report.unknown.proven, done.report.unknown.count) == (0, 1, 49)
    with pytest.raises(JournalError, match="no such file"):
        await reconcile(tmp_path / "none.db")


# The balance ----------------------------------------------------------------------------------------------------------


async def test_the_balance_hints_at_what_was_carried_out(tmp_path: Path, sandbox: Sandbox) -> None:
    lose_two_calls(sandbox)
    async with sandbox.client() as mms:
        report = await campaign(mms, tmp_path / "spring.db", check_balance=True).send_all(numbers(100))
        assert report.unknown.unaccounted_credits == Decimal(25)
        assert [arrival.call for arrival in sandbox.arrivals].count("account") == 2
        await campaign(mms, tmp_path / "spring.db", check_balance=True).send_all(numbers(100))
        assert [arrival.call for arrival in sandbox.arrivals].count("account") == 2  # nobody is left


async def test_nothing_asks_for_the_balance_where_that_is_told(sandbox: Sandbox) -> None:
    async with sandbox.client() as mms, campaign(mms, None, check_account=False) as spring:
        report = await spring.send_all(numbers(10))
    assert report.unknown == UnknownRecipients()
    assert [arrival.call for arrival in sandbox.arrivals] == ["send-mms"]


async def test_a_balance_that_cannot_be_had_harms_nothing(
    tmp_path: Path, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.add(Reject("NO_ACCESS"), call="account")
    async with sandbox.client() as mms:
        report = await campaign(mms, tmp_path / "spring.db", check_balance=True).send_all(numbers(10))
    assert report.counts[RecipientState.ACCEPTED] == 10
    assert report.unknown.unaccounted_credits is None
    assert caplog.text.count("the balance was not noted") == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("resend_unknown", "loud"), ("resend_unknown", 1), ("silent_after", -1), ("silent_after", "a day")],
)
async def test_a_wrong_option(name: str, value: object, sandbox: Sandbox) -> None:
    async with sandbox.client() as mms:
        with pytest.raises(InvalidRequestError, match=name):
            campaign(mms, None, **{name: value})
