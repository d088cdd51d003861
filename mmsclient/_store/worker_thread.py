"""One thread that runs what it is given, so that the event loop waits for no disk and no database."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar
from weakref import WeakSet

from mmsclient._threads import NoThreadError, started

__all__ = ["LAST", "WorkerThread"]

T = TypeVar("T")

LAST = 60.0
"""Seconds that the end of the process waits for a store that does not answer."""


class WorkerThread:
    """Runs functions one after the other; last of all, what closes the store that they use.

    No executor: finalizers run at any moment, also while their own thread is within a lock of an executor's, and would
    wait for it for ever. `SimpleQueue.put` may be called then. The thread starts with the first function, so that a
    fork before that has its own; a later one has none, and closes nothing.

    Args:
        name: Of the thread.
        close: Is run last of all; None where it is not known yet.
    """

    def __init__(self, name: str, close: Callable[[], object] | None = None) -> None:
        self.close: Callable[[], object] | None = close
        self._name = name
        self._process: int | None = None
        self._thread: threading.Thread | None = None
        self._orders: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._closed: Future[None] = Future()
        self._is_ended = False

    @property
    def is_of_this_process(self) -> bool:
        """The thread is no parent's."""
        return self._process in (None, os.getpid())

    def start(self) -> None:
        """Start the thread, if it does not run yet. Raises `NoThreadError`: then nothing was changed."""
        if self._thread is None:
            self._thread = started(self._serve, self._name)
            self._process = os.getpid()
            _at_work.add(self)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """What comes of `function`, after all that was submitted before.

        Raises `RuntimeError` after the end, and `NoThreadError` where the thread cannot be started.
        """
        if self._is_ended or not self.is_of_this_process:
            raise RuntimeError(f"the thread {self._name} was ended, or is that of the process before a fork")
        self.start()
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._orders.put(run)
        return future

    def end(self) -> Future[None]:
        """Close the store after all that was submitted before, and end the thread. May be called again."""
        if self._closed.done():
            return self._closed
        if self.is_of_this_process:
            with suppress(NoThreadError):
                self.start()
            self.drop()
            if self._thread is None:  # nothing was submitted, so nothing uses the store
                self._close()
        else:
            self._closed.set_result(None)
        return self._closed

    async def aclose(self) -> None:
        """As `end`, and wait for that, also where the caller is cancelled meanwhile."""
        await asyncio.shield(asyncio.wrap_future(self.end()))

    def drop(self) -> None:
        """As `end`, of a thread that runs, where nobody waits for it. For finalizers: any thread, at any moment."""
        self._is_ended = True
        self._orders.put(None)

    def finish(self) -> None:
        """At the end of the process: as `drop`, and wait for that."""
        if self._thread is not None and self.is_of_this_process:
            self.drop()
            self._thread.join(LAST)

    def _serve(self) -> None:
        while (run := self._orders.get()) is not None:
            run()
            del run
        self._close()

    def _close(self) -> None:
        try:
            if self.close is not None:
                self.close()
        except BaseException as error:
            self._closed.set_exception(error)
        else:
            self._closed.set_result(None)


_at_work: WeakSet[WorkerThread] = WeakSet()


@atexit.register
def _finish_all() -> None:
    for worker in list(_at_work):
        with suppress(BaseException):
            worker.finish()
