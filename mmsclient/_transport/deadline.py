"""A time limit that lets what has arrived be read first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

GRACE = 0.02
"""Seconds between the limit and its end, in which the event loop reads what is there already. A timer that is late by
more shows that the loop stood still: it was blocked, or the process was stopped or suspended."""

LONGEST_GRACE = 1.0
"""Seconds, at most, to read what came during a standstill."""

MOST_GRACES = 10
"""How often a loop that stands still again and again puts the end off."""


class Deadline:
    """Calls `expire` a moment after `seconds`, unless cancelled. After a standstill of the loop the moment is longer.

    A process that was stopped until after the limit finds answers that came in time, and its timers run in the same
    turn of the loop as the first look at them; an answer in several pieces takes several turns.
    """

    def __init__(self, seconds: float, expire: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expire = expire
        self._graces = 0
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._due, self._reached)

    def cancel(self) -> None:
        """The limit no longer counts."""
        self._timer.cancel()

    def _reached(self) -> None:
        now = self._loop.time()
        late = now - self._due
        if self._graces and (late <= GRACE or self._graces == MOST_GRACES):
            self._expire()
            return
        self._graces += 1
        self._due = now + min(max(late, GRACE), LONGEST_GRACE)
        self._timer = self._loop.call_at(self._due, self._reached)
