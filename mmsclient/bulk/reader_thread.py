"""Reads a journal again and again, through one connection in a thread of its own."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import TypeVar

from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.protocol import JournalReader
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore
from mmsclient._store.worker_thread import WorkerThread
from mmsclient._threads import NoThreadError

__all__ = ["ReaderThread"]

T = TypeVar("T")


class ReaderThread:
    """Begins with the first question, and may begin again after its end. Closes the journal when it is forgotten.

    Args:
        store: Where the journal is.
    """

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._at_work: tuple[WorkerThread, _Reader] | None = None

    async def ask(self, question: Callable[[JournalReader], T]) -> T:
        """What `question` finds in the journal. Raises `JournalError`, also where that is gone by now, or another."""
        _, reader = self._begun()
        return await self.run(lambda: question(reader.current()))

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` in the thread, after what came before. It is run to its end, also for a cancelled caller."""

        def guarded() -> T:
            with translated_errors(self._store.shown):
                return function()

        worker, _ = self._begun()
        try:
            future = worker.submit(guarded)
        except NoThreadError as error:
            raise JournalUnavailableError(self._store.shown, error.problem) from None
        return await asyncio.shield(asyncio.wrap_future(future))

    async def aclose(self) -> None:
        """Close the journal, and end the thread. May be called again."""
        at_work, self._at_work = self._at_work, None
        if at_work is not None:
            await at_work[0].aclose()

    def _begun(self) -> tuple[WorkerThread, _Reader]:
        if self._at_work is None:
            reader = _Reader(self._store)
            worker = WorkerThread("mmsclient-reader", reader.close)
            weakref.finalize(self, worker.drop).atexit = False  # the worker sees to that
            self._at_work = worker, reader
        return self._at_work


class _Reader:
    """The open journal, for one thread."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._reader: JournalReader | None = None

    def current(self) -> JournalReader:
        """The reader of what was there first. Raises `JournalError` where something else is, or nothing."""
        if self._reader is not None and not self._reader.is_current:
            problem = "it was removed or replaced during the campaign; nothing more is sent"
            raise JournalError(self._store.shown, problem)
        if self._reader is None:
            self._reader = self._store.open_lasting_reader()
        return self._reader

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
