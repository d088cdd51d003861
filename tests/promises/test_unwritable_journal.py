"""Journals that cannot be written for a while, or for good: locked by another program, on a disk that is full."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from mmsclient import AsyncMMSClient, InsufficientCreditError
from mmsclient._store.models import ListEntry, Message
from mmsclient._store.sqlite_opening import open_journal
from mmsclient.bulk import (
    Batch,
    JournalError,
    JournalUnavailableError,
    RecipientState,
    Sending,
    read_report,
)
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.recorder import Recorder
from mmsclient.limiter import NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject
from tests.conftest import PNG, until
from tests.support.campaigns import agrees, campaign, finished, numbers
from tests.support.held import Held

pytestmark = pytest.mark.usefixtures("impatient")

LIST = numbers(500)
ACCEPTED, UNKNOWN, SENDING = (
    RecipientState.ACCEPTED,
    RecipientState.UNKNOWN,
    RecipientState.SENDING,
)


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit(), timeout=30) as mms:
        yield mms


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three calls under way are enough, however slow the machine is."""
    monkeypatch.setattr("mmsclient.bulk.capacity.UNLIMITED", 1.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits 50 ms for a lock and not a minute."""
    monkeypatch.setattr("mmsclient._store.private_files.BUSY", 0.05)
    monkeypatch.setattr("mmsclient.bulk.recorder.WRITE_AGAIN", 0.01)


@pytest.fixture
def soon(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside that, an end is kept for half a second and not two minutes."""
    monkeypatch.setattr("mmsclient.bulk.recorder.KEPT", 0.5)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection is writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@contextmanager
def disk_full(path: Path) -> Iterator[None]:
    """No file of this process grows beyond the journal's log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name(f"{path.name}-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


TROUBLES = [locked, disk_full]


async def under_way(api: Sandbox, sending: Sending) -> Held:
    """Some batches were recorded, and the window's were carried out by the server, which answers when it is told to."""
    for _ in range(4):
        await anext(sending)
    api.faults.add(held := Held(), call="send-mms")
    await until(
        lambda: sum(arrival.status is None for arrival in api.arrivals) == 3 and len(api.sends) == api.calls["send-mms"]
    )
    return held


async def left_of(sending: Sending) -> tuple[list[Batch], Exception | None]:
    batches: list[Batch] = []
    try:
        async for batch in sending:
            batches.append(batch)  # noqa: PERF401
    except Exception as error:
        return batches, error
    return batches, None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_known_ends_are_kept_and_recorded_later_and_nothing_new_starts_meanwhile(
    api: Sandbox, mms: AsyncMMSClient, path: Path, caplog: pytest.LogCaptureFixture, trouble: type
) -> None:
    sending = campaign(mms, path, batch_size=25).send(LIST)
    held = await under_way(api, sending)
    with trouble(path):
        held.answer.set()
        sends = len(api.sends)
        await until(lambda: caplog.text.count("kept, and written later") == 3)
    assert len(api.sends) == sends
    batches, error = await left_of(sending)
    assert error is None
    report = await read_report(path)
    assert report.counts[SENDING] == report.counts[UNKNOWN] == 0
    assert all(batch.accepted == 25 for batch in batches)
    await agrees(report, api, LIST)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_ends_that_cannot_be_recorded_at_all_are_told(
    api: Sandbox, mms: AsyncMMSClient, path: Path, caplog: pytest.LogCaptureFixture, trouble: type
) -> None:
    sending = campaign(mms, path, batch_size=25).send(LIST)
    held = await under_way(api, sending)
    with trouble(path):
        held.answer.set()
        batches, error = await left_of(sending)
    assert isinstance(error, JournalUnavailableError)
    sent = len(api.sends)
    told = {batch.number: batch.accepted for batch in batches}
    report = await read_report(path)
    lost = {recipient.batch async for recipient in report.recipients(SENDING)}
    assert len(lost) == 3
    for number in lost:
        assert number is not None
        assert told[number] == 25
        assert f"batch {number} (25 of 25 recipients accepted)" in error.problem
        assert f"not recorded: batch {number} (25 of 25 recipients accepted)" in caplog.text
    assert report.counts[ACCEPTED] == 25 * (sent - len(lost))
    again = await finished(mms, path, LIST)
    assert again.counts[UNKNOWN] == 25 * len(lost)
    await agrees(again, api, LIST)


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the client that nobody closes
@pytest.mark.parametrize("is_over", [True, False])
def test_a_loop_that_ends_meanwhile_records_the_ends_or_tells_them(
    api: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    class Telling(logging.Handler):  # and not pytest's, which keeps the errors, and with them the client
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    told: list[str] = []
    log = logging.Logger("of this test")  # noqa: LOG001 - it has no parent
    log.addHandler(Telling())
    monkeypatch.setattr("mmsclient.bulk.recorder.log", log)

    async def main(trouble: ExitStack) -> None:
        sending = campaign(api.client(limiter=NoLimit()), path, batch_size=25).send(LIST)
        held = await under_way(api, sending)
        trouble.enter_context(locked(path))
        held.answer.set()
        await until(lambda: "".join(told).count("kept, and written later") == 3)
        if is_over:
            trouble.close()

    with ExitStack() as trouble:
        asyncio.run(main(trouble))
    gc.collect()
    assert "".join(told).count("(25 of 25 recipients accepted)") == (0 if is_over else 3)
    counts = asyncio.run(read_report(path)).counts
    assert counts[SENDING] == (0 if is_over else 75)
    assert counts[ACCEPTED] + counts[SENDING] == 25 * len(api.sends)


@pytest.mark.usefixtures("quick")
async def test_what_is_given_back_as_the_loop_ends_does_not_hold_it_up(path: Path) -> None:
    thread = await JournalThread.open(lambda: open_journal(path, Message("Hi", "", PNG)), str(path))
    await thread.run(lambda: thread.journal.add([ListEntry(1, "+61400000000", 61400000000)]))
    recorder = Recorder(thread, asyncio.Event())
    claim = await recorder.claim(lambda journal: journal.claim(1))
    assert claim is not None

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await recorder.release(claim)

    calling = asyncio.create_task(call())
    await asyncio.sleep(0)
    with locked(path):
        calling.cancel()
        done, _ = await asyncio.wait([calling], timeout=30)
    assert done
    with pytest.raises(JournalUnavailableError):
        await calling
    assert recorder.unrecorded is not None
    assert "it never left" in recorder.unrecorded.ends[0]
    await thread.close()


@pytest.mark.usefixtures("soon")
async def test_an_error_of_the_journal_says_what_had_stopped_the_campaign(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    sending = campaign(mms, path, batch_size=25).send(LIST)
    before = await under_way(api, sending)
    api.faults.clear()
    api.faults.add(held := Held(), call="send-mms", times=1)
    api.faults.add(Reject("LEDGER_ERROR", "No credit.", 400), call="send-mms", skip=1, times=1)
    before.answer.set()
    while not isinstance((await anext(sending)).error, InsufficientCreditError):
        pass
    with locked(path):
        held.answer.set()
        batches, error = await left_of(sending)
    assert isinstance(error, JournalUnavailableError)
    assert "25 of 25 recipients accepted" in error.problem
    assert "the campaign had stopped because every other call would fail alike: send-mms: No credit." in error.problem
    assert {batch.accepted for batch in batches} == {25}


@pytest.mark.parametrize("met", ["claims and ends", "its opening"])
async def test_a_lock_of_seven_seconds_costs_nothing_but_time(api: Sandbox, path: Path, met: str) -> None:
    """SQLite's own wait is five."""
    async with api.client(rate=15) as mms:
        if met == "its opening":
            await finished(mms, path, LIST[:100])
        sending = campaign(mms, path, batch_size=25, max_concurrency=3).send(LIST)
        if met == "claims and ends":
            for _ in range(4):
                await anext(sending)
        with locked(path):
            ending = asyncio.ensure_future(left_of(sending))
            await asyncio.sleep(7)  # the wait is what is tested
        _, error = await ending
    assert error is None
    report = await read_report(path)
    assert report.counts[ACCEPTED] == 500
    await agrees(report, api, LIST)


RECORDERS = """
import sys, threading
from mmsclient import DeliveryStatus
from mmsclient._store.heard import Reported
from mmsclient._store.sqlite_recorder import SQLiteRecorder

def record(number):
    while not over.is_set():
        journal = SQLiteRecorder.open(sys.argv[1])
        journal.record([Reported(f"{number}", 0, DeliveryStatus.DELIVERED)])
        journal.close()

over = threading.Event()
threads = [threading.Thread(target=record, args=(number,)) for number in range(16)]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.read()
over.set()
"""


@pytest.mark.parametrize("met", ["claims and ends", "its opening"])
async def test_thirty_two_recorders_beside_a_campaign(api: Sandbox, mms: AsyncMMSClient, path: Path, met: str) -> None:
    """In two processes, without a pause: the campaign goes on, and no recorder meets a lock for long."""
    if met == "its opening":
        await finished(mms, path, LIST[:100])
    listed = LIST[:250]
    sending = campaign(mms, path, batch_size=25).send(listed)
    if met == "claims and ends":
        await anext(sending)
    command = [sys.executable, "-c", RECORDERS, str(path)]
    children = [
        await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert await child.stdout.readline() == b"ready\n"
        _, error = await left_of(sending)
        outcomes = [await asyncio.wait_for(child.communicate(b""), 60) for child in children]
    finally:
        for child in children:
            with suppress(ProcessLookupError):
                child.kill()
    assert error is None
    assert [err for _, err in outcomes] == [b""] * 2
    assert [child.returncode for child in children] == [0] * 2
    report = await read_report(path)
    assert report.counts[ACCEPTED] == 250
    await agrees(report, api, listed)


async def test_a_stop_of_which_no_report_can_be_read_is_an_error_of_the_journal(
    api: Sandbox, mms: AsyncMMSClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr("mmsclient.bulk.runner.report_from", damaged)
    api.faults.add(Reject("LEDGER_ERROR", "No credit.", 400), call="send-mms")
    with pytest.raises(JournalError, match=r"damaged.*; the campaign had stopped .*: send-mms: No credit\."):
        await finished(mms, path, LIST)
