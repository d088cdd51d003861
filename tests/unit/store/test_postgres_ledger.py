"""The ledger of keyed sends in PostgreSQL: its lease, a database that is away, and commits of which nobody heard."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from mmsclient import LedgerUnavailableError
from mmsclient._store.ledger import KeyClaim, SendEnd, SendState
from mmsclient._store.postgres import database as databases
from mmsclient._store.postgres import lease as leases
from mmsclient._store.postgres.database import Transaction
from mmsclient._store.postgres.ledger import PostgresLedger
from tests.conftest import until
from tests.support.cutting import Cutter
from tests.support.keyed import HELLO, Tables, claimed, held, opened, sender_thread, state
from tests.support.postgres_server import PASSWORD, Server

ACCEPTED, FAILED, SENDING, UNKNOWN = SendState.ACCEPTED, SendState.FAILED, SendState.SENDING, SendState.UNKNOWN


@pytest.fixture
def tables(postgres: Server) -> Tables:
    return Tables(postgres.new_database("synchronous_commit = off"))


@pytest.fixture
async def another(tables: Tables) -> AsyncIterator[Callable[[], PostgresLedger]]:
    ledgers: list[PostgresLedger] = []

    def open_one(at: str | None = None) -> PostgresLedger:
        ledger = opened(tables if at is None else Tables(at))
        assert isinstance(ledger, PostgresLedger)
        ledgers.append(ledger)
        return ledger

    yield open_one
    for each in ledgers:
        await each.aclose()


@pytest.fixture
def store(another: Callable[[], PostgresLedger]) -> PostgresLedger:
    return another()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away is looked for more often."""
    monkeypatch.setattr(databases, "TRY_AGAIN", 0.02)


@pytest.fixture
def cutter(monkeypatch: pytest.MonkeyPatch, postgres: Server) -> Cutter:
    """Of the connections of the ledger's thread."""
    return Cutter(monkeypatch, postgres, lambda thread: thread.startswith("mmsclient-ledger"))


# Leases ---------------------------------------------------------------------------------------------------------------


async def test_who_was_taken_for_dead_claims_under_another_lease(
    tables: Tables, store: PostgresLedger, another: Callable[[], PostgresLedger]
) -> None:
    first = await claimed(store)
    assert store.may_leave(first)
    tables.take_for_dead()
    second = await claimed(store, "b")
    assert not store.may_leave(first)
    assert store.may_leave(second)
    assert not store.may_leave(KeyClaim("c"))
    other = another()
    assert state(await held(other)) is UNKNOWN
    assert state(await held(other, "b")) is SENDING
    assert tables.senders() == 2
    await store.finish(second, SendEnd(ACCEPTED, {}))
    assert not store.may_leave(second)


