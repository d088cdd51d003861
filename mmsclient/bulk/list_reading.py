"""Takes the list of a run into its journal, beside the calls that leave meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mmsclient.bulk.control import Control
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.preparation import Preparation
from mmsclient.bulk.recipients import Recipients
from mmsclient.bulk.waiting import is_ending

__all__ = ["ListReading"]


class ListReading:
    """Reads the list of one run. Whatever goes wrong ends the run by its `Control`.

    Args:
        preparation: Of the campaign.
        control: Of the run.
        recipients: The list, None for those in the journal alone.
    """

    def __init__(self, preparation: Preparation, control: Control, recipients: Recipients | None) -> None:
        self._preparation = preparation
        self._control = control
        self._recipients = recipients
        self.has_begun: bool = False
        """Some of it is in the journal, or all of it."""
        self.is_over: bool = False
        """It was read to its end."""

    async def read(self, thread: JournalThread, then: Callable[[], Awaitable[None]]) -> None:
        """Take it in, and do what comes `then`."""
        try:
            await self._preparation.read_list(thread, self._recipients, self._took_in)
            await self._preparation.tell_plan(thread)
            self.has_begun = self.is_over = True
            await then()
            self._control.changed.set()
        except asyncio.CancelledError as error:
            if is_ending():
                raise
            self._control.fail(error)  # of something that the source awaited
        except Exception as error:
            self._control.fail(error)

    def _took_in(self) -> None:
        self.has_begun = True
        self._control.changed.set()
