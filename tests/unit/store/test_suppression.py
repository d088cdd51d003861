"""What a suppression list keeps, whichever engine does: most tests run on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsclient import InvalidRequestError
from mmsclient._store import sqlite_suppression
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.suppression import PostgresSuppression
from mmsclient._store.sqlite_suppression import SQLiteSuppression
from mmsclient._store.suppression import Entry, Request, SuppressionCommitter, SuppressionTables, Unread
from mmsclient.bulk import Suppression, SuppressionList, SuppressionListError, SuppressionListUnavailableError
from tests.support.campaigns import numbers
from tests.support.postgres_server import PASSWORD, Server

ONE, TWO = numbers(2)


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a list is to be made, for each engine."""
    if request.param == "sqlite":
        return str(tmp_path / "stop.db")
    server: Server = request.getfixturevalue("postgres")
    return server.new_database(has_tables=False)


@pytest.fixture
async def suppression(where: str) -> AsyncIterator[SuppressionList]:
    async with SuppressionList(where) as suppression:
        yield suppression


async def test_who_is_added_stays_with_the_first_reason_until_removed(suppression: SuppressionList) -> None:
    assert await suppression.add("0400 000 000", "complained")
    assert not await suppression.add(ONE, "again")
    found = await suppression.find("61400000000")
    assert found is not None
    assert (found.number, found.reason, found.added_at.tzname()) == (ONE, "complained", "UTC")
    assert await suppression.find(TWO) is None
    assert await suppression.among([TWO, "0400000000"]) == {"0400000000": found}
    assert [entry async for entry in suppression.entries()] == [found]
    assert await suppression.remove(ONE)
    assert not await suppression.remove(ONE)
    assert await suppression.find(ONE) is None


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1970-01-01T00:00:00+00:01", "9999-01-01T00:00Z"]
)
async def test_a_date_that_some_zones_do_not_have_is_refused(suppression: SuppressionList, text: str) -> None:
    await suppression.create()
    with pytest.raises(InvalidRequestError, match="added_at: expected a time in the years 1970 to 9998"):
        await suppression.add_entries([Suppression(number=ONE, reason="", added_at=datetime.fromisoformat(text))])
    assert (await suppression.report()).count == 0


@pytest.mark.parametrize(("seconds", "year"), [(-62135647200.0, 1970), (253402343999.0, 9998)])
async def test_a_date_that_is_far_off_and_in_the_list_already_hinders_nothing(
    tmp_path: Path, seconds: float, year: int
) -> None:
    path = tmp_path / "stop.db"
    async with SuppressionList(path) as suppression:
        await suppression.add(ONE)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE suppressed SET added = ?", [seconds])
        (entry,) = [each async for each in suppression.entries()]
        assert entry.added_at.year == year
        assert await suppression.among([ONE]) == {ONE: entry}


async def test_many_are_read_in_pages_and_in_order(suppression: SuppressionList) -> None:
    listed = numbers(2500)
    update = await suppression.add_all([*reversed(listed), ONE], "imported")
    assert (update.added, update.known, update.unreadable) == (2500, 1, ())
    assert [entry.number async for entry in suppression.entries()] == listed
    assert set(await suppression.among(listed[900:1900])) == set(listed[900:1900])
    report = await suppression.report()
    assert (report.count, report.reasons, report.unreadable) == (2500, {"imported": 2500}, ())
    assert str(report) == "2500 phones suppressed"


