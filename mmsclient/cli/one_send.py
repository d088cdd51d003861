"""One send in a terminal: at a signal the answer to what has left is waited for, and is the command's all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from mmsclient import AsyncMMSClient, MMSError, SentBatch
from mmsclient._api.envelope import NOT_CARRIED_OUT
from mmsclient.cli.signals import SignalledError, ended_by_signals
from mmsclient.cli.status import complain

LANDING = 0.5
"""Seconds for the result to come to its caller once the client is closed; then there is none, since nothing left."""


class OneSend:
    """Carries a send out, and remembers what came of it."""

    def __init__(self) -> None:
        self._outcome: SentBatch | MMSError | None = None

    @contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """As the function of that name, where nothing was sent; else the first signal ends only what follows the send.

        Raises the error of the send, however the signal came in between.
        """
        try:
            with ended_by_signals():
                yield
        except SignalledError:
            if isinstance(self._outcome, MMSError):
                raise self._outcome from None
            if self._outcome is None:
                complain("nothing was sent")
                raise

    async def run(self, mms: AsyncMMSClient, sending: Coroutine[Any, Any, SentBatch]) -> SentBatch:
        """The result of `sending`, a send of `mms`. Cancelled only where nothing was carried out, nor will be."""
        task = asyncio.ensure_future(sending)
        try:
            self._outcome = await self._end_of(mms, task)
        except NOT_CARRIED_OUT:
            raise
        except MMSError as error:
            self._outcome = error
            raise
        return self._outcome

    async def _end_of(self, mms: AsyncMMSClient, task: asyncio.Task[SentBatch]) -> SentBatch:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            complain("stopping: waiting for the answer if it has left; once more ends it at once, sent or not")
            await mms.aclose()  # takes back what has not left
            await asyncio.wait([task], timeout=LANDING)
            if not task.done() or isinstance(task.exception(), NOT_CARRIED_OUT):
                task.cancel()
                raise
            if (caller := asyncio.current_task()) is not None:
                caller.uncancel()
            return task.result()
