"""Keyed sends with a ledger in PostgreSQL: processes that are killed or frozen, and a database that is away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from mmsclient import AsyncMMSClient, LedgerUnavailableError, NotSentError, OutcomeUnknownError, SendInProgressError
from mmsclient._keyed import sends
from mmsclient._store.postgres import database as databases
from mmsclient._store.postgres import lease as leases
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from tests.conftest import until
from tests.support.held import Held
from tests.support.keyed import CHILD, Closed, Tables, process, send
from tests.support.postgres_server import PASSWORD, Server

pytestmark = pytest.mark.usefixtures("impatient")

ONE, TWO = "+61400000000", "+61400000001"
KEY = "order-17"

SHORT = "from mmsclient._store.postgres import lease\nlease.LEASE = 1.0\n"
"""Let a child's lease be one of a second."""


@pytest.fixture
def api() -> Iterator[Sandbox]:
    with Sandbox(rate=None) as sandbox:
        yield sandbox


@pytest.fixture
def tables(postgres: Server) -> Tables:
    return Tables(postgres.new_database("synchronous_commit = off"))


@pytest.fixture
async def mms(api: Sandbox, tables: Tables) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, ledger=tables.at, timeout=60) as mms:
        yield mms


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "TRY_AGAIN", 0.02)
    monkeypatch.setattr(sends, "WRITE_AGAIN", 0.05)


async def test_what_a_killed_process_was_sending_is_unknown_once_its_lease_has_run_out(
    mms: AsyncMMSClient, api: Sandbox, tables: Tables
) -> None:
    """Whoever waits for it is told so, and so is whoever asks later."""
    api.faults.add(Latency(60, carried_out=True), call="send-mms")
    keys = ("00000007", "00000008")
    with process(api, tables.at, *keys, script=SHORT + CHILD) as child:
        await until(lambda: len(api.sends) == 2)
        with pytest.raises(SendInProgressError):
            await send(mms, keys[0], "+61400000007", timeout=0.2)
        waiting = asyncio.create_task(send(mms, keys[0], "+61400000007"))
        child.kill()
        child.wait()
        with pytest.raises(OutcomeUnknownError, match="the process that sent it ended"):
            await waiting
        with pytest.raises(OutcomeUnknownError, match="the process that sent it ended"):
            await send(mms, keys[1], "+61400000008")
    assert len(api.sends) == 2
    assert tables.states() == dict.fromkeys(keys, "unknown")


async def test_a_frozen_process_starts_nothing_when_it_wakes_and_its_late_answer_counts(
    mms: AsyncMMSClient, api: Sandbox, tables: Tables
) -> None:
    """One call is under way when it is frozen, and one is claimed and waits for its turn, which has come then."""
    held = Held()
    api.faults.add(held, call="send-mms")
    script = SHORT + CHILD.replace("rate=None", "rate=None, max_in_flight=1, timeout=60")
    keys = ("00000007", "00000008")
    with process(api, tables.at, *keys, script=script) as child:
        await until(lambda: api.sends and len(tables.states()) == 2)
        child.send_signal(signal.SIGSTOP)
        for key in keys:
            with pytest.raises(OutcomeUnknownError, match="the process that sent it ended"):
                await send(mms, key, f"+614{key}")
        assert tables.states() == dict.fromkeys(keys, "unknown")
        held.answer.set()
        await until(lambda: api.arrivals[0].status is not None)
        child.send_signal(signal.SIGCONT)
        assert child.stdout is not None
        said = await asyncio.to_thread(child.stdout.read)
        assert child.wait() == 0
    assert sorted(said.split("\n")[:2]) == ["00000007 1", "00000008 NotSentError"]
    assert len(api.sends) == 1
    assert tables.states() == {"00000007": "accepted", "00000008": "failed"}
    assert (await send(mms, "00000007", "+61400000007")).repeated
    assert not (await send(mms, "00000008", "+61400000008")).repeated
    assert [api.carried_out(f"+614{key}") for key in keys] == [1, 1]


@pytest.mark.usefixtures("quick")
async def test_a_database_that_is_away_sends_nothing_new_and_takes_the_ends_when_it_is_back(
    mms: AsyncMMSClient, api: Sandbox, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    api.faults.add(held, call="send-mms")
    sending = asyncio.create_task(send(mms, KEY, ONE))
    await until(lambda: api.sends)
    postgres.stop("immediate")
    try:
        with pytest.raises(LedgerUnavailableError, match="nothing was sent") as caught:
            await send(mms, "another", TWO)
        held.answer.set()
        await until(lambda: "is kept, and written later" in caplog.text)
        assert not sending.done()
    finally:
        postgres.start()
    assert (await sending).accepted == 1
    assert (await send(mms, KEY, ONE)).repeated
    assert (await send(mms, "another", TWO)).accepted == 1
    assert (api.carried_out(ONE), api.carried_out(TWO)) == (1, 1)
    assert PASSWORD not in f"{caught.value!r}{caplog.text}"


@pytest.mark.usefixtures("quick")
async def test_a_claimed_call_does_not_leave_once_its_lease_may_have_run_out(
    api: Sandbox, tables: Tables, postgres: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = Closed()
    async with api.client(limiter=limiter, ledger=tables.at) as mms:
        with monkeypatch.context() as patch:
            patch.setattr(leases, "LEASE", 2.0)
            sending = asyncio.create_task(send(mms, KEY, ONE))
            await limiter.asked.wait()
        assert mms._keyed is not None
        ledger, (under_way,) = mms._keyed._ledger, mms._keyed._under_way.values()
        await until(lambda: ledger.may_leave(under_way.claim))
        postgres.stop()
        try:
            await until(lambda: not ledger.may_leave(under_way.claim))
            limiter.open.set()
            await until(lambda: "is kept, and written later" in caplog.text)
            assert not api.calls["send-mms"]
        finally:
            postgres.start()
        with pytest.raises(NotSentError, match="lease"):
            await sending
        assert not (await send(mms, KEY, ONE)).repeated
    assert api.carried_out(ONE) == 1


async def test_clients_of_one_database_but_other_schemas_know_nothing_of_each_other(
    api: Sandbox, mms: AsyncMMSClient, tables: Tables
) -> None:
    other = Tables(tables.url, "elsewhere")
    async with api.client(rate=None, ledger=other.at) as there:
        await send(mms, KEY, ONE)
        await send(there, KEY, ONE)
    assert api.carried_out(ONE) == 2
    assert tables.states() == other.states() == {KEY: "accepted"}
