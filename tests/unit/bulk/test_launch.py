"""Before the first call: the account, the credit, and a summary of what is to come."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import mmsclient
from mmsclient import AsyncMMSClient, MMSError
from mmsclient.bulk import (
    BalanceTooLowError,
    BudgetReachedError,
    CampaignStoppedError,
    DeliveryTestError,
    DeliveryTestFlaw,
    RecipientState,
)
from mmsclient.bulk.brake import WINDOW, Brake
from mmsclient.limiter import TokenBucket
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Fault, Latency, Reject, Respond, bad_gateway, redirect, throttle
from tests.conftest import until
from tests.support.campaigns import campaign, finished, numbers, success

ACCEPTED, PENDING, UNKNOWN = RecipientState.ACCEPTED, RecipientState.PENDING, RecipientState.UNKNOWN
PORTAL = Respond(200, b"<html>Please log in</html>", {"content-type": "text/html"})
POOR = success({"account_name": "x", "account_email": "x", "sms_balance": "0", "mms_balance": "20.5"})

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None) as mms:
        yield mms


# The account ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (PORTAL, mmsclient.TransportError),
        (redirect("https://portal.example/"), mmsclient.TransportError),
        (bad_gateway(), mmsclient.ServerError),
        (Reject("AUTH_FAILED"), mmsclient.AuthenticationError),
        (Reject("NOT_IMPLEMENTED"), mmsclient.UnknownCallError),
    ],
)
async def test_a_wrong_host_or_key_ends_it_with_nobody_unknown(
    api: Sandbox, mms: AsyncMMSClient, path: Path, fault: Fault, error: type[MMSError]
) -> None:
    api.faults.add(fault)
    with pytest.raises(CampaignStoppedError, match="stopped before its first call") as caught:
        await finished(mms, path, numbers(60))
    assert isinstance(caught.value.error, error)
    assert (caught.value.report.counts[PENDING], caught.value.report.calls) == (60, 0)
    assert api.calls["send-mms"] == 0
    with pytest.raises(error):
        await campaign(mms, path).preflight(numbers(60))
    api.faults.clear()
    assert (await finished(mms, path, numbers(60))).counts[ACCEPTED] == 60


async def test_without_that_call_a_portal_makes_people_unknown(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    api.faults.add(PORTAL)
    with pytest.raises(CampaignStoppedError) as caught:
        await finished(mms, path, numbers(100), check_account=False)
    assert caught.value.report.counts[UNKNOWN] > 0


async def test_a_refusal_of_that_call_alone_harms_nothing(
    api: Sandbox, mms: AsyncMMSClient, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, fault in enumerate((Reject("NO_ACCESS"), throttle())):
        api.faults.clear()
        api.faults.add(fault, call="account")
        assert (await finished(mms, None, numbers(10, 10 * number))).counts[ACCEPTED] == 10
        planned = await campaign(mms, None).preflight(numbers(10))
        assert planned.credits_available is None
        assert planned.notes[0].startswith("the account was not told: account: ")
    assert caplog.text.count("the account was not checked: account: ") == 2


async def test_the_log_quotes_nothing_of_an_account_that_cannot_be_read(
    api: Sandbox, mms: AsyncMMSClient, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.add(PORTAL, call="account")
    await finished(mms, None, numbers(10), check_account=False, check_balance=True)
    assert "the balance was not noted: account" in caplog.text
    assert "log in" not in caplog.text


async def test_who_stops_it_during_that_call_does_not_wait_for_the_answer(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    api.faults.add(Latency(60), call="account")
    async with campaign(mms, path) as spring:
        sending = spring.send(numbers(30))
        task = asyncio.ensure_future(anext(sending))
        await until(lambda: mms.stats.in_flight)
        sending.stop()
        with pytest.raises(StopAsyncIteration):
            await task
    assert not api.messages


# The credit -----------------------------------------------------------------------------------------------------------


async def test_a_balance_that_is_too_small_is_told_of_or_stops_it(
    api: Sandbox, mms: AsyncMMSClient, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.add(POOR, call="account")
    with pytest.raises(CampaignStoppedError) as caught:
        await finished(mms, path, numbers(30), require_credit=True)
    error = caught.value.error
    assert isinstance(error, BalanceTooLowError)
    assert (error.needed, error.balance) == (Decimal(30), Decimal("20.5"))
    assert not api.messages
    assert (await finished(mms, path, numbers(30), max_credits=30)).counts[ACCEPTED] == 30
    assert "the account has 20.5 credits, and the campaign needs about 30" in caplog.text
    caplog.clear()
    await finished(mms, None, numbers(30, 50), require_credit=True, credits_per_message=0.5)
    with pytest.raises(CampaignStoppedError, match="max_credits: 20 of 20 credits"):
        await finished(mms, None, numbers(30, 90), require_credit=True, max_credits=20)
    assert "the campaign needs about" not in caplog.text


async def test_a_balance_that_is_not_told_stops_who_requires_it(api: Sandbox, mms: AsyncMMSClient) -> None:
    api.faults.add(Reject("NO_ACCESS"), call="account")
    with pytest.raises(CampaignStoppedError, match="does not tell its balance"):
        await finished(mms, None, numbers(3), require_credit=True)
    assert not api.messages


# The summary ----------------------------------------------------------------------------------------------------------


async def test_the_summary_of_what_is_to_come(api: Sandbox, place: tuple[str, str]) -> None:
    journal, name = place
    async with api.client(limiter=TokenBucket(rate=15)) as mms:
        options: dict[str, Any] = {"name": name or None, "test": "+61400009999"}
        spring = campaign(mms, journal, max_credits=40, **options)  # type: ignore[arg-type]
        planned = await spring.preflight([*numbers(60), "nonsense"])
        assert (planned.recipients, planned.tests, planned.calls) == (61, 1, 4)
        assert planned.seconds == pytest.approx(4 / 15)
        assert (planned.credits_needed, planned.credits_available) == (Decimal(61), Decimal(1000000))
        assert (planned.credits_left, planned.warning) == (Decimal(40), None)
        assert planned.server in api.url
        assert planned.report.counts[RecipientState.EXCLUDED] == 1
        assert planned.notes == (
            "max_credits leaves 40 credits: it stops after about 40 recipients",
            "nobody asks who has unsubscribed (exclude_opt_outs, suppress)",
            "1 row of the list cannot be read as a phone number",
        )
        assert str(planned).startswith(
            "61 recipients in 4 calls, 0 s at the least; 61 of 1000000.00 credits; max_credits"
        )
        assert not api.messages
        with pytest.raises(CampaignStoppedError):
            await campaign(mms, journal, max_credits=25, name=name or None).send_all(numbers(60))  # type: ignore[arg-type]
        api.faults.add(POOR, call="account")
        planned = await spring.preflight(numbers(60))
        assert (planned.recipients, planned.credits_left) == (36, Decimal(15))
        assert planned.notes[0] == "an answer has told that a message costs 1 credit"
        assert planned.warning is None
        planned = await campaign(mms, journal, **options).preflight(numbers(60))  # type: ignore[arg-type]
        assert planned.warning == "20.5 credits for 36 recipients: at 1 credit each it stops before the end"
        await spring.aclose()


# The slow start -------------------------------------------------------------------------------------------------------


async def test_the_slow_start_can_be_set_and_is_shown(
    api: Sandbox, mms: AsyncMMSClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mmsclient.bulk.capacity")
    api.faults.add(Reject("TOO_RUDE"), call="send-mms", times=1)  # no good answer
    sending = campaign(mms, None, batch_size=1, slow_start=4, stop_after=9).send(numbers(12))
    windows = [batch.progress.concurrency async for batch in sending]
    assert windows[:4] == [1] * 4
    assert windows[4] == WINDOW
    assert caplog.messages == [f"calls are answered: up to {WINDOW} may be under way now, and more as the cap needs"]
    one_by_one = campaign(mms, None, batch_size=1, max_concurrency=1).send(numbers(5, 50))
    assert {batch.progress.concurrency async for batch in one_by_one} == {1}


def test_without_a_slow_start_several_go_at_once() -> None:
    brake = Brake(slow_start=0, most=2)
    for batch in range(2):
        assert brake.allows(0.0, waiting=0)
        brake.start(batch)
    assert not brake.allows(0.0, waiting=0)
    brake.lose(0)
    assert brake.window == 1
    brake.answer(1, 0.1, rate=1000)
    assert brake.window == 2


@pytest.mark.parametrize(
    "error",
    [
        BudgetReachedError(Decimal(10), Decimal("9.5"), Decimal(1)),
        BalanceTooLowError(Decimal(10), None),
        DeliveryTestError(DeliveryTestFlaw.NO_REPORT, ()),
    ],
)
def test_the_errors_survive_a_pickle(error: MMSError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert "\n" not in str(error)


async def test_required_credit_counts_the_test_numbers_too(api: Sandbox) -> None:
    async def yes(_: object) -> bool:
        return True

    api.faults.add(POOR, call="account")
    async with api.client(rate=None) as mms:
        tests = ["+61400009999", "+61400009998"]
        with pytest.raises(CampaignStoppedError) as caught:
            await finished(mms, None, numbers(20), test=tests, approve_test=yes, require_credit=True)
    assert isinstance(caught.value.error, BalanceTooLowError)
    assert caught.value.error.needed == 22
    assert not api.sends
