"""Campaigns of SMS: everything that a campaign of MMS has, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mmsclient import AsyncMMSClient, InvalidRequestError
from mmsclient.bulk import (
    BudgetReachedError,
    Campaign,
    CampaignStoppedError,
    DeliveryTestError,
    Exclusion,
    JournalMismatchError,
    RecipientState,
    SuppressionList,
    Template,
    read_report,
    resume,
)
from mmsclient.models import DeliveryReport, DeliveryStatus
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, Reset, throttle
from tests.conftest import PNG
from tests.support.campaigns import agrees, finished, numbers, rows

pytestmark = pytest.mark.usefixtures("impatient")

ACCEPTED, EXCLUDED, PENDING, REFUSED, UNKNOWN = (
    RecipientState.ACCEPTED,
    RecipientState.EXCLUDED,
    RecipientState.PENDING,
    RecipientState.REFUSED,
    RecipientState.UNKNOWN,
)


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, timeout=30) as mms:
        yield mms


def campaign(mms: AsyncMMSClient, place: tuple[str, str] | None, **options: Any) -> Campaign:
    given = {} if place is None else {"journal": place[0], "name": place[1] or None}
    return mms.campaign(**{"kind": "sms", "text": "Sale\non now", "batch_size": 25, **given, **options})


async def stopped(campaign: Campaign, listed: Any) -> CampaignStoppedError:
    with pytest.raises(CampaignStoppedError) as caught:
        await campaign.send_all(listed)
    return caught.value


async def test_it_goes_out_as_it_is_to_everybody_once(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    api.faults.add(throttle(), call="send-sms", times=2)
    listed, options = numbers(60), {"sender": "61400000999", "source": "shop", "custom_string": "spring-1"}
    report = await campaign(mms, place, opt_out_line="Reply STOP to opt out", **options).send_all(listed)
    assert (report.kind, report.counts[ACCEPTED], report.credits_used) == ("sms", 60, Decimal(60))
    await agrees(report, api, listed)
    sends = api.sms.sends
    assert sorted(len(send.recipients) for send in sends) == [10, 25, 25]
    assert {(send.text, send.sender, send.source, send.custom_string) for send in sends} == {
        ("Sale\non now\nReply STOP to opt out", "61400000999", "shop", "spring-1")
    }
    assert api.mms.sends == []
    assert all(row.message_id for row in await rows(report))


async def test_it_is_resumed_from_its_journal_alone(api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    journal, name = place
    text = Template("Hi {name}", defaults={"name": "you"})
    listed = [{"to": number, "name": f"N{n % 3}" if n % 4 else ""} for n, number in enumerate(numbers(40))]
    first = campaign(mms, place, text=text, sender="SHOP", source="shop")
    async for _ in first.send(listed):
        break
    assert 0 < (await first.report()).counts[ACCEPTED] < 40
    again = await resume(mms, journal, name=name or None)
    report = await again.send_all()
    assert report.counts[ACCEPTED] == 40
    assert {(send.sender, send.source) for send in api.sms.sends} == {("SHOP", "shop")}
    got = {number: send.text for send in api.sms.sends for number in send.recipients}
    assert got == {str(row["to"]): f"Hi {row['name'] or 'you'}" for row in listed}
    assert report.credits_used == api.sms.credits_used


async def test_a_journal_of_one_kind_is_not_opened_as_the_other(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    journal, name = place
    await campaign(mms, place, text="Sale").send_all(numbers(1))
    as_mms = {"kind": "mms", "text": "Sale", "image": PNG}
    with pytest.raises(JournalMismatchError, match=r"kind 'sms', and this one is of kind 'mms'; use a(nother| new)"):
        await campaign(mms, place, **as_mms).send_all(numbers(2))
    with pytest.raises(JournalMismatchError, match="another sender, source or custom_string"):
        await campaign(mms, place, text="Sale", sender="SHOP").preflight(numbers(2))
    other = (journal, "autumn") if name else (f"{journal}-2", "")
    await campaign(mms, other, **as_mms).send_all(numbers(1))
    with pytest.raises(JournalMismatchError, match="kind 'mms', and this one is of kind 'sms'"):
        await campaign(mms, other, text="Sale").dry_run(numbers(2))
    assert api.carried_out(numbers(1)[0]) == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"image": PNG}, "image: expected nothing: a campaign of kind='sms' sends a text alone"),
        ({"subject": "Sale"}, "subject: expected nothing: a campaign of kind='sms'"),
        ({"fit": True}, "fit: expected nothing: a campaign of kind='sms'"),
        ({"kind": "fax"}, "kind: expected 'mms' or 'sms'"),
        ({"sender": "far too long for one"}, "sender: expected a number of at most 16 digits"),
        ({"custom_string": "a b"}, "custom_string: expected letters, digits and dashes"),
        ({"source": "a\nb"}, "source: expected one line"),
        ({"kind": "mms", "image": PNG, "sender": "SHOP"}, "sender: expected nothing beside kind='mms'"),
        ({"kind": "mms"}, "image: expected a picture"),
    ],
)
async def test_an_option_of_the_other_kind_is_told_before_anything_is_sent(
    api: Sandbox, mms: AsyncMMSClient, options: Any, problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{problem}"):
        campaign(mms, None, **options)
    assert api.arrivals == []


async def test_a_text_that_is_too_long_is_told_and_nobody_gets_it(api: Sandbox, mms: AsyncMMSClient) -> None:
    with pytest.raises(InvalidRequestError, match="at most 402 characters"):
        await campaign(mms, None, text="é" + "ч" * 402).send_all(numbers(2))
    listed = [{"to": number, "name": name} for number, name in zip(numbers(2), ["Ann", "x" * 918], strict=True)]
    report = await campaign(mms, None, text=Template("Hi {name}")).send_all(listed)
    assert (report.counts[ACCEPTED], report.exclusions[Exclusion.NO_MESSAGE]) == (1, 1)
    assert len(api.sms.sends) == 1


# Credits --------------------------------------------------------------------------------------------------------------


async def test_the_plan_counts_parts_and_the_balance_of_sms(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    api.sms.balance = Decimal(30)
    plain = await campaign(mms, None, text="x" * 161, sender="SHOP").preflight(numbers(20))
    assert (plain.kind, plain.calls, plain.credits_needed) == ("sms", 1, 20 * Decimal("2.67"))
    assert (plain.credits_available, plain.credits_per_message) == (Decimal(30), Decimal(1))
    assert plain.warning == "30.00 credits for 20 recipients: at 2.67 credits each it stops before the end"
    listed = [{"to": number, "more": "x" * 160 * (n % 2)} for n, number in enumerate(numbers(20))]
    own = campaign(mms, place, text=Template("Hi {more}", defaults={"more": "!"}), max_credits=29)
    planned = await own.preflight(listed)
    assert (planned.credits_needed, planned.calls) == (Decimal(10 + 20), 2)
    assert planned.warning is None
    assert any("max_credits leaves 29 credits: it stops after about 14 recipients" in each for each in planned.notes)
    refused = await stopped(campaign(mms, None, text="x" * 161, require_credit=True), numbers(20))
    assert str(refused.error) == "the account has 30.00 credits, and the campaign needs about 40; top up the account"
    assert api.sms.sends == []


async def test_a_budget_counts_parts_over_all_runs(api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    listed = [{"to": number, "more": "x" * 160 * (n % 3)} for n, number in enumerate(numbers(30))]
    text = Template("Hi {more}", defaults={"more": "!"})
    for limit in (20, 20, 41):
        error = await stopped(campaign(mms, place, text=text, max_credits=limit, batch_size=4), listed)
        assert isinstance(error.error, BudgetReachedError)
        assert limit - 3 < error.report.credits_used <= limit
        assert error.error.credits_per_message == 3
    report = await campaign(mms, place, text=text, max_credits=60, batch_size=4).send_all(listed)
    assert (report.counts[ACCEPTED], report.credits_used) == (30, Decimal(10 + 20 + 30))
    await agrees(report, api, numbers(30))


async def test_an_unknown_call_costs_its_parts_for_good(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    api.faults.add(Reset(carried_out=True), call="send-sms", times=1)
    options = {"text": "x" * 161, "batch_size": 10}
    error = await stopped(campaign(mms, place, max_credits=30, **options), numbers(30))
    assert (error.report.counts[UNKNOWN], error.report.counts[ACCEPTED]) == (10, 5)
    error = await stopped(campaign(mms, place, max_credits=40, resend_unknown=True, **options), numbers(30))
    assert sum(api.carried_out(each) for each in numbers(30)) <= 20


async def test_an_unknown_call_with_a_text_of_its_own_costs_its_parts_for_good(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    api.faults.add(Reset(carried_out=True), call="send-sms")
    row = {"to": numbers(1)[0], "more": "x" * 400}
    own = {"text": Template("{more}"), "resend_unknown": True, "stop_after": 1}
    for _ in range(6):  # of three parts each, of which the budget has room for four
        await stopped(campaign(mms, place, max_credits=12, **own), [row])
    assert len(api.sms.sends) == 4


# What else a campaign has ---------------------------------------------------------------------------------------------


async def test_the_suppressed_the_wrong_and_the_refused(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], path: Path
) -> None:
    one, two, three = numbers(3)
    async with SuppressionList(path.parent / "suppressed.db") as suppressed:
        await suppressed.add(one, "asked")
        report = await campaign(mms, place, suppress=suppressed).send_all([one, two, three, "nonsense", two])
    assert (report.counts[ACCEPTED], report.counts[EXCLUDED]) == (2, 3)
    assert api.carried_out(one) == 0


async def test_refusals_that_every_call_would_meet_leave_everybody_pending(api: Sandbox, mms: AsyncMMSClient) -> None:
    for code, description in (
        ("BAD_CALLER_ID", "SHOP is not registered."),
        ("FIELD_INVALID", "The field sms_text is invalid: no."),
        ("FIELD_INVALID", "The field from is invalid: no."),
    ):
        api.faults.add(Reject(code, description), call="send-sms", times=1)
        error = await stopped(campaign(mms, None), numbers(50))
        assert error.report.counts[PENDING] == 50
    api.faults.add(Reject("RECIPIENTS_ERROR", "none"), call="send-sms", times=1)
    report = await campaign(mms, None).send_all(numbers(25))
    assert report.counts[REFUSED] == 25


async def test_the_test_numbers_go_first(api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    (first,) = numbers(1, start=900)
    asked = campaign(mms, place, test=[first], test_timeout=timedelta(0))
    error = await stopped(asked, numbers(10))
    assert isinstance(error.error, DeliveryTestError)
    (message,) = api.sms.messages
    delivered = DeliveryStatus.DELIVERED
    await asked.record(
        DeliveryReport(message_id=message.id, status=delivered, recipient=first, custom_string=None, source=None)
    )
    report = await asked.send_all(numbers(10))
    assert report.counts[ACCEPTED] == 11
    assert report.deliveries == {delivered: 1}


async def test_the_unknown_are_sent_to_again_only_when_asked(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    api.faults.add(Reset(carried_out=False), call="send-sms", times=1)
    first = await campaign(mms, place).send_all(numbers(25))
    assert first.counts[UNKNOWN] == 25
    assert (await campaign(mms, place).send_all(numbers(25))).counts[UNKNOWN] == 25
    again = await campaign(mms, place, resend_unknown=True).send_all()
    assert again.counts[ACCEPTED] == 25
    assert (await read_report(place[0], place[1] or None)).counts[ACCEPTED] == 25
    await agrees(again, api, numbers(25))


async def test_a_small_list_needs_no_journal(api: Sandbox, mms: AsyncMMSClient) -> None:
    report = await mms.send_bulk(numbers(3), kind="sms", text="Sale")
    assert (report.kind, report.counts[ACCEPTED]) == ("sms", 3)
    assert (await finished(mms, None, numbers(2))).kind == "mms"
