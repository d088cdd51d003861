"""Events as lines of a log."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from mmsclient.observe import (
    CallEnded,
    CallStarted,
    CampaignEnded,
    CampaignRef,
    EventStarted,
    LimiterAway,
    RateChanged,
)
from mmsclient.observe.logs import LogObserver
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Respond
from tests.conftest import PNG, Connect
from tests.support.campaigns import TEXT, finished, numbers
from tests.support.observing import Told

ONE = "+61400000000"


async def test_a_call_is_one_line_at_info_and_its_steps_have_its_id(
    connect: Connect, sandbox: Sandbox, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mmsclient.observe.logs")
    told = Told()
    mms = connect(observer=[told, LogObserver()])
    sandbox.faults.add(Respond(429, headers={"retry-after": "0"}), times=1)
    sent = await mms.send(to=ONE, text=TEXT, image=PNG)
    records = [record for record in caplog.records if record.name == "mmsclient.observe.logs"]
    call = told.one(CallStarted).call
    assert all(f" call={call} " in f"{record.getMessage()} " for record in records if "call" in record.getMessage())
    (line,) = [record.getMessage() for record in records if record.levelno == logging.INFO]
    assert line.startswith(f"event=call_ended call={call} name=send-mms outcome=accepted attempts=2 recipients=1 ")
    assert f" message_id={sent.messages[0].id}" in line
    assert " is_abandoned=false" in line
    assert "error=" not in line
    assert [record.getMessage().split()[0] for record in records if record.levelno == logging.DEBUG] == [
        "event=call_started",
        "event=attempt_started",
        "event=call_waited",
        "event=call_throttled",
        "event=attempt_ended",
        "event=call_retried",
        "event=attempt_started",
        "event=call_waited",
        "event=attempt_ended",
    ]
    assert any(record.levelno == logging.WARNING for record in records) is bool(told.of(RateChanged))


async def test_a_campaign_in_json(api: Sandbox, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shop")
    told = Told()
    async with api.client(rate=None, observer=[told, LogObserver(logging.getLogger("shop"), json=True)]) as mms:
        await finished(mms, path, numbers(50))
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "shop"]
    told_once = ["campaign_started", "call_ended", "campaign_ended"]  # the call is `account`
    assert [line["event"] for line in lines if "batch" not in line] == told_once
    ended = lines[-1]
    assert ended["campaign"] == told.one(CampaignEnded).campaign.id
    assert (ended["campaign_name"], ended["counts_accepted"]) == ("spring.db", 50)
    calls = [line for line in lines if line["event"] == "call_ended" and line["name"] == "send-mms"]
    assert [line["campaign"] for line in calls] == [ended["campaign"]] * 2
    assert {line["message_ids"] for line in calls} == {25}
    sends = [event.call for event in told.of(CallEnded) if event.name == "send-mms"]
    assert sorted(line["call"] for line in calls) == sorted(sends)
    assert not [each for each in numbers(50) if each in caplog.text]


def test_what_is_no_word_is_quoted_and_an_outage_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    observer = LogObserver()
    observer(
        CampaignEnded(campaign=CampaignRef("1a", 'the "spring"\nsale'), counts={}, calls=0, seconds=1.5, error=None)
    )
    observer(LimiterAway(error="TimeoutError", shares=True))
    first, second = caplog.records
    expected = r'event=campaign_ended campaign=1a campaign_name="the \"spring\"\nsale" calls=0 seconds=1.5'
    assert first.getMessage() == expected
    assert (second.getMessage(), second.levelname) == ("event=limiter_away error=TimeoutError shares=true", "WARNING")


def test_a_line_about_an_event_of_a_callback_begins_with_its_kind_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    LogObserver()(EventStarted(callback="6c236f-1", kind="delivery_report", event="6c236f-1.1", message_id="A1"))
    (line,) = caplog.messages
    assert line == "event=event_started callback=6c236f-1 kind=delivery_report event_id=6c236f-1.1 message_id=A1"


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
async def test_what_was_sent_is_remembered_where_lines_tell_of_it(
    connect: Connect, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    """Those at DEBUG have the call: at any other level nothing is kept for them."""
    caplog.set_level(level, "mmsclient.observe.logs")
    told, observer = Told(), LogObserver()
    await connect(observer=[told, observer]).send(to=ONE, text="Hi", image=PNG)
    (message_id,) = told.one(CallEnded).message_ids
    caplog.set_level(logging.DEBUG, "mmsclient.observe.logs")
    caplog.clear()
    observer(EventStarted(callback="6c236f-1", kind="delivery_report", event="6c236f-1.1", message_id=message_id))
    (line,) = caplog.messages
    assert (f"call={told.one(CallEnded).call}" in line) is (level == logging.DEBUG)
