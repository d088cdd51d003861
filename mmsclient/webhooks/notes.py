"""Notes which events were handled, and keeps at it where the store cannot take it."""

from __future__ import annotations

import asyncio
import logging

from attrs import evolve

from mmsclient.models import DeliveryReport
from mmsclient.webhooks.dedup import DedupStore
from mmsclient.webhooks.parse import Event, UnreadableCallback
from mmsclient.webhooks.throttled_log import ThrottledLog
from mmsclient.webhooks.waiters import is_kept, message_of
from mmsclient.webhooks.watching import NOUNS

log: logging.Logger = logging.getLogger(__name__)

MOST_UNNOTED = 10_000
"""Handled events that are remembered because they could not be noted."""

NOTE_AGAIN = 1.0
"""Seconds between two attempts to note them."""

COPY = "a copy of it would be handled again"


class Notes:
    """Notes in `dedup` that events were handled. One that cannot be noted is known here and stays reserved until it is.

    At most `MOST_UNNOTED` are; further ones drop the oldest.
    """

    def __init__(self, dedup: DedupStore) -> None:
        self._dedup = dedup
        self._unnoted: dict[bytes, DeliveryReport | None] = {}
        """By their keys; with what is kept of them for those who wait on other machines."""
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._log = ThrottledLog(log)

    def __contains__(self, key: object) -> bool:
        """The event was handled, and could not be noted yet."""
        return key in self._unnoted

    async def note(self, key: bytes, event: Event | UnreadableCallback) -> None:
        """Notes that an event was handled, now or as soon as can be."""
        report = None
        if isinstance(event, DeliveryReport) and is_kept(event):
            report = evolve(event, message_id=message_of(event), raw={})
        try:
            await self._dedup.confirm(key, report)
        except asyncio.CancelledError:  # `aclose` tries once more
            self._unnoted[key] = report
            raise
        except Exception:
            if self._closed:
                text = f"callbacks: {NOUNS[type(event)]} was handled after the closing, and not noted: {COPY}"
                self._log.warning(text)
            else:
                self._log.exception(f"callbacks: {NOUNS[type(event)]} was handled but not noted; it is tried again")
                self._keep(key, report)
        else:
            self._unnoted.pop(key, None)

    def _keep(self, key: bytes, report: DeliveryReport | None) -> None:
        self._unnoted[key] = report
        if len(self._unnoted) > MOST_UNNOTED:
            oldest = next(iter(self._unnoted))
            del self._unnoted[oldest]
            self._dedup.abandon(oldest)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._note_again())

    async def _note_again(self) -> None:
        while self._unnoted:
            await asyncio.sleep(NOTE_AGAIN)
            await self._note_all()

    async def _note_all(self) -> None:
        """Those that are still not noted stay."""
        unnoted = list(self._unnoted.items())
        outcomes = await asyncio.gather(*(self._dedup.confirm(*each) for each in unnoted), return_exceptions=True)
        for (key, _), outcome in zip(unnoted, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                self._unnoted.pop(key, None)

    async def aclose(self, timeout: float) -> None:
        """Tries once more, for `timeout` seconds, and logs what is left."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            async with asyncio.timeout(timeout):
                await self._note_all()
        except TimeoutError:
            pass
        if self._unnoted:
            log.error(f"callbacks: %d events were handled but not noted: {COPY}", len(self._unnoted))
        self._log.flush()
