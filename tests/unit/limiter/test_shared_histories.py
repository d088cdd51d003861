"""The shared cap with shares while Redis is away: histories of processes and of their ways to Redis, in virtual time.

Whatever happens, no second holds more calls at the server than the cap.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient.limiter import SharedTokenBucket
from tests.support.counting import used
from tests.support.demand import Call, exchange, fullest
from tests.support.fuzzing import cases
from tests.support.redis_server import Server
from tests.support.shared_cap import Network, Processes
from tests.support.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTS = ["refused", "silent", "frozen"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


class Process:
    """A limiter, its own way to Redis, and 25 callers; or one that calls now and then."""

    def __init__(
        self, processes: Processes, network: Network, arrivals: list[float], seed: float, pause: float
    ) -> None:
        self.network = network
        self.limiter: SharedTokenBucket = processes.another(network)
        self._arrivals = arrivals
        self._rng = random.Random(seed)
        self._pause = pause
        self._work = asyncio.create_task(self._call())

    async def _call(self) -> None:
        await exchange(self.limiter, Call(), self._arrivals)  # the least there can be, as the rule assumes it is known
        async with asyncio.TaskGroup() as group:
            for _ in range(1 if self._pause else 25):
                group.create_task(self._call_on())

    async def _call_on(self) -> None:
        uniform = self._rng.uniform
        while True:
            await asyncio.sleep(uniform(0, self._pause))
            upload = self._rng.choice([0.0, 0.0, 0.1])
            call = Call(upload=upload, up=uniform(0, 0.05), work=uniform(0, 0.06), down=uniform(0, 0.05))
            await exchange(self.limiter, call, self._arrivals)

    async def end(self, *, killed: bool = False) -> None:
        """No word of it comes to Redis any more if it is `killed`."""
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work
        if killed:
            self.network.fault = "silent"
        await self.limiter.aclose()
        self.network.redis.close()


class History:
    """An account of up to five processes, as a random generator has it."""

    def __init__(self, server: Server, seed: int, count: int | None = None) -> None:
        self.rng = random.Random(seed)
        self.count = count or self.rng.randint(1, 5)
        self.part = 15 // self.count
        timeout = self.rng.choice([0.3, 1.0])
        self.processes = Processes(server, 0, seed, on_unavailable="share", processes=self.count, timeout=timeout)
        self.arrivals: list[float] = []
        self.living: list[Process] = []
        self.fault = ""
        """Of Redis: for all."""
        self._server = server

    def start(self, pause: float | None = None) -> Process:
        """One more process."""
        network = Network(self._server, self.rng.randrange(10**6))
        network.slowest = self.rng.choice([0.002, 0.02, 0.1])
        network.fault = self.fault
        pause = self.rng.choice([0.0, 0.0, 0.0, 5.0]) if pause is None else pause
        process = Process(self.processes, network, self.arrivals, self.rng.random(), pause)
        self.living.append(process)
        return process

    async def end(self, process: Process, *, killed: bool = False) -> None:
        self.living.remove(process)
        await process.end(killed=killed)

    def set_fault(self, fault: str) -> None:
        """For everybody."""
        self.fault = fault
        for process in self.living:
            process.network.fault = fault

    async def pass_time(self, seconds: float, *, comes_and_goes: bool) -> None:
        """Processes end and are replaced meanwhile, if so."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while (left := end - clock()) > 0:
            await asyncio.sleep(min(self.rng.uniform(0.2, 3), left))
            if comes_and_goes and self.living and self.rng.random() < 0.2:
                killed = self.fault != "frozen" and self.rng.random() < 0.5
                await self.end(self.rng.choice(self.living), killed=killed)
            if comes_and_goes and len(self.living) < self.count and self.rng.random() < 0.5:
                self.start()

    async def close(self) -> list[float]:
        for process in list(self.living):
            await self.end(process)
        await self.processes.close()
        return sorted(self.arrivals)


