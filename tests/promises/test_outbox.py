"""The outbox: workers in processes of their own that are killed or frozen, and a database that goes away.

The full run: `python -m tests.promises.test_outbox --kills 60 --orders 6000`, and with `--sqlite`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from attrs import frozen

from mmsclient import AsyncMMSClient
from mmsclient._store.postgres import database as databases
from mmsclient._store.postgres import lease as leases
from mmsclient.limiter import NoLimit
from mmsclient.outbox import Outbox, OutboxResult, OutboxState, worker
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from tests.conftest import PNG, until
from tests.support.callbacks import reports_recorded
from tests.support.held import Held
from tests.support.postgres_server import PASSWORD, Server
from tests.support.waiting import until as soon

ACCEPTED, UNKNOWN = OutboxState.ACCEPTED, OutboxState.UNKNOWN
LEASE = 1.0
PATIENCE = 60.0
LONGEST = 600.0
"""Seconds that the last reports may take."""


@frozen
class Plan:
    """What a worker does."""

    url: str
    app_key: str
    store: str
    rate: float = 0.0
    """Calls a second, 0 for no limit."""

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that has begun, in a process of its own; killed at the end if need be."""
        arguments = [self.url, self.app_key, self.store, str(self.rate)]
        command = [sys.executable, "-W", "error", "-m", "tests.promises.test_outbox", "--worker", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # noqa: S603
            try:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
                yield child
            finally:
                child.kill()

    def client(self) -> AsyncMMSClient:
        limits = {"rate": self.rate} if self.rate else {"limiter": NoLimit()}
        return AsyncMMSClient(self.app_key, base_url=self.url, timeout=30, **limits)


def hurry() -> None:
    """A short lease, and looks that follow each other fast."""
    leases.LEASE = LEASE
    databases.TRY_AGAIN = 0.02
    worker.LOOK = 0.1


async def work(plan: Plan) -> None:
    """The child: it ends in good order on SIGTERM."""
    hurry()
    async with plan.client() as mms, Outbox(mms, plan.store, stop_after=10**6) as outbox:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, outbox.stop)
        print("ready", flush=True)
        await outbox.stopped()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE", LEASE)
    monkeypatch.setattr(databases, "TRY_AGAIN", 0.02)
    monkeypatch.setattr(worker, "LOOK", 0.1)
    monkeypatch.setattr(worker, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr("mmsclient.outbox.recorder.WRITE_AGAIN", 0.02)


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit(), timeout=30) as mms:
        yield mms


def phone_of(number: int) -> str:
    return f"+614{number:08}"


async def put(outbox: Outbox, number: int) -> None:
    """Every seventh order has an equal message."""
    await outbox.put(key=f"order-{number}", to=phone_of(number), text=f"Hi {number % 7}", image=PNG)


# Killed at random -----------------------------------------------------------------------------------------------------


@frozen
class Outcome:
    killed: int
    """Kills that met a living process."""
    unknown: int
    """Orders whose outcome nobody knew when all calls had ended, but for what reports had proven by then."""
    proven: int
    """Orders that reports proved."""


async def killed(plan: Plan, api: Sandbox, *, orders: int, kills: int, workers: int, seed: int) -> Outcome:
    """Workers are killed and others take their place, while orders come in; then one that lives ends the rest.

    Reports prove what had gone out of those that are unknown then, and the others are sent again.
    """
    rng = random.Random(seed)
    dead = 0
    async with plan.client() as mms, AsyncExitStack() as stack:
        outbox = Outbox(mms, plan.store)
        stack.push_async_callback(outbox.aclose)
        await stack.enter_async_context(reports_recorded(outbox, api))
        producing = asyncio.create_task(produce(outbox, orders))
        running = [stack.enter_context(plan.started()) for _ in range(workers)]
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(0, 0.4))
            victim = running.pop(0)
            victim.send_signal(signal.SIGKILL)
            dead += await asyncio.to_thread(victim.wait) == -signal.SIGKILL
            running.append(await asyncio.to_thread(lambda: stack.enter_context(plan.started())))
        await producing
        await _all_ended(outbox)
        for worker_ in running:
            worker_.terminate()
            await asyncio.to_thread(worker_.wait)
        await asyncio.to_thread(soon, lambda: api.callbacks_open == 0, LONGEST)
        assert api.callbacks_lost == []
        await outbox.reconcile()
        found = {order.key: order async for order in outbox.orders()}
        assert sorted(found) == sorted(f"order-{number}" for number in range(orders))  # none is lost
        unknown = nobody_who_got_it_is_unknown(api, [found[f"order-{number}"] for number in range(orders)])
        for order in unknown:
            assert await outbox.resend_unknown(order.key)
        stack.enter_context(plan.started())
        await _all_ended(outbox)
        assert (await outbox.counts()).accepted == orders
    assert [api.carried_out(phone_of(number)) for number in range(orders)] == [1] * orders
    return Outcome(dead, len(unknown), sum(order.sent is not None and order.sent.proven for order in found.values()))


