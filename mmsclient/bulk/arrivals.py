"""Whom an MMS has reached, or may have, though the last one failed: they get no SMS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

import anyio.to_thread
from attrs import frozen

from mmsclient._store.evidence import DID_NOT_ARRIVE
from mmsclient._store.models import Recipient
from mmsclient._store.protocol import JournalReader
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore

__all__ = ["Arrivals", "Found", "left_out", "read", "without_arrival"]

T = TypeVar("T")

LAST = "its MMS was reported as {status}"
EARLIER = "an earlier MMS to it was reported as {status}"


@frozen
class Found:
    """Of phones that are about to get an SMS, those that do not."""

    arrived: dict[int, str]
    """Those that have the MMS, or of which nobody will tell; with the reason."""
    awaited: frozenset[int]
    """Those that may get it yet."""


class Arrivals:
    """Asks the journal of the MMS when an SMS is about to leave."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self.held: set[int] = set()
        """Those whose SMS was held back, since they may get the MMS yet."""

    async def among(self, phones: Sequence[int]) -> Found:
        """Those of `phones` that get no SMS. Raises `JournalError`."""
        found = await read(self._store, lambda reader: _among(reader, phones))
        self.held |= found.awaited
        return found


def _among(reader: JournalReader, phones: Sequence[int]) -> Found:
    page = reader.recipients_of(phones)
    failed = without_arrival(page)
    told = {int(each.number[1:]): each.delivery for _, each in page if each.delivery and each.delivery.is_final}
    arrived = {phone: LAST.format(status=status) for phone, status in told.items() if phone not in failed}
    earlier = reader.reached_before(list(failed)) if failed else {}
    arrived |= {phone: EARLIER.format(status=status) for phone, status in earlier.items() if status}
    return Found(arrived, frozenset(phone for phone, status in earlier.items() if not status))


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

    return await anyio.to_thread.run_sync(opened)
