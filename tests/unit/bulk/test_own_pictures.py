"""Campaigns with a picture for each: who gets which one, on both engines, whatever goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import AsyncMMSClient, InvalidRequestError
from mmsclient._store.models import Claim, RecipientResult
from mmsclient._store.models import RecipientState as State
from mmsclient._store.sqlite_opening import open_journal
from mmsclient.bulk import (
    Campaign,
    CampaignStoppedError,
    DeliveryTestError,
    DeliveryTestFlaw,
    Exclusion,
    JournalMismatchError,
    PictureColumn,
    Progress,
    SuppressionList,
    Template,
    own_pictures,
    picture_prefetch,
    read_csv,
    read_status,
    resume,
)
from mmsclient.bulk.control import Control
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.own_pictures import PictureMaker, each_of
from mmsclient.bulk.personal import NO_IMAGE, Outgoing, message_of, outgoing
from mmsclient.bulk.picture_prefetch import PicturePrefetcher
from mmsclient.bulk.recipients import row_of
from mmsclient.bulk.recorder import Recorder
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.answers import invalid
from mmsclient.sandbox.faults import Reset, throttle
from tests.conftest import PNG, until
from tests.support.campaigns import numbers
from tests.support.fuzzing import cases
from tests.support.held import Held
from tests.support.keyed import Closed
from tests.support.pictures import from_a_phone
from tests.support.wall_clock import DAY, WallClock
from tests.support.wall_clock import wall_clock as wall_clock  # noqa: PLC0414 - a fixture

pytestmark = pytest.mark.usefixtures("impatient")

HI = Template("Hi {name}")
Fields = Mapping[str, Any]
Rows = Sequence[Mapping[str, object]]


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, timeout=30) as mms:
        yield mms


@pytest.fixture
def few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nearly all of them are made twice."""
    monkeypatch.setattr(own_pictures, "KEPT", 1)
    monkeypatch.setattr(picture_prefetch, "AHEAD", 2)


def listing(count: int, codes: int = 3, names: int = 1) -> list[dict[str, object]]:
    return [
        {"to": number, "name": f"Ann {place % names}", "code": place % codes}
        for place, number in enumerate(numbers(count))
    ]


def picture(fields: Fields) -> bytes:
    return PNG + f"of {fields['code']}".encode()


async def picture_later(fields: Fields) -> bytes:
    await asyncio.sleep(0)
    return picture(fields)


def sha256(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()


def expected(rows: Rows, make: Callable[[Fields], bytes] = picture) -> dict[str, tuple[str, str]]:
    """What each gets of `HI` and a function."""
    return {str(row["to"]): (f"Hi {row['name']}", sha256(make(row))) for row in rows}


def received(api: Sandbox) -> dict[str, tuple[str, str]]:
    """Text and picture that each number got; nobody got two."""
    got = [(number, (send.text, send.image_sha256)) for send in api.sends for number in send.recipients]
    assert len(dict(got)) == len(got)
    return dict(got)


def spring(mms: AsyncMMSClient, place: tuple[str, str], **options: Any) -> Campaign:
    journal, name = place
    options = {"text": HI, "image": picture, "batch_size": 4, **options}
    return mms.campaign(journal=journal, name=name or None, **options)


async def reasons(campaign: Campaign) -> dict[int, str | None]:
    """Of those who were set aside, by their lines."""
    report = await campaign.report()
    found = {row.line: row async for row in report.recipients("excluded")}
    assert {row.exclusion for row in found.values()} <= {Exclusion.NO_MESSAGE}
    return {line: row.reason for line, row in found.items()}


@pytest.mark.usefixtures("few_are_kept")
@pytest.mark.parametrize("make", [picture, picture_later])
async def test_each_gets_its_own_and_equal_ones_share_a_call(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], make: Callable[..., Any]
) -> None:
    rows = listing(60, codes=6, names=2)
    campaign = spring(mms, place, image=make)
    planned = await campaign.dry_run(rows)
    assert planned.plan is not None
    assert (planned.plan.messages, planned.plan.calls) == (6, 18)  # each of ten, four a call
    assert not api.sends
    assert (await campaign.send_all(iter(rows))).counts[State.ACCEPTED] == 60
    assert received(api) == expected(rows)
    assert len(api.sends) == 18


