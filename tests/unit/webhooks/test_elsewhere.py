"""Receivers that share a database: each event handled once, and a report of one machine ends the wait on another."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from hashlib import blake2b
from typing import Any

import psycopg
import pytest

from mmsclient._store.handled_events import Reservation
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.events import events_in_database
from mmsclient._store.shared_reports import Look, Looked, SharedReports
from mmsclient.errors import ConfigurationError
from mmsclient.models import DeliveryReport
from mmsclient.webhooks import CallbackReceiver, ReceiverStats, elsewhere, parse_callbacks
from mmsclient.webhooks.pending import PendingEvents
from mmsclient.webhooks.waiters import AwaitedReport, ReportWaiters
from tests.support.callbacks import TOKEN, status
from tests.support.postgres_server import PASSWORD, Server

FAR = 3600.0


def report(number: int = 1, status: str = "Delivered", **fields: str) -> dict[str, str]:
    return {"message_id": f"id-{number}", "status": status, "recipient": "61400000000", **fields}


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture
async def machine(url: str) -> AsyncIterator[Callable[..., CallbackReceiver]]:
    """Makes receivers on one database; each stands for a machine."""
    async with AsyncExitStack() as stack:

        def new(handled: list[str] | None = None, **options: Any) -> CallbackReceiver:
            receiver = CallbackReceiver(token=TOKEN, **{"seen": url, "timeout": 30.0, **options})
            stack.push_async_callback(receiver.aclose)
            if handled is not None:

                @receiver.on_delivery_report
                async def take(report: DeliveryReport) -> None:
                    await asyncio.sleep(0)
                    handled.append(report.message_id)

            return receiver

        yield new


async def test_each_event_is_handled_once_on_all_machines(machine: Callable[..., CallbackReceiver]) -> None:
    handled: list[str] = []
    machines = [machine(handled) for _ in range(3)]
    for _ in range(2):
        outcomes = await asyncio.gather(*(status(each, [report(n)]) for n in range(40) for each in machines))
        assert set(outcomes) == {200}
    assert sorted(handled) == sorted(f"id-{n}" for n in range(40))
    assert sum(each.stats.repeated for each in machines) == 2 * 3 * 40 - 40


DEAD = """
import asyncio, os, sys
from mmsclient.webhooks import CallbackReceiver
from mmsclient._store import handled_events
from tests.support.callbacks import TOKEN, status

handled_events.LEASE = 1.0

async def main():
    receiver = CallbackReceiver(token=TOKEN, seen=sys.argv[1], timeout=60)

    @receiver.on_delivery_report
    async def die(report):
        print("reserved", flush=True)
        await asyncio.Event().wait()

    body = {"message_id": "id-1", "status": "Delivered", "recipient": "61400000000"}
    await status(receiver, [body])

