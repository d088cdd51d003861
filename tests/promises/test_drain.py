"""What was claimed and never left goes back to `pending`, and nobody waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from mmsclient import AsyncMMSClient, LimiterUnavailableError, NotSentError
from mmsclient._transport.session import Recall
from mmsclient.bulk import CampaignStoppedError, RecipientState, read_report
from mmsclient.limiter import NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, throttle
from tests.conftest import PNG, until
from tests.support.campaigns import campaign, finished, numbers

ACCEPTED, PENDING, UNKNOWN, SENDING = (
    RecipientState.ACCEPTED,
    RecipientState.PENDING,
    RecipientState.UNKNOWN,
    RecipientState.SENDING,
)


async def test_calls_that_wait_for_their_turn_are_taken_back(api: Sandbox, path: Path) -> None:
    """The limiter pauses for a minute after a 429: longer than a service manager waits."""
    async with api.client(rate=15) as mms:
        sending = campaign(mms, path, batch_size=10).send(numbers(3000))
        await anext(sending)
        api.faults.add(throttle(retry_after=60), call="send-mms", times=1)
        await until(lambda: mms.stats.throttled)
        async with asyncio.timeout(45):
            await sending.aclose()
        report = await read_report(path)
        assert report.counts[SENDING] == report.counts[UNKNOWN] == 0
        assert report.counts[ACCEPTED] == sum(len(send.recipients) for send in api.sends)
    await is_sent_once_to_all(api, path)


async def is_sent_once_to_all(api: Sandbox, path: Path) -> None:
    """Another client sends the rest."""
    api.faults.clear()
    async with api.client(limiter=NoLimit()) as mms:
        await finished(mms, path, numbers(3000))
    assert all(api.carried_out(number) == 1 for number in numbers(3000))


class Silent:
    """A limiter whose store is away: it answers once it is told to."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked = asyncio.Event()
        self.back = asyncio.Event()

    async def acquire(self) -> object:
        if self.is_away:
            self.asked.set()
            await self.back.wait()
            raise LimiterUnavailableError("the store is away")
        return await NoLimit().acquire()


@pytest.mark.parametrize("taken_back", [True, False])
async def test_a_claim_that_got_no_token_is_pending(api: Sandbox, path: Path, taken_back: bool) -> None:
    limiter = Silent()
    async with api.client(limiter=limiter) as mms:
        sending = campaign(mms, path, batch_size=10).send(numbers(3000))
        await anext(sending)
        limiter.is_away = True
        await limiter.asked.wait()
        assert (await read_report(path)).counts[SENDING]
        if not taken_back:
            limiter.back.set()
        await sending.aclose()
    report = await read_report(path)
    assert report.counts[SENDING] == report.counts[UNKNOWN] == 0
    accepted = sum(len(send.recipients) for send in api.sends)
    assert report.counts[ACCEPTED] == accepted
    if taken_back:
        assert report.counts[PENDING] == 3000 - accepted
        assert report.calls == len(api.sends)  # those that never left count for nothing
        await is_sent_once_to_all(api, path)


async def test_what_has_left_is_waited_for(api: Sandbox, path: Path) -> None:
    api.faults.add(Latency(0.5, carried_out=True), call="send-mms")
    async with api.client(limiter=NoLimit()) as mms:
        sending = campaign(mms, path, batch_size=10).send(numbers(100))
        receiving = asyncio.create_task(anext(sending))
        await until(lambda: api.sends)
        sending.stop()
        assert (await receiving).accepted == 10
        with pytest.raises(StopAsyncIteration):
            await anext(sending)
    assert (await read_report(path)).counts == {**dict.fromkeys(RecipientState, 0), ACCEPTED: 10, PENDING: 90}


@pytest.mark.usefixtures("impatient")
async def test_a_pool_that_its_owner_has_closed_leaves_nobody_unknown(api: Sandbox, path: Path) -> None:
    async with httpx.AsyncClient() as pool:
        async with AsyncMMSClient(api.app_key, base_url=api.url, http_client=pool, limiter=NoLimit()) as mms:
            sending = campaign(mms, path, batch_size=10).send(numbers(3000))
            await anext(sending)
            await pool.aclose()
            with pytest.raises(NotSentError, match=r"the HTTP client is closed .*; nothing was sent"):
                await mms.send(to="+61400000000", text="Hi", image=PNG)
            with pytest.raises(CampaignStoppedError):
                async for _ in sending:
                    pass
        report = await read_report(path)
        sent = sum(len(send.recipients) for send in api.sends)
        assert report.counts[ACCEPTED] + report.counts[UNKNOWN] == sent  # torn on the wire, or accepted
    await is_sent_once_to_all(api, path)


async def test_a_view_that_is_recalled_sends_nothing_more_and_its_client_does(api: Sandbox) -> None:
    async with api.client(limiter=NoLimit()) as mms:
        recall = Recall()
        view = mms.with_options(recall=recall)
        await view.send(to="+61400000000", text="Hi", image=PNG)
        recall.all("enough")
        with pytest.raises(NotSentError, match="enough; nothing was sent"):
            await view.send(to="+61400000001", text="Hi", image=PNG)
        await mms.send(to="+61400000002", text="Hi", image=PNG)
    assert [send.recipients for send in api.sends] == [("+61400000000",), ("+61400000002",)]