async def test_a_plain_text_and_numbers_alone(api: Sandbox, mms: AsyncMMSClient) -> None:
    def make(fields: Fields) -> io.BytesIO:
        return io.BytesIO(PNG + fields["to"].encode())

    listed = numbers(5)
    report = await mms.send_bulk([*listed, "nonsense", listed[0]], text="Hi {", image=make, subject="{x}")
    assert report.counts[State.ACCEPTED] == 5
    assert received(api) == {number: ("Hi {", sha256(PNG + number.encode())) for number in listed}
    assert report.exclusions[Exclusion.DUPLICATE] == report.exclusions[Exclusion.INVALID] == 1


async def test_a_function_that_is_no_async_one_runs_in_threads(api: Sandbox, mms: AsyncMMSClient) -> None:
    ran_in: set[threading.Thread] = set()

    def make(fields: Fields) -> bytes:
        ran_in.add(threading.current_thread())
        return picture(fields)

    class Maker:
        async def __call__(self, fields: Fields) -> bytes:
            assert threading.current_thread() is threading.main_thread()
            return picture(fields)

    def handed_on(fields: Fields) -> Any:
        return picture_later(fields)

    for image in (make, Maker(), handed_on):
        api.sends.clear()
        await mms.send_bulk(rows := listing(12), text=HI, image=image)
        assert received(api) == expected(rows)
    assert threading.main_thread() not in ran_in


async def test_rows_that_cannot_have_one_are_set_aside_and_the_rest_goes_on(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], tmp_path: Path
) -> None:
    def make(fields: Fields) -> Any:
        code = fields["code"]
        if code == "next":
            return next(iter(()))
        if code == "raises":
            raise ValueError("no such\nvoucher")
        wrong = {"empty": b"", "text": "no such file.png", "number": 7, "none": None, "webp": b"RIFF....WEBPVP8 "}
        if code == "large":
            return PNG + bytes(379_790)
        return wrong.get(code, PNG) if isinstance(code, str) else PNG

    codes = ["good", "next", "raises", "empty", "text", "number", "none", "webp", "large"]
    rows: list[dict[str, Any]] = [
        {"to": number, "name": "Ann", "code": code}
        for number, code in zip(numbers(12), [*codes, date(2026, 1, 2), float("nan"), Decimal("1.5")], strict=True)
    ]
    campaign = spring(mms, place, image=make)
    planned = await campaign.preflight(rows)
    assert (planned.recipients, planned.calls) == (2, 1)
    assert planned.report.exclusions[Exclusion.NO_MESSAGE] == 10
    report = await campaign.send_all(rows)
    assert (report.counts[State.ACCEPTED], report.counts[State.EXCLUDED]) == (2, 10)
    assert received(api).keys() == {rows[0]["to"], rows[11]["to"]}
    found = await reasons(campaign)
    raised = "image: expected a picture of its row; the function raised"
    assert found[2] == f"{raised} StopIteration"
    assert found[3] == f"{raised} ValueError: no such voucher"
    assert str(found[4]).startswith("image: expected a PNG, GIF or JPEG")
    assert "No such file" in str(found[5])
    assert "it is not a file open for reading bytes" in str(found[6])
    assert found[6] == found[7]
    assert "by its first bytes" in str(found[8])
    assert str(found[9]).startswith("image: expected at most 379994 bytes beside this text")
    assert found[10] == "code: expected what JSON can hold, since the journal keeps it; it is a date"
    assert found[11] == "code: expected what JSON can hold, since the journal keeps it; it is a float"


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


async def test_an_error_that_cannot_be_shown_costs_its_row_alone(mms: AsyncMMSClient, place: tuple[str, str]) -> None:
    def make(fields: Fields) -> bytes:
        if fields["code"] == "?":
            raise UnprintableError
        return picture(fields)

    rows = listing(2)
    campaign = spring(mms, place, image=make)
    assert (await campaign.send_all([{**rows[0], "code": "?"}, rows[1]])).counts[State.ACCEPTED] == 1
    said = "the function raised UnprintableError: <unprintable UnprintableError object>"
    assert await reasons(campaign) == {1: f"image: expected a picture of its row; {said}"}


