"""Which callbacks were handled, in a SQLite file that outlives the process and serves several."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sqlite3
import time
from enum import Enum, auto
from functools import partial
from pathlib import Path

from mmsclient._store.group_commit import GroupCommit
from mmsclient._store.private_files import BUSY, make_private
from mmsclient.errors import ConfigurationError

log = logging.getLogger(__name__)

LEASE = 5.0
"""Seconds that a reservation outlives its process. A living one renews it."""

KEPT = 30 * 86400.0
"""Seconds that a handled event is remembered."""

PURGE_EVERY = 10_000
"""Confirmations between two clearings of the file."""


class Reservation(Enum):
    """What came of the wish to handle an event."""

    OURS = auto()
    """Not handled yet, and reserved: handle it."""
    HANDLED = auto()
    """It was handled before."""
    ELSEWHERE = auto()
    """Another process has reserved it."""


class HandledEvents:
    """The keys of the events of the last 30 days, about 50 bytes each. Several processes may share the file.

    A process that dies leaves its reservations, which end after `LEASE` seconds; one that lives renews them, as long as
    its event loop is not blocked for that long.

    Args:
        path: The file, which is made if it is not there.
        lease: Seconds that a reservation outlives its process; `LEASE` if left out.

    Raises:
        ConfigurationError: The file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], *, lease: float | None = None) -> None:
        self._lease = LEASE if lease is None else lease
        self._confirmed = 0
        self._process: int | None = None
        try:
            make_private(path)
            connect(Path(path)).close()
        except (sqlite3.Error, OSError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(f"seen: {problem}: {os.fspath(path)}") from None
        self._commits = GroupCommit(partial(_cleared, Path(path)))

    def _begin_in_this_process(self) -> None:
        """Be an owner of reservations, another one in each fork."""
        self._process = os.getpid()
        self._owner = secrets.token_hex(8)
        self._reserved: set[bytes] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def reserve(self, key: bytes) -> Reservation:
        """Reserves an event for this process, unless it was handled or is reserved by another."""
        if self._process != os.getpid():
            self._begin_in_this_process()
        reservation = await self._commits.run(partial(self._reserve, key))
        if reservation is Reservation.OURS:
            self._reserved.add(key)
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return reservation

    async def confirm(self, key: bytes) -> None:
        """Notes that an event was handled."""
        self._reserved.discard(key)
        await self._commits.run(partial(self._confirm, key))

    async def release(self, key: bytes) -> None:
        """Gives a reservation back."""
        self._reserved.discard(key)
        await self._commits.run(partial(self._release, key))

    async def aclose(self) -> None:
        """Closes the file. What is still reserved is free after `LEASE` seconds."""
        try:
            if self._process == os.getpid() and self._renewing is not None:
                self._renewing.cancel()
                await asyncio.wait([self._renewing])
                self._renewing = None
        finally:
            await self._commits.aclose()

    def _reserve(self, key: bytes, file: sqlite3.Connection) -> Reservation:
        now = time.time()
        values = {
            "key": key,
            "owner": self._owner,
            "now": now,
            "until": now + self._lease,
            "absurd": now + self._lease + 60,
        }
        if file.execute(_RESERVE, values).rowcount:
            return Reservation.OURS
        (handled,) = file.execute("SELECT handled FROM event WHERE key = ?", (key,)).fetchone() or (False,)
        return Reservation.HANDLED if handled else Reservation.ELSEWHERE

    def _confirm(self, key: bytes, file: sqlite3.Connection) -> None:
        file.execute(_CONFIRM, (key, self._owner, time.time()))
        self._confirmed += 1
        if self._confirmed % PURGE_EVERY == 0:
            _clear(file)

    def _release(self, key: bytes, file: sqlite3.Connection) -> None:
        file.execute("DELETE FROM event WHERE key = ? AND owner = ? AND NOT handled", (key, self._owner))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            if self._reserved:
                try:
                    await self._commits.run(partial(self._extend, list(self._reserved)))
                except sqlite3.Error as error:
                    log.warning("callbacks: reservations could not be renewed: %s", error)

    def _extend(self, keys: list[bytes], file: sqlite3.Connection) -> None:
        until = time.time() + self._lease
        rows = [(until, key, self._owner) for key in keys]
        file.executemany("UPDATE event SET until = ? WHERE key = ? AND owner = ? AND NOT handled", rows)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file, with its table."""
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


def _cleared(path: Path) -> sqlite3.Connection:
    file = connect(path)
    _clear(file)
    return file


def _clear(file: sqlite3.Connection) -> None:
    """Forgets what is older than `KEPT`."""
    file.execute("DELETE FROM event WHERE until < ?", (time.time() - KEPT,))


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
