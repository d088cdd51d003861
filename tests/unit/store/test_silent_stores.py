"""Stores that do not answer: a table that is locked, a server that is frozen. Nobody waits for them without end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from mmsclient import LedgerUnavailableError
from mmsclient._keyed import sends
from mmsclient._store.postgres import events, ledger
from mmsclient.models import DeliveryReport
from mmsclient.sandbox import Sandbox
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import until
from tests.support.callbacks import TOKEN, status
from tests.support.held import Held
from tests.support.keyed import send
from tests.support.postgres_server import Server

ONE = "+61400000000"
REPORT = {"message_id": "a", "status": "Delivered", "recipient": ONE}


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """A wait without end fails its test."""
    async with asyncio.timeout(60):
        yield


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


async def test_a_send_whose_key_is_locked_is_not_sent(api: Sandbox, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LOCKED", 0.2)
    async with api.client(rate=None, ledger=url) as mms:
        await send(mms, "of the tables", ONE)
        with closing(psycopg.connect(url)) as other:
            other.execute("LOCK TABLE mmsclient.send")
            with pytest.raises(LedgerUnavailableError, match="due to lock timeout"):
                await send(mms, "a", ONE)
        assert api.calls["send-mms"] == 1
        assert (await send(mms, "a", ONE)).accepted == 1
        assert (await send(mms, "a", ONE)).repeated
    assert api.calls["send-mms"] == 2


async def test_a_send_whose_ledger_is_frozen_is_not_sent(
    api: Sandbox, url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key may be claimed when the database goes on; that counts for nothing."""
    async with api.client(rate=None, ledger=url) as mms:
        await send(mms, "of the tables", ONE)
        with postgres.frozen(url), monkeypatch.context() as patch:
            patch.setattr(ledger, "SILENCE", 0.2)
            for key in ("a", "b", "a"):
                with pytest.raises(LedgerUnavailableError, match="has not answered"):
                    await send(mms, key, ONE)
        assert api.calls["send-mms"] == 1
        assert [(await send(mms, key, ONE)).repeated for key in ("a", "b", "a")] == [False, False, True]
    assert api.calls["send-mms"] == 3


async def test_many_sends_wait_as_long_as_the_ledger_goes_on(
    api: Sandbox, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a part of the time that a silent one is given, and all of them take far more."""
    async with api.client(rate=None, ledger=url) as mms:
        await send(mms, "of the tables", ONE)
        monkeypatch.setattr(ledger, "SILENCE", 3.0)
        with closing(psycopg.connect(url, autocommit=True)) as other:
            other.execute(
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN PERFORM pg_sleep(0.2); RETURN new; END';"
                "CREATE TRIGGER slow BEFORE INSERT ON mmsclient.send FOR EACH ROW EXECUTE FUNCTION slow()"
            )
        sent = await asyncio.gather(*(send(mms, str(number), ONE) for number in range(20)))
    assert sum(each.accepted for each in sent) == 20


async def test_an_answer_is_returned_whose_ledger_is_frozen(
    api: Sandbox, url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sends, "KEPT", 0.3)
    monkeypatch.setattr(sends, "CLOSED_WITHIN", 0.3)
    held = Held()
    async with api.client(rate=None, ledger=url) as mms:
        await send(mms, "of the tables", ONE)
        api.faults.add(held)
        sending = asyncio.create_task(send(mms, "a", ONE))
        await until(lambda: api.calls["send-mms"] == 2)
        with postgres.frozen(url):
            held.answer.set()
            assert (await sending).accepted == 1
            assert "key 'a' is unknown from now on, but it ended accepted" in caplog.text
            await mms.aclose()
            assert "ledger: it does not answer, and closes when it does" in caplog.text


def receiver(seen: str | Path) -> CallbackReceiver:
    made = CallbackReceiver(token=TOKEN, seen=seen, timeout=0.5)

    @made.on_delivery_report
    async def take(report: DeliveryReport) -> None:
        pass

    return made


async def test_a_receiver_closes_whose_database_is_frozen(
    url: str, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = receiver(url)
    while await status(callbacks, REPORT) != 200:  # its tables are looked for first
        pass
    with postgres.frozen(url):
        assert await status(callbacks, {**REPORT, "message_id": "b"}) == 503
        assert not await callbacks.is_healthy(timeout=0.1)
        await callbacks.aclose()
        assert "a store does not answer, and closes when it does" in caplog.text


async def test_a_receiver_closes_whose_file_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    callbacks = receiver(path)
    assert await status(callbacks, REPORT) == 200
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await status(callbacks, {**REPORT, "message_id": "b"}) == 503
        await callbacks.aclose()


async def test_an_event_that_is_locked_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOCKED", 0.2)
    callbacks = CallbackReceiver(token=TOKEN, seen=url, timeout=60)
    callbacks.on_delivery_report(lambda report: None)
    assert await status(callbacks, REPORT) == 200
    with closing(psycopg.connect(url)) as other:
        other.execute("LOCK TABLE mmsclient.event")
        assert await status(callbacks, {**REPORT, "message_id": "b"}) == 503
    assert await status(callbacks, {**REPORT, "message_id": "b"}) == 200
    await callbacks.aclose()