@pytest.mark.parametrize("fit", [False, True])
async def test_a_path_that_leads_to_a_pipe_or_a_device_costs_its_row_alone(
    api: Sandbox, mms: AsyncMMSClient, tmp_path: Path, fit: bool
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sale.jpg").write_bytes(from_a_phone(60, 40, 1))
    paths = [tmp_path / "pipe", tmp_path / "sale.jpg", "/dev/zero"]
    rows = [{"to": number, "file": str(path)} for number, path in zip(numbers(3), paths, strict=True)]
    campaign = mms.campaign(text="Hi", image=PictureColumn("file"), fit=fit, journal=tmp_path / "spring.db")
    report = await campaign.send_all(rows)
    assert (report.counts[State.ACCEPTED], report.exclusions[Exclusion.NO_MESSAGE]) == (1, 2)
    said = "image: expected a path, bytes or an open file that can be read (it is no regular file)"
    assert await reasons(campaign) == {1: said, 3: said}


async def test_each_is_made_to_fit(api: Sandbox, mms: AsyncMMSClient) -> None:
    photos = [from_a_phone(1700, 1300, turn) for turn in (1, 6)]
    rows = [{"to": number, "which": place % 2} for place, number in enumerate(numbers(6))]

    def make(fields: Fields) -> bytes:
        return photos[fields["which"]]

    report = await mms.send_bulk([*rows, {"to": "0400000009", "which": 2}], text="Look", image=make, fit=True)
    assert (report.counts[State.ACCEPTED], report.exclusions[Exclusion.NO_MESSAGE]) == (6, 1)
    assert len({send.image_sha256 for send in api.sends}) == len(api.sends) == 2
    assert {sha256(photo) for photo in photos}.isdisjoint(send.image_sha256 for send in api.sends)


async def test_a_corrected_row_gets_its_picture_when_the_list_comes_again(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    def make(fields: Fields) -> bytes:
        if fields["code"] == "?":
            raise ValueError
        return picture(fields)

    rows = listing(6)
    wrong = [{**row, "code": "?"} if row is rows[2] else row for row in rows]
    campaign = spring(mms, place, image=make)
    assert (await campaign.send_all(wrong)).counts[State.ACCEPTED] == 5
    assert await reasons(campaign) == {3: "image: expected a picture of its row; the function raised ValueError"}
    assert (await spring(mms, place, image=make).send_all(rows)).counts[State.ACCEPTED] == 6
    assert received(api) == expected(rows)


async def test_pictures_are_made_a_few_calls_ahead(
    api: Sandbox, mms: AsyncMMSClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_pictures, "KEPT", 1)
    made = count()
    total = 0

    async def make(fields: Fields) -> bytes:
        nonlocal total
        total = next(made) + 1
        return picture(fields)

    held = Held()
    api.faults.add(held, call="send-mms")
    campaign = mms.campaign(text="Hi", image=make, max_concurrency=1)
    sending = asyncio.create_task(campaign.send_all(listing(100, codes=100)))
    try:
        await until(lambda: len(api.sends) == 1 and total >= 100 + 1 + picture_prefetch.AHEAD)
        report = await campaign.report()
        assert (report.counts[State.SENDING], report.counts[State.PENDING]) == (1, 99)
        assert total <= 100 + 1 + picture_prefetch.AHEAD
    finally:
        held.answer.set()
    assert (await sending).counts[State.ACCEPTED] == 100
    assert total <= 200  # each once for the list, and once ahead of its call


async def test_few_are_in_memory_however_many_there_are(
    api: Sandbox, mms: AsyncMMSClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_pictures, "KEPT", 3)
    monkeypatch.setattr(picture_prefetch, "AHEAD", 3)

    def make(fields: Fields) -> bytes:
        return PNG + bytes(350_000) + str(fields["code"]).encode()

    campaign = mms.campaign(text="Hi", image=make, max_concurrency=2)
    tracemalloc.start()
    try:
        assert (await campaign.send_all(listing(150, codes=150))).counts[State.ACCEPTED] == 150
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 150 * 350_000 / 2


@pytest.mark.usefixtures("few_are_kept")
async def test_a_campaign_goes_on_with_its_function_and_not_without(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    rows = listing(60, codes=60)
    async with spring(mms, place) as campaign:
        async for batch in campaign.send(rows):
            if batch.number >= 5:
                break
    assert 5 <= len(received(api)) < 60
    others: list[dict[str, Any]] = [{"image": PNG}, {"image": PictureColumn("code")}, {"fit": True}, {"text": "Hi"}]
    for other in others:
        with pytest.raises(JournalMismatchError, match=r"another .*(template|text)"):
            await spring(mms, place, **other).send_all()
    journal, name = place
    with pytest.raises(InvalidRequestError, match=r"image: expected the campaign's function again \(image=\)"):
        await resume(mms, journal, name=name or None)
    again = await resume(mms, journal, image=picture, name=name or None)
    assert (await again.send_all()).counts[State.ACCEPTED] == 60
    assert received(api) == expected(rows)


async def test_a_function_is_not_for_a_campaign_with_one_picture(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    journal, name = place
    await spring(mms, place, image=PNG).send_all(listing(1))
    with pytest.raises(InvalidRequestError, match="image: expected nothing: all get the picture"):
        await resume(mms, journal, image=picture, name=name or None)


@pytest.mark.usefixtures("few_are_kept")
async def test_pictures_that_are_others_by_now_go_out_together_as_they_are(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    def new(fields: Fields) -> bytes:
        return PNG + f"new {fields['code'] in (0, 1)}".encode()

    rows = listing(40, codes=4)
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    with pytest.raises(CampaignStoppedError):
        await spring(mms, place, stop_after=1).send_all(rows)
    before = received(api)
    assert (len(before), len(api.sends)) == (4, 1)
    with caplog.at_level(logging.WARNING):
        report = await spring(mms, place, image=new).send_all()
    assert (report.counts[State.UNKNOWN], report.counts[State.ACCEPTED]) == (4, 36)
    left = [row for row in rows if row["to"] not in before]
    assert received(api) == {**before, **expected(left, new)}
    assert len(api.sends) == 1 + 2 + 3 * 3  # those of one hash, four a call, as they were noted
    (told,) = [each.getMessage() for each in caplog.records if "others than" in each.getMessage()]
    assert "the new ones go out" in told
    with caplog.at_level(logging.WARNING):
        await spring(mms, place, image=new, resend_unknown=True).send_all()
    assert "some who may have got a picture before are sent another one now" in caplog.text
    last = api.sends[-1]
    assert (set(last.recipients), last.image_sha256) == (set(before), sha256(new(rows[0])))


@pytest.mark.usefixtures("few_are_kept")
async def test_a_function_that_never_makes_the_same_twice(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    number = count()
    made: dict[str, str] = {}

    def make(fields: Fields) -> bytes:
        data = PNG + f"{fields['to']} {next(number)}".encode()
        made[sha256(data)] = fields["to"]
        return data

    assert (await spring(mms, place, image=make).send_all(listing(30))).counts[State.ACCEPTED] == 30
    assert all(made[image] == number for number, (_, image) in received(api).items())


@pytest.mark.usefixtures("few_are_kept")
async def test_what_cannot_be_made_ahead_of_its_call_is_set_aside_and_tried_again_by_the_next_run(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    made: set[int] = set()

    def make(fields: Fields) -> bytes:
        code = fields["code"]
        if code in made and code % 3 == 1:
            raise OSError("the disk is away")
        made.add(code)
        return picture(fields)

    rows = listing(30, codes=30)
    campaign = spring(mms, place, image=make)
    report = await campaign.send_all(rows)
    assert (report.counts[State.ACCEPTED], report.exclusions[Exclusion.NO_MESSAGE]) == (20, 10)
    assert report.without_picture == (await read_status(place[0], place[1] or None)).without_picture == 10
    assert (await reasons(campaign))[2] == (
        "image: expected a picture of its row; the function raised OSError: the disk is away"
    )
    again = spring(mms, place, exclude=[str(rows[1]["to"])])
    assert (await again.dry_run()).counts[State.PENDING] == 9
    report = await again.send_all()
    assert (report.counts[State.ACCEPTED], report.exclusions[Exclusion.LISTED]) == (29, 1)
    assert report.without_picture == 0
    assert received(api) == expected([row for row in rows if row is not rows[1]])


async def test_a_journal_that_excludes_somebody_for_good_does_not_open_it_again(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_pictures, "KEPT", 0)
    is_broken = False

    def make(fields: Fields) -> bytes:
        nonlocal is_broken
        if is_broken:
            raise OSError
        is_broken = True
        return picture(fields)

    rows = listing(1)
    assert (await spring(mms, place, image=make).send_all(rows)).exclusions[Exclusion.NO_MESSAGE] == 1
    await spring(mms, place, image=make, exclude=[str(rows[0]["to"])]).send_all()
    assert (await spring(mms, place).send_all()).counts[State.ACCEPTED] == 0
    assert not api.sends


async def test_unknown_ones_are_sent_the_same_picture_again_when_asked_for(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    rows = listing(20)
    api.faults.add(Reset(carried_out=False), call="send-mms", times=1)
    api.faults.add(throttle(), call="send-mms", times=2)
    assert (await spring(mms, place).send_all(rows)).counts[State.UNKNOWN] > 0
    assert (await spring(mms, place, resend_unknown=True).send_all()).counts[State.ACCEPTED] == 20
    assert received(api) == expected(rows)


async def test_a_call_that_is_split_keeps_its_picture_and_one_that_is_refused_is_its_own(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = listing(60, codes=6)
    carry_out, bad = api.send, {str(row["to"]) for row in rows[12:40:6]}

    def send(to: Sequence[str], text: str, subject: str, image: bytes, *arguments: Any) -> Any:
        if set(to) & bad:
            raise invalid("numbers", "one of them is wrong")
        if image.endswith(b"of 1"):
            raise invalid("mms_file", "there is a word in it")
        return carry_out(to, text, subject, image, *arguments)

    monkeypatch.setattr(api, "send", send)
    report = await spring(mms, place, batch_size=50).send_all(rows)
    refused = {row.number async for row in report.recipients("refused")}
    assert refused == bad | {str(row["to"]) for row in rows if row["code"] == 1}
    assert received(api) == expected([row for row in rows if row["to"] not in refused])


async def test_who_is_suppressed_gets_nothing_and_a_budget_cuts_a_call(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], tmp_path: Path
) -> None:
    rows = listing(30, codes=2)
    async with SuppressionList(tmp_path / "stop.db") as suppression:
        await suppression.add_all(str(row["to"]) for row in rows[::7])
        with pytest.raises(CampaignStoppedError, match="max_credits"):
            await spring(mms, place, suppress=suppression, batch_size=12, max_credits=7).send_all(rows)
        assert 0 < len(received(api)) <= 7
        report = await spring(mms, place, suppress=suppression, batch_size=12).send_all()
    assert (report.exclusions[Exclusion.SUPPRESSED], report.counts[State.ACCEPTED]) == (5, 25)
    assert received(api) == expected([row for place, row in enumerate(rows) if place % 7])


@pytest.mark.usefixtures("few_are_kept")
async def test_calls_that_are_taken_back_when_the_hours_end_leave_on_the_next_day(
    api: Sandbox, place: tuple[str, str], wall_clock: WallClock
) -> None:
    limiter, rows = Closed(), listing(30, codes=10)
    waits: list[object] = []

    def note(progress: Progress) -> None:
        waits.append(progress.waits_until)

    async with api.client(limiter=limiter) as mms:
        campaign = spring(mms, place, window=DAY, on_progress=note, max_attempts=1, check_account=False, slow_start=0)
        sending = asyncio.create_task(campaign.send_all(rows))
        await limiter.asked.wait()
        wall_clock.pass_hours(8)
        limiter.open.set()
        await until(lambda: any(waits))
        assert not api.sends
        wall_clock.pass_hours(13)
        assert (await sending).counts[State.ACCEPTED] == 30
        await campaign.aclose()
    assert received(api) == expected(rows)


async def test_test_numbers_get_their_own_first(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_pictures, "KEPT", 0)
    rows = listing(20, codes=20)
    extra = {"to": "+61400009999", "name": "Boss", "code": 99}
    asked: list[int] = []

    async def approve(recipients: Sequence[Any]) -> bool:
        asked.append(len(api.sends))
        return len(recipients) == 3

    options: dict[str, Any] = {"test": [rows[7], rows[3], extra], "approve_test": approve, "batch_size": 50}
    report = await spring(mms, place, **options).send_all(rows)
    assert (report.counts[State.ACCEPTED], asked) == (21, [3])
    assert received(api) == expected([*rows, extra])


async def test_a_test_number_without_a_picture_ends_it_before_anybody_else(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_pictures, "KEPT", 0)
    made: set[str] = set()

    def make(fields: Fields) -> bytes:
        if fields["to"] in made:
            raise OSError("gone")
        made.add(fields["to"])
        return picture(fields)

    rows = listing(5)
    with pytest.raises(CampaignStoppedError) as stopped:
        await spring(mms, place, image=make, test=[rows[1]], test_timeout=0).send_all(rows)
    assert isinstance(stopped.value.error, DeliveryTestError)
    assert stopped.value.error.flaw is DeliveryTestFlaw.NOT_ACCEPTED
    with pytest.raises(InvalidRequestError, match="the fields of its message beside it: image: expected a picture"):
        await spring(mms, place, image=make, test=[{"to": "+61400009999", "name": "Boss"}]).send_all()
    assert not api.sends


@pytest.mark.parametrize("hangs_for", ["the list", "its call"])
@pytest.mark.usefixtures("few_are_kept")
async def test_a_function_that_hangs_keeps_nobody_from_stopping(
    api: Sandbox, mms: AsyncMMSClient, hangs_for: str
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    made = count()

    def make(fields: Fields) -> bytes:
        if next(made) == (5 if hangs_for == "the list" else 25):
            reached.set()
            assert go_on.wait(60)
        return picture(fields)

    sending = mms.campaign(text="Hi", image=make).send(listing(20, codes=20))
    try:
        getting = asyncio.create_task(anext(sending, None))
        await until(reached.is_set)
        await sending.aclose()
        await getting
    finally:
        go_on.set()
    assert len(received(api)) < 20


async def test_a_function_that_is_cancelled_by_itself_ends_the_run(api: Sandbox, mms: AsyncMMSClient) -> None:
    async def make(fields: Fields) -> bytes:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await mms.campaign(text="Hi", image=make).send_all(listing(3))
    assert not api.sends


# A column -------------------------------------------------------------------------------------------------------------


def pictured(folder: Path, count: int, pictures: int) -> tuple[Path, dict[str, str]]:
    """A list with a column of files, and the hash of the picture of each number."""
    lines, hashes = ["Mobile,Name,QR file"], {}
    for place, number in enumerate(numbers(count)):
        data = picture({"code": place % pictures})
        (folder / f"{place % pictures}.png").write_bytes(data)
        lines.append(f"{number},Zoë,{place % pictures}.png")
        hashes[number] = sha256(data)
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "list.csv", hashes


async def test_a_column_has_the_files_and_the_journal_is_enough_to_go_on(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_pictures, "KEPT", 0)
    listed, hashes = pictured(tmp_path, 40, 10)
    with listed.open("a", encoding="utf-8") as file:
        file.write("\n0400009991,Bob,\n0400009992,Cy,none.png")
    monkeypatch.chdir(tmp_path)
    async with spring(mms, place, image=PictureColumn(" QR File")) as campaign:
        async for batch in campaign.send(read_csv(listed)):
            if batch.number >= 3:
                break
    assert 0 < len(received(api)) < 40
    monkeypatch.chdir("/")
    journal, name = place
    again = await resume(mms, journal, name=name or None)
    report = await again.send_all()
    assert (report.counts[State.ACCEPTED], report.exclusions[Exclusion.NO_MESSAGE]) == (40, 2)
    assert {number: image for number, (_, image) in received(api).items()} == hashes
    found = await reasons(again)
    assert found[42] == "image: expected the path of a file in the column qr file"
    assert "No such file or directory" in str(found[43])


async def test_a_column_that_the_list_does_not_have(api: Sandbox, mms: AsyncMMSClient) -> None:
    for rows in (listing(3), numbers(3)):
        campaign = mms.campaign(text="Hi", image=PictureColumn("file"))
        with pytest.raises(InvalidRequestError, match=r"image: expected a column that the list has: (to, name|this)"):
            await campaign.send_all(rows)
    with pytest.raises(InvalidRequestError, match="name: expected one line"):
        PictureColumn(" ")
    assert not api.arrivals


# Whatever the list, and whatever the function does by the time of the call --------------------------------------------

made = st.sampled_from(["red", "green", "blue", None])
pairs = st.tuples(st.sampled_from(["Ann", "Bob"]), made, made)


@cases(60)
@given(rows=st.lists(pairs, max_size=14), size=st.integers(1, 5), kept=st.integers(0, 2), most=st.integers(1, 5))
def test_every_row_with_a_picture_is_in_one_call_whose_picture_is_its_own(
    rows: list[tuple[str, str | None, str | None]], size: int, kept: int, most: int
) -> None:
    """Each row: its name, its picture when the list is read, and when its call is near."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(own_pictures, "KEPT", kept)
        monkeypatch.setattr(picture_prefetch, "AHEAD", 2)
        asyncio.run(each_is_in_one_call(rows, size, most))


async def each_is_in_one_call(rows: list[tuple[str, str | None, str | None]], size: int, most: int) -> None:
    is_list_read = False

    async def make(fields: Fields) -> bytes:
        _, first, later = rows[fields["row"]]
        if (code := later if is_list_read else first) is None:
            raise ValueError
        return PNG + code.encode()

    maker = PictureMaker(make, fit=False, tell=lambda *_: None)
    message, renderer = message_of(HI, None, NO_IMAGE, maker.facts)
    assert renderer is not None
    thread = await JournalThread.open(lambda: open_journal(None, message), None)
    control = Control()
    recorder = Recorder(thread, control.changed)
    source = PicturePrefetcher(maker, thread, recorder, control, is_list_read=lambda: is_list_read, size=size)
    items = [{"to": n, "name": rows[place][0], "row": place} for place, n in enumerate(numbers(len(rows)))]
    listed = [row_of(item, line) for line, item in enumerate(items, 1)]
    entries = await maker.entries(thread, renderer.entries, listed)
    await thread.run(lambda: thread.journal.add(entries))
    assert source.ready == 0
    is_list_read = True
    calls: list[tuple[Claim, Outgoing]] = []
    try:
        while control.error is None:
            control.changed.clear()
            if source.ready:
                if (claim := await source.claim(most)) is not None:
                    calls.append((claim, outgoing(message, claim)))
                    results = [RecipientResult(State.ACCEPTED)] * len(claim.ids)
                    await thread.run(
                        lambda claim=claim, results=results: thread.journal.finish(  # type: ignore[misc]
                            claim, results, accepted=len(results), credits_used=None, error=None
                        )
                    )
            elif thread.journal.ready:
                await asyncio.wait_for(control.changed.wait(), 60)
            else:
                break
        assert control.error is None
        counts = thread.journal.counts
    finally:
        await thread.close()
    got = [(int(phone) - 61400000000, sent) for claim, sent in calls for phone in claim.phones]
    assert len(dict(got)) == len(got)
    assert all(len(claim.ids) <= min(size, most) for claim, _ in calls)
    for row, (name, first, later) in enumerate(rows):
        if row not in dict(got):
            assert first is None or later is None
            continue
        sent = dict(got)[row]
        assert sent.text == f"Hi {name}"
        assert sent.image in {PNG + str(first).encode(), PNG + str(later).encode()}
    assert counts[State.ACCEPTED] == len(got)
    assert counts[State.ACCEPTED] + counts[State.EXCLUDED] == len(rows)


async def test_work_that_fails_ends_the_work_beside_it() -> None:
    ended: list[int] = []

    async def work(item: int) -> int:
        try:
            if item == 1:
                raise ValueError("one")
            await asyncio.sleep(3600 if item == 0 else 0)
        finally:
            ended.append(item)
        return item

    assert await each_of([], work) == []
    assert await each_of([2, 3, 4, 5, 6, 7], work) == [2, 3, 4, 5, 6, 7]
    with pytest.raises(ValueError, match="one"):
        await each_of([0, 1, 2], work)
    assert 0 in ended


async def test_nobody_gets_a_picture_that_was_not_noted() -> None:
    maker = PictureMaker(picture, fit=False, tell=lambda *_: None)
    message, _ = message_of("Hi", None, NO_IMAGE, maker.facts)
    other = await maker.made('{"code": 1}', "Hi")
    claim = Claim(1, (1,), (61400000000,), None, other.data)
    with pytest.raises(RuntimeError, match="message of batch 1"):
        outgoing(message, claim)
