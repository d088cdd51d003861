"""Locks end with the process that took them, whatever it has forked meanwhile."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mmsclient._store.file_lock import DatabaseLock, FileLock, is_database_held

FORKS = """
import os, sys, time
from pathlib import Path
from mmsclient._store.file_lock import FileLock

lock = FileLock(Path(sys.argv[1]))
if not os.fork():
    if sys.argv[2] == "releases":
        lock.release()
    print(os.getpid(), flush=True)
time.sleep(60)
os._exit(0)
"""


def test_a_lock_is_held_once_and_its_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    with pytest.raises(BlockingIOError):
        FileLock(path)
    lock.release()
    assert not path.exists()
    again = FileLock(path)
    lock.release()  # a second time, which is nothing to do with the other one
    with pytest.raises(BlockingIOError):
        FileLock(path)
    again.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("what_it_does", ["releases", "nothing"])
def test_a_fork_neither_keeps_a_lock_nor_releases_it(tmp_path: Path, what_it_does: str) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", FORKS, str(path), what_it_does]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        fork = int(parent.stdout.readline())
        try:
            with pytest.raises(BlockingIOError):
                FileLock(path)
            parent.kill()
            parent.wait()
            FileLock(path).release()
        finally:
            os.kill(fork, signal.SIGKILL)


# A database and its log -----------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")


def logged(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=0)
    database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (1)")
    return database


def elsewhere(path: Path, *statements: str) -> list[str]:
    """The last column of what each statement says in another process, or its error."""
    command = [sys.executable, "-c", RUNS, str(path), *statements]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()  # noqa: S603


RUNS = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
for statement in sys.argv[2:]:
    try:
        print(*(row[-1] for row in database.execute(statement)))
    except sqlite3.Error as error:
        print(error)
database.close()
"""


@posix
def test_a_database_whose_lock_file_is_removed_is_held_by_its_log(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    lock = DatabaseLock(path, "-lock")
    with closing(logged(path)):
        lock.hold_log()
        Path(f"{path}-lock").unlink()
        assert is_database_held(path, "-lock")
        with pytest.raises(BlockingIOError):
            DatabaseLock(path, "-lock")
        assert not Path(f"{path}-lock").exists()
        lock.release()
        assert not is_database_held(path, "-lock")
        again = DatabaseLock(path, "-lock")
        again.hold_log()
        again.release()
        assert Path(f"{path}-wal").exists()
    lock.release()


@posix
def test_sqlite_minds_no_lock_on_its_log(tmp_path: Path) -> None:
    """It writes, starts the log anew, reads, and takes it away with the last connection."""
    path = tmp_path / "a.db"
    lock = DatabaseLock(path, "-lock")
    database = logged(path)
    lock.hold_log()
    insert, count = "INSERT INTO t VALUES (2)", "SELECT count(*) FROM t"
    checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
    assert elsewhere(path, insert, checkpoint, insert, count) == ["", "0", "", "3"]
    assert database.execute(checkpoint).fetchone() == (0, 0, 0)
    assert Path(f"{path}-wal").stat().st_size == 0
    database.execute(insert)
    assert elsewhere(path, count) == ["4"]
    database.close()
    assert not Path(f"{path}-wal").exists()
    assert elsewhere(path, insert, count, "PRAGMA journal_mode = DELETE") == ["", "5", "delete"]
    lock.release()


@posix
def test_a_lock_on_the_log_leaves_those_of_sqlite(tmp_path: Path) -> None:
    """Whoever closes a file loses all locks of SQLite's kind on it; on its log SQLite has none."""
    path = tmp_path / "a.db"
    lock = DatabaseLock(path, "-lock")
    with closing(logged(path)) as database:
        database.execute("BEGIN IMMEDIATE")
        lock.hold_log()
        assert is_database_held(path, "-lock")
        lock.release()
        DatabaseLock(path, "-lock").release()
        assert elsewhere(path, "INSERT INTO t VALUES (2)") == ["database is locked"]
        database.execute("COMMIT")
        database.execute("BEGIN")
        database.execute("SELECT * FROM t").fetchall()
        lock = DatabaseLock(path, "-lock")
        lock.hold_log()
        lock.release()
        elsewhere(path, "INSERT INTO t VALUES (2)", "PRAGMA wal_checkpoint(TRUNCATE)")
        assert Path(f"{path}-wal").stat().st_size  # since it is read
        assert elsewhere(path, "PRAGMA journal_mode = DELETE") == ["database is locked"]
        assert database.execute("SELECT count(*) FROM t").fetchone() == (1,)
