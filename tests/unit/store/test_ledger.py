"""The ledger of keyed sends in SQLite: what is held for a key, by whom it may be claimed, and whose file it is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from mmsclient import LedgerUnavailableError
from mmsclient._store.ledger import Fingerprint, KeyClaim, KeyedSend, SendEnd, SendState, may_claim
from mmsclient._store.sqlite_ledger import SQLiteLedger
from tests.support.keyed import ledger, owner, until_collected

HELLO = Fingerprint.of("Hello", "", b"image", ["+61400000000"])
OTHER = Fingerprint.of("Another", "", b"image", ["+61400000000"])
ENDS = [state for state in SendState if state is not SendState.SENDING]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sends.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteLedger]:
    store = ledger(path)
    yield store
    await store.aclose()


async def claimed(store: SQLiteLedger, key: str = "a", fingerprint: Fingerprint = HELLO) -> KeyClaim:
    claim = KeyClaim(key)
    assert await store.claim(claim, fingerprint, retry_refused=False) is None
    return claim


async def held(store: SQLiteLedger, key: str = "a", *, retry_refused: bool = False) -> KeyedSend | None:
    return await store.claim(KeyClaim(key), HELLO, retry_refused=retry_refused)


def state(found: KeyedSend | None) -> SendState | None:
    return None if found is None else found.state


def test_fingerprints() -> None:
    same = Fingerprint.of("text", "subject", b"image", ["+1", "+2"])
    assert Fingerprint.of("text", "subject", b"image", ("+2", "+1")) == same
    others = {
        "text": Fingerprint.of("x", "subject", b"image", ["+1", "+2"]),
        "subject": Fingerprint.of("text", "x", b"image", ["+1", "+2"]),
        "image": Fingerprint.of("text", "subject", b"x", ["+1", "+2"]),
        "recipients": Fingerprint.of("text", "subject", b"image", ["+1"]),
    }
    for part, other in others.items():
        assert same.differences(other) == (part,)
    assert same.differences(Fingerprint.of("subject", "text", b"image", ["+1"])) == ("text", "subject", "recipients")


@pytest.mark.parametrize(("each", "retry_refused"), [*itertools.product(SendState, (False, True))])
def test_what_may_be_claimed(each: SendState, retry_refused: bool) -> None:
    free = each is SendState.FAILED or (each is SendState.REFUSED and retry_refused)
    assert may_claim(KeyedSend(HELLO, each, 0.0, {}), HELLO, retry_refused=retry_refused) is free
    assert not may_claim(KeyedSend(HELLO, each, 0.0, {}), OTHER, retry_refused=retry_refused)
    assert may_claim(None, HELLO, retry_refused=retry_refused)


@pytest.mark.parametrize(("end", "retry_refused"), [*itertools.product(ENDS, (False, True))])
async def test_an_end_is_held_and_only_what_may_be_claimed_is(
    path: Path, store: SQLiteLedger, end: SendState, retry_refused: bool
) -> None:
    began = time.time()
    claim = await claimed(store)
    assert await store.finish(claim, SendEnd(end, {"why": "ü\ud800"}))
    await store.aclose()
    later = ledger(path)
    found = await held(later, retry_refused=retry_refused)
    if may_claim(KeyedSend(HELLO, end, 0.0, {}), HELLO, retry_refused=retry_refused):
        assert found is None
    else:
        assert found is not None
        assert (found.fingerprint, found.state, found.result) == (HELLO, end, {"why": "ü\ud800"})
        assert began <= found.sent_at <= time.time()
    await later.aclose()


async def test_a_claim_is_on_the_disk_before_it_is_told(path: Path, store: SQLiteLedger) -> None:
    await claimed(store)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT key, state FROM send").fetchall() == [("a", "sending")]
    opened = store._transactions._opened[0].database
    assert opened.execute("PRAGMA synchronous").fetchone() == (2,)
    assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_another_living_sender_is_left_alone(path: Path, store: SQLiteLedger) -> None:
    claim = await claimed(store)
    other = ledger(path)
    assert state(await held(other)) is SendState.SENDING
    await store.finish(claim, SendEnd(SendState.ACCEPTED, {}))
    assert state(await held(other)) is SendState.ACCEPTED
    await other.aclose()


async def test_what_a_dead_sender_was_sending_is_unknown(path: Path) -> None:
    dying = ledger(path)
    other = ledger(path)
    await held(other, "b")  # it is open before
    for key in ("a", "c"):
        await claimed(dying, key)
    gone = weakref.ref(dying)
    del dying
    until_collected(gone)
    assert state(await held(other)) is SendState.UNKNOWN
    await other.aclose()
    later = ledger(path)
    await held(later, "d")
    with closing(sqlite3.connect(path)) as file:
        states = dict(file.execute("SELECT key, state FROM send"))
    assert states == {"a": "unknown", "b": "unknown", "c": "unknown", "d": "sending"}
    await later.aclose()
    assert [each.name for each in path.parent.iterdir()] == ["sends.db"]


async def test_a_late_end_makes_an_unknown_send_known(path: Path, store: SQLiteLedger) -> None:
    claim = await claimed(store)
    for lock in path.parent.glob("*-sender-*"):
        lock.unlink()
    other = ledger(path)
    assert state(await held(other)) is SendState.UNKNOWN
    assert await store.finish(claim, SendEnd(SendState.ACCEPTED, {}))
    assert state(await held(other)) is SendState.ACCEPTED
    await other.aclose()


async def test_an_end_of_an_older_claim_changes_nothing(store: SQLiteLedger) -> None:
    first = await claimed(store)
    await store.finish(first, SendEnd(SendState.FAILED, {}))
    await store.finish(first, SendEnd(SendState.FAILED, {}))  # it may come again
    second = await claimed(store)
    assert not await store.finish(first, SendEnd(SendState.FAILED, {}))
    assert not await store.finish(KeyClaim("a"), SendEnd(SendState.FAILED, {}))
    await store.finish(second, SendEnd(SendState.ACCEPTED, {}))
    assert state(await held(store)) is SendState.ACCEPTED


async def test_many_claims_of_one_key_by_several_senders(path: Path) -> None:
    stores = [ledger(path) for _ in range(4)]
    claims = [store.claim(KeyClaim("a"), HELLO, retry_refused=False) for store in stores for _ in range(1)]
    results = await asyncio.gather(*claims)
    assert sum(result is None for result in results) == 1
    for store in stores:
        await store.aclose()


async def test_keys_are_kept_and_then_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ledger(path, keep=100)
    for key, end in (("old", SendState.ACCEPTED), ("lost", SendState.UNKNOWN)):
        await store.finish(await claimed(store, key), SendEnd(end, {}))
    await claimed(store, "sending")
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("UPDATE send SET ended = ended - 90, claimed = claimed - 90")
    monkeypatch.setattr("mmsclient._store.sqlite_ledger.PURGE_EVERY", 0.0)
    assert await held(store, "old")
    assert await held(store, "lost")
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("UPDATE send SET ended = ended - 20, claimed = claimed - 20")
    await claimed(store, "new")
    with closing(sqlite3.connect(path)) as file:
        assert sorted(key for (key,) in file.execute("SELECT key FROM send")) == ["new", "sending"]
    await store.aclose()


# The file -------------------------------------------------------------------------------------------------------------


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
        file.execute("PRAGMA user_version = 2")


def text(path: Path) -> None:
    path.write_text("Dear diary" * 100, encoding="utf-8")


def empty(path: Path) -> None:
    path.touch()


def two_names(path: Path) -> None:
    ledger(path)
    path.with_name("other.db").hardlink_to(path)


def log_alone(path: Path) -> None:
    path.with_name("sends.db-wal").touch()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (foreign, "no ledger"),
        (newer, "version 2, and this package reads 1"),
        (text, "no ledger"),
        (empty, "the file is empty"),
        (two_names, "2 names"),
        (log_alone, "sends.db-wal, a part of it"),
        (Path.mkdir, "a directory"),
    ],
)
def test_files_that_are_no_ledger_of_ours_are_left_as_they_are(path: Path, make: object, problem: str) -> None:
    make(path)  # type: ignore[operator]
    before = {each: each.is_file() and each.read_bytes() for each in path.parent.iterdir()}
    with pytest.raises(LedgerUnavailableError, match=problem):
        ledger(path)
    assert {each: each.is_file() and each.read_bytes() for each in path.parent.iterdir()} == before


async def test_another_owner(path: Path, store: SQLiteLedger) -> None:
    await claimed(store)
    with pytest.raises(LedgerUnavailableError, match="this client calls"):
        ledger(path, owner(base_url="https://elsewhere.example"))
    with pytest.raises(LedgerUnavailableError, match="another APPKEY"):
        ledger(path, owner("changed"))
    changed = ledger(path, owner("changed", is_new_key=True))
    assert state(await held(changed)) is SendState.SENDING
    await changed.aclose()
    ledger(path, owner("changed"))


def test_what_a_maker_that_died_left_is_no_obstacle(path: Path) -> None:
    for name in ("sends.db-new", "sends.db-new-wal", "sends.db-new-shm", "sends.db-new-lock"):
        path.with_name(name).write_bytes(b"half")
    ledger(path)
    assert [each.name for each in path.parent.iterdir()] == ["sends.db"]


MAKER = """
import sys
from pathlib import Path
from tests.support.keyed import ledger
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


async def test_a_result_is_json_that_anybody_can_read(path: Path, store: SQLiteLedger) -> None:
    await store.finish(await claimed(store), SendEnd(SendState.ACCEPTED, {"raw": {"data": [1, "2"]}}))
    with closing(sqlite3.connect(path)) as file:
        ((result,),) = file.execute("SELECT result FROM send")
    assert json.loads(result) == {"raw": {"data": [1, "2"]}}


@pytest.mark.skipif(os.name == "nt", reason="no forks there")
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
