"""The thread of a store: its order, its end, and what finalizers do to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from mmsclient._store.worker_thread import WorkerThread


def test_in_order_and_closed_last() -> None:
    done: list[Any] = []
    worker = WorkerThread("some", lambda: done.append("closed"))
    futures = [worker.submit(lambda each=each: done.append(each)) for each in range(100)]  # type: ignore[misc]
    worker.end().result(60)
    worker.end().result(60)
    assert done == [*range(100), "closed"]
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="the thread some was ended"):
        worker.submit(lambda: None)


def test_what_is_raised_is_told() -> None:
    def fail() -> None:
        raise KeyError(threading.current_thread().name)

    worker = WorkerThread("some", fail)
    with pytest.raises(KeyError, match="some"):
        worker.submit(fail).result(60)
    assert worker.submit(lambda: 5).result(60) == 5
    with pytest.raises(KeyError):
        worker.end().result(60)


FORGOTTEN = """
import asyncio, gc, threading
from concurrent.futures.thread import _global_shutdown_lock
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.outbox.threads import StoreThread

class Store:
    def __init__(self):
        self.closed = threading.Event()
    def close(self):
        self.closed.set()

async def main():
    journal, store = Store(), Store()
    forgotten = [await JournalThread.open(lambda: journal, None), StoreThread(store, "", is_open=True)]
    with _global_shutdown_lock:
        forgotten.clear()
        gc.collect()
    print(journal.closed.wait(60), store.closed.wait(60))

asyncio.run(main())
"""


def test_one_that_is_forgotten_while_its_thread_is_within_a_lock_of_executors() -> None:
    """A finalizer runs wherever its thread is, also between two lines of an executor's `submit`."""
    command = [sys.executable, "-W", "error", "-c", FORGOTTEN]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)  # noqa: S603 - our own
    assert (done.stdout, done.stderr, done.returncode) == ("True True\n", "", 0)


CODE = """
import asyncio, os, sys
from mmsclient._store.models import ListEntry, Message
from mmsclient._store.sqlite_opening import open_journal
from mmsclient.bulk.journal_thread import JournalThread

async def main():
    thread = await JournalThread.open(lambda: open_journal(sys.argv[1], Message("Hi", "", b"GIF89a")), sys.argv[1])
    thread.submit(lambda: thread.journal.add([ListEntry(1, "+61400000000", 61400000000)])).add_done_callback(print)
    return thread

kept = asyncio.run(main())
if hasattr(os, "fork") and not (child := os.fork()):
    sys.exit()  # closes nothing of its parent's
elif hasattr(os, "fork"):
    os.waitpid(child, 0)
"""


def test_at_the_end_of_the_process_the_journal_is_closed(tmp_path: Any) -> None:
    path = tmp_path / "spring.db"
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-W", "error", "-c", CODE, str(path)], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert sorted(os.listdir(tmp_path)) == ["spring.db"]  # one file again: no log, no lock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_fork_is_told_that_the_thread_is_its_parents() -> None:
    code = """
import os
from mmsclient._store.worker_thread import WorkerThread

worker = WorkerThread("some")
worker.submit(print).result()
if child := os.fork():
    os.waitpid(child, 0)
    worker.end().result(60)
else:
    worker.end().result(60)
    try:
        worker.submit(print)
    except RuntimeError as error:
        print(error, flush=True)
"""
    # Python warns from 3.12 on that a fork has none of the threads, which is what this is about.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)  # noqa: S603
    assert (done.stderr, done.returncode) == ("", 0)
    assert "the thread some was ended, or is that of the process before a fork" in done.stdout


LEFT = """
import asyncio, threading
from mmsclient._store import group_commit, worker_thread

group_commit.LAST = worker_thread.LAST = 0.1

class Silent:
    shared_failures = ()
    def commit(self, writes):
        print("waits", flush=True)
        threading.Event().wait()
    def close(self):
        pass

async def main():
    commits, worker = group_commit.GroupCommit(Silent), worker_thread.WorkerThread("silent")
    commits.submit(1)
    worker.submit(threading.Event().wait)
    await asyncio.sleep(0)
    return commits, worker

left = asyncio.run(main())
"""


def test_a_process_ends_whose_stores_do_not_answer() -> None:
    command = [sys.executable, "-W", "error", "-c", LEFT]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)  # noqa: S603 - our own
    assert (done.stdout, done.stderr, done.returncode) == ("waits\n", "", 0)
