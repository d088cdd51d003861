"""One thread that uses a connection, so that the event loop waits for no disk and no database."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from mmsclient._store.worker_thread import WorkerThread
from mmsclient._threads import NoThreadError
from mmsclient.outbox.errors import OutboxUnavailableError, translated

__all__ = ["StoreThread"]

T = TypeVar("T")


class _Closes(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=_Closes)


class StoreThread(Generic[S]):
    """Runs what uses `store`, one after the other, in one thread. Closes it when this is forgotten.

    Args:
        store: Of any kind.
        shown: As errors name it.
        is_open: It is to be closed in any case.
    """

    def __init__(self, store: S, shown: str, *, is_open: bool = False) -> None:
        self.store = store
        self._shown = shown
        self._worker = WorkerThread("mmsclient-outbox", store.close)
        if is_open:
            self._started(self._worker.start)
        self._finalizer = weakref.finalize(self, self._worker.drop)
        self._finalizer.atexit = False  # the worker sees to that

    async def run(self, function: Callable[[S], T]) -> T:
        """Run `function` in the thread. It is run to its end, also where the caller is cancelled."""
        return await asyncio.shield(self.submit(function))

    def submit(self, function: Callable[[S], T]) -> asyncio.Future[T]:
        """As `run`, for a caller who wants to know the end even when it is cancelled: shield the future."""
        store = self.store

        def guarded() -> T:
            with translated():
                return function(store)

        return asyncio.wrap_future(self._started(lambda: self._worker.submit(guarded)))

    async def close(self) -> None:
        """Close the store and end the thread. May be called again."""
        if self._finalizer.detach() is not None:
            await self._worker.aclose()

    def _started(self, begin: Callable[[], T]) -> T:
        try:
            return begin()
        except NoThreadError as error:
            raise OutboxUnavailableError(self._shown, error.problem) from None
