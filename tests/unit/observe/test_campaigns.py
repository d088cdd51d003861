"""What observers are told of campaigns adds up to their reports."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmsclient import AsyncMMSClient
from mmsclient.bulk import CampaignStoppedError, JournalError, RecipientState, Report
from mmsclient.observe import (
    BatchEnded,
    CallEnded,
    CampaignEnded,
    CampaignPaused,
    CampaignStarted,
    CampaignStopped,
    Outcome,
)
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Reject, Respond
from tests.support.campaigns import TEXT, campaign, finished, numbers
from tests.support.observing import Told


def adds_up(told: Told, report: Report) -> None:
    """The events of all runs of a campaign, beside what its journal says."""
    ended = told.of(CampaignEnded)
    assert [event.campaign.id for event in ended] == [event.campaign.id for event in told.of(CampaignStarted)]
    counts = {state.value: count for state, count in report.counts.items() if count}
    assert ended[-1].counts == counts
    batches: Counter[str] = Counter()
    for event in told.of(BatchEnded):
        batches.update(event.counts)
    for state in ("accepted", "refused", "unknown"):
        assert batches[state] == counts.get(state, 0), state
    calls = [event for event in told.of(CallEnded) if event.campaign is not None]
    assert sum(event.calls for event in ended) == len(calls)
    made = [event for event in calls if event.outcome is not Outcome.NOT_SENT]  # those were taken back
    assert len(made) == report.calls
    assert sum(event.accepted for event in made) == counts.get("accepted", 0)
    known = {(event.campaign.id, event.campaign.batch) for event in told.of(BatchEnded)}
    assert {(event.campaign.id, event.campaign.batch) for event in made if event.campaign} == known


async def test_the_events_of_a_whole_campaign_add_up_to_its_report(api: Sandbox, path: Path, impatient: None) -> None:
    told = Told()
    api.faults.add(Respond(429, headers={"retry-after": "0"}), call="send-mms", times=2)
    api.faults.add(CutConnection(), call="send-mms", times=1, skip=4)
    async with api.client(rate=None, observer=told) as mms:
        report = await finished(mms, path, numbers(200), stop_after=100)
    assert report.counts[RecipientState.UNKNOWN] == 25
    assert len(told.of(CampaignPaused)) == 2
    assert {event.error for event in told.of(CampaignPaused)} == {"RateLimitError"}
    assert not told.of(CampaignStopped)
    adds_up(told, report)
    assert {event.campaign.name for event in told.of(BatchEnded)} == {"spring.db"}
    secrets = [*numbers(200), *(number[1:] for number in numbers(200)), TEXT, api.app_key, str(path.parent)]
    document = told.document()
    assert not [each for each in secrets if each in document]


async def test_a_stopped_campaign_and_its_resumption_are_two_runs(api: Sandbox, place: tuple[str, str]) -> None:
    told = Told()
    journal, name = place
    options: dict[str, Any] = {"name": name or None, "journal": journal, "batch_size": 10, "text": TEXT}
    async with api.client(rate=None, observer=told) as mms:
        sending = _campaign(mms, options).send(numbers(100))
        async for _ in sending:
            sending.stop()
        stopped = told.one(CampaignStopped)
        assert stopped.error is None
        assert told.one(CampaignEnded).error is None
        report = await _campaign(mms, options).send_all(numbers(100))
    assert report.counts[RecipientState.ACCEPTED] == 100
    first, second = told.of(CampaignStarted)
    assert first.campaign.id == stopped.campaign.id != second.campaign.id
    assert first.campaign.name == second.campaign.name == (name or "spring.db")
    adds_up(told, report)


def _campaign(mms: AsyncMMSClient, options: dict[str, Any]) -> Any:
    return mms.campaign(image=b"GIF89a" + bytes(100), **options)


async def test_what_stops_a_campaign_is_told_by_its_class(api: Sandbox) -> None:
    told = Told()
    api.faults.add(Reject("LEDGER_ERROR"), call="send-mms")
    async with api.client(rate=None, observer=told) as mms, campaign(mms, None) as refused:
        with pytest.raises(CampaignStoppedError) as caught:
            await refused.send_all(numbers(50))
    assert told.one(CampaignStopped).error == "InsufficientCreditError"
    assert told.one(CampaignEnded).error == "CampaignStoppedError"
    sends = [event for event in told.of(CallEnded) if event.name == "send-mms"]
    assert {event.outcome for event in sends} <= {Outcome.REFUSED, Outcome.NOT_SENT}
    adds_up(told, caught.value.report)


async def test_a_campaign_that_is_left_is_told_to_its_end(api: Sandbox, path: Path) -> None:
    told = Told()
    async with api.client(rate=20, observer=told) as mms:
        left = campaign(mms, path, batch_size=5)

        async def send() -> None:
            async for _ in left.send(numbers(500)):
                pass

        task = asyncio.create_task(send())
        while not told.of(BatchEnded):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        report = await left.report()
    assert report.counts[RecipientState.PENDING] > 0
    assert told.one(CampaignStopped).error is None
    adds_up(told, report)


async def test_a_campaign_without_a_journal_to_open_ends_as_well(api: Sandbox, tmp_path: Path) -> None:
    told = Told()
    async with api.client(rate=None, observer=told) as mms:
        with pytest.raises(JournalError):
            await finished(mms, tmp_path / "nowhere" / "spring.db", numbers(5))
    ended = told.one(CampaignEnded)
    assert (ended.counts, ended.calls) == ({}, 0)
    assert ended.error is not None
