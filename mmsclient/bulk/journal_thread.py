"""A journal and the one thread that uses it, so that the event loop waits for no disk."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

from mmsclient._store.protocol import SenderJournal
from mmsclient._store.sqlite_database import MEMORY, translated_errors

__all__ = ["JournalThread"]

T = TypeVar("T")


class JournalThread:
    """Runs what uses a journal, one after the other, in one thread. Closes the journal when it is forgotten.

    Its counts may be read from the event loop: they change when a call of `run` ends.
    """

    def __init__(self, journal: SenderJournal, executor: ThreadPoolExecutor) -> None:
        self.journal = journal
        self._executor = executor
        self._finalizer = weakref.finalize(self, _close, journal, executor)

    @classmethod
    async def open(cls, make: Callable[[], SenderJournal], path: str | None) -> Self:
        """Start a thread, and open in it what `make` opens; `path` stands in the errors."""
        executor = ThreadPoolExecutor(1, "mmsclient-journal")
        opening = executor.submit(make)
        try:
            with translated_errors(path or MEMORY):
                return cls(await asyncio.shield(asyncio.wrap_future(opening)), executor)
        except BaseException:
            executor.submit(_close_opened, opening)
            executor.shutdown(wait=False)
            raise

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` in the thread. It is run to its end, also where the caller is cancelled."""
        return await asyncio.shield(self.submit(function))

    def submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """As `run`, for a caller who wants to know the end even when it is cancelled: shield the future."""

        def guarded() -> T:
            with translated_errors(self.journal.path):
                return function()

        return asyncio.wrap_future(self._executor.submit(guarded))

    async def close(self) -> None:
        """Close the journal and end the thread."""
        self._finalizer.detach()
        await _run(self._executor, self.journal.close)
        self._executor.shutdown(wait=False)


async def _run(executor: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.shield(asyncio.wrap_future(executor.submit(function)))


def _close_opened(opening: Future[SenderJournal]) -> None:
    """Close what nobody waited for, so that it can be opened again."""
    if opening.exception() is None:
        opening.result().close()


def _close(journal: SenderJournal, executor: ThreadPoolExecutor) -> None:
    try:
        executor.submit(journal.close)
    except RuntimeError:  # the interpreter is ending, and no thread uses it any more
        journal.close()
    executor.shutdown(wait=False)
