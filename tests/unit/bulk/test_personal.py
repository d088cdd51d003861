"""Campaigns with a message for each: who gets which text, on both engines, whatever goes wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmsclient import AsyncMMSClient, InvalidRequestError
from mmsclient.bulk import (
    Campaign,
    CampaignStoppedError,
    Exclusion,
    JournalError,
    JournalMismatchError,
    RecipientState,
    SuppressionList,
    Template,
    read_csv,
    resume,
)
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.answers import invalid
from mmsclient.sandbox.faults import Reset, throttle
from tests.conftest import PNG
from tests.support.campaigns import numbers

pytestmark = pytest.mark.usefixtures("impatient")

HI = Template("Hi {name},\nit is {code}", defaults={"name": "there"})
NAMES = ("Ann", "", "Bob", None, "{name}")
Rows = Sequence[Mapping[str, object]]


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, timeout=30) as mms:
        yield mms


def listing(count: int, codes: int = 3) -> list[dict[str, object]]:
    return [
        {"to": number, "name": NAMES[place % len(NAMES)], "code": place % codes}
        for place, number in enumerate(numbers(count))
    ]


def expected(rows: Rows) -> dict[str, str]:
    return {str(row["to"]): f"Hi {row['name'] or 'there'},\r\nit is {row['code']}" for row in rows}


def received(api: Sandbox) -> dict[str, str]:
    """What each number got; nobody got two."""
    got = [(number, send.text) for send in api.sends for number in send.recipients]
    assert len(dict(got)) == len(got)
    return dict(got)


def spring(mms: AsyncMMSClient, place: tuple[str, str], **options: Any) -> Campaign:
    journal, name = place
    options = {"text": HI, "image": PNG, "batch_size": 4, **options}
    return mms.campaign(journal=journal, name=name or None, **options)


async def test_each_gets_its_own_and_equal_ones_share_a_call(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = listing(45)
    caplog.set_level(logging.INFO, "mmsclient.bulk")

    def generated() -> Iterator[Mapping[str, object]]:
        yield from rows
        assert not api.arrivals  # the whole list is read before the first call

    planned = await spring(mms, place).dry_run(rows)
    assert planned.plan is not None
    assert (planned.plan.recipients, planned.plan.messages, planned.plan.calls) == (45, 12, 15)
    first = [(sample.number, sample.text, sample.subject) for sample in planned.plan.samples]
    assert first == [(number, text, None) for number, text in list(expected(rows).items())[:3]]
    report = await spring(mms, place, subject=Template("For {CODE}")).send_all(generated())
    assert report.plan is None
    assert received(api) == expected(rows)
    assert {send.text.rpartition(" ")[2] == send.subject.removeprefix("For ") for send in api.sends} == {True}
    assert len(api.sends) == report.calls == 15
    assert "45 recipients, 12 different messages: 15 calls" in caplog.text
    assert not any(text in caplog.text for text in ("Hi", "+614"))


async def test_how_long_it_takes_at_the_cap_is_told_before(api: Sandbox) -> None:
    async with api.client(rate=15) as mms:
        planned = await mms.campaign(text=HI, image=PNG).dry_run(listing(45, codes=45))
        plain = await mms.campaign(text="Hi {name}", image=PNG, batch_size=10).dry_run(listing(45))
        slow = await mms.campaign(text=HI, image=PNG, recipients_per_minute=120).dry_run(listing(45))
    assert planned.plan is not None
    assert str(planned.plan) == "45 recipients, 45 different messages: 45 calls, which take 3 s at least"
    assert slow.plan is not None
    assert (slow.plan.calls, slow.plan.seconds) == (27, 22.5)
    assert plain.plan is not None
    assert (plain.plan.messages, plain.plan.calls, plain.plan.samples) == (1, 5, ())


async def test_rows_that_cannot_have_one_are_set_aside_and_the_rest_goes_on(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "list.csv"
    lines = ["Mobile,First Name,code,code ", "0400000000,Ann,x,y", "0400000001,,x,y", "12,Bob,x,y"]
    lines += [f"0400000002,{'x' * 998},x,y", "0400000003,Zoë,x,y", "0400000001,Cy,x,y", '0400000004,"D\nE",x,y']
    path.write_text("\n".join(lines), encoding="utf-8")
    text, subject = Template("Hi {first name}"), Template("{First Name}", defaults={"first name": "nobody"})
    report = await spring(mms, place, text=text, subject=subject).send_all(read_csv(path))
    assert received(api) == {"+61400000000": "Hi Ann", "+61400000003": "Hi Zoë", "+61400000001": "Hi Cy"}
    assert (report.counts[RecipientState.ACCEPTED], report.exclusions[Exclusion.NO_MESSAGE]) == (3, 3)
    aside = {row.line: (row.number, row.exclusion, row.reason) async for row in report.recipients("excluded")}
    assert aside[3] == ("0400000001", Exclusion.NO_MESSAGE, "first name: expected a value in its row, or a default")
    assert aside[4][1] is Exclusion.INVALID
    too_long = "text: expected at most 1000 characters, each new line counting two"
    assert aside[5] == ("0400000002", Exclusion.NO_MESSAGE, too_long)
    assert aside[8] == ("0400000004", Exclusion.NO_MESSAGE, "subject: expected one line of at most 40 characters")


@pytest.mark.parametrize(
    ("options", "rows", "problem"),
    [
        (
            {"text": Template("{firstname}")},
            [{"to": "0400000000", "name": "x"}],
            r"text: .* the list has: to, name, got .{f",
        ),
        (
            {"text": Template("{firstname}", defaults={"firstname": "x"})},
            [{"to": "0400000000"}],
            "text: expected fields",
        ),
        ({"subject": Template("{code}")}, [{"to": "0400000000", "name": "x"}], "subject: .* the list has: to, name"),
        ({"text": Template("{name}")}, numbers(3), "text: .* this one has numbers alone"),
    ],
)
async def test_a_field_that_the_list_does_not_have_is_told_before_anybody_is_taken_in(
    api: Sandbox, mms: AsyncMMSClient, options: dict[str, Any], rows: Any, problem: str
) -> None:
    campaign = mms.campaign(image=PNG, **{"text": "Hi", **options})
    with pytest.raises(InvalidRequestError, match=problem):
        await campaign.send_all(rows)
    assert (await campaign.report()).total == 0
    assert not api.arrivals


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"text": Template("{name}" + "x" * 1001)}, "text: expected at most 1000"),
        (
            {"text": Template("x" * 99 + "{name}"), "image": PNG + bytes(379_750)},
            "image: expected at most 3799.. bytes",
        ),
        ({"text": "Hi", "subject": Template("x" * 41 + "{name}")}, "subject: expected one line"),
    ],
)
async def test_a_template_that_is_too_long_whatever_is_filled_in_is_refused(
    api: Sandbox, mms: AsyncMMSClient, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        await mms.send_bulk([], **{"image": PNG, **options})
    assert not api.arrivals


async def test_a_campaign_goes_on_with_the_texts_that_it_has_made(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    rows = listing(60, codes=60)
    async with spring(mms, place) as campaign:
        async for batch in campaign.send(rows):
            if batch.number >= 5:
                break
    assert 5 <= len(received(api)) < 60
    others: list[dict[str, Any]] = [
        {"text": Template("Hi {name}, it is {code}", defaults={"name": "there"})},
        {"text": Template(HI.source, defaults={"name": "you"})},
        {"text": Template(HI.source)},
        {"text": HI.source},
        {"subject": Template("{name}")},
    ]
    for other in others:
        with pytest.raises(JournalMismatchError, match=r"another (text|template|subject)"):
            await spring(mms, place, **other).send_all(rows)
    journal, name = place
    again = await resume(mms, journal, name=name or None)
    new = listing(61, codes=61)[60:]
    changed = [{**row, "name": "Somebody else"} for row in rows] + new
    assert (await again.send_all(changed)).counts[RecipientState.ACCEPTED] == 61
    assert received(api) == expected(rows + new)


async def test_a_list_that_was_cut_is_needed_again(api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    def broken() -> Iterator[Mapping[str, object]]:
        yield from listing(1500)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await spring(mms, place).send_all(broken())
    with pytest.raises(JournalError, match="give the list again"):
        await spring(mms, place).send_all()
    assert not api.arrivals


async def test_unknown_ones_are_sent_the_same_text_again_when_asked_for(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    rows = listing(20)
    api.faults.add(Reset(carried_out=False), call="send-mms", times=1)
    api.faults.add(throttle(), call="send-mms", times=2)
    assert (await spring(mms, place).send_all(rows)).counts[RecipientState.UNKNOWN] > 0
    report = await spring(mms, place, resend_unknown=True).send_all()
    assert report.counts[RecipientState.ACCEPTED] == 20
    assert received(api) == expected(rows)


async def test_a_call_that_is_split_keeps_its_text(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = listing(60, codes=1)
    carry_out, bad = api.send, {str(row["to"]) for row in rows[10:14]}

    def send(to: Sequence[str], text: str, *arguments: Any) -> Any:
        if set(to) & bad:
            raise invalid("numbers", "one of them is wrong")
        if "Bob" in text:
            raise invalid("mms_text", "there is a word in it")
        return carry_out(to, text, *arguments)

    monkeypatch.setattr(api, "send", send)
    report = await spring(mms, place, batch_size=50).send_all(rows)
    refused = {row.number async for row in report.recipients("refused")}
    assert refused == bad | {number for number, text in expected(rows).items() if "Bob" in text}
    assert received(api) == {number: text for number, text in expected(rows).items() if number not in refused}


async def test_refusals_of_few_stop_nothing_and_those_of_many_do(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    rows = listing(60, codes=60)
    for row in rows[:20]:
        api.add_opt_out(str(row["to"]))
    report = await spring(mms, place).send_all(rows)
    assert (report.counts[RecipientState.REFUSED], report.counts[RecipientState.ACCEPTED]) == (20, 40)
    for row in (many := listing(150, codes=150)):
        api.add_opt_out(str(row["to"]))
    with pytest.raises(CampaignStoppedError) as stopped:
        await mms.campaign(text=HI, image=PNG).send_all(many)
    assert 30 <= stopped.value.report.counts[RecipientState.REFUSED] < 150


async def test_who_is_suppressed_gets_nothing_and_the_others_their_own(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], tmp_path: Path
) -> None:
    rows = listing(30)
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        await suppression.add_all(str(row["to"]) for row in rows[::7])
        campaign = spring(mms, place, suppress=suppression, opt_out_line="Reply {STOP}")
        planned = await campaign.dry_run(rows)
        assert planned.plan is not None
        assert (planned.plan.recipients, planned.exclusions[Exclusion.SUPPRESSED]) == (25, 5)
        report = await campaign.send_all(rows)
    assert report.exclusions[Exclusion.SUPPRESSED] == 5
    left = [row for place, row in enumerate(rows) if place % 7]
    assert received(api) == {number: f"{text}\r\nReply {{STOP}}" for number, text in expected(left).items()}


async def test_mappings_hold_a_number_and_a_plain_text_takes_nothing_from_them(
    api: Sandbox, mms: AsyncMMSClient
) -> None:
    rows: list[Any] = [
        {"Phone ": "0400 000 000", "name": "Ann"},
        {"to": "0400000001", "mobile": "0400000002"},
        {"name": "Ann"},
        {"to": 61400000003},
        "0400000004",
    ]
    report = await mms.send_bulk(rows, text="Hi {name} {{", image=PNG, subject="{x}")
    assert received(api) == dict.fromkeys(["+61400000000", "+61400000004"], "Hi {name} {{")
    assert {send.subject for send in api.sends} == {"{x}"}
    reasons = {row.line: row.reason async for row in report.recipients("excluded")}
    in_one = "expected the number in one field called mobile, msisdn, number, phone, recipient, to"
    assert reasons == {2: in_one, 3: in_one, 4: "expected the number as a string"}
