"""Many small writes in few transactions of one SQLite connection."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar

from attrs import define

T = TypeVar("T")


@define(eq=False)
class _Write(Generic[T]):
    """A call that waits for its transaction."""

    call: Callable[[sqlite3.Connection], T]
    future: asyncio.Future[T]
    result: T | None = None


class GroupCommit:
    """Runs calls on one connection, in a thread of its own; those that wait share a transaction.

    Each call gets its result only after the commit that holds it; if that fails, all calls that share it fail. The
    thread starts and the connection is opened at the first call, in each process: a fork opens its own.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._inherited: list[sqlite3.Connection | None] = []
        self._begin()

    def _begin(self) -> None:
        self._database: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, "mmsclient-store")
        self._waiting: deque[_Write[Any]] = deque()
        self._scheduled_by: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    @property
    def is_of_this_process(self) -> bool:
        """False in a fork that has not run anything yet."""
        return self._process == os.getpid()

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Returns what `call` returns, once that is committed. What it raises undoes all that share its transaction."""
        if not self.is_of_this_process:  # what was open is the parent's, and must not even be closed here
            self._inherited.append(self._database)
            self._begin()
        if self._is_closed:
            raise RuntimeError("the database was closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Write(call, future))
        if self._scheduled_by is not loop:
            self._scheduled_by = loop
            loop.call_soon(self._commit_soon)  # with what else comes in this pass of the loop
        return await future

    async def aclose(self) -> None:
        """Commits what waits, and closes the connection. A parent's is left alone."""
        if self.is_of_this_process and not self._is_closed:
            self._is_closed = True
            self._thread.submit(self._commit_waiting)
            closing = self._thread.submit(self._close)
            self._thread.shutdown(wait=False)  # after what was submitted
            await asyncio.shield(asyncio.wrap_future(closing))

    def _commit_soon(self) -> None:
        if not self._is_closed:  # or all that waits is committed already
            self._thread.submit(self._commit_waiting)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _commit_waiting(self) -> None:
        """In the thread: commits all that wait, and tells their loops."""
        self._scheduled_by = None  # first, so that whatever comes from now on is scheduled anew
        writes = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not writes:
            return
        error: BaseException | None = None
        try:
            if self._database is None:
                self._database = self._connect()
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                for write in writes:
                    write.result = write.call(self._database)
        except BaseException as failure:  # each caller gets it
            error = failure
        for loop in {write.future.get_loop() for write in writes}:
            with suppress(RuntimeError):  # it has ended, and its callers with it
                loop.call_soon_threadsafe(
                    _settle, [write for write in writes if write.future.get_loop() is loop], error
                )


def _settle(writes: list[_Write[Any]], error: BaseException | None) -> None:
    for write in writes:
        if write.future.done():
            continue
        if error is None:
            write.future.set_result(write.result)
        else:
            write.future.set_exception(error)
