"""Keyed sends of one message, ledgers of both engines, and ledgers that stand in for a process that dies."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from mmsclient import AsyncMMSClient, SentBatch
from mmsclient._store.heard import Heard
from mmsclient._store.ledger import Fingerprint, KeyClaim, KeyedSend, Ledger, SendEnd, SendState
from mmsclient._store.models import Owner
from mmsclient._store.postgres.ledger import PostgresLedger
from mmsclient._store.sqlite_ledger import SQLiteLedger
from mmsclient._store.stores import ledger_at
from mmsclient.limiter import Grant, NoLimit
from mmsclient.sandbox import Sandbox
from tests.conftest import PNG
from tests.support.postgres_server import Server
from tests.support.waiting import until

TEXT = "Your order"
DAY = 86400.0
HELLO = Fingerprint.of("Hello", "", b"image", ["+61400000000"])


async def send(mms: AsyncMMSClient, key: str, to: str | list[str], **options: Any) -> SentBatch:
    return await mms.send(**{"to": to, "text": TEXT, "image": PNG, "key": key, **options})


def owner(key: str = "a-key", base_url: str = "https://example.com", *, is_new_key: bool = False) -> Owner:
    return Owner(base_url, lambda salt: f"{key} with {salt.hex()}", is_new_key)


def ledger(path: Path, whose: Owner | None = None, keep: float = 30 * DAY) -> SQLiteLedger:
    return SQLiteLedger(path, whose or owner(), keep=keep)


async def claimed(store: Ledger, key: str = "a", fingerprint: Fingerprint = HELLO) -> KeyClaim:
    claim = KeyClaim(key)
    assert await store.claim(claim, fingerprint, retry_refused=False) is None
    return claim


async def held(store: Ledger, key: str = "a", *, retry_refused: bool = False) -> KeyedSend | None:
    return await store.claim(KeyClaim(key), HELLO, retry_refused=retry_refused)


def state(found: KeyedSend | None) -> SendState | None:
    return None if found is None else found.state


def until_collected(dropped: weakref.ref[Any]) -> None:
    """Wait until nobody holds it any more, its own thread included."""
    until(lambda: dropped() is None)


CHILD = """
import asyncio, sys
from mmsclient import AsyncMMSClient, MMSError
from tests.conftest import PNG
from tests.support.keyed import send

async def main(url, app_key, ledger, *keys):
    async with AsyncMMSClient(app_key, base_url=url, rate=None, ledger=ledger) as mms:
        print("ready", flush=True)
        async def one(key):
            try:
                print(key, (await send(mms, key, "+614" + key)).accepted, flush=True)
            except MMSError as error:
                print(key, type(error).__name__, flush=True)
        await asyncio.gather(*(one(key) for key in keys))

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def process(api: Sandbox, at: str, *keys: str, script: str = CHILD) -> Iterator[subprocess.Popen[str]]:
    """Another process that sends with `keys`, each to a number of its own."""
    command = [sys.executable, "-W", "error", "-c", script, api.url, api.app_key, at, *keys]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603 - our own command
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


class Place(Protocol):
    """Where ledgers are that several senders share, seen from outside."""

    at: str
    """As the client's option says it."""

    def states(self) -> dict[str, str]:
        """What is on the disk, by key."""
        ...

    def results(self) -> list[str | None]:
        """What is to be told again, as it is kept."""
        ...

    def recipients(self) -> list[int]:
        """The phones that stand in it."""
        ...

    def age(self, seconds: float) -> None:
        """Let everything be so much older."""
        ...

    def take_for_dead(self) -> None:
        """Let all senders that live be taken for dead."""
        ...

    def senders(self) -> int:
        """How many have not been closed."""
        ...


