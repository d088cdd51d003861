"""Messages of their own in a journal, on SQLite and on PostgreSQL: who gets what, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient._store.models import Claim, ListEntry, Message, PersonalMessage, RecipientResult
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.sqlite_database import Database
from mmsclient._store.sqlite_journal import SQLiteJournal
from mmsclient._store.sqlite_messages import PersonalQueue
from mmsclient._store.sqlite_opening import open_copy, open_journal
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient._store.stores import JournalStore, store_at
from mmsclient.bulk import Exclusion, JournalMismatchError
from mmsclient.bulk import RecipientState as State
from tests.support.fuzzing import cases
from tests.support.old_journals import make_old

MESSAGE = Message("Hi {name}", "", b"GIF89a", '{"subject": null, "text": {}}')
FIRST = 61400000000


def entry(line: int, phone: int, text: str | None) -> ListEntry:
    """A row of the list; without a text it cannot get one."""
    if text is None:
        return ListEntry(line, f"0{phone}", phone, "name: expected a value")
    return ListEntry(line, f"0{phone}", phone, None, PersonalMessage(f"Hi {text}", text))


def entries(texts: Iterable[str | None]) -> list[ListEntry]:
    return [entry(line, FIRST + line, text) for line, text in enumerate(texts, 1)]


class Model:
    """What each phone is to get, and who may be claimed: in this run, and in the next one."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.open: set[int] = set()
        self.failed: set[int] = set()

    def add(self, rows: Iterable[ListEntry]) -> None:
        for row in rows:
            if row.message is not None and row.phone is not None and row.phone not in self.texts:
                self.texts[row.phone] = row.message.text
                self.open.add(row.phone)

    def claim(self, claim: Claim) -> None:
        assert claim.message is not None
        assert {self.texts[phone] for phone in claim.phones} == {claim.message.text}
        assert set(claim.phones) <= self.open
        self.open -= set(claim.phones)
        self.failed -= set(claim.phones)


def take(journal: SenderJournal, model: Model, limit: int, end: str) -> bool:
    """Claim, check that nobody is to get another's text, and end it."""
    claim = journal.claim(limit)
    if claim is None:
        assert journal.ready == 0
        return False
    assert len(claim.phones) <= limit
    model.claim(claim)
    if end == "release":
        journal.release(claim)
    elif end == "suppress":
        journal.suppress(claim, {claim.phones[0]: "STOP"})
        rest = claim.only(claim.phones[1:])
        assert rest.message == claim.message
        if rest.ids:
            finish(journal, rest, State.ACCEPTED)
    elif end not in ("dies", "again"):
        finish(journal, claim, State(end))
    if end in ("release", "failed"):
        model.failed |= set(claim.phones)
    return True


def finish(journal: SenderJournal, claim: Claim, state: State) -> None:
    results = [RecipientResult(state)] * len(claim.ids)
    journal.finish(claim, results, accepted=0, credits_used=None, error=None)


names = st.sampled_from(["Ann", "Bob", "Cy", "Ann ", None])
steps = st.tuples(
    st.integers(1, 4), st.sampled_from(["accepted", "failed", "unknown", "release", "suppress", "dies", "again"])
)


def test_nobody_gets_the_text_of_another(place: tuple[str, str]) -> None:
    number = count(1)

    @cases(12)
    @given(listed=st.lists(names, max_size=12), relisted=st.lists(names, max_size=12), ops=st.lists(steps, max_size=12))
    def check(listed: list[str | None], relisted: list[str | None], ops: list[tuple[int, str]]) -> None:
        journal, name = place
        each = next(number)
        store = store_at(journal if name else f"{journal}-{each}", f"{name}-{each}" if name else None)
        nobody_gets_the_text_of_another(store, listed, relisted, ops)

    check()


def nobody_gets_the_text_of_another(
    store: JournalStore, listed: list[str | None], relisted: list[str | None], ops: list[tuple[int, str]]
) -> None:
    model = Model()
    journal = store.open(MESSAGE)
    try:
        journal.add(entries(listed))
        model.add(entries(listed))
        assert journal.reader.calls_ahead(2)[0] == len(set(model.texts.values()))
        for limit, end in ops:
            if end == "again":  # the list comes again, and some rows of it are others
                journal.close()
                journal = store.open(MESSAGE)
                model.open |= model.failed
                journal.add(entries(relisted))
                model.add(entries(relisted))
            take(journal, model, limit, end)
            assert journal.counts == journal.reader.summary().counts
        journal.close()
        journal = store.open(MESSAGE)
        model.open |= model.failed
        while take(journal, model, 3, "accepted"):
            pass
        assert not model.open
        assert journal.reader.calls_ahead(1) == (0, 0)
    finally:
        journal.close()


