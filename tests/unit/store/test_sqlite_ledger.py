"""The file of a ledger in SQLite: whose it is, who may read it, and what is no ledger."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from mmsclient import LedgerUnavailableError
from mmsclient._store.ledger import SendState
from mmsclient._store.sqlite_ledger import SQLiteLedger
from tests.support.checkpoints import killed_at_its_checkpoint
from tests.support.keyed import claimed, held, ledger, state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sends.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteLedger]:
    store = ledger(path)
    yield store
    await store.aclose()


async def test_every_commit_is_flushed(store: SQLiteLedger) -> None:
    await claimed(store)
    opened = store._transactions._opened[0].database
    assert opened.execute("PRAGMA synchronous").fetchone() == (2,)
    assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_nothing_of_a_sender_is_left_behind(path: Path, store: SQLiteLedger) -> None:
    await claimed(store)
    await store.aclose()
    assert [each.name for each in path.parent.iterdir()] == ["sends.db"]


async def test_a_ledger_whose_process_was_killed_at_a_checkpoint_is_not_damaged(
    path: Path, store: SQLiteLedger, tmp_path: Path
) -> None:
    keys = [f"order-{number}" for number in range(100)]
    for key in keys:
        await claimed(store, key)
    again = ledger(killed_at_its_checkpoint(path, tmp_path / "crashed"))
    assert {state(await held(again, key)) for key in keys} == {SendState.UNKNOWN}
    await again.aclose()


async def test_the_files_are_private(path: Path, store: SQLiteLedger) -> None:
    await claimed(store)
    names = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert len(names) == 4
    assert set(names.values()) == {0o600}


async def test_no_text_and_no_number_stands_in_it_before_the_answer(path: Path, store: SQLiteLedger) -> None:
    await claimed(store)
    everything = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"Hello" not in everything
    assert b"61400000000" not in everything


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE other (value)")
        file.commit()


def newer(path: Path) -> None:
    ledger(path)
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 4")


def text(path: Path) -> None:
    path.write_text("Dear diary" * 100, encoding="utf-8")


def empty(path: Path) -> None:
    path.touch()


def two_names(path: Path) -> None:
    ledger(path)
    path.with_name("other.db").hardlink_to(path)


def log_alone(path: Path) -> None:
    path.with_name("sends.db-wal").touch()


def rollback_journal_alone(path: Path) -> None:
    path.with_name("sends.db-journal").touch()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (foreign, "no ledger"),
        (newer, "version 4, and this package reads 3"),
        (text, "no ledger"),
        (empty, "the file is empty"),
        (two_names, "2 names"),
        (log_alone, "sends.db-wal, a part of it"),
        (rollback_journal_alone, "sends.db-journal, a part of it"),
        (Path.mkdir, "a directory"),
    ],
)
def test_files_that_are_no_ledger_of_ours_are_left_as_they_are(path: Path, make: object, problem: str) -> None:
    make(path)  # type: ignore[operator]
    before = {each: each.is_file() and each.read_bytes() for each in path.parent.iterdir()}
    with pytest.raises(LedgerUnavailableError, match=problem):
        ledger(path)
    assert {each: each.is_file() and each.read_bytes() for each in path.parent.iterdir()} == before


def test_what_a_maker_that_died_left_is_no_obstacle(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(f".sends.db.mmsclient-draft{ending}").write_bytes(b"half")
    path.with_name("sends.db-new-lock").touch()
    ledger(path)
    assert [each.name for each in path.parent.iterdir()] == ["sends.db"]


MAKER = """
import sys
from pathlib import Path
from tests.support.keyed import claimed, held, ledger, state
print("ready", flush=True)
sys.stdin.readline()
ledger(Path(sys.argv[1]))
"""


def test_several_processes_that_make_it_at_the_same_moment(path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", MAKER, str(path)]
    with contextlib.ExitStack() as stack:
        makers = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))  # noqa: S603
            for _ in range(4)
        ]
        for maker in makers:
            assert maker.stdout is not None
            maker.stdout.readline()
        for maker in makers:
            assert maker.stdin is not None
            maker.stdin.write(b"\n")
            maker.stdin.flush()
        assert [maker.wait() for maker in makers] == [0] * 4
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM meta").fetchone() == (4,)
    assert [each.name for each in path.parent.iterdir()] == ["sends.db"]


async def test_a_ledger_that_another_program_writes_can_be_chosen_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsclient._store.sqlite_ledger_files.BUSY", 0.05)
    ledger(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store = ledger(path)
        for _ in range(2):
            with pytest.raises(LedgerUnavailableError, match="locked"):
                await held(store)
        other.execute("ROLLBACK")
    await claimed(store)
    assert len(list(path.parent.glob("*-sender-*"))) == 1
    await store.aclose()


async def test_a_link_leads_to_the_same_locks(path: Path, store: SQLiteLedger) -> None:
    await claimed(store)
    link = path.with_name("link.db")
    link.symlink_to(path)
    other = ledger(link)
    assert state(await held(other)) is SendState.SENDING
    await other.aclose()


async def test_a_ledger_that_is_full_says_so(path: Path, store: SQLiteLedger) -> None:
    """As on a full disk: SQLite is told that the file may have no more pages."""
    await claimed(store)
    database = store._transactions._opened[0].database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    claims = (claimed(store, f"key {number}" + "x" * 150) for number in range(500))
    with pytest.raises(LedgerUnavailableError, match="full"):
        await asyncio.gather(*claims)
    database.execute("PRAGMA max_page_count = 100000")
    assert state(await held(store)) is SendState.UNKNOWN  # nobody here says that it is under way
