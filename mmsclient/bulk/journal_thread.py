"""A journal and the one thread that uses it, so that the event loop waits for no disk."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Self, TypeVar

from mmsclient._store.errors import JournalUnavailableError
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.sqlite_database import MEMORY, translated_errors
from mmsclient._store.worker_thread import WorkerThread
from mmsclient._threads import NoThreadError

__all__ = ["JournalThread"]

T = TypeVar("T")


class JournalThread:
    """Runs what uses a journal, one after the other, in one thread. Closes the journal when it is forgotten.

    Its counts may be read from the event loop: they change when a call of `run` ends.
    """

    def __init__(self, journal: SenderJournal, worker: WorkerThread) -> None:
        self.journal = journal
        self._worker = worker
        self._finalizer = weakref.finalize(self, worker.drop)
        self._finalizer.atexit = False  # the worker sees to that

    @classmethod
    async def open(cls, make: Callable[[], SenderJournal], path: str | None) -> Self:
        """Start a thread, and open in it what `make` opens; `path` stands in the errors."""
        worker = WorkerThread("mmsclient-journal")

        def opened() -> SenderJournal:
            journal = make()
            worker.close = journal.close  # also where nobody waits for it any more
            return journal

        try:
            with translated_errors(path or MEMORY):
                return cls(await asyncio.shield(asyncio.wrap_future(worker.submit(opened))), worker)
        except NoThreadError as error:
            raise JournalUnavailableError(path or MEMORY, error.problem) from None
        except BaseException:
            worker.end()
            raise

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` in the thread. It is run to its end, also where the caller is cancelled."""
        return await asyncio.shield(self.submit(function))

    def submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """As `run`, for a caller who wants to know the end even when it is cancelled: shield the future."""

        def guarded() -> T:
            with translated_errors(self.journal.path):
                return function()

        return asyncio.wrap_future(self._worker.submit(guarded))

    async def close(self) -> None:
        """Close the journal and end the thread."""
        self._finalizer.detach()
        await self._worker.aclose()
