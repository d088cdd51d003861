"""Journals of both engines for the tests of evidence, and clocks that can be moved."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from unittest.mock import patch

import psycopg
from attrs import define

from mmsclient._store import sqlite_evidence, sqlite_journal, sqlite_recorder
from mmsclient._store.models import Claim, Message, Recipient, RecipientResult, RecipientState
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.stores import FileStore, JournalStore, store_at

MESSAGE = Message("Hi", "Sale", b"GIF89a")


@define
class Clock:
    """Of a store in SQLite: it stands still unless it is moved."""

    now: float = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def of_store(self, seconds: float) -> float:
        """A time of this clock as the store is told of it."""
        return seconds


class ServerClock(Clock):
    """Of a store in PostgreSQL: it goes on, and is moved by moving what is recorded the other way."""

    def __init__(self, url: str, schema: str) -> None:
        self._url, self._schema, self._ahead = url, schema, 0.0

    @property
    def now(self) -> float:
        return time.time() + self._ahead

    @now.setter
    def now(self, to: float) -> None:
        seconds = to - self.now
        self._ahead += seconds
        back = f"make_interval(secs => {seconds!r})"
        with psycopg.connect(self._url) as connection:
            connection.execute(f'SET search_path = "{self._schema}"'.encode())
            for change in (
                f"batch SET started = started - {back}, ended = ended - {back}",
                f"delivery SET reported = reported - {back}",
                f"evidence SET heard = heard - {back}",
            ):
                connection.execute(f"UPDATE {change}".encode())

    def of_store(self, seconds: float) -> float:
        return seconds - self._ahead


@contextmanager
def sqlite_in_memory() -> Iterator[tuple[JournalStore, Clock]]:
    clock = Clock()
    with ExitStack() as patches:
        for module in (sqlite_evidence, sqlite_journal, sqlite_recorder):
            patches.enter_context(patch.object(module, "time", clock))
        yield FileStore(None), clock


def in_postgres(url: str, schema: str = "mmsclient") -> tuple[JournalStore, Clock]:
    return store_at(f"{url}&schema={schema}", "spring"), ServerClock(url, schema)


def row(journal: SenderJournal, phone: int) -> Recipient:
    return next(found for _, found in journal.reader.recipients(None, 0) if found.number == f"+{phone}")


def end(journal: SenderJournal, claim: Claim, state: RecipientState, ids: str | None = None) -> None:
    results = [RecipientResult(state, f"{ids}-{phone}" if ids else None, None) for phone in claim.phones]
    journal.finish(claim, results, accepted=len(results), credits_used=Decimal(1), error=None)


def lose(journal: SenderJournal, count: int = 1) -> None:
    """The next call leaves, and nobody answers."""
    claim = journal.claim(count)
    assert claim is not None
    end(journal, claim, RecipientState.UNKNOWN)
