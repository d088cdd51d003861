"""Who is to get an SMS, since the MMS did not arrive, and who of them has none."""

from __future__ import annotations

from contextlib import ExitStack, closing

from mmsclient._store.models import Recipient, RecipientState
from mmsclient._store.protocol import JournalReader
from mmsclient._store.stores import JournalStore
from mmsclient.bulk.arrivals import look, without_arrival

__all__ = ["due_page", "is_due"]


def due_page(reader: JournalReader, after: int) -> tuple[int, dict[int, Recipient]]:
    """The id of the last accepted recipient of a page, and those of them who are to get an SMS, by phone."""
    page = reader.recipients(RecipientState.ACCEPTED, after)
    found = without_arrival(page)
    for phone in reader.reached_before(list(found)) if found else ():
        del found[phone]
    return (page[-1][0] if page else after), found


def is_due(store: JournalStore, *, later: bool) -> bool:
    """Somebody is to get an SMS who does not stand in the journal of the SMS. Walks through all recipients.

    `later`: or may be by a report that is to come.
    """
    with ExitStack() as opened:
        reader = opened.enter_context(closing(store.open_reader()))
        standing = look(reader)
        if later and standing.awaited:
            return True
        has_sms = standing.failed > 0 and store.fallback.exists()
        beside = opened.enter_context(closing(store.fallback.open_reader())) if has_sms else None
        last, left = 0, standing.failed > 0
        while left:
            after = last
            last, found = due_page(reader, after)
            if found and (beside is None or len(beside.recipients_of(list(found))) < len(found)):
                return True
            left = last > after
    return False