asyncio.run(main())
"""


async def test_what_a_killed_machine_was_handling_is_handled_by_another_when_it_comes_again(
    machine: Callable[..., CallbackReceiver], url: str
) -> None:
    handled: list[str] = []
    living = machine(handled)
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", DEAD, url, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"reserved\n"
    finally:
        child.kill()
        await child.wait()
    assert await status(living, [report()]) == 200
    assert await status(living, [report()]) == 200
    assert handled == ["id-1"]


async def test_a_reservation_is_renewed_and_ends_with_its_owner(url: str, postgres: Server) -> None:
    living, other = (events_in_database(Address.of(url), lease=0.6) for _ in range(2))
    key = b"k" * 16
    assert await living.reserve(key) is Reservation.OURS
    renewals: set[Any] = set()
    async with asyncio.timeout(60):
        while len(renewals) < 3:
            renewals.update(await asyncio.to_thread(postgres.ask, "SELECT until FROM mmsclient.event", url))
            await asyncio.sleep(0.02)
    await living.aclose()  # dies without a word
    async with asyncio.timeout(60):
        while await other.reserve(key) is Reservation.ELSEWHERE:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await other.confirm(key)
    assert await other.reserve(key) is Reservation.HANDLED
    await other.aclose()


async def test_a_reservation_of_another_machine_is_respected_and_given_back(url: str) -> None:
    one, other = (events_in_database(Address.of(url), lease=FAR) for _ in range(2))
    key = b"k" * 16
    assert await one.reserve(key) is Reservation.OURS
    assert await one.reserve(key) is Reservation.OURS
    assert await other.reserve(key) is Reservation.ELSEWHERE
    await other.release(key)  # is not its own
    assert await other.reserve(key) is Reservation.ELSEWHERE
    await one.release(key)
    assert await other.reserve(key) is Reservation.OURS
    for each in (one, other):
        await each.aclose()


async def test_a_slow_database_stalls_no_loop(machine: Callable[..., CallbackReceiver], url: str) -> None:
    handled: list[str] = []
    slow, quick = machine(handled), machine(handled, seen=None)
    assert await status(slow, [report(0)]) == 200
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("LOCK TABLE mmsclient.event")
        waiting = asyncio.create_task(status(slow, [report(1)]))
        for number in range(2, 20):
            assert await status(quick, [report(number)]) == 200
        assert not waiting.done()
        await other.rollback()
        assert await waiting == 200


async def test_a_database_that_is_away_gives_503_until_it_is_back(postgres: Server) -> None:
    server = Server()
    try:
        handled: list[str] = []
        receiver = CallbackReceiver(token=TOKEN, seen=server.new_database(), timeout=30.0)
        receiver.on_delivery_report(lambda report: handled.append(report.message_id))
        try:
            assert await status(receiver, [report(1)]) == 200
            server.stop("immediate")
            assert await status(receiver, [report(1)]) == 503
            assert await status(receiver, [report(2)]) == 503
            assert handled == ["id-1"]
            server.start()
            assert await status(receiver, [report(1)]) == 200
            assert await status(receiver, [report(2)]) == 200
            assert handled == ["id-1", "id-2"]
        finally:
            await receiver.aclose()
    finally:
        server.remove()


async def test_a_database_that_is_not_there_is_told_without_its_password(
    caplog: pytest.LogCaptureFixture, postgres: Server
) -> None:
    url = f"postgresql://mms:{PASSWORD}@/nothing?host={postgres.directory}"
    receiver = CallbackReceiver(token=TOKEN, seen=url)
    receiver.on_delivery_report(print)
    assert await status(receiver, [report()]) == 503
    await receiver.aclose()
    assert 'database "nothing" does not exist' in caplog.text
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(receiver)


def test_a_url_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the URL of the store cannot be read") as refused:
        CallbackReceiver(token=TOKEN, seen=f"postgresql://mms:{PASSWORD}/@#host/x")
    assert PASSWORD not in str(refused.value)


async def test_what_was_handled_and_could_not_be_noted_is_noted_when_the_database_is_back(
    machine: Callable[..., CallbackReceiver], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = machine(handled := list[str]())
    other = machine(elsewhere_handled := list[str]())

    def rename(one: str, to: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER TABLE mmsclient.{one} RENAME TO {to}".encode())

    assert await status(receiver, [report(0)]) == 200
    lone = machine()

    @lone.on_delivery_report
    async def take(report: DeliveryReport) -> None:
        handled.append(report.message_id)
        await asyncio.to_thread(rename, "event", "gone")

    assert await status(lone, [report(1)]) == 200
    assert "handled but not noted" in caplog.text
    await asyncio.to_thread(rename, "gone", "event")
    assert await status(lone, [report(1)]) == 200
    assert await status(other, [report(1)]) == 200
    assert handled == ["id-0", "id-1"]
    assert elsewhere_handled == []


async def test_what_was_handled_while_the_database_restarts_is_noted_without_being_asked(
    postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    try:
        url = server.new_database()
        one, other = (CallbackReceiver(token=TOKEN, seen=url, timeout=30.0) for _ in range(2))
        handled: list[str] = []

        @one.on_delivery_report
        async def take(report: DeliveryReport) -> None:
            handled.append(report.message_id)
            await asyncio.to_thread(server.stop, "immediate")

        other.on_delivery_report(lambda report: handled.append("elsewhere"))
        try:
            assert await status(one, [report()]) == 200
            assert "handled but not noted" in caplog.text
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(60):
                sql = "SELECT handled FROM mmsclient.event"
                while await asyncio.to_thread(server.ask, sql, url) != [(True,)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert await status(other, [report()]) == 200
            assert handled == ["id-1"]
        finally:
            await one.aclose()
            await other.aclose()
    finally:
        server.remove()


# wait_for -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_notice_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look without a notification: a test that passes was notified."""
    monkeypatch.setattr(elsewhere, "LOOK_EVERY", FAR)


