"""The ledger of keyed sends in PostgreSQL, which any number of clients on any machines may share.

Each client is a sender with a lease of its own: what it was sending when the lease ran out is unknown to the others.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.group_recorder import GroupRecorder
from mmsclient._store.heard import Heard
from mmsclient._store.ledger import PURGE_EVERY, Fingerprint, KeyClaim, KeyedSend, SendEnd
from mmsclient._store.models import Owner
from mmsclient._store.postgres import keyed_sends, retention
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import LOCKED, Database, Transaction
from mmsclient._store.postgres.lease import now
from mmsclient._store.postgres.migrations import migrate
from mmsclient._store.postgres.recorder import HeardInDatabase
from mmsclient._store.postgres.senders import SenderLease
from mmsclient._store.worker_thread import WorkerThread
from mmsclient._threads import NoThreadError
from mmsclient.errors import LedgerUnavailableError

__all__ = ["PostgresLedger"]

log = logging.getLogger(__name__)

KEYED = "keyed"
"""What the ids of leases begin with that are of a ledger."""

T = TypeVar("T")

SILENCE = 60.0
"""Seconds that a database which takes statements and does not answer them is waited for."""


class PostgresLedger:
    """A `Ledger` in a database, whose tables are made if they are not there.

    The database is used from the first claim on, in a thread of its own; a fork opens connections of its own.

    Args:
        address: Of the database.
        owner: The account that the ledger is for.
        keep: Seconds that a key is kept after its send has ended, at least; None: as others ask for.
    """

    def __init__(self, address: Address, owner: Owner, *, keep: float | None) -> None:
        self._path = address.shown
        self._new_thread = partial(_SenderThread, address, owner, keep)
        self._threads: list[_SenderThread] = []  # that of this process is the last; those before are its parents'
        self._leases: WeakKeyDictionary[KeyClaim, SenderLease] = WeakKeyDictionary()
        self._recorder = GroupRecorder(HeardInDatabase(address))
        self._is_closed = False
        self._finalizer = weakref.finalize(self, _close_last, self._threads)
        self._finalizer.atexit = False  # its threads see to that

    async def claim(self, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool) -> KeyedSend | None:
        """See `Ledger.claim`."""
        try:
            result = await self._run(lambda sender: sender.claim(claim, fingerprint, retry_refused=retry_refused))
        except TimeoutError:
            self._threads[-1].submit(lambda sender: sender.doubt(claim))
            raise self._silent() from None
        if isinstance(result, KeyedSend):
            return result
        self._leases[claim] = result
        return None

    def may_leave(self, claim: KeyClaim) -> bool:
        """See `Ledger.may_leave`."""
        lease = self._leases.get(claim)
        return lease is not None and lease.is_valid

    async def finish(self, claim: KeyClaim, end: SendEnd) -> bool:
        """See `Ledger.finish`."""
        try:
            is_held = await self._run(lambda sender: sender.finish(claim, end))
        except TimeoutError:
            raise self._silent() from None
        self._leases.pop(claim, None)
        return is_held

    async def record(self, heard: Heard) -> None:
        """See `Ledger.record`. What it proves of recipients of campaigns is acted on, too."""
        if self._is_closed:
            raise self._closed()
        try:
            await self._recorder.record(heard)
        except JournalError as error:
            raise LedgerUnavailableError(error.problem, self._path) from None

    async def aclose(self) -> None:
        """See `Ledger.aclose`."""
        self._is_closed = True
        self._finalizer.detach()
        if self._threads and self._threads[-1].is_of_this_process:
            await self._threads.pop().aclose()
        await self._recorder.aclose()

    async def _run(self, call: Callable[[_Sender], T]) -> T:
        if self._is_closed:
            raise self._closed()
        if not self._threads or not self._threads[-1].is_of_this_process:
            self._threads.append(self._new_thread())
        try:
            return await self._threads[-1].run(call)
        except JournalError as error:
            raise LedgerUnavailableError(error.problem, self._path) from None
        except NoThreadError as error:
            raise LedgerUnavailableError(error.problem, self._path) from None

    def _silent(self) -> LedgerUnavailableError:
        return LedgerUnavailableError(f"the database has not answered for {SILENCE:g} s", self._path)

    def _closed(self) -> LedgerUnavailableError:
        return LedgerUnavailableError("the client was closed", self._path)


class _SenderThread:
    """The thread of one process in which its `_Sender` lives."""

    def __init__(self, address: Address, owner: Owner, keep: float | None) -> None:
        self.sender = _Sender(address, owner, keep)
        self._worker = WorkerThread("mmsclient-ledger", self.sender.close)
        self._answered = -math.inf

    @property
    def is_of_this_process(self) -> bool:
        return self._worker.is_of_this_process

    async def run(self, call: Callable[[_Sender], T]) -> T:
        """Run `call` to its end, also where the caller is cancelled, or nothing has ended for so long that it leaves.

        Raises `TimeoutError` then.
        """
        began, future = time.monotonic(), self.submit(call)
        while (left := max(began, self._answered) + SILENCE - time.monotonic()) > 0:
            if (await asyncio.wait([future], timeout=left))[0]:
                return future.result()
        raise TimeoutError

    def submit(self, call: Callable[[_Sender], T]) -> asyncio.Future[T]:
        """As `run`; nobody has to wait for it."""

        def timed() -> T:
            try:
                return call(self.sender)
            finally:
                self._answered = time.monotonic()

        future = asyncio.wrap_future(self._worker.submit(timed))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # also where nobody asks
        return future

    async def aclose(self) -> None:
        await self._worker.aclose()

    def close_soon(self) -> None:
        """As `aclose`, where nobody waits for it. For finalizers, too."""
        self._worker.drop()


def _close_last(threads: list[_SenderThread]) -> None:
    """A parent's, in a fork, is left alone."""
    if threads and threads[-1].is_of_this_process:
        threads[-1].close_soon()


