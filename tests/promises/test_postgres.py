"""Campaigns in PostgreSQL: senders in processes of their own that are killed or frozen, and a server that crashes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from mmsclient import AsyncMMSClient
from mmsclient._store.models import Message, RecipientResult
from mmsclient._store.postgres import database as databases
from mmsclient._store.postgres import lease as leases
from mmsclient._store.stores import store_at
from mmsclient.bulk import (
    Campaign,
    JournalBusyError,
    JournalUnavailableError,
    RecipientState,
    Report,
    Row,
    read_report,
)
from mmsclient.bulk.brake import MOST
from mmsclient.bulk.recipients import check_all
from mmsclient.limiter import NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from tests.conftest import PNG, until
from tests.support.campaigns import agrees, numbers
from tests.support.held import Held
from tests.support.postgres_server import PASSWORD, Server

pytestmark = pytest.mark.usefixtures("impatient", "short")

LIST = numbers(1000)
ACCEPTED, UNKNOWN, SENDING, PENDING = (
    RecipientState.ACCEPTED,
    RecipientState.UNKNOWN,
    RecipientState.SENDING,
    RecipientState.PENDING,
)
LEASE = 1.0


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of a second."""
    monkeypatch.setattr(leases, "LEASE", LEASE)
    monkeypatch.setattr(databases, "TRY_AGAIN", 0.02)
    monkeypatch.setattr("mmsclient.bulk.preparation.LOOK_AGAIN", 0.1)


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit(), timeout=30) as mms:
        yield mms


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database("synchronous_commit = off")


def spring(mms: AsyncMMSClient, url: str, batch_size: int = 25) -> Campaign:
    return mms.campaign(text="Sale", image=PNG, journal=url, name="spring", batch_size=batch_size, stop_after=10**6)


