"""The report of a campaign as a page."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import PurePath
from zoneinfo import ZoneInfo

from attrs import evolve

from mmsclient._api.checks import checked_zone
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore, store_at
from mmsclient._threads import STORES
from mmsclient.bulk.html.page import Page
from mmsclient.bulk.report import beside_fallback, report_from

__all__ = ["html_report"]


async def html_report(
    journal: str | os.PathLike[str],
    name: str | None = None,
    *,
    title: str | None = None,
    timezone: str | ZoneInfo = "Australia/Melbourne",
) -> str:
    """The report of a campaign as one HTML page, also while it is being sent: counts, deliveries over time, reasons.

    The page needs nothing else, runs no script and holds no phone numbers. The store counts: memory does not grow with
    the list.

    Args:
        journal: A file, or the URL of a PostgreSQL database.
        name: What the campaign is called in the database.
        title: Of the page. Left out: the name, or the file's without its folder.
        timezone: In which times are shown: an IANA name.

    Raises:
        JournalError: There is no such campaign, or it cannot be read.
        ConfigurationError: There is no such time zone.
    """
    store, zone = store_at(journal, name), checked_zone(timezone)
    heading = title or f"Campaign {name or PurePath(store.shown).name}"
    return await STORES.run(_made, store, heading, zone)


def _made(store: JournalStore, title: str, zone: ZoneInfo) -> str:
    reader = store.open_reader()
    try:
        with translated_errors(store.shown):
            page = Page(
                title=title,
                report=report_from(reader, store),
                figures=reader.figures(),
                message=reader.message(),
                zone=zone,
                made_at=datetime.now(UTC),
            )
    finally:
        reader.close()
    return evolve(page, report=beside_fallback(page.report, store)).html()
