"""Writes that share a transaction: none is told as done before its commit, and all of a failed one are told so."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mmsclient._store.group_commit import GroupCommit
from tests.conftest import until


class Hold:
    """A call that holds up the thread, and so its transaction, until told to go on."""

    def __init__(self) -> None:
        self.is_held = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, database: sqlite3.Connection) -> None:
        self.is_held.set()
        self.go_on.wait(30)


class Database:
    """A file, and the statements that its connections have run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statements: list[str] = []
        self.opened = 0
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE row (value)")

    def connect(self) -> sqlite3.Connection:
        self.opened += 1
        database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        database.set_trace_callback(self.statements.append)
        return database

    @property
    def rows(self) -> list[int]:
        """What is committed."""
        with closing(sqlite3.connect(self.path)) as database:
            return [value for (value,) in database.execute("SELECT value FROM row ORDER BY value")]


def insert(value: int) -> Callable[[sqlite3.Connection], int]:
    def call(database: sqlite3.Connection) -> int:
        database.execute("INSERT INTO row VALUES (?)", (value,))
        return value

    return call


def fail(database: sqlite3.Connection) -> None:
    raise sqlite3.OperationalError("on purpose")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "file.sqlite")


async def held(commits: GroupCommit) -> tuple[Hold, asyncio.Task[None]]:
    """A transaction that has begun and goes on when told to."""
    hold = Hold()
    task = asyncio.create_task(commits.run(hold))
    await until(hold.is_held.is_set)
    return hold, task


async def test_writes_that_wait_share_a_transaction(database: Database) -> None:
    commits = GroupCommit(database.connect)
    hold, first = await held(commits)
    writes = [asyncio.create_task(commits.run(insert(value))) for value in range(100)]
    await asyncio.sleep(0)
    hold.go_on.set()
    assert await asyncio.gather(*writes) == list(range(100))
    await first
    assert database.rows == list(range(100))
    assert database.statements.count("COMMIT") == 2
    assert database.opened == 1
    await commits.aclose()


async def test_a_write_is_done_only_when_its_transaction_is(database: Database) -> None:
    commits = GroupCommit(database.connect)
    hold, first = await held(commits)
    later = Hold()
    written, holding = (asyncio.create_task(commits.run(call)) for call in (insert(1), later))
    await asyncio.sleep(0)
    hold.go_on.set()
    await first
    await until(later.is_held.is_set)  # after the insert, in the same transaction
    await asyncio.wait([written], timeout=0.1)
    assert not written.done()
    assert database.rows == []
    later.go_on.set()
    await asyncio.gather(written, holding)
    assert database.rows == [1]
    await commits.aclose()


async def test_what_shares_a_failed_transaction_fails_and_the_next_does_not(database: Database) -> None:
    commits = GroupCommit(database.connect)
    hold, first = await held(commits)
    shared = [asyncio.create_task(commits.run(call)) for call in (insert(1), fail, insert(2))]
    await asyncio.sleep(0)
    hold.go_on.set()
    outcomes = await asyncio.gather(*shared, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["on purpose"] * 3
    await first
    assert database.rows == []
    assert await commits.run(insert(4)) == 4
    assert database.rows == [4]
    await commits.aclose()


async def test_closing_commits_what_waits_and_then_takes_nothing(database: Database) -> None:
    commits = GroupCommit(database.connect)
    hold, first = await held(commits)
    writes = [asyncio.create_task(commits.run(insert(value))) for value in range(3)]
    await asyncio.sleep(0)
    closing_down = asyncio.create_task(commits.aclose())
    await asyncio.sleep(0)
    hold.go_on.set()
    await closing_down
    assert [each.done() for each in (first, *writes)] == [True] * 4
    assert database.rows == [0, 1, 2]
    with pytest.raises(RuntimeError):
        await commits.run(insert(9))
    await commits.aclose()


async def test_closing_in_the_same_moment_commits_as_well(database: Database) -> None:
    commits = GroupCommit(database.connect)
    write = asyncio.create_task(commits.run(insert(1)))
    await asyncio.sleep(0)  # it waits, and is not yet in the thread's hands
    await commits.aclose()
    assert await write == 1
    assert database.rows == [1]
    assert database.opened == 1


def test_a_loop_that_ended_early_holds_up_no_other(database: Database) -> None:
    commits = GroupCommit(database.connect)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it would complain of the task
    left = loop.create_task(commits.run(insert(1)))
    loop.call_soon(loop.stop)  # after the task's first step, before what that has scheduled
    loop.run_forever()
    loop.close()
    assert not left.done()

    async def main() -> int:
        async with asyncio.timeout(30):
            value = await commits.run(insert(2))
        await commits.aclose()
        return value

    assert asyncio.run(main()) == 2


async def test_a_caller_that_left_spoils_nothing(database: Database) -> None:
    commits = GroupCommit(database.connect)
    hold, first = await held(commits)
    left, stayed = (asyncio.create_task(commits.run(insert(value))) for value in (1, 2))
    await asyncio.sleep(0)
    left.cancel()
    hold.go_on.set()
    assert await stayed == 2
    await first
    assert left.cancelled()
    await commits.aclose()
