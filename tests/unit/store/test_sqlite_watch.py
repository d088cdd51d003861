"""The files of a database that is open: removed, replaced, or written by another index of its log."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mmsclient import DeliveryStatus, LedgerUnavailableError
from mmsclient._store.errors import JournalError, SuppressionListError
from mmsclient._store.handled_events import Confirm
from mmsclient._store.heard import Reported
from mmsclient._store.ledger import SendEnd, SendState
from mmsclient._store.models import Message, RecipientResult, RecipientState
from mmsclient._store.sqlite_events import SQLiteEvents
from mmsclient._store.sqlite_opening import open_journal
from mmsclient._store.sqlite_outbox import SQLiteOutbox
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient._store.sqlite_recorder import SQLiteRecorder
from mmsclient._store.sqlite_suppression import SQLiteSuppression
from mmsclient._store.sqlite_watch import WatchedFiles
from mmsclient._store.suppression import Entry, Request
from mmsclient.bulk import Row
from mmsclient.bulk.recipients import check_all
from tests.support.keyed import claimed, held, ledger, state

pytestmark = pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")

MESSAGE = Message("Hi", "Sale", b"GIF89a")
ENDINGS = ["", "-wal", "-shm"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def remove(path: str) -> None:
    os.unlink(path)


def opened(path: Path) -> tuple[sqlite3.Connection, WatchedFiles]:
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES ('ours')")
    files = WatchedFiles(path)
    files.watch_log()
    return database, files


def elsewhere(path: Path, statement: str) -> str:
    """What a statement says in another process."""
    code = "import sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None);"
    code += "print(*(row[0] for row in database.execute(sys.argv[2]))); database.close()"
    command = [sys.executable, "-c", code, str(path), statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("by", ["its name", "a link"])
@pytest.mark.parametrize("replaces", [False, True])
def test_what_is_removed_or_replaced_is_named(path: Path, ending: str, by: str, replaces: bool) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    database, _ = opened(path)
    files = WatchedFiles(path if by == "its name" else link)
    files.watch_log()
    with closing(database):
        assert not files.replaced()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("INSERT INTO t VALUES ('more')")
        assert not files.replaced()
        Path(f"{path}{ending}").rename(path.with_name("away"))
        if replaces:
            Path(f"{path}{ending}").touch()
        assert files.replaced() == (f"{path.name}{ending}" if ending or by == "its name" else "link.db")


def test_what_others_have_committed_by_another_index_stays(path: Path) -> None:
    """SQLite would clear the log away when the first one closes it, with what the first one does not know of."""
    database, files = opened(path)
    Path(f"{path}-shm").unlink()
    elsewhere(path, "INSERT INTO t VALUES ('theirs')")
    assert files.is_alone()
    files.close(database)
    assert elsewhere(path, "SELECT x FROM t") == "ours theirs"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("gone", [[], ["-shm"], ["-wal"], ["-wal", "-shm"]])
def test_what_was_committed_stays_where_nobody_else_has_opened_it(path: Path, gone: list[str]) -> None:
    database, files = opened(path)
    for ending in gone:
        Path(f"{path}{ending}").unlink()
    assert files.is_alone() == ("-shm" in gone)
    files.close(database)
    assert elsewhere(path, "SELECT x FROM t") == "ours"


def of_journal(path: Path) -> Callable[[], object]:
    journal = open_journal(path, MESSAGE)
    journal.add(check_all([Row(f"+6140000000{n}", n) for n in range(3)]))
    return lambda: journal.claim(1)


def of_outbox(path: Path) -> Callable[[], object]:
    outbox = SQLiteOutbox(path)
    outbox.figures()
    return outbox.figures


def of_suppression(path: Path) -> Callable[[], object]:
    suppression = SQLiteSuppression(path)
    adding = [Request(lambda tables: tables.add([Entry(1, "", 0.0)]))]
    suppression.commit(adding)
    return lambda: suppression.commit(adding)


def of_events(path: Path) -> Callable[[], object]:
    events = SQLiteEvents(path, 5.0)
    return lambda: events.commit([Confirm(b"key")])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("opens", "error"),
    [
        (of_journal, JournalError),
        (of_outbox, JournalError),
        (of_suppression, SuppressionListError),
        (of_events, sqlite3.OperationalError),
    ],
)
def test_every_store_notices(
    path: Path, opens: Callable[[Path], Callable[[], object]], error: type[Exception], ending: str
) -> None:
    use = opens(path)
    use()
    Path(f"{path}{ending}").unlink()
    with pytest.raises(error, match=f"a.db{ending} was removed or replaced"):
        use()


@pytest.mark.parametrize("ending", ENDINGS)
def test_recorders_and_lasting_readers_notice(path: Path, ending: str) -> None:
    of_journal(path)()
    with closing(SQLiteRecorder.open(path)) as recorder, closing(SQLiteReader.open_lasting(path)) as reader:
        recorder.record([Reported("A", 0, DeliveryStatus.DELIVERED)])
        assert recorder.is_current
        assert reader.is_current
        Path(f"{path}{ending}").unlink()
        assert not recorder.is_current
        assert not reader.is_current


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_ledger_notices(path: Path, ending: str) -> None:
    store = ledger(path)
    await claimed(store)
    remove(f"{path}{ending}")
    with pytest.raises(LedgerUnavailableError, match=f"a.db{ending} was removed or replaced"):
        await claimed(store, "another")
    await store.aclose()


async def test_an_end_does_not_undo_what_others_have_claimed_by_another_index(path: Path) -> None:
    store = ledger(path)
    ours = await claimed(store)
    remove(f"{path}-shm")
    elsewhere(path, "INSERT INTO meta VALUES ('theirs', 'kept')")
    with pytest.raises(LedgerUnavailableError, match=r"a\.db-shm was removed or replaced"):
        await store.finish(ours, SendEnd(SendState.ACCEPTED, {}))
    await store.aclose()
    assert elsewhere(path, "SELECT value FROM meta WHERE key = 'theirs'") == "kept"
    again = ledger(path)
    assert state(await held(again)) is SendState.UNKNOWN
    await again.aclose()


def test_the_end_of_a_call_does_not_undo_what_others_have_recorded_by_another_index(path: Path) -> None:
    journal = open_journal(path, MESSAGE)
    journal.add(check_all([Row(f"+6140000000{n}", n) for n in range(3)]))
    claim = journal.claim(1)
    assert claim is not None
    Path(f"{path}-shm").unlink()
    with closing(SQLiteRecorder.open(path)) as recorder:
        recorder.record([Reported("A", 0, DeliveryStatus.DELIVERED)])
    results = [RecipientResult(RecipientState.ACCEPTED, "B")]
    with pytest.raises(JournalError, match=r"a\.db-shm was removed or replaced during the campaign"):
        journal.finish(claim, results, accepted=1, credits_used=None, error=None)
    with pytest.raises(JournalError, match="was removed or replaced"):
        journal.release(claim)
    with pytest.raises(JournalError, match="was removed or replaced"):
        journal.steering.end()
    journal.close()
    assert elsewhere(path, "SELECT message_id FROM delivery") == "A"
    assert elsewhere(path, "SELECT state FROM recipient ORDER BY id").split() == ["sending", "pending", "pending"]
