"""How fast a campaign is, and how far."""

from __future__ import annotations

from collections import deque

from mmsclient._store.models import RecipientState as State
from mmsclient._store.protocol import SenderJournal
from mmsclient.bulk.models import Counts, Progress
from mmsclient.errors import RateLimitError

__all__ = ["Meter"]

LATELY = 150
"""Calls over whose ends the rate is measured."""


class Meter:
    """Counts the calls of one run."""

    def __init__(self) -> None:
        self._calls = 0
        self._throttled = 0
        self._ends: deque[float] = deque(maxlen=LATELY)
        self._sizes: deque[int] = deque(maxlen=LATELY)

    @property
    def calls(self) -> int:
        """Of this run."""
        return self._calls

    def count(self, now: float, recipients: int, failure: BaseException | None = None) -> None:
        """A call has ended."""
        self._calls += 1
        self._throttled += isinstance(failure, RateLimitError)
        self._ends.append(now)
        self._sizes.append(recipients)

    def progress(self, journal: SenderJournal, *, is_list_read: bool, rate: float | None) -> Progress:
        """How far the campaign is. `rate`: calls a second that the limiter allows, None where it names none."""
        took = max(1.0, self._ends[-1] - self._ends[0]) if self._ends else 1.0
        calls = max(0, len(self._ends) - 1) / took
        calls = calls if rate is None else min(calls, rate)  # a burst at the start is no rate
        recipients = calls * sum(self._sizes) / max(1, len(self._sizes))
        left = journal.ready + journal.counts[State.SENDING]
        return Progress(
            counts=Counts({state: journal.counts[state] for state in State}),
            list_read=is_list_read,
            calls=self._calls,
            calls_per_second=calls,
            credits_used=journal.credits_used,
            seconds_left=left / recipients if recipients and is_list_read else None,
            rate=rate,
            throttled=self._throttled,
        )
