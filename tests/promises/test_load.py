"""Thousands of callers at once: MMSCLIENT_TEST_CALLERS, or 3000."""

from __future__ import annotations

import asyncio
import os
import resource
import tracemalloc

from mmsclient import TokenBucket
from mmsclient._transport.admission import AT_WIRE
from mmsclient.sandbox import Sandbox
from tests.conftest import PNG, until

CALLERS = int(os.environ.get("MMSCLIENT_TEST_CALLERS", "3000"))
IN_FLIGHT = 16


async def cpu_and_memory(callers: int) -> tuple[float, int, list[int]]:
    """CPU seconds and bytes that so many concurrent sends take, and the order in which they were carried out."""
    with Sandbox(rate=None, magic=False) as sandbox:
        async with sandbox.client(limiter=TokenBucket(rate=100_000, burst=1000), max_in_flight=IN_FLIGHT) as mms:
            await mms.account()
            started = resource.getrusage(resource.RUSAGE_SELF)
            tracemalloc.start()
            sends = [
                asyncio.create_task(mms.send(to=f"+614{n:08}", text="All at once", image=PNG)) for n in range(callers)
            ]
            await until(lambda: mms.stats.waiting >= callers - 2 * (IN_FLIGHT + AT_WIRE))
            waiting, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            results = await asyncio.gather(*sends)
            ended = resource.getrusage(resource.RUSAGE_SELF)
            assert all(result.accepted == 1 for result in results)
            assert mms.stats.attempts == callers + 1
        order = [int(send.recipients[0][-8:]) for send in sandbox.sends]
    cpu = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
    return cpu, waiting, order


async def test_sends_of_thousands_end_in_order_and_cost_in_proportion() -> None:
    few_cpu, few_memory, _ = await cpu_and_memory(CALLERS // 10)
    cpu, memory, order = await cpu_and_memory(CALLERS)
    assert sorted(order) == list(range(CALLERS))
    assert max(abs(place - number) for place, number in enumerate(order)) <= IN_FLIGHT + AT_WIRE
    assert memory / CALLERS < 20_000, "bytes of a waiting call"
    assert memory < 15 * few_memory
    assert cpu < 20 * few_cpu  # ten, and room for a noisy machine; a queue that is walked would take a hundred
