"""`send_sms(key=)`: as `send(key=)`, and never for both, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mmsclient import (
    AsyncMMSClient,
    ConfigurationError,
    KeyReusedError,
    OutcomeUnknownError,
    RecipientsError,
    SentBatch,
)
from mmsclient.models import DeliveryReport, DeliveryStatus, InboundMessage
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, Reset
from tests.conftest import PNG, until
from tests.support.held import Held
from tests.support.keyed import Place, place_in

TO = "+61400000000"

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_in(request.param, request, tmp_path)


@pytest.fixture
async def mms(api: Sandbox, place: Place) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, ledger=place.at) as mms:
        yield mms


async def send(mms: AsyncMMSClient, key: str = "order-17", **options: Any) -> SentBatch:
    return await mms.send_sms(**{"to": TO, "text": "Your order", "key": key, **options})


async def test_a_key_is_carried_out_once_and_told_again(api: Sandbox, mms: AsyncMMSClient, place: Place) -> None:
    first = await send(mms, sender="SHOP", custom_string="order-17")
    again = await send(mms, sender="SHOP", custom_string="order-17", to="0400 000 000")
    assert (first.repeated, again.repeated) == (False, True)
    assert again.messages == first.messages
    async with api.client(rate=None, ledger=place.at) as other:
        assert (await send(other, sender="SHOP", custom_string="order-17")).repeated
    assert api.carried_out(TO) == 1


async def test_several_at_once_are_one(api: Sandbox, mms: AsyncMMSClient) -> None:
    api.faults.add(held := Held(), call="send-sms")
    sends = [asyncio.create_task(send(mms)) for _ in range(5)]
    await until(lambda: api.sms.sends)
    held.answer.set()
    assert sorted(sent.repeated for sent in await asyncio.gather(*sends)) == [False, True, True, True, True]
    assert api.carried_out(TO) == 1


@pytest.mark.parametrize(
    ("options", "differences", "words"),
    [
        ({"text": "Another"}, ("text",), "another text"),
        ({"to": "+61400000001"}, ("recipients",), "other recipients"),
        ({"sender": "SHOP"}, ("options",), "other options"),
        ({"delay": 5}, ("options",), "other options"),
    ],
)
async def test_another_sms_needs_another_key(
    api: Sandbox, mms: AsyncMMSClient, options: Any, differences: tuple[str, ...], words: str
) -> None:
    await send(mms)
    with pytest.raises(KeyReusedError, match=f"it was used for {words}; nothing was sent") as caught:
        await send(mms, **options)
    assert caught.value.differences == differences
    assert len(api.sms.sends) == 1


async def test_a_key_is_of_one_kind(api: Sandbox, mms: AsyncMMSClient) -> None:
    await mms.send(to=TO, text="Your order", image=PNG, key="order-17")
    with pytest.raises(KeyReusedError, match="it was used for a message of the other kind; nothing was sent") as caught:
        await send(mms)
    assert caught.value.differences == ("kind",)
    await send(mms, "order-18")
    with pytest.raises(KeyReusedError) as caught:
        await mms.send(to=TO, text="Another", image=PNG, key="order-18")
    assert caught.value.differences == ("kind", "text")
    assert api.carried_out(TO) == 2


async def test_what_left_without_an_answer_is_never_sent_again(api: Sandbox, mms: AsyncMMSClient) -> None:
    api.faults.add(Reset(carried_out=True), call="send-sms", times=1)
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError) as caught:
            await send(mms)
        assert caught.value.call == "send-sms"
    assert caught.value.sent_at is not None
    assert caught.value.sent_at <= datetime.now(UTC)
    assert api.carried_out(TO) == 1


async def test_what_was_refused_is_told_again_unless_asked(api: Sandbox, mms: AsyncMMSClient) -> None:
    api.faults.add(Reject("RECIPIENTS_ERROR", "none"), call="send-sms", times=1)
    for _ in range(2):
        with pytest.raises(RecipientsError):
            await send(mms)
    assert (await send(mms, retry_refused=True)).accepted == 1
    assert api.carried_out(TO) == 1


async def test_what_is_heard_of_it_settles_it_unless_that_is_of_an_mms(api: Sandbox, mms: AsyncMMSClient) -> None:
    api.faults.add(Reset(carried_out=True), times=2)
    with pytest.raises(OutcomeUnknownError):
        await send(mms)
    other = "+61400000001"
    with pytest.raises(OutcomeUnknownError):
        await mms.send(to=other, text="Your order", image=PNG, key="picture")

    def report(kind: str, message_id: str, recipient: str) -> DeliveryReport:
        return DeliveryReport(
            message_id=message_id,
            status=DeliveryStatus.DELIVERED,
            recipient=recipient,
            custom_string=None,
            source=None,
            kind=kind,
        )

    await mms.ledger.record(report("MMS", "A", TO))
    await mms.ledger.record(report("SMS", "B", other))
    await mms.ledger.record(report("", "A", TO))  # it was told of which kind it is
    with pytest.raises(OutcomeUnknownError):
        await send(mms)
    with pytest.raises(OutcomeUnknownError):
        await mms.send(to=other, text="Your order", image=PNG, key="picture")
    reply = InboundMessage(
        id="1",
        sender=TO,
        text="Thanks",
        received_at=None,
        received_at_text="",
        kind="SMS",
        original_message_id="C",
        original_text="",
        custom_string=None,
    )
    await mms.ledger.record_reply(reply)
    await mms.ledger.record(report("", "D", other))
    proven = await send(mms)
    assert (proven.proven, proven.messages[0].id) == (True, "C")
    assert (await mms.send(to=other, text="Your order", image=PNG, key="picture")).messages[0].id == "D"
    assert (api.carried_out(TO), api.carried_out(other)) == (1, 1)


async def test_a_key_needs_a_ledger(api: Sandbox) -> None:
    async with api.client() as mms:
        with pytest.raises(ConfigurationError, match="ledger"):
            await send(mms)
    assert api.arrivals == []
