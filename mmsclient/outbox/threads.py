"""One thread that uses a connection, so that the event loop waits for no disk and no database."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from mmsclient.outbox.errors import translated

__all__ = ["StoreThread"]

T = TypeVar("T")


class _Closes(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=_Closes)


class StoreThread(Generic[S]):
    """Runs what uses `store`, one after the other, in one thread. Closes it when this is forgotten."""

    def __init__(self, store: S, executor: ThreadPoolExecutor | None = None) -> None:
        self.store = store
        self._executor = executor or ThreadPoolExecutor(1, "mmsclient-outbox")
        self._finalizer = weakref.finalize(self, _close, store, self._executor)

    async def run(self, function: Callable[[S], T]) -> T:
        """Run `function` in the thread. It is run to its end, also where the caller is cancelled."""
        return await asyncio.shield(self.submit(function))

    def submit(self, function: Callable[[S], T]) -> asyncio.Future[T]:
        """As `run`, for a caller who wants to know the end even when it is cancelled: shield the future."""
        store = self.store

        def guarded() -> T:
            with translated():
                return function(store)

        return asyncio.wrap_future(self._executor.submit(guarded))

    async def close(self) -> None:
        """Close the store and end the thread. May be called again."""
        if self._finalizer.detach() is not None:
            closing = self._executor.submit(self.store.close)
            self._executor.shutdown(wait=False)
            await asyncio.shield(asyncio.wrap_future(closing))


def _close(store: _Closes, executor: ThreadPoolExecutor) -> None:
    try:
        executor.submit(store.close)
    except RuntimeError:  # the interpreter is ending, and no thread uses it any more
        store.close()
    executor.shutdown(wait=False)
