"""Who gets no SMS though the last MMS failed: whom an earlier one has reached, or may have, and who is excluded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TypeVar

from attrs import evolve, frozen

from mmsclient._store.evidence import DID_NOT_ARRIVE
from mmsclient._store.models import Exclusion, Recipient, RecipientState
from mmsclient._store.protocol import JournalReader
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.steering import Orders
from mmsclient._store.stores import JournalStore
from mmsclient._threads import STORES
from mmsclient.bulk.reader_thread import ReaderThread

__all__ = ["Arrivals", "Found", "Look", "look", "read", "without_arrival"]

T = TypeVar("T")

LAST = "its MMS was reported as {status}"
EARLIER = "an earlier MMS to it was reported as {status}"
EXCLUDED = "it is excluded from the campaign"


@frozen
class Look:
    """How those of a campaign stand whose message did not arrive, or may not."""

    failed: int
    """Those that are to get an SMS, or have got one."""
    left_out: Mapping[int, str]
    """The others: those whom an earlier message may have reached (`JournalReader.reached_before`)."""
    unreported: int
    """Those whose message has no final report yet."""
    ended: float
    """When the last answer was recorded, in Unix seconds."""
    orders: Orders
    """What operators ask for."""

    @property
    def left_out_for_now(self) -> int:
        """Of those who are left out, how many get an SMS if it is reported that the earlier message did not arrive."""
        return sum(not status for status in self.left_out.values())

    @property
    def awaited(self) -> int:
        """Those of whom a report may come that sends an SMS."""
        return self.unreported + self.left_out_for_now


def look(reader: JournalReader) -> Look:
    """How they stand at this moment. Walks through all recipients."""
    summary, orders = reader.summary(), reader.orders()
    failed = sum(summary.deliveries.get(status, 0) for status in DID_NOT_ARRIVE)
    final = sum(count for status, count in summary.deliveries.items() if status.is_final)
    others = left_out(reader) if failed else {}
    unreported = summary.counts[RecipientState.ACCEPTED] - final
    return Look(failed - len(others), others, unreported, summary.ended or 0.0, orders)


@frozen
class Found:
    """Of phones that are about to get an SMS, those that do not."""

    excluded: Mapping[Exclusion, Mapping[int, str]]
    """Those that have the MMS, or of which nobody will tell, or that are to get nothing more; with the reason."""
    awaited: frozenset[int]
    """Those that may get it yet."""


class Arrivals:
    """Asks the journal of the MMS when an SMS is about to leave."""

    def __init__(self, thread: ReaderThread) -> None:
        self._thread = thread
        self.held: set[int] = set()
        """Those whose SMS was held back, since they may get the MMS yet."""
        self.stops: int = 0
        """How often a stop of the campaign was asked for, when it was looked at last."""

    async def orders(self) -> Orders:
        """What operators have asked of the campaign; of stops, those since it was looked at last."""
        orders = await self._thread.ask(lambda reader: reader.orders())
        return evolve(orders, stops=orders.stops - self.stops)

    async def among(self, phones: Sequence[int]) -> Found:
        """Those of `phones` that get no SMS. Raises `JournalError`."""
        found = await self._thread.ask(lambda reader: _among(reader, phones))
        self.held |= found.awaited
        return found


def _among(reader: JournalReader, phones: Sequence[int]) -> Found:
    left = reader.excluded_among(phones)
    page = reader.recipients_of([phone for phone in phones if phone not in left])
    failed = without_arrival(page)
    told = {int(each.number[1:]): each.delivery for _, each in page if each.delivery and each.delivery.is_final}
    arrived = {phone: LAST.format(status=status) for phone, status in told.items() if phone not in failed}
    earlier = reader.reached_before(list(failed)) if failed else {}
    arrived |= {phone: EARLIER.format(status=status) for phone, status in earlier.items() if status}
    excluded = {why: {phone: EXCLUDED for phone, of_it in left.items() if of_it is why} for why in set(left.values())}
    excluded[Exclusion.ARRIVED] = arrived
    return Found(excluded, frozenset(phone for phone, status in earlier.items() if not status))


def without_arrival(page: Sequence[tuple[int, Recipient]]) -> dict[int, Recipient]:
    """Those of a page, by phone, whose last message did not arrive by its report."""
    return {int(each.number[1:]): each for _, each in page if each.delivery in DID_NOT_ARRIVE}


def left_out(reader: JournalReader) -> dict[int, str]:
    """Those whose last message did not arrive and whom an earlier one may have reached, as `reached_before`.

    Looks at those alone who were sent to again.
    """
    found: dict[int, str] = {}
    after = 0
    while page := reader.sent_again(after):
        if failed := without_arrival(page):
            found |= reader.reached_before(list(failed))
        after = page[-1][0]
    return found


async def read(store: JournalStore, ask: Callable[[JournalReader], T]) -> T:
    """What `ask` finds in a journal."""

    def opened() -> T:
        with translated_errors(store.shown), closing(store.open_reader()) as reader:
            return ask(reader)

    return await STORES.run(opened)
