"""Which events were handled before: in memory, or in a SQLite file that outlives the process and serves several.

An event is reserved, handled, and then confirmed; one that could not be handled is released. So each is handled exactly
once, but for a crash between the end of the handling and the confirmation: then it is handled again when it comes
again, and never lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mmsclient.errors import ConfigurationError
from mmsclient.models import DeliveryReport
from mmsclient.numbers import phone_key
from mmsclient.session import log
from mmsclient.webhooks.parser import Event, UnreadableCallback

T = TypeVar("T")

LEASE = 5.0
"""Seconds that a reservation in the file outlives its process. A living one renews it."""

KEPT = 30 * 86400.0
"""Seconds that a handled event is remembered in the file."""

BUSY = 10.0
"""Seconds that a process waits for the others that use the file."""

PURGE_EVERY = 10_000
"""Confirmations between two clearings of the file."""


class State(Enum):
    """What is known of an event."""

    OURS = auto()
    """Not handled yet, and reserved: handle it."""
    HANDLED = auto()
    """It was handled before."""
    ELSEWHERE = auto()
    """Another process has reserved it."""


class Seen(Protocol):
    """Remembers events by their keys."""

    async def reserve(self, key: bytes) -> State: ...
    async def confirm(self, key: bytes) -> None: ...
    async def release(self, key: bytes) -> None: ...
    async def aclose(self) -> None: ...


def key_of(event: Event | UnreadableCallback) -> bytes | None:
    """What is alike in every copy of an event, 16 bytes; None for one without an id, which is never taken for a copy.

    A report: message, status and recipient, since one id may stand for several recipients. A message: its id.
    """
    if isinstance(event, UnreadableCallback):
        return None
    if isinstance(event, DeliveryReport):
        identity = [event.message_id.strip(), event.status.value, phone_key(event.recipient) or event.recipient]
    else:
        identity = [event.id.strip()]
    if not identity[0]:
        return None
    text = "\0".join([type(event).__name__, *identity])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class InMemory:
    """The keys of the last `most` events, about 200 bytes each. They go with the process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._handled: OrderedDict[bytes, None] = OrderedDict()

    async def reserve(self, key: bytes) -> State:
        return State.HANDLED if key in self._handled else State.OURS

    async def confirm(self, key: bytes) -> None:
        self._handled[key] = None
        if len(self._handled) > self._most:
            self._handled.popitem(last=False)

    async def release(self, key: bytes) -> None:
        """Nothing was noted."""

    async def aclose(self) -> None:
        """Nothing is open."""


class InFile:
    """The keys of the last 30 days in a SQLite file, which several processes may share. About 50 bytes an event.

    A process that dies leaves its reservations, which end after `LEASE` seconds; one that lives renews them, as long as
    its event loop is not blocked for so long. Raises `ConfigurationError` for a file that cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], *, lease: float = LEASE) -> None:
        self._owner = secrets.token_hex(8)
        self._lease = lease
        self._lock = threading.Lock()
        self._reserved: set[bytes] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._confirmed = 0
        try:
            self._file = _opened(Path(path))
            self._purge()
        except sqlite3.Error as error:
            raise ConfigurationError(f"seen: {error}: {os.fspath(path)}") from None

    async def reserve(self, key: bytes) -> State:
        state = await self._run(self._reserve, key)
        if state is State.OURS:
            self._reserved.add(key)
            if self._renewing is None:
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return state

    async def confirm(self, key: bytes) -> None:
        self._reserved.discard(key)
        await self._run(self._confirm, key)

    async def release(self, key: bytes) -> None:
        self._reserved.discard(key)
        await self._run(self._release, key)

    async def aclose(self) -> None:
        """Close the file. What is still reserved is free after `LEASE` seconds."""
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        with self._lock:
            self._file.close()

    async def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(self._locked, call, *arguments)

    def _locked(self, call: Callable[..., T], *arguments: Any) -> T:
        with self._lock:
            return call(*arguments)

    def _reserve(self, key: bytes) -> State:
        now = time.time()
        values = {
            "key": key,
            "owner": self._owner,
            "now": now,
            "until": now + self._lease,
            "absurd": now + self._lease + 60,
        }
        if self._file.execute(_RESERVE, values).rowcount:
            return State.OURS
        (handled,) = self._file.execute("SELECT handled FROM event WHERE key = ?", (key,)).fetchone() or (False,)
        return State.HANDLED if handled else State.ELSEWHERE

    def _confirm(self, key: bytes) -> None:
        self._file.execute(_CONFIRM, (key, self._owner, time.time()))
        self._confirmed += 1
        if self._confirmed % PURGE_EVERY == 0:
            self._purge()

    def _release(self, key: bytes) -> None:
        self._file.execute("DELETE FROM event WHERE key = ? AND owner = ? AND NOT handled", (key, self._owner))

    def _purge(self) -> None:
        self._file.execute("DELETE FROM event WHERE until < ?", (time.time() - KEPT,))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            if self._reserved:
                try:
                    await self._run(self._extend, list(self._reserved))
                except sqlite3.Error as error:
                    log.warning("callbacks: reservations could not be renewed: %s", error)

    def _extend(self, keys: list[bytes]) -> None:
        until = time.time() + self._lease
        rows = [(until, key, self._owner) for key in keys]
        self._file.execute("BEGIN IMMEDIATE")
        with self._file:
            self._file.executemany("UPDATE event SET until = ? WHERE key = ? AND owner = ? AND NOT handled", rows)


def _opened(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    end = time.monotonic() + BUSY
    try:
        while True:
            try:
                file.executescript(_SCHEMA)
                return file
            except sqlite3.OperationalError as error:  # to change the journal mode SQLite does not wait for others
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.02)
    except BaseException:
        file.close()
        raise


_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS event (
    key BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    until REAL NOT NULL,
    handled INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""

# A reservation that lasts a minute longer than any can was made before the clock was set back.
_RESERVE = """
INSERT INTO event (key, owner, until) VALUES (:key, :owner, :until)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE NOT handled AND (owner = :owner OR until < :now OR until > :absurd)
"""

_CONFIRM = """
INSERT INTO event (key, owner, until, handled) VALUES (?, ?, ?, 1)
ON CONFLICT (key) DO UPDATE SET until = excluded.until, handled = 1
"""
