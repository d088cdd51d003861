"""What a caller costs while it waits in a limiter's queue, for time and memory."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

import aiolimiter
import pyrate_limiter

from benchmarks.report import Goal, Options, Report, Table
from mmsclient import TokenBucket
from tests.support.counting import grows_in_proportion

SIZES = (1_000, 10_000, 100_000)
OURS, PEER = "TokenBucket", "aiolimiter"
RATE = 100_000
"""Calls a second where time is measured: so many that the processor is what takes it."""
SLOW = 1
"""Calls a second where memory is measured: so few that nearly all callers wait."""
IN_PROPORTION = 2.0
"""Times that a caller may cost more among a hundred thousand than among a thousand: the garbage collector and the
memory caches make that 1.5, whatever it waits for. Where a queue is walked it is 10 and more."""
SLACK = 1.05
"""Times that two equal costs may differ in a measurement."""

Acquire = Callable[[], Awaitable[Any]]


def _ours(rate: int) -> Acquire:
    bucket = TokenBucket(rate, burst=1)

    async def acquire() -> None:
        (await bucket.acquire()).release()

    return acquire


def _aiolimiter(rate: int) -> Acquire:
    return aiolimiter.AsyncLimiter(1, 1 / rate).acquire


def _pyrate(rate: int) -> Acquire:
    each = pyrate_limiter.Rate(max(1, rate // 1000), max(1, 1000 // rate))  # calls, milliseconds
    return partial(pyrate_limiter.Limiter(each).try_acquire_async, "calls")


LIMITERS: dict[str, Callable[[int], Acquire]] = {
    OURS: _ours,
    PEER: _aiolimiter,
    "pyrate-limiter": _pyrate,
}


def run(options: Options) -> Report:
    cpu: dict[str, dict[int, float]] = {name: {} for name in LIMITERS}
    memory: dict[str, dict[int, float]] = {name: {} for name in LIMITERS}
    for size in SIZES:
        # In the short form one round but for the smallest, which is the shortest, and the largest for two only.
        names = [name for name in LIMITERS if options.full or size < SIZES[-1] or name in (OURS, PEER)]
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(3 if size == SIZES[0] else options.rounds):
            for name in names:
                with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                    seconds[name].append(fresh.submit(cpu_seconds, name, size).result())
        for name in names:
            cpu[name][size] = median(seconds[name])
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                memory[name][size] = fresh.submit(waiting_bytes, name, size).result()
    return _report(cpu, memory)


def cpu_seconds(name: str, callers: int) -> float:
    """Processor seconds that so many callers take from the call to the grant, all asking at once."""

    async def main() -> float:
        acquire = LIMITERS[name](RATE)
        began = time.process_time()
        await asyncio.gather(*(acquire() for _ in range(callers)))
        return time.process_time() - began

    return asyncio.run(main())


def waiting_bytes(name: str, callers: int) -> int:
    """Bytes that so many callers hold while they wait, their tasks with them."""

    async def main() -> int:
        acquire = LIMITERS[name](SLOW)
        gc.collect()
        tracemalloc.start()
        tasks = [asyncio.ensure_future(acquire()) for _ in range(callers)]
        await asyncio.sleep(0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sum(task.done() for task in tasks) <= callers / 100
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return held

    return asyncio.run(main())


def _report(cpu: dict[str, dict[int, float]], memory: dict[str, dict[int, float]]) -> Report:
    report = Report("queue", figures={"cpu": cpu, "memory": memory})
    header = ["", *(f"{size:,}".replace(",", " ") for size in SIZES)]
    report.tables += [
        Table(
            "processor time a waiting caller, all asking at once, in us",
            header,
            [
                [name, *(f"{1e6 * cost[size] / size:.1f}" if size in cost else "" for size in SIZES)]
                for name, cost in cpu.items()
            ],
        ),
        Table(
            "memory a waiting caller, in bytes",
            header,
            [
                [name, *(f"{cost[size] / size:.0f}" if size in cost else "" for size in SIZES)]
                for name, cost in memory.items()
            ],
        ),
    ]
    for what, costs in (("processor time", cpu), ("memory", memory)):
        growth = grows_in_proportion(costs[OURS].__getitem__, SIZES)
        text = f"{what} a caller grows at most {IN_PROPORTION} times"
        report.goals.append(Goal(text, f"{growth:.2f}", growth <= IN_PROPORTION))
        ours, theirs = costs[OURS][SIZES[-1]], costs[PEER][SIZES[-1]]
        text = f"{what} at most aiolimiter's among {SIZES[-1]}"
        report.goals.append(Goal(text, f"{ours / theirs:.2f} of it", ours <= SLACK * theirs))
    return report
