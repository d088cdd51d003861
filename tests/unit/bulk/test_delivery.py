"""Delivery reports in a campaign's journal."""

from __future__ import annotations

import random
from pathlib import Path

import httpx
import pytest

from mmsclient import AsyncMMSClient, DeliveryReport, DeliveryStatus
from mmsclient.bulk import Campaign, JournalError, read_report
from mmsclient.sandbox import Sandbox
from mmsclient.webhooks import CallbackReceiver, new_token
from tests.conftest import PNG

TO = ["+61400000000", "+61400000001", "+61400009911", "+61400009913", "+61400009916", "+61400009901"]
"""Two that are delivered, one that fails, one that expires, one that stays on the way, one that is refused."""


STRANGE = DeliveryReport(
    message_id="another", status=DeliveryStatus.FAILED, recipient="61400000000", custom_string=None, source=None
)


def campaign(mms: AsyncMMSClient, journal: Path | None) -> Campaign:
    return mms.campaign(text="Sale on now", image=PNG, journal=journal, batch_size=4)


def reports(sandbox: Sandbox) -> list[DeliveryReport]:
    """What the provider calls back, each twice, out of order."""
    final = {"9911": "Failed", "9913": "Expired"}
    found = [
        DeliveryReport(
            message_id=message.id,
            status=DeliveryStatus(status),
            recipient=message.to.lstrip("+"),
            custom_string=None,
            source=None,
        )
        for message in sandbox.messages
        if not message.to.endswith("9916")
        for status in ("Dispatched", final.get(message.to[-4:], "Delivered"))
    ] * 2
    random.Random(1).shuffle(found)
    return found


@pytest.mark.parametrize("kept", [True, False])
async def test_the_report_shows_what_was_delivered(kept: bool, tmp_path: Path, sandbox: Sandbox) -> None:
    journal = tmp_path / "spring.db" if kept else None
    async with sandbox.client() as mms, campaign(mms, journal) as spring:
        await spring.send_all(TO)
        before = await spring.report()
        assert (before.deliveries, before.open, before.delivery_seconds) == ({}, 5, None)
        for report in reports(sandbox):
            await spring.record(report)
        found = await spring.report()
        rows = {row.number: row async for row in found.recipients()}
    assert found.deliveries == {"Delivered": 2, "Failed": 1, "Expired": 1}
    assert found.open == 1
    assert found.delivery_seconds is not None
    assert found.delivery_seconds >= 0
    assert [rows[number].delivery for number in TO] == ["Delivered", "Delivered", "Failed", "Expired", None, None]
    assert rows[TO[0]].reported_at is not None
    assert rows[TO[4]].reported_at is None
    assert sum(found.counts.values()) == len(rows) == len(TO)


async def test_reports_come_before_the_answer_and_after_the_campaign(tmp_path: Path, sandbox: Sandbox) -> None:
    journal = tmp_path / "spring.db"
    async with sandbox.client() as mms:
        with pytest.raises(JournalError):
            await campaign(mms, journal).record(STRANGE)
        with pytest.raises(JournalError):
            await campaign(mms, None).record(STRANGE)
        async with campaign(mms, journal) as spring:
            sending = spring.send(TO)
            await anext(sending)
            await spring.record(STRANGE)  # beside the campaign that writes
            async for _ in sending:
                pass
        later = campaign(mms, journal)
        for report in reports(sandbox):
            await later.record(report)
    found = await read_report(journal)
    assert found.deliveries == {"Delivered": 2, "Failed": 1, "Expired": 1}


async def test_a_receiver_records_into_the_journal(tmp_path: Path, sandbox: Sandbox) -> None:
    token = new_token()
    receiver = CallbackReceiver(token=token)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(receiver), base_url="http://receiver")
    async with sandbox.client() as mms, receiver, http:
        spring = campaign(mms, tmp_path / "spring.db")
        receiver.record_into(spring)
        await spring.send_all(TO)
        for report in reports(sandbox):
            body = [{"message_id": report.message_id, "recipient": report.recipient, "status": report.status.value}]
            assert (await http.post(f"/{token}", json=body)).status_code == 200
    assert (await read_report(tmp_path / "spring.db")).deliveries == {"Delivered": 2, "Failed": 1, "Expired": 1}