@contextmanager
def another(api: Sandbox, url: str, *, rate: float = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A sender of the same campaign in a process of its own. Its first line on stdout: its list is being sent."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.promises.test_postgres",
        api.url,
        api.app_key,
        url,
        str(rate),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # noqa: S603
        try:
            yield child
        finally:
            child.kill()


def say(line: str) -> None:
    print(line, flush=True)


async def send(api_url: str, app_key: str, url: str, rate: float) -> None:
    """The child."""
    limits = {"rate": rate} if rate else {"limiter": NoLimit()}
    async with AsyncMMSClient(app_key, base_url=api_url, timeout=60, **limits) as mms:
        try:
            async for batch in spring(mms, url).send(LIST):
                say(f"batch {batch.number}")
        except JournalBusyError as busy:
            say(str(busy))


async def under_way(api: Sandbox) -> None:
    """Calls were carried out that the server has not answered."""
    await until(lambda: sum(arrival.status is None for arrival in api.arrivals) >= 3)


def answered(api: Sandbox) -> int:
    """Sends that have their answer."""
    return sum(arrival.status is not None for arrival in api.arrivals if arrival.call == "send-mms")


async def report_of(url: str) -> Report:
    return await read_report(url, "spring")


async def test_a_waiting_sender_takes_over_from_one_that_was_killed(
    api: Sandbox, mms: AsyncMMSClient, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    api.faults.add(Latency(0.5, carried_out=True), call="send-mms")
    with another(api, url) as child:
        assert child.stdout is not None
        await asyncio.to_thread(child.stdout.readline)
        waiting = asyncio.create_task(spring(mms, url).send_all(LIST))
        await until(lambda: "this one waits" in caplog.text)
        assert not waiting.done()
        sends = len(api.sends)
        await until(lambda: len(api.sends) > sends)  # the other one goes on
        child.kill()
        child.wait()
        report = await waiting
    assert "its sender is gone" in caplog.text
    assert f"process {child.pid}" in caplog.text
    assert PASSWORD not in caplog.text
    assert 0 < report.counts[UNKNOWN] <= 25 * MOST  # as many calls as the window may open to
    assert report.counts[ACCEPTED] + report.counts[UNKNOWN] == 1000
    await agrees(report, api, LIST)


async def test_a_waiting_sender_has_nothing_to_do_once_the_first_is_through(
    api: Sandbox, mms: AsyncMMSClient, url: str
) -> None:
    """Two that start at the same moment, and a third: one sends, and all end well."""
    with another(api, url) as one, another(api, url) as two:
        third = await spring(mms, url).send_all(LIST)
        for child in (one, two):
            _, err = await asyncio.to_thread(child.communicate)
            assert (child.returncode, err.replace(b"; this one waits", b"").count(b"Traceback")) == (0, 0)
    assert third.counts[ACCEPTED] == 1000
    twin = pickle.loads(pickle.dumps(third))  # noqa: S301
    assert PASSWORD.encode() not in pickle.dumps(third)
    assert PASSWORD not in repr(third)
    assert len([row async for row in twin.recipients(ACCEPTED)]) == 1000
    assert sum(len(send.recipients) for send in api.sends) == 1000
    await agrees(third, api, LIST)


async def test_who_waits_can_be_stopped(
    api: Sandbox, mms: AsyncMMSClient, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.add(Latency(60), call="send-mms")
    with another(api, url):
        await until(lambda: api.calls["send-mms"])
        sending = spring(mms, url).send(LIST)
        first = asyncio.create_task(anext(sending, None))
        await until(lambda: "this one waits" in caplog.text)
        await sending.aclose()
        assert await first is None
        assert api.calls["send-mms"] == 1


@pytest.mark.parametrize("rate", [0, 3])
async def test_a_frozen_sender_starts_nothing_when_it_wakes_and_its_late_answers_count(
    api: Sandbox, mms: AsyncMMSClient, url: str, rate: float
) -> None:
    """With a rate, calls that were claimed wait for their turn when it is frozen: their turn has come when it wakes."""
    api.faults.add(Latency(0.5, carried_out=True), call="send-mms")
    with another(api, url, rate=rate) as child:
        assert child.stdout is not None
        for _ in range(4):
            await asyncio.to_thread(child.stdout.readline)
        api.faults.add(held := Held(), call="send-mms")
        await until(lambda: len(api.sends) > answered(api))
        child.send_signal(signal.SIGSTOP)
        held.answer.set()
        sends = len(api.sends)
        await until(lambda: answered(api) >= len(api.sends))  # or half sent
        api.faults.clear()
        report = await spring(mms, url).send_all(LIST)
        assert report.counts[UNKNOWN] > 0
        calls = len(api.arrivals)
        assert calls > sends
        child.send_signal(signal.SIGCONT)
        out, err = await asyncio.to_thread(child.communicate)
    assert len(api.arrivals) - calls <= 1  # one may have been between its last look and its first byte
    assert b"another sender has taken it over" in out
    assert (child.returncode, err.count(b"Traceback")) == (0, 0)
    report = await report_of(url)
    assert report.counts[UNKNOWN] == report.counts[SENDING] == 0
    await agrees(report, api, LIST)
    report = await spring(mms, url).send_all(LIST)  # to those whose call the frozen one took back
    assert report.counts[ACCEPTED] == 1000
    await agrees(report, api, LIST)


@pytest.mark.parametrize("is_released", [False, True])
async def test_what_a_frozen_sender_takes_back_is_sent_by_the_one_that_has_taken_over(
    api: Sandbox, mms: AsyncMMSClient, url: str, monkeypatch: pytest.MonkeyPatch, is_released: bool
) -> None:
    """In the same run, though that has passed them by then."""
    with monkeypatch.context() as patch:
        patch.setattr(leases, "HEARTBEATS", 0.001)
        frozen = store_at(url, "spring").open(Message("Sale", "", PNG))
    frozen.add(check_all([Row(number, line) for line, number in enumerate(LIST[:100], 1)]))
    claim = frozen.claim(25)
    assert claim is not None
    api.faults.add(held := Held(), call="send-mms")
    sending = asyncio.create_task(spring(mms, url).send_all(LIST[:100]))
    await until(lambda: len(api.sends) == 1)
    if is_released:
        frozen.release(claim)
    else:
        failed = [RecipientResult(RecipientState.FAILED)] * 25
        frozen.finish(claim, failed, accepted=0, credits_used=None, error=None)
    frozen.close()
    held.answer.set()
    report = await sending
    assert report.counts[ACCEPTED] == 100
    await agrees(report, api, LIST[:100])


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_server_that_comes_back_costs_nothing_but_time(  # noqa: PLR0917
    api: Sandbox, mms: AsyncMMSClient, url: str, postgres: Server, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    sending = spring(mms, url).send(LIST)
    for _ in range(4):
        await anext(sending)
    api.faults.add(Latency(0.3, carried_out=True), call="send-mms")
    await under_way(api)
    postgres.stop(mode)
    try:
        await until(lambda: "tried again for" in caplog.text)
        await asyncio.sleep(LEASE)  # so long what it had claimed may leave yet
        await until(lambda: all(arrival.status is not None for arrival in api.arrivals))
        calls = len(api.arrivals)
        await asyncio.sleep(LEASE)
        assert len(api.arrivals) == calls
    finally:
        postgres.start()
    async for batch in sending:
        assert batch.accepted == 25
    assert "the database is back" in caplog.text
    assert PASSWORD not in caplog.text
    report = await report_of(url)
    assert report.counts[ACCEPTED] == 1000
    await agrees(report, api, LIST)


async def test_a_server_that_stays_away_ends_the_campaign_and_what_was_known_is_told(  # noqa: PLR0917
    api: Sandbox,
    mms: AsyncMMSClient,
    url: str,
    postgres: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("mmsclient._store.postgres.opening.AWAY", 0.2)
    monkeypatch.setattr("mmsclient.bulk.recorder.KEPT", 0.5)
    sending = spring(mms, url).send(LIST)
    for _ in range(4):
        await anext(sending)
    api.faults.add(Latency(0.3, carried_out=True), call="send-mms")
    await under_way(api)
    postgres.stop()
    try:
        with pytest.raises(JournalUnavailableError) as caught:
            async for _ in sending:
                pass
    finally:
        postgres.start()
    assert "25 of 25 recipients accepted" in caught.value.problem
    assert "not recorded, and unknown when it is resumed: batch " in caught.value.problem
    assert PASSWORD not in f"{caught.value!r}{caplog.text}"
    report = await spring(mms, url).send_all(LIST)
    assert report.counts[ACCEPTED] + report.counts[UNKNOWN] == 1000
    await agrees(report, api, LIST)


async def test_connections_that_are_cut_all_the_time(
    api: Sandbox, mms: AsyncMMSClient, url: str, postgres: Server
) -> None:
    """Between claims, in the middle of them, and after their commits."""
    over = threading.Event()

    def cut() -> None:
        """Whenever something was sent since the last time."""
        cut_at = -1
        while not over.wait(0.01):
            if len(api.sends) > cut_at:
                cut_at = len(api.sends)
                postgres.cut_connections()

    thread = threading.Thread(target=cut)
    sending = spring(mms, url, batch_size=10).send(LIST)
    await anext(sending)
    thread.start()
    try:
        async for batch in sending:
            assert batch.accepted == 10
    finally:
        over.set()
        thread.join()
    report = await report_of(url)
    assert report.counts[ACCEPTED] == 1000
    await agrees(report, api, LIST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("api_url")
    parser.add_argument("app_key")
    parser.add_argument("url")
    parser.add_argument("rate", type=float)
    asked = parser.parse_args()
    leases.LEASE = LEASE
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(send(asked.api_url, asked.app_key, asked.url, asked.rate))


if __name__ == "__main__":
    main()