def nobody_who_got_it_is_unknown(api: Sandbox, orders: Sequence[OutboxResult]) -> list[OutboxResult]:
    """Those that are unknown."""
    for number, order in enumerate(orders):
        assert order.state in (ACCEPTED, UNKNOWN)
        assert api.carried_out(phone_of(number)) == (order.state is ACCEPTED), order
    return [order for order in orders if order.state is UNKNOWN]


async def _all_ended(outbox: Outbox) -> None:
    counts = await outbox.counts()
    while counts.waiting or counts.sending:
        await asyncio.sleep(0.05)
        counts = await outbox.counts()


async def produce(outbox: Outbox, orders: int) -> None:
    for number in range(orders):
        await put(outbox, number)


@pytest.mark.parametrize(("engine", "workers"), [("postgres", 2), ("sqlite", 1)])
async def test_workers_that_are_killed_at_random_carry_nothing_out_twice_and_lose_nothing(
    request: pytest.FixtureRequest, api: Sandbox, tmp_path: Path, engine: str, workers: int
) -> None:
    api.faults.add(Latency(0.02, jitter=0.05, carried_out=True), call="send-mms")
    store = str(tmp_path / "outbox.db") if engine == "sqlite" else request.getfixturevalue("postgres").new_database()
    plan = Plan(api.url, api.app_key, store)
    outcome = await killed(plan, api, orders=200, kills=2, workers=workers, seed=1)
    assert outcome.killed == 2


# Frozen ---------------------------------------------------------------------------------------------------------------


async def _frozen_before_a_call(child: subprocess.Popen[bytes], outbox: Outbox, api: Sandbox) -> None:
    """Stop the worker at a moment at which a call that it had claimed waits for its turn, and one for its answer."""
    while True:
        child.send_signal(signal.SIGSTOP)
        claimed = [order async for order in outbox.orders(OutboxState.SENDING)]
        under_way = sum(arrival.status is None for arrival in api.arrivals)
        if under_way == 1 and any(not api.carried_out(order.recipients[0].number) for order in claimed):
            return
        assert (await outbox.counts()).waiting
        child.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("short")
