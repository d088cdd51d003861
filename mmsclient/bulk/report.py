"""What became of a campaign: counts, and every recipient."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from attrs import evolve, field, frozen

from mmsclient._api.types import Kind
from mmsclient._store.evidence import UnknownSummary
from mmsclient._store.models import Exclusion, Recipient, RecipientState
from mmsclient._store.protocol import JournalReader
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore, store_at
from mmsclient._threads import STORES
from mmsclient._words import counted
from mmsclient.bulk.fallback_due import is_due
from mmsclient.bulk.models import Counts, UnknownRecipients
from mmsclient.bulk.plan import Plan
from mmsclient.models import DeliveryStatus

T = TypeVar("T")


@frozen(kw_only=True)
class Report:
    """A campaign in figures, as it was when it was asked for. Each recipient is in one state."""

    kind: Kind = "mms"
    """`mms` or `sms`."""
    counts: Mapping[RecipientState, int]
    """Recipients in each state."""
    exclusions: Mapping[Exclusion, int]
    """Of the excluded ones, how many for which reason."""
    without_picture: int = 0
    """Of the excluded ones, those whose own picture could not be made when their call was due, since a file had gone,
    say. The next run tries them again."""
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
    """The journal's file, or the host, database and name of it; None for one in memory."""
    unknown: UnknownRecipients = field(factory=UnknownRecipients)
    """What is known of those whose outcome no answer told."""
    plan: Plan | None = None
    """What a run would do; only `Campaign.dry_run` says it."""
    fallback: Report | None = None
    """Of the SMS to those whose message did not arrive; None where nobody was sent one."""
    _store: JournalStore | None = field(default=None, repr=False, eq=False, alias="store")
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
        store = self._store
        if store is None:
            for recipient in self._rows:
                if wanted in (None, recipient.state):
                    yield recipient
            return
        reader = await _in_thread(store.shown, store.open_reader)
        try:
            pages = recipient_pages(reader, wanted)
            while page := await _in_thread(store.shown, _next, pages):
                for recipient in page:
                    yield recipient
        finally:
            reader.close()

    async def is_fallback_due(self, *, later: bool = False) -> bool:
        """Somebody is to get an SMS in place of this message, and no run has begun with that one.

        Read from the journal as it is then. Raises `JournalError` where that is gone.

        Args:
            later: Also where somebody may be to get one by a delivery report that is to come.
        """
        store = self._store
        return store is not None and await _in_thread(store.shown, partial(is_due, store, later=later))

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        calls, credits_used = counted(self.calls, "call"), counted(self.credits_used, "credit")
        by_sms = "" if self.fallback is None else f"; by SMS {self.fallback}"
        return f"{counted(self.total, 'recipient')}: {counts or 'none'}; {calls}, {credits_used}{by_sms}"


async def read_report(journal: str | os.PathLike[str], name: str | None = None) -> Report:
    """The report of a journal, also while a campaign writes it. Raises `JournalError` for a file that is none.

    Args:
        journal: A file, or the URL of a PostgreSQL database.
        name: What the campaign is called in the database.
    """
    return await report_of(store_at(journal, name))


async def report_of(store: JournalStore) -> Report:
    """The report of the journal in `store`."""
    return await _in_thread(store.shown, _read, store)


async def with_fallback(report: Report, store: JournalStore) -> Report:
    """A report of the journal in `store`, with that of its fallback."""
    return await _in_thread(store.fallback.shown, beside_fallback, report, store)


def _read(store: JournalStore) -> Report:
    return beside_fallback(_read_alone(store), store)


def _read_alone(store: JournalStore) -> Report:
    reader = store.open_reader()
    try:
        return report_from(reader, store)
    finally:
        reader.close()


def beside_fallback(report: Report, store: JournalStore) -> Report:
    """`with_fallback`, in this thread."""
    if report.kind == "sms" or not store.fallback.exists():
        return report
    beside = _read_alone(store.fallback)
    return evolve(report, fallback=beside) if beside.kind == "sms" else report


def report_from(reader: JournalReader, store: JournalStore | None, state: RecipientState | None = None) -> Report:
    """The report of an open journal; one in memory (`store` None) gives its rows along, or those in `state`."""
    summary = reader.summary()
    rows = () if store is not None else tuple(row for page in recipient_pages(reader, state) for row in page)
    return Report(
        kind=summary.kind,
        counts=Counts(summary.counts),
        exclusions=summary.exclusions,
        without_picture=summary.without_picture,
        list_read=summary.list_read,
        calls=summary.calls,
        credits_used=summary.credits_used,
        started_at=_time(summary.started),
        ended_at=_time(summary.ended),
        deliveries=summary.deliveries,
        delivery_seconds=summary.delivery_seconds,
        unknown=_unknown(summary.unknown),
        journal=None if store is None else store.shown,
        store=store,
        rows=rows,
    )


def _unknown(found: UnknownSummary) -> UnknownRecipients:
    return UnknownRecipients(
        count=found.count,
        since=_time(found.since),
        heard_of=found.heard_of,
        proven=found.proven,
        accepted=found.accepted,
        reported=found.reported,
        unaccounted_credits=found.unaccounted_credits,
        objection=found.objection,
    )


def recipient_pages(reader: JournalReader, state: RecipientState | None) -> Iterator[list[Recipient]]:
    """Pages of recipients."""
    last = 0
    while page := reader.recipients(state, last):
        last = page[-1][0]
        yield [recipient for _, recipient in page]
    if state in (None, RecipientState.EXCLUDED):
        after = (-1, "")
        while rows := reader.rejected_rows(after):
            after = (rows[-1].line, rows[-1].number)
            yield rows


def _next(pages: Iterator[list[Recipient]]) -> list[Recipient]:
    return next(pages, [])


async def _in_thread(path: str, function: Callable[..., T], *arguments: Any) -> T:
    def guarded() -> T:
        with translated_errors(path):
            return function(*arguments)

    return await STORES.run(guarded)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
