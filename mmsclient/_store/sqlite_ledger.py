"""The ledger of keyed sends, in a SQLite file on a local disk that several processes may share.

Every commit is flushed to the disk (`synchronous=FULL`), and claims and ends that come at the same time share one.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from mmsclient._store import sqlite_keyed_evidence, sqlite_retention
from mmsclient._store.group_commit import GroupCommit
from mmsclient._store.heard import Heard
from mmsclient._store.ledger import DIED, PURGE_EVERY, Fingerprint, KeyClaim, KeyedSend, SendEnd, SendState, may_claim
from mmsclient._store.models import Owner
from mmsclient._store.private_files import transaction
from mmsclient._store.sqlite_calls import Call, SQLiteCalls
from mmsclient._store.sqlite_heard import note
from mmsclient._store.sqlite_ledger_files import OpenLedger, check_ledger, translated
from mmsclient.errors import LedgerUnavailableError

__all__ = ["SQLiteLedger"]

T = TypeVar("T")

_FIND = "SELECT text, subject, image, recipients, state, sender, claimed, result, claim, proven FROM send WHERE key = ?"
_CLAIM = (
    "INSERT OR REPLACE INTO send (key, claim, text, subject, image, recipients, state, sender, claimed)"
    " VALUES (?, ?, ?, ?, ?, ?, 'sending', ?, ?)"
)
_LOSE = "UPDATE send SET state = 'unknown', ended = ?, result = ? WHERE state = 'sending' AND "
_FINISH = (
    "UPDATE send SET state = :state, ended = :now, result = :result, proven = 0"
    " WHERE claim = :claim AND (state IN ('sending', 'unknown') OR proven AND :state <> 'unknown')"
)


class SQLiteLedger:
    """A `Ledger` in the file `path`, which is made if it is not there.

    The file is opened at the first claim, in each process: a fork opens its own.

    Args:
        path: The file.
        owner: The account that it is for.
        keep: Seconds that a key is kept after its send has ended, at least; None: as others ask for.

    Raises:
        LedgerUnavailableError: The file cannot be used, or belongs to another account.
    """

    def __init__(self, path: str | os.PathLike[str], owner: Owner, *, keep: float | None) -> None:
        self._path = Path(os.path.realpath(path))
        check_ledger(self._path, owner)
        self._transactions = _Transactions(self._path, owner, keep)
        connect = partial(SQLiteCalls, self._transactions.connect, self._transactions.close)
        self._commits: GroupCommit[Call, Any] = GroupCommit(connect)
        self._is_closed = False

    async def claim(self, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool) -> KeyedSend | None:
        """See `Ledger.claim`."""
        return await self._commit(partial(self._transactions.claim, claim, fingerprint, retry_refused))

    def may_leave(self, claim: KeyClaim) -> bool:
        """See `Ledger.may_leave`: a process that lives holds its lock."""
        return True

    async def finish(self, claim: KeyClaim, end: SendEnd) -> bool:
        """See `Ledger.finish`."""
        return await self._commit(partial(self._transactions.finish, claim, end))

    async def record(self, heard: Heard) -> None:
        """See `Ledger.record`."""
        await self._commit(partial(self._transactions.record, heard))

    async def aclose(self) -> None:
        """See `Ledger.aclose`."""
        self._is_closed = True
        await self._commits.aclose()

    async def _commit(self, write: Callable[[sqlite3.Connection], T]) -> T:
        if self._is_closed:
            raise LedgerUnavailableError("the client was closed", self._path)
        try:
            with translated(self._path):
                return cast(T, await self._commits.run(write))
        except LedgerUnavailableError as error:  # all that share a transaction are given the same one
            raise LedgerUnavailableError(error.problem, error.path) from None


class _Transactions:
    """What is done in the ledger's thread, within a transaction each."""

    def __init__(self, path: Path, owner: Owner, keep: float | None) -> None:
        self._path = path
        self._owner = owner
        self._keep = keep
        self._purged = -math.inf
        self._opened: list[OpenLedger] = []

    def connect(self) -> sqlite3.Connection:
        opened = OpenLedger(self._path, self._owner, self._keep)
        try:
            with transaction(opened.database):
                self._lose_dead(opened)
                self._purge(opened.database)
        except BaseException:
            opened.close()
            raise
        self._opened.append(opened)
        return opened.database

    def close(self) -> None:
        for each in self._opened:
            each.close()
        self._opened.clear()

    def claim(
        self, claim: KeyClaim, fingerprint: Fingerprint, retry_refused: bool, database: sqlite3.Connection
    ) -> KeyedSend | None:
        opened = self._opened[-1]
        opened.check_files()
        if time.monotonic() - self._purged > PURGE_EVERY:
            self._purge(database)
        held, sender = _find(database, claim.key)
        if held is not None and held.state is SendState.SENDING and (sender == opened.sender or opened.is_dead(sender)):
            database.execute(f"{_LOSE} key = ?", (time.time(), _DIED, claim.key))
        held, _ = _find(database, claim.key, settles=True)
        if held is not None and not may_claim(held, fingerprint, retry_refused=retry_refused):
            return held
        digests = (fingerprint.text, fingerprint.subject, fingerprint.image, fingerprint.recipients)
        database.execute(_CLAIM, (claim.key, claim.id, *digests, opened.sender, time.time()))
        sqlite_keyed_evidence.remember_recipients(database, claim.id, claim.phones)
        return None

    def finish(self, claim: KeyClaim, end: SendEnd, database: sqlite3.Connection) -> bool:
        self._opened[-1].check_index()
        values = {"state": end.state, "now": time.time(), "result": json.dumps(dict(end.result)), "claim": claim.id}
        if not database.execute(_FINISH, values).rowcount:
            return bool(database.execute("SELECT 1 FROM send WHERE claim = ?", (claim.id,)).fetchall())
        sqlite_keyed_evidence.name(database, claim.id, end.messages)
        return True

    def record(self, heard: Heard, database: sqlite3.Connection) -> None:
        self._opened[-1].check_files()
        note(database, [heard], sqlite_keyed_evidence.NAMED)
        sqlite_keyed_evidence.note_kind(database, heard)

    def _lose_dead(self, opened: OpenLedger) -> None:
        """What dead senders were sending is unknown, and their lock files go."""
        under_way = {
            row[0] for row in opened.database.execute("SELECT DISTINCT sender FROM send WHERE state = 'sending'")
        }
        for sender in under_way | opened.senders():
            if opened.is_dead(sender):
                opened.database.execute(f"{_LOSE} sender = ?", (time.time(), _DIED, sender))

    def _purge(self, database: sqlite3.Connection) -> None:
        self._purged = time.monotonic()
        if (keep := sqlite_retention.kept_for(database)) is not None:
            database.execute("DELETE FROM send WHERE ended < ?", (time.time() - keep,))
        sqlite_keyed_evidence.forget_unneeded(database)


_DIED = json.dumps(DIED)


def _find(database: sqlite3.Connection, key: str, *, settles: bool = False) -> tuple[KeyedSend | None, str]:
    """What is held for a key, and its sender. `settles`: acts on evidence first."""
    row = database.execute(_FIND, (key,)).fetchone()
    if row is None:
        return None, ""
    text, subject, image, recipients, state, sender, claimed, result, claim, proven = row
    if settles and (proven or state == SendState.UNKNOWN):
        sqlite_keyed_evidence.settle(database, claim, claimed)
        return _find(database, key)
    fingerprint = Fingerprint(text, subject, image, recipients)
    return KeyedSend(fingerprint, SendState(state), claimed, json.loads(result) if result else {}), sender
