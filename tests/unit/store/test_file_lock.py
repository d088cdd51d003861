"""Locks end with the process that took them, whatever it has forked meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmsclient._store.file_lock import FileLock

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
