"""Reports and replies of many callbacks share a transaction, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsclient import DeliveryStatus
from mmsclient._store import sqlite_database, sqlite_turns
from mmsclient._store.heard import Heard, Replied, Reported
from mmsclient._store.models import Message, RecipientResult
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.stores import JournalStore, store_at
from mmsclient.bulk import Campaign, JournalError, JournalUnavailableError, RecipientState, ReportRecorder, Row
from mmsclient.bulk.recipients import check_all
from mmsclient.errors import InvalidRequestError
from mmsclient.models import DeliveryReport
from mmsclient.sandbox import Sandbox
from tests.conftest import PNG
from tests.support.campaigns import numbers
from tests.support.evidence import in_postgres, sqlite_in_memory
from tests.support.postgres_server import Server

MESSAGE = Message("Hi", "Sale", b"GIF89a")
FIRST = 61400000000


@pytest.fixture
def store(place: tuple[str, str]) -> JournalStore:
    """A campaign of 100 accepted recipients."""
    journal, name = place
    store = store_at(journal, name or None)
    with closing(store.open(MESSAGE)) as opened:
        opened.add(check_all([Row(f"+{FIRST + n}", n + 1) for n in range(100)]))
        claim = opened.claim(100)
        assert claim is not None
        results = [RecipientResult(RecipientState.ACCEPTED, f"id-{phone - FIRST}") for phone in claim.phones]
        opened.finish(claim, results, accepted=100, credits_used=Decimal(100), error=None)
    return store


def recorder_of(place: tuple[str, str]) -> ReportRecorder:
    journal, name = place
    return ReportRecorder(journal, name=name or None)


def report(number: int, message_id: str | None = None) -> DeliveryReport:
    return DeliveryReport(
        message_id=message_id or f"id-{number}",
        status=DeliveryStatus.DELIVERED,
        recipient=f"+{FIRST + number}",
        custom_string=None,
        source=None,
    )


def recorded_in(place: tuple[str, str]) -> int:
    """Reports that are recorded, of whichever message."""
    journal, name = place
    if name:
        with psycopg.connect(journal) as connection:
            row = connection.execute("SELECT count(*) FROM mmsclient.delivery").fetchone()
            assert row is not None
            return int(row[0])
    with closing(sqlite_database.Database.read_only(journal)) as database:
        ((count,),) = database.rows("SELECT count(*) FROM delivery")
        return int(count)


def delivered(store: JournalStore) -> int:
    with closing(store.open_reader()) as reader:
        return reader.summary().deliveries.get(DeliveryStatus.DELIVERED, 0)


async def test_reports_that_come_together_share_few_transactions_of_one_connection(
    store: JournalStore, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    opened: list[JournalStore] = []

    def opening(self: JournalStore) -> object:
        opened.append(self)
        recorder = open_really(self)
        record = recorder.record

        def counted(heard: Sequence[Heard]) -> None:
            groups.append(len(heard))
            record(heard)

        recorder.record = counted  # type: ignore[method-assign]
        return recorder

    open_really = type(store).open_recorder
    monkeypatch.setattr(type(store), "open_recorder", opening)
    async with recorder_of(place) as recorder:
        await recorder.record(report(0))
        await asyncio.gather(*(recorder.record(report(n)) for n in range(1, 100)))
    assert len(opened) == 1
    assert groups == [1, 99]
    assert delivered(store) == 100


def refuse_in_the_database(place: tuple[str, str], store: JournalStore, message_id: str) -> None:
    """The database takes no delivery of this message."""
    journal, name = place
    if name:
        with psycopg.connect(journal, autocommit=True) as connection:
            check = f"ALTER TABLE mmsclient.delivery ADD CHECK (message_id <> '{message_id}')"
            connection.execute(check.encode())
        return
    with closing(sqlite_database.Database.writable(journal)) as database:
        database.execute(
            f"CREATE TRIGGER refusal BEFORE INSERT ON delivery WHEN new.message_id = '{message_id}'"
            " BEGIN SELECT raise(ABORT, 'on purpose'); END"
        )


async def test_one_bad_report_fails_alone(store: JournalStore, place: tuple[str, str]) -> None:
    refuse_in_the_database(place, store, "id-7")
    async with recorder_of(place) as recorder:
        outcomes = await asyncio.gather(*(recorder.record(report(n)) for n in range(20)), return_exceptions=True)
    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [7]
    assert isinstance(outcomes[7], JournalError)
    assert delivered(store) == 19


async def test_a_report_too_long_for_the_store_fails_alone(store: JournalStore, place: tuple[str, str]) -> None:
    """An index of PostgreSQL takes no more than 2700 bytes; SQLite takes it."""
    long = os.urandom(5000).hex()
    async with recorder_of(place) as recorder:
        outcomes = await asyncio.gather(
            recorder.record(report(1)),
            recorder.record(report(2, message_id=long)),
            recorder.record(report(3)),
            return_exceptions=True,
        )
    assert [type(outcome) for outcome in outcomes] == [type(None), JournalError if place[1] else type(None), type(None)]
    assert delivered(store) == 2


async def test_where_the_store_is_away_all_that_share_a_commit_are_told_so_and_the_next_is_recorded(
    store: JournalStore, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0
    is_away = True

    def away(self: Any, heard: Sequence[Heard]) -> None:
        nonlocal attempts
        attempts += 1
        if is_away:
            raise JournalUnavailableError("here", "it is away")
        record(self, heard)

    recorder_class = type(opened := store.open_recorder())
    opened.close()
    record = recorder_class.record
    monkeypatch.setattr(recorder_class, "record", away)
    async with recorder_of(place) as recorder:
        outcomes = await asyncio.gather(*(recorder.record(report(n)) for n in range(20)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {JournalUnavailableError}
        assert len({id(outcome) for outcome in outcomes}) == 20  # each its own
        assert attempts == 1
        is_away = False
        await recorder.record(report(1))
    assert delivered(store) == 1


async def test_a_recorder_opens_another_connection_when_it_is_used_again(
    store: JournalStore, place: tuple[str, str]
) -> None:
    recorder = recorder_of(place)
    for number in range(3):
        await recorder.record(report(number))
        await recorder.aclose()
    assert delivered(store) == 3


async def test_a_journal_that_is_not_there_yet_is_found_when_it_is(path: Path) -> None:
    async with ReportRecorder(path) as recorder:
        with pytest.raises(JournalError, match="there is no such file"):
            await recorder.record(report(0))
        with closing(store_at(path).open(MESSAGE)) as journal:
            journal.add(check_all([Row(f"+{FIRST}", 1)]))
        await recorder.record(report(0))
    with pytest.raises(InvalidRequestError, match="name"):
        ReportRecorder(path, name="spring")


async def test_a_file_that_was_replaced_is_not_written_to_any_more(path: Path, tmp_path: Path) -> None:
    """What went into the old one, which has no name any more, would be lost without a word."""
    store = store_at(path)
    store.open(MESSAGE).close()
    async with ReportRecorder(path) as recorder:
        await recorder.record(report(0))
        for ending in ("", "-wal", "-shm"):
            (tmp_path / f"spring.db{ending}").unlink(missing_ok=True)
        with pytest.raises(JournalError, match="there is no such file"):
            await recorder.record(report(1))
        with closing(store.open(MESSAGE)) as journal:
            journal.add(check_all([Row(f"+{FIRST + n}", n + 1) for n in range(3)]))
            claim = journal.claim(3)
            assert claim is not None
            results = [RecipientResult(RecipientState.ACCEPTED, f"id-{n}") for n in range(3)]
            journal.finish(claim, results, accepted=3, credits_used=None, error=None)
        await recorder.record(report(2))
    assert delivered(store) == 1


DROPPED = """
import asyncio, gc, sys
from mmsclient.bulk import ReportRecorder
from mmsclient.models import DeliveryReport, DeliveryStatus
from mmsclient.webhooks import CallbackReceiver
from tests.support.callbacks import TOKEN, status

