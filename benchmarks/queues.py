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

from benchmarks.counting import grows_in_proportion
from benchmarks.report import Goal, Options, Report, Table
from mmsclient import TokenBucket

SIZES = (1_000, 10_000, 100_000)
RATE = 100_000
"""Calls a second: so many that the processor is what takes the time."""
IN_PROPORTION = 1.5
"""Times that a caller may cost more among a hundred thousand than among fewer: memory caches are smaller."""
SLACK = 1.05
"""Times that two equal costs may differ in a measurement."""

Acquire = Callable[[], Awaitable[Any]]


def _ours() -> Acquire:
    bucket = TokenBucket(RATE, burst=1)

    async def acquire() -> None:
        (await bucket.acquire()).release()

    return acquire


def _aiolimiter() -> Acquire:
    return aiolimiter.AsyncLimiter(1, 1 / RATE).acquire


def _pyrate() -> Acquire:
    per_millisecond = pyrate_limiter.Rate(RATE // 1000, 1)
    return partial(pyrate_limiter.Limiter(per_millisecond).try_acquire_async, "calls")


LIMITERS: dict[str, Callable[[], Acquire]] = {
    "TokenBucket": _ours,
    "aiolimiter": _aiolimiter,
    "pyrate-limiter": _pyrate,
}


def run(options: Options) -> Report:
    cpu: dict[str, dict[int, float]] = {name: {} for name in LIMITERS}
    memory: dict[str, dict[int, float]] = {name: {} for name in LIMITERS}
    for size in SIZES:
        rounds = options.rounds if size == SIZES[-1] else 3
        seconds: dict[str, list[float]] = {name: [] for name in LIMITERS}
        for _ in range(rounds):
            for name in LIMITERS:
                with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                    seconds[name].append(fresh.submit(cpu_seconds, name, size).result())
        for name in LIMITERS:
            cpu[name][size] = median(seconds[name])
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                memory[name][size] = fresh.submit(waiting_bytes, name, size).result()
    return _report(cpu, memory)


def cpu_seconds(name: str, callers: int) -> float:
    """Processor seconds that so many callers take from the call to the grant, all asking at once."""

    async def main() -> float:
        acquire = LIMITERS[name]()
        began = time.process_time()
        await asyncio.gather(*(acquire() for _ in range(callers)))
        return time.process_time() - began

    return asyncio.run(main())


def waiting_bytes(name: str, callers: int) -> int:
    """Bytes that so many callers hold while they wait, their tasks with them."""

    async def main() -> int:
        acquire = LIMITERS[name]()
        gc.collect()
        tracemalloc.start()
        tasks = [asyncio.ensure_future(acquire()) for _ in range(callers)]
        await asyncio.sleep(0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
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
            [[name, *(f"{1e6 * cost[size] / size:.1f}" for size in SIZES)] for name, cost in cpu.items()],
        ),
        Table(
            "memory a waiting caller, in bytes",
            header,
            [[name, *(f"{cost[size] / size:.0f}" for size in SIZES)] for name, cost in memory.items()],
        ),
    ]
    for what, costs in (("processor time", cpu), ("memory", memory)):
        growth = grows_in_proportion(costs["TokenBucket"].__getitem__, SIZES)
        text = f"{what} a caller grows at most {IN_PROPORTION} times"
        report.goals.append(Goal(text, f"{growth:.2f}", growth <= IN_PROPORTION))
        ours, theirs = costs["TokenBucket"][SIZES[-1]], costs["aiolimiter"][SIZES[-1]]
        text = f"{what} at most aiolimiter's among {SIZES[-1]}"
        report.goals.append(Goal(text, f"{ours / theirs:.2f} of it", ours <= SLACK * theirs))
    return report
