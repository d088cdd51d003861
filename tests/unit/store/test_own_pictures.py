"""Pictures of their own in a journal, on SQLite and on PostgreSQL: hashes, fields, and whom a selection claims."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from mmsclient import DeliveryStatus
from mmsclient._store.heard import Reported
from mmsclient._store.models import Claim, ListEntry, Message, OwnRow, PersonalMessage, RecipientResult, Selection
from mmsclient._store.models import RecipientState as State
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.sqlite_opening import open_copy, open_journal
from mmsclient._store.stores import JournalStore, store_at
from mmsclient.bulk import Exclusion
from tests.support.old_journals import make_old

MESSAGE = Message("Hi", "", b"", '{"image": {"fit": false, "function": true}, "subject": null, "text": null}')
FIRST = 61400000000
RED, BLUE, GREEN = (PersonalMessage("Hi", "", name * 16) for name in ("c0ff", "b1ee", "9ee2"))


@pytest.fixture
def store(place: tuple[str, str]) -> JournalStore:
    journal, name = place
    return store_at(journal, name or None)


def listed(journal: SenderJournal) -> None:
    """Six rows, which get red, blue, red, blue, red and blue."""
    journal.add(
        ListEntry(line, f"0{line}", FIRST + line, None, RED if line % 2 else BLUE, f'{{"code": {line}}}')
        for line in range(1, 7)
    )


def finish(journal: SenderJournal, claim: Claim, state: State) -> None:
    results = [RecipientResult(state)] * len(claim.ids)
    journal.finish(claim, results, accepted=0, credits_used=None, error=None)


def lines(phones: tuple[int, ...]) -> list[int]:
    return [phone - FIRST for phone in phones]


def test_upcoming_ones_are_those_of_one_hash_and_nobody_is_claimed(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        listed(journal)
        assert journal.reader.calls_ahead(2) == (2, 4)
        assert journal.reader.messages_of([FIRST + 2]) == {FIRST + 2: BLUE}
        seen, after = [], (0, 0)
        while (picked := journal.reader.upcoming(after, 2)).rows:
            seen.append((lines(picked.phones), picked.message))
            after = picked.positions[-1]
        assert seen == [([1, 3], RED), ([5], RED), ([2, 4], BLUE), ([6], BLUE)]
        first = journal.reader.upcoming((0, 0), 1).ids
        assert journal.reader.own_rows(first) == {first[0]: OwnRow('{"code": 1}', False)}
        assert (journal.counts[State.PENDING], journal.ready) == (6, 6)


def test_a_selection_claims_those_who_are_left_and_notes_another_hash(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        listed(journal)
        picked = journal.reader.upcoming((0, 0), 3)
        test = journal.claim(1, Selection(picked.ids[1:2], RED))  # out of turn
        assert test is not None
        finish(journal, test, State.ACCEPTED)
        journal.count()
        assert journal.ready == 5
        claim = journal.claim(10, Selection(picked.ids, GREEN, picked.group))
        assert claim is not None
        assert (lines(claim.phones), claim.message) == ([1, 5], GREEN)
        finish(journal, claim, State.UNKNOWN)
        assert journal.ready == 3
        assert journal.claim(10, Selection(picked.ids, GREEN, picked.group)) is None
        assert journal.reader.messages_of([FIRST + 1, FIRST + 3]) == {FIRST + 1: GREEN, FIRST + 3: RED}
        rest = journal.claim(10)
        assert rest is not None
        assert (lines(rest.phones), rest.message) == ([2, 4, 6], BLUE)
        finish(journal, rest, State.ACCEPTED)
        journal.begin_run(resend_unknown=True)
        again = journal.reader.upcoming((0, 0), 10)
        assert (lines(again.phones), again.message) == ([1, 5], GREEN)
        assert journal.reader.own_rows(again.ids[:1])[again.ids[0]].is_resent
    with closing(store.open_copy(MESSAGE, resend_unknown=False)) as copy:
        assert copy.reader.calls_ahead(10) == (1, 1)
        assert copy.reader.messages_of([FIRST + 1]) == {FIRST + 1: GREEN}


def test_those_who_are_claimed_out_of_turn_are_ready_no_more(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        listed(journal)
        ids = journal.reader.upcoming((0, 0), 3).ids
        for left, each in enumerate(reversed(ids), 1):
            assert journal.claim(1, Selection((each,), RED)) is not None
            assert journal.ready == 6 - left
        journal.count()
        assert journal.ready == 3


def test_those_without_a_picture_are_set_aside_until_the_next_run(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        listed(journal)
        picked = journal.reader.upcoming((0, 0), 2)
        claim = journal.claim(2, Selection(picked.ids, RED, picked.group))
        assert claim is not None
        journal.suppress(claim, dict.fromkeys(claim.phones, "image: expected one"), Exclusion.NO_MESSAGE)
        excluded = journal.reader.recipients(State.EXCLUDED, 0)
        assert [(row.line, row.exclusion, row.reason) for _, row in excluded] == [
            (1, Exclusion.NO_MESSAGE, "image: expected one"),
            (3, Exclusion.NO_MESSAGE, "image: expected one"),
        ]
        journal.count()
        assert (journal.ready, journal.reader.summary().calls) == (4, 0)
        assert journal.reader.summary().without_picture == 2
        journal.exclude([FIRST + 3, FIRST + 2], Exclusion.LISTED)
        assert journal.reader.summary().without_picture == 1
        journal.begin_run(resend_unknown=False)
        assert (journal.counts[State.PENDING], journal.counts[State.EXCLUDED], journal.ready) == (4, 2, 4)


def test_a_journal_of_version_4_goes_on(path: Path) -> None:
    plain = Message("Hi {name}", "", b"GIF89a", '{"subject": null, "text": {}}')
    with closing(open_journal(path, plain)) as journal:
        journal.add([ListEntry(1, "a", FIRST, None, PersonalMessage("Hi Ann", ""))])
    make_old(path, 4)
    with closing(open_copy(path, plain, resend_unknown=False)) as copy:
        assert copy.reader.messages_of([FIRST]) == {FIRST: PersonalMessage("Hi Ann", "")}
    with closing(open_journal(path, plain)) as journal:
        claim = journal.claim(10)
        assert claim is not None
        assert claim.message == PersonalMessage("Hi Ann", "")


def test_one_who_is_set_aside_after_a_call_that_may_have_been_carried_out_is_settled_before_it_is_tried_again(
    store: JournalStore,
) -> None:
    with closing(store.open(MESSAGE)) as journal:
        listed(journal)
        first = journal.claim(2)
        assert first is not None
        finish(journal, first, State.UNKNOWN)
        journal.begin_run(resend_unknown=True)
        claim = journal.claim(2, Selection(first.ids, RED))
        assert claim is not None
        journal.suppress(claim, dict.fromkeys(claim.phones, "image: expected one"), Exclusion.NO_MESSAGE)
        journal.recorder.record([Reported("A", claim.phones[0], DeliveryStatus.DELIVERED)])
        journal.begin_run(resend_unknown=False)
        found = {row.line: row for _, row in journal.reader.recipients_of(claim.phones)}
        assert {line: row.state for line, row in found.items()} == {1: State.ACCEPTED, 3: State.PENDING}
        assert journal.reader.own_rows(claim.ids)[claim.ids[1]].is_resent
        assert journal.ready == 5
