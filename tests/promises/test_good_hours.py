"""Campaigns that wait for their hours, in a process that is killed meanwhile: another one takes over."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from attrs import evolve

from mmsclient.bulk import JournalBusyError, JournalError, RecipientState, read_report
from mmsclient.sandbox import Sandbox
from tests.support.killing import Plan, killed_when, numbers, sent
from tests.support.waiting import until

RENEWALS = 5
"""Of a lease: one that lasts half a second is over after two."""


def test_who_waits_keeps_its_journal_and_leaves_it_when_it_dies(api: Sandbox, place: tuple[str, str]) -> None:
    journal, name = place
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    plan = Plan(api.url, api.app_key, journal, name, 100, 25, 100.0, start_at=tomorrow.isoformat())
    at_once = evolve(plan, start_at="")

    def is_waiting() -> bool:
        with suppress(JournalError):
            report = asyncio.run(read_report(journal, name or None))
            return report.list_read and report.counts[RecipientState.PENDING] == 100
        return False

    def wait() -> None:
        until(is_waiting)
        if name:
            wait_for_renewals(journal)
        else:
            with pytest.raises(JournalBusyError):
                asyncio.run(sent(at_once))

    assert killed_when(plan, wait)
    assert not api.sends
    report = asyncio.run(sent(at_once))
    assert report.counts[RecipientState.ACCEPTED] == 100
    assert all(api.carried_out(number) == 1 for number in numbers(100))


def wait_for_renewals(url: str) -> None:
    """Until the sender that waits has renewed its lease several times."""
    seen: set[object] = set()
    with psycopg.connect(url, autocommit=True) as connection:

        def is_renewed() -> bool:
            seen.update(connection.execute("SELECT until FROM mmsclient.lease WHERE until IS NOT NULL").fetchall())
            return len(seen) > RENEWALS

        until(is_renewed)
