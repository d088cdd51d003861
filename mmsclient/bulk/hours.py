"""What a run does where its hours end and begin."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from mmsclient._store.models import RecipientState
from mmsclient._transport import retry
from mmsclient.bulk.control import Control
from mmsclient.bulk.errors import SuppressionListUnavailableError
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.models import Progress
from mmsclient.bulk.preparation import Preparation
from mmsclient.bulk.schedule import Schedule
from mmsclient.errors import APIError, LimiterUnavailableError, MMSError, in_words
from mmsclient.observe.campaigns import RunObserver

__all__ = ["Hours"]

_PASSING = (*retry.PASSING, LimiterUnavailableError, SuppressionListUnavailableError)

log: logging.Logger = logging.getLogger(__name__)


class Hours:
    """Tells that a run waits for its hours, and does what is due before it goes on.

    Args:
        schedule: Of the run.
        control: Of the run.
        preparation: Of its campaign.
        observer: Is told too.
    """

    def __init__(self, schedule: Schedule, control: Control, preparation: Preparation, observer: RunObserver) -> None:
        self._schedule = schedule
        self._control = control
        self._preparation = preparation
        self._observer = observer
        self._told: datetime | None = None  # when it goes on
        self._failures = 0  # to learn who has unsubscribed, in a row

    def tell(self, progress: Callable[[], Progress | None]) -> None:
        """Tell, if that is news, that the run waits, or does so no more. `progress`: how far it is."""
        until, options = self._schedule.opens_at, self._preparation.options
        if until is self._told:
            return
        self._told = until
        name = options.shown_name or "in memory"
        if until is None:
            log.info("campaign %s: its hours have begun, and it goes on", name)
        else:
            log.info("campaign %s: outside its hours; it goes on at %s", name, until.isoformat(" ", "seconds"))
        self._observer.waiting(until)
        if options.on_progress is not None and (found := progress()) is not None:
            options.on_progress(found)

    async def reopen(self, thread: JournalThread, progress: Callable[[], Progress | None]) -> None:
        """Go on. Who has unsubscribed while the run waited is excluded first. No call is under way.

        Where that cannot be learnt for the moment, it returns after a pause and changes nothing: to be called again.
        """
        try:
            await self._control.unless_stopped(self._preparation.exclude(thread))
        except MMSError as error:
            if not _may_pass(error):
                raise
            await self._wait_after(error)
            return
        self._failures = 0
        self._schedule.reopen()
        self.tell(progress)

    async def _wait_after(self, error: MMSError) -> None:
        self._failures += 1
        wait = retry.wait_before(self._failures + 1, error)
        if wait is None:  # the server asks for long, and a run that has waited for its hours may
            wait = float(getattr(error, "retry_after", retry.LONGEST_WAIT))
        if self._failures == 1:
            text = "campaign %s: nothing is sent before it is known who has unsubscribed, which is tried again: %s"
            log.warning(text, self._preparation.options.shown_name or "in memory", in_words(error))
        await self._control.pause(wait, f"for the opt-outs, after {type(error).__name__}")

    async def come_back(self, thread: JournalThread) -> bool:
        """Have those claimed again whose calls were taken back; False where there are none. No call is under way.

        By the end of the hours, or late, by a sender that this one took over from.
        """
        journal = thread.journal
        is_reopened = await thread.run(journal.reopened)
        left = journal.counts[RecipientState.PENDING] + is_reopened * journal.counts[RecipientState.FAILED]
        if not left or not (is_reopened or self._schedule.has_closed):
            return False
        self._schedule.has_closed = False
        await thread.run(lambda: journal.begin_run(resend_unknown=False))
        await self._preparation.note_balance(thread, is_after=False)
        return True


def _may_pass(error: MMSError) -> bool:
    """It may be gone the next time: also a code that nobody knows. The others stay until somebody acts."""
    return isinstance(error, _PASSING) or type(error) is APIError
