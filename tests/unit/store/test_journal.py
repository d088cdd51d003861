"""Journals: what they remember, whom they let in, and files that are none."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from attrs import evolve

from mmsclient._store.models import Message, RecipientResult
from mmsclient._store.protocol import JournalReader
from mmsclient._store.sqlite_journal import SQLiteJournal
from mmsclient._store.sqlite_opening import open_copy, open_journal, settle_journal
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient.bulk import (
    Activity,
    CampaignStoppedError,
    JournalBusyError,
    JournalError,
    JournalMismatchError,
    RecipientState,
    Row,
    read_report,
    read_status,
)
from mmsclient.bulk.recipients import check_all
from mmsclient.bulk.report import report_from
from mmsclient.errors import InsufficientCreditError
from tests.support.checkpoints import killed_at_its_checkpoint

MESSAGE = Message("Hi", "Sale", b"GIF89a")
ONE, TWO, THREE = 61400000000, 61400000001, 61400000002


def opened(path: Path | None, *, resend_unknown: bool = False, message: Message = MESSAGE) -> SQLiteJournal:
    return open_journal(path, message, resend_unknown=resend_unknown)


def listing(*phones: int) -> list[Row]:
    return [Row(f"+{phone}", line) for line, phone in enumerate(phones, 1)]


def states(journal: JournalReader) -> dict[str, str]:
    return {recipient.number[1:]: recipient.state for _, recipient in journal.recipients(None, 0)}


def finish(journal: SQLiteJournal, state: RecipientState, batch: int = 10) -> None:
    taken = journal.claim(batch)
    assert taken is not None
    marks = [RecipientResult(state, f"id-{phone}", "why") for phone in taken.phones]
    journal.finish(taken, marks, accepted=len(marks), credits_used=Decimal("0.1"), error=None)


@pytest.mark.parametrize("field", ["text", "subject", "image"])
def test_another_message_is_refused(path: Path, field: str) -> None:
    opened(path).close()
    before = path.read_bytes()
    other: bytes | str = b"other" if field == "image" else "other"
    with pytest.raises(JournalMismatchError, match=f"another {field}; use a new file"):
        opened(path, message=evolve(MESSAGE, **{field: other}))  # type: ignore[arg-type]
    assert path.read_bytes() == before
    opened(path).close()


def test_a_second_campaign_of_this_process_is_refused(path: Path, tmp_path: Path) -> None:
    first = opened(path)
    (tmp_path / "link.db").symlink_to(path)
    for name in (path, tmp_path / "link.db"):
        with pytest.raises(JournalBusyError, match="a campaign is being sent with it"):
            opened(name)
    first.close()
    opened(path).close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.db", "spring.db"]


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
async def test_a_second_campaign_is_refused_also_where_the_lock_file_is_removed(path: Path) -> None:
    first = opened(path)
    first.add(check_all(listing(ONE, TWO)))
    first.claim(1)
    Path(f"{path}-lock").unlink()  # noqa: ASYNC240
    for use in (opened, settle_journal):
        with pytest.raises(JournalBusyError, match="a campaign is being sent with it"):
            use(path)
    assert (await read_status(path)).activity is Activity.WAITING
    assert states(first.reader) == {str(ONE): "sending", str(TWO): "pending"}
    first.close()
    opened(path).close()
    assert os.listdir(path.parent) == ["spring.db"]


HOLD = """
import sys
from mmsclient._store.models import Message
from mmsclient._store.sqlite_opening import open_journal
journal = open_journal(sys.argv[1], Message("Hi", "Sale", b"GIF89a"))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the journal open."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


async def test_a_second_process_is_refused_until_the_first_is_gone(path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(JournalBusyError):
        opened(path)
    assert (await read_report(path)).total == 0  # reading is allowed
    holder.kill()
    holder.wait()
    opened(path).close()


def foreign_database(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t (x)")
    database.close()


def newer(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


def torn(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def scribbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_text("number\n+61400000000\n" * 100), "no journal"),
        (foreign_database, "no journal"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"SQLite format 3\0"), "no journal"),
        (newer, "version 99"),
        (torn, "damaged"),
        (scribbled, "damaged"),
    ],
    ids=["text", "database", "empty", "header", "newer", "torn", "scribbled"],
)
def test_a_file_that_is_no_journal_is_left_as_it_is(path: Path, spoil: object, said: str) -> None:
    assert callable(spoil)
    if spoil in (newer, torn, scribbled):
        journal = opened(path)
        journal.add(check_all(listing(*range(ONE, ONE + 5000))))
        journal.close()
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=said) as caught:
        opened(path)
    assert type(caught.value) is JournalError
    with pytest.raises(JournalError, match=said):
        open_copy(path, MESSAGE, resend_unknown=False).close() if before else opened(path)
    assert path.read_bytes() == before
    assert not Path(f"{path}-lock").exists()


