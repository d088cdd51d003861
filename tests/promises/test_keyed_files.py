"""Keyed sends with a ledger in a file: of another account, locked, removed, and processes that die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mmsclient import (
    AsyncMMSClient,
    ConfigurationError,
    InvalidRequestError,
    LedgerUnavailableError,
    OutcomeUnknownError,
    SendInProgressError,
)
from mmsclient._keyed import sends
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from tests.conftest import until
from tests.support.held import Held
from tests.support.keyed import CHILD, process, send

pytestmark = pytest.mark.usefixtures("impatient")

ONE, TWO = "+61400000000", "+61400000001"
KEY = "order-17"


@pytest.fixture
def api() -> Iterator[Sandbox]:
    with Sandbox(rate=None) as sandbox:
        yield sandbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sends.db"


def client(api: Sandbox, path: Path, **options: Any) -> AsyncMMSClient:
    return api.client(rate=None, ledger=path, **options)


@pytest.fixture
async def mms(api: Sandbox, path: Path) -> AsyncIterator[AsyncMMSClient]:
    async with client(api, path) as mms:
        yield mms


async def test_a_ledger_of_another_host_or_account_is_refused(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    await send(mms, KEY, ONE)
    with pytest.raises(ConfigurationError, match="this client calls http://localhost"):
        AsyncMMSClient(api.app_key, base_url="http://localhost/api", ledger=path)
    with pytest.raises(ConfigurationError, match="another APPKEY"):
        AsyncMMSClient("another-key", base_url=api.url, ledger=path)
    async with AsyncMMSClient("another-key", base_url=api.url, ledger=path, ledger_new_key=True) as changed:
        assert (await send(changed, KEY, ONE)).repeated
    with pytest.raises(ConfigurationError, match="another APPKEY"):
        client(api, path)


# Ledgers that cannot be used ------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsclient._store.sqlite_ledger_files.BUSY", 0.05)
    monkeypatch.setattr(sends, "WRITE_AGAIN", 0.01)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program is writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@pytest.mark.usefixtures("quick")
async def test_what_cannot_be_recorded_before_is_not_sent(mms: AsyncMMSClient, api: Sandbox, path: Path) -> None:
    with locked(path), pytest.raises(LedgerUnavailableError, match=r"locked.*nothing was sent"):
        await send(mms, KEY, ONE)
    await send(mms, "another", TWO)
    with locked(path):
        results = await asyncio.gather(*(send(mms, f"k{n}", ONE) for n in range(5)), return_exceptions=True)
    assert [type(each) for each in results] == [LedgerUnavailableError] * 5
    assert not api.carried_out(ONE)
    assert (await send(mms, KEY, ONE)).accepted == 1


@pytest.mark.usefixtures("quick")
async def test_an_end_that_cannot_be_written_is_written_later(
    mms: AsyncMMSClient, api: Sandbox, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.add(held := Held())
    sending = asyncio.create_task(send(mms, KEY, ONE))
    await until(lambda: api.sends)
    with locked(path):
        held.answer.set()
        await until(lambda: "is kept, and written later" in caplog.text)
        assert not sending.done()
    assert (await sending).accepted == 1
    assert (await send(mms, KEY, ONE)).repeated


@pytest.mark.usefixtures("quick")
async def test_an_end_that_can_never_be_written_is_told_and_unknown(
    mms: AsyncMMSClient, api: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sends, "KEPT", 0.1)
    api.faults.add(held := Held())
    sending = asyncio.create_task(send(mms, KEY, ONE))
    await until(lambda: api.sends)
    with locked(path):
        held.answer.set()
        assert (await sending).accepted == 1
        with pytest.raises(LedgerUnavailableError):  # after the last attempt to write the end has failed, too
            await send(mms, "another", ONE)
    assert "key 'order-17' is unknown from now on, but it ended accepted" in caplog.text
    with pytest.raises(OutcomeUnknownError):
        await send(mms, KEY, ONE)
    assert api.carried_out(ONE) == 1


async def test_a_ledger_that_is_removed_or_replaced_sends_nothing_more(
    mms: AsyncMMSClient, api: Sandbox, path: Path
) -> None:
    await send(mms, KEY, ONE)
    moved = path.rename(path.with_name("moved.db"))  # noqa: ASYNC240
    with pytest.raises(LedgerUnavailableError, match=r"sends\.db was removed or replaced"):
        await send(mms, KEY, ONE)
    path.write_bytes(b"")  # noqa: ASYNC240
    with pytest.raises(LedgerUnavailableError, match="removed or replaced"):
        await send(mms, "another", ONE)
    moved.rename(path)
    assert (await send(mms, KEY, ONE)).repeated
    assert api.carried_out(ONE) == 1


async def test_a_ledger_that_is_gone_before_the_first_send_is_not_made_anew(
    mms: AsyncMMSClient, api: Sandbox, path: Path
) -> None:
    path.unlink()  # noqa: ASYNC240
    with pytest.raises(LedgerUnavailableError, match="No such file"):
        await send(mms, KEY, ONE)
    assert not path.exists()  # noqa: ASYNC240
    assert not api.calls["send-mms"]


# Processes that die ---------------------------------------------------------------------------------------------------


async def test_what_a_killed_process_was_sending_is_unknown_at_once(
    mms: AsyncMMSClient, api: Sandbox, path: Path
) -> None:
    api.faults.add(Latency(30, carried_out=True))
    await send_nothing(mms)
    with process(api, str(path), "00000007", "00000008") as child:
        await until(lambda: len(api.sends) == 2)
        with pytest.raises(SendInProgressError):
            await send(mms, "00000007", "+61400000007", timeout=0.2)
        child.send_signal(signal.SIGKILL)
        child.wait()
        for key in ("00000007", "00000008"):
            with pytest.raises(OutcomeUnknownError, match="the process that sent it ended"):
                await send(mms, key, f"+614{key}")
    assert len(api.sends) == 2


async def send_nothing(mms: AsyncMMSClient) -> None:
    """Let the ledger be open before the others."""
    with contextlib.suppress(InvalidRequestError):
        await send(mms, "", ONE)


async def test_a_process_that_stands_still_lives(mms: AsyncMMSClient, api: Sandbox, path: Path) -> None:
    api.faults.add(held := Held(), times=1)
    with process(api, str(path), "00000007") as child:
        await until(lambda: api.sends)
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(SendInProgressError):
            await send(mms, "00000007", "+61400000007", timeout=0.2)
        child.send_signal(signal.SIGCONT)
        held.answer.set()
        assert (await send(mms, "00000007", "+61400000007")).repeated
        assert child.wait() == 0
    assert len(api.sends) == 1


async def test_a_sender_whose_lock_was_removed_is_taken_for_dead_and_its_late_answer_counts(
    mms: AsyncMMSClient, api: Sandbox, path: Path
) -> None:
    api.faults.add(held := Held())
    with process(api, str(path), "00000007") as child:
        await until(lambda: api.sends)
        for lock in path.parent.glob("sends.db-sender-*"):
            lock.unlink()
        with pytest.raises(OutcomeUnknownError):
            await send(mms, "00000007", "+61400000007")
        held.answer.set()
        assert child.wait() == 0
        assert (await send(mms, "00000007", "+61400000007")).repeated
    assert len(api.sends) == 1


FORK = """
async def fork():
    while not glob.glob(sys.argv[3] + "-sender-*"):
        await asyncio.sleep(0.01)
    warnings.simplefilter("ignore")  # of a fork beside threads
    if not (child := os.fork()):
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)

"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
async def test_a_fork_that_outlives_its_parent_does_not_keep_it_alive(
    mms: AsyncMMSClient, api: Sandbox, path: Path
) -> None:
    api.faults.add(Latency(30, carried_out=True))
    script = CHILD.replace("async def main", f"import glob, os, time, warnings\n{FORK}async def main")
    script = script.replace(
        "        async def one", "        forking = asyncio.create_task(fork())\n        async def one"
    )
    with process(api, str(path), "00000007", script=script) as parent:
        assert parent.stdout is not None
        fork = int(parent.stdout.readline())
        try:
            await until(lambda: api.sends)
            parent.kill()
            parent.wait()
            with pytest.raises(OutcomeUnknownError, match="the process that sent it ended"):
                await send(mms, "00000007", "+61400000007")
        finally:
            os.kill(fork, signal.SIGKILL)
