"""Writes that share a transaction: none is told as done before its commit, and all of a failed one are told so."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from mmsclient._store.group_commit import GroupCommit
from mmsclient._store.sqlite_calls import Call, SQLiteCalls
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


Commits: TypeAlias = GroupCommit[Call, Any]


def grouped(database: Database) -> Commits:
    return GroupCommit(partial(SQLiteCalls, database.connect))


async def held(commits: Commits) -> tuple[Hold, asyncio.Task[None]]:
    """A transaction that has begun and goes on when told to."""
    hold = Hold()
    task = asyncio.create_task(commits.run(hold))
    await until(hold.is_held.is_set)
    return hold, task


async def test_writes_that_wait_share_a_transaction(database: Database) -> None:
    commits = grouped(database)
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
    commits = grouped(database)
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
    commits = grouped(database)
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
    commits = grouped(database)
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
    commits = grouped(database)
    write = asyncio.create_task(commits.run(insert(1)))
    await asyncio.sleep(0)  # it waits, and is not yet in the thread's hands
    await commits.aclose()
    assert await write == 1
    assert database.rows == [1]
    assert database.opened == 1


def test_a_loop_that_ended_early_holds_up_no_other(database: Database) -> None:
    commits = grouped(database)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it would complain of the task
    left = loop.create_task(commits.run(insert(1)))
    loop.call_soon(loop.stop)  # after the task's first step, before what that has scheduled
    loop.run_forever()
    loop.close()
    assert not left.done()

    async def main() -> int:
        async with asyncio.timeout(60):
            value: int = await commits.run(insert(2))
        await commits.aclose()
        return value

    assert asyncio.run(main()) == 2


async def test_a_caller_that_left_spoils_nothing(database: Database) -> None:
    commits = grouped(database)
    hold, first = await held(commits)
    left, stayed = (asyncio.create_task(commits.run(insert(value))) for value in (1, 2))
    await asyncio.sleep(0)
    left.cancel()
    hold.go_on.set()
    assert await stayed == 2
    await first
    assert left.cancelled()
    await commits.aclose()


def refuse(database: sqlite3.Connection) -> None:
    raise ValueError("a bad one")


async def test_one_bad_write_fails_alone(database: Database) -> None:
    commits = grouped(database)
    hold, first = await held(commits)
    shared = [asyncio.create_task(commits.run(call)) for call in (insert(1), refuse, insert(2))]
    await asyncio.sleep(0)
    hold.go_on.set()
    outcomes = await asyncio.gather(*shared, return_exceptions=True)
    assert (outcomes[0], str(outcomes[1]), outcomes[2]) == (1, "a bad one", 2)
    await first
    assert database.rows == [1, 2]
    await commits.aclose()


async def test_a_commit_that_fails_fails_exactly_its_own(database: Database) -> None:
    """A constraint that is looked at when all is done: not one of the calls raises."""
    with closing(sqlite3.connect(database.path)) as setup:
        setup.executescript(
            "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
            "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
        )

    def orphan(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO child VALUES (7)")

    commits: Commits = GroupCommit(partial(SQLiteCalls, lambda: strict(database.connect())))
    hold, first = await held(commits)
    shared = [asyncio.create_task(commits.run(call)) for call in (insert(1), orphan, insert(2))]
    await asyncio.sleep(0)
    hold.go_on.set()
    outcomes = await asyncio.gather(*shared, return_exceptions=True)
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (1, sqlite3.IntegrityError, 2)
    await first
    assert database.rows == [1, 2]
    await commits.aclose()


def strict(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


async def test_a_connection_that_cannot_be_opened_fails_those_that_wait_and_is_tried_again(database: Database) -> None:
    problems = [OSError("away")]

    def connect() -> sqlite3.Connection:
        if problems:
            raise problems.pop()
        return database.connect()

    commits: Commits = GroupCommit(partial(SQLiteCalls, connect))
    outcomes = await asyncio.gather(*(commits.run(insert(n)) for n in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["away"] * 3
    assert await commits.run(insert(4)) == 4
    await commits.aclose()


@pytest.mark.parametrize("is_waiting", [False, True])
def test_what_is_dropped_closes_its_connection(database: Database, is_waiting: bool) -> None:
    closed = threading.Event()

    class Watched(SQLiteCalls):
        def close(self) -> None:
            super().close()
            closed.set()

    async def main() -> None:
        commits: Commits = GroupCommit(partial(Watched, database.connect))
        assert await commits.run(insert(1)) == 1
        if is_waiting:
            task = asyncio.create_task(commits.run(insert(2)))
            await asyncio.sleep(0)
            task.cancel()

    asyncio.run(main())
    gc.collect()
    assert closed.wait(30)
    assert database.rows[0] == 1


AT_THE_END = """
import asyncio, sqlite3, sys
from functools import partial
from mmsclient._store.group_commit import GroupCommit
from mmsclient._store.sqlite_calls import SQLiteCalls

class Told(SQLiteCalls):
    def close(self):
        super().close()
        print("closed")

connect = partial(sqlite3.connect, sys.argv[1], isolation_level=None, check_same_thread=False)
commits = GroupCommit(partial(Told, connect))
asyncio.run(commits.run(lambda file: None))
"""


def test_what_is_open_at_the_end_of_the_process_is_closed(database: Database) -> None:
    command = [sys.executable, "-W", "error", "-c", AT_THE_END, str(database.path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)  # noqa: S603
    assert (done.stdout, done.stderr, done.returncode) == ("closed\n", "", 0)
