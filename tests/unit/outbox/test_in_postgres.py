"""The outbox in PostgreSQL: within the transaction of its caller, over several workers, behind a pooler."""

from __future__ import annotations

import asyncio
import pickle
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import psycopg
import pytest
from psycopg.rows import dict_row

from mmsclient import AsyncMMSClient, InvalidRequestError, KeyReusedError, MMSError
from mmsclient._store.errors import JournalMismatchError, JournalUnavailableError
from mmsclient._store.models import Owner
from mmsclient._store.postgres import lease as leases
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.migrations import migrate
from mmsclient._store.postgres.outbox_worker import PostgresOutboxWorker
from mmsclient._store.stores import outbox_at
from mmsclient.limiter import NoLimit
from mmsclient.outbox import Outbox, OutboxCounts, OutboxError, OutboxResult, OutboxState, Statement
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from tests.conftest import PNG, until
from tests.support.cutting import Cutter
from tests.support.outbox import OWNER, claimed, end, keys, order, state_of, working
from tests.support.postgres_server import PASSWORD, Server
from tests.support.waiting import until as eventually

NEVER = 10_000.0


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database("synchronous_commit = off")


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit()) as mms:
        yield mms


@pytest.fixture
async def new(mms: AsyncMMSClient, url: str) -> AsyncIterator[Callable[..., Outbox]]:
    async with AsyncExitStack() as stack:

        def make(url: str = url) -> Outbox:
            outbox = Outbox(mms, url)
            stack.push_async_callback(outbox.aclose)
            return outbox

        yield make


def about(key: str, **options: Any) -> dict[str, Any]:
    return {"key": key, "to": "+61400000000", "text": "Hi", "image": PNG, **options}


async def ended(outbox: Outbox, key: str) -> OutboxResult:
    result = await outbox.result(key, timeout=60.0)
    assert result is not None
    assert result.is_over, result
    return result


# Within a transaction -------------------------------------------------------------------------------------------------


def stored(postgres: Server, url: str) -> tuple[int, int, int]:
    """Orders, recipients and pictures that are there."""
    tables = ("outbox", "outbox_recipient", "outbox_picture")
    counts = ", ".join(f"(SELECT count(*) FROM mmsclient.{table})" for table in tables)  # noqa: S608
    ((orders, recipients, pictures),) = postgres.ask(f"SELECT {counts}", url)
    return orders, recipients, pictures


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_order_is_there_with_the_transaction_or_not_at_all(
    postgres: Server, url: str, new: Callable[..., Outbox], kind: Literal["sync", "async"]
) -> None:
    outbox = new()
    await outbox.counts()  # the tables are there
    made: Any = psycopg.Connection if kind == "sync" else psycopg.AsyncConnection
    connection: Any = made.connect(url, row_factory=dict_row)
    connection = await connection if kind == "async" else connection

    async def does(name: str, *arguments: Any) -> Any:
        result = getattr(connection, name)(*arguments)
        return await result if kind == "async" else result

    try:
        await does("execute", "CREATE TABLE shop (number integer)")
        await does("commit")
        for ending in ("rollback", "commit"):
            await does("execute", "INSERT INTO shop VALUES (17)")
            put = await outbox.put(**about("order-17", to=["+61400000000", "+61400000001"]), connection=connection)
            assert (put.state, len(put.recipients)) == (OutboxState.WAITING, 2)
            assert await outbox.put(**about("order-17", to=["0400000001", "0400000000"]), connection=connection) == put
            with pytest.raises(KeyReusedError, match="another text and other recipients"):
                await outbox.put(**about("order-17", text="Another"), connection=connection)
            assert await outbox.result("order-17") is None  # for others it is not there yet
            await does(ending)
            is_there = ending == "commit"
            assert stored(postgres, url) == ((1, 2, 1) if is_there else (0, 0, 0))
            assert postgres.ask("SELECT count(*) FROM shop", url) == [(is_there,)]
    finally:
        await does("close")
    assert (await outbox.result("order-17")) == put


async def test_errors_of_the_callers_connection_are_psycopgs(postgres: Server, new: Callable[..., Outbox]) -> None:
    with closing(psycopg.connect(postgres.new_database(has_tables=False))) as connection:
        with pytest.raises(OutboxError, match="store migrate"):
            await new().put(**about("a"), connection=connection)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await new().put(**about("a"), connection=connection)


async def test_only_a_database_takes_part_in_a_transaction(mms: AsyncMMSClient, tmp_path: Any, url: str) -> None:
    outbox = Outbox(mms, tmp_path / "outbox.db")
    with closing(psycopg.connect(url)) as connection, pytest.raises(InvalidRequestError, match=r"^connection"):
        await outbox.put(**about("a"), connection=connection)
    with pytest.raises(InvalidRequestError, match=r"^statement"):
        await outbox.statement(**about("a"))
    await outbox.aclose()


