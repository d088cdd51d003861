"""What is held in an outbox: told, waited for, taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from mmsclient._api.checks import check_seconds, checked_key
from mmsclient._store.group_recorder import GroupRecorder
from mmsclient._store.heard import Heard, reply_heard, report_heard
from mmsclient._store.outbox import OutboxStore
from mmsclient.errors import InvalidRequestError
from mmsclient.models import DeliveryReport, InboundMessage, Reply
from mmsclient.outbox.errors import OutboxError, translated
from mmsclient.outbox.models import OutboxCounts, OutboxResult, OutboxState
from mmsclient.outbox.outcome import result_of
from mmsclient.outbox.threads import StoreThread
from mmsclient.outbox.worker import LOOK

__all__ = ["Orders"]

T = TypeVar("T")

PAGE = 100
"""Orders that are read at a time."""


class Orders:
    """The orders of one store. Nothing here sends, or calls the API."""

    def __init__(self, store: OutboxStore) -> None:
        self._thread: StoreThread[OutboxStore] = StoreThread(store, store.shown)
        self._recorder = GroupRecorder(store)
        self._is_closed = False
        self._is_stopping = False
        self._news = asyncio.Event()
        self._began_after: int | None = None
        """The number of the last end before a worker began here."""

    async def aclose(self) -> None:
        """Close the store. May be called again."""
        self._is_closed = True
        await self._recorder.aclose()
        await self._thread.close()
        self._tell()

    async def result(self, key: str, *, timeout: float = 0.0) -> OutboxResult | None:
        """What has become of an order; None where there is none with the key.

        Args:
            key: As it was put.
            timeout: Seconds to wait for its end. Where it has not ended by then, it comes as it is.
        """
        checked_key(key)
        check_seconds("timeout", timeout, zero=True, error=InvalidRequestError)
        give_up_at = asyncio.get_running_loop().time() + timeout
        while True:
            news = self._news
            held = await self._run(lambda store: store.find(key))
            left = give_up_at - asyncio.get_running_loop().time()
            if held is None or held.state.is_over or left <= 0 or self._is_closed:
                return None if held is None else result_of(held)
            await _wait_for(news, min(left, LOOK))

    async def results(self, *, after: int | None = None) -> AsyncGenerator[OutboxResult, None]:
        """Orders as they end, each with the `number` of its end, in ascending order, from whichever worker.

        An order that was unknown and whose end came late, or that was sent again, comes once more. The iteration goes
        on until the worker of this outbox has ended, or the outbox is closed.

        Args:
            after: The number of the last end that was handled; 0 for all that are remembered. None: what ends from the
                beginning of `async with` on, or where there is none, from the first step of the iteration on.

        Raises:
            OutboxStoppedError: The worker of this outbox has stopped by itself; after the last end before that.
            OutboxError: The store cannot be used.
        """
        if after is None:
            after = self._began_after
        if after is None:
            after = await self._run(lambda store: store.last_number())
        while not self._is_closed:
            news, is_last = self._news, self._has_stopped
            page = await self._run(lambda store, after=after: store.ended(after, PAGE))  # type: ignore[misc]
            for held in page:
                yield result_of(held)
                after = held.number
            if not page and is_last:
                self._raise_error()
                return
            if not page:
                await _wait_for(news, LOOK)

    async def orders(self, state: OutboxState | None = None) -> AsyncGenerator[OutboxResult, None]:
        """All orders that are remembered, as they were put, or those in one state."""
        after = 0
        while page := await self._run(lambda store, after=after: store.listed(state, after, PAGE)):  # type: ignore[misc]
            for held in page:
                yield result_of(held)
            after = page[-1].id

    async def counts(self) -> OutboxCounts:
        """How many orders are in each state."""
        figures = await self._run(lambda store: store.figures())
        since = figures.oldest_due
        counts = {state.value: count for state, count in figures.counts.items()}
        oldest = None if since is None else datetime.fromtimestamp(since, UTC)
        return OutboxCounts(**counts, oldest_due=oldest)

    async def is_healthy(self, *, timeout: float = 5.0) -> bool:
        """Whether the store can be read within `timeout` seconds, and the worker, if there is one, is not stopping."""
        if self._is_closed or self._is_stopping:
            return False
        try:
            async with asyncio.timeout(timeout):
                await self._run(lambda store: store.last_number())
        except (OutboxError, TimeoutError):
            return False
        return not self._is_stopping

    async def cancel(self, key: str) -> bool:
        """Take an order back that is waiting. False where it is not: it was claimed, has ended, or is not there.

        A cancelled order keeps its key: for another try, put it under another one. One that was to be sent again,
        and of whose recipients an answer had accepted some, is unknown again instead.
        """
        checked_key(key)
        done = await self._run(lambda store: store.cancel(key))
        self._tell()
        return done

    async def resend_unknown(self, key: str) -> bool:
        """Send an order again that is unknown, **maybe for the second time**. False where it is not unknown.

        For a person who has found out that it did not go out. It goes to those of its recipients of whom nothing is
        known when it leaves: neither to those whom an answer named as accepted, nor to those who are proven by then.
        """
        checked_key(key)
        done = await self._run(lambda store: store.resend(key))
        self._hear()
        return done

    async def record(self, report: DeliveryReport) -> None:
        """Note a delivery report; or let `CallbackReceiver.record_into` do it.

        One that proves that an unknown order's call was carried out makes it `accepted`. Any number of times, in any
        order, in this process or another. Reports that come at the same time share a transaction.

        Raises:
            OutboxError: The store cannot be written, so that the report should come again.
        """
        await self._record(report_heard(report))

    async def record_reply(self, reply: InboundMessage | Reply) -> None:
        """Note a reply: it proves as a delivery report does. Otherwise as `record`.

        One that does not say which message it replies to counts for nothing.
        """
        if heard := reply_heard(reply):
            await self._record(heard)

    async def reconcile(self) -> int:
        """Notice that a worker died, and settle unknown orders by the reports and replies that were recorded.

        A worker does the same by itself, and so does each report that is recorded.

        Returns:
            How many orders are accepted by that.

        Raises:
            OutboxBusyError: A worker is sending from the file.
            OutboxError: The store cannot be used.
        """
        settled = await self._run(lambda store: store.settle())
        self._tell()
        return settled

    async def _record(self, heard: Heard) -> None:
        self._check_open()
        with translated():
            await self._recorder.record(heard)
        self._tell()

    async def _run(self, function: Callable[[OutboxStore], T]) -> T:
        self._check_open()
        return await self._thread.run(function)

    def _check_open(self) -> None:
        if self._is_closed:
            raise OutboxError(self._thread.store.shown, "it is closed; make a new Outbox")

    @property
    def _has_stopped(self) -> bool:
        """Nothing more ends here, since the worker has stopped by itself."""
        return False

    def _raise_error(self) -> None:
        """Raise what the worker has stopped with."""

    def _tell(self) -> None:
        """Something has come into another state, or was put: let those look who wait for it."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _hear(self) -> None:
        """Something may be there to be sent."""
        self._tell()


async def _wait_for(news: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()
