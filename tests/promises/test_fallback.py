"""Whose MMS does not arrive gets an SMS: a campaign and a receiver that hears of both, over sockets."""

from __future__ import annotations

import asyncio
from collections import Counter

from mmsclient.bulk import SMSFallback, read_report
from mmsclient.models import DeliveryReport, DeliveryStatus
from mmsclient.sandbox import Ending, Sandbox
from mmsclient.sandbox.listener import HOST, Listener
from mmsclient.webhooks import CallbackReceiver, new_token
from tests.conftest import PNG
from tests.support.campaigns import success
from tests.support.waiting import until

LOST: dict[str, str] = {Ending.FAILED: "Failed", Ending.REJECTED: "Rejected", Ending.EXPIRED: "Expired"}
OTHERS: dict[str, str] = {
    Ending.ABORTED: "Aborted",
    Ending.UNKNOWN: "Unknown",
    "0000": "Delivered",
    "0001": "Delivered",
}


async def test_a_run_sends_each_whose_mms_is_reported_lost_one_sms(place: tuple[str, str]) -> None:
    journal, name = place
    numbers = {f"+6140000{ending}": status for group in (LOST, OTHERS) for ending, status in group.items()}
    lost = [number for number, status in numbers.items() if status in LOST.values()]
    token = new_token()
    with Sandbox(rate=None, duplicates=1, disorder=0.05) as sandbox:
        async with CallbackReceiver(token=token) as receiver, sandbox.client(rate=None) as mms:
            receiver.record_into(journal, name or None)
            listener = Listener(receiver, 0, None, 60.0)
            listener.listen()
            sandbox.settings.callback_url = f"http://{HOST}:{listener.port}/{token}"
            try:
                campaign = mms.campaign(
                    text="Sale on now",
                    image=PNG,
                    journal=journal,
                    name=name or None,
                    fallback=SMSFallback(text="Sale: example.com", wait=600),
                )
                report = await asyncio.wait_for(campaign.send_all(list(numbers)), 60)
                assert report.open == 0  # so long it has waited, and no longer
                await asyncio.to_thread(until, lambda: sandbox.callbacks_open == 0)
                assert sandbox.callbacks_lost == []
                async for _ in campaign.send_fallback():  # an SMS that is lost is followed by none
                    raise AssertionError
            finally:
                await listener.close()
        assert sandbox.errors == []
        report = await read_report(journal, name or None)
        assert report.deliveries == Counter(map(DeliveryStatus, numbers.values()))
        assert report.fallback is not None
        assert report.fallback.deliveries == Counter(map(DeliveryStatus, LOST.values()))
        assert sorted(number for send in sandbox.sms.sends for number in send.recipients) == sorted(lost)
        assert sorted(number for send in sandbox.mms.sends for number in send.recipients) == sorted(numbers)


async def test_a_report_of_a_message_that_no_answer_named_counts(place: tuple[str, str]) -> None:
    """Two are accepted, and the answer lists one, as in the service's own example."""
    journal, name = place
    listed, lost = "+61400000001", "+61400000002"
    messages = [{"message_id": "A", "to": listed, "direction": "out"}]
    with Sandbox(rate=None) as sandbox:
        answer = {"messages": messages, "total_numbers": 2, "success_number": "2", "credits_used": "2"}
        sandbox.faults.add(success(answer), call="send-mms", times=1)
        async with sandbox.client(rate=None) as mms:
            fallback = SMSFallback(text="Sale: example.com", wait=0)
            campaign = mms.campaign(text="Sale", image=PNG, journal=journal, name=name or None, fallback=fallback)
            assert (await campaign.send_all([listed, lost])).open == 2
            for message_id, number, status in (("A", listed, "Delivered"), ("B", lost, "Failed")):
                told = DeliveryStatus(status)
                await campaign.record(
                    DeliveryReport(
                        message_id=message_id, status=told, recipient=number, custom_string=None, source=None
                    )
                )
            assert [batch.recipients async for batch in campaign.send_fallback()] == [(lost,)]
            report = await campaign.report()
            assert report.open == 0
            assert report.deliveries == {DeliveryStatus.DELIVERED: 1, DeliveryStatus.FAILED: 1}
            assert [(each.number, each.message_id) async for each in report.recipients()] == [
                (listed, "A"),
                (lost, "B"),
            ]
        assert [send.recipients for send in sandbox.sms.sends] == [(lost,)]