def execute(connection: psycopg.Connection[Any], statement: Statement) -> None:
    """As the drivers do that the styles of placeholders are for."""
    sql, parameters = statement.sql, statement.parameters
    if isinstance(parameters, dict):
        sql = re.sub(r"(?<![:\w]):(\w+)(?!:)", r"%(\1)s", sql)  # as SQLAlchemy finds them
        connection.execute(sql.encode(), parameters)
    else:
        psycopg.RawCursor(connection).execute(sql.encode(), list(parameters))


@pytest.mark.parametrize("placeholders", ["pyformat", "named", "numeric"])
async def test_a_statement_for_other_drivers(
    api: Sandbox, url: str, new: Callable[..., Outbox], placeholders: Literal["pyformat", "named", "numeric"]
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    outbox = new()
    await outbox.counts()
    statement = await outbox.statement(**about("a", subject="Sale", not_before=later), placeholders=placeholders)
    assert "Hi" not in repr(statement)
    other = await outbox.statement(**about("a", text="Another"), placeholders=placeholders)
    with closing(psycopg.connect(url)) as connection:
        execute(connection, statement)
        connection.rollback()
        assert await outbox.result("a") is None
        execute(connection, statement)
        connection.commit()
        execute(connection, statement)
        with pytest.raises(psycopg.errors.UniqueViolation, match="used for another text"):
            execute(connection, other)
    found = await outbox.result("a")
    assert found == await outbox.put(**about("a", subject="Sale"))
    assert found.not_before == later


async def test_wrong_placeholders(new: Callable[..., Outbox]) -> None:
    with pytest.raises(InvalidRequestError, match=r"^placeholders"):
        await new().statement(**about("a"), placeholders="qmark")  # type: ignore[arg-type]


async def test_a_picture_is_not_removed_while_somebody_is_putting_an_order_of_it(postgres: Server, url: str) -> None:
    """It is needed by nobody at present, and will be when that transaction is committed."""
    with closing(outbox_at(url)) as store, closing(store.open_worker(OWNER)) as worker:
        store.put(order("a"))
        claim = claimed(worker)
        worker.finish(claim, end(claim, OutboxState.ACCEPTED))
        with closing(psycopg.connect(url)) as connection:
            sql = "SELECT mmsclient.outbox_put('b', 'Hi', '', 'GIF89a', %s, 'digest', '{61400000000}', NULL, true)"
            connection.execute(sql, (order("b").picture_sha256,))
            worker.purge(1000)
            connection.commit()
        assert claimed(worker).picture == b"GIF89a"
        worker.purge(0)
        assert stored(postgres, url) == (1, 1, 1)


# Several workers ------------------------------------------------------------------------------------------------------


async def test_a_put_wakes_workers_that_do_not_look(
    api: Sandbox, new: Callable[..., Outbox], postgres: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One notification for two workers: one of them sends. Then an order within a transaction."""
    monkeypatch.setattr("mmsclient.outbox.worker.LOOK", NEVER)
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    producer = new()
    async with new() as one, new() as two:
        await until(lambda: postgres.ask(listening, url) == [(2,)])
        await asyncio.sleep(0.1)  # and their first looks are over
        await producer.put(**about("a"))
        await until(lambda: api.carried_out("+61400000000"))
        with closing(psycopg.connect(url)) as connection:
            await producer.put(**about("b", to="+61400000001"), connection=connection)
            connection.commit()
        await until(lambda: api.carried_out("+61400000001"))
        assert (await ended(one, "a")).state == (await ended(two, "b")).state == OutboxState.ACCEPTED
    assert len(api.sends) == 2


async def test_several_workers_send_each_order_once(api: Sandbox, new: Callable[..., Outbox]) -> None:
    api.faults.add(Latency(0.01, jitter=0.02, carried_out=True), call="send-mms")
    producer = new()
    phones = [f"+614000001{number:02}" for number in range(60)]
    async with new(), new(), new():
        for number, phone in enumerate(phones):
            await producer.put(**about(phone, to=phone, text=f"Hi {number % 7}"))
        for phone in phones:
            assert (await ended(producer, phone)).state is OutboxState.ACCEPTED
    assert all(api.carried_out(phone) == 1 for phone in phones)
    assert await producer.counts() == OutboxCounts(accepted=60)


async def test_behind_a_pooler_of_transactions(
    api: Sandbox, new: Callable[..., Outbox], postgres: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No notification comes through: the workers look."""
    monkeypatch.setattr("mmsclient.outbox.worker.LOOK", 0.05)
    with closing(Database(Address.of(url))) as database:
        migrate(database)
    with postgres.pooled(url) as pooled:
        producer = new(pooled)
        async with new(pooled), new(pooled):
            for number in range(20):
                await producer.put(**about(f"{number}", to=f"+614000001{number:02}", text=f"Hi {number % 3}"))
            for number in range(20):
                assert (await ended(producer, f"{number}")).state is OutboxState.ACCEPTED
        await producer.aclose()
    assert sum(len(send.recipients) for send in api.sends) == 20


async def test_the_password_shows_nowhere(
    mms: AsyncMMSClient, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(mms, postgres.new_database("default_transaction_read_only = on").replace("/test", "/missing"))
    with pytest.raises(OutboxError) as caught:
        await outbox.put(**about("a"))
    await outbox.aclose()
    error: MMSError = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert PASSWORD not in f"{outbox!r}{caught.value!r}{error}{caplog.text}"
    assert str(error).startswith("outbox ")


# Leases and doubts ----------------------------------------------------------------------------------------------------


def test_a_worker_that_lost_its_lease_claims_nothing_under_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its late end still counts, and with another lease it goes on."""
    with closing(outbox_at(url)) as store:
        store.put(order("a"))
        with monkeypatch.context() as patch:
            patch.setattr(leases, "LEASE", 0.01)
            patch.setattr(leases, "HEARTBEATS", 0.00001)
            frozen = store.open_worker(OWNER)
        with closing(frozen), closing(store.open_worker(OWNER)) as living:
            claim = claimed(frozen)
            eventually(lambda: living.lose_dead() == 1)
            store.put(order("b"))
            assert not frozen.may_send
            assert frozen.claim() is None
            assert frozen.finish(claim, end(claim, OutboxState.ACCEPTED)) == 1
            assert keys(frozen.claim()) == ["b"]
            assert frozen.may_send


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("times", [1, 2])
def test_what_a_dead_worker_was_sending_is_told_though_the_commit_was_in_doubt(
    url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch, times: int, after: bool
) -> None:
    cutter = Cutter(monkeypatch, postgres)
    with closing(outbox_at(url)) as store, closing(store.open_worker(OWNER)) as living:
        store.put(order("a"))
        with working(store) as dead:
            claimed(dead)
        assert living.lose_dead() == 1
        store.put(order("b"))
        with working(store) as dead:
            claimed(dead)
        cutter.arm(times, after=after)
        if times == 2:
            with pytest.raises(JournalUnavailableError):
                living.lose_dead()
        assert living.lose_dead() == 1
        assert living.lose_dead() == 0
        assert state_of(store, "b") is OutboxState.UNKNOWN


def test_a_worker_that_goes_on_after_all_is_not_told_to_be_gone(
    url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found before a commit that was not made is not so any more."""
    cutter = Cutter(monkeypatch, postgres)
    with closing(outbox_at(url)) as store, closing(store.open_worker(OWNER)) as living, working(store) as other:
        store.put(order("a"))
        claim = claimed(other)
        postgres.ask("UPDATE mmsclient.sender SET until = until - interval '1 hour'", url)
        cutter.arm(2, after=False)
        with pytest.raises(JournalUnavailableError):
            living.lose_dead()
        postgres.ask("UPDATE mmsclient.sender SET until = until + interval '2 hours'", url)
        other.finish(claim, end(claim, OutboxState.ACCEPTED))
        assert living.lose_dead() == 0


def test_a_worker_with_another_key_that_has_sent_nothing_is_in_the_way_as_long_as_it_lives(
    url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And claims nothing once another one has taken the outbox."""
    another = Owner(OWNER.base_url, lambda salt: "another")
    with closing(outbox_at(url)) as store, ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr(leases, "HEARTBEATS", 0.00001)
            frozen = stack.enter_context(closing(store.open_worker(another)))
        store.put(order("a"))
        with pytest.raises(JournalMismatchError, match="another APPKEY"), working(store):
            pass
        postgres.ask("UPDATE mmsclient.sender SET until = until - interval '1 hour'", url)
        with working(store) as worker:
            assert frozen.claim() is None
            with pytest.raises(JournalMismatchError, match="another APPKEY"):
                frozen.claim()
            assert keys(worker.claim()) == ["a"]


def test_a_claim_whose_commit_was_in_doubt_is_made_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(outbox_at(url)) as store, closing(store.open_worker(OWNER)) as worker:
        store.put(order("a"))
        assert isinstance(worker, PostgresOutboxWorker)
        connection, run_once = worker._database, Database._run_once
        lost: list[str] = []

        def lossy(self: Database, work: Callable[[Transaction], Any], **options: bool) -> Any:
            result = run_once(self, work, **options)
            if self is connection and not lost:
                lost.append("the answer to the commit")
                raise JournalUnavailableError("", lost[0])
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Database, "_run_once", lossy)
            claim = claimed(worker)
        assert lost
        held = store.find("a")
        assert held is not None
        assert (held.state, held.attempts) == (OutboxState.SENDING, 1)
        assert worker.finish(claim, end(claim, OutboxState.ACCEPTED)) == 1
