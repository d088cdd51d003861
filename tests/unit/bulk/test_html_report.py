"""The report as a page: whether its figures are true, whether text stays text, and how a browser shows it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tracemalloc
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmsclient import DeliveryReport, DeliveryStatus
from mmsclient._store.figures import Course, Figures
from mmsclient._store.models import Message
from mmsclient._store.stores import store_at
from mmsclient.bulk import JournalError, SMSFallback, Template, html_report
from mmsclient.bulk.html.markup import bare, element, escaped
from mmsclient.bulk.html.timeline import MOST_BARS, timeline_of
from mmsclient.errors import ConfigurationError
from mmsclient.limiter import NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, Reset, throttle
from tests.conftest import PNG
from tests.support.pages import CHROMIUM, PageReader, browsed

Place = tuple[str, str]

STRANGE = '<script>alert("1")</script>&amp;\x07 "\'><img src=x>'


async def sent(api: Sandbox, place: Place) -> str:
    """The page of a campaign of which little went well."""
    api.add_opt_out("+61410000003")
    api.faults.add(throttle(), call="send-mms", times=1)
    api.faults.add(Reject("RECIPIENTS_ERROR", f"{STRANGE} +61410000005"), call="send-mms", skip=2, times=1)
    api.faults.add(Reset(carried_out=True), call="send-mms", skip=2, times=1)
    rows = [{"number": f"+614100000{n:02}", "name": f"Ann {n // 5}"} for n in range(50)]
    rows += [{"number": "nonsense", "name": "B"}, {"number": "+61410000001", "name": "C"}, {"number": "0400000099"}]
    async with api.client(limiter=NoLimit()) as mms:
        campaign = mms.campaign(
            text=Template(f"Hi {{name}} {STRANGE}"),
            subject=Template("For {name}"),
            image=PNG,
            journal=place[0],
            name=place[1] or None,
            batch_size=5,
            max_concurrency=1,
        )
        async for _ in campaign.send(rows):
            pass
        for number, message in enumerate(api.messages[:9]):  # a report of an unknown one would prove it
            status = DeliveryStatus.FAILED if number < 3 else DeliveryStatus.DELIVERED
            await campaign.record(
                DeliveryReport(
                    message_id=message.id, status=status, recipient=message.to, custom_string=None, source=None
                )
            )
        await campaign.aclose()
    return await html_report(place[0], place[1] or None)


async def test_the_figures_are_true(api: Sandbox, place: Place) -> None:
    page = PageReader(await sent(api, place))
    assert page.row("Accepted")[0] == "39"
    assert page.row("Refused")[0] == "6"
    assert page.row("Unknown")[0] == "5"
    assert page.row("Excluded")[0] == "3"
    assert page.row("All")[:2] == ["53", "100.0%"]
    assert [page.row(why)[0] for why in ("Invalid", "Duplicate", "No message")] == ["1", "1", "1"]
    assert [page.row(status) for status in ("Delivered", "Failed", "Nothing final")] == [["6"], ["3"], ["30"]]
    reasons = [row[1:] for row in page.rows if row[0] in ("Refused", "Unknown") and len(row) == 3]
    assert sum(int(count) for count, _ in reasons) == 11
    assert ["1", "The API took the call, and not this recipient"] in reasons
    assert any("RECIPIENTS_ERROR" in reason and "***005" in reason for _, reason in reasons)
    (bars,) = [at for at, row in enumerate(page.rows) if row[1:] == ["Accepted", "Delivered", "Not delivered"]]
    sums = [sum(int(row[column]) for row in page.rows[bars + 1 :]) for column in (1, 2, 3)]
    assert sums == [39, 6, 3]
    text = " ".join(page.texts)
    assert "Of these failed 3" in " ".join(text.split())
    assert len(api.messages) == 44  # the unknown ones too
    assert not re.search(r"61410[0-9]{6}", text)
    assert "The campaign is not over" not in text


async def test_text_stays_text(api: Sandbox, place: Place) -> None:
    html = await sent(api, place)
    page = PageReader(html)
    assert {"script", "img", "iframe", "a", "link"}.isdisjoint(page.tags)
    assert any('<script>alert("1")</script>&amp;  "\'><img src=x>' in text for text in page.texts)
    assert "\x07" not in html


def test_a_page_needs_nothing_else(tmp_path: Path) -> None:
    page = made(tmp_path, "1")
    names = {name for name, _ in PageReader(page).attributes}
    assert names.isdisjoint({"src", "href", "style", "onload", "action"})
    assert not re.search(r"url\(|@import|http://|https://|javascript:", page)
    assert '<html lang="en">' in page
    assert len(page) < 20_000


def made(folder: Path, title: str, recipients: int = 0) -> str:
    """The page of a campaign that nobody has sent, or whose recipients were all accepted, ten in a call."""
    journal = folder / "made.db"
    store_at(journal).open(Message("Hi", "", PNG)).close()
    with closing(sqlite3.connect(journal)) as database:
        numbers = f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {recipients})"  # noqa: S608
        if recipients:
            database.execute(
                f"INSERT INTO batch (id, recipients, started, ended, accepted, credits) {numbers}"  # noqa: S608
                f" SELECT i, 10, 1.8e9 + i / 15.0, 1.8e9 + i / 15.0 + 0.1, 10, '10' FROM n WHERE i < {recipients // 10}"
            )
            database.execute(
                f"INSERT INTO recipient (id, phone, state, line, run, batch, message_id) {numbers}"  # noqa: S608
                " SELECT i + 1, 61400000000 + i, 'accepted', i, 1, i / 10, 'm' || i FROM n"
            )
            database.execute(
                "INSERT INTO delivery (message_id, phone, status, final, reported)"
                " SELECT message_id, phone, 'Delivered', 1, 1.8e9 + batch / 15.0 + id % 97 FROM recipient"
            )
        database.commit()
    return asyncio.run(html_report(journal, title=title))


def test_a_campaign_that_was_not_begun(tmp_path: Path) -> None:
    page = PageReader(made(tmp_path, STRANGE))
    assert "Nothing was sent yet" in page.texts
    assert "The list was not read to its end, so there may be more recipients." in page.texts
    assert STRANGE.replace("\x07", " ") in page.texts


async def test_what_was_sent_is_told(api: Sandbox, tmp_path: Path) -> None:
    def picture(row: Mapping[str, str]) -> bytes:
        return PNG

    async with api.client(limiter=NoLimit()) as mms:
        for name, image in (("all", PNG), ("own", picture)):
            await mms.campaign(text="Hi {you}", image=image, journal=tmp_path / name).send_all(["+61410000000"])
        await mms.campaign(text=Template("Hi {name}"), image=PNG, journal=tmp_path / "named").send_all(
            [{"number": "+61410000000", "name": "Ann"}]
        )
    said = {name: PageReader(await html_report(tmp_path / name)).texts for name in ("all", "own", "named")}
    assert f"{len(PNG)} bytes" in said["all"]
    assert "each recipient has one of their own" in said["own"]
    filled = {name for name, texts in said.items() if "yes: names in braces are filled in" in texts}
    assert filled == {"named"}


def test_memory_does_not_grow_with_the_list(tmp_path: Path) -> None:
    """Fifty bytes for each are too few to hold any."""
    tracemalloc.start()
    try:
        page = PageReader(made(tmp_path, "Large", 60_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert page.row("Accepted")[0] == "60,000"
    assert page.row("Delivered") == ["60,000"]
    assert peak < 3_000_000


async def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no such file"):
        await html_report(tmp_path / "none.db")
    with pytest.raises(ConfigurationError, match="timezone"):
        await html_report(tmp_path / "none.db", timezone="Nowhere")


@given(st.text())
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    shown = "".join(each if each.isprintable() or each == "\n" else " " for each in text)
    page = PageReader(element("p", text, title=text).text)
    assert page.tags == ["p"]
    assert "".join(page.texts) == shown
    assert page.attributes == [("title", shown)]
    assert "<" not in escaped(text)


@given(st.text(alphabet="0123456789+ a"))
def test_no_phone_number_is_left_in_a_reason(text: str) -> None:
    assert not re.search("[0-9]{7}", bare(text))


def test_our_own_examples_are_no_phone_numbers() -> None:
    said = "expected a number in E.164 (+61400000000) or an Australian mobile (0400000000, 61400000000)"
    assert bare(f"{said}: +61412345678") == f"{said}: ***678"


SPANS = st.dictionaries(st.integers(0, 600), st.integers(1, 9), max_size=20)
REPORTS = st.dictionaries(
    st.tuples(st.integers(0, 20_000), st.sampled_from(["Delivered", "Failed", "Dispatched"]).map(DeliveryStatus)),
    st.integers(1, 9),
    max_size=40,
)


@given(SPANS, REPORTS, st.floats(1, 5000).map(round), st.floats(0, 4e9))
def test_no_report_is_lost_in_the_chart(
    accepted: dict[int, int], reports: dict[tuple[int, DeliveryStatus], int], grain: int, started: float
) -> None:
    figures = Figures(
        course=Course(started, started, 0, 0, 0, 1),
        grain=grain,
        accepted=accepted,
        reports=reports,
        reasons=(),
        rejected=(),
    )
    timeline = timeline_of(figures, ZoneInfo("Australia/Melbourne"))
    assert timeline is not None
    assert len(timeline.bars) <= MOST_BARS + 2
    assert sum(bar.accepted for bar in timeline.bars) == sum(accepted.values())
    assert sum(bar.delivered for bar in timeline.bars) == sum(
        count for (_, status), count in reports.items() if status == "Delivered"
    )
    assert sum(bar.undelivered for bar in timeline.bars) == sum(
        count for (_, status), count in reports.items() if status == "Failed"
    )
    assert timeline.bars[0].start <= datetime.fromtimestamp(started, UTC)
    assert {bar.start.second for bar in timeline.bars} == {0} or timeline.seconds < 60


# In a browser ---------------------------------------------------------------------------------------------------------

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium-headless-shell")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(made(folder, STRANGE, 3000), encoding="utf-8")
    return folder / "report.html"


@in_a_browser
def test_a_browser_reads_it(page: Path) -> None:
    dom = browsed(page, "--dump-dom")
    assert "<script" not in dom.lower()
    assert PageReader(dom.removeprefix("<!DOCTYPE html>")).row("Accepted")[0] == "3,000"


@in_a_browser
@pytest.mark.parametrize(("is_dark", "paper"), [(False, (255, 255, 255)), (True, (20, 24, 29))])
def test_its_style_is_obeyed_in_light_and_dark(page: Path, is_dark: bool, paper: tuple[int, ...]) -> None:
    """The policy of the page allows its own style sheet."""
    picture = page.parent / f"{is_dark}.png"
    options = ["--blink-settings=preferredColorScheme=0"] if is_dark else ["--blink-settings=preferredColorScheme=1"]
    browsed(page, f"--screenshot={picture}", "--window-size=900,1600", *options)
    with Image.open(picture) as image:
        assert image.convert("RGB").getpixel((3, 3)) == paper
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or ()}
    green = (79, 176, 124) if is_dark else (46, 139, 87)
    assert green in colours  # of the bars


@in_a_browser
def test_it_is_printed_on_a_few_sheets(page: Path) -> None:
    printed = page.parent / "report.pdf"
    browsed(page, "--no-pdf-header-footer", f"--print-to-pdf={printed}")
    document = printed.read_bytes()
    assert document.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type */Page\b", document)) <= 4


@pytest.mark.parametrize(
    "number", ["0400 000 005", "+61 400 000 005", "61-400-000-005", "+1 (212) 555 0005", "0400000 005"]
)
def test_a_number_is_masked_however_it_is_spelled(number: str) -> None:
    assert bare(f"no file 'pics/{number}.gif'") == "no file 'pics/***005.gif'"


@pytest.mark.parametrize("text", ["since 2026-11-29 22:22:56+11:00", "400 of 1000 recipients", "60 000 ms"])
def test_what_is_no_number_is_not_masked(text: str) -> None:
    assert bare(text) == text


async def test_a_page_tells_of_the_sms_to_those_whose_mms_did_not_arrive(api: Sandbox, place: Place) -> None:
    async with api.client(limiter=NoLimit()) as mms:
        campaign = mms.campaign(
            text="Hi", image=PNG, journal=place[0], name=place[1] or None, fallback=SMSFallback(wait=0)
        )
        await campaign.send_all(["+61410000001", "+61410000002"])
        lost = api.messages[0]
        failed = DeliveryStatus.FAILED
        await campaign.record(
            DeliveryReport(message_id=lost.id, status=failed, recipient=lost.to, custom_string=None, source=None)
        )
        async for _ in campaign.send_fallback():
            pass
        await campaign.aclose()
    page = await html_report(place[0], place[1] or None)
    assert "<dt>Recipients by SMS</dt><dd>1</dd>" in page
    assert "<dt>SMS accepted</dt><dd>1</dd>" in page
    assert "<dt>Credits for SMS</dt><dd>1</dd>" in page


async def test_a_page_of_sms_tells_of_no_picture(api: Sandbox, place: Place) -> None:
    async with api.client(limiter=NoLimit()) as mms:
        campaign = mms.campaign(kind="sms", text="Hi", journal=place[0], name=place[1] or None)
        await campaign.send_all(["+61410000001"])
        await campaign.aclose()
    page = await html_report(place[0], place[1] or None)
    assert "<dt>Sent as</dt><dd>SMS</dd>" in page
    assert "Picture" not in page