async def test_a_frozen_worker_sends_nothing_when_it_wakes(
    api: Sandbox, mms: AsyncMMSClient, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls that it had claimed wait for their turn when it is frozen, and it has come when it wakes.

    Meanwhile a person has decided to send them again.
    """
    store = postgres.new_database("synchronous_commit = off")
    held, latency = Held(), api.faults.add(Latency(0.3, carried_out=True), call="send-mms")
    outbox = Outbox(mms, store)
    for number in range(40):
        await outbox.put(key=f"order-{number}", to=phone_of(number), text=f"Hi {number}", image=PNG)
    with Plan(api.url, api.app_key, store, rate=3).started() as child:
        while (await outbox.counts()).accepted < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        # One is carried out and not answered: a call that is half sent when its worker is stopped would end nothing.
        api.faults.add(held, call="send-mms", times=1)
        latency.remove()
        await until(lambda: len(api.sends) > sum(arrival.status is not None for arrival in api.arrivals))
        await _frozen_before_a_call(child, outbox, api)
        held.answer.set()
        async with outbox:
            while (counts := await outbox.counts()).waiting or counts.sending:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await until(lambda: all(arrival.status is not None for arrival in api.arrivals))
            unknown = [order async for order in outbox.orders(UNKNOWN)]
            open_ = [order.key for order in unknown if not api.carried_out(order.recipients[0].number)]
            assert open_
            assert len(unknown) > len(open_)
            for key in open_:
                assert await outbox.resend_unknown(key)
            for key in open_:
                result = await outbox.result(key, timeout=PATIENCE)
                assert result is not None
                assert result.state is ACCEPTED
            arrivals = len(api.arrivals)
            child.send_signal(signal.SIGCONT)
            while (await outbox.counts()).unknown:  # noqa: ASYNC110 - its late answers tell
                await asyncio.sleep(0.05)
            child.send_signal(signal.SIGTERM)
            _, err = await asyncio.to_thread(child.communicate)
    assert (child.returncode, err.count(b"Traceback")) == (0, 0)
    assert len(api.arrivals) == arrivals
    assert all(api.carried_out(phone_of(number)) == 1 for number in range(40))
    assert "a worker of the outbox is gone" in caplog.text
    assert PASSWORD not in caplog.text + err.decode()


# The database away ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_server_that_comes_back_costs_nothing_but_time(
    api: Sandbox, mms: AsyncMMSClient, postgres: Server, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    store = postgres.new_database("synchronous_commit = off")
    async with Outbox(mms, store) as outbox:
        for number in range(20):
            await put(outbox, number)
        api.faults.add(Latency(0.3, carried_out=True), call="send-mms")
        for number in range(20, 60):
            await outbox.put(key=f"order-{number}", to=phone_of(number), text=f"Hi {number}", image=PNG)
        await until(lambda: sum(arrival.status is None for arrival in api.arrivals) >= 2)
        postgres.stop(mode)
        try:
            await until(lambda: "is kept, and written later" in caplog.text or "until it is back" in caplog.text)
            await asyncio.sleep(LEASE)  # so long what it had claimed may leave yet
            await until(lambda: all(arrival.status is not None for arrival in api.arrivals))
            calls = len(api.arrivals)
            await asyncio.sleep(LEASE)
            assert len(api.arrivals) == calls
        finally:
            postgres.start()
        for number in range(60):
            result = await _result(outbox, f"order-{number}")
            assert result is ACCEPTED
    assert all(api.carried_out(phone_of(number)) == 1 for number in range(60))
    assert PASSWORD not in caplog.text


@pytest.mark.usefixtures("short")
async def test_connections_that_are_cut_all_the_time(api: Sandbox, mms: AsyncMMSClient, postgres: Server) -> None:
    """Between claims, in the middle of them, and after their commits."""
    store = postgres.new_database()
    over = threading.Event()

    def cut() -> None:
        """Whenever something was sent since the last time."""
        cut_at = -1
        while not over.wait(0.02):
            if len(api.sends) > cut_at:
                cut_at = len(api.sends)
                postgres.cut_connections()

    thread = threading.Thread(target=cut)
    outbox = Outbox(mms, store)
    for number in range(30):
        await outbox.put(key=f"order-{number}", to=phone_of(number), text=f"Hi {number}", image=PNG)
    async with outbox:
        thread.start()
        try:
            await until(lambda: len(api.sends) == 30)
        finally:
            over.set()
            thread.join()
        for number in range(30):
            assert await _result(outbox, f"order-{number}") is ACCEPTED
    assert all(api.carried_out(phone_of(number)) == 1 for number in range(30))


async def _result(outbox: Outbox, key: str) -> OutboxState:
    result = await outbox.result(key, timeout=PATIENCE)
    assert result is not None
    return result.state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=4)
    parser.add_argument("--sqlite", action="store_true")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--orders", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if asked.worker:
        url, app_key, store, rate = asked.worker
        asyncio.run(work(Plan(url, app_key, store, float(rate))))
        return
    began = time.monotonic()
    server = None if asked.sqlite else Server()
    try:
        with tempfile.TemporaryDirectory() as folder, Sandbox(rate=None, magic=False) as api:
            api.faults.add(Latency(0.02, jitter=0.05, carried_out=True), call="send-mms")
            plan = Plan(api.url, api.app_key, f"{folder}/outbox.db" if server is None else server.new_database())
            workers = 1 if server is None else 4
            outcome = asyncio.run(
                killed(plan, api, orders=asked.orders, kills=asked.kills, workers=workers, seed=asked.seed)
            )
    finally:
        if server is not None:
            server.remove()
    print(f"{asked.kills} kills, {outcome.killed} of a living process, in {time.monotonic() - began:.0f} s")
    print(f"{outcome.proven} unknown orders of {asked.orders} were carried out: all accepted by reports")
    print(f"{outcome.unknown} were not, and stayed unknown until they were sent again; no order twice, none missing")


if __name__ == "__main__":
    main()