report = DeliveryReport(message_id="A", status=DeliveryStatus.DELIVERED, recipient="", custom_string=None, source=None)
body = {"message_id": "A", "status": "Delivered", "recipient": "61400000000"}

async def use(journal, name, seen):
    await ReportRecorder(journal, name=name or None).record(report)
    receiver = CallbackReceiver(token=TOKEN, seen=seen)
    receiver.record_into(journal, name=name or None)
    assert await status(receiver, body) == 200

async def main():
    await use(*sys.argv[1:])
    gc.collect()
    await asyncio.sleep(0.2)

asyncio.run(main())
gc.collect()
print("ended")
"""


def test_what_is_dropped_without_closing_warns_of_nothing(
    store: JournalStore, place: tuple[str, str], path: Path
) -> None:
    """From Python 3.13 on SQLite warns of connections that nobody closed."""
    journal, name = place
    seen = journal if name else f"{path}-seen"
    command = [sys.executable, "-W", "error", "-c", DROPPED, journal, name, seen]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)  # noqa: S603
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)


def test_a_file_is_left_to_the_campaign_between_two_transactions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite lets nobody queue: whoever writes without a pause keeps all others out."""
    slept: list[float] = []
    monkeypatch.setattr(sqlite_turns, "PAUSE", 3600.0)
    monkeypatch.setattr(sqlite_turns, "sleep", slept.append)
    store = store_at(path)
    with closing(store.open(MESSAGE)) as journal, closing(store.open_recorder()) as recorder:
        heard = [Reported("A", 0, DeliveryStatus.DELIVERED)]
        journal.recorder.record(heard)
        journal.recorder.record(heard)
        recorder.record(heard)
        assert slept == []
        recorder.record(heard)
        assert [0 < seconds <= 3600 for seconds in slept] == [True]