class _Sender:
    """What one process sends with the ledger. Lives in one thread."""

    def __init__(self, address: Address, owner: Owner, keep: float | None) -> None:
        self._address = address
        self._owner = owner
        self._keep = keep
        self._database = Database(address)
        self._lease: SenderLease | None = None
        self._is_open = False
        self._tidied = -math.inf
        self._doubtful: set[str] = set()  # claims that may have been committed, though nothing was sent under them

    def claim(self, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool) -> KeyedSend | SenderLease:
        """What is held for a key, or the lease under which it is claimed."""
        self._open()
        while True:
            lease = self._living_lease()
            held = self._claim(lease, claim, fingerprint, retry_refused=retry_refused)
            if held is not None:
                return held
            if not lease.is_lost:
                return lease

    def _claim(
        self, lease: SenderLease, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool
    ) -> KeyedSend | None:
        """What is held for a key; None where it is claimed, or the lease is lost."""
        doubtful = frozenset(self._doubtful)

        def work(transaction: Transaction) -> tuple[KeyedSend | None, float | None]:
            held = keyed_sends.held_for_good(transaction, lease.id, claim, fingerprint, retry_refused=retry_refused)
            if held is not None:
                return held, None
            asked_at = now()
            if not lease.fence(transaction):
                return None, None
            if doubtful:
                keyed_sends.undo(transaction, doubtful)
            held = keyed_sends.claim_key(transaction, lease.id, claim, fingerprint, retry_refused=retry_refused)
            return held, asked_at

        self._doubtful.add(claim.id)
        try:
            held, asked_at = self._database.run(work)
        except JournalUnavailableError:
            raise
        except JournalError:
            self._doubtful.discard(claim.id)
            raise
        self._doubtful.discard(claim.id)
        if asked_at is not None:
            lease.extend(asked_at)
            self._doubtful -= doubtful
        return held

    def doubt(self, claim: KeyClaim) -> None:
        """Nothing is sent under a claim, although it may have been committed."""
        self._doubtful.add(claim.id)

    def finish(self, claim: KeyClaim, end: SendEnd) -> bool:
        """See `Ledger.finish`."""
        return self._database.run(lambda transaction: keyed_sends.finish(transaction, claim, end))

    def close(self) -> None:
        """Let what is still sending be unknown to the others at once."""
        lease, self._lease = self._lease, None
        try:
            if lease is not None and self._doubtful:
                self._undo(lease)
        finally:
            if lease is not None:
                lease.give_back()
            self._database.close()

    def _open(self) -> None:
        if not self._is_open:
            migrate(self._database)
            self._database.lock_timeout = LOCKED
            if problem := self._database.run(lambda transaction: keyed_sends.not_of_owner(transaction, self._owner)):
                raise JournalError(self._address.shown, problem)
            self._is_open = True
        elif time.monotonic() - self._tidied < PURGE_EVERY:
            return
        self._database.run(keyed_sends.lose_dead)
        self._database.run(self._forget_old)
        self._tidied = time.monotonic()

    def _forget_old(self, transaction: Transaction) -> None:
        retention.ask(transaction, "ledger", self._keep)
        if (keep := retention.kept_for(transaction, "ledger")) is not None:
            keyed_sends.forget_old(transaction, keep)

    def _living_lease(self) -> SenderLease:
        """That of this sender; a new one where it was lost, under which nothing may leave that was claimed before."""
        if self._lease is not None and self._lease.is_lost:
            self._lease.give_back()
            self._lease = None
        if self._lease is None:
            database = Database(self._address)
            database.lock_timeout = LOCKED
            self._lease = SenderLease.acquire(database, KEYED)
        return self._lease

    def _undo(self, lease: SenderLease) -> None:
        def work(transaction: Transaction) -> None:
            lease.fence(transaction)  # waits for the transaction that may have claimed them
            keyed_sends.undo(transaction, self._doubtful)

        try:
            self._database.run(work)
        except JournalError as problem:
            log.warning("%s; a send that never left may be told as unknown", problem)