async def listens(url: str, postgres: Server, *, before: frozenset[Any] = frozenset()) -> frozenset[Any]:
    """Wait until somebody listens on the database whose session is none of those `before`; the sessions."""
    sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    async with asyncio.timeout(60):
        while not (found := frozenset(await asyncio.to_thread(postgres.ask, sql, url)) - before):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


@pytest.mark.usefixtures("by_notice_alone")
async def test_a_report_that_one_machine_handles_ends_the_wait_on_another(
    machine: Callable[..., CallbackReceiver], url: str, postgres: Server
) -> None:
    here, there = machine(), machine([])
    waiting = asyncio.create_task(here.wait_for("id-1", recipient="+61 400 000 000", timeout=60))
    await listens(url, postgres)
    fields = {"custom_string": "x", "source": "y"}
    for body in (report(2), report(1, "Dispatched"), report(1, recipient="61400000009"), report(1, **fields)):
        assert await status(there, [body]) == 200
    found = await waiting
    assert (found.message_id, found.status, found.recipient) == ("id-1", "Delivered", "+61400000000")
    assert (found.custom_string, found.source) == ("x", "y")


@pytest.mark.usefixtures("by_notice_alone")
async def test_a_report_that_came_before_the_wait_is_found_on_every_machine(
    machine: Callable[..., CallbackReceiver],
) -> None:
    here, there = machine(), machine([])
    assert await status(there, [report(1, "Failed")]) == 200
    assert (await there.wait_for("id-1", timeout=60)).status == "Failed"
    assert (await here.wait_for("id-1", timeout=60)).status == "Failed"
    assert (await here.wait_for("id-1", timeout=0.0)).status == "Failed"  # remembered


@pytest.mark.usefixtures("by_notice_alone")
@pytest.mark.parametrize("first", ["the wait", "the report"])
async def test_a_report_that_nobody_takes_here_goes_to_a_wait_elsewhere(
    machine: Callable[..., CallbackReceiver], url: str, postgres: Server, first: str
) -> None:
    here, there = machine(), machine()

    async def post() -> int:
        return await status(there, [report()])

    posted = asyncio.create_task(post()) if first == "the report" else None
    if posted is None:
        waiting = asyncio.create_task(here.wait_for("id-1", timeout=60))
    await listens(url, postgres)
    if posted is None:
        posted = asyncio.create_task(post())
    else:
        waiting = asyncio.create_task(here.wait_for("id-1", timeout=60))
    assert await posted == 200
    assert (await waiting).recipient == "+61400000000"
    assert there.stats == ReceiverStats(handled=1, without_handler=1)


async def test_a_report_that_is_awaited_nowhere_is_answered_503(machine: Callable[..., CallbackReceiver]) -> None:
    here, there = machine(), machine()
    waiting = asyncio.create_task(here.wait_for("id-2", timeout=60))
    assert await status(machine(timeout=0.5), [report(1)]) == 503
    assert await status(there, [report(2)]) == 200
    await waiting