# A group is recorded as one after the other would be ------------------------------------------------------------------

heard = st.one_of(
    st.builds(
        Reported,
        st.sampled_from(["A", "B", "C\0", "C\ufffd"]),
        st.sampled_from([0, FIRST, FIRST + 1, FIRST + 2]),
        st.sampled_from([DeliveryStatus.DISPATCHED, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED]),
    ),
    st.builds(
        Replied, st.sampled_from(["A", "B"]), st.sampled_from([FIRST, FIRST + 2]), st.sampled_from([None, 1.7e9, 1e10])
    ),
)


STATES = [RecipientState.ACCEPTED, RecipientState.UNKNOWN, RecipientState.UNKNOWN]


def filled(store: JournalStore) -> SenderJournal:
    """A journal whose first recipient is accepted, under the id A, and the next two are unknown."""
    journal = store.open(MESSAGE)
    journal.add(check_all([Row(f"+{FIRST + n}", n + 1) for n in range(3)]))
    claim = journal.claim(3)
    assert claim is not None
    results = [RecipientResult(state, "A" if state is RecipientState.ACCEPTED else None) for state in STATES]
    journal.finish(claim, results, accepted=1, credits_used=None, error=None)
    return journal


def told(journal: SenderJournal) -> list[tuple[str, RecipientState, DeliveryStatus | None]]:
    rows = [row for _, row in journal.reader.recipients(None, 0)]
    return [(row.number, row.state, row.delivery if row.message_id == "A" else None) for row in rows]


def heard_at(each: Heard) -> float:
    return inf if isinstance(each, Reported) or each.received is None else each.received


def both(in_a_group: JournalStore, one_by_one: JournalStore, several: list[Heard]) -> None:
    with closing(filled(in_a_group)) as group, closing(filled(one_by_one)) as single:
        group.recorder.record(several)
        for each in sorted(several, key=heard_at):
            single.recorder.record([each])
        assert told(group) == told(single)
        assert group.reader.summary().unknown.heard_of == single.reader.summary().unknown.heard_of


@settings(deadline=None, max_examples=15)
@given(st.lists(heard, max_size=12))
def test_a_group_is_as_one_after_the_other(several: list[Heard]) -> None:
    with sqlite_in_memory() as (in_a_group, _), sqlite_in_memory() as (one_by_one, _):
        both(in_a_group, one_by_one, several)


def test_a_group_is_as_one_after_the_other_in_postgres(postgres: Server) -> None:
    url = postgres.new_database()
    several: list[Heard] = [
        Replied("B", FIRST + 2, 1.7e9),
        Replied("B", FIRST + 1, None),
        *(Reported("A", FIRST, DeliveryStatus(status)) for status in ("Dispatched", "Failed", "Delivered")),
        *(Reported(message_id, 0, DeliveryStatus.DISPATCHED) for message_id in ("C\0", "C\ufffd", "A", "A")),
        Reported("B", FIRST + 2, DeliveryStatus.DELIVERED),
        Reported("D", FIRST + 2, DeliveryStatus.DELIVERED),
    ]
    both(in_postgres(url, "one")[0], in_postgres(url, "two")[0], several)


# Beside a campaign ----------------------------------------------------------------------------------------------------


async def test_sixty_four_recorders_while_a_campaign_sends(api: Sandbox, place: tuple[str, str]) -> None:
    """Sixteen of the campaign's own, and as many of three others: of a receiver, of another client, of nobody."""
    journal, name = place
    over = asyncio.Event()
    recorded = Counter[int]()

    async def record(recorder: ReportRecorder | Campaign, number: int) -> None:
        while not over.is_set():
            await recorder.record(report(0, f"other-{number}-{recorded[number]}"))
            recorded[number] += 1

    listed = numbers(500)
    async with api.client() as mms, AsyncExitStack() as stack:
        options: dict[str, Any] = {
            "text": "Hi",
            "image": PNG,
            "batch_size": 25,
            "journal": journal,
            "name": name or None,
        }
        spring = await stack.enter_async_context(mms.campaign(**options))
        sending = spring.send(listed)
        await anext(sending)
        recorders: list[Campaign | ReportRecorder] = [spring, await stack.enter_async_context(mms.campaign(**options))]
        recorders += [await stack.enter_async_context(recorder_of(place)) for _ in range(2)]
        tasks = [asyncio.create_task(record(recorders[n % 4], n)) for n in range(64)]
        async for _ in sending:
            pass
        over.set()
        await asyncio.gather(*tasks)
        found = await spring.report()
    assert found.counts[RecipientState.ACCEPTED] == 500
    assert sorted(recorded) == list(range(64))
    assert recorded_in(place) == sum(recorded.values())
