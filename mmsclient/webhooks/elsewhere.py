"""Reports between the machines that share a store: one that is handled there may be awaited here, and the other way."""

from __future__ import annotations

import asyncio
import logging

from mmsclient._store.shared_reports import Look, SharedReports, speaks_of
from mmsclient.errors import one_line
from mmsclient.models import DeliveryReport
from mmsclient.webhooks.pending import PendingEvents
from mmsclient.webhooks.throttled_log import ThrottledLog
from mmsclient.webhooks.waiters import AwaitedReport, ReportWaiters, message_of

log: logging.Logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks where no notification comes, as behind a pooler of connections."""
LISTEN_AGAIN = 5.0
"""Seconds between the attempts to listen for notifications."""


class Elsewhere:
    """Looks at the store as long as anybody here waits for a report, or a report waits for somebody to take it."""

    def __init__(self, store: SharedReports, waiters: ReportWaiters, pending: PendingEvents) -> None:
        self._store = store
        self._waiters = waiters
        self._pending = pending
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = ThrottledLog(log)

    def look(self) -> None:
        """Look as soon as can be, and then as long as it is needed."""
        self._news.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._log.flush()

    @property
    def _is_needed(self) -> bool:
        return bool(self._waiters.awaited or self._pending.offered)

    @property
    def _offered(self) -> set[str]:
        return {message_of(event) for event in self._pending.offered if isinstance(event, DeliveryReport)}

    async def _run(self) -> None:
        while self._is_needed:
            listening = asyncio.create_task(self._listen())
            try:
                await self._watch()
            finally:
                listening.cancel()
                await asyncio.wait([listening])  # meanwhile it may be needed again

    async def _watch(self) -> None:
        while self._is_needed:
            self._news.clear()
            await self._look()
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        offered = frozenset(self._offered)
        awaited = frozenset((each.message_id, each.phone) for each in self._waiters.awaited)
        if not awaited and not offered:
            return
        try:
            looked = await self._store.look(Look(awaited, offered))
        except Exception as error:
            text = "callbacks: what other machines have cannot be looked at, and is again within %g s (%s)"
            self._log.warning(text, LOOK_EVERY, one_line(str(error) or type(error).__name__, 200))
            return
        self._waiters.note(*looked.reports)
        wanted = [AwaitedReport(*each) for each in looked.awaited]
        self._pending.take(
            lambda event: isinstance(event, DeliveryReport) and any(each.matches(event) for each in wanted)
        )

    async def _listen(self) -> None:
        """Look whenever another machine says that there is something; without that, every `LOOK_EVERY` seconds."""
        while True:
            try:
                await self._store.listen(self._hear)
            except Exception as error:
                log.info("callbacks: no notifications come from other machines at present: %s", type(error).__name__)
            await asyncio.sleep(LISTEN_AGAIN)

    def _hear(self, notice: str) -> None:
        messages = {each.message_id for each in self._waiters.awaited} | self._offered
        if speaks_of(notice, messages):
            self._news.set()
