"""The store of a campaign: files of earlier versions, and the one table of transitions."""

from __future__ import annotations

import os
import pickle
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mmsclient import DeliveryStatus, bulk
from mmsclient._store.heard import Reported
from mmsclient._store.models import Message, Owner, RecipientState
from mmsclient._store.sqlite_database import APPLICATION_ID, VERSION
from mmsclient._store.sqlite_opening import open_journal
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient._store.sqlite_recorder import SQLiteRecorder
from mmsclient._store.states import ANSWER, CLAIM, END, EXCLUDE, LATE, LOSE, PROVE, RELEASE, RESEND, SUPPRESS
from mmsclient._store.steering import sender_name
from mmsclient.bulk import JournalError, JournalMismatchError, Row
from mmsclient.bulk.recipients import check_all

MESSAGE = Message("Hi", "Sale", b"GIF89a")
OWNER = Owner("https://api.example", lambda salt: f"{salt.hex()}-key")

VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,
    phone INTEGER NOT NULL UNIQUE, -- the digits of the number in E.164
    state TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'accepted', 'refused', 'failed', 'unknown', 'excluded')),
    line INTEGER NOT NULL,
    run INTEGER NOT NULL, -- in which its line was last read
    batch INTEGER, -- the last
    message_id TEXT,
    exclusion TEXT,
    reason TEXT
);
CREATE INDEX recipient_by_message ON recipient (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE aside ( -- rows of the list without a phone of their own
    line INTEGER NOT NULL,
    number TEXT NOT NULL,
    exclusion TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (line, number)
) WITHOUT ROWID;
CREATE TABLE excluded (phone INTEGER PRIMARY KEY, exclusion TEXT NOT NULL);
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    recipients INTEGER NOT NULL,
    started REAL NOT NULL, -- Unix seconds
    ended REAL,
    accepted INTEGER,
    credits TEXT,
    error TEXT
);
CREATE TABLE delivery ( -- what delivery reports said, of other messages too: one may come before its call's answer
    message_id TEXT NOT NULL,
    phone INTEGER NOT NULL, -- 0 where the report names none
    status TEXT NOT NULL,
    final INTEGER NOT NULL,
    reported REAL NOT NULL, -- Unix seconds
    PRIMARY KEY (message_id, phone)
) WITHOUT ROWID;
INSERT INTO aside VALUES (4, 'x', 'invalid', 'expected a number'),
    (5, '+61400000000', 'duplicate', 'the same phone as in line 1');
INSERT INTO batch VALUES (1, 2, 1795890708.0, 1795890709.0, 1, '1.50', NULL),
    (2, 1, 1795890708.5, 1795890708.75, 0, NULL, 'RateLimitError: x'), (3, 1, 1795890709.0, NULL, NULL, NULL, NULL);
INSERT INTO delivery VALUES ('A', 61400000000, 'Delivered', 1, 1795890710.0);
INSERT INTO excluded VALUES (61400000003, 'listed');
INSERT INTO meta VALUES ('base_url', 'https://api.example'), ('image', X'474946383961'),
    ('image_sha256', '610f5ae4d76e332636a17bd357fd6ce99029316a99d320280d4d77a746bf29e8'),
    ('key_fingerprint', '84d3037e9c0d318d3b3322aa5c24f0cc-key'), ('key_salt', X'84D3037E9C0D318D3B3322AA5C24F0CC'),
    ('list_read', 1), ('rows_of_cut_list', 0), ('runs', 1), ('subject', 'Sale'), ('text', 'Hi');
INSERT INTO recipient VALUES (1, 61400000000, 'accepted', 1, 1, 1, 'A', NULL, NULL),
    (2, 61400000001, 'refused', 2, 1, 1, NULL, NULL, 'no'),
    (3, 61400000002, 'failed', 3, 1, 2, NULL, NULL, 'throttled'),
    (4, 61400000003, 'excluded', 6, 1, NULL, NULL, 'listed', NULL),
    (5, 61400000004, 'sending', 7, 1, 3, NULL, NULL, NULL), (6, 61400000005, 'pending', 8, 1, NULL, NULL, NULL, NULL);
PRAGMA application_id = 0x4D4D5363;
PRAGMA user_version = 1;
"""
"""A journal as mmsclient 0.1 left it, whose process had died."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "spring.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(VERSION_1)
    return path


def test_a_journal_of_version_1_is_read(old: Path) -> None:
    with closing(SQLiteReader.open(old)) as reader:
        assert reader.message() == MESSAGE
        summary = reader.summary()
        assert {state: count for state, count in summary.counts.items() if count} == {
            **dict.fromkeys(("accepted", "refused", "failed", "sending", "pending"), 1),
            "excluded": 3,
        }
        assert (summary.calls, str(summary.credits_used), summary.list_read) == (3, "1.50", True)
        assert (summary.deliveries, summary.delivery_seconds) == ({DeliveryStatus.DELIVERED: 1}, 2.0)
        assert [row.line for row in reader.rejected_rows((-1, ""))] == [4, 5]
        (_, first), *others = reader.recipients(None, 0)
        assert (first.number, first.message_id, first.delivery) == ("+61400000000", "A", DeliveryStatus.DELIVERED)
        assert [recipient.state for _, recipient in others] == ["refused", "failed", "excluded", "sending", "pending"]


