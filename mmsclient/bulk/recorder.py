"""Records how calls ended. What the journal cannot take is kept, written as soon as it can, and told if not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from attrs import field, frozen

from mmsclient._store.models import Claim, Exclusion, RecipientState
from mmsclient._store.protocol import SenderJournal
from mmsclient.bulk.control import Stop
from mmsclient.bulk.errors import JournalError, JournalUnavailableError
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.outcome import Outcome
from mmsclient.bulk.waiting import all_done, is_ending
from mmsclient.errors import MMSError
from mmsclient.models import SentBatch

__all__ = ["Recorder", "Unrecorded"]

log: logging.Logger = logging.getLogger(__name__)

C = TypeVar("C", Claim, Claim | None)

KEPT = 120.0
"""Seconds that the end of a call is kept which the journal cannot take, and written as soon as it can."""
WRITE_AGAIN = 0.5
"""Seconds between the attempts to write it."""


@frozen
class Unrecorded:
    """Ends of calls that the journal did not take."""

    problem: JournalError
    ends: list[str] = field(factory=list)

    def error(self, first: BaseException) -> JournalError:
        """What the consumer is told. `first`: what ended the run."""
        ends = ", ".join(self.ends)
        text = f"{self.problem.problem}; not recorded, and unknown when it is resumed: {ends}"
        error = type(self.problem)(self.problem.path, f"{text}; {first}" if isinstance(first, Stop) else text)
        error.__context__ = None if isinstance(first, Stop | JournalError) else first
        return error


class Recorder:
    """Writes the ends of calls into a journal."""

    def __init__(self, thread: JournalThread, changed: asyncio.Event) -> None:
        self._thread = thread
        self._changed = changed
        self._behind = 0
        self.unrecorded: Unrecorded | None = None
        """What could not be written at all."""

    @property
    def is_behind(self) -> bool:
        """Ends are waiting to be written: nothing new should start."""
        return self._behind > 0

    async def claim(self, take: Callable[[SenderJournal], C]) -> C:
        """Claim recipients. What was claimed when the event loop ends meanwhile is released."""
        claiming = self._thread.submit(lambda: take(self._thread.journal))
        try:
            await all_done(claiming)
        except asyncio.CancelledError:
            if claiming.exception() is None and (claim := claiming.result()) is not None:
                await self.release(claim)
            raise
        return claiming.result()

    async def record(self, claim: Claim, outcome: Outcome, sent: SentBatch | None, error: MMSError | None) -> None:
        """Write down how a call ended. Raises `JournalError` where that cannot be; it is told then."""
        is_unknown = sent is None and all(result.state is RecipientState.UNKNOWN for result in outcome.results)
        await self._write(
            claim,
            lambda: self._thread.journal.finish(
                claim,
                outcome.results,
                accepted=None if is_unknown else outcome.accepted,
                credits_used=sent.credits_used if sent is not None else None,
                error=None if error is None else f"{type(error).__name__}: {error}",
            ),
            f"{outcome.accepted} of {len(claim.ids)} recipients accepted",
        )

    async def release(self, claim: Claim) -> None:
        """Write down that a call never left. Raises as `record`."""
        await self._write(claim, lambda: self._thread.journal.release(claim), "it never left")

    async def suppress(self, claim: Claim, reasons: Mapping[int, str], why: Exclusion = Exclusion.SUPPRESSED) -> None:
        """Write down who of a call that has not left is excluded. Raises as `record`."""
        await self._write(
            claim,
            lambda: self._thread.journal.suppress(claim, reasons, why),
            f"{len(reasons)} of {len(claim.ids)} recipients excluded, and it never left",
        )

    async def _write(self, claim: Claim, write: Callable[[], None], what: str) -> None:
        try:
            await self._write_until_done(claim, write)
        except JournalError as problem:
            self._keep(problem, f"batch {claim.batch} ({what})")
            raise

    async def _write_until_done(self, claim: Claim, write: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + KEPT
        failures = 0
        cancelled: asyncio.CancelledError | None = None
        try:
            while True:
                writing = self._thread.submit(write)
                try:
                    await all_done(writing)
                except asyncio.CancelledError as error:
                    cancelled = error
                try:
                    writing.result()
                    break
                except JournalUnavailableError as problem:
                    if is_ending() or loop.time() > give_up_at:
                        raise
                    if not failures:
                        self._behind += 1
                        log.warning("%s; the end of batch %d is kept, and written later", problem, claim.batch)
                    failures += 1
                try:
                    await asyncio.sleep(WRITE_AGAIN)
                except asyncio.CancelledError as error:  # the event loop is ending: once more, at once
                    cancelled = error
        finally:
            self._behind -= failures > 0
            self._changed.set()
        if cancelled is not None:
            raise cancelled

    def _keep(self, problem: JournalError, end: str) -> None:
        """What is known and cannot be recorded is told: in the log, and in the error that ends the campaign."""
        if self.unrecorded is None:
            self.unrecorded = Unrecorded(problem)
        self.unrecorded.ends.append(end)
        log.error("%s; not recorded: %s", problem, end)
