"""What a suppression list speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from attrs import frozen

from mmsclient._store.models import number_of
from mmsclient._store.suppression import Entry, Unread
from mmsclient._words import counted

__all__ = ["Suppression", "SuppressionReport", "SuppressionUpdate", "UnreadableNumber"]

EARLIEST, LATEST = 0.0, datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""Unix seconds between which the time of an entry lies, so that every zone has it."""


@frozen(kw_only=True)
class Suppression:
    """A phone that gets no message."""

    number: str
    """In E.164."""
    reason: str
    """Why it was added, such as `replied STOP`."""
    added_at: datetime
    """Since when it stands in the list, in UTC. One that opted out at the API: when it did so, if the API says that."""

    @classmethod
    def of(cls, entry: Entry) -> Suppression:
        """What a list holds."""
        return cls(number=number_of(entry.phone), reason=entry.reason, added_at=_time(entry.added))

    def __str__(self) -> str:
        return f"{self.reason}, on the suppression list since {self.added_at:%Y-%m-%d}"


@frozen(kw_only=True)
class UnreadableNumber:
    """A number that was to be suppressed, in a spelling that cannot be compared with a recipient's."""

    given: str
    """As it came, shortened to 200 characters."""
    reason: str
    """Why it was to be suppressed."""
    added_at: datetime
    """When it came first, in UTC."""

    @classmethod
    def of(cls, unread: Unread) -> UnreadableNumber:
        """What a list holds."""
        return cls(given=unread.given, reason=unread.reason, added_at=_time(unread.added))


@frozen(kw_only=True)
class SuppressionReport:
    """A suppression list in figures."""

    count: int
    """Phones in it."""
    reasons: Mapping[str, int]
    """How many are there for each reason."""
    unreadable: tuple[UnreadableNumber, ...]
    """Numbers that nobody can be kept from by: **these people may get a message**. Add each in a form that can be read,
    and `remove` the spelling."""

    def __str__(self) -> str:
        unreadable = f"; {counted(len(self.unreadable), 'number')} cannot be read" if self.unreadable else ""
        return f"{counted(self.count, 'phone')} suppressed{unreadable}"


@frozen(kw_only=True)
class SuppressionUpdate:
    """What was added to a suppression list."""

    added: int = 0
    """Phones that were not in it."""
    known: int = 0
    """Phones that were, and keep their reason and date; also one that came twice."""
    unreadable: tuple[str, ...] = ()
    """Numbers that cannot be read; they stand in `SuppressionList.report()` too, and a warning tells of them."""
    ended_early: str = ""
    """Why the API's list ended before its end; "" where it did not. Some may be missing then."""

    def __str__(self) -> str:
        unreadable = f", {len(self.unreadable)} cannot be read" if self.unreadable else ""
        ended_early = f"; the list ended early: {self.ended_early}" if self.ended_early else ""
        return f"{self.added} added, {self.known} known{unreadable}{ended_early}"


def _time(seconds: float) -> datetime:
    """Of what a list holds, however far off."""
    return datetime.fromtimestamp(min(max(seconds, EARLIEST), LATEST - 1), UTC)
