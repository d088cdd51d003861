"""Leases of senders that belong to no campaign: who lives, who is dead, and that the dead claim nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime

import pytest

from mmsclient._store.postgres import lease as leases
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.migrations import migrate
from mmsclient._store.postgres.senders import SenderLease, dead_among
from tests.support.postgres_server import Server
from tests.support.waiting import until


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(Address.of(url))) as database:
        migrate(database)
        yield database


@pytest.fixture
def leased(url: str, database: Database) -> Iterator[Callable[[], SenderLease]]:
    """Begins leases, and gives them back."""
    with ExitStack() as stack:

        def begin() -> SenderLease:
            lease = SenderLease.acquire(Database(Address.of(url)))
            stack.callback(lease.give_back)
            return lease

        yield begin


@pytest.fixture
def frozen(leased: Callable[[], SenderLease], monkeypatch: pytest.MonkeyPatch) -> SenderLease:
    """One whose lease has run out: it is not renewed, as that of a frozen process."""
    with monkeypatch.context() as patch:
        patch.setattr(leases, "LEASE", 0.01)
        patch.setattr(leases, "HEARTBEATS", 0.00001)
        return leased()


def dead(database: Database, *senders: str) -> list[str]:
    return database.run(lambda transaction: dead_among(transaction, senders))


def test_a_living_sender_renews_its_lease(
    url: str, leased: Callable[[], SenderLease], postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEATS", 1000)
    lease = leased()

    def ends_at() -> datetime:
        ((end,),) = postgres.ask(f"SELECT until FROM mmsclient.sender WHERE id = '{lease.id}'", url)  # noqa: S608
        assert isinstance(end, datetime)
        return end

    first, valid_until = ends_at(), lease._valid_until
    until(lambda: ends_at() > first and lease._valid_until > valid_until)
    assert lease.is_valid


def test_the_living_are_left_alone_and_those_who_gave_their_lease_back_are_dead(
    leased: Callable[[], SenderLease], database: Database
) -> None:
    one, two = leased(), leased()
    assert one.id != two.id
    assert dead(database, one.id, two.id, "nobody") == ["nobody"]
    two.give_back()
    assert two.is_lost
    assert not two.is_valid
    assert dead(database, one.id, two.id) == [two.id]
    assert database.run(one.fence)
    assert not database.run(two.fence)
    assert one.is_valid
    assert not one.is_lost


def test_who_is_found_dead_can_claim_nothing_more(frozen: SenderLease, database: Database) -> None:
    until(lambda: dead(database, frozen.id) == [frozen.id])
    assert not frozen.is_valid
    assert not database.run(frozen.fence)
    assert frozen.is_lost
    frozen.extend(leases.now() + 1000)
    assert not frozen.is_valid


def test_a_sender_whose_lease_ran_out_goes_on_where_nobody_has_ended_it(
    frozen: SenderLease, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: not frozen.is_valid)
    monkeypatch.setattr(frozen, "_seconds", 100.0)
    asked_at = leases.now()
    assert database.run(frozen.fence)
    frozen.extend(asked_at)
    assert frozen.is_valid
    assert dead(database, frozen.id) == []


def test_a_claim_that_is_being_made_keeps_its_sender_alive(
    frozen: SenderLease, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks meanwhile neither waits for it nor takes it for dead, also where its time had run out."""
    until(lambda: not frozen.is_valid)
    monkeypatch.setattr(frozen, "_seconds", 100.0)

    def claim(transaction: Transaction) -> None:
        assert frozen.fence(transaction)
        with ThreadPoolExecutor(1) as pool, closing(Database(Address.of(url))) as other:
            assert pool.submit(dead, other, frozen.id).result() == []

    database.run(claim)
    assert dead(database, frozen.id) == []


def test_leases_of_long_ago_are_forgotten(
    leased: Callable[[], SenderLease], frozen: SenderLease, url: str, postgres: Server
) -> None:
    postgres.ask("UPDATE mmsclient.sender SET until = until - interval '2 days' RETURNING 1", url)
    lease = leased()
    assert postgres.ask("SELECT id FROM mmsclient.sender", url) == [(lease.id,)]
    assert not frozen.is_valid