async def test_behind_a_pooler_a_wait_ends_by_looking(
    machine: Callable[..., CallbackReceiver], url: str, postgres: Server
) -> None:
    """PgBouncer in transaction mode passes no notifications on."""
    with postgres.pooled(url) as pooled:
        handled: list[str] = []
        here, there = machine(seen=pooled), machine(handled, seen=pooled)
        waiting = asyncio.create_task(here.wait_for("id-1", timeout=60))
        outcomes = await asyncio.gather(*(status(there, [report(n)]) for n in range(20)))
        assert set(outcomes) == {200}
        assert (await waiting).message_id == "id-1"
        await here.aclose()
        await there.aclose()


@pytest.mark.usefixtures("by_notice_alone")
async def test_a_connection_that_is_cut_is_opened_again(
    machine: Callable[..., CallbackReceiver], url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "LISTEN_AGAIN", 0.05)
    here, there = machine(), machine([])
    waiting = asyncio.create_task(here.wait_for("id-1", timeout=60))
    listening = await listens(url, postgres)
    await asyncio.to_thread(postgres.cut_connections)
    await listens(url, postgres, before=listening)
    assert await status(there, [report()]) == 200
    await waiting


async def test_notices_name_neither_phones_nor_messages(machine: Callable[..., CallbackReceiver], url: str) -> None:
    there = machine([])
    assert await status(there, [report(0)]) == 200
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        channel = f"mmsclient_{blake2b(b'mmsclient', digest_size=8).hexdigest()}"
        await connection.execute(f'LISTEN "{channel}"'.encode())
        assert await status(there, [report(1)]) == 200
        async with asyncio.timeout(60), aclosing(connection.notifies()) as notices:
            notice = await anext(notices)
    assert len(notice.payload) == 16
    assert int(notice.payload, 16)


async def test_a_receiver_that_waits_for_nothing_holds_no_second_connection(
    machine: Callable[..., CallbackReceiver], url: str, postgres: Server
) -> None:
    here = machine([])
    assert await status(here, [report(1)]) == 200
    await here.wait_for("id-1", timeout=60)
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mmsclient'"
    assert await asyncio.to_thread(postgres.ask, sql, url) == [(1,)]
    with pytest.raises(TimeoutError):
        await here.wait_for("id-9", timeout=0.05)
    async with asyncio.timeout(60):
        while await asyncio.to_thread(postgres.ask, sql, url) != [(1,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_wait_that_begins_while_the_last_watch_ends_is_served() -> None:
    """The connection that listens takes a moment to close."""
    is_closing, may_close = asyncio.Event(), asyncio.Event()

    async def listen(heard: Callable[[str], None]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_closing.set()
            await may_close.wait()

    async def look(look: Look) -> Looked:
        (message,) = parse_callbacks(json.dumps(report()))
        assert isinstance(message, DeliveryReport)
        return Looked((message,) if ("id-1", "") in look.awaited else (), ())

    waiters = ReportWaiters()
    watch = elsewhere.Elsewhere(SharedReports(look, listen), waiters, PendingEvents(limit=1, timeout=1))
    with waiters.waiting(AwaitedReport.of("id-9", None)):
        watch.look()
        await asyncio.sleep(0)
    watch.look()
    await is_closing.wait()
    with waiters.waiting(AwaitedReport.of("id-1", None)) as found:
        watch.look()
        may_close.set()
        async with asyncio.timeout(60):
            assert (await found).message_id == "id-1"
    await watch.aclose()


@pytest.mark.usefixtures("by_notice_alone")
async def test_of_the_reports_of_other_machines_the_one_that_a_message_arrived_after_all_counts(
    machine: Callable[..., CallbackReceiver],
) -> None:
    here, there = machine(), machine([])
    for body in (report(1, "Failed", recipient=""), report(1, "Failed"), report(1), report(1, "Rejected")):
        assert await status(there, [body | {"message_id": "id-1 "}]) == 200
    assert (await here.wait_for("id-1", recipient="61400000000", timeout=60)).status == "Delivered"
