"""What goes wrong around a campaign: silent servers, programs that leave, journals that are locked or moved."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mmsclient import AsyncMMSClient, DeliveryReport, DeliveryStatus, SentBatch, SentMessage
from mmsclient._store.sqlite_opening import open_journal
from mmsclient.bulk import (
    Batch,
    CampaignStoppedError,
    JournalError,
    JournalMismatchError,
    OptOutsIncompleteError,
    RecipientState,
    Sending,
    read_report,
    read_status,
    unpause,
)
from mmsclient.bulk.brake import WINDOW
from mmsclient.bulk.outcome import outcome_of_answer
from mmsclient.limiter import NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Fault, Reject, Respond
from tests.conftest import until
from tests.support.campaigns import agrees, campaign, content, finished, numbers, success

pytestmark = pytest.mark.usefixtures("impatient")

ACCEPTED, PENDING, UNKNOWN, REFUSED, SENDING = (
    RecipientState.ACCEPTED,
    RecipientState.PENDING,
    RecipientState.UNKNOWN,
    RecipientState.REFUSED,
    RecipientState.SENDING,
)


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit()) as mms:
        yield mms


async def left_of(sending: Sending) -> list[Batch]:
    return [batch async for batch in sending]


def files(folder: Path) -> dict[str, int]:
    """The files there and who may read them."""
    return {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()}


# Pages and refusals that are not about the recipients -----------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 402, 413, 418])
async def test_a_proxys_page_stops_a_campaign_and_burns_nobody(
    api: Sandbox, mms: AsyncMMSClient, path: Path, status: int
) -> None:
    api.faults.add(Respond(status, b"<html>No</html>", {"content-type": "text/html"}), call="send-mms")
    with pytest.raises(CampaignStoppedError) as caught:
        await finished(mms, path, numbers(500))
    assert caught.value.report.counts[PENDING] == 500
    api.faults.clear()
    report = await finished(mms, path, numbers(500))
    assert report.counts[ACCEPTED] == 500


@pytest.mark.parametrize(
    "body", [{"error": {"code": 413, "message": "Too large"}}, {"error": {"code": "entity.too.large"}}]
)
async def test_a_code_that_is_none_of_the_apis_stops_a_campaign_and_burns_nobody(
    api: Sandbox, mms: AsyncMMSClient, path: Path, body: dict[str, Any]
) -> None:
    answer = Respond(413, json.dumps(body).encode(), {"content-type": "application/json"})
    api.faults.add(answer, call="send-mms", skip=1)
    with pytest.raises(CampaignStoppedError) as caught:
        await finished(mms, path, numbers(500), batch_size=10)
    assert caught.value.report.counts[ACCEPTED] + caught.value.report.counts[PENDING] == 500
    api.faults.clear()
    await agrees(await finished(mms, path, numbers(500)), api, numbers(500))


async def test_a_strange_code_over_http_200_is_not_sent_again(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    """It may have been carried out, whoever says so."""
    body = {"meta": {"code": 200, "status": "ok"}, "msg": "Fine", "data": {}}
    api.faults.add(Respond(200, json.dumps(body).encode(), {"content-type": "application/json"}), call="send-mms")
    with pytest.raises(CampaignStoppedError, match="after 3 batches in a row"):
        await finished(mms, path, numbers(500), batch_size=10)
    api.faults.clear()
    report = await finished(mms, path, numbers(500))
    assert report.counts[ACCEPTED] < 500
    assert report.counts[ACCEPTED] + report.counts[REFUSED] == 500


def test_an_answer_that_lists_somebody_and_counts_nobody_is_a_failure() -> None:
    message = SentMessage(id="A", to="+61400000000", subject="", text="", sent_at=None, sent_at_text="", raw={})
    sent = SentBatch(
        accepted=0,
        total=2,
        messages=(message,),
        refused=None,
        duplicates=(),
        credits_used=None,
        low_sms_alert=None,
        flaws=(),
        raw={},
    )
    outcome = outcome_of_answer([61400000000, 61400000001], sent)
    assert outcome.failed
    assert {result.state for result in outcome.results} == {UNKNOWN}


@pytest.mark.parametrize(
    "fault", [Reject("REQUEST_FAILED", "No.", 400), Reject("RECIPIENTS_ERROR", "None valid.", 400), None]
)
async def test_batches_of_which_nobody_was_accepted_stop_a_campaign(
    api: Sandbox, mms: AsyncMMSClient, path: Path, fault: Fault | None
) -> None:
    listed = numbers(1000)
    if fault is not None:
        api.faults.add(fault, call="send-mms")
    else:
        data = {"messages": [], "total_numbers": 25, "success_number": 0}
        api.faults.add(success(data), call="send-mms")
    with pytest.raises(CampaignStoppedError, match="after 3 batches in a row"):
        await finished(mms, path, listed, batch_size=25)
    report = await read_report(path)
    assert report.counts[REFUSED] <= 25 * (3 + WINDOW)


# Journals -------------------------------------------------------------------------------------------------------------


async def test_a_journal_is_refused_at_another_host_and_with_another_key(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    await finished(mms, path, numbers(10))
    with Sandbox(rate=None) as real:
        async with real.client() as other:
            with pytest.raises(JournalMismatchError, match="it belongs to a campaign at http://127"):
                await finished(other, path, numbers(20))
        assert not real.arrivals
    async with AsyncMMSClient("a changed key of the account".replace(" ", "-"), base_url=api.url) as changed:
        with pytest.raises(JournalMismatchError, match="another APPKEY"):
            await campaign(changed, path).dry_run(numbers(20))
        with pytest.raises(JournalMismatchError, match="another APPKEY"):
            await finished(changed, path, numbers(20))
        dry = await campaign(changed, path, new_key=True).dry_run(numbers(20))
        assert dry.counts[PENDING] == 10
    report = await finished(mms, path, numbers(20))
    assert report.counts[ACCEPTED] == 20
    assert api.app_key.encode() not in (content(path) or b"")


async def test_a_journal_of_before_takes_the_first_account_that_sends_with_it(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    await finished(mms, path, numbers(10))
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM meta WHERE key IN ('base_url', 'key_salt', 'key_fingerprint')")
    database.close()
    report = await finished(mms, path, numbers(20))
    assert report.counts[ACCEPTED] == 20
    async with AsyncMMSClient("another-key", base_url=api.url) as other:
        with pytest.raises(JournalMismatchError):
            await finished(other, path, numbers(20))


async def test_a_journal_with_two_names_is_refused(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    await finished(mms, path, numbers(10))
    os.link(path, path.with_name("other.db"))
    for name in (path, path.with_name("other.db")):
        with pytest.raises(JournalError, match="2 names"):
            await finished(mms, name, numbers(20))
    os.unlink(path.with_name("other.db"))
    assert (await finished(mms, path, numbers(20))).counts[ACCEPTED] == 20


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_journal_that_is_removed_stops_its_campaign_at_the_next_claim(
    api: Sandbox, mms: AsyncMMSClient, path: Path, replaced: bool
) -> None:
    sending = campaign(mms, path, batch_size=10).send(numbers(1000))
    await anext(sending)
    os.rename(path, f"{path}-away")
    if replaced:
        os.close(os.open(path, os.O_CREAT))
    sends = len(api.sends)
    with pytest.raises(JournalError, match="removed or replaced"):
        await left_of(sending)
    assert len(api.sends) <= sends + WINDOW + 1


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
async def test_a_campaign_whose_journal_is_written_by_another_index_sends_to_nobody_twice(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    sending = campaign(mms, path, batch_size=10).send(numbers(300))
    await anext(sending)
    os.unlink(f"{path}-shm")
    code = f"import asyncio; from mmsclient.bulk import pause; asyncio.run(pause({os.fspath(path)!r}))"
    await (await asyncio.create_subprocess_exec(sys.executable, "-c", code)).wait()
    with pytest.raises(JournalError, match=r"spring\.db-shm was removed or replaced"):
        await left_of(sending)
    assert (await read_status(path)).paused_by is not None  # what it has written is there
    await unpause(path)
    report = await finished(mms, path, numbers(300))
    assert report.counts[ACCEPTED] + report.counts[RecipientState.UNKNOWN] == 300
    assert {api.carried_out(number) for number in numbers(300)} == {1}


async def test_journals_are_for_their_owners_eyes_and_one_file_after_a_clean_end(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    sending = campaign(mms, path, batch_size=10).send(numbers(100))
    await anext(sending)
    during = files(path.parent)
    assert {"spring.db", "spring.db-wal", "spring.db-shm"} <= during.keys()
    assert set(during.values()) == {0o600}
    await left_of(sending)
    await read_report(path)
    assert files(path.parent) == {"spring.db": 0o600}
    os.chmod(path, 0o644)
    await finished(mms, path, numbers(110))
    assert files(path.parent) == {"spring.db": 0o600}


# Lists and reports ----------------------------------------------------------------------------------------------------


async def test_a_list_that_was_cut_is_not_read_until_it_was_read_whole(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    def dying(row: int) -> Iterator[str]:
        yield from numbers(row)
        raise KeyError

    spring = campaign(mms, path, batch_size=1000)
    with pytest.raises(KeyError):
        await spring.send_all(dying(2500))
    assert not (await spring.report()).list_read
    assert not (await spring.send_all([])).list_read
    with pytest.raises(KeyError):
        await spring.send_all(dying(300))
    assert not (await spring.send_all(numbers(1000))).list_read
    with pytest.raises(JournalError, match="not read to its end"):
        await spring.send_all()
    report = await spring.send_all(numbers(5000))
    assert report.list_read
    assert report.counts[ACCEPTED] == 5000
    assert (await spring.send_all(numbers(5))).list_read  # a further list, and a short one


async def test_a_list_that_awaits_what_is_cancelled_ends_its_campaign(mms: AsyncMMSClient, path: Path) -> None:
    async def source() -> AsyncIterator[str]:
        yield "+61400000000"
        rows = asyncio.get_running_loop().create_future()
        rows.cancel()
        await rows

    sending = asyncio.create_task(campaign(mms, path).send_all(source()))
    await asyncio.wait([sending], timeout=30)
    assert sending.cancelled()  # as whatever else the list raises
    assert (await read_report(path)).counts[SENDING] == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the client that nobody closes
def test_a_loop_that_ends_while_the_journal_is_opened_leaves_it_free(
    api: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_opening, go_on = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> Any:
        is_opening.set()
        go_on.wait(30)
        opened.append(open_journal(*args, **options))
        return opened[-1]

    async def leave() -> None:
        sending = asyncio.create_task(campaign(api.client(), path).send_all(["+61400000000"]))
        await until(is_opening.is_set)
        assert not sending.done()

    async def again() -> None:
        await until(lambda: opened and not path.with_name(f"{path.name}-lock").exists())
        async with api.client() as mms:
            await finished(mms, path, ["+61400000000"])

    opened: list[Any] = []
    monkeypatch.setattr("mmsclient._store.stores.open_journal", slow)
    asyncio.run(leave())
    go_on.set()
    monkeypatch.undo()
    asyncio.run(again())
    gc.collect()
    assert api.carried_out("+61400000000") == 1


async def test_reports_with_and_without_a_recipient_count_once(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    spring = campaign(mms, path)
    async for batch in spring.send(numbers(2)):
        assert batch.sent is not None
        for message in batch.sent.messages:
            for recipient, status in ((message.to, "Queued"), ("", "Delivered"), (message.to, "Delivered")):
                await spring.record(
                    DeliveryReport(
                        message_id=message.id,
                        status=DeliveryStatus(status),
                        recipient=recipient,
                        custom_string=None,
                        source=None,
                    )
                )
    report = await spring.report()
    assert report.open == 0
    assert report.deliveries == {"Delivered": 2}
    assert len([each async for each in report.recipients()]) == 2


async def test_odd_texts_in_a_report_are_kept(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    spring = campaign(mms, path)
    await spring.send_all(numbers(2))
    await spring.record(
        DeliveryReport(
            message_id="A\ud800", status=DeliveryStatus("\udfff"), recipient="9" * 40, custom_string=None, source=None
        )
    )
    assert (await spring.report()).counts[ACCEPTED] == 2


@pytest.mark.parametrize("empty_page", [True, False])
async def test_opt_outs_that_end_early_stop_it(api: Sandbox, mms: AsyncMMSClient, path: Path, empty_page: bool) -> None:
    for number in numbers(60, start=100):
        api.add_opt_out(number)
    page = {
        "page": {"count": 3, "number": 1},
        "total": 60,
        "responses": [] if empty_page else [{"number": "61400000000"}],
    }
    api.faults.add(success(page), call="get-optout")
    with pytest.raises(OptOutsIncompleteError, match="ended early"):
        await finished(mms, path, numbers(5), exclude_opt_outs=True)
    assert not api.sends
    report = await finished(mms, path, numbers(5), exclude_opt_outs=True, partial_opt_outs=True)
    assert report.counts[ACCEPTED] >= 4


@pytest.mark.parametrize(
    ("spelling", "is_read"),
    [
        ("0400000003", True),
        ("61400000003", True),
        ("+61 400-000-003", True),
        ("400000003", False),
        ("0061400000003", True),
        ("+61 (0)400 000 003", False),
        ("4.00000003E8", False),
        ("", False),
    ],
)
async def test_who_opted_out_in_any_spelling_gets_nothing(
    api: Sandbox, mms: AsyncMMSClient, path: Path, spelling: str, is_read: bool
) -> None:
    page = {"page": {"count": 1, "number": 1}, "total": 1, "responses": [{"number": spelling}]}
    api.faults.add(success(page), call="get-optout")
    try:
        report = await finished(mms, path, numbers(5), exclude_opt_outs=True)
        assert is_read
        assert (report.counts[ACCEPTED], api.carried_out("+61400000003")) == (4, 0)
    except OptOutsIncompleteError:
        assert not is_read
        assert not api.sends


# Shown ----------------------------------------------------------------------------------------------------------------


async def test_a_batch_and_the_counts_print_short(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    spring = campaign(mms, path, batch_size=1000)
    async for batch in spring.send(numbers(2000)):
        assert str(batch) == f"batch {batch.number}: 1000 of 1000 recipients accepted"
        assert len(repr(batch)) < 300
        assert batch.progress.calls_per_second < 15
    report = await spring.report()
    assert str(report.counts) == repr(report.counts) == "2000 accepted"
    assert report.counts[ACCEPTED] == report.counts["accepted"] == 2000  # type: ignore[index]


async def test_the_rate_shown_is_never_above_the_cap(api: Sandbox, path: Path) -> None:
    """Not in the burst of the start either."""
    async with api.client(rate=15) as mms:
        rates = [
            batch.progress.calls_per_second async for batch in campaign(mms, path, batch_size=10).send(numbers(400))
        ]
    assert max(rates) <= 15
    assert rates[-1] >= 10


async def test_recipients_that_another_program_took_away_are_not_waited_for(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    sending = campaign(mms, path, batch_size=10).send(numbers(1000))
    await anext(sending)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE recipient SET state = 'excluded', exclusion = 'listed' WHERE state = 'pending'")
    async with asyncio.timeout(60):
        await left_of(sending)
    report = await read_report(path)
    assert report.counts[ACCEPTED] + report.counts[RecipientState.EXCLUDED] == 1000
    assert report.counts[SENDING] == 0
    assert report.counts[ACCEPTED] == 10 * len(api.sends)