def test_a_row_without_a_message_is_set_aside_unless_its_phone_has_one(place: tuple[str, str]) -> None:
    journal_place, name = place
    store = store_at(journal_place, name or None)
    for run in range(2):
        with closing(store.open(MESSAGE)) as journal:
            journal.begin_list()
            texts: list[str | None] = ["Ann", "Bob", None] if not run else ["Ann", None, None]
            journal.add([*entries(texts), entry(9, FIRST + 1, None), entry(10, FIRST + 2, "Ann")])
            journal.end_list()
            assert journal.reader.summary().counts == journal.counts
            aside = [(row.line, row.exclusion, row.reason) for row in journal.reader.rejected_rows((-1, ""))]
            assert aside == [
                (3, Exclusion.NO_MESSAGE, "name: expected a value"),
                (9, Exclusion.NO_MESSAGE, "name: expected a value"),
                (10, Exclusion.DUPLICATE, "the same phone as in line 2"),
            ]
            assert [message.text for _, message in journal.reader.first_messages(5)] == ["Hi Ann", "Hi Bob"]


def test_a_copy_holds_what_each_gets_and_may_be_claimed_as_a_whole(place: tuple[str, str]) -> None:
    journal_place, name = place
    store = store_at(journal_place, name or None)
    with closing(store.open(MESSAGE)) as journal:
        journal.add(entries(["Ann", "Bob", "Ann"]))
        assert journal.reader.calls_ahead(1) == (2, 3)
        assert journal.reader.message() == MESSAGE
    with closing(store.open_copy(MESSAGE, resend_unknown=False)) as copy:
        assert copy.reader.calls_ahead(2) == (2, 2)
        assert [message for _, message in copy.reader.first_messages(2)] == [
            PersonalMessage("Hi Ann", "Ann"),
            PersonalMessage("Hi Bob", "Bob"),
        ]
        claim = copy.claim(10)
        assert claim is not None
        assert len(claim.ids) == 3
    for other in ("", '{"subject": null, "text": {"name": "you"}}'):
        for opened in (store.open, lambda message: store.open_copy(message, resend_unknown=False)):
            with pytest.raises(JournalMismatchError, match="a message with another template"):
                opened(Message("Hi {name}", "", b"GIF89a", other))


def test_a_claim_looks_at_no_more_than_those_it_takes() -> None:
    asked: list[str] = []

    class Watched(Database):
        def rows(self, sql: str, values: Sequence[object] = ()) -> list[object]:
            asked.append(sql)
            return super().rows(sql, values)

    database = Watched.writable(":memory:", "")
    try:
        database.create(MESSAGE)
        with closing(SQLiteJournal(database)) as journal:
            journal.add(entries(["Ann", "Bob"]))
            asked.clear()
            assert PersonalQueue(database).next((1, 1), 10).phones == (FIRST + 2,)
            assert len(asked) == 3
            for sql in tuple(asked):
                (step,) = database.connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?"))
                assert step[3].startswith(
                    ("SEARCH recipient USING INDEX recipient_by_text", "SEARCH message USING INTEGER")
                )
    finally:
        database.close()


def test_a_journal_of_version_2_goes_on(path: Path) -> None:
    plain = Message("Hi", "", b"GIF89a")
    with closing(open_journal(path, plain)) as journal:
        journal.add([ListEntry(1, "a", FIRST), ListEntry(2, "b", FIRST + 1)])
        claim = journal.claim(1)
        assert claim is not None
        finish(journal, claim, State.ACCEPTED)
    make_old(path, 2)
    before = path.read_bytes()
    with closing(SQLiteReader.open(path)) as reader:
        assert reader.summary().counts[State.ACCEPTED] == 1
        assert reader.message() == plain
    with closing(open_copy(path, plain, resend_unknown=False)) as copy:
        assert copy.reader.calls_ahead(10) == (1, 1)
    assert path.read_bytes() == before
    with closing(open_journal(path, plain)) as journal:
        claim = journal.claim(10)
        assert claim is not None
        assert (claim.phones, claim.message) == ((FIRST + 1,), None)
    with closing(SQLiteReader.open(f"{path}-v2")) as kept:
        assert kept.summary().counts[State.PENDING] == 1
