"""Stores whose thread cannot be started: who asks is told at once, and the next one is served."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmsclient import AsyncMMSClient, LedgerUnavailableError
from mmsclient._store.group_commit import GroupCommit
from mmsclient._store.sqlite_calls import Call, SQLiteCalls
from mmsclient._store.stores import store_at
from mmsclient._store.worker_thread import WorkerThread
from mmsclient._threads import NoThreadError
from mmsclient.bulk import (
    JournalUnavailableError,
    RecipientState,
    ReportRecorder,
    SuppressionList,
    SuppressionListUnavailableError,
)
from mmsclient.bulk.reader_thread import ReaderThread
from mmsclient.models import DeliveryReport, DeliveryStatus
from mmsclient.outbox import Outbox, OutboxUnavailableError
from mmsclient.sandbox import Sandbox
from mmsclient.webhooks import CallbackReceiver, new_token
from tests.conftest import PNG
from tests.support.keyed import Place, place_in, send
from tests.support.no_threads import Refuse
from tests.support.no_threads import refuse as refuse  # noqa: PLC0414 - a fixture
from tests.support.postgres_server import Server

ONE = "+61400000000"
NO_THREAD = "no thread can be started"


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_in(request.param, request, tmp_path)


@pytest.fixture
def commits(tmp_path: Path) -> GroupCommit[Call, Any]:
    path = tmp_path / "file.sqlite"
    return GroupCommit(
        lambda: SQLiteCalls(lambda: sqlite3.connect(path, isolation_level=None, check_same_thread=False))
    )


def version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


async def test_all_writes_that_wait_fail_and_the_next_is_committed(
    commits: GroupCommit[Call, Any], refuse: Refuse
) -> None:
    refuse("mmsclient-store", 2)
    async with asyncio.timeout(60):
        for _ in range(2):
            writes = [commits.submit(version) for _ in range(3)]
            assert [type(each) for each in await asyncio.gather(*writes, return_exceptions=True)] == [NoThreadError] * 3
        assert await commits.run(version) == 0
        await commits.aclose()


async def test_the_end_of_a_store_whose_thread_never_started(commits: GroupCommit[Call, Any], refuse: Refuse) -> None:
    refuse("mmsclient-store", 2)
    async with asyncio.timeout(60):
        with pytest.raises(NoThreadError):
            await commits.run(version)
        late = commits.submit(version)
        await commits.aclose()
        with pytest.raises(NoThreadError):
            await late


def test_a_worker_goes_on_where_a_thread_can_be_started_again(refuse: Refuse) -> None:
    worker = WorkerThread("some")
    refuse("some")
    with pytest.raises(NoThreadError):
        worker.submit(int)
    assert worker.submit(int).result(60) == 0
    worker.end().result(60)


def test_a_worker_that_never_started_closes_its_store_all_the_same(refuse: Refuse) -> None:
    closed: list[int] = []
    worker = WorkerThread("some", lambda: closed.append(1))
    refuse("some")
    worker.end().result(60)
    worker.end().result(60)
    assert closed == [1]


@pytest.mark.parametrize(
    ("place", "name"),
    [("sqlite", "mmsclient-store"), ("postgres", "mmsclient-ledger"), ("postgres", "mmsclient-lease")],
    indirect=["place"],
)
async def test_a_keyed_send(place: Place, name: str, api: Sandbox, refuse: Refuse) -> None:
    async with asyncio.timeout(60), api.client(rate=None, ledger=place.at) as mms:
        refuse(name)
        with pytest.raises(LedgerUnavailableError, match=NO_THREAD):
            await send(mms, "a", ONE)
        assert not api.sends
        assert (await send(mms, "a", ONE)).accepted == 1
        assert place.senders() == 1
    assert place.senders() == 0
    assert len(api.sends) == 1


async def test_a_campaign(api: Sandbox, path: Path, refuse: Refuse) -> None:
    async with asyncio.timeout(60), api.client(rate=None) as mms:
        refuse("mmsclient-journal")
        with pytest.raises(JournalUnavailableError, match=NO_THREAD):
            await mms.campaign(text="Hi", image=PNG, journal=path).send_all([ONE])
        report = await mms.campaign(text="Hi", image=PNG, journal=path).send_all([ONE])
    assert report.counts[RecipientState.ACCEPTED] == 1


async def test_the_lease_of_a_campaign_is_given_back(api: Sandbox, postgres: Server, refuse: Refuse) -> None:
    url = postgres.new_database()
    async with asyncio.timeout(60), api.client(rate=None) as mms:
        campaign: dict[str, Any] = {"text": "Hi", "image": PNG, "journal": url, "name": "one"}
        refuse("mmsclient-lease")
        with pytest.raises(JournalUnavailableError, match=NO_THREAD):
            await mms.campaign(**campaign).send_all([ONE])
        assert postgres.ask("SELECT until FROM mmsclient.lease", url) == [(None,)]
        report = await mms.campaign(**campaign).send_all([ONE])
    assert report.counts[RecipientState.ACCEPTED] == 1


async def an_order(mms: AsyncMMSClient, path: Path) -> None:
    outbox = Outbox(mms, path)
    try:
        with pytest.raises(OutboxUnavailableError, match=NO_THREAD):
            await outbox.put(key="a", to=ONE, text="Hi", image=PNG)
        await outbox.put(key="a", to=ONE, text="Hi", image=PNG)
    finally:
        await outbox.aclose()


async def an_opt_out(mms: AsyncMMSClient, path: Path) -> None:
    async with SuppressionList(path) as suppression:
        with pytest.raises(SuppressionListUnavailableError, match=NO_THREAD):
            await suppression.add(ONE)
        await suppression.add(ONE)


async def a_report(mms: AsyncMMSClient, path: Path) -> None:
    await mms.campaign(text="Hi", image=PNG, journal=path).send_all([ONE])
    recorder = ReportRecorder(path)
    report = DeliveryReport(
        message_id="1", status=DeliveryStatus("Delivered"), recipient=ONE, custom_string="", source=""
    )
    try:
        with pytest.raises(JournalUnavailableError, match=NO_THREAD):
            await recorder.record(report)
        await recorder.record(report)
    finally:
        await recorder.aclose()


async def events(mms: AsyncMMSClient, path: Path) -> None:
    receiver = CallbackReceiver(token=new_token(), seen=path)
    assert not await receiver.is_healthy()
    assert await receiver.is_healthy()
    await receiver.aclose()


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (an_order, "mmsclient-outbox"),
        (an_opt_out, "mmsclient-store"),
        (a_report, "mmsclient-store"),
        (events, "mmsclient-store"),
    ],
)
async def test_other_stores(use: Callable[..., Any], name: str, api: Sandbox, path: Path, refuse: Refuse) -> None:
    async with asyncio.timeout(60), api.client(rate=None) as mms:
        refuse(name)
        await use(mms, path)


async def test_the_worker_of_an_outbox_gives_its_store_back(api: Sandbox, path: Path, refuse: Refuse) -> None:
    async with asyncio.timeout(60), api.client(rate=None) as mms:
        outbox = Outbox(mms, path)
        await outbox.counts()
        refuse("mmsclient-outbox")  # now that of its worker
        with pytest.raises(OutboxUnavailableError, match=NO_THREAD):
            await outbox.__aenter__()
        async with Outbox(mms, path) as another:  # which is not told that the first is still sending
            await another.put(key="a", to=ONE, text="Hi", image=PNG)


async def test_a_journal_that_is_read_again_and_again(api: Sandbox, path: Path, refuse: Refuse) -> None:
    async with asyncio.timeout(60), api.client(rate=None) as mms:
        await mms.campaign(text="Hi", image=PNG, journal=path).send_all([ONE])
        reader = ReaderThread(store_at(path, None))
        refuse("mmsclient-reader")
        with pytest.raises(JournalUnavailableError, match=NO_THREAD):
            await reader.ask(lambda journal: journal.summary())
        assert (await reader.ask(lambda journal: journal.summary())).counts[RecipientState.ACCEPTED] == 1
        await reader.aclose()