def test_a_folder_and_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="directory"):
        opened(tmp_path)
    with pytest.raises(JournalError, match="lock file cannot be made"):
        opened(tmp_path / "nowhere" / "spring.db")


def test_a_journal_that_is_gone_but_for_its_log(path: Path) -> None:
    journal = opened(path)
    journal.add(check_all(listing(ONE)))
    path.unlink()
    with pytest.raises(JournalBusyError):
        opened(path)
    log = Path(f"{path}-wal")
    kept = log.read_bytes()
    journal.close()
    log.write_bytes(kept)
    with pytest.raises(JournalError, match="put it back, or remove that too"):
        opened(path)
    assert not path.exists()
    log.unlink()
    opened(path).close()


KILLED_WHILE_IT_WRITES = """
import os, sqlite3
database = sqlite3.connect({!r}, isolation_level=None)
for each in ("PRAGMA journal_mode = DELETE", "PRAGMA cache_size = 2", "BEGIN"):
    database.execute(each)
database.execute("UPDATE recipient SET reason = hex(randomblob(40))")
os._exit(0)
"""
"""It leaves a part of the change in the file, and in its rollback journal what was there before."""


def test_a_rollback_journal_that_outlived_its_file_is_not_rolled_into_a_new_one(path: Path) -> None:
    """It would make those of the old file's recipients whom it names recipients of the new message, as sent to."""
    journal = opened(path)
    journal.add(check_all(listing(*range(ONE, ONE + 3000))))
    journal.close()
    elsewhere(KILLED_WHILE_IT_WRITES.format(str(path)))
    path.unlink()
    with pytest.raises(JournalError, match=r"spring\.db-journal, a part of it, is there; put it back"):
        opened(path, message=evolve(MESSAGE, text="other"))
    assert not path.exists()
    Path(f"{path}-journal").unlink()
    opened(path).close()