async def test_what_cannot_be_read_is_kept_and_told_of(
    suppression: SuppressionList, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        update = await suppression.add_all([ONE, "12 34", "\ud800\0"], "imported")
        assert len(update.unreadable) == 2
    assert str(update) == "0 added, 1 known, 2 cannot be read"
    assert caplog.text.count("2 numbers cannot be read, so those people may get a message") == 2
    report = await suppression.report()
    assert str(report) == "1 phone suppressed; 2 numbers cannot be read"
    assert {unread.reason for unread in report.unreadable} == {"imported"}
    assert "12 34" in {unread.given for unread in report.unreadable}
    assert await suppression.remove("12 34")
    assert len((await suppression.report()).unreadable) == 1


async def test_a_list_is_not_made_by_reading_it(where: str, suppression: SuppressionList) -> None:
    reads = [suppression.find(ONE), suppression.among([ONE]), suppression.report(), anext(suppression.entries())]
    for read in reads:
        with pytest.raises(SuppressionListError, match=r"`mmsclient (suppress|store)"):
            await read
    assert not os.path.exists(where)  # noqa: ASYNC240
    await suppression.create()
    assert (await suppression.report()).count == 0


async def test_a_list_is_the_same_for_all_who_open_it(where: str, suppression: SuppressionList) -> None:
    async with SuppressionList(where) as other:
        await suppression.add(ONE)
        assert await other.find(ONE) is not None
        await other.remove(ONE)
        assert await suppression.find(ONE) is None
    await other.add(TWO)  # it opens again
    assert await suppression.find(TWO) is not None
    await other.aclose()


ADD = """
import asyncio, sys
from mmsclient.bulk import SuppressionList

async def main(place, first, count):
    async with SuppressionList(place) as suppression:
        for n in range(int(first), int(first) + int(count)):
            await suppression.add(f"+614{n:08}", "from another process")

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_make_and_fill_it_at_once(where: str, suppression: SuppressionList) -> None:
    command = [sys.executable, "-W", "error", "-c", ADD, where]
    children = [subprocess.Popen([*command, str(first), "30"]) for first in (0, 20)]  # noqa: S603, ASYNC220
    ended = [await asyncio.to_thread(child.wait) for child in children]
    assert ended == [0, 0]
    assert [entry.number async for entry in suppression.entries()] == numbers(50)


async def test_nothing_shows_the_password(suppression: SuppressionList) -> None:
    assert PASSWORD not in repr(suppression)
    with pytest.raises(SuppressionListError) as raised:
        await suppression.report()
    assert PASSWORD not in str(raised.value)
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - our own
    assert (str(again), again.path, again.problem) == (str(raised.value), raised.value.path, raised.value.problem)


# Histories ------------------------------------------------------------------------------------------------------------

phones = st.integers(61400000000, 61400000005)
operations = st.one_of(
    st.tuples(st.just("add"), st.lists(phones, max_size=3), st.sampled_from(["a", "b"])),
    st.tuples(st.just("remove"), st.lists(phones, max_size=3), st.just("")),
    st.tuples(st.just("note"), st.lists(st.sampled_from(["x", "y"]), max_size=2), st.just("c")),
    st.tuples(st.just("forget"), st.lists(st.sampled_from(["x", "y"]), max_size=2), st.just("")),
)


def requested(kind: str, values: list[Any], reason: str) -> Request[Any]:
    def run(tables: SuppressionTables) -> int:
        match kind:
            case "add":
                return tables.add([Entry(phone, reason, 1.0) for phone in values])
            case "remove":
                return tables.remove(values)
            case "note":
                return tables.note_unread([Unread(given, reason, 1.0) for given in values])
            case _:
                return tables.forget_unread(values)

    return Request(run)


def expected(model: dict[Any, str], kind: str, values: list[Any], reason: str) -> int:
    """How many `model`, phones and spellings with their reasons, changes."""
    before = len(model)
    if kind in ("add", "note"):
        for value in values:
            model.setdefault(value, reason)
        return len(model) - before
    for value in values:
        model.pop(value, None)
    return before - len(model)


@pytest.fixture
def committer(where: str) -> Iterator[SuppressionCommitter]:
    """One list for all histories, which each finds empty."""
    engine = SQLiteSuppression(Path(where)) if where.startswith("/") else PostgresSuppression(Address.of(where))
    with closing(engine):
        yield engine


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(operations, min_size=1, max_size=4), max_size=6))
def test_any_history_leaves_what_it_says(committer: SuppressionCommitter, history: list[list[Any]]) -> None:
    def clear(tables: SuppressionTables) -> None:
        tables.remove([entry.phone for entry in tables.page(0, 100)])
        tables.forget_unread([unread.given for unread in tables.unread()])

    committer.commit([Request(clear)])
    model: dict[Any, str] = {}
    for group in history:  # each in one transaction
        assert committer.commit([requested(*each) for each in group]) == [expected(model, *each) for each in group]
    entries, unread, reasons = committer.commit(
        [
            Request(lambda tables: tables.page(0, 100), reads=True),
            Request(lambda tables: tables.unread(), reads=True),
            Request(lambda tables: tables.reasons(), reads=True),
        ]
    )
    listed = {entry.phone: entry.reason for entry in entries}
    assert listed | {each.given: each.reason for each in unread} == model
    assert sum(reasons.values()) == len(listed)


# Files ----------------------------------------------------------------------------------------------------------------


async def test_a_file_is_for_its_owner_alone(path: Path) -> None:
    async with SuppressionList(path) as suppression:
        await suppression.add(ONE)
        for each in path.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each


def is_left_alone(path: Path, said: str) -> None:
    before = path.read_bytes()
    for reads in (True, False):
        with closing(SQLiteSuppression(path)) as engine, pytest.raises(SuppressionListError, match=said):
            engine.commit([Request(lambda tables: tables.reasons(), reads=reads)])
    assert path.read_bytes() == before


def test_files_that_are_something_else_are_left_as_they_are(path: Path) -> None:
    path.write_bytes(b"number\n0400000000\n" * 100)
    is_left_alone(path, "this is no suppression list")
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE suppressed (phone)")
    is_left_alone(path, "this is no suppression list")
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA application_id = {sqlite_suppression.APPLICATION_ID}")
        database.execute("PRAGMA user_version = 7")
    is_left_alone(path, "it is of version 7, and this package reads 1; use a newer mmsclient")


def test_files_that_cannot_be_used(path: Path, tmp_path: Path) -> None:
    def refusal(place: Path) -> str:
        with closing(SQLiteSuppression(place)) as engine, pytest.raises(SuppressionListError) as raised:
            engine.commit([Request(lambda tables: tables.add([Entry(1, "", 0.0)]))])
        return raised.value.problem

    assert "it is a directory" in refusal(tmp_path)
    assert "it cannot be used (No such file or directory)" in refusal(tmp_path / "none" / "stop.db")
    with closing(SQLiteSuppression(path)) as engine:
        engine.commit([Request(lambda tables: tables.add([]))])
    os.link(path, tmp_path / "other.db")
    assert "the file has 2 names" in refusal(path)
    (tmp_path / "other.db").unlink()
    path.rename(tmp_path / "gone.db")
    Path(f"{path}-wal").write_bytes(b"x")
    assert f"{path.name}-wal, a part of it, is there" in refusal(path)


async def test_an_empty_file_is_no_list_until_somebody_is_added(path: Path) -> None:
    path.touch()  # noqa: ASYNC240
    async with SuppressionList(path) as suppression:
        with pytest.raises(SuppressionListError, match="there is no suppression list"):
            await suppression.report()
        assert await suppression.add(ONE)


@pytest.mark.parametrize("by_another", [True, False])
async def test_a_file_that_is_removed_or_replaced_is_read_no_more(path: Path, tmp_path: Path, by_another: bool) -> None:
    async with SuppressionList(tmp_path / "other.db") as other:
        await other.add(TWO)
    async with SuppressionList(path) as suppression:
        await suppression.add(ONE)
        if by_another:
            (tmp_path / "other.db").replace(path)
        else:
            path.unlink()  # noqa: ASYNC240
        for _ in range(2):
            with pytest.raises(SuppressionListError, match=r"spring\.db was removed or replaced while it was open"):
                await suppression.find(ONE)
            with pytest.raises(SuppressionListError, match=r"spring\.db was removed or replaced while it was open"):
                await suppression.add(TWO)


async def test_a_locked_file_is_away_for_the_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_suppression, "BUSY", 0.05)
    async with SuppressionList(path) as suppression:
        await suppression.create()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(SuppressionListUnavailableError, match="database is locked"):
                await suppression.add(ONE)
            assert (await suppression.report()).count == 0  # reading waits for nobody
        assert await suppression.add(ONE)


async def test_a_database_that_is_away(postgres: Server) -> None:
    async with SuppressionList(postgres.new_database()) as suppression:
        await suppression.add(ONE)
        await asyncio.to_thread(postgres.cut_connections)
        assert await suppression.find(ONE) is not None  # over another connection
        await asyncio.to_thread(postgres.stop, "immediate")
        try:
            with pytest.raises(SuppressionListUnavailableError):
                await suppression.find(ONE)
        finally:
            await asyncio.to_thread(postgres.start)
        assert await suppression.find(ONE) is not None