@cases(15)
@given(seed=st.integers(0, 10**9), comes_and_goes=st.booleans(), loses_answers=st.booleans())
def test_redis_goes_away_for_all_and_comes_back_with_or_without_what_it_knew(
    server: Server, seed: int, comes_and_goes: bool, loses_answers: bool
) -> None:
    async def main() -> list[float]:
        history = History(server, seed)
        rng = history.rng
        for _ in range(history.count):
            history.start()
        await asyncio.sleep(rng.uniform(3, 8))
        for _ in range(rng.randint(1, 3)):
            history.set_fault(rng.choice(FAULTS))
            await history.pass_time(rng.choice([0.2, 0.8, 2.5, 4, 7, 9, 14]), comes_and_goes=comes_and_goes)
            if history.fault != "frozen" and rng.random() < 0.4:
                history.processes.network.forget(history.processes.account)
            history.set_fault("")
            if len(history.living) < history.count:
                history.start()  # and is the first to come, maybe
            if loses_answers:
                process = rng.choice(history.living)
                process.network.fault = "lost"
                await asyncio.sleep(rng.uniform(0.05, 1.5))
                process.network.fault = ""
            await history.pass_time(rng.choice([0.3, 1, 3, 8]), comes_and_goes=comes_and_goes)
        await asyncio.sleep(4)
        return await history.close()

    assert fullest(run(main())) <= 15


@cases(10)
@given(seed=st.integers(0, 10**9))
def test_some_processes_are_cut_off_from_redis_while_others_are_not(server: Server, seed: int) -> None:
    async def main() -> list[float]:
        history = History(server, seed)
        rng = history.rng
        for _ in range(history.count):
            history.start()
        await asyncio.sleep(rng.uniform(3, 8))  # all have reached Redis
        for _ in range(rng.randint(2, 10)):
            for process in rng.sample(history.living, rng.randint(1, len(history.living))):
                process.network.fault = rng.choice(["", "lost", *FAULTS])
            await asyncio.sleep(rng.choice([0.3, 1, 3, 8]))
        return await history.close()

    assert fullest(run(main())) <= 15


def test_one_that_never_reached_redis_goes_by_its_part_beside_the_others(server: Server) -> None:
    """Nobody knows of it: they keep its part free no longer than Redis was away."""

    async def main() -> list[float]:
        history = History(server, 1, count=3)
        history.start(pause=0.0)
        history.start(pause=0.0)
        await asyncio.sleep(5)
        history.fault = "refused"  # for who starts now
        history.start(pause=0.0)
        await asyncio.sleep(15)
        return await history.close()

    assert 15 < fullest(run(main())) <= 15 + 5


def test_the_part_of_one_that_was_killed_is_used_by_who_takes_its_place_and_after_five_minutes_by_the_others(
    server: Server,
) -> None:
    async def main() -> None:
        history = History(server, 1, count=3)
        for _ in range(3):
            history.start(pause=0.0)
        loop, arrivals = asyncio.get_running_loop(), history.arrivals

        def used_since(start: float) -> float:
            return used(sorted(arrival for arrival in arrivals if start < arrival < loop.time()))

        await asyncio.sleep(5)
        await history.end(history.living[0], killed=True)
        await asyncio.sleep(7)
        start = loop.time()
        await asyncio.sleep(10)
        assert used_since(start) <= 0.69  # a third is kept free for it
        history.start(pause=0.0)
        await asyncio.sleep(3)
        start = loop.time()
        await asyncio.sleep(10)
        assert used_since(start) >= 0.75
        await history.end(history.living[0], killed=True)
        await asyncio.sleep(305)
        start = loop.time()
        await asyncio.sleep(10)
        assert used_since(start) >= 0.75
        await history.end(history.living[0])  # who takes its leave keeps nothing
        await asyncio.sleep(2)
        start = loop.time()
        await asyncio.sleep(10)
        assert used_since(start) >= 0.75
        assert fullest(await history.close()) <= 15

    run(main())
