"""A sender for synchronous programs: Django views, Celery tasks, scripts with threads.

One event loop in a thread of its own carries one client; any thread of the process may call `send`. Processes share the
account's cap through Redis.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from anyio.from_thread import start_blocking_portal

from mmsclient import AsyncMMSClient, SentBatch, SharedTokenBucket


class SynchronousSender:
    """`AsyncMMSClient.send` for threads. Make one a process, after a fork; close it at the end."""

    def __init__(self, *, redis: str | None = None, account: str = "default", **options: Any) -> None:
        """`redis`: shares the cap of `account` among processes. `options`: those of `AsyncMMSClient`."""
        self._redis = redis
        self._account = account
        self._options = options
        self._exit = ExitStack()

    def open(self) -> Self:
        """Start the thread and the client in it."""
        try:
            self._portal = self._exit.enter_context(start_blocking_portal("asyncio"))
            if self._redis is not None:
                cap = self._portal.call(self._new_cap)
                self._options["limiter"] = self._exit.enter_context(self._portal.wrap_async_context_manager(cap))
            client = self._portal.call(lambda: AsyncMMSClient(**self._options))
            self._mms = self._exit.enter_context(self._portal.wrap_async_context_manager(client))
        except BaseException:
            self._exit.close()
            raise
        return self

    def close(self) -> None:
        """Wait for the calls that have left, and end the thread."""
        self._exit.close()

    def send(self, to: str | Iterable[str], text: str, image: bytes, subject: str | None = None) -> SentBatch:
        """Send, and wait for the answer. Raises what `AsyncMMSClient.send` raises."""

        async def call() -> SentBatch:
            return await self._mms.send(to=to, text=text, image=image, subject=subject)

        return self._portal.call(call)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def _new_cap(self) -> SharedTokenBucket:
        return SharedTokenBucket(self._redis or "", account=self._account)
