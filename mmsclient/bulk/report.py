"""What became of a campaign: counts, and every recipient."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import anyio.to_thread
from attrs import field, frozen

from mmsclient.bulk.journal import Reader, errors_of
from mmsclient.bulk.models import Exclusion, Recipient, RecipientState
from mmsclient.models import DeliveryStatus

T = TypeVar("T")


@frozen(kw_only=True)
class Report:
    """A campaign in figures, as it was when it was asked for. Each recipient is in one state."""

    counts: Mapping[RecipientState, int]
    """Recipients in each state."""
    exclusions: Mapping[Exclusion, int]
    """Of the excluded ones, how many for which reason."""
    list_read: bool
    """The list was read to its end. Where it was not, resuming needs the list again."""
    calls: int
    """Calls that were made, or were about to be made when the process died."""
    credits_used: Decimal
    """As far as the API said."""
    started_at: datetime | None
    """When the first call was made, in UTC."""
    ended_at: datetime | None
    """When the last answer was recorded, in UTC."""
    deliveries: Mapping[DeliveryStatus, int]
    """Of the accepted recipients, how many were last reported as what; see `Campaign.record`."""
    delivery_seconds: float | None
    """The median from a call to the report that a message of it arrived."""
    journal: str | None
    """The journal's file, None for one in memory."""
    _rows: tuple[Recipient, ...] = field(factory=tuple, repr=False, alias="rows")

    @property
    def total(self) -> int:
        """All recipients of the list, excluded ones too."""
        return sum(self.counts.values())

    @property
    def open(self) -> int:
        """Accepted recipients of whose message no final status was reported yet."""
        final = sum(count for status, count in self.deliveries.items() if status.is_final)
        return self.counts[RecipientState.ACCEPTED] - final

    async def recipients(self, state: RecipientState | str | None = None) -> AsyncIterator[Recipient]:
        """Every recipient, or those in `state`, in the order of the list; excluded rows of the list come last.

        Read from the journal, a thousand at a time, as it is then. Raises `JournalError` where that is gone.
        """
        wanted = None if state is None else RecipientState(state)
        if self.journal is None:
            for recipient in self._rows:
                if wanted in (None, recipient.state):
                    yield recipient
            return
        reader = await _in_thread(self.journal, Reader.open, self.journal)
        try:
            pages = all_rows(reader, wanted)
            while page := await _in_thread(self.journal, _next, pages):
                for recipient in page:
                    yield recipient
        finally:
            reader.close()

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return f"{self.total} recipients: {counts or 'none'}; {self.calls} calls, {self.credits_used} credits"


async def read_report(journal: str | os.PathLike[str]) -> Report:
    """The report of a journal, also while a campaign writes it. Raises `JournalError` for a file that is none."""
    path = os.fspath(journal)
    return await _in_thread(path, _read, path)


def _read(path: str) -> Report:
    reader = Reader.open(path)
    try:
        return of_reader(reader, path)
    finally:
        reader.close()


def of_reader(reader: Reader, journal: str | None, state: RecipientState | None = None) -> Report:
    """The report of an open journal; one in memory (`journal` None) gives its rows along, or those in `state`."""
    sums = reader.sums()
    rows = () if journal is not None else tuple(row for page in all_rows(reader, state) for row in page)
    return Report(
        counts=sums.counts,
        exclusions=sums.exclusions,
        list_read=sums.list_read,
        calls=sums.calls,
        credits_used=sums.credits_used,
        started_at=_time(sums.started),
        ended_at=_time(sums.ended),
        deliveries=sums.deliveries,
        delivery_seconds=sums.delivery_seconds,
        journal=journal,
        rows=rows,
    )


def all_rows(reader: Reader, state: RecipientState | None) -> Iterator[list[Recipient]]:
    """Pages of recipients."""
    last = 0
    while page := reader.recipients(state, last):
        last = page[-1][0]
        yield [recipient for _, recipient in page]
    if state in (None, RecipientState.EXCLUDED):
        after = (-1, "")
        while rows := reader.set_aside(after):
            after = (rows[-1].line, rows[-1].number)
            yield rows


def _next(pages: Iterator[list[Recipient]]) -> list[Recipient]:
    return next(pages, [])


async def _in_thread(path: str, function: Callable[..., T], *arguments: Any) -> T:
    def guarded() -> T:
        with errors_of(path):
            return function(*arguments)

    return await anyio.to_thread.run_sync(guarded)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