def test_the_making_of_a_journal_is_all_or_nothing(path: Path, tmp_path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        (tmp_path / f".spring.db.mmsclient-draft{ending}").write_bytes(b"of a process that died while it made one")
    opened(path).close()
    assert [each.name for each in tmp_path.iterdir()] == ["spring.db"]


def test_a_draft_that_is_not_finished_is_not_left_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(JournalError, match=r"cannot be made \(No space left"):
        opened(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("ending", ["-new", "-new-wal", "-new-shm"])
def test_the_making_of_a_journal_leaves_the_files_of_others(path: Path, ending: str) -> None:
    other = path.with_name(f"spring.db{ending}")
    journal = opened(other)
    journal.add(check_all(listing(ONE, TWO)))
    finish(journal, RecipientState.ACCEPTED)
    journal.close()
    opened(path, message=evolve(MESSAGE, text="other")).close()
    again = opened(other)
    assert states(again.reader) == {str(ONE): "accepted", str(TWO): "accepted"}
    again.close()


def test_a_journal_that_has_the_name_of_a_lock_is_left_as_it_is(path: Path) -> None:
    opened(path.with_name("spring.db-lock")).close()
    with pytest.raises(JournalError, match=r"lock file cannot be made \(a file that is no lock has its name"):
        opened(path)
    opened(path.with_name("spring.db-lock")).close()


def test_a_journal_that_was_not_closed_keeps_all_that_was_committed(path: Path, tmp_path: Path) -> None:
    """The files as a crash leaves them: the log holds what the database does not yet."""
    journal = opened(path)
    journal.add(check_all(listing(ONE, TWO)))
    finish(journal, RecipientState.ACCEPTED, 1)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", crashed)
    journal.close()
    again = opened(crashed / path.name)
    assert states(again.reader) == {str(ONE): "accepted", str(TWO): "pending"}
    again.close()


def test_a_journal_whose_process_was_killed_at_a_checkpoint_is_not_damaged(path: Path, tmp_path: Path) -> None:
    journal = opened(path)
    journal.add(check_all(listing(*range(ONE, ONE + 1000))))
    crashed = killed_at_its_checkpoint(path, tmp_path / "crashed")
    journal.close()
    again = opened(crashed)
    assert set(states(again.reader)) == {str(phone) for phone in range(ONE, ONE + 1000)}
    again.close()


def test_every_commit_reaches_the_disk(path: Path) -> None:
    journal = opened(path)
    assert journal._database.rows("PRAGMA synchronous") == [(2,)]  # FULL
    assert journal._database.rows("PRAGMA journal_mode") == [("wal",)]
    journal.close()


def test_a_rehearsal_writes_nothing(path: Path) -> None:
    journal = opened(path)
    journal.add(check_all(listing(ONE, TWO)))
    journal.claim(1)
    journal.close()
    before = path.read_bytes()
    rehearsal = open_copy(path, MESSAGE, resend_unknown=False)
    rehearsal.add(check_all(listing(ONE, TWO, THREE)))
    assert rehearsal.ready == 2
    rehearsal.close()
    assert path.read_bytes() == before
    with pytest.raises(JournalMismatchError):
        open_copy(path, evolve(MESSAGE, text="other"), resend_unknown=False)


def test_errors_are_one_line_and_can_be_pickled(path: Path) -> None:
    journal = opened(None)
    journal.add(check_all(listing(ONE)))
    report = report_from(journal.reader, None)
    journal.close()
    cause = InsufficientCreditError("no credit", call="send-mms")
    for error in (
        JournalError("a\nb", "c\nd"),
        JournalBusyError(path, "busy"),
        JournalMismatchError(path, "other"),
        CampaignStoppedError(cause, report, "at once"),
    ):
        twin = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(twin), str(twin)) == (type(error), str(error))
        assert len(str(error).splitlines()) == 1
    assert str(cause) in str(error)
    assert twin.report == report
    assert "1 pending" in str(error)


def elsewhere(code: str) -> None:
    """Run `code` in another process."""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


def test_opening_a_journal_that_this_process_reads_leaves_the_locks_of_that(path: Path) -> None:
    """Whoever closes a file loses all locks on it. Another process would then remove the log that is written here."""
    journal = opened(path)
    journal.add(check_all(listing(*range(ONE, ONE + 10))))
    reader = SQLiteReader.open(path)
    reader.summary()
    journal.close()
    journal = opened(path)
    reader.close()
    elsewhere(
        "from mmsclient import DeliveryStatus;"
        "from mmsclient._store.heard import Reported;"
        "from mmsclient._store.sqlite_recorder import SQLiteRecorder;"
        f"journal = SQLiteRecorder.open({str(path)!r});"
        "journal.record([Reported('A', 0, DeliveryStatus.DELIVERED)]); journal.close()"
    )
    taken = journal.claim(4)
    assert taken is not None
    elsewhere(
        "from mmsclient._store.sqlite_reader import SQLiteReader;"
        f"counts = SQLiteReader.open({str(path)!r}).summary().counts;"
        "assert counts['sending'] == 4, 'what was committed is not in the file'"
    )
    journal.close()


@pytest.mark.parametrize("name", ["spring.db", "spring.db-wal"])
def test_nothing_is_claimed_once_a_part_of_the_journal_is_gone(path: Path, name: str) -> None:
    journal = opened(path)
    journal.add(check_all(listing(ONE, TWO)))
    assert journal.claim(1) is not None
    path.with_name(name).unlink()
    with pytest.raises(JournalError, match=f"{name} was removed or replaced"):
        journal.claim(1)
    journal.close()


def test_commits_pass_the_caches_of_a_disk(path: Path) -> None:
    """A disk of a Mac keeps them in its own otherwise. Other systems take the same setting for nothing."""
    journal = opened(path)
    for setting, value in (("synchronous", 2), ("fullfsync", 1), ("checkpoint_fullfsync", 1)):
        assert journal._database.rows(f"PRAGMA {setting}") == [(value,)], setting
    journal.close()