async def test_orders_leave_a_journal_of_version_1_as_it_is(old: Path) -> None:
    found = await bulk.pause(old)
    assert (found.activity, found.counts[RecipientState.SENDING]) == (bulk.Activity.LOST, 1)
    assert found.paused_by == sender_name()
    assert os.listdir(old.parent) == ["spring.db"]
    with closing(SQLiteReader.open(old)) as reader:
        assert reader.orders().paused is not None
    with closing(sqlite3.connect(old)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    list_ = old.parent / "list.csv"
    list_.write_text("a list")
    for path in (list_, old.parent / "nothing.db"):
        with pytest.raises(JournalError):
            await bulk.stop(path)
    assert list_.read_text() == "a list"


def test_a_journal_of_version_1_is_sent_with(old: Path) -> None:
    with closing(SQLiteRecorder.open(old)) as recorder:
        recorder.record([Reported("B", 0, DeliveryStatus.FAILED)])
    with pytest.raises(JournalMismatchError, match=r"campaign at https://api\.example"):
        open_journal(old, MESSAGE, Owner("https://other.example", OWNER.fingerprint))
    with closing(open_journal(old, MESSAGE, OWNER)) as journal:
        assert journal.counts[RecipientState.UNKNOWN] == 1
        claim = journal.claim(10)
        assert claim is not None
        assert (claim.batch, claim.phones) == (4, (61400000002, 61400000005))


def test_a_migrated_journal_has_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    open_journal(tmp_path / "new.db", MESSAGE).close()
    open_journal(old, MESSAGE, OWNER).close()
    tables = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    with closing(sqlite3.connect(old)) as before, closing(sqlite3.connect(tmp_path / "new.db")) as now:
        for query in (tables, "PRAGMA application_id", "PRAGMA user_version"):
            assert now.execute(query).fetchall() == before.execute(query).fetchall()
        assert now.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert now.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.mark.skipif(sys.platform != "linux", reason="names are characters there")
def test_a_journal_whose_name_is_no_utf_8_can_be_read_as_it_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"spring-\xff.db")
    for _ in range(2):
        open_journal(path, MESSAGE).close()
    with closing(SQLiteReader.open(path)) as reader:
        assert reader.message() == MESSAGE


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="it is a directory"):
        SQLiteReader.open(tmp_path)


def test_the_table_of_transitions() -> None:
    moves = {
        (source.value, target.value)
        for transition in (ANSWER, CLAIM, END, EXCLUDE, LATE, LOSE, PROVE, RELEASE, RESEND, SUPPRESS)
        for source in transition.sources
        for target in transition.targets
    }
    assert moves == {
        *(("sending", end) for end in ("accepted", "refused", "failed", "unknown", "pending")),
        *((waiting, then) for waiting in ("pending", "failed") for then in ("sending", "excluded")),
        ("unknown", "pending"),
        ("pending", "accepted"),
        ("failed", "accepted"),
        ("refused", "accepted"),
        ("excluded", "accepted"),
        ("sending", "excluded"),
        *((open_, late) for open_ in ("unknown", "pending") for late in ("accepted", "refused", "failed", "excluded")),
        ("pending", "pending"),
    }


def test_recipients_are_chosen_and_claimed_in_one_transaction(tmp_path: Path) -> None:
    """What another program has taken away is passed over, and the figures are true again at the end."""
    path = tmp_path / "spring.db"
    with closing(open_journal(path, MESSAGE)) as journal, closing(sqlite3.connect(path)) as other:
        journal.add(check_all([Row(f"+6140000{n:04}", n) for n in range(100)]))
        with other:
            other.execute("UPDATE recipient SET state = 'excluded', exclusion = 'listed' WHERE id BETWEEN 6 AND 95")
        claim = journal.claim(10)
        assert claim is not None
        assert claim.ids == (*range(1, 6), *range(96, 101))
        assert journal.claim(10) is None
        assert journal.ready == 0
        assert journal.counts == journal.reader.summary().counts


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("models", name) for name in ("Batch", "Counts", "Exclusion", "Progress", "Recipient", "RecipientState")),
        *(("errors", name) for name in ("CampaignStoppedError", "JournalBusyError", "JournalError")),
        *(("errors", name) for name in ("JournalMismatchError", "JournalUnavailableError", "OptOutsIncompleteError")),
        ("report", "Report"),
    ],
)
def test_what_version_0_1_has_pickled_is_found_again(module: str, name: str) -> None:
    found = pickle.loads(f"cmmsclient.bulk.{module}\n{name}\n.".encode())  # noqa: S301
    assert found is getattr(bulk, name, found)
    assert found.__name__ == name