async def test_a_lease_that_ran_out_makes_a_send_unknown_but_no_claim_is_lost_where_nobody_asked(
    tables: Tables, store: PostgresLedger, another: Callable[[], PostgresLedger], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(leases, "LEASE", 0.01)
        patch.setattr(leases, "HEARTBEATS", 0.00001)
        claim = await claimed(store)
    await until(lambda: not store.may_leave(claim))
    lease = sender_thread(store)._lease
    monkeypatch.setattr(lease, "_seconds", 100.0)
    await claimed(store, "b")
    assert store.may_leave(claim)
    assert state(await held(another())) is SENDING
    monkeypatch.setattr(lease, "_seconds", 0.01)
    lease._valid_until = 0.0
    await claimed(store, "c")
    await until(lambda: not store.may_leave(claim))
    assert state(await held(another())) is UNKNOWN
    assert tables.states() == {"a": "unknown", "b": "unknown", "c": "unknown"}


async def test_who_only_looks_writes_nothing(tables: Tables, store: PostgresLedger, another: Any) -> None:
    """Whoever waits for a send of another looks often."""
    await store.finish(await claimed(store), SendEnd(ACCEPTED, {}))
    await claimed(store, "b")
    other = another()
    assert state(await held(other)) is ACCEPTED
    lease = sender_thread(other)._lease
    lease._stopped.set()  # its heartbeats write too
    lease._thread.join()
    before = tables.ask(f"SELECT xmin, until FROM sender WHERE id = '{lease.id}'")  # noqa: S608
    assert state(await held(other)) is ACCEPTED
    assert state(await held(other, "b")) is SENDING
    assert tables.ask(f"SELECT xmin, until FROM sender WHERE id = '{lease.id}'") == before  # noqa: S608


# A database that is away ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
async def test_away_nothing_is_claimed_and_an_end_is_taken_when_it_is_back(
    store: PostgresLedger, postgres: Server, tables: Tables
) -> None:
    claim = await claimed(store)
    postgres.stop("immediate")
    try:
        for _ in range(2):
            with pytest.raises(LedgerUnavailableError, match="nothing was sent") as caught:
                await claimed(store, "b")
            with pytest.raises(LedgerUnavailableError):
                await store.finish(claim, SendEnd(ACCEPTED, {}))
            assert PASSWORD not in f"{caught.value!r}"
    finally:
        postgres.start()
    assert await store.finish(claim, SendEnd(ACCEPTED, {}))
    await claimed(store, "b")
    assert tables.states() == {"a": "accepted", "b": "sending"}


@pytest.mark.usefixtures("quick")
async def test_a_database_that_is_away_at_first(tables: Tables, postgres: Server) -> None:
    postgres.stop()
    try:
        store = opened(tables)
        with pytest.raises(LedgerUnavailableError):
            await held(store)
    finally:
        postgres.start()
    await claimed(store)
    await store.aclose()


async def test_the_event_loop_goes_on_while_the_database_answers_late(tables: Tables, store: PostgresLedger) -> None:
    await claimed(store)
    with psycopg.connect(tables.url) as other:
        other.execute("LOCK TABLE mmsclient.send IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(held(store))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
    assert state(await waiting) is UNKNOWN


async def test_who_is_cancelled_may_have_claimed_and_may_say_that_it_did_not_send(
    tables: Tables, store: PostgresLedger
) -> None:
    await claimed(store)
    with psycopg.connect(tables.url) as other:
        other.execute("LOCK TABLE mmsclient.send IN ACCESS EXCLUSIVE MODE")
        claim = KeyClaim("b")
        claiming = asyncio.create_task(store.claim(claim, HELLO, retry_refused=False))
        await asyncio.sleep(0)
        claiming.cancel()
        await asyncio.wait([claiming])
        assert claiming.cancelled()
    assert not store.may_leave(claim)
    await store.finish(claim, SendEnd(FAILED, {}))
    assert tables.states()["b"] == "failed"


# Commits of which nobody heard ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_made_twice(
    tables: Tables, store: PostgresLedger, cutter: Cutter, after: bool
) -> None:
    await claimed(store, "first")
    cutter.arm(after=after)
    claim = await claimed(store)
    assert store.may_leave(claim)
    cutter.arm(after=after)
    assert await store.finish(claim, SendEnd(ACCEPTED, {}))
    assert tables.states() == {"first": "sending", "a": "accepted"}


@pytest.mark.usefixtures("quick")
async def test_a_claim_that_nobody_heard_of_leaves_its_key_free(
    tables: Tables, store: PostgresLedger, another: Any, cutter: Cutter
) -> None:
    await claimed(store, "first")
    cutter.arm(9, after=True)
    for key in ("a", "b"):
        with pytest.raises(LedgerUnavailableError):
            await claimed(store, key)
        assert tables.states()[key] == "sending"
    cutter.arm(0, after=True)
    await claimed(store)  # that it sent nothing is known here
    assert tables.states() == {"first": "sending", "a": "sending", "b": "failed"}
    cutter.arm(2, after=True)
    with pytest.raises(LedgerUnavailableError):
        await claimed(store, "c")
    await store.aclose()
    await claimed(another(), "c")


async def test_a_claim_is_on_the_servers_disk_whatever_the_database_says(
    tables: Tables, store: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    script = Transaction.script

    def listening(transaction: Transaction, sql: str) -> None:
        if sql == "COMMIT":
            said.append(transaction.row("SHOW synchronous_commit")[0])
        script(transaction, sql)

    await claimed(store, "first")
    monkeypatch.setattr(Transaction, "script", listening)
    await claimed(store)
    assert set(said) == {"on"}
    assert tables.ask("SHOW synchronous_commit") == [("off",)]


# Behind PgBouncer -----------------------------------------------------------------------------------------------------


async def test_pgbouncer_may_pool_transactions(tables: Tables, postgres: Server, another: Any) -> None:
    with postgres.pooled(tables.url) as pooled:
        stores = [another(pooled) for _ in range(4)]
        keys = [f"key {number}" for number in range(20)]
        claims = (store.claim(KeyClaim(key), HELLO, retry_refused=False) for store in stores for key in keys)
        results = await asyncio.gather(*claims)
        assert sum(result is None for result in results) == len(keys)
        for store in stores:
            await store.aclose()
    assert tables.senders() == 0
    await held(another(), "key 0")
    assert set(tables.states().values()) == {"unknown"}


# Forks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
async def test_a_fork_is_a_sender_of_its_own(tables: Tables, store: PostgresLedger) -> None:
    claim = await claimed(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork beside threads
        child = os.fork()
    if not child:
        try:
            assert state(asyncio.new_event_loop().run_until_complete(held(store))) is SENDING
            store._finalizer()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
    assert await store.finish(claim, SendEnd(ACCEPTED, {}))
    assert state(await held(store)) is ACCEPTED