class File:
    """A `Place` in SQLite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = str(path)

    def states(self) -> dict[str, str]:
        with closing(sqlite3.connect(self.path)) as file:
            return dict(file.execute("SELECT key, state FROM send"))

    def results(self) -> list[str | None]:
        with closing(sqlite3.connect(self.path)) as file:
            return [row[0] for row in file.execute("SELECT result FROM send")]

    def recipients(self) -> list[int]:
        with closing(sqlite3.connect(self.path)) as file:
            return [row[0] for row in file.execute("SELECT phone FROM recipient")]

    def age(self, seconds: float) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as file:
            file.execute("UPDATE send SET ended = ended - ?, claimed = claimed - ?", (seconds, seconds))

    def take_for_dead(self) -> None:
        for lock in self.path.parent.glob("*-sender-*"):
            lock.unlink()

    def senders(self) -> int:
        return len(list(self.path.parent.glob("*-sender-*")))


class Tables:
    """A `Place` in PostgreSQL."""

    def __init__(self, url: str, schema: str = "mmsclient") -> None:
        self.at = f"{url}&schema={schema}"
        self.url = url
        self._schema = schema

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            connection.execute(f"SET search_path = {self._schema}".encode())
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def states(self) -> dict[str, str]:
        return dict(self.ask("SELECT key, state FROM send")) if self._is_made() else {}

    def results(self) -> list[str | None]:
        return [row[0] for row in self.ask("SELECT result FROM send")]

    def recipients(self) -> list[int]:
        return [row[0] for row in self.ask("SELECT phone FROM send_recipient")]

    def age(self, seconds: float) -> None:
        back = f"make_interval(secs => {seconds!r})"
        self.ask(f"UPDATE send SET ended = ended - {back}, claimed = claimed - {back}")  # noqa: S608

    def take_for_dead(self) -> None:
        self.ask("DELETE FROM sender WHERE id NOT LIKE 'keep:%'")

    def senders(self) -> int:
        sql = "SELECT count(*) FROM sender WHERE id NOT LIKE 'keep:%'"
        return int(self.ask(sql)[0][0]) if self._is_made() else 0

    def _is_made(self) -> bool:
        return self.ask("SELECT to_regclass('send')") != [(None,)]


def place_in(engine: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    """A file in `folder`, or a database of its own."""
    if engine == "sqlite":
        return File(folder / "sends.db")
    server: Server = request.getfixturevalue("postgres")
    return Tables(server.new_database())


def opened(place: Place, whose: Owner | None = None, keep: float | None = 30 * DAY) -> Ledger:
    """A ledger of a sender of its own."""
    return ledger_at(place.at, whose or owner(), keep=keep)


def sender_thread(ledger: PostgresLedger) -> Any:
    """What uses the database, in the one thread that does."""
    return ledger._threads[-1].sender


class Closed:
    """A limiter that grants nothing until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = asyncio.Event()

    async def acquire(self) -> Grant:
        self.asked.set()
        await self.open.wait()
        return await NoLimit().acquire()


class DiedError(BaseException):
    """The process would be dead by now."""


class Mortal:
    """A ledger whose process dies when told to: what it was to record is lost, and its lock or lease goes."""

    def __init__(self, ledger: Ledger, place: Place) -> None:
        self._ledger: Ledger | None = ledger
        self._place = place
        self.dies_after_claim = False
        self.dies_before_finish = False

    @property
    def living(self) -> Ledger:
        if self._ledger is None:
            raise DiedError
        return self._ledger

    def die(self) -> None:
        """The operating system takes back what the process had."""
        if self._ledger is not None:
            living = self._place.senders()
            dropped = weakref.ref(self._ledger)
            self._ledger = None
            until_collected(dropped)
            until(lambda: self._place.senders() < living)

    async def claim(self, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool) -> KeyedSend | None:
        held = await self.living.claim(claim, fingerprint, retry_refused=retry_refused)
        if self.dies_after_claim and held is None:
            self.die()
            raise DiedError
        return held

    def may_leave(self, claim: KeyClaim) -> bool:
        return self.living.may_leave(claim)

    async def finish(self, claim: KeyClaim, end: SendEnd) -> bool:
        if self.dies_before_finish:
            self.die()
            raise DiedError
        return await self.living.finish(claim, end)

    async def record(self, heard: Heard) -> None:
        await self.living.record(heard)

    async def aclose(self) -> None:
        if self._ledger is not None:
            await self._ledger.aclose()
