"""The client's calls of SMS against the sandbox, over TLS, on both HTTP libraries."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from mmsclient import (
    AsyncMMSClient,
    ConflictError,
    FieldInvalidError,
    InsufficientCreditError,
    InvalidRequestError,
    NotSentError,
    OutcomeUnknownError,
    RecipientsError,
)
from mmsclient.observe.events import CallEnded, Outcome
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Fault, Latency, Reset, Respond, server_error, throttle
from mmsclient.sms import SMS, TemplateRecipient
from tests.conftest import Connect, until

ONE, TWO = "+61400000000", "+61400000001"

Send = Callable[[AsyncMMSClient, str], Any]
SENDS: dict[str, Send] = {
    "send-sms": lambda mms, template: mms.send_sms(to=ONE, text="Hello"),
    "bulk-send-sms": lambda mms, template: mms.send_sms_many([SMS(to=ONE, text="Hello")]),
    "send-sms-template": lambda mms, template: mms.send_sms_template(template_id=template, to=[ONE]),
    "send-sms-nz": lambda mms, template: mms.send_sms_nz(to=ONE, text="Hello", sender="2424"),
    "register-alpha-id": lambda mms, template: mms.register_alpha_id("SHOP", description="ours"),
}
"""Each call that must not be carried out twice, and how it is made."""


@pytest.mark.parametrize("dialect", ["meta", "error"])
async def test_send_sms(connect: Connect, sandbox: Sandbox, dialect: Any) -> None:
    sandbox.settings.dialect = dialect
    mms = connect()
    sent = await mms.send_sms(
        to=[ONE, "0400 000 001", "61400000000"],
        text="Hello\nthere",
        sender="SHOP",
        custom_string="order-17",
        source="x",
    )
    assert (sent.accepted, sent.total, sent.refused, sent.duplicates) == (2, 2, (), ("61400000000",))
    assert sent.credits_used == Decimal("2.66")
    assert [(each.to, each.text, each.sender, each.custom_string) for each in sent.messages] == [
        (ONE, "Hello\nthere", "SHOP", "order-17"),
        (TWO, "Hello\nthere", "SHOP", "order-17"),
    ]
    assert [each.id for each in sent.messages] == [each.id for each in sandbox.sms.messages]
    assert await mms.wait_delivered(sent, timeout=60) == {ONE: "Delivered", TWO: "Delivered"}
    (status, account) = await asyncio.gather(mms.message(sent.messages[0].id), mms.account())
    assert status is not None
    assert (status.to, status.text) == (ONE, "Hello\nthere")
    assert account.sms_balance == Decimal("999997.34")
    assert sandbox.errors == []


async def test_the_other_calls_that_send(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect()
    template = sandbox.add_template("Sale", "Sale on now")
    people: list[TemplateRecipient | str] = [TemplateRecipient(number=ONE, first_name="Ann"), TWO]
    sent = await mms.send_sms_template(template_id=template.id, to=people, delay=5)
    assert (sent.accepted, sent.messages[0].text, sandbox.carried_out(ONE)) == (2, "Sale on now", 0)
    nz = await mms.send_sms_nz(to="+6421234567", text="Hello", sender="2424")
    assert (nz.accepted, nz.messages[0].sender) == (1, "2424")
    registered = await mms.register_alpha_id("SHOP", description="ours")
    assert "registered" in registered.description
    with pytest.raises(ConflictError):
        await mms.register_alpha_id("SHOP", description="ours")
    at = datetime.now(UTC) + timedelta(hours=3)
    await mms.send_sms(to=ONE, text="Later", schedule_at=at)
    assert abs(sandbox.sms.sends[-1].sent_at - at) <= timedelta(seconds=2)


async def test_each_of_several_texts_has_its_own_outcome(
    connect: Connect, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Any] = []
    mms = connect(observer=events.append)
    texts = [
        SMS(to=[ONE, TWO], text="one"),
        SMS(to="+61400009901", text="two"),
        SMS(to="+61400009903", text="three"),
        SMS(to=[ONE, "+61400009901"], text="four", sender="SHOP", custom_string="b", source="s"),
    ]
    sent = await mms.send_sms_many(texts)
    assert [type(each.error) for each in sent] == [type(None), RecipientsError, InsufficientCreditError, type(None)]
    assert [each.sent.accepted if each.sent else None for each in sent] == [2, None, None, 1]
    assert (sent.accepted, str(sent)) == (3, "2 of 4 messages sent, 2 refused, 0 unknown")
    assert [send.text for send in sandbox.sms.sends] == ["one", "four"]
    assert str(sent) in caplog.text
    assert "1 of 2 recipients accepted" in caplog.text
    assert "400000000" not in caplog.text
    (ended,) = [event for event in events if isinstance(event, CallEnded)]
    assert (ended.recipients, ended.accepted, ended.outcome) == (6, 3, Outcome.ACCEPTED)
    assert len(ended.message_ids) == 3


async def test_a_text_that_the_answer_leaves_out_is_unknown_and_not_sent_again(
    connect: Connect, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Any] = []
    mms = connect(observer=events.append)
    data = {"messages": [{"message_id": "1", "to": "61400000001", "body": "two"}], "success_number": 1}
    about_two = {"meta": {"code": 200, "status": "SUCCESS"}, "msg": "Queued", "data": data}
    stray = {"meta": {"code": 400, "status": "RECIPIENTS_ERROR"}, "msg": "no", "data": []}
    body = json.dumps([stray, stray, about_two]).encode()
    sandbox.faults.add(Respond(200, body, carried_out=True), call="bulk-send-sms", times=1)
    sent = await mms.send_sms_many([SMS(to=ONE, text="one"), SMS(to=TWO, text="two")])
    assert [each.is_unknown for each in sent] == [True, False]
    assert sent.unknown[0].sms.text == "one"
    assert (sandbox.carried_out(ONE), sandbox.carried_out(TWO)) == (1, 1)
    assert "1 of 2 messages sent, 0 refused, 1 unknown" in caplog.text
    assert "2 of its 3 answers cannot be matched to a message" in caplog.text
    assert [event.outcome for event in events if isinstance(event, CallEnded)] == [Outcome.UNKNOWN]


UNSURE: tuple[Fault, ...] = (
    server_error(),
    CutConnection(),
    Reset(carried_out=True),
    Respond(502, b"<html>", carried_out=True),
)


@pytest.mark.parametrize("call", SENDS)
async def test_what_may_have_been_carried_out_is_not_repeated(sandbox: Sandbox, call: str) -> None:
    async with sandbox.client(rate=None) as mms:
        for fault in UNSURE:
            sandbox.reset()
            template = sandbox.add_template("Sale", "Sale on now")
            sandbox.faults.add(fault, call=call)
            with pytest.raises(OutcomeUnknownError, match=call):
                await SENDS[call](mms, template.id)
            assert sandbox.calls[call] == 1
            assert sandbox.carried_out(ONE) + len(sandbox.sender_ids) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", SENDS)
async def test_what_was_throttled_is_repeated_and_carried_out_once(
    connect: Connect, sandbox: Sandbox, call: str
) -> None:
    sandbox.faults.add(throttle(), call=call, times=1)
    sandbox.faults.add(throttle(status=200), call=call, times=1)
    template = sandbox.add_template("Sale", "Sale on now")
    await SENDS[call](connect(), template.id)
    assert sandbox.calls[call] == 3
    assert sandbox.carried_out(ONE) + len(sandbox.sender_ids) == 1


async def test_what_never_left_says_so(sandbox: Sandbox) -> None:
    async with sandbox.client(rate=None, max_attempts=1) as mms:
        with sandbox.refusing():
            for send in SENDS.values():
                with pytest.raises(NotSentError):
                    await send(mms, "1")
        assert mms.stats.attempts == 0
    assert sandbox.arrivals == []


async def test_a_wrong_argument_sends_nothing_and_a_refusal_is_typed(sandbox: Sandbox) -> None:
    async with sandbox.client(rate=None) as mms:
        for wrong in (
            mms.send_sms(to=ONE, text="x" * 919),
            mms.send_sms(to=ONE, text="Hi", sender="?"),
            mms.send_sms_many([]),
            mms.send_sms_template(template_id="", to=[ONE]),
            mms.send_sms_nz(to=ONE, text="Hi", sender="24"),
            mms.register_alpha_id("?", description="ours"),
        ):
            with pytest.raises(InvalidRequestError):
                await wrong
        assert sandbox.arrivals == []
        sandbox.settings.senders = "registered"
        with pytest.raises(FieldInvalidError, match="BAD_CALLER_ID"):
            await mms.send_sms(to=ONE, text="Hi", sender="SHOP")
        with pytest.raises(RecipientsError):
            await mms.send_sms(to="+61400009901", text="Hi")


async def test_replies_to_sms_are_read_and_taken(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect()
    sandbox.add_reply(text="to an MMS")
    sent = await mms.send_sms(to=["+61400009921", "+61400009922"], text="Hello", custom_string="order-17")
    await until(lambda: len(sandbox.unread) == 3)
    listed = [reply async for reply in mms.replies(kind="sms")]
    assert [(reply.text, reply.custom_string, reply.is_opt_out) for reply in listed] == [
        ("Yes please", "order-17", False),
        ("STOP", "order-17", True),
    ]
    assert {reply.original_message_id for reply in listed} == {each.id for each in sent.messages}
    async with aclosing(mms.take_replies(kind="sms")) as taking:
        taken = [reply.id async for reply in taking]
    assert taken == [reply.id for reply in listed]
    assert [reply.text for reply in sandbox.unread] == ["to an MMS"]
    assert [opt_out.number async for opt_out in mms.opt_outs()] == ["+61400009922"]


async def test_the_end_of_an_abandoned_call_is_told(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with sandbox.client(rate=None) as mms:
        sandbox.faults.add(Latency(0.2, carried_out=True), call="bulk-send-sms")
        sending = asyncio.create_task(mms.send_sms_many([SMS(to=ONE, text="one")]))
        await until(lambda: sandbox.carried_out(ONE))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert "bulk-send-sms: its caller was cancelled after it had left; 1 of 1 message sent" in caplog.text
