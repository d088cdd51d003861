"""Acts on what is known of unknown recipients, without sending anything."""

from __future__ import annotations

import os

from attrs import frozen

from mmsclient._store.stores import store_at
from mmsclient._threads import STORES
from mmsclient.bulk.report import Report, report_of

__all__ = ["Reconciliation", "reconcile"]


@frozen(kw_only=True)
class Reconciliation:
    """What `reconcile` did."""

    settled: int
    """Recipients that it made `accepted`, by evidence that the journal held."""
    report: Report
    """How the campaign stands after it; `Report.unknown` says what remains."""


async def reconcile(journal: str | os.PathLike[str], name: str | None = None) -> Reconciliation:
    """Notice that a campaign's process died, and settle its unknown recipients by evidence. Calls no API.

    A campaign that is being sent or resumed does the same by itself, and so does each report that is recorded.

    Args:
        journal: A file, or the URL of a PostgreSQL database.
        name: What the campaign is called in the database.

    Raises:
        JournalBusyError: The campaign is being sent.
        JournalError: The journal is not there, no journal, or cannot be used.
    """
    store = store_at(journal, name)
    settled = await STORES.run(store.settle)
    return Reconciliation(settled=settled, report=await report_of(store))
