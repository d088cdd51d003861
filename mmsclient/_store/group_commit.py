"""Many small writes in few transactions, in a thread of their own."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from attrs import frozen

from mmsclient._store.worker_thread import LAST
from mmsclient._threads import NoThreadError, started

__all__ = ["Committer", "GroupCommit"]

W = TypeVar("W")
R = TypeVar("R")
W_contra = TypeVar("W_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Committer(Protocol[W_contra, R_co]):
    """What writes go through: a connection that one thread uses."""

    @property
    def shared_failures(self) -> tuple[type[BaseException], ...]:
        """Errors of the database itself: to try each write of a group alone would not help."""
        ...

    def commit(self, writes: Sequence[W_contra], /) -> Sequence[R_co]:
        """Commit all in one transaction, and return what came of each; or raise, and nothing is committed.

        A write may be given again that was committed without anybody hearing of it.
        """
        ...

    def close(self) -> None:
        """Close the connection. May be called again."""
        ...


@frozen
class _Failure:
    """What came of a write that was not committed."""

    error: BaseException


class GroupCommit(Generic[W, R]):
    """Commits writes on one connection; those that wait share a transaction.

    Each write gets its result only after the commit that holds it. Where one of a group fails, the others are committed
    without it; where the commit itself fails, or the database, all that share it fail. The thread starts and the
    connection is opened at the first write, in each process: a fork opens its own. Dropped without closing, it closes
    its connection.

    Args:
        connect: Opens the connection; called in the thread. It must not refer to whoever owns the `GroupCommit`.
    """

    def __init__(self, connect: Callable[[], Committer[W, R]]) -> None:
        self._connect = connect
        self._inherited: list[_Worker[W, R]] = []
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._worker = _Worker(self._connect)
        self._finalizer = weakref.finalize(self, self._worker.drop)
        self._finalizer.atexit = False

    @property
    def is_open(self) -> bool:
        """A connection is open."""
        return self._worker.committer is not None

    def submit(self, write: W) -> asyncio.Future[R]:
        """What came of `write`, once that is committed; or what `Committer.commit` raised."""
        if self._process != os.getpid():  # what was open is the parent's, and must not even be closed here
            self._inherited.append(self._worker)
            self._begin()
        return self._worker.add(write)

    async def run(self, write: W) -> R:
        """Returns or raises what `submit` promises."""
        return await self.submit(write)

    async def aclose(self) -> None:
        """Commits what waits, and closes the connection. A parent's is left alone."""
        if self._process == os.getpid() and not self._worker.is_closed:
            self._finalizer.detach()
            await asyncio.shield(asyncio.wrap_future(self._worker.close()))


class _Worker(Generic[W, R]):
    """The thread of one process, and its connection.

    No executor: what a finalizer does must take no lock, and `SimpleQueue.put` takes none that its thread may hold.
    """

    def __init__(self, connect: Callable[[], Committer[W, R]]) -> None:
        self._connect = connect
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._orders: SimpleQueue[bool] = SimpleQueue()
        """True: commit what waits. False: and close."""
        self._ended: Future[None] = Future()
        self._waiting: deque[tuple[W, asyncio.Future[R]]] = deque()
        self._scheduled_by: asyncio.AbstractEventLoop | None = None
        self.committer: Committer[W, R] | None = None
        self.is_closed = False

    def add(self, what: W) -> asyncio.Future[R]:
        if self.is_closed:
            raise RuntimeError("the database was closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((what, future))
        if self._scheduled_by is not loop:
            self._scheduled_by = loop
            loop.call_soon(self._commit_soon)  # with what else comes in this pass of the loop
        return future

    def close(self) -> Future[None]:
        """Commit what waits, and close the connection, in the thread."""
        self.is_closed = True
        if self._thread is None and self._waiting:
            self._start()
        if self._thread is None:
            self._ended.set_result(None)
        self._orders.put(False)
        return self._ended

    def drop(self) -> None:
        """Close the connection; nobody waits for anything. For finalizers: any thread, at any moment."""
        if self._process == os.getpid():  # else it is a parent's
            self.is_closed = True
            self._orders.put(False)

    def end(self) -> None:
        """At the end of the process: close the connection, and wait for that."""
        if self._process == os.getpid():
            self.drop()
            with suppress(TimeoutError):
                self._ended.result(LAST)

    def _start(self) -> None:
        """Start the thread; where that cannot be, all that wait fail, and the next write tries again."""
        try:
            self._thread = started(self._serve, "mmsclient-store")
        except NoThreadError as error:
            waiting = self._take_waiting()
            self._tell(waiting, [_Failure(error)] * len(waiting))
        else:
            _at_work.add(self)

    def _commit_soon(self) -> None:
        if not self.is_closed:  # or all that waits is committed already
            if self._thread is None:
                self._start()
            if self._thread is not None:
                self._orders.put(True)

    def _serve(self) -> None:
        while self._orders.get():
            self._commit_waiting()
        self._commit_waiting()
        try:
            if self.committer is not None:
                self.committer.close()
        finally:
            self.committer = None
            self._ended.set_result(None)

    def _commit_waiting(self) -> None:
        """Commit all that wait, and tell their loops."""
        if waiting := self._take_waiting():
            self._tell(waiting, self._commit([what for what, _ in waiting]))

    def _take_waiting(self) -> list[tuple[W, asyncio.Future[R]]]:
        self._scheduled_by = None  # first, so that whatever comes from now on is scheduled anew
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def _tell(self, waiting: list[tuple[W, asyncio.Future[R]]], outcomes: Sequence[R | _Failure]) -> None:
        settled = [(future, outcome) for (_, future), outcome in zip(waiting, outcomes, strict=True)]
        for loop in {future.get_loop() for future, _ in settled}:
            with suppress(RuntimeError):  # it has ended, and its callers with it
                loop.call_soon_threadsafe(_settle, [each for each in settled if each[0].get_loop() is loop])

    def _commit(self, writes: list[W]) -> Sequence[R | _Failure]:
        """Commit `writes` together; where that fails for the sake of one of them, each alone."""
        is_shared = True
        try:
            if self.committer is None:
                self.committer = self._connect()
            is_shared = len(writes) == 1
            return self.committer.commit(writes)
        except BaseException as error:  # each caller gets its own
            if is_shared or (self.committer is not None and isinstance(error, self.committer.shared_failures)):
                return [_Failure(error)] * len(writes)
        return [outcome for write in writes for outcome in self._commit([write])]


def _settle(settled: list[tuple[asyncio.Future[R], R | _Failure]]) -> None:
    for future, outcome in settled:
        if future.done():
            continue
        if isinstance(outcome, _Failure):
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome)


_at_work: WeakSet[_Worker[Any, Any]] = WeakSet()


@atexit.register
def _end_all() -> None:
    for worker in list(_at_work):
        worker.end()
