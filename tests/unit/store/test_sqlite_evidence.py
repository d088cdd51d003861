"""Evidence in journals of SQLite: files of version 1, and settling without a campaign."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from mmsclient import DeliveryStatus
from mmsclient._store import sqlite_evidence, sqlite_ledger_files
from mmsclient._store.heard import Replied, Reported
from mmsclient._store.models import ListEntry, Message, PersonalMessage
from mmsclient._store.models import RecipientState as State
from mmsclient._store.sqlite_database import VERSION
from mmsclient._store.sqlite_opening import open_copy, open_journal, settle_journal
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient._store.sqlite_recorder import SQLiteRecorder
from mmsclient._store.sqlite_schema import run_script
from mmsclient.bulk import JournalBusyError, JournalError, JournalUnavailableError, Row
from mmsclient.bulk.recipients import check_all
from tests.support.evidence import end, lose, row
from tests.support.old_journals import make_old

MESSAGE = Message("Hi", "Sale", b"GIF89a")
ONE, TWO, THREE = PHONES = (61400000000, 61400000001, 61400000002)
DELIVERED = DeliveryStatus.DELIVERED


def old_file(path: Path) -> None:
    """A journal of version 1: one accepted, two being sent when its process died, one of these reported on."""
    with closing(open_journal(path, MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{phone}", line) for line, phone in enumerate(PHONES, 1)]))
        claim = journal.claim(1)
        assert claim is not None
        end(journal, claim, State.ACCEPTED, "A")
        journal.claim(2)
        journal.recorder.record([Reported(f"A-{ONE}", ONE, DELIVERED)])
        journal.recorder.record([Reported("B", TWO, DELIVERED)])
    make_old(path, 1)


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def test_a_journal_of_version_1_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "spring.db"
    old_file(path)
    before = path.read_bytes()
    with closing(SQLiteReader.open(path)) as reader:
        summary = reader.summary()
        assert reader.reached_before(PHONES) == {}
        assert reader.sent_again(0) == []
    assert (summary.counts[State.SENDING], summary.deliveries, summary.unknown.count) == (2, {DELIVERED: 1}, 0)
    open_copy(path, MESSAGE, resend_unknown=False).close()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["spring.db"]


@pytest.mark.parametrize("by", ["a campaign", "a report", "settling"])
def test_the_first_write_migrates_and_keeps_a_copy(tmp_path: Path, by: str) -> None:
    path, kept = tmp_path / "spring.db", tmp_path / "spring.db-v1"
    old_file(path)
    if by == "a campaign":
        open_journal(path, MESSAGE).close()
    elif by == "a report":
        with closing(SQLiteRecorder.open(path)) as recorder:
            recorder.record([Reported("C", THREE, DELIVERED)])
    settled = settle_journal(path)
    assert settled == {"a campaign": 0, "a report": 2, "settling": 1}[by]
    assert (version(path), version(kept)) == (VERSION, 1)
    assert kept.stat().st_mode & 0o077 == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["spring.db", "spring.db-v1"]
    with closing(SQLiteReader.open(path)) as reader:
        states = [found.state for _, found in reader.recipients(None, 0)]
    assert states == ["accepted", "accepted", "accepted" if by == "a report" else "unknown"]
    with closing(SQLiteReader.open(kept)) as reader:
        assert [found.state for _, found in reader.recipients(None, 0)] == ["accepted", "sending", "sending"]


def test_those_who_were_to_be_sent_to_again_keep_their_call_in_a_journal_of_version_3(tmp_path: Path) -> None:
    path = tmp_path / "spring.db"
    with closing(open_journal(path, MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{phone}", line) for line, phone in enumerate((ONE, TWO), 1)]))
        lose(journal, 2)
        journal.begin_run(resend_unknown=True)
    make_old(path, 3)
    with closing(SQLiteReader.open(path)) as reader:
        assert reader.summary().counts[State.PENDING] == 2
    with closing(open_journal(path, MESSAGE)) as journal:
        claim = journal.claim(1)
        assert claim is not None
        journal.release(claim)
        journal.recorder.record([Reported("A", ONE, DELIVERED)])
        assert [row(journal, phone).state for phone in (ONE, TWO)] == ["accepted", "pending"]
    assert version(tmp_path / "spring.db-v3") == 3


def test_the_copy_that_is_kept_replaces_no_file(tmp_path: Path) -> None:
    path = tmp_path / "spring.db"
    with closing(open_journal(path.with_name("spring.db-v1"), MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{ONE}", 1)]))
    path.with_name("spring.db-v1-2").mkdir()
    path.with_name("spring.db-v1-3-journal").touch()  # would be rolled into it
    old_file(path)
    open_journal(path, MESSAGE).close()
    assert (version(path), version(tmp_path / "spring.db-v1-4")) == (VERSION, 1)
    with closing(SQLiteReader.open(path.with_name("spring.db-v1"))) as reader:
        assert reader.summary().counts[State.PENDING] == 1
    names = ("", "-v1", "-v1-2", "-v1-3-journal", "-v1-4")
    assert sorted(os.listdir(tmp_path)) == [f"spring.db{ending}" for ending in names]


@pytest.mark.parametrize("writer", [settle_journal, SQLiteRecorder.open, lambda path: open_journal(path, MESSAGE)])
def test_a_copy_that_cannot_be_kept_is_an_error_of_the_journal(
    tmp_path: Path, writer: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "spring.db"
    old_file(path)
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(JournalUnavailableError, match="No space left on device"):
        writer(path)
    assert version(path) == 1
    assert not list(tmp_path.glob("*spring.db-v1*"))


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "spring.db"
    old_file(path)
    before = path.read_bytes()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE evidence (other)")
    for _ in range(2):
        with pytest.raises(JournalError, match="already exists"):
            open_journal(path, MESSAGE)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM sqlite_master WHERE name = 'run'").fetchall() == []
        database.execute("DROP TABLE evidence")
    assert version(path) == 1
    assert os.listdir(tmp_path) == ["spring.db"]  # no copy for each attempt
    open_journal(path, MESSAGE).close()
    assert version(path) == VERSION
    assert len(before) > 0


def test_a_journal_that_is_sent_with_is_not_settled_beside_its_sender(tmp_path: Path) -> None:
    path = tmp_path / "spring.db"
    with closing(open_journal(path, MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{ONE}", 1)]))
        journal.claim(1)
        with pytest.raises(JournalBusyError):
            settle_journal(path)
        assert row(journal, ONE).state == "sending"
    with pytest.raises(JournalError, match="no such file"):
        settle_journal(tmp_path / "none.db")
    assert not (tmp_path / "none.db-lock").exists()


def test_what_no_recipient_is_waiting_for_is_looked_up_for_nobody(tmp_path: Path) -> None:
    """Python tells the rows that a statement changed only where its first word is INSERT or the like."""
    with closing(open_journal(tmp_path / "spring.db", MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{phone}", line) for line, phone in enumerate(PHONES, 1)]))
        claim = journal.claim(1)
        assert claim is not None
        end(journal, claim, State.ACCEPTED, "A")
        statements: list[str] = []
        database = journal.reader._database
        database.connection.set_trace_callback(statements.append)
        journal.recorder.record([Reported(f"A-{ONE}", ONE, DELIVERED)])
        assert not [sql for sql in statements if sql.lstrip().startswith("SELECT")]
        assert sqlite_evidence.note(database, [(ONE, f"A-{ONE}", 0.0, None)]) == 0
        assert sqlite_evidence.note(database, [(ONE, "B", 0.0, None), (TWO, "C", 0.0, None)]) == 2


def test_a_reply_to_another_text_ends_the_silence_and_proves_nothing(tmp_path: Path) -> None:
    """Of weeks ago, in a journal of its own; and a recipient of today's campaign who may have got nothing."""
    own = PersonalMessage("Dear Bob, new rates", "")
    entries = [
        ListEntry(1, "a", ONE, message=PersonalMessage("Dear Ann,\nnew rates!", "")),
        ListEntry(2, "b", TWO, message=own),
    ]
    with closing(open_journal(tmp_path / "spring.db", evolve(MESSAGE, template="{}"))) as journal:
        journal.add(entries)
        lose(journal)
        lose(journal)
        journal.recorder.record([Replied("A", ONE, None, original="Dear Bob, new rates")])
        journal.recorder.record([Replied("B", TWO, None, original="Winter sale")])
        assert [row(journal, phone).state for phone in (ONE, TWO)] == [State.UNKNOWN, State.UNKNOWN]
        assert journal.reader.summary().unknown.heard_of == 2
        journal.recorder.record([Replied("A", ONE, None, original="DEAR ANN, new ra…")])
        journal.recorder.record([Reported("B", TWO, DELIVERED)])  # what the reply was to is another matter
        assert [row(journal, phone).message_id for phone in (ONE, TWO)] == ["A", "B"]


@pytest.mark.parametrize("original", ["", "?", "Hi", "Sale: Hi", "h"])
def test_a_reply_that_may_be_to_the_text_proves(tmp_path: Path, original: str) -> None:
    with closing(open_journal(tmp_path / "spring.db", MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{ONE}", 1)]))
        lose(journal)
        journal.recorder.record([Replied("A", ONE, None, original=original)])
        assert row(journal, ONE).message_id == "A"


@pytest.mark.parametrize("table", ["evidence", "heard"])
def test_who_has_it_open_in_an_earlier_version_goes_on_writing(table: str) -> None:
    """Which names no columns there: there may be no more than it had."""
    names = [f"{number}.sql" for number in range(1, VERSION + 1)]
    if table == "heard":
        names = [f"ledger-{number}.sql" for number in range(1, sqlite_ledger_files.VERSION + 1)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        for name in names:
            run_script(database, name)
        database.execute(f"INSERT INTO {table} SELECT 61400000000, 'A', 1.0")
